//! What a node knows of all owners: the newest fact per key.

use mizzen_types::fact::{Entry, Fact, Key, Version};
use mizzen_types::ids::OwnerId;
use std::collections::BTreeMap;

/// A fact that came, changed or went. Both sides are there, so that whoever
/// derives something from facts can undo exactly what the old one made.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Who said it.
    pub owner: OwnerId,
    /// What it is about.
    pub key: Key,
    /// What was known before.
    pub before: Option<Fact>,
    /// What is known now.
    pub after: Option<Fact>,
}

/// The newest facts of all owners.
#[derive(Debug, Default)]
pub struct View {
    owners: BTreeMap<OwnerId, Owner>,
}

#[derive(Debug, Default)]
struct Owner {
    version: Version,
    facts: BTreeMap<Key, Fact>,
}

impl View {
    /// Takes one entry in. The changes are empty if it is not newer than what is
    /// known of its owner; the first entry of a new generation drops everything
    /// that the owner said in the old one.
    pub fn apply(&mut self, entry: Entry) -> Vec<Change> {
        let owner = self.owners.entry(entry.owner.clone()).or_default();
        if entry.version <= owner.version {
            return Vec::new();
        }
        let mut changes = Vec::new();
        if entry.version.generation > owner.version.generation {
            for (key, before) in std::mem::take(&mut owner.facts) {
                let owner = entry.owner.clone();
                changes.push(Change { owner, key, before: Some(before), after: None });
            }
        }
        owner.version = entry.version;
        let before = match &entry.value {
            Some(value) => owner.facts.insert(entry.key.clone(), value.clone()),
            None => owner.facts.remove(&entry.key),
        };
        if before != entry.value {
            changes.push(Change { owner: entry.owner, key: entry.key, before, after: entry.value });
        }
        changes
    }

    /// Where an owner's log stands here.
    #[must_use]
    pub fn version(&self, owner: &OwnerId) -> Version {
        self.owners.get(owner).map(|owner| owner.version).unwrap_or_default()
    }

    /// Who has said something, in order.
    pub fn owners(&self) -> impl Iterator<Item = &OwnerId> {
        self.owners.keys()
    }

    /// The facts of one owner from a key on, in the order of keys.
    pub fn facts_from<'a>(
        &'a self,
        owner: &OwnerId,
        from: &'a Key,
    ) -> impl Iterator<Item = (&'a Key, &'a Fact)> {
        let owner = self.owners.get(owner);
        owner.into_iter().flat_map(move |owner| owner.facts.range(from..))
    }

    /// Every fact with its owner, in the order of owners and keys.
    pub fn facts(&self) -> impl Iterator<Item = (&OwnerId, &Key, &Fact)> {
        self.owners.iter().flat_map(|(id, owner)| owner.facts.iter().map(move |(k, f)| (id, k, f)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(generation: u64, sequence: u64, name: &str, last: Option<u8>) -> Entry {
        Entry {
            owner: "n1".into(),
            version: Version { generation, sequence },
            key: Key::VipClaim(name.into()),
            value: last.map(|last| Fact::VipClaim([11, 0, 0, last].into())),
        }
    }

    fn names(view: &View) -> Vec<String> {
        view.facts()
            .map(|(_, key, _)| match key {
                Key::VipClaim(name) => name.clone(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn only_newer_entries_count() {
        let mut view = View::default();
        assert_eq!(view.apply(entry(1, 2, "a", Some(2))).len(), 1);
        assert!(view.apply(entry(1, 2, "a", Some(9))).is_empty(), "same version again");
        assert!(view.apply(entry(1, 1, "a", Some(1))).is_empty(), "older version");
        assert!(view.apply(entry(1, 3, "b", None)).is_empty(), "tombstone of the unknown");
        assert_eq!(view.version(&"n1".into()), Version { generation: 1, sequence: 3 });
    }

    #[test]
    fn a_new_generation_replaces_the_old_one() {
        let mut view = View::default();
        view.apply(entry(1, 1, "a", Some(1)));
        view.apply(entry(1, 2, "b", Some(2)));
        let changes = view.apply(entry(2, 1, "b", Some(2)));
        assert_eq!(names(&view), ["b"]);
        let gone = changes.iter().filter(|change| change.after.is_none()).count();
        assert_eq!(gone, 2, "{changes:?}");
    }
}
