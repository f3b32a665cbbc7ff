//! When a backend gets no connections because its last ones failed.
//!
//! ```text
//!            failures in a row                    the pause is over
//!   open ─────────────────────▶ shut until … ─────────────────────▶ half open: one connect
//!     ▲                           ▲                                   │             │
//!     │                           └─── it failed: twice the pause ────┘             │
//!     └───────────────────────────────────── it succeeded ──────────────────────────┘
//! ```

/// Whether a backend may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// One connect may try it; who does has to move the end of the pause first.
    Probe,
    /// It may not.
    Shut,
}

/// Judges a backend that is ejected until `until` (nanoseconds, zero if it is not) at `now`.
#[inline(always)]
#[must_use]
pub const fn gate(until: u64, now: u64) -> Gate {
    if until == 0 {
        Gate::Open
    } else if now >= until {
        Gate::Probe
    } else {
        Gate::Shut
    }
}

/// Length of the pause after `level` ejections in a row, in the unit of `first` and `longest`.
#[inline(always)]
#[must_use]
pub const fn pause(level: u32, first: u64, longest: u64) -> u64 {
    let shift = if level > 16 { 16 } else { level };
    let pause = first << shift;
    if pause > longest { longest } else { pause }
}

/// Whether so many backends are ejected that the others could not carry the load: then all are
/// admitted. `least` is the share that has to be left, in percent.
#[inline(always)]
#[must_use]
pub const fn too_few(open: u32, ejected: u32, least: u32) -> bool {
    let left = open.saturating_sub(ejected) as u64;
    ejected > 0 && left * 100 < open as u64 * least as u64
}

/// Whether handshakes are under way and none has been answered for `limit` nanoseconds.
#[inline(always)]
#[must_use]
pub const fn keeps_waiting(pending: u64, since: u64, now: u64, limit: u64) -> bool {
    // More than half of all numbers is a count that went below zero for a moment.
    pending != 0 && pending < 1 << 63 && since != 0 && now.saturating_sub(since) > limit
}

/// Share of its draws that a backend takes `age` after it joined, of 256; at least a tenth.
#[inline(always)]
#[must_use]
pub const fn warmth(age: u64, slow_start: u64) -> u32 {
    if age >= slow_start {
        return 256;
    }
    let share = (age * 256 / slow_start) as u32;
    if share < 26 { 26 } else { share }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_opens_when_the_pause_is_over() {
        #[rustfmt::skip]
        let table = [
            ("never ejected",  0, 5, Gate::Open),
            ("ejected",       10, 9, Gate::Shut),
            ("pause over",    10, 10, Gate::Probe),
        ];
        for (name, until, now, want) in table {
            assert_eq!(gate(until, now), want, "{name}");
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        let pauses: [u64; 5] = core::array::from_fn(|level| pause(level as u32, 5, 60));
        assert_eq!(pauses, [5, 10, 20, 40, 60]);
        assert_eq!(pause(u32::MAX, 5, 300), 300);
    }

    #[test]
    fn all_are_admitted_when_too_few_are_left() {
        #[rustfmt::skip]
        let table = [
            (0, 0, false), (1, 0, false), (1, 1, true),
            (2, 1, false), (2, 2, true),
            (3, 2, false), (3, 3, true),
            (10, 7, false), (10, 8, true),
            (4, 9, true),
        ];
        for (open, ejected, want) in table {
            assert_eq!(too_few(open, ejected, 30), want, "{ejected} of {open}");
        }
    }

    #[test]
    fn only_unanswered_handshakes_count_as_waiting() {
        #[rustfmt::skip]
        let table = [
            ("nothing under way",   0, 1,  900, false),
            ("just begun",          1, 800, 900, false),
            ("too long",            1, 100, 900, true),
            ("never begun",         1, 0,  900, false),
            ("count below zero",    u64::MAX, 100, 900, false),
            ("clock behind",        1, 950, 900, false),
        ];
        for (name, pending, since, now, want) in table {
            assert_eq!(keeps_waiting(pending, since, now, 400), want, "{name}");
        }
    }

    #[test]
    fn a_joining_backend_grows_to_its_share() {
        assert_eq!(warmth(0, 1000), 26);
        assert_eq!(warmth(500, 1000), 128);
        assert_eq!(warmth(1000, 1000), 256);
        assert_eq!(warmth(5, 0), 256);
    }
}
