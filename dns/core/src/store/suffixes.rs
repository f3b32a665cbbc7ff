//! Which zone a name is in, by its end.

use super::node::NO_ZONE;
use crate::hash::same_but_for_capitals;

/// What a name that ends so is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// In the zone of this number.
    Zone(u16),
    /// Another form of a name of ours.
    Alias,
    /// Somebody else's.
    Elsewhere,
}

/// Ends of names, by their length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suffixes {
    /// Which lengths occur, a bit for each.
    lengths: [u64; 4],
    /// Sorted by length.
    entries: Vec<(Box<[u8]>, Belongs)>,
}

impl Suffixes {
    /// Takes lower-cased names as they are sent.
    pub(crate) fn new(mut entries: Vec<(Box<[u8]>, Belongs)>) -> Self {
        entries.sort_by_key(|(suffix, _)| suffix.len());
        let mut lengths = [0; 4];
        for (suffix, _) in &entries {
            lengths[suffix.len() / 64 % 4] |= 1 << (suffix.len() % 64);
        }
        Self { lengths, entries }
    }

    /// Where a name belongs, in any case and as it is sent. Other forms of our names come
    /// first, then the longest zone.
    pub(crate) fn find(&self, name: &[u8]) -> Belongs {
        let (mut at, mut best) = (0, Belongs::Elsewhere);
        while let Some(label) = name.get(at) {
            let rest = &name[at..];
            let bit = 1 << (rest.len() % 64);
            if self.lengths[rest.len() / 64 % 4] & bit != 0 {
                match self.exactly(rest) {
                    Some(Belongs::Alias) => return Belongs::Alias,
                    Some(zone) if best == Belongs::Elsewhere => best = zone,
                    _ => {}
                }
            }
            at += 1 + usize::from(*label);
        }
        best
    }

    /// The zone's number for a name's block.
    pub(crate) fn zone_of(&self, name: &[u8]) -> u16 {
        match self.find(name) {
            Belongs::Zone(number) => number,
            Belongs::Alias | Belongs::Elsewhere => NO_ZONE,
        }
    }

    fn exactly(&self, name: &[u8]) -> Option<Belongs> {
        let start = self.entries.partition_point(|(suffix, _)| suffix.len() < name.len());
        let same_length =
            self.entries[start..].iter().take_while(|(suffix, _)| suffix.len() == name.len());
        same_length
            .into_iter()
            .find(|(suffix, _)| same_but_for_capitals(name, suffix))
            .map(|(_, to)| *to)
    }
}
