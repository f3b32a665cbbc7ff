//! What a node knows of all owners: the newest fact per key.
//!
//! Facts of a node that is dead are hidden: they are not among [`View::facts`], and
//! whoever follows the changes hears that they went. They come back with their node, or
//! are forgotten with it.
//!
//! Tasks of an agent that the leading master took out for good are over, whatever their
//! node says or said: nobody hears of them any more.

use crate::exchange::Learned;
use crate::identity::node_of;
use mizzen_types::fact::{Entry, Fact, Key, TaskFact, Version};
use mizzen_types::ids::{AgentId, OwnerId};
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
    /// Agents that are out for good; none ever comes back.
    out: BTreeSet<AgentId>,
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
        let taken_out = agent_out(&entry.key, entry.value.is_some());
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
        let mut changes = self.shown(&entry.owner, changes);
        changes.extend(taken_out.into_iter().flat_map(|agent| self.take_out(agent)));
        changes
    }

    /// Takes in what another node's owner said. Nothing changes that it says as before,
    /// also if it says it in a new generation. Which agents are out for good is believed
    /// of the node with the cluster's authority alone, where the leading master is.
    pub fn learn(&mut self, learned: Learned, now: Now) -> Vec<Change> {
        let id = learned.owner;
        let owner = self.owners.entry(id.clone()).or_default();
        if learned.version <= owner.version {
            return Vec::new();
        }
        owner.version = learned.version;
        owner.heard = Some(now);
        let by_authority = learned.by_authority;
        let taken_out: Vec<AgentId> =
            learned.said.iter().filter_map(|(key, _)| agent_out(key, by_authority)).collect();
        let gone = learned.gone.into_iter().map(|key| (key, None));
        let said = learned.said.into_iter().map(|(key, fact)| (key, Some(fact)));
        let changes =
            gone.chain(said).filter_map(|(key, fact)| owner.set(&id, key, fact)).collect();
        let mut changes = self.shown(&id, changes);
        changes.extend(taken_out.into_iter().flat_map(|agent| self.take_out(agent)));
        changes
    }

    /// Hides all that a node says, because it is dead. Nothing if that was done before.
    pub fn hide(&mut self, node: &OwnerId) -> Vec<Change> {
        match self.hidden.insert(node.clone()) {
            true => self
                .of_node(node)
                .filter(|(_, _, fact)| !self.is_out(fact))
                .map(|(owner, key, fact)| gone(owner, key, fact))
                .collect(),
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
        self.of_node(node).filter(|(_, _, fact)| !self.is_out(fact)).map(back).collect()
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

    /// Every fact with its owner, in the order of owners and keys, except what is hidden and
    /// tasks of agents that are out for good.
    pub fn facts(&self) -> impl Iterator<Item = (&OwnerId, &Key, &Fact)> {
        let shown = self.all_facts().filter(|(id, ..)| !self.is_hidden(id));
        shown.filter(|(_, _, fact)| !self.is_out(fact))
    }

    /// The same of what is hidden: what dead nodes said last.
    pub fn hidden_facts(&self) -> impl Iterator<Item = (&OwnerId, &Key, &Fact)> {
        let hidden = self.all_facts().filter(|(id, ..)| self.is_hidden(id));
        hidden.filter(|(_, _, fact)| !self.is_out(fact))
    }

    /// The tasks of agents that are out for good, as their nodes say, or said last.
    pub fn tasks_out(&self) -> impl Iterator<Item = (&OwnerId, &TaskFact)> {
        let facts = (!self.out.is_empty()).then(|| self.all_facts());
        facts.into_iter().flatten().filter_map(|(owner, _, fact)| match fact {
            Fact::Task(task) if self.is_out(fact) => Some((owner, &**task)),
            _ => None,
        })
    }

    /// Who has said something that is not hidden, in order.
    pub fn owners(&self) -> impl Iterator<Item = &OwnerId> {
        self.owners.keys().filter(|id| !self.is_hidden(id))
    }

    /// The facts of one owner from a key on, in the order of keys, except what
    /// [`View::facts`] leaves out.
    pub fn facts_from<'a>(
        &'a self,
        owner: &OwnerId,
        from: &'a Key,
    ) -> impl Iterator<Item = (&'a Key, &'a Fact)> {
        let owner = self.owners.get(owner).filter(|_| !self.is_hidden(owner));
        let facts = owner.into_iter().flat_map(move |owner| owner.facts.range(from..));
        facts.filter(|(_, fact)| !self.is_out(fact))
    }

    fn all_facts(&self) -> impl Iterator<Item = (&OwnerId, &Key, &Fact)> {
        let owners = self.owners.iter();
        owners.flat_map(|(id, owner)| owner.facts.iter().map(move |(k, f)| (id, k, f)))
    }

    fn of_node(&self, node: &OwnerId) -> impl Iterator<Item = (&OwnerId, &Key, &Fact)> {
        let owners = self.owners.iter().filter(move |(id, _)| node_of(id) == *node);
        owners.flat_map(|(id, owner)| owner.facts.iter().map(move |(k, f)| (id, k, f)))
    }

    /// An agent is out for good: its tasks go.
    fn take_out(&mut self, agent: AgentId) -> Vec<Change> {
        if self.out.contains(&agent) {
            return Vec::new();
        }
        let theirs = |fact: &Fact| matches!(fact, Fact::Task(task) if task.agent_id == agent);
        let tasks = self.facts().filter(|(_, _, fact)| theirs(fact));
        let changes = tasks.map(|(owner, key, fact)| gone(owner, key, fact)).collect();
        self.out.insert(agent);
        changes
    }

    fn is_out(&self, fact: &Fact) -> bool {
        !self.out.is_empty()
            && matches!(fact, Fact::Task(task) if self.out.contains(&task.agent_id))
    }

    /// What others hear of changes.
    fn shown(&self, owner: &OwnerId, mut changes: Vec<Change>) -> Vec<Change> {
        if self.is_hidden(owner) {
            return Vec::new();
        }
        if !self.out.is_empty() {
            for change in &mut changes {
                change.before = change.before.take().filter(|fact| !self.is_out(fact));
                change.after = change.after.take().filter(|fact| !self.is_out(fact));
            }
            changes.retain(|change| change.before != change.after);
        }
        changes
    }
}

/// The agent that a key says is out for good, if that counts.
fn agent_out(key: &Key, counts: bool) -> Option<AgentId> {
    match key {
        Key::GoneAgent(agent) if counts => Some(agent.clone()),
        _ => None,
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
    use mizzen_types::time::Wall;

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
        assert_eq!(view.hidden_facts().count(), 2);

        let changes = view.learn(learned(2, &[("b", 3)], &["a"]), Now::default());
        assert!(changes.is_empty(), "not while it is hidden");
        let back = view.show(&node);
        assert_eq!(names(&view), ["b"]);
        assert!(back.len() == 1 && back[0].before.is_none() && back[0].after.is_some());
        assert!(view.show(&node).is_empty() && view.hidden_facts().next().is_none());

        assert_eq!(view.forget(&node).len(), 1);
        assert_eq!(view.learn(learned(1, &[("c", 3)], &[]), Now::default()).len(), 1);
    }

    fn task(id: &str, agent: &str) -> (Key, Option<Fact>) {
        let fact = serde_json::json!({
            "task_id": id, "framework_id": "f", "framework_name": "f", "agent_id": agent,
            "container_id": "c", "name": id, "discovery_name": null, "phase": "running",
            "health": "unchecked", "host_address": "192.0.2.1", "container_addresses": [],
            "host_ports": [], "ports": [], "labels": {}, "launched": 1,
        });
        let fact = serde_json::from_value(fact).unwrap();
        (Key::Task("f".into(), id.into()), Some(Fact::Task(Box::new(fact))))
    }

    fn says(owner: &str, sequence: u64, said: Vec<(Key, Option<Fact>)>) -> Learned {
        let version = Version { generation: 1, sequence };
        let said = said.into_iter().filter_map(|(key, fact)| Some((key, fact?))).collect();
        let by_authority = owner.ends_with("/master");
        Learned { owner: owner.into(), said, gone: vec![], version, by_authority, unreadable: 0 }
    }

    #[test]
    fn tasks_of_an_agent_that_is_out_for_good_are_over_whatever_its_node_says() {
        let now = Now::default();
        let end = || (Key::GoneAgent("S1".into()), Some(Fact::GoneAgent(Wall(1))));
        let mut view = View::default();
        view.learn(says("n1", 1, vec![task("a", "S1"), task("b", "S2")]), now);
        assert!(view.learn(says("n2", 1, vec![end()]), now).len() == 1, "any node could say so");
        assert_eq!(view.facts().filter(|(_, _, fact)| matches!(fact, Fact::Task(_))).count(), 2);

        let changes = view.learn(says("n0/master", 1, vec![end()]), now);
        let went: Vec<&Key> =
            changes.iter().filter(|c| c.after.is_none()).map(|c| &c.key).collect();
        assert_eq!(went, [&task("a", "S1").0]);
        let left = |view: &View| view.facts().any(|(_, key, _)| *key == task("a", "S1").0);
        assert!(!left(&view) && view.tasks_out().count() == 1);
        // What its node goes on saying, its death and its return change nothing.
        let more = vec![task("a", "S1"), task("c", "S1")];
        assert!(view.learn(says("n1", 2, more), now).is_empty());
        assert_eq!(view.hide(&"n1".into()).len(), 1, "the task of its other agent");
        assert_eq!(view.hidden_facts().count(), 1);
        assert_eq!(view.show(&"n1".into()).len(), 1);
        // Nor does the master's.
        view.hide(&"n0".into());
        assert!(!left(&view) && view.tasks_out().count() == 2);
        let known = (&OwnerId::from("n1"), &Key::Node);
        assert!(view.facts_from(known.0, known.1).all(|(key, _)| *key != task("a", "S1").0));
    }
}
