//! From what is said in the owner logs to what is done about it: names and VIPs
//! follow the logs and nothing else.

use super::clock;
use super::core::{CLAIMS, Core};
use super::members::Members;
use mizzen_dns_core::depends_on_places;
use mizzen_membership::view::Change;
use mizzen_types::error::chain;
use mizzen_types::fact::{Fact, Key, NodeFact};
use mizzen_types::ids::OwnerId;
use mizzen_types::place::Moved;
use mizzen_types::vip::VipKey;
use std::collections::BTreeSet;
use std::net::IpAddr;
use tracing::{debug, warn};

/// Whose log something is said in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// This node: its tasks, itself, the VIP addresses it claimed.
    Node,
    /// The leading master: itself and its frameworks.
    Master,
}

impl Core {
    /// Says in the owner log who this node is.
    pub(crate) fn introduce(&mut self) {
        let fact = NodeFact {
            hostname: self.config.hostname.clone(),
            address: self.config.address,
            agent_id: self.agent.as_ref().and_then(|agent| agent.id().cloned()),
            zone: Some(self.config.zone.clone()).filter(|zone| !zone.is_empty()),
            authority: self.members.as_ref().is_some_and(Members::has_authority),
            overlay: self.overlay_fact(),
        };
        self.say(Speaker::Node, Key::Node, Some(Fact::Node(fact)));
    }

    /// Says something in a log, and follows it.
    pub(crate) fn say(&mut self, speaker: Speaker, key: Key, value: Option<Fact>) {
        let log = match speaker {
            Speaker::Node => &mut self.node_log,
            Speaker::Master => &mut self.master_log,
        };
        let Some(entry) = log.say(key, value) else { return };
        if entry.value.is_none() {
            // This node reads it at once; others hear of it from `members`.
            log.drop_tombstone(&entry.key);
        }
        if let Some(members) = self.members.as_mut()
            && let Err(error) = members.say(&entry, clock::now())
        {
            warn!(error = chain(&error), "the other nodes are not told a fact");
        }
        let changes = self.view.apply(entry);
        self.follow_changes(changes);
    }

    /// Brings what changed in the view to names and VIPs.
    pub(crate) fn follow_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            debug!(owner = %change.owner, key = ?change.key, gone = change.after.is_none(), "fact");
            let now = clock::now();
            let moved = self.names.apply(&change, (now.mono, now.wall));
            self.follow_vips(&change);
            self.follow_overlay(&change);
            self.follow_policy_facts(&change);
            self.name_again(moved, &change.owner);
        }
    }

    /// Names anew what leads to nodes, because one of them is elsewhere.
    fn name_again(&mut self, moved: Moved, node: &OwnerId) {
        for (owner, key, fact) in self.view.facts() {
            let concerned = match moved {
                Moved::Nothing => return,
                Moved::Node => owner == node || depends_on_places(key),
                Moved::Here => true,
            };
            if concerned {
                self.names.set(owner, key, Some(fact));
            }
        }
    }

    /// Gives new zones everything that is known.
    pub(crate) fn fill_names(&mut self) {
        for (owner, key, fact) in self.view.facts() {
            self.names.place(owner, key, Some(fact));
        }
        for (owner, key, fact) in self.view.facts() {
            self.names.set(owner, key, Some(fact));
        }
        let specs = self.vips.planner.specs();
        let names: BTreeSet<String> = specs.into_values().filter_map(|spec| spec.name).collect();
        for name in names {
            self.names.show_vip(&name, &self.vips.planner.addresses_of(&name));
        }
    }

    fn follow_vips(&mut self, change: &Change) {
        let effects = self.vips.planner.apply(&change.owner, &change.key, change.after.as_ref());
        let mut names: BTreeSet<String> =
            effects.claims.into_iter().map(|claim| claim.name).collect();
        if change.owner == *self.node_log.owner() {
            let named = effects.changed.iter().filter_map(|vip| self.vips.planner.name_of(vip));
            names.extend(named.map(str::to_owned));
        }
        for name in names {
            if let Some(address) = self.vips.planner.own_claim(&name) {
                self.keep_claim(&name, address);
            }
        }
        for problem in effects.problems {
            warn!(key = ?change.key, problem = %problem, "a label does not do what it says");
        }
        self.vips.look_at_backends(effects.changed, effects.backends);
    }

    /// A name's address is a fact of this node from now on, over restarts.
    fn keep_claim(&mut self, name: &str, address: IpAddr) {
        let known = self.node_log.last(&Key::VipClaim(name.to_owned()));
        if known == Some(&Fact::VipClaim(address)) {
            return;
        }
        // Should the disk refuse for good, a restart most likely finds the address again:
        // it is the name's hash.
        self.node_saves.push(&format!("{CLAIMS}{name}"), Some(address.to_string().into()));
        self.say(Speaker::Node, Key::VipClaim(name.to_owned()), Some(Fact::VipClaim(address)));
    }

    /// A claim of a former process.
    pub(crate) fn adopt_claim(&mut self, name: &str, address: IpAddr) {
        self.say(Speaker::Node, Key::VipClaim(name.to_owned()), Some(Fact::VipClaim(address)));
    }

    /// Brings what changed since the last time to names and kernel. It comes after
    /// everything else that happened at one moment, so that a VIP of which many backends
    /// changed is written once.
    pub(crate) fn flush_vips(&mut self) {
        let changed = std::mem::take(&mut self.vips.changed);
        let name = |vip: &VipKey| self.vips.planner.name_of(vip).map(str::to_owned);
        let names: BTreeSet<String> = changed.keys().filter_map(name).collect();
        for name in names {
            self.names.set_vip(&name, &self.vips.planner.addresses_of(&name), clock::now().mono);
        }
        if self.recovering {
            return; // one pass at the end compares all of them
        }
        if !changed.is_empty() {
            self.vips.views.look_soon(clock::now().mono);
        }
        for (vip, touched) in &changed {
            if let Err(error) = self.vips.bring(vip, touched) {
                self.vips_failed(&format!("{vip}: {}", chain(&error)));
            }
        }
        self.vips.end_sockets(&self.inputs);
    }
}
