//! Labels that say how a VIP works, and what holds where several voices differ.
//!
//! | label | value | default |
//! |---|---|---|
//! | `l4lb-rule` | `latency`, `least-connections`, `random`, `maglev`, `source` | `latency` |
//! | `l4lb-weight` | 0 to 65535; 0 takes no new connections | 1 |
//! | `l4lb-locality` | `prefer`, `ignore` | `prefer` |
//! | `l4lb-slow-start` | `0`, or a time such as `500ms`, `10s`, `2m` | `10s` |
//! | `l4lb-on-removal` | `datagrams`, `all`, `keep` | `datagrams` |
//!
//! On a port they are for the VIPs of that port, on the task for all of its VIPs;
//! `l4lb-rule.VIP_1` is for one of several on a port. The narrower one holds. The keys
//! must not begin with `VIP`: DC/OS would make a VIP of them.

use super::problem::LabelError;
use super::source::Source;
use mizzen_types::vip::{Locality, Millis, OnRemoval, PolicyWish, Rule};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the weight was called first; still read, on ports.
pub(super) const OLD_WEIGHT: &str = "VIP_WEIGHT";
const PREFIX: &str = "l4lb-";

const RULE: &str = "l4lb-rule";
const WEIGHT: &str = "l4lb-weight";
const LOCALITY: &str = "l4lb-locality";
const SLOW_START: &str = "l4lb-slow-start";
const ON_REMOVAL: &str = "l4lb-on-removal";

/// What labels say about a VIP beside its address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub weight: Option<u16>,
    pub policy: PolicyWish,
}

impl Said {
    /// What this one says, and `other` where this one says nothing.
    pub fn or(self, other: Self) -> Self {
        Self { weight: self.weight.or(other.weight), policy: self.policy.or(other.policy) }
    }
}

/// The policy labels of one port or one task.
#[derive(Debug, Default)]
pub(super) struct Policies<'a> {
    general: Said,
    narrow: BTreeMap<&'a str, Said>,
}

impl Policies<'_> {
    /// What is said about all VIPs here.
    pub fn general(&self) -> Said {
        self.general
    }

    /// What is said about the VIP of this label.
    pub fn about(&self, label: &str) -> Said {
        self.narrow.get(label).copied().unwrap_or_default().or(self.general)
    }
}

/// Reads the policy labels among `labels`; `is_vip` tells which ones make VIPs.
pub(super) fn read<'a>(
    labels: &'a BTreeMap<String, String>,
    is_vip: impl Fn(&str) -> bool,
    problems: &mut Vec<LabelError>,
) -> Policies<'a> {
    let mut found = Policies::default();
    let mut old_weight = Said::default();
    for (label, value) in labels {
        let (key, of) = match label.split_once('.') {
            Some((key, of)) => (key, Some(of)),
            None => (label.as_str(), None),
        };
        let known = match key {
            OLD_WEIGHT if of.is_none() => say(&mut old_weight, WEIGHT, label, value),
            _ if !key.starts_with(PREFIX) => continue,
            _ => match of {
                None => say(&mut found.general, key, label, value),
                Some(of) if labels.contains_key(of) && is_vip(of) => {
                    say(found.narrow.entry(of).or_default(), key, label, value)
                }
                Some(_) => Err(LabelError::NoSuchVip { label: label.clone() }),
            },
        };
        problems.extend(known.err());
    }
    found.general = found.general.or(old_weight);
    found
}

fn say(said: &mut Said, key: &str, label: &str, value: &str) -> Result<(), LabelError> {
    let wrong =
        |expected| LabelError::Value { label: label.to_owned(), value: value.to_owned(), expected };
    let policy = &mut said.policy;
    let (understood, expected) = match key {
        RULE => (put(&mut policy.rule, Rule::from_text(value)), RULES),
        LOCALITY => (put(&mut policy.locality, Locality::from_text(value)), LOCALITIES),
        ON_REMOVAL => (put(&mut policy.on_removal, OnRemoval::from_text(value)), FATES),
        SLOW_START => (put(&mut policy.slow_start, Millis::from_text(value)), TIMES),
        WEIGHT => (put(&mut said.weight, value.parse().ok()), WEIGHTS),
        _ => return Err(LabelError::Unknown { label: label.to_owned() }),
    };
    if understood { Ok(()) } else { Err(wrong(expected)) }
}

fn put<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let understood = value.is_some();
    if understood {
        *slot = value;
    }
    understood
}

const RULES: &str = "a rule (latency, least-connections, random, maglev, source)";
const LOCALITIES: &str = "a locality (prefer, ignore)";
const FATES: &str = "one of datagrams, all, keep";
const TIMES: &str = "0 or a time with its unit, such as 500ms, 10s or 2m";
const WEIGHTS: &str = "a weight (0 to 65535)";

/// Who says what about one VIP, in the order in which they are heard.
pub(super) type Voices<'a> = Vec<(&'a Arc<Source>, PolicyWish)>;

/// What holds: of each setting what the first one says who says anything about it.
pub(super) fn resolve(voices: &Voices<'_>) -> PolicyWish {
    voices.iter().fold(PolicyWish::default(), |held, (_, wish)| held.or(*wish))
}

/// What is said and does not hold.
pub(super) fn conflicts(voices: &Voices<'_>) -> Vec<(Arc<Source>, LabelError)> {
    let mut found = Vec::new();
    differing(voices, RULE, |wish| wish.rule.map(Rule::word), &mut found);
    differing(voices, LOCALITY, |wish| wish.locality.map(Locality::word), &mut found);
    differing(voices, ON_REMOVAL, |wish| wish.on_removal.map(OnRemoval::word), &mut found);
    differing(voices, SLOW_START, |wish| wish.slow_start, &mut found);
    found
}

fn differing<T: PartialEq + ToString>(
    voices: &Voices<'_>,
    label: &'static str,
    what: impl Fn(&PolicyWish) -> Option<T>,
    found: &mut Vec<(Arc<Source>, LabelError)>,
) {
    let mut all = voices.iter().filter_map(|(source, wish)| Some((*source, what(wish)?)));
    let Some((holder, holds)) = all.next() else { return };
    for (source, value) in all.filter(|(_, value)| *value != holds) {
        let (value, holds, holder) = (value.to_string(), holds.to_string(), holder.to_string());
        found.push((source.clone(), LabelError::Conflict { label, value, holds, holder }));
    }
}
