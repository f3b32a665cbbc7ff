//! News: what changed since neighbours were last told.

use super::message::{Delta, Message};
use super::pull::Why;
use super::ranges::Ranges;
use super::set::{Items, Set, Stand, root};
use super::{Exchange, MAX_ENTRIES, PIECE};
use crate::identity::{node_of, tag_of};
use mizzen_types::fact::Version;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// News is told at most this often.
const BATCH: Duration = Duration::from_millis(100);
/// So long it is worth asking whether everybody heard.
const LATELY: Duration = Duration::from_secs(30);
/// Of so many owners.
const MAX_RECENT: usize = 1024;

/// What neighbours were not told yet.
#[derive(Debug, Default)]
pub(super) struct News {
    pending: BTreeMap<u64, Pending>,
    due: Option<Mono>,
    told: Option<Mono>,
    recent: BTreeMap<u64, Mono>,
}

#[derive(Debug)]
struct Pending {
    base: Version,
    added: BTreeSet<u64>,
    dropped: BTreeSet<u64>,
    from: Option<OwnerId>,
}

impl News {
    /// There is something to tell: at once, unless something was told just now.
    pub(super) fn due(&mut self, now: Mono) {
        let earliest = self.told.map_or(now, |told| (told + BATCH).max(now));
        self.due.get_or_insert(earliest);
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due
    }

    /// A set became another one.
    pub(super) fn note(
        &mut self,
        tag: u64,
        before: Option<&Set>,
        after: &Set,
        from: Option<&OwnerId>,
        now: Mono,
    ) {
        self.due(now);
        self.recent.insert(tag, now);
        let generation = after.head.version.generation;
        let same = before.filter(|set| set.head.version.generation == generation);
        let base = same.map(|set| set.head.version).unwrap_or_default();
        let pending = self.pending.entry(tag).or_insert_with(|| Pending {
            base,
            added: BTreeSet::new(),
            dropped: BTreeSet::new(),
            from: from.cloned(),
        });
        if pending.from.as_ref() != from {
            pending.from = None;
        }
        if same.is_none() {
            (pending.base, pending.dropped) = (Version::default(), BTreeSet::new());
            pending.added = after.items.keys().copied().collect();
            return;
        }
        let empty = Items::new();
        let before = same.map_or(&empty, |set| &set.items);
        let new = after.items.keys().filter(|sequence| !before.contains_key(sequence));
        pending.added.extend(new.copied());
        let gone = before.keys().filter(|sequence| !after.items.contains_key(sequence));
        for sequence in gone {
            if !pending.added.remove(sequence) {
                pending.dropped.insert(*sequence);
            }
        }
    }

    pub(super) fn forget(&mut self, tag: u64) {
        self.pending.remove(&tag);
        self.recent.remove(&tag);
    }

    /// Owners of whom there was news lately.
    pub(super) fn recent(&mut self, now: Mono) -> Vec<u64> {
        self.recent.retain(|_, at| now.since(*at) < LATELY);
        self.recent.keys().copied().take(MAX_RECENT).collect()
    }
}

impl Exchange {
    /// Tells neighbours what they were not told yet.
    pub(super) fn flush(&mut self, now: Mono) {
        if self.news.due.is_none_or(|due| due > now) {
            return;
        }
        self.sign_logs(now);
        self.news.due = None;
        let neighbours = self.peers.neighbours();
        if neighbours.is_empty() && self.peers.has_anybody() {
            // They are being chosen.
            self.news.due = Some(now + BATCH);
            return;
        }
        let pending = std::mem::take(&mut self.news.pending);
        if pending.is_empty() {
            return;
        }
        self.news.told = Some(now);
        let mut sources: BTreeSet<Option<OwnerId>> = BTreeSet::new();
        let mut deltas = Vec::new();
        for (tag, pending) in pending {
            if let Some(delta) = self.set(tag).map(|set| delta(set, &pending)) {
                deltas.push(delta);
                sources.insert(pending.from);
            }
        }
        let messages = in_messages(deltas);
        for node in neighbours {
            if sources.iter().all(|source| source.as_ref() == Some(&node)) {
                continue;
            }
            for message in &messages {
                self.send(&node, message);
            }
        }
    }

    /// Takes in what a neighbour tells.
    pub(super) fn take_push(&mut self, from: &OwnerId, deltas: Vec<Delta>, now: Mono) {
        for delta in deltas {
            let tag = tag_of(&delta.head.owner);
            let stand = delta.head.stand();
            if self.stand(tag).is_some_and(|known| stand <= known)
                || self.digests.is_forgotten(tag, stand, now)
                || self.is_expelled(&delta.head.owner)
            {
                continue;
            }
            match self.fit(tag, &delta) {
                Some(set) => self.adopt(tag, set, from, Why::News, now),
                // Something in between is missing, or it is not what its owner signed: the
                // set itself tells which.
                None => self.want(from, tag, Why::News),
            }
        }
        self.ask(from, now);
    }

    /// What the delta makes of the known set, if that is what its owner signed.
    fn fit(&self, tag: u64, delta: &Delta) -> Option<Set> {
        let known = self.sets.get(&tag)?;
        let credential = known.credential.clone();
        if node_of(&known.head.owner) != node_of(&delta.head.owner) {
            return None;
        }
        let generation = delta.head.version.generation;
        let mut items = match delta.base == Version::default() {
            true => Items::new(),
            false if known.head.version.generation == generation => known.items.clone(),
            false => return None,
        };
        items.retain(|sequence, _| !delta.dropped.contains(*sequence));
        items.extend(delta.items.iter().map(|(sequence, item)| (*sequence, item.clone())));
        if items.len() as u64 > MAX_ENTRIES {
            return None;
        }
        let fits = root(items.values()) == delta.head.root;
        let set = Set { head: delta.head.clone(), credential, items };
        (fits && self.is_genuine(&set.head, &set.credential)).then_some(set)
    }

    /// Where this node stands, for those who ask about what is new.
    pub(super) fn is_later(&self, tag: u64, stand: Stand, now: Mono) -> bool {
        self.stand(tag).is_none_or(|known| known < stand)
            && !self.digests.is_forgotten(tag, stand, now)
    }
}

fn delta(set: &Set, pending: &Pending) -> Delta {
    let added = pending.added.iter();
    let items: Items =
        added.filter_map(|sequence| Some((*sequence, set.items.get(sequence)?.clone()))).collect();
    let dropped = Ranges::from_sorted(pending.dropped.iter().copied());
    Delta { head: set.head.clone(), base: pending.base, dropped, items }
}

/// Cuts news into messages of a bearable length. News of one owner that is longer goes
/// without its entries: who lacks them asks for them, in pieces.
fn in_messages(deltas: Vec<Delta>) -> Vec<Message> {
    let (mut messages, mut batch, mut length) = (Vec::new(), Vec::new(), 0);
    for mut delta in deltas {
        let entries: usize = delta.items.values().map(|item| item.bytes.len() + 8).sum();
        if entries > PIECE {
            delta.items.clear();
        } else {
            length += entries;
        }
        length += 256;
        batch.push(delta);
        if length > PIECE {
            messages.push(Message::Push(std::mem::take(&mut batch)));
            length = 0;
        }
    }
    if !batch.is_empty() {
        messages.push(Message::Push(batch));
    }
    messages
}
