//! Numbers that programs know classes, overlays and rules by.
//!
//! A class has its number by what it is, so that a restart finds in the kernel what it would have
//! put there. A rule keeps its number as long as it is there, because counts stand under it.

use super::compiled::RuleRef;
use mizzen_ebpf_core::policy::number::FIRST_RULE;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Rules that can be counted; more than that are not taken.
pub const MAX_RULES: usize = (END - FIRST_RULE) as usize;

/// The first number that no rule can have: as many as the kernel counts.
const END: u32 = 1 << 12;

/// The numbers of all rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(RuleRef, u32)>", into = "Vec<(RuleRef, u32)>")]
pub struct RuleNumbers {
    by_rule: BTreeMap<RuleRef, u32>,
    by_number: BTreeMap<u32, RuleRef>,
    /// The one that was given last.
    last: u32,
}

impl RuleNumbers {
    /// Whose number it is.
    #[must_use]
    pub fn rule(&self, number: u32) -> Option<&RuleRef> {
        self.by_number.get(&number)
    }

    /// All rules with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&RuleRef, u32)> {
        self.by_rule.iter().map(|(rule, number)| (rule, *number))
    }

    /// The number of a rule.
    pub(super) fn of(&self, rule: &RuleRef) -> Option<u32> {
        self.by_rule.get(rule).copied()
    }

    /// Gives these rules numbers, and takes those of all others. Returns numbers that have
    /// another rule than before.
    pub(super) fn set(&mut self, rules: &BTreeSet<RuleRef>) -> Vec<u32> {
        self.by_rule.retain(|rule, _| rules.contains(rule));
        self.by_number.retain(|_, rule| rules.contains(rule));
        let mut given = Vec::new();
        for rule in rules {
            if self.by_rule.contains_key(rule) {
                continue;
            }
            // Numbers that were in use lately are given last.
            let after = (self.last.max(FIRST_RULE - 1) + 1)..END;
            let mut all = after.chain(FIRST_RULE..END);
            let Some(number) = all.find(|number| !self.by_number.contains_key(number)) else {
                break;
            };
            self.by_rule.insert(rule.clone(), number);
            self.by_number.insert(number, rule.clone());
            self.last = number;
            given.push(number);
        }
        given
    }
}

impl From<Vec<(RuleRef, u32)>> for RuleNumbers {
    fn from(pairs: Vec<(RuleRef, u32)>) -> Self {
        let fits = |number: &u32| (FIRST_RULE..END).contains(number);
        let by_number: BTreeMap<u32, RuleRef> =
            pairs.into_iter().filter(|(_, n)| fits(n)).map(|(rule, n)| (n, rule)).collect();
        let by_rule = by_number.iter().map(|(number, rule)| (rule.clone(), *number)).collect();
        let last = by_number.keys().next_back().copied().unwrap_or_default();
        Self { by_rule, by_number, last }
    }
}

impl From<RuleNumbers> for Vec<(RuleRef, u32)> {
    fn from(numbers: RuleNumbers) -> Self {
        numbers.by_rule.into_iter().collect()
    }
}

/// A number from `first` on that follows from what is numbered, unless something else has it.
pub(super) fn number_of(text: &str, first: u32, is_taken: impl Fn(u32) -> bool) -> u32 {
    let mut number = hash(text).max(first);
    while is_taken(number) {
        number = number.wrapping_add(1).max(first);
    }
    number
}

/// FNV-1a of 64 bits, folded.
fn hash(text: &str) -> u32 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_types::policy::Direction;

    fn rule(policy: &str, at: usize) -> RuleRef {
        RuleRef {
            policy: policy.parse().unwrap(),
            direction: Direction::Ingress,
            rule: at.to_string(),
        }
    }

    #[test]
    fn a_rule_keeps_its_number_and_old_ones_are_given_last() {
        let mut numbers = RuleNumbers::default();
        assert_eq!(numbers.set(&[rule("a", 0), rule("b", 0)].into()), [8, 9]);
        assert_eq!(numbers.set(&[rule("b", 0), rule("c", 0)].into()), [10], "8 is free, and rests");
        assert_eq!((numbers.of(&rule("a", 0)), numbers.of(&rule("b", 0))), (None, Some(9)));
        let kept = serde_json::to_string(&numbers).unwrap();
        let mut again: RuleNumbers = serde_json::from_str(&kept).unwrap();
        assert_eq!(again.set(&[rule("b", 0), rule("c", 0)].into()), Vec::<u32>::new());
        assert_eq!(again.rule(10), Some(&rule("c", 0)));
    }

    #[test]
    fn more_rules_than_numbers_are_left_without() {
        let all: BTreeSet<RuleRef> = (0..MAX_RULES + 2).map(|at| rule("a", at)).collect();
        let mut numbers = RuleNumbers::default();
        assert_eq!(numbers.set(&all).len(), MAX_RULES);
        assert_eq!(numbers.set(&[].into()).len(), 0);
        assert_eq!(numbers.set(&[rule("b", 0)].into()), [FIRST_RULE], "from the beginning again");
    }

    #[test]
    fn numbers_follow_from_what_is_numbered() {
        let taken = number_of("x", 2, |_| false);
        assert_eq!(number_of("x", 2, |_| false), taken);
        assert_eq!(number_of("x", 2, |number| number == taken), taken.wrapping_add(1));
        assert_ne!(number_of("y", 2, |_| false), taken);
    }
}
