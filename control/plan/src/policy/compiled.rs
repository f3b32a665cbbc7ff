//! Policies with their selectors and rules numbered, as the rulings are worked out of them.

use super::numbers::RuleNumbers;
use super::spans::Span;
use super::subject::Subject;
use mizzen_types::policy::{Direction, Policy, PolicyId, PolicyRule, Selector};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleRef {
    /// Of which policy.
    pub policy: PolicyId,
    /// In which of its lists.
    pub direction: Direction,
    /// Its name, or `#` and its place in the list, from 0 on.
    pub rule: String,
}

/// Whether a policy is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    /// It refuses.
    Enforced,
    /// It only reports.
    Audit,
}

/// All policies.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// Everybody who is named, once.
    pub(super) selectors: Vec<Selector>,
    pub(super) policies: Vec<Guard>,
}

/// A policy.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) id: PolicyId,
    pub(super) force: Force,
    /// Whom it applies to.
    pub(super) applies_to: usize,
    ingress: Option<Vec<Allowance>>,
    egress: Option<Vec<Allowance>>,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Allowance {
    /// With whom; empty is everybody.
    pub(super) peers: Vec<usize>,
    pub(super) spans: Vec<Span>,
}

/// The rules that policies have.
#[must_use]
pub fn rules_of(policies: &BTreeMap<PolicyId, Policy>) -> BTreeSet<RuleRef> {
    let all = policies.iter().flat_map(|(id, policy)| {
        Direction::ALL.into_iter().flat_map(move |direction| {
            let rules = policy.rules(direction).unwrap_or_default();
            (0..rules.len()).map(move |at| rule_ref(id, direction, rules, at))
        })
    });
    all.collect()
}

impl Compiled {
    /// Of policies whose rules have these numbers; a rule without one allows nothing.
    pub(super) fn new(policies: &BTreeMap<PolicyId, Policy>, numbers: &RuleNumbers) -> Self {
        let all: BTreeSet<&Selector> = policies.values().flat_map(Policy::selectors).collect();
        let places: BTreeMap<&Selector, usize> =
            all.iter().enumerate().map(|(place, selector)| (*selector, place)).collect();
        let place = |selector: &Selector| places.get(selector).copied().unwrap_or_default();
        let guard = |(id, policy): (&PolicyId, &Policy)| {
            let list = |direction| {
                let rules = policy.rules(direction)?;
                let number = |at| numbers.of(&rule_ref(id, direction, rules, at));
                let rules = rules.iter().enumerate().filter_map(|(at, rule)| {
                    let peers = rule.peers.iter().map(place).collect();
                    Some(Allowance { peers, spans: spans(rule, number(at)?) })
                });
                Some(rules.collect())
            };
            Guard {
                id: id.clone(),
                force: if policy.audit { Force::Audit } else { Force::Enforced },
                applies_to: place(&policy.applies_to),
                ingress: list(Direction::Ingress),
                egress: list(Direction::Egress),
            }
        };
        let guards = policies.iter().map(guard).collect();
        Self { selectors: all.into_iter().cloned().collect(), policies: guards }
    }

    /// The selectors that mean a subject.
    pub(super) fn meaning(&self, subject: &Subject<'_>) -> BTreeSet<usize> {
        let all = self.selectors.iter().enumerate();
        all.filter(|(_, selector)| subject.is_meant(selector)).map(|(place, _)| place).collect()
    }
}

impl Guard {
    /// What it allows in a direction, if it guards that.
    pub(super) fn rules(&self, direction: Direction) -> Option<&[Allowance]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

fn spans(rule: &PolicyRule, number: u32) -> Vec<Span> {
    match rule.ports.is_empty() {
        true => vec![Span::all(Some(number))],
        false => rule.ports.iter().map(|ports| Span::of(ports, number)).collect(),
    }
}

/// Names stay when rules are put before others; of two with one name the second is known by its place.
fn rule_ref(id: &PolicyId, direction: Direction, rules: &[PolicyRule], at: usize) -> RuleRef {
    let name = rules[at].name.as_ref();
    let is_first =
        |name: &&String| rules[..at].iter().all(|other| other.name.as_ref() != Some(*name));
    let rule = name.filter(is_first).cloned().unwrap_or_else(|| format!("#{at}"));
    RuleRef { policy: id.clone(), direction, rule }
}
