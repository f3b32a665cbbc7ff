//! One backend among those of a VIP: drawn, judged, compared.
//!
//! Everything that a candidate is fits into two numbers, because functions that are visible from
//! outside (see `choose.rs` for why they are) pass numbers only.

use mizzen_ebpf_abi::{Row, Slot, VipValue};
use mizzen_ebpf_core::eject::{Gate, gate, keeps_waiting, pause, too_few, warmth};
use mizzen_ebpf_core::ewma::{Average, ticks};
use mizzen_ebpf_core::select::{self, Load};
use mizzen_ebpf_core::steps::{Part, Verdict};

use crate::counts::replace;
use crate::endpoint::Reach;
use crate::maps::{ROWS, SLOTS, settings};

/// A slot that was drawn, and what is thought of it.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// Index in `SLOTS`.
    pub slot: u32,
    /// Verdict, latency and connections in flight.
    word: u64,
}

/// What all candidates of one choice live under.
#[derive(Clone, Copy)]
pub struct Sky {
    now: u64,
    /// Nanoseconds over which a backend warms up, and [`Sky::ALL_ADMITTED`].
    slow_start: u64,
}

impl Sky {
    /// So few are left that the ejected ones are admitted as well.
    const ALL_ADMITTED: u64 = 1 << 63;

    /// Reads the VIP's own row; `now` is nanoseconds of `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub fn of(vip: &VipValue, now: u64) -> Self {
        let ejected = match ROWS.get_ptr_mut(vip.row) {
            // SAFETY: elements of an array map are aligned and never freed.
            Some(row) => unsafe { (&raw const (*row).ejected).read_volatile() },
            None => 0,
        };
        let slow_start = u64::from(vip.slow_start) * 1_000_000;
        let all = ejected != 0 && too_few(vip.open, ejected, settings().least_left);
        Self { now, slow_start: if all { slow_start | Self::ALL_ADMITTED } else { slow_start } }
    }
}

impl Candidate {
    /// What leads to a backend is of another generation than the VIP.
    pub const OVERTAKEN: Self = Self { slot: 0, word: Verdict::Overtaken as u64 };

    /// Whether it may be chosen.
    #[inline(always)]
    pub fn verdict(self) -> Verdict {
        match self.word & 7 {
            0 => Verdict::Usable,
            1 => Verdict::Probe,
            2 => Verdict::Warming,
            3 => Verdict::Shut,
            4 => Verdict::Unreachable,
            _ => Verdict::Overtaken,
        }
    }

    /// Its latency in microseconds.
    #[inline(always)]
    pub fn micros(self) -> u32 {
        (self.word >> 3) as u32 & MICROS
    }

    /// Connections that it has.
    #[inline(always)]
    pub fn in_flight(self) -> u32 {
        (self.word >> 32) as u32
    }

    /// The same, of unknown latency.
    #[inline(always)]
    pub fn without_latency(self) -> Self {
        Self { slot: self.slot, word: self.word & !(u64::from(MICROS) << 3) }
    }
}

/// Two averages of at most 2^24 each.
const MICROS: u32 = (1 << 26) - 1;

/// Draws a slot of `part` by weight; the next one if that is `taken` (an index in `SLOTS`).
#[inline(always)]
pub fn draw(vip: &VipValue, part: Part, bits: u64, taken: u32, reach: u32) -> u64 {
    let run = u64::from(vip.base) << 32 | u64::from(part.start);
    let slot = mizzen_draw(run, part.length, bits, taken);
    mizzen_check(slot, vip.generation, reach)
}

/// The slot at a position of the run.
#[inline(always)]
pub fn at_place(vip: &VipValue, position: u32, reach: u32) -> u64 {
    mizzen_check(vip.base.wrapping_add(position), vip.generation, reach)
}

/// Judges what [`draw`] or [`at_place`] found; `chance` decides whether one that warms up takes this connection.
#[inline(always)]
pub fn judge(found: u64, sky: Sky, chance: u32) -> Candidate {
    let slot = found as u32;
    let objection = found >> 32;
    if objection != 0 {
        return Candidate { slot, word: objection };
    }
    Candidate { slot, word: mizzen_judge(slot, sky.now, sky.slow_start, chance) }
}

/// Whether `second` costs less than `first`.
#[inline(always)]
pub fn second_is_better(first: Candidate, second: Candidate) -> bool {
    mizzen_compare(u64::from(first.slot), first.word, second.slot, second.word) != 0
}

/// Whether `far` costs so much less than `near` that it is worth the way.
#[inline(always)]
pub fn far_is_better(near: Candidate, far: Candidate) -> bool {
    mizzen_compare(u64::from(near.slot) | FAR, near.word, far.slot, far.word) != 0
}

/// Index of the slot that a draw hits.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_draw(run: u64, length: u32, bits: u64, taken: u32) -> u32 {
    let (base, start) = ((run >> 32) as u32, run as u32);
    let seat = |position: u32| {
        SLOTS.get(base.wrapping_add(position)).map(|hit| (hit.threshold, hit.alias))
    };
    let taken = taken.wrapping_sub(base);
    base.wrapping_add(select::draw(Part { start, length }, bits, taken, seat))
}

/// The slot in the lower half, and in the upper what speaks against it. The heir of one whose backend is gone.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_check(slot: u32, generation: u32, reach: u32) -> u64 {
    let slot = match SLOTS.get(slot) {
        Some(hit) if !is_admitted(hit) => hit.heir,
        _ => slot,
    };
    let objection = match SLOTS.get(slot) {
        Some(hit) if hit.generation != generation => Verdict::Overtaken as u64,
        None => Verdict::Overtaken as u64,
        Some(hit) if !is_admitted(hit) => Verdict::Unreachable as u64,
        Some(hit) => {
            let reaches = match reach {
                V4_ONLY => hit.address.is_v4(),
                V6_ONLY => !hit.address.is_v4(),
                _ => true,
            };
            if reaches { 0 } else { Verdict::Unreachable as u64 }
        }
    };
    u64::from(slot) | objection << 32
}

/// Read anew each time: user space may take the admission away at any moment.
#[inline(always)]
fn is_admitted(slot: &Slot) -> bool {
    // SAFETY: a field of an element of a map.
    unsafe { (&raw const slot.flags).read_volatile() & Slot::ADMITTED != 0 }
}

const V4_ONLY: u32 = Reach::V4 as u32;
const V6_ONLY: u32 = Reach::V6 as u32;

/// Verdict, latency and connections in flight.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_judge(slot: u32, now: u64, slow_start: u64, chance: u32) -> u64 {
    let row = SLOTS.get(slot).and_then(|slot| ROWS.get_ptr_mut(slot.row));
    let Some(row) = row else { return Verdict::Shut as u64 };
    let verdict = verdict(row, Sky { now, slow_start }, chance) as u64;
    let now = ticks(now);
    // SAFETY: `row` is an element of an array map, its fields are numbers that others may be
    // changing; each is read once and whole.
    let (connect, duration, load) = unsafe {
        (
            (&raw const (*row).connect).read_volatile(),
            (&raw const (*row).duration).read_volatile(),
            (&raw const (*row).load).read_volatile(),
        )
    };
    let micros = Average::unpack(connect).at(now) + Average::unpack(duration).at(now);
    verdict | u64::from(micros & MICROS) << 3 | u64::from(Row::in_flight(load)) << 32
}

/// Says, beside the first slot, that the second is far.
const FAR: u64 = 1 << 32;

/// Whether the second costs less; much less, if it is [`FAR`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_compare(
    first: u64,
    first_word: u64,
    second: u32,
    second_word: u64,
) -> u32 {
    let far = first & FAR;
    let first = load(Candidate { slot: first as u32, word: first_word });
    let second = load(Candidate { slot: second, word: second_word });
    let better = match far {
        0 => select::second_is_better(first, second),
        _ => select::far_is_better(first, second),
    };
    u32::from(better)
}

#[inline(always)]
fn load(candidate: Candidate) -> Load {
    Load {
        micros: candidate.micros(),
        in_flight: candidate.in_flight(),
        weight: SLOTS.get(candidate.slot).map_or(1, |slot| slot.weight),
    }
}

#[inline(always)]
fn verdict(row: *mut Row, sky: Sky, chance: u32) -> Verdict {
    let settings = settings();
    // SAFETY: as in `mizzen_judge`.
    unsafe {
        if sky.slow_start & Sky::ALL_ADMITTED == 0 {
            let until = (&raw const (*row).ejected_until).read_volatile();
            match gate(until, sky.now) {
                Gate::Open => {}
                Gate::Shut => return Verdict::Shut,
                Gate::Probe => {
                    // The first to move the end of the pause tries the backend.
                    let level = (&raw const (*row).level).read_volatile();
                    let next = sky.now + pause(level, settings.pause, settings.longest_pause);
                    let is_mine = replace(&raw mut (*row).ejected_until, until, next);
                    return if is_mine { Verdict::Probe } else { Verdict::Shut };
                }
            }
            let since = (&raw const (*row).waiting_since).read_volatile();
            let load = (&raw const (*row).load).read_volatile();
            let waiting = u64::from(Row::handshakes(load));
            if keeps_waiting(waiting, since, sky.now, settings.handshake) {
                return Verdict::Shut;
            }
        }
        let joined = (&raw const (*row).joined).read_volatile();
        let slow_start = sky.slow_start & !Sky::ALL_ADMITTED;
        if joined != 0 && slow_start != 0 {
            let age = sky.now.saturating_sub(joined);
            if chance & 0xff >= warmth(age, slow_start) {
                return Verdict::Warming;
            }
        }
    }
    Verdict::Usable
}
