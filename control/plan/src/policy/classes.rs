//! Classes of addresses that all policies treat alike, and what the rules say of each pair.
//!
//! A class is there as long as some network is of it. One that comes is held against all others,
//! one that goes takes its rulings along; nothing else is touched.

use super::compiled::{Compiled, Force};
use super::numbers::number_of;
use super::rulings::rulings;
use super::subject::Kind;
use mizzen_ebpf_core::policy::{Class, Match, PolicyWanted, Traffic};
use mizzen_types::policy::{ANY_OVERLAY, Direction};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What makes a class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) kind: Kind,
    pub(super) overlay: Option<String>,
    /// Places of the selectors that mean its members.
    pub(super) selectors: BTreeSet<usize>,
}

/// A class.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) identity: Identity,
    /// As programs know it.
    pub(super) class: Class,
    /// Places of the policies that guard its members, by direction and force.
    guards: BTreeMap<(Direction, bool), Vec<usize>>,
    networks: usize,
}

impl Member {
    /// Places of the policies that guard its members.
    pub(super) fn guards(&self, direction: Direction, force: Force) -> &[usize] {
        let found = self.guards.get(&(direction, force == Force::Audit));
        found.map(Vec::as_slice).unwrap_or_default()
    }
}

/// All classes.
#[derive(Debug, Default)]
pub(super) struct Classes {
    members: BTreeMap<Identity, Member>,
    /// Which class a network is of.
    networks: BTreeMap<(IpAddr, u8), Identity>,
    numbers: BTreeMap<u32, Identity>,
    overlays: BTreeMap<String, u32>,
    /// Selectors that mean whoever has no address that anybody knows.
    strangers: BTreeSet<usize>,
}

impl Classes {
    /// Those of whoever is in no network.
    pub(super) fn new(
        strangers: BTreeSet<usize>,
        compiled: &Compiled,
        wanted: &mut PolicyWanted,
    ) -> Self {
        let world = Identity { kind: Kind::World, overlay: None, selectors: strangers.clone() };
        let mut classes = Self { strangers, ..Self::default() };
        classes.enter(&world, compiled, wanted);
        classes
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The class with a number.
    pub(super) fn by_number(&self, number: u32) -> Option<&Member> {
        self.members.get(self.numbers.get(&number)?)
    }

    /// Puts a network into a class, or takes it out of the one that it is in; says whether that
    /// changed anything.
    pub(super) fn assign(
        &mut self,
        network: (IpAddr, u8),
        identity: Option<Identity>,
        compiled: &Compiled,
        wanted: &mut PolicyWanted,
    ) -> bool {
        if self.networks.get(&network) == identity.as_ref() {
            return false;
        }
        if let Some(identity) = &identity {
            let class = self.enter(identity, compiled, wanted);
            wanted.classes.insert(network, class);
        } else {
            wanted.classes.remove(&network);
        }
        let before = match identity {
            Some(identity) => self.networks.insert(network, identity),
            None => self.networks.remove(&network),
        };
        if let Some(before) = before {
            self.leave(&before, wanted);
        }
        true
    }

    /// Another network is of a class, which is made if it is the first one.
    fn enter(
        &mut self,
        identity: &Identity,
        compiled: &Compiled,
        wanted: &mut PolicyWanted,
    ) -> Class {
        if let Some(member) = self.members.get_mut(identity) {
            member.networks += 1;
            return member.class;
        }
        let member = self.make(identity, compiled);
        let class = member.class;
        self.numbers.insert(class.class, identity.clone());
        self.members.insert(identity.clone(), member);
        let Some(new) = self.members.get(identity) else { return class };
        for other in self.members.values() {
            add_rulings(compiled, other, new, wanted);
            if other.class.class != class.class {
                add_rulings(compiled, new, other, wanted);
            }
        }
        class
    }

    fn leave(&mut self, identity: &Identity, wanted: &mut PolicyWanted) {
        let Some(member) = self.members.get_mut(identity) else { return };
        member.networks -= 1;
        if member.networks > 0 {
            return;
        }
        let gone = member.class.class;
        self.members.remove(identity);
        self.numbers.remove(&gone);
        let others = self.numbers.keys().copied().flat_map(|other| [(other, gone), (gone, other)]);
        for (from, to) in others.chain([(gone, gone)]) {
            remove_rulings(from, to, wanted);
        }
    }

    fn make(&mut self, identity: &Identity, compiled: &Compiled) -> Member {
        let overlay = identity.overlay.as_deref().map_or(0, |name| self.overlay_number(name));
        let number = match identity.kind {
            Kind::World if identity.selectors == self.strangers => Class::WORLD,
            Kind::Host => Class::HOST,
            _ => {
                let text = words(identity, compiled);
                number_of(&text, Class::FIRST, |number| self.numbers.contains_key(&number))
            }
        };
        let guards = guards(identity, compiled);
        let flags = flags(&guards) | pending_flags(identity, compiled);
        let class = Class { class: number, overlay, flags };
        Member { identity: identity.clone(), class, guards, networks: 1 }
    }

    fn overlay_number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.overlays.get(name) {
            return *number;
        }
        let taken: BTreeSet<u32> = self.overlays.values().copied().collect();
        let number = number_of(name, 1, |number| taken.contains(&number));
        self.overlays.insert(name.to_owned(), number);
        number
    }
}

fn add_rulings(compiled: &Compiled, from: &Member, to: &Member, wanted: &mut PolicyWanted) {
    let (sender, receiver) = (from.class.class, to.class.class);
    for (traffic, ruling) in rulings(compiled, from, to, wanted.overlays) {
        wanted.rulings.insert(Match { from: sender, to: receiver, traffic }, ruling);
    }
}

fn remove_rulings(from: u32, to: u32, wanted: &mut PolicyWanted) {
    let pair = |traffic| Match { from, to, traffic };
    let last = Traffic::Ports { protocol: u8::MAX, port: u16::MAX, bits: u8::MAX };
    let all = wanted.rulings.range(pair(Traffic::All)..=pair(last));
    let all: Vec<Match> = all.map(|(matched, _)| *matched).collect();
    for matched in all {
        wanted.rulings.remove(&matched);
    }
}

/// What a class is, apart from the places of its selectors, which change with other policies.
fn words(identity: &Identity, compiled: &Compiled) -> String {
    let selectors: Vec<_> =
        identity.selectors.iter().filter_map(|place| compiled.selectors.get(*place)).collect();
    format!("{:?} {:?} {selectors:?}", identity.kind, identity.overlay)
}

fn guards(identity: &Identity, compiled: &Compiled) -> BTreeMap<(Direction, bool), Vec<usize>> {
    let mut guards: BTreeMap<(Direction, bool), Vec<usize>> = BTreeMap::new();
    if identity.kind != Kind::Container {
        return guards;
    }
    let all = compiled.policies.iter().enumerate();
    for (place, policy) in all.filter(|(_, p)| identity.selectors.contains(&p.applies_to)) {
        for direction in Direction::ALL.into_iter().filter(|way| policy.rules(*way).is_some()) {
            let key = (direction, policy.force == Force::Audit);
            guards.entry(key).or_default().push(place);
        }
    }
    guards
}

fn flags(guards: &BTreeMap<(Direction, bool), Vec<usize>>) -> u32 {
    let flag = |direction, audit| match (direction, audit) {
        (Direction::Ingress, false) => Class::GUARDED_INGRESS,
        (Direction::Egress, false) => Class::GUARDED_EGRESS,
        // What is guarded already lets pass no less when a policy is tried out beside.
        (direction, true) if guards.contains_key(&(direction, false)) => 0,
        (Direction::Ingress, true) => Class::AUDITED_INGRESS,
        (Direction::Egress, true) => Class::AUDITED_EGRESS,
    };
    guards.keys().fold(0, |flags, (direction, audit)| flags | flag(*direction, *audit))
}

/// Who is about to start may be somebody whom a policy guards.
fn pending_flags(identity: &Identity, compiled: &Compiled) -> u32 {
    if identity.kind != Kind::Pending {
        return 0;
    }
    let may_apply = |place: usize| {
        let overlay =
            compiled.selectors.get(place).and_then(|selector| selector.overlay.as_deref());
        overlay.is_none_or(|name| name == ANY_OVERLAY || Some(name) == identity.overlay.as_deref())
    };
    let guards = |direction| {
        compiled.policies.iter().any(|policy| {
            policy.force == Force::Enforced
                && policy.rules(direction).is_some()
                && may_apply(policy.applies_to)
        })
    };
    let ingress = if guards(Direction::Ingress) { Class::GUARDED_INGRESS } else { 0 };
    let egress = if guards(Direction::Egress) { Class::GUARDED_EGRESS } else { 0 };
    ingress | egress
}
