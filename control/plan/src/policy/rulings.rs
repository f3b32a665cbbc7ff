//! What the rules say of one pair of classes.
//!
//! Both directions become one ruling: what the receiver's rules let in and the sender's let out.

use super::classes::Member;
use super::compiled::{Allowance, Compiled, Force};
use super::spans::{Span, both};
use mizzen_ebpf_core::policy::{Action, Overlays, Ruling, Traffic};
use mizzen_types::policy::Direction;
use std::collections::BTreeMap;

/// What is said of what `from` sends `to`.
pub(super) fn rulings(
    compiled: &Compiled,
    from: &Member,
    to: &Member,
    overlays: Overlays,
) -> BTreeMap<Traffic, Ruling> {
    let pair = Pair { compiled, from, to, overlays };
    let mut found = BTreeMap::new();
    let is_tried = pair.has(Force::Audit);
    if !is_tried && !pair.has(Force::Enforced) {
        return found;
    }
    let enforced = pair.allowed(Force::Enforced);
    if !is_tried {
        put(&mut found, &enforced, Action::Allow);
        return found;
    }
    put(&mut found, &enforced, Action::Audit);
    put(&mut found, &both(&enforced, &pair.allowed(Force::Audit)), Action::Allow);
    found
}

/// What no rule had to allow is left to the flags of the classes. Of two rules the first counts.
fn put(found: &mut BTreeMap<Traffic, Ruling>, spans: &[Span], action: Action) {
    let mut new = BTreeMap::new();
    for span in spans {
        let Some(rule) = span.rule else { continue };
        for traffic in span.traffic() {
            new.entry(traffic).or_insert(Ruling { rule, action });
        }
    }
    found.extend(new);
}

struct Pair<'a> {
    compiled: &'a Compiled,
    from: &'a Member,
    to: &'a Member,
    overlays: Overlays,
}

impl Pair<'_> {
    /// Whether policies of this kind guard the way.
    fn has(&self, force: Force) -> bool {
        !self.to.guards(Direction::Ingress, force).is_empty()
            || !self.from.guards(Direction::Egress, force).is_empty()
    }

    /// What passes; with `Audit` as if policies that are tried out were in force where no other is.
    fn allowed(&self, force: Force) -> Vec<Span> {
        let of = |direction| {
            let member = match direction {
                Direction::Ingress => self.to,
                Direction::Egress => self.from,
            };
            let enforced = member.guards(direction, Force::Enforced);
            let guards =
                if enforced.is_empty() { member.guards(direction, force) } else { enforced };
            (!guards.is_empty()).then(|| self.spans(guards, direction))
        };
        let isolated = self.overlays == Overlays::Apart && self.are_apart();
        let unguarded = if isolated { Vec::new() } else { vec![Span::all(None)] };
        let enters = of(Direction::Ingress).unwrap_or(unguarded);
        let leaves = of(Direction::Egress).unwrap_or_else(|| vec![Span::all(None)]);
        both(&enters, &leaves)
    }

    fn spans(&self, guards: &[usize], direction: Direction) -> Vec<Span> {
        let policies = guards.iter().filter_map(|place| self.compiled.policies.get(*place));
        let rules = policies.flat_map(|policy| policy.rules(direction).unwrap_or_default());
        let with = rules.filter(|rule| self.is_with(rule, direction));
        with.flat_map(|rule| rule.spans.iter().copied()).collect()
    }

    /// Whether a rule of one end is about the other one.
    fn is_with(&self, rule: &Allowance, direction: Direction) -> bool {
        let other = match direction {
            Direction::Ingress => self.from,
            Direction::Egress => self.to,
        };
        let is_meant = |place: &usize| {
            let selector = self.compiled.selectors.get(*place);
            let names_overlay = selector.is_some_and(|selector| selector.overlay.is_some());
            other.identity.selectors.contains(place) && (names_overlay || !self.are_apart())
        };
        match rule.peers.is_empty() {
            true => self.overlays == Overlays::Together || !self.are_apart(),
            false => rule.peers.iter().any(is_meant),
        }
    }

    fn are_apart(&self) -> bool {
        self.from.class.is_apart_from(&self.to.class)
    }
}
