//! How far the clocks of other nodes are from this one's. Nodes tell each other the time when
//! a stream between them opens, and now and then after that; what it takes on the way is
//! little beside what matters.

use super::Members;
use mizzen_gossip::transport::Channel;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::debug;

/// So often the time is told to those to whom there are streams. Longer than a stream stays
/// open that nobody uses, so that none is kept open by it.
const AGAIN: Duration = Duration::from_secs(600);

/// What is known of others' clocks.
#[derive(Debug)]
pub(super) struct Clocks {
    /// Seconds by which each is ahead of this node's.
    ahead: BTreeMap<OwnerId, f64>,
    tell_at: Mono,
}

impl Clocks {
    /// Nothing is known.
    pub(super) fn new(now: Mono) -> Self {
        Self { ahead: BTreeMap::new(), tell_at: now + AGAIN }
    }

    /// When the time is told again.
    pub(super) fn deadline(&self) -> Mono {
        self.tell_at
    }

    /// Seconds by which the clock of a node is ahead of this one's.
    pub(super) fn ahead(&self, node: &OwnerId) -> Option<f64> {
        self.ahead.get(node).copied()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = f64> {
        self.ahead.values().copied()
    }

    /// A node told the time.
    pub(super) fn hear(&mut self, node: &OwnerId, told: &[u8], now: Now) {
        let Ok(told) = told.try_into().map(u64::from_be_bytes) else {
            return debug!(%node, "a time that is none");
        };
        let ahead = (i128::from(told) - i128::from(now.wall.0)) as f64 / 1e9;
        self.ahead.insert(node.clone(), ahead);
    }

    /// A node is gone for good.
    pub(super) fn forget(&mut self, node: &OwnerId) {
        self.ahead.remove(node);
    }
}

impl Members {
    /// Tells a node the time, over the stream that there is.
    pub(super) fn tell_time(&mut self, peer: &OwnerId, now: Now) {
        // One whose stream broke just now hears it when the next one opens.
        let _ = self.transport.send(peer, Channel::Clock, &now.wall.0.to_be_bytes(), now.mono);
    }

    /// Tells all to whom there are streams.
    pub(super) fn tell_all_the_time(&mut self, now: Now) {
        self.clocks.tell_at = now.mono + AGAIN;
        let peers: Vec<OwnerId> = self.transport.open_peers().cloned().collect();
        for peer in peers {
            self.tell_time(&peer, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_types::time::Wall;

    #[test]
    fn ahead_behind_and_garbage() {
        let mut clocks = Clocks::new(Mono(0));
        let now = Now { mono: Mono(0), wall: Wall(100_000_000_000) };
        for (told, want) in [(102_500_000_000_u64, 2.5), (40_000_000_000, -60.0)] {
            clocks.hear(&"n2".into(), &told.to_be_bytes(), now);
            assert_eq!(clocks.ahead(&"n2".into()), Some(want));
        }
        clocks.hear(&"n3".into(), b"noon", now);
        assert_eq!(clocks.ahead(&"n3".into()), None);
        clocks.forget(&"n2".into());
        assert_eq!(clocks.all().count(), 0);
    }
}
