//! What a node knows of all owners: the newest fact per key.
//!
//! Facts of a node that is dead are hidden: they are not among [`View::facts`], and
//! whoever follows the changes hears that they went. They come back with their node, or
//! are forgotten with it.

use crate::exchange::Learned;
use crate::identity::node_of;
use mizzen_types::fact::{Entry, Fact, Key, Version};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
    /// Nodes whose logs are hidden.
    hidden: BTreeSet<OwnerId>,
}

#[derive(Debug, Default)]
struct Owner {
    version: Version,
    facts: BTreeMap<Key, Fact>,
    heard: Option<Now>,
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
        changes.extend(owner.set(&entry.owner, entry.key, entry.value));
        self.unless_hidden(&entry.owner, changes)
    }

    /// Takes in what another node's owner said. Nothing changes that it says as before,
    /// also if it says it in a new generation.
    pub fn learn(&mut self, learned: Learned, now: Now) -> Vec<Change> {
        let id = learned.owner;
        let owner = self.owners.entry(id.clone()).or_default();
        if learned.version <= owner.version {
            return Vec::new();
        }
        owner.version = learned.version;
        owner.heard = Some(now);
        let gone = learned.gone.into_iter().map(|key| (key, None));
        let said = learned.said.into_iter().map(|(key, fact)| (key, Some(fact)));
        let changes =
            gone.chain(said).filter_map(|(key, fact)| owner.set(&id, key, fact)).collect();
        self.unless_hidden(&id, changes)
    }

    /// Hides all that a node says, because it is dead. Nothing if that was done before.
    pub fn hide(&mut self, node: &OwnerId) -> Vec<Change> {
        match self.hidden.insert(node.clone()) {
            true => self.of_node(node).map(|(owner, key, fact)| gone(owner, key, fact)).collect(),
            false => Vec::new(),
        }
    }

    /// Shows again what a node says. Nothing if it was not hidden.
    pub fn show(&mut self, node: &OwnerId) -> Vec<Change> {
        if !self.hidden.remove(node) {
            return Vec::new();
        }
        let back = |(owner, key, fact): (&OwnerId, &Key, &Fact)| Change {
            owner: owner.clone(),
            key: key.clone(),
            before: None,
            after: Some(fact.clone()),
        };
        self.of_node(node).map(back).collect()
    }

    /// Forgets all that a node said.
    pub fn forget(&mut self, node: &OwnerId) -> Vec<Change> {
        let changes = self.hide(node);
        self.hidden.remove(node);
        self.owners.retain(|owner, _| node_of(owner) != *node);
        changes
    }

    /// Whether what an owner says is hidden.
    #[must_use]
    pub fn is_hidden(&self, owner: &OwnerId) -> bool {
        !self.hidden.is_empty() && self.hidden.contains(&node_of(owner))
    }

    /// Where an owner's log stands here.
    #[must_use]
    pub fn version(&self, owner: &OwnerId) -> Version {
        self.owners.get(owner).map(|owner| owner.version).unwrap_or_default()
    }

    /// How long ago the last news of an owner came; `None` if it never came from elsewhere.
    #[must_use]
    pub fn age(&self, owner: &OwnerId, now: Now) -> Option<Duration> {
        let heard = self.owners.get(owner)?.heard?;
        Some(now.mono.since(heard.mono))
    }

    /// Every fact with its owner, in the order of owners and keys, except what is hidden.
    pub fn facts(&self) -> impl Iterator<Item = (&OwnerId, &Key, &Fact)> {
        let shown = self.owners.iter().filter(|(id, _)| !self.is_hidden(id));
        shown.flat_map(|(id, owner)| owner.facts.iter().map(move |(k, f)| (id, k, f)))
    }

    /// Who has said something that is not hidden, in order.
    pub fn owners(&self) -> impl Iterator<Item = &OwnerId> {
        self.owners.keys().filter(|id| !self.is_hidden(id))
    }

    /// The facts of one owner from a key on, in the order of keys, except what is hidden.
    pub fn facts_from<'a>(
        &'a self,
        owner: &OwnerId,
        from: &'a Key,
    ) -> impl Iterator<Item = (&'a Key, &'a Fact)> {
        let owner = self.owners.get(owner).filter(|_| !self.is_hidden(owner));
        owner.into_iter().flat_map(move |owner| owner.facts.range(from..))
    }

    fn of_node(&self, node: &OwnerId) -> impl Iterator<Item = (&OwnerId, &Key, &Fact)> {
        let owners = self.owners.iter().filter(move |(id, _)| node_of(id) == *node);
        owners.flat_map(|(id, owner)| owner.facts.iter().map(move |(k, f)| (id, k, f)))
    }

    fn unless_hidden(&self, owner: &OwnerId, changes: Vec<Change>) -> Vec<Change> {
        if self.is_hidden(owner) { Vec::new() } else { changes }
    }
}

impl Owner {
    fn set(&mut self, owner: &OwnerId, key: Key, after: Option<Fact>) -> Option<Change> {
        let before = match &after {
            Some(fact) => self.facts.insert(key.clone(), fact.clone()),
            None => self.facts.remove(&key),
        };
        (before != after).then(|| Change { owner: owner.clone(), key, before, after })
    }
}

fn gone(owner: &OwnerId, key: &Key, fact: &Fact) -> Change {
    Change { owner: owner.clone(), key: key.clone(), before: Some(fact.clone()), after: None }
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

    fn learned(generation: u64, said: &[(&str, u8)], gone: &[&str]) -> Learned {
        let fact = |last: u8| Fact::VipClaim([11, 0, 0, last].into());
        let key = |name: &str| Key::VipClaim(name.to_owned());
        Learned {
            owner: "n1/master".into(),
            version: Version { generation, sequence: 1 },
            said: said.iter().map(|(name, last)| (key(name), fact(*last))).collect(),
            gone: gone.iter().map(|name| key(name)).collect(),
            unreadable: 0,
            by_authority: false,
        }
    }

    #[test]
    fn a_restart_that_says_the_same_changes_nothing() {
        let mut view = View::default();
        let now = Now::default();
        assert_eq!(view.learn(learned(1, &[("a", 1), ("b", 2)], &[]), now).len(), 2);
        assert!(view.learn(learned(2, &[("a", 1), ("b", 2)], &[]), now).is_empty());
        let changes = view.learn(learned(3, &[("a", 1)], &["b"]), now);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(view.age(&"n1/master".into(), now), Some(Duration::ZERO));
    }

    #[test]
    fn what_a_dead_node_says_is_hidden_until_it_is_back() {
        let (mut view, node) = (View::default(), OwnerId::from("n1"));
        view.learn(learned(1, &[("a", 1), ("b", 2)], &[]), Now::default());
        let went = view.hide(&node);
        assert!(went.len() == 2 && went.iter().all(|change| change.after.is_none()));
        assert!(view.hide(&node).is_empty() && names(&view).is_empty());

        let changes = view.learn(learned(2, &[("b", 3)], &["a"]), Now::default());
        assert!(changes.is_empty(), "not while it is hidden");
        let back = view.show(&node);
        assert_eq!(names(&view), ["b"]);
        assert!(back.len() == 1 && back[0].before.is_none() && back[0].after.is_some());
        assert!(view.show(&node).is_empty());

        assert_eq!(view.forget(&node).len(), 1);
        assert_eq!(view.learn(learned(1, &[("c", 3)], &[]), Now::default()).len(), 1);
    }
}
