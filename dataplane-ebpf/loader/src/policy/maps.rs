//! What is wanted as maps have it, and the order in which it is written.
//!
//! Rulings come first and go last, so whoever has a class meets the rulings that were made for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use mizzen_ebpf_abi::Ip16;
use mizzen_ebpf_abi::policy::maps::{
    CLASSES, CLASSES_CAPACITY, LOCALS, LOCALS_CAPACITY, RULES, RULES_CAPACITY, SPEAKERS,
    SPEAKERS_CAPACITY, SWITCH,
};
use mizzen_ebpf_abi::policy::{Class, Local, Prefix, RuleKey, Ruling, Speaker, Switch, stand};
use mizzen_ebpf_core::policy::{self, Match, Overlays, PolicyWanted, Traffic};

use super::{PolicyChanged, PolicyHere, SpeakerWanted};
use crate::LoadError;
use crate::differences::{Mirror, Part, failed, prefix};
use crate::table::Table;

/// Everything that the maps are to hold, and where programs are to stand.
#[derive(Debug, Default)]
pub struct Plan {
    classes: BTreeMap<Prefix, Class>,
    rules: BTreeMap<RuleKey, Ruling>,
    locals: BTreeMap<Ip16, Local>,
    speakers: BTreeMap<u64, Speaker>,
    flags: u32,
    /// By link: bits of [`stand`].
    pub stands: BTreeMap<u32, u32>,
}

impl Plan {
    /// Nothing at all if nothing is guarded, watched or opened.
    pub fn new(wanted: &PolicyWanted, here: &PolicyHere) -> Self {
        if wanted.is_idle() {
            return Self::default();
        }
        let ways = if wanted.opens_ways() { Switch::WAYS } else { 0 };
        let together = if wanted.overlays == Overlays::Together { Switch::TOGETHER } else { 0 };
        let locals = locals(wanted, here, ways != 0);
        let mut stands = stands(&locals);
        if ways != 0 {
            stands.extend(here.tunnels.iter().map(|tunnel| (*tunnel, stand::TUNNEL)));
        }
        Self {
            classes: wanted.classes.iter().map(|(net, of)| (prefix(*net), class(of))).collect(),
            rules: wanted.rulings.iter().map(|(of, says)| (key(of), ruling(says))).collect(),
            locals,
            speakers: here.speakers.iter().map(|(cookie, of)| (*cookie, speaker(of))).collect(),
            flags: Switch::ON | together | ways,
            stands,
        }
    }

    /// Whether connects of anybody may be refused.
    pub fn has_speakers(&self) -> bool {
        !self.speakers.is_empty()
    }
}

/// The maps that are written.
#[derive(Debug)]
pub struct Maps {
    classes: Mirror<Prefix, Class>,
    rules: Mirror<RuleKey, Ruling>,
    locals: Mirror<Ip16, Local>,
    speakers: Mirror<u64, Speaker>,
    switch: Table<u32, Switch>,
}

impl Maps {
    /// Opens the pinned maps.
    pub fn open(directory: &Path) -> Result<Self, LoadError> {
        Ok(Self {
            classes: Mirror::open(directory, CLASSES, CLASSES_CAPACITY)?,
            rules: Mirror::open(directory, RULES, RULES_CAPACITY)?,
            locals: Mirror::open(directory, LOCALS, LOCALS_CAPACITY)?,
            speakers: Mirror::open(directory, SPEAKERS, SPEAKERS_CAPACITY)?,
            switch: Table::open_pinned(directory, SWITCH, 1)?,
        })
    }

    /// Writes what is new or different, and has programs go by it.
    pub fn add(&mut self, plan: &Plan, changed: &mut PolicyChanged) -> Result<(), LoadError> {
        if plan.flags == 0 {
            // Before anything is missing.
            self.set_switch(0)?;
        }
        let rulings = self.rules.apply(&plan.rules, Part::Additions)?.len();
        let classes = self.classes.apply(&plan.classes, Part::Additions)?.len();
        let locals = self.locals.apply(&plan.locals, Part::Additions)?.len();
        self.speakers.apply(&plan.speakers, Part::Additions)?;
        changed.rulings += rulings;
        changed.classes += classes;
        if rulings + classes + locals > 0 || self.switch()?.flags != plan.flags {
            self.set_switch(plan.flags)?;
        }
        Ok(())
    }

    /// Removes what is not wanted.
    pub fn remove(&mut self, plan: &Plan, changed: &mut PolicyChanged) -> Result<(), LoadError> {
        self.speakers.apply(&plan.speakers, Part::Removals)?;
        self.locals.apply(&plan.locals, Part::Removals)?;
        let classes = self.classes.apply(&plan.classes, Part::Removals)?.len();
        let rulings = self.rules.apply(&plan.rules, Part::Removals)?.len();
        changed.rulings += rulings;
        changed.classes += classes;
        if rulings + classes > 0 {
            // Flows are judged again.
            self.set_switch(plan.flags)?;
        }
        Ok(())
    }

    /// Has the next pass read the maps again.
    pub fn forget(&mut self) {
        self.classes.forget();
        self.rules.forget();
        self.locals.forget();
        self.speakers.forget();
    }

    fn switch(&self) -> Result<Switch, LoadError> {
        Ok(self.switch.get(&0).map_err(failed("read", SWITCH))?.unwrap_or_default())
    }

    fn set_switch(&self, flags: u32) -> Result<(), LoadError> {
        let generation = self.switch()?.generation.wrapping_add(1).max(1);
        self.switch.put(&0, &Switch { flags, generation }).map_err(failed("write to", SWITCH))
    }
}

/// The containers here, and what has to be looked at because of each.
fn locals(wanted: &PolicyWanted, here: &PolicyHere, has_ways: bool) -> BTreeMap<Ip16, Local> {
    let ways = if has_ways { Local::WAYS } else { 0 };
    let local = |(address, link): (&IpAddr, &u32)| {
        let flags = wanted.class_of(*address).flags | ways;
        ((*address).into(), Local { link: *link, flags })
    };
    here.containers.iter().map(local).collect()
}

/// Where programs are to stand because of these: on both ways of who is guarded or watched.
fn stands(locals: &BTreeMap<Ip16, Local>) -> BTreeMap<u32, u32> {
    let mut stands = BTreeMap::new();
    for local in locals.values().filter(|local| local.flags != 0) {
        let is_judged = local.flags & !Local::WAYS != 0;
        let receiver = if is_judged { stand::RECEIVER } else { 0 };
        *stands.entry(local.link).or_default() |= stand::SENDER | receiver;
    }
    stands
}

fn class(class: &policy::Class) -> Class {
    let policy::Class { class, overlay, flags } = *class;
    Class { class, overlay, flags }
}

fn ruling(ruling: &policy::Ruling) -> Ruling {
    Ruling { rule: ruling.rule, action: ruling.action as u32 }
}

fn key(matched: &Match) -> RuleKey {
    let pair =
        RuleKey { length: RuleKey::PAIR, from: matched.from, to: matched.to, ..RuleKey::default() };
    match matched.traffic {
        Traffic::All => pair,
        Traffic::Protocol(protocol) => RuleKey { length: RuleKey::PROTOCOL, protocol, ..pair },
        Traffic::Ports { protocol, port, bits } => RuleKey {
            length: RuleKey::BEFORE_PORT + u32::from(bits.min(16)),
            protocol,
            port: port.to_be(),
            ..pair
        },
    }
}

fn speaker(wanted: &SpeakerWanted) -> Speaker {
    let address = |address: Option<IpAddr>| address.map_or(Ip16::UNSPECIFIED, Into::into);
    Speaker { v4: address(wanted.v4), v6: address(wanted.v6) }
}
