//! Asking for what is missing, and giving what others miss.
//!
//! A node asks one peer for a few owners at a time and says which entries it has. The
//! answer is as much as fits into a piece; what it lacks afterwards it asks for again. So
//! it is the receiver that sets the pace, a peer that goes away costs nothing but time,
//! and a peer that sends without end is never asked again.

use super::message::{Message, Part, Want};
use super::ranges::Ranges;
use super::set::{Head, Items, Set, root, sequences};
use super::{Effect, Exchange, Fault, Learned, MAX_ENTRIES, MAX_LOGS, PIECE};
use crate::identity::{node_of, tag_of};
use crate::wire;
use mizzen_types::fact::Key;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Mono;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Owners asked for in one message.
const AT_ONCE: usize = 128;
/// Who lacks no more than this was not told what others may lack as well.
const FEW: usize = 16;
/// A peer that does not answer for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is being asked for.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    peers: BTreeMap<OwnerId, Pull>,
    /// Owners that somebody is asked for, and why.
    asked: BTreeMap<u64, Why>,
    /// Sets of which a part is here.
    parts: BTreeMap<u64, Partial>,
    /// Answers that are waited for no more, and may come all the same.
    late: BTreeMap<OwnerId, u32>,
}

#[derive(Debug, Default)]
struct Pull {
    todo: VecDeque<u64>,
    asked: BTreeSet<u64>,
    until: Mono,
}

#[derive(Debug)]
struct Partial {
    head: Head,
    credential: Arc<[u8]>,
    items: Items,
}

/// Why an owner is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// There is news of it, for neighbours as well.
    News,
    /// This node is behind.
    Behind,
}

impl Pulls {
    pub(super) fn deadline(&self) -> Option<Mono> {
        let waiting = self.peers.values().filter(|pull| !pull.asked.is_empty());
        waiting.map(|pull| pull.until).min()
    }

    /// Whether `parts` answer what was asked of `from` before what is waited for now. That is told
    /// once for each such question.
    fn is_late(&mut self, from: &OwnerId, parts: &[Part]) -> bool {
        let asked = self.peers.get(from).map(|pull| &pull.asked).filter(|asked| !asked.is_empty());
        let awaited =
            |part: &Part| asked.is_some_and(|asked| asked.contains(&tag_of(&part.head.owner)));
        if asked.is_some() && parts.iter().all(awaited) {
            return false;
        }
        match self.late.get_mut(from) {
            Some(1) => self.late.remove(from).is_some(),
            Some(answers) => {
                *answers -= 1;
                true
            }
            None => false,
        }
    }
}

impl Exchange {
    /// Asks for those owners of which the peer has something later.
    pub(super) fn want_later(&mut self, from: &OwnerId, stands: &[(u64, super::Stand)], now: Mono) {
        let later = stands.iter().filter(|(tag, stand)| self.is_later(*tag, *stand, now));
        let later: Vec<u64> = later.map(|(tag, _)| *tag).collect();
        let why = if later.len() <= FEW { Why::News } else { Why::Behind };
        for tag in later {
            self.want(from, tag, why);
        }
        self.ask(from, now);
    }

    /// Notes that `from` has something later of an owner.
    pub(super) fn want(&mut self, from: &OwnerId, tag: u64, why: Why) {
        if let Entry::Vacant(vacant) = self.pulls.asked.entry(tag) {
            vacant.insert(why);
            self.pulls.peers.entry(from.clone()).or_default().todo.push_back(tag);
        }
    }

    /// Asks `from` for the next few owners, unless it was asked and did not answer yet.
    pub(super) fn ask(&mut self, from: &OwnerId, now: Mono) {
        let Some(pull) = self.pulls.peers.get_mut(from) else { return };
        if !pull.asked.is_empty() {
            return;
        }
        let count = pull.todo.len().min(AT_ONCE);
        let next: Vec<u64> = pull.todo.drain(..count).collect();
        if next.is_empty() {
            self.pulls.peers.remove(from);
            return;
        }
        pull.asked = next.iter().copied().collect();
        pull.until = now + PATIENCE;
        let wants = next.into_iter().map(|tag| self.want_of(tag)).collect();
        self.send(from, &Message::Want(wants));
    }

    fn want_of(&self, tag: u64) -> Want {
        if let Some(partial) = self.pulls.parts.get(&tag) {
            let generation = partial.head.version.generation;
            return Want { tag, generation, have: sequences(&partial.items) };
        }
        match self.set(tag) {
            Some(set) => {
                let generation = set.head.version.generation;
                Want { tag, generation, have: sequences(&set.items) }
            }
            None => Want { tag, generation: 0, have: Ranges::default() },
        }
    }

    /// Gives what a peer lacks, as much as fits.
    pub(super) fn give(&mut self, from: &OwnerId, wants: &[Want]) {
        let (mut parts, mut room) = (Vec::new(), PIECE);
        for want in wants {
            let Some(set) = self.set(want.tag) else { continue };
            let same = set.head.version.generation == want.generation;
            let mut items = Items::new();
            for (sequence, item) in &set.items {
                if same && want.have.contains(*sequence) {
                    continue;
                }
                items.insert(*sequence, item.clone());
                room = room.saturating_sub(item.bytes.len() + 8);
                if room == 0 {
                    break;
                }
            }
            let (head, credential) = (set.head.clone(), set.credential.clone());
            room = room.saturating_sub(128 + credential.len());
            parts.push(Part { head, credential, sequences: sequences(&set.items), items });
            if room == 0 {
                break;
            }
        }
        self.send(from, &Message::Give(parts));
    }

    /// Takes in what a peer gives.
    pub(super) fn take_parts(&mut self, from: &OwnerId, parts: Vec<Part>, now: Mono) {
        if self.pulls.is_late(from, &parts) {
            return;
        }
        let Some(pull) = self.pulls.peers.get_mut(from).filter(|pull| !pull.asked.is_empty())
        else {
            return self.fault(from, Fault::Unasked, now);
        };
        let mut asked = std::mem::take(&mut pull.asked);
        let answered = !parts.is_empty();
        for part in parts {
            let tag = tag_of(&part.head.owner);
            if !asked.remove(&tag) {
                self.fault(from, Fault::Unasked, now);
                break;
            }
            match self.take_part(from, tag, part, now) {
                Ok(Taken::Partly) => self.again(from, tag),
                Ok(Taken::Done) => self.done(tag),
                Err(fault) => {
                    self.fault(from, fault, now);
                    self.done(tag);
                }
            }
        }
        // What did not fit is asked for again; what it does not have is not.
        for tag in asked {
            if answered { self.again(from, tag) } else { self.done(tag) }
        }
        self.ask(from, now);
    }

    fn again(&mut self, from: &OwnerId, tag: u64) {
        if let Some(pull) = self.pulls.peers.get_mut(from) {
            pull.todo.push_front(tag);
        }
    }

    fn done(&mut self, tag: u64) {
        self.pulls.asked.remove(&tag);
        self.pulls.parts.remove(&tag);
    }

    fn take_part(
        &mut self,
        from: &OwnerId,
        tag: u64,
        part: Part,
        now: Mono,
    ) -> Result<Taken, Fault> {
        let stand = part.head.stand();
        // Who has not heard of an expulsion yet is no liar.
        if !self.is_later(tag, stand, now) || self.is_expelled(&part.head.owner) {
            return Ok(Taken::Done);
        }
        let known = self.pulls.parts.get(&tag).is_some_and(|partial| partial.head == part.head);
        if !known && !self.is_genuine(&part.head, &part.credential) {
            return Err(Fault::Forged);
        }
        if self.locals.contains_key(&tag) {
            self.outlive(tag, part.head.version);
            self.news.due(now);
            return Ok(Taken::Done);
        }
        if part.sequences.count() > MAX_ENTRIES || self.has_too_many_logs(tag, &part.head.owner) {
            return Err(Fault::TooMuch);
        }
        let Some(partial) = self.collect(tag, part)? else { return Ok(Taken::Partly) };
        if root(partial.items.values()) != partial.head.root {
            return Err(Fault::Altered);
        }
        let Partial { head, credential, items } = partial;
        let why = self.pulls.asked.get(&tag).copied().unwrap_or(Why::Behind);
        self.adopt(tag, Set { head, credential, items }, from, why, now);
        Ok(Taken::Done)
    }

    /// Puts a piece to those that are here; the whole set if that completes it.
    fn collect(&mut self, tag: u64, part: Part) -> Result<Option<Partial>, Fault> {
        let generation = part.head.version.generation;
        let Part { head, credential, sequences, items: given } = part;
        let progress = !given.is_empty();
        let mut items = match self.pulls.parts.remove(&tag) {
            Some(partial) if partial.head.version.generation == generation => partial.items,
            _ => match self.sets.get(&tag) {
                Some(set) if set.head.version.generation == generation => set.items.clone(),
                _ => Items::new(),
            },
        };
        items.extend(given);
        items.retain(|sequence, _| sequences.contains(*sequence));
        let complete = items.len() as u64 == sequences.count();
        let partial = Partial { head, credential, items };
        match (complete, progress) {
            (true, _) => Ok(Some(partial)),
            (false, true) => {
                self.pulls.parts.insert(tag, partial);
                Ok(None)
            }
            (false, false) => Err(Fault::Altered),
        }
    }

    fn has_too_many_logs(&self, tag: u64, owner: &OwnerId) -> bool {
        if self.sets.contains_key(&tag) || *owner == node_of(owner) {
            return false;
        }
        let node = node_of(owner);
        let of_node = self.sets.values().filter(|set| node_of(&set.head.owner) == node);
        of_node.count() >= MAX_LOGS
    }

    /// Replaces a set by a later one that its owner signed.
    pub(super) fn adopt(&mut self, tag: u64, set: Set, from: &OwnerId, why: Why, now: Mono) {
        let before = self.sets.get(&tag);
        let by_authority = self.keys.is_authority(&set.credential);
        let learned = Learned { by_authority, ..learned(before, &set) };
        self.digests.change(tag, before.map(|set| set.head.stand()), Some(set.head.stand()));
        // Who knew nothing of many owners is late itself, and has no news for others.
        if before.is_some() || why == Why::News {
            self.news.note(tag, before, &set, Some(from), now);
        }
        self.sets.insert(tag, set);
        self.effects.push_back(Effect::Learned(learned));
    }

    /// Peers that did not answer in time are not waited for.
    pub(super) fn expire_pulls(&mut self, now: Mono) {
        let is_late = |pull: &Pull| !pull.asked.is_empty() && pull.until <= now;
        let late = |(peer, pull): (&OwnerId, &Pull)| is_late(pull).then(|| peer.clone());
        let late: Vec<OwnerId> = self.pulls.peers.iter().filter_map(late).collect();
        for peer in late {
            self.abandon_pull(&peer, now);
        }
    }

    /// What was asked of a peer is asked of another one, by the next comparison.
    pub(super) fn abandon_pull(&mut self, peer: &OwnerId, now: Mono) {
        let Some(pull) = self.pulls.peers.remove(peer) else { return };
        if !pull.asked.is_empty() {
            *self.pulls.late.entry(peer.clone()).or_default() += 1;
        }
        for tag in pull.asked.iter().chain(&pull.todo) {
            self.pulls.asked.remove(tag);
        }
        if let Some(other) = self.peers.anybody(&mut self.dice) {
            self.ask_compare(&other, now);
        }
    }
}

enum Taken {
    Done,
    Partly,
}

/// What is new in `after`. Entries that cannot be read are passed on, and no more.
fn learned(before: Option<&Set>, after: &Set) -> Learned {
    let empty = Items::new();
    let same = before.filter(|set| set.head.version.generation == after.head.version.generation);
    let kept = same.map_or(&empty, |set| &set.items);
    let mut gone: BTreeSet<Key> = BTreeSet::new();
    let dropped = before.map_or(&empty, |set| &set.items).iter();
    let stays = |sequence: &u64| kept.contains_key(sequence) && after.items.contains_key(sequence);
    for (_, item) in dropped.filter(|(sequence, _)| !stays(sequence)) {
        gone.extend(wire::read_key(&item.bytes));
    }
    let (mut said, mut unreadable) = (Vec::new(), 0);
    for (_, item) in after.items.iter().filter(|(sequence, _)| !stays(sequence)) {
        match wire::read_entry(&item.bytes) {
            Ok((key, fact)) => {
                gone.remove(&key);
                said.push((key, fact));
            }
            Err(_) => unreadable += 1,
        }
    }
    let (owner, version) = (after.head.owner.clone(), after.head.version);
    Learned {
        owner,
        version,
        said,
        gone: gone.into_iter().collect(),
        unreadable,
        by_authority: false,
    }
}
