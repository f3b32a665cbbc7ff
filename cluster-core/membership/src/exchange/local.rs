//! The logs that this node writes.

use super::set::{Head, Item, Items, Set, root};
use super::{Effect, Exchange, MAX_FACT, Unsaid};
use crate::identity::{MAX_GENERATION, node_of, tag_of};
use crate::wire;
use mizzen_types::fact::{Fact, Key, Version};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Mono;
use std::collections::BTreeMap;

/// A log that this node writes.
#[derive(Debug)]
pub(super) struct Local {
    owner: OwnerId,
    version: Version,
    keys: BTreeMap<Key, u64>,
    items: Items,
    /// As it was last signed; `None` until it is published.
    pub(super) set: Option<Set>,
    published: bool,
    changed: bool,
}

impl Exchange {
    /// Begins a log of this node in a generation larger than all before. Others hear
    /// nothing of it until it is [published](Self::publish), and meanwhile keep what they
    /// know of the generation before. Logs are opened before the node joins.
    pub fn open(&mut self, owner: &OwnerId, generation: u64) {
        debug_assert_eq!(node_of(owner), self.me, "a node writes logs of its own");
        let tag = tag_of(owner);
        let former = self.sets.remove(&tag).map(|set| set.head);
        if let Some(head) = &former {
            self.digests.change(tag, Some(head.stand()), None);
        }
        let local = Local {
            owner: owner.clone(),
            version: Version { generation: generation.min(MAX_GENERATION - 2), sequence: 0 },
            keys: BTreeMap::new(),
            items: Items::new(),
            set: None,
            published: false,
            changed: true,
        };
        self.locals.insert(tag, local);
        if let Some(head) = former {
            self.outlive(tag, head.version);
        }
    }

    /// Says `fact` of `key` in a log that was opened; `None` says no more of it.
    ///
    /// # Errors
    ///
    /// [`Unsaid`] if no entry can hold the fact; then nothing is said of the key any more.
    pub fn say(
        &mut self,
        owner: &OwnerId,
        key: Key,
        fact: Option<&Fact>,
        now: Mono,
    ) -> Result<(), Unsaid> {
        let entry = fact.map(|fact| entry(&key, fact)).transpose();
        let (bytes, outcome) = match entry {
            Ok(bytes) => (bytes, Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.put(owner, key, bytes, now);
        outcome
    }

    fn put(&mut self, owner: &OwnerId, key: Key, bytes: Option<Vec<u8>>, now: Mono) {
        let tag = tag_of(owner);
        let Some(local) = self.locals.get_mut(&tag) else { return };
        let before = local.keys.get(&key).and_then(|sequence| local.items.get(sequence));
        if before.map(|item| &*item.bytes) == bytes.as_deref() {
            return;
        }
        local.version.sequence += 1;
        if let Some(sequence) = local.keys.remove(&key) {
            local.items.remove(&sequence);
        }
        if let Some(bytes) = bytes {
            local.items.insert(local.version.sequence, Item::new(local.version.sequence, &bytes));
            local.keys.insert(key, local.version.sequence);
        }
        local.changed = true;
        if local.published {
            self.news.due(now);
        }
    }

    /// Lets others hear what was said in all open logs, and what will be.
    pub fn publish(&mut self, now: Mono) {
        for local in self.locals.values_mut() {
            local.published = true;
        }
        self.news.due(now);
    }

    /// Signs what changed in this node's logs.
    pub(super) fn sign_logs(&mut self, now: Mono) {
        let changed =
            |(tag, local): (&u64, &Local)| (local.published && local.changed).then_some(*tag);
        let tags: Vec<u64> = self.locals.iter().filter_map(changed).collect();
        for tag in tags {
            self.sign_log(tag, now);
        }
    }

    fn sign_log(&mut self, tag: u64, now: Mono) {
        let Some(local) = self.locals.get_mut(&tag) else { return };
        local.changed = false;
        let root = root(local.items.values());
        let message = Head::message(&local.owner, local.version, &root);
        let signature = self.keys.sign(&message);
        let head = Head { owner: local.owner.clone(), version: local.version, root, signature };
        let (credential, items) = (self.keys.credential().into(), local.items.clone());
        let after = Set { head, credential, items };
        let stand = after.head.stand();
        let before = local.set.take();
        self.digests.change(tag, before.as_ref().map(|set| set.head.stand()), Some(stand));
        self.news.note(tag, before.as_ref(), &after, None, now);
        local.set = Some(after);
    }

    /// A later log of this node's is known elsewhere: a former life wrote it, which is
    /// forgotten here. Everything is said again in a generation after that.
    pub(super) fn outlive(&mut self, tag: u64, other: Version) {
        let Some(local) = self.locals.get_mut(&tag) else { return };
        if local.version > other {
            return;
        }
        let generation = (other.generation + 1).min(MAX_GENERATION - 1);
        local.version = Version { generation, sequence: local.version.sequence.max(1) };
        local.changed = true;
        let owner = local.owner.clone();
        self.effects.push_back(Effect::Outlived { owner, generation });
    }
}

fn entry(key: &Key, fact: &Fact) -> Result<Vec<u8>, Unsaid> {
    match wire::write_entry(key, fact) {
        Ok(bytes) if bytes.len() <= MAX_FACT => Ok(bytes),
        Ok(bytes) => Err(Unsaid::TooLong { key: key.clone(), length: bytes.len() }),
        Err(source) => Err(Unsaid::Unwritable { key: key.clone(), source }),
    }
}
