//! Policies as they are kept, said and believed.
//!
//! The leading master keeps them and says them in its log. Every other node keeps what the log of
//! the master on the node with the cluster's authority says, whose certificate proves it; what
//! anybody else says is not believed. A log that nobody hears takes nothing back.

use super::BELIEVED;
use crate::daemon::clock;
use crate::daemon::core::Core;
use crate::daemon::facts::Speaker;
use crate::daemon::replies::{Refusal, refuse};
use crate::daemon::saves::{saved, written};
use mizzen_membership::identity::node_of;
use mizzen_plan::policy::RuleNumbers;
use mizzen_plan::policy::spread::{Heard, Keeper, Policies, Said, hear};
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::policy::{Policy, PolicyId};
use mizzen_types::record;
use mizzen_types::time::Mono;
use tracing::{info, warn};

/// Where policies begin in the store.
pub(super) const PREFIX: &str = "policy/";
/// Key of the rules' numbers in the store.
const NUMBERS: &str = "policy-numbers";
/// Format of a record.
const FORMAT: u16 = 1;
/// The records' name in problems.
const RECORDS: &str = "policies' records";
/// Those that cannot be read, in problems.
const UNREADABLE: &str = "policies that are lost";

/// The numbers that rules had on a former process.
pub(super) fn kept_numbers(store: &Store) -> anyhow::Result<RuleNumbers> {
    let Some(bytes) = store.get(NUMBERS)? else { return Ok(RuleNumbers::default()) };
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        // Counters begin anew, and nothing else.
        warn!(%error, "the numbers of policies' rules are unreadable");
        RuleNumbers::default()
    }))
}

impl Core {
    /// Takes up what was kept by a former process. A master says it again.
    pub(crate) fn adopt_policies(&mut self) -> anyhow::Result<()> {
        let mut policies = Policies::new();
        let mut lost = Vec::new();
        for (id, value) in saved(&self.store, PREFIX)? {
            let wrong = match (id.parse::<PolicyId>(), record::read(FORMAT, &value)) {
                (Ok(id), Ok(policy)) => {
                    policies.insert(id, policy);
                    continue;
                }
                (Err(error), _) => chain(&error),
                (_, Err(error)) => chain(&error),
            };
            lost.push(format!("policy {id} is not in force: {wrong}"));
        }
        self.problems.report_all(UNREADABLE, &lost);
        if self.policy.is_resumed && !policies.is_empty() && self.members.is_some() {
            self.policy.hold = clock::now().mono + super::WARM_UP;
        }
        for (id, policy) in &policies {
            self.say_policy(id, Some(policy));
        }
        self.follow_policy_ground();
        self.set_policies(policies);
        Ok(())
    }

    /// Follows the log of a master, which is complete at each step.
    pub(crate) fn follow_master_policies(&mut self, log: &OwnerId, by_authority: bool) {
        if self.view.is_hidden(log) {
            return;
        }
        let facts = || self.view.facts_from(log, &Key::Leader);
        let said = Said {
            by_authority,
            leads: matches!(facts().next(), Some((Key::Leader, _))),
            policies: facts()
                .filter_map(|(key, fact)| match (key, fact) {
                    (Key::Policy(id), Fact::Policy(policy)) => {
                        Some((id.clone(), (**policy).clone()))
                    }
                    _ => None,
                })
                .collect(),
        };
        let keeper = if self.master.is_some() { Keeper::Here } else { Keeper::Elsewhere };
        match hear(keeper, self.policy.planner.policies(), &said) {
            Heard::Nothing if by_authority => {}
            Heard::Nothing => self.problems.solve(BELIEVED),
            Heard::Doubted => self.doubt_policies(log, said.policies.len()),
            Heard::Followed(ids) => {
                info!(changed = ids.len(), count = said.policies.len(), "the master's policies");
                for id in ids {
                    self.keep_heard_policy(&id, said.policies.get(&id));
                }
                self.flush_policy_records(clock::now().mono);
                self.set_policies(said.policies);
            }
        }
    }

    /// Changes one policy of this master's: on the disk, in its log, on this node.
    pub(super) fn keep_policy(
        &mut self,
        id: &PolicyId,
        policy: Option<&Policy>,
    ) -> Result<(), Refusal> {
        let mut policies = self.policy.planner.policies().clone();
        let before = match policy {
            Some(policy) => policies.insert(id.clone(), policy.clone()),
            None => policies.remove(id),
        };
        let (after, before) = (written(FORMAT, policy)?, written(FORMAT, before.as_ref())?);
        self.policy.saves.push(id.as_str(), after);
        if let Err(error) = self.policy.saves.flush(&self.store, clock::now().mono) {
            // The disk may have taken it all the same, so what was there is written again.
            self.policy.saves.push(id.as_str(), before);
            let words = chain(&error);
            let refusal = refuse(503, format!("the change cannot be written down: {words}"));
            self.problems.report(RECORDS, words);
            return Err(refusal);
        }
        self.problems.solve(RECORDS);
        self.say_policy(id, policy);
        self.set_policies(policies);
        Ok(())
    }

    /// Queues what a master elsewhere says; nothing is forgotten because it cannot be written.
    fn keep_heard_policy(&mut self, id: &PolicyId, policy: Option<&Policy>) {
        match policy.map(|policy| record::write(FORMAT, policy)).transpose() {
            Ok(bytes) => self.policy.saves.push(id.as_str(), bytes),
            Err(error) => {
                let text = format!("policy {id} is not kept: {}", chain(&error));
                self.problems.report(UNREADABLE, text);
            }
        }
    }

    /// Writes what waits for the disk. What it says holds meanwhile.
    pub(crate) fn flush_policy_records(&mut self, now: Mono) {
        if self.policy.saves.is_stalled(now) {
            return;
        }
        match self.policy.saves.flush(&self.store, now) {
            Ok(()) => self.problems.solve(RECORDS),
            Err(error) => self.problems.report(RECORDS, chain(&error)),
        }
    }

    fn set_policies(&mut self, policies: Policies) {
        let numbers = self.policy.planner.numbers().clone();
        let given = self.policy.planner.set_policies(policies);
        if *self.policy.planner.numbers() != numbers {
            // Counters would begin anew if these were lost, and nothing else.
            match serde_json::to_vec(self.policy.planner.numbers()) {
                Ok(bytes) => self.node_saves.push(NUMBERS, Some(bytes)),
                Err(error) => self.problems.report(RECORDS, chain(&error)),
            }
        }
        if let Some(driver) = &self.policy.driver {
            driver.reset(given);
        }
        self.flush_policy();
        self.tell_of_enforcement();
    }

    fn say_policy(&mut self, id: &PolicyId, policy: Option<&Policy>) {
        if self.master.is_some() {
            let fact = policy.map(|policy| Fact::Policy(Box::new(policy.clone())));
            self.say(Speaker::Master, Key::Policy(id.clone()), fact);
        }
    }

    /// Somebody else says policies.
    fn doubt_policies(&mut self, log: &OwnerId, count: usize) {
        let node = node_of(log);
        let text = format!(
            "node {node} says {count} policies, which only the cluster's master may; they are not heeded"
        );
        self.problems.report(BELIEVED, text);
    }
}
