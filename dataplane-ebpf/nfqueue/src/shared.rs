//! What the engine's threads share.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use parking_lot::{Mutex, RwLock};
use rustix::time::{ClockId, clock_gettime};

use crate::backend::Limits;
use crate::choice::Vip;
use crate::flows::Flows;
use crate::hash::Map;
use crate::recent::Recent;
use crate::rules::CLASS_BITS;
use crate::words::VipAddress;

/// The tables of the queues.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Held for the length of a batch by readers, for one insertion by a change. Who holds it
    /// does not ask for `flows`, nor the other way round.
    pub vips: RwLock<Map<VipAddress, Arc<Vip>>>,
    pub flows: Mutex<Flows>,
    pub recent: Recent,
    tuning: RwLock<Limits>,
    /// Classes of client ports that are watched, one bit each.
    watched: AtomicU32,
    /// Packets that were shown and not yet taken into account.
    glimpses: AtomicU64,
    stops: AtomicBool,
}

/// Classes of client ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classes(pub u32);

impl Classes {
    /// All of them.
    pub const ALL: Self = Self(u32::MAX);

    /// Whether the class of this port is among them.
    pub fn has(self, port: u16) -> bool {
        self.0 >> ((port as u8 & CLASS_BITS) >> 1) & 1 == 1
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The lower bytes of ports that are in one of these classes, without the other bits.
    pub fn bytes(self) -> Vec<u8> {
        (0..32_u8).filter(|bit| self.0 >> bit & 1 == 1).map(|bit| bit << 1).collect()
    }
}

impl Shared {
    pub fn new(tuning: Limits) -> Self {
        Self {
            vips: RwLock::default(),
            flows: Mutex::new(Flows::new(tuning)),
            recent: Recent::default(),
            tuning: RwLock::new(tuning),
            watched: AtomicU32::new(Classes::ALL.0),
            glimpses: AtomicU64::new(0),
            stops: AtomicBool::new(false),
        }
    }

    pub fn vip(&self, vip: &VipAddress) -> Option<Arc<Vip>> {
        self.vips.read().get(vip).cloned()
    }

    /// When a backend gets no connections.
    pub fn tuning(&self) -> Limits {
        *self.tuning.read()
    }

    /// Goes by something else from now on.
    pub fn tune(&self, tuning: Limits) {
        *self.tuning.write() = tuning;
        self.flows.lock().tune(tuning);
    }

    /// Which classes are watched, and for how many connections each of theirs stands.
    pub fn watch(&self) -> (Classes, u64) {
        let classes = Classes(self.watched.load(Relaxed));
        (classes, u64::from(Classes::ALL.count() / classes.count().max(1)))
    }

    pub fn set_watch(&self, classes: Classes) {
        self.watched.store(classes.0, Relaxed);
    }

    /// Counts packets that were shown, and returns how many there were since they were taken.
    pub fn count_glimpses(&self, packets: u64) -> u64 {
        self.glimpses.fetch_add(packets, Relaxed) + packets
    }

    /// How many were counted since the last call.
    pub fn take_glimpses(&self) -> u64 {
        self.glimpses.swap(0, Relaxed)
    }

    /// Asks the threads to end.
    pub fn stop(&self) {
        self.stops.store(true, Relaxed);
    }

    pub fn stops(&self) -> bool {
        self.stops.load(Relaxed)
    }
}

/// Nanoseconds of the clock that knows no jumps.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The clock begins at the machine's start.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_in_the_class_that_its_byte_says() {
        for bits in [1_u32, 1 << 31, 0x0000_ffff, u32::MAX] {
            let classes = Classes(bits);
            for port in 0..=u16::MAX {
                let byte = port as u8 & CLASS_BITS;
                assert_eq!(classes.has(port), classes.bytes().contains(&byte));
            }
            assert_eq!(classes.bytes().len() as u32, classes.count());
        }
    }
}
