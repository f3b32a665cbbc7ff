//! From what is said in the owner logs to what is done about it: names and VIPs
//! follow the logs and nothing else.

use super::core::{CLAIMS, Core};
use super::saves::chain;
use mizzen_membership::view::Change;
use mizzen_types::fact::{Entry, Fact, Key};
use mizzen_types::vip::VipKey;
use std::collections::BTreeSet;
use std::net::IpAddr;
use tracing::debug;

/// Whose log something is said in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// This node: its tasks, itself, the VIP addresses it claimed.
    Node,
    /// The leading master: itself and its frameworks.
    Master,
}

impl Core {
    /// Says something in a log, and follows it.
    pub(crate) fn say(&mut self, speaker: Speaker, key: Key, value: Option<Fact>) {
        let log = match speaker {
            Speaker::Node => &mut self.node_log,
            Speaker::Master => &mut self.master_log,
        };
        let Some(entry) = log.say(key, value) else { return };
        if entry.value.is_none() {
            // The only reader of this log so far is this node, and it reads at once.
            log.drop_tombstone(&entry.key);
        }
        self.follow(entry);
    }

    fn follow(&mut self, entry: Entry) {
        for change in self.view.apply(entry) {
            debug!(owner = %change.owner, key = ?change.key, gone = change.after.is_none(), "fact");
            self.names.apply(&change);
            self.follow_vips(&change);
        }
    }

    /// Gives new zones everything that is known.
    pub(crate) fn fill_names(&mut self) {
        for (owner, key, fact) in self.view.facts() {
            let (owner, key, after) = (owner.clone(), key.clone(), Some(fact.clone()));
            self.names.apply(&Change { owner, key, before: None, after });
        }
        for spec in self.planner.specs().values() {
            if let Some(name) = &spec.name {
                self.names.set_vip(name, spec.key.address);
            }
        }
    }

    fn follow_vips(&mut self, change: &Change) {
        let Key::Task(framework, task) = &change.key else { return };
        let after = match &change.after {
            Some(Fact::Task(fact)) => Some(fact.as_ref()),
            _ => None,
        };
        let effects = self.planner.apply(&(framework.clone(), task.clone()), after);
        for claim in effects.claims {
            self.keep_claim(&claim.name, claim.address);
        }
        self.set_vips(&effects.changed);
    }

    /// A name's address is a fact of this node from now on, over restarts.
    fn keep_claim(&mut self, name: &str, address: IpAddr) {
        // Should the disk refuse for good, a restart most likely finds the address again:
        // it is the name's hash.
        self.node_saves.push(&format!("{CLAIMS}{name}"), Some(address.to_string().into()));
        self.say(Speaker::Node, Key::VipClaim(name.to_owned()), Some(Fact::VipClaim(address)));
    }

    /// A claim of a former process.
    pub(crate) fn adopt_claim(&mut self, name: &str, address: IpAddr) {
        self.planner.adopt(name, address);
        self.say(Speaker::Node, Key::VipClaim(name.to_owned()), Some(Fact::VipClaim(address)));
    }

    fn set_vips(&mut self, changed: &BTreeSet<VipKey>) {
        for vip in changed {
            if let Some(name) = self.planner.name_of(vip).map(str::to_owned) {
                match self.planner.is_used(&name) {
                    true => self.names.set_vip(&name, vip.address),
                    false => self.names.remove_vip(&name),
                }
            }
            if self.recovering {
                continue; // one pass at the end compares all of them
            }
            let done = match self.planner.spec(vip) {
                Some(spec) => self.vips.set(&spec),
                None => self.vips.remove(vip),
            };
            if let Err(error) = done {
                self.vips_failed(&format!("{vip}: {}", chain(&error)));
            }
        }
    }
}
