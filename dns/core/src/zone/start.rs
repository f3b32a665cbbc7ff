//! Where a zone starts, and what it holds.

use crate::name::DnsName;
use crate::store::node::{NO_ZONE, NS, Node, SOA};
use std::ops::Range;

/// Which zone an answer comes from; see [`crate::Zones::zone_name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneNumber(pub u16);

impl ZoneNumber {
    /// Whether it is a zone of one name: an address outside of our networks, or a name that
    /// was set by hand. There may be as many as there are machines.
    #[must_use]
    pub fn is_single(self) -> bool {
        self.0 >= SINGLE
    }
}

/// Zones of one name have numbers from here on; those of trees, which are few, are below.
const SINGLE: u16 = 1024;

/// Which names a zone holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The one where it starts, which has no NS record: what is below is not ours.
    Name,
    /// All that are below its start, too.
    Tree,
}

/// A name with an SOA record.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    pub(crate) name: DnsName,
    /// Bytes of the name as it is sent.
    pub(crate) length: usize,
    pub(super) extent: Extent,
    /// The SOA record of a negative answer from its type on; its serial stands in front
    /// of the last sixteen bytes.
    pub(crate) authority: Vec<u8>,
}

impl Extent {
    pub(super) fn numbers(self) -> Range<u16> {
        match self {
            Self::Tree => 0..SINGLE,
            Self::Name => SINGLE..NO_ZONE,
        }
    }
}

impl Zone {
    /// The zone that starts at a name, if one does.
    pub(super) fn of(node: Node<'_>) -> Option<Self> {
        let set = node.set(SOA)?;
        let sent = set.iter().next()?;
        let minimum = sent.data().last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))?;
        // The TTL of a negative answer (RFC 2308, 5).
        let ttl = set.ttl().min(minimum);
        let mut authority = sent.bytes[2..].to_vec();
        authority[4..8].copy_from_slice(&ttl.to_be_bytes());
        let extent = if node.set(NS).is_some() { Extent::Tree } else { Extent::Name };
        let (name, length) = (DnsName::from_bytes(node.name())?, node.name().len());
        Some(Self { name, length, extent, authority })
    }
}
