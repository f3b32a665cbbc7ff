//! Serial numbers of the zones, each for one state of them only: secondaries that follow this
//! node see from the number whether they have what it has, also after it was started again.
//!
//! Numbers are reserved in the store by the block, so the disk is written once in half a
//! million changes and not for each.

/// Numbers that are reserved at a time.
const BLOCK: u32 = 1 << 20;
/// With fewer left, more are reserved. What changes at one moment takes far fewer.
const LOW: u32 = BLOCK / 2;

/// Which serial numbers this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Serials {
    first: u32,
    /// The first number of the next process.
    next: u32,
}

impl Serials {
    /// Key in the store of the first number that is not reserved.
    pub(crate) const KEY: &str = "dns/serial";

    /// Numbers that no former process used.
    ///
    /// * `kept` — what a former process reserved up to, read from [`Self::record`].
    /// * `generation` — counts the starts; each has the numbers of a block where nothing
    ///   was reserved yet.
    pub(crate) fn after(kept: Option<&[u8]>, generation: u64) -> Self {
        let kept = kept.and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok());
        let first = kept.unwrap_or_else(|| (generation as u32).wrapping_mul(BLOCK)).max(1);
        Self { first, next: first.wrapping_add(BLOCK) }
    }

    /// The first number of this process.
    pub(crate) fn first(self) -> u32 {
        self.first
    }

    /// Takes note of how far numbers are used; says whether more were reserved, which is to
    /// be written down.
    pub(crate) fn follow(&mut self, serial: u32) -> bool {
        // Serial numbers live on a circle (RFC 1982).
        let left = self.next.wrapping_sub(serial).cast_signed();
        let is_low = left < LOW.cast_signed();
        if is_low {
            self.next = serial.wrapping_add(BLOCK);
        }
        is_low
    }

    /// What the store is to hold under [`Self::KEY`].
    pub(crate) fn record(self) -> Vec<u8> {
        self.next.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `a` is larger than `b` (RFC 1982, 3.2).
    fn is_larger(a: u32, b: u32) -> bool {
        a.wrapping_sub(b).cast_signed() > 0
    }

    #[test]
    fn the_next_process_begins_behind_all_numbers_of_this_one() {
        for start in [1, 7 << 20, u32::MAX - 3 * BLOCK, u32::MAX - 9] {
            let mut serials = Serials::after(Some(start.to_string().as_bytes()), 3);
            assert_eq!(serials.first(), start);
            let (mut kept, mut serial, mut writes) = (serials.record(), serials.first(), 0);
            // Far more changes than a block has, a thousand at a time.
            for _ in 0..5 * BLOCK / 1000 {
                serial = serial.wrapping_add(1000);
                if serials.follow(serial) {
                    (kept, writes) = (serials.record(), writes + 1);
                }
                let next = Serials::after(Some(&kept), 4).first();
                assert!(is_larger(next, serial), "{next} after {serial}");
            }
            assert!(writes < 12, "{writes}");
        }
    }

    #[test]
    fn what_changes_at_one_moment_may_be_much() {
        let mut serials = Serials::after(None, 1);
        let last = serials.first() + LOW;
        assert!(!serials.follow(last), "half a block is left");
        assert!(serials.follow(last + LOW - 1), "one number is left, and it is still ours");
        assert_eq!(serials.next, last + LOW - 1 + BLOCK);
    }

    #[test]
    fn without_a_reservation_the_generation_counts() {
        for kept in [None, Some(&b"no number"[..])] {
            assert_eq!(Serials::after(kept, 3).first(), 3 << 20);
        }
        assert_eq!(Serials::after(Some(b"0"), 3).first(), 1, "0 is left out");
        assert_eq!(Serials::after(None, 1 << 12).first(), 1, "a circle");
    }
}
