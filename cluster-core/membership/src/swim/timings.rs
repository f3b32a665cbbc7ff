//! How often members are asked, and how long they may stay silent.

use super::packet::MAX_DATAGRAM;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

/// Times of the membership protocol.
///
/// The defaults find a failure within about two seconds on a local network that loses
/// a datagram in a hundred. Every node of a cluster should use the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// One member is asked in each such period.
    pub probe: Duration,
    /// An answer that takes longer is asked for by way of others.
    pub round_trip: Duration,
    /// A suspect that says nothing for so long is dead.
    pub suspect: Duration,
    /// News is sent this often while there is some.
    pub gossip: Duration,
    /// To so many members each time.
    pub gossip_to: usize,
    /// So many others are asked about a member that does not answer.
    pub helpers: usize,
    /// A random member is asked this often for members it knows.
    pub exchange: Duration,
    /// A random dead member is called this often: after a partition it lives.
    pub knock: Duration,
    /// A node without any living member calls those it was told of this often.
    pub alone: Duration,
    /// The dead are remembered so long.
    pub forget: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            probe: Duration::from_millis(400),
            round_trip: Duration::from_millis(150),
            suspect: Duration::from_millis(1200),
            gossip: Duration::from_millis(100),
            gossip_to: 3,
            helpers: 5,
            exchange: Duration::from_secs(30),
            knock: Duration::from_secs(15),
            alone: Duration::from_secs(1),
            forget: Duration::from_secs(24 * 3600),
        }
    }
}

impl Timings {
    /// What foca is told, for a cluster of 2^`class` members.
    pub(super) fn config(&self, class: u32) -> foca::Config {
        let params =
            |frequency, num| foca::PeriodicParams { frequency, num_members: at_least_one(num) };
        // Above some thousand members, news takes longer than a refusal may.
        let suspect = self.suspect + self.gossip * class.saturating_sub(12) * 2;
        foca::Config {
            probe_period: self.probe,
            probe_rtt: self.round_trip,
            num_indirect_probes: at_least_one(self.helpers),
            max_transmissions: transmissions(class),
            suspect_to_down_after: suspect,
            remove_down_after: Some(self.forget),
            max_packet_size: at_least_one(MAX_DATAGRAM - 1),
            notify_down_members: true,
            periodic_announce: Some(params(self.exchange, 1)),
            // Done by `Swim` itself, which also does it while nobody is left.
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(params(self.gossip, self.gossip_to)),
        }
    }
}

/// How often one piece of news is sent by each who hears it: a little more than the
/// logarithm of the number of members, so that losses do not end it early.
fn transmissions(class: u32) -> NonZeroU8 {
    let times = u8::try_from(class.saturating_add(4)).unwrap_or(u8::MAX);
    NonZeroU8::new(times).unwrap_or(NonZeroU8::MAX)
}

fn at_least_one(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}
