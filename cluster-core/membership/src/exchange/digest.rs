//! Finding out what two nodes do not both know.
//!
//! Each owner's stand is hashed into one of [`BUCKETS`] groups; the groups add up to one
//! number. Two nodes compare that number, then the groups, then the stands in groups that
//! differ.

use super::message::{BUCKETS, Message};
use super::set::Stand;
use super::{Effect, Exchange};
use crate::identity::{node_of, tag_of};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Mono;
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::time::Duration;

/// So long after a log was forgotten, it is not taken again from those who still have it,
/// unless its node comes back.
const FORGOTTEN: Duration = Duration::from_secs(3 * 24 * 3600);
/// Stands in one message, at most.
const MAX_STANDS: usize = 16 << 10;

/// Hashes of where a node stands with all owners.
#[derive(Debug)]
pub(super) struct Digests {
    buckets: Vec<u64>,
    forgotten: BTreeMap<u64, Forgotten>,
}

#[derive(Debug)]
struct Forgotten {
    node: OwnerId,
    stand: Stand,
    at: Mono,
}

impl Default for Digests {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], forgotten: BTreeMap::new() }
    }
}

impl Digests {
    /// An owner's log stands elsewhere now.
    pub(super) fn change(&mut self, tag: u64, before: Option<Stand>, after: Option<Stand>) {
        let bucket = &mut self.buckets[bucket_of(tag)];
        for stand in [before, after].into_iter().flatten() {
            *bucket ^= hash_of(tag, stand);
        }
    }

    pub(super) fn forget(&mut self, owner: &OwnerId, stand: Stand, now: Mono) {
        let tag = tag_of(owner);
        self.change(tag, Some(stand), None);
        self.forgotten.retain(|_, forgotten| forgotten.holds(now));
        self.forgotten.insert(tag, Forgotten { node: node_of(owner), stand, at: now });
    }

    /// Whether this is nothing but what was forgotten not long ago.
    pub(super) fn is_forgotten(&self, tag: u64, stand: Stand, now: Mono) -> bool {
        let forgotten = self.forgotten.get(&tag).filter(|forgotten| forgotten.holds(now));
        forgotten.is_some_and(|forgotten| stand <= forgotten.stand)
    }

    /// The node is there again: what it said is taken as it is. Whether any of it was
    /// forgotten.
    pub(super) fn recall(&mut self, node: &OwnerId) -> bool {
        let before = self.forgotten.len();
        self.forgotten.retain(|_, forgotten| forgotten.node != *node);
        self.forgotten.len() < before
    }

    fn all(&self) -> u64 {
        self.buckets.iter().fold(0, |all, bucket| all ^ bucket)
    }
}

impl Forgotten {
    fn holds(&self, now: Mono) -> bool {
        now.since(self.at) < FORGOTTEN
    }
}

impl Exchange {
    /// Asks a peer whether it knows the same.
    pub(super) fn ask_compare(&mut self, peer: &OwnerId, now: Mono) {
        self.peers.ask_members(peer, now);
        let all = self.digests.all();
        self.send(peer, &Message::Compare(all, self.members));
    }

    pub(super) fn compare(&mut self, from: &OwnerId, all: u64, members: u64) {
        if members != self.members {
            self.effects.push_back(Effect::Asked { by: from.clone() });
        }
        if all != self.digests.all() {
            let hashes = self.digests.buckets.clone();
            self.send(from, &Message::Buckets(hashes));
        }
    }

    pub(super) fn compare_buckets(&mut self, from: &OwnerId, hashes: &[u64]) {
        let own = self.digests.buckets.iter().zip(hashes);
        let differing: Vec<u8> =
            (0..=u8::MAX).zip(own).filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect();
        if !differing.is_empty() {
            let stands = self.stands(|tag| differing.contains(&(bucket_of(tag) as u8)));
            self.send(from, &Message::Stands(differing, stands));
        }
    }

    /// Asks for what the peer has later, and tells it what is later here.
    pub(super) fn compare_stands(
        &mut self,
        from: &OwnerId,
        buckets: &[u8],
        stands: &[(u64, Stand)],
        now: Mono,
    ) {
        self.want_later(from, stands, now);
        let theirs: BTreeMap<u64, Stand> = stands.iter().copied().collect();
        let mut later = self.stands(|tag| buckets.contains(&(bucket_of(tag) as u8)));
        later.retain(|(tag, stand)| theirs.get(tag).is_none_or(|their| their < stand));
        if !later.is_empty() {
            self.send(from, &Message::Recent(later));
        }
    }

    pub(super) fn stands(&self, wanted: impl Fn(u64) -> bool) -> Vec<(u64, Stand)> {
        let locals =
            self.locals.iter().filter_map(|(tag, local)| Some((*tag, local.set.as_ref()?)));
        let all = self.sets.iter().map(|(tag, set)| (*tag, set)).chain(locals);
        let wanted = all.filter(|(tag, _)| wanted(*tag));
        wanted.map(|(tag, set)| (tag, set.head.stand())).take(MAX_STANDS).collect()
    }
}

fn bucket_of(tag: u64) -> usize {
    (tag % BUCKETS as u64) as usize
}

fn hash_of(tag: u64, stand: Stand) -> u64 {
    let mut hasher = SipHasher13::new();
    for number in [tag, stand.version.generation, stand.version.sequence, stand.mark] {
        hasher.write_u64(number);
    }
    hasher.finish()
}
