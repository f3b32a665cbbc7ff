//! Which ports clients here used a moment ago.
//!
//! Conntrack keeps an entry for minutes after its connection has ended. A new one of the same
//! ports first has to be rid of it; where that is foreseen, it is one request more and not one
//! more conversation. A wrong guess costs a request.

use std::hash::BuildHasher;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::hash::Seed;
use crate::packet::Flow;

/// Places, one for each port of a client; what comes later takes the place of what was there.
const PLACES: usize = 1 << 16;

/// How long conntrack keeps an ended connection, in seconds, if nobody changed that.
const KEPT: u16 = 120;

const SECOND: u64 = 1_000_000_000;

/// The flows of the last minutes: a part of the hash, and the second.
#[derive(Debug)]
pub(crate) struct Recent {
    seed: Seed,
    places: Box<[AtomicU32]>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { seed: Seed::default(), places: (0..PLACES).map(|_| AtomicU32::new(0)).collect() }
    }
}

impl Recent {
    /// Notes that a flow begins, and says whether one of the same ends probably is still known.
    pub fn begin(&self, flow: &Flow, now: u64) -> bool {
        let hash = self.seed.hash_one(flow);
        let Some(place) = self.places.get(hash as usize % PLACES) else { return false };
        // Zero is nobody's.
        let tag = (hash >> 48) as u16 | 1;
        let second = (now / SECOND) as u16;
        let before = place.swap(u32::from(tag) << 16 | u32::from(second), Relaxed);
        (before >> 16) as u16 == tag && second.wrapping_sub(before as u16) <= KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Flow;

    #[test]
    fn who_comes_again_soon_is_known() {
        let flow = |port| Flow {
            protocol: 6,
            source: ([10, 0, 0, 1], port).into(),
            destination: ([11, 0, 0, 1], 80).into(),
        };
        let recent = Recent::default();
        assert!(!recent.begin(&flow(4000), 70_000 * SECOND));
        assert!(recent.begin(&flow(4000), 70_100 * SECOND));
        assert!(recent.begin(&flow(4000), 70_220 * SECOND));
        assert!(!recent.begin(&flow(4000), 70_400 * SECOND));
        let others = (0..1_000).filter(|port| recent.begin(&flow(5000 + port), 70_400 * SECOND));
        assert_eq!(others.count(), 0);
    }
}
