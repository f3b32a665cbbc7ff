//! The log of one owner, as its writer holds it.
//!
//! The log is kept compacted: one entry per key, the last one said. A removed key
//! stays as a tombstone for the rest of the generation, so that a reader who missed
//! the removal learns of it from a later exchange.

use mizzen_types::fact::{Entry, Fact, Key, Version};
use mizzen_types::ids::OwnerId;
use std::collections::BTreeMap;

/// What one owner has said in this generation.
#[derive(Debug)]
pub struct OwnerLog {
    owner: OwnerId,
    version: Version,
    said: BTreeMap<Key, (Version, Option<Fact>)>,
}

impl OwnerLog {
    /// An empty log of a new generation, which must be larger than every one that
    /// this owner used before.
    #[must_use]
    pub fn new(owner: OwnerId, generation: u64) -> Self {
        Self { owner, version: Version { generation, sequence: 0 }, said: BTreeMap::new() }
    }

    /// Says `value` of `key` (`None` removes it). Nothing is appended if that was
    /// already the last word.
    pub fn say(&mut self, key: Key, value: Option<Fact>) -> Option<Entry> {
        let last = self.said.get(&key).and_then(|(_, last)| last.as_ref());
        if last == value.as_ref() {
            return None;
        }
        self.version.sequence += 1;
        self.said.insert(key.clone(), (self.version, value.clone()));
        Some(Entry { owner: self.owner.clone(), version: self.version, key, value })
    }

    /// What was said last of `key`.
    #[must_use]
    pub fn last(&self, key: &Key) -> Option<&Fact> {
        self.said.get(key)?.1.as_ref()
    }

    /// Forgets that `key` was removed, once every reader has heard of it.
    pub fn drop_tombstone(&mut self, key: &Key) {
        if self.said.get(key).is_some_and(|(_, value)| value.is_none()) {
            self.said.remove(key);
        }
    }

    /// Whose log it is.
    #[must_use]
    pub fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// Where the log stands.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Everything that was said after `seen`, oldest first: what a reader at `seen`
    /// has missed. A reader of an older generation gets the whole log.
    #[must_use]
    pub fn after(&self, seen: Version) -> Vec<Entry> {
        let mut missed: Vec<Entry> = self
            .said
            .iter()
            .filter(|(_, (version, _))| *version > seen)
            .map(|(key, (version, value))| Entry {
                owner: self.owner.clone(),
                version: *version,
                key: key.clone(),
                value: value.clone(),
            })
            .collect();
        missed.sort_by_key(|entry| entry.version);
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(last: u8) -> Option<Fact> {
        Some(Fact::VipClaim([11, 0, 0, last].into()))
    }

    fn key(name: &str) -> Key {
        Key::VipClaim(name.into())
    }

    #[test]
    fn saying_the_same_twice_appends_nothing() {
        let mut log = OwnerLog::new("n1".into(), 7);
        assert!(log.say(key("a"), claim(1)).is_some());
        assert!(log.say(key("a"), claim(1)).is_none());
        assert!(log.say(key("b"), None).is_none(), "removing what was never there");
        assert_eq!(log.version(), Version { generation: 7, sequence: 1 });
    }

    #[test]
    fn a_reader_gets_what_it_missed_tombstones_included() {
        let mut log = OwnerLog::new("n1".into(), 7);
        log.say(key("a"), claim(1));
        log.say(key("b"), claim(2));
        let seen = log.version();
        log.say(key("a"), None);
        log.say(key("c"), claim(3));
        log.drop_tombstone(&key("c"));

        let missed: Vec<_> = log.after(seen).into_iter().map(|e| (e.key, e.value)).collect();
        assert_eq!(missed, [(key("a"), None), (key("c"), claim(3))]);
        let old_generation = Version { generation: 6, sequence: 99 };
        assert_eq!(log.after(old_generation).len(), 3);
        log.drop_tombstone(&key("a"));
        assert_eq!(log.after(old_generation).len(), 2, "all have heard");
    }
}
