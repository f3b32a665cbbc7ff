//! What a question deserves.
//!
//! Right by the RFCs where Mesos-DNS was not: NXDOMAIN and "no such type" are told
//! apart, both with the SOA record of the zone's start; names above a record exist
//! (RFC 8020); an answer carries the name as it was asked, capitals included, because
//! resolvers check that. In legacy mode Mesos-DNS' own zone answers as it always did
//! where a client may lean on it, see [`legacy`].

use crate::explain::{TEXT_TTL, told};
use crate::name::DnsName;
use crate::options::Mode;
use crate::record::Data;
use crate::route::Place;
use crate::statics::DIRECTORY;
use crate::store::node::{A, AAAA, CNAME, NS, Node, SOA, SRV, Sent, Set, TXT};
use crate::zone::Zones;
use hickory_proto::op::Query;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use mizzen_types::time::Wall;

/// Longest chain of CNAME records that is followed.
const MAX_CHAIN: usize = 8;

/// Priority of the dispatcher's SRV records.
const COPIED_PRIORITY: u16 = 1;

/// A question and how to answer it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Name, type and class.
    pub question: &'a Query,
    /// Counts questions: answers with several records begin with another one each time.
    pub turn: u64,
    /// How many answers are worth making; a larger set is cut, fairly over the turns.
    pub room: usize,
    /// What ages in texts are counted to.
    pub now: Wall,
}

/// What to send.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// These records.
    Records {
        /// For the answer section.
        answers: Vec<Record>,
        /// Addresses of the targets of SRV records.
        additionals: Vec<Record>,
        /// Whether there were more than room was for.
        cut: bool,
        /// Where they end, if there are aliases among them.
        end: End,
    },
    /// There are none.
    Nothing(Absence),
    /// The name is somebody else's.
    Forward,
    /// Not a question that this server takes.
    Refused,
}

/// Where a chain of aliases ends.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// With what was asked for; or nowhere, for it is a circle or too long.
    Here,
    /// With a name of ours that has nothing to answer: the response code is that of this
    /// name (RFC 6604, 3).
    Nothing(Absence),
    /// With this name, which is somebody else's: what is asked for is known there.
    Elsewhere(Name),
}

/// How there is nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Absence {
    /// The name exists and has nothing of this type.
    NoData {
        /// For the authority section. In legacy mode this is where an SOA or NS record
        /// goes that was asked for.
        soa: Option<Record>,
    },
    /// The name does not exist.
    NxDomain {
        /// For the authority section.
        soa: Option<Record>,
    },
}

/// Answers a question from the zones.
#[must_use]
pub fn answer(zones: &Zones, asked: Asked<'_>) -> Answer {
    let question = asked.question;
    if question.query_class() != DNSClass::IN || is_no_data_type(question.query_type()) {
        return Answer::Refused;
    }
    let Some(place) = zones.locate(&DnsName::from_wire(question.name())) else {
        return Answer::Forward;
    };
    let kind = u16::from(question.query_type());
    if matches!(kind, SOA | NS) && is_legacy(zones, &place) {
        let soa = of_zone(zones, kind, &place, question.name());
        return Answer::Nothing(Absence::NoData { soa });
    }
    Reply::collect(zones, asked, place)
}

/// Types that ask for something else than data: transfers and the protocol's own.
fn is_no_data_type(kind: RecordType) -> bool {
    use RecordType as T;
    matches!(kind, T::AXFR | T::IXFR | T::OPT | T::TSIG | T::ZERO)
}

/// Whether a place is answered for as Mesos-DNS did for its own zone: whatever name in it is
/// asked for SOA or NS, the zone's record stands in the authority section under that name;
/// for what is not there see [`legacy_absence`].
fn is_legacy(zones: &Zones, place: &Place) -> bool {
    zones.mode() == Mode::Legacy && place.apex_shown == *zones.domain()
}

/// How there is nothing of type `kind` at a place that the reply calls `name`.
fn absence(zones: &Zones, kind: u16, place: &Place, name: &Name) -> Absence {
    if is_legacy(zones, place) {
        return legacy_absence(zones, kind, place, name);
    }
    match zones.node(&place.name) {
        Some(_) => Absence::NoData { soa: soa(zones, place) },
        None => Absence::NxDomain { soa: soa(zones, place) },
    }
}

/// An SRV record that is not there is no error and has no SOA record; that of another miss
/// has the name of what is missing and a usual TTL; names that only have names below them
/// do not exist.
fn legacy_absence(zones: &Zones, kind: u16, place: &Place, name: &Name) -> Absence {
    if kind == SRV {
        return Absence::NoData { soa: None };
    }
    let soa = of_zone(zones, SOA, place, name);
    match zones.node(&place.name).filter(|node| node.sets().next().is_some()) {
        Some(_) => Absence::NoData { soa },
        None => Absence::NxDomain { soa },
    }
}

/// The first record of type `kind` of the place's zone, under `name`.
fn of_zone(zones: &Zones, kind: u16, place: &Place, name: &Name) -> Option<Record> {
    let set = zones.node(&place.apex)?.set(kind)?;
    let data = Data::from_bytes(set.kind, set.iter().next()?.data());
    data.to_record(name, set.ttl(), zones.serial())
}

/// Records while they are gathered.
struct Reply<'a> {
    zones: &'a Zones,
    asked: Asked<'a>,
    answers: Vec<Record>,
    /// Targets of SRV records as they are shown and as the zones hold them, each once.
    targets: Vec<(DnsName, DnsName)>,
    /// Zone of tasks that is asked for under the dispatcher's name for it.
    copy: Option<Copied<'a>>,
    cut: bool,
}

/// The dispatcher's copy of the zone of tasks.
struct Copied<'a> {
    domain: &'a DnsName,
    /// The domain as it is asked for.
    shown: DnsName,
    /// Where the dispatcher's own zones start: the copy has the same SOA and NS records,
    /// and others for no longer than that SOA record.
    start: Option<Node<'a>>,
}

impl<'a> Reply<'a> {
    fn collect(zones: &'a Zones, asked: Asked<'a>, place: Place) -> Answer {
        let (answers, targets) = (Vec::new(), Vec::new());
        let copy = is_copied(zones, &place).then(|| Copied {
            domain: zones.domain(),
            shown: place.apex_shown.clone(),
            start: zones.node(&DnsName::fixed(DIRECTORY)),
        });
        let mut reply = Self { zones, asked, answers, targets, copy, cut: false };
        let end = match reply.follow(place) {
            End::Nothing(absence) if reply.answers.is_empty() && !reply.cut => {
                return Answer::Nothing(absence);
            }
            end => end,
        };
        let additionals = reply.addresses();
        let Self { answers, cut, .. } = reply;
        Answer::Records { answers, additionals, cut, end }
    }

    /// Gathers the answers, along CNAME records if need be.
    fn follow(&mut self, mut here: Place) -> End {
        let mut shown = self.asked.question.name().clone();
        let mut seen = Vec::with_capacity(1);
        while seen.len() < MAX_CHAIN && !seen.contains(&here.name) {
            let node = self.node(&here.name);
            if node.is_some_and(|node| self.push_wanted(&shown, node)) {
                break;
            }
            let Some(alias) = node.and_then(|node| node.set(CNAME)) else {
                let kind = self.asked.question.query_type().into();
                return End::Nothing(absence(self.zones, kind, &here, &shown));
            };
            self.push_set(&shown, &alias);
            let target = alias.iter().next().and_then(|sent| DnsName::from_bytes(sent.data()));
            let Some(target) = target else { break };
            let Some(name) = target.to_wire() else { break };
            let Some(next) = self.zones.locate(&target) else { return End::Elsewhere(name) };
            seen.push(std::mem::replace(&mut here, next).name);
            shown = name;
        }
        End::Here
    }

    /// What is at a name.
    fn node(&self, name: &DnsName) -> Option<Node<'a>> {
        match &self.copy {
            Some(copy) if copy.domain == name => copy.start,
            _ => self.zones.node(name),
        }
    }

    fn ttl(&self, set: &Set<'_>) -> u32 {
        if set.kind == NS {
            return set.ttl();
        }
        let start = self.copy.as_ref().and_then(|copy| copy.start?.set(SOA));
        start.map_or(u32::MAX, |start| start.ttl()).min(set.ttl())
    }

    /// Adds what is asked for, if it is here. A question for anything gets one record set
    /// (RFC 8482, 4.1), in legacy mode all.
    fn push_wanted(&mut self, name: &Name, node: Node<'_>) -> bool {
        let before = self.answers.len();
        match (self.asked.question.query_type(), self.zones.mode()) {
            (RecordType::ANY, Mode::Legacy) => {
                node.sets().for_each(|set| self.push_set(name, &set));
            }
            (RecordType::ANY, Mode::Strict) => {
                node.sets().take(1).for_each(|set| self.push_set(name, &set));
            }
            (RecordType::TXT, _) if node.set(TXT).is_none() => self.push_told(name, node),
            (kind, _) => {
                node.set(kind.into()).into_iter().for_each(|set| self.push_set(name, &set));
            }
        }
        self.answers.len() > before || self.cut
    }

    /// Adds what is known of the owners of a name that has no texts of its own.
    fn push_told(&mut self, name: &Name, node: Node<'_>) {
        let texts = told(self.zones, node, self.asked.now);
        let room = self.asked.room.saturating_sub(self.answers.len());
        self.cut |= texts.len() > room;
        self.answers.extend(texts.into_iter().take(room).filter_map(|told| {
            Data::Txt(vec![told.text]).to_record(name, TEXT_TTL, self.zones.serial())
        }));
    }

    /// Adds a record set in this turn's order, all with one TTL (RFC 2181, 5.2).
    fn push_set(&mut self, name: &Name, set: &Set<'_>) {
        let room = self.asked.room.saturating_sub(self.answers.len());
        self.cut |= set.len() > room;
        let ttl = self.ttl(set);
        for sent in in_turn(set, self.asked.turn).take(room) {
            let mut data = Data::from_bytes(set.kind, sent.data());
            if let Data::Srv { priority, target, .. } = &mut data {
                let held = target.clone();
                self.copy_service(priority, target);
                self.targets.push((target.clone(), held));
            }
            self.answers.extend(data.to_record(name, ttl, self.zones.serial()));
        }
    }

    /// In the dispatcher's copy of the zone of tasks, targets are in that copy and all
    /// services have its priority.
    fn copy_service(&self, priority: &mut u16, target: &mut DnsName) {
        let Some(Copied { domain, shown, .. }) = &self.copy else { return };
        *priority = COPIED_PRIORITY;
        if let Some(head) = target.before(domain) {
            *target = shown.under(head);
        }
    }

    /// The addresses of all targets, as the zones hold them.
    fn addresses(&mut self) -> Vec<Record> {
        let mut seen = std::collections::HashSet::new();
        self.targets.retain(|(_, held)| seen.insert(held.clone()));
        let mut records = Vec::new();
        for (shown, held) in &self.targets {
            let Some(name) = shown.to_wire() else { continue };
            let Some(node) = self.zones.node(held) else { continue };
            for set in [A, AAAA].iter().filter_map(|kind| node.set(*kind)) {
                records.extend(set.iter().filter_map(|sent| {
                    let data = Data::from_bytes(set.kind, sent.data());
                    data.to_record(&name, self.ttl(&set), self.zones.serial())
                }));
            }
        }
        records
    }
}

/// The records of a set in this turn's order: the nearest first, and among those of one
/// distance another one first each time.
fn in_turn<'a>(set: &Set<'a>, turn: u64) -> impl Iterator<Item = Sent<'a>> + use<'a> {
    let mut all: Vec<Sent<'a>> = set.iter().collect();
    let mut rest = all.as_mut_slice();
    for count in set.counts {
        let Some((class, farther)) = rest.split_at_mut_checked(count as usize) else { break };
        class.rotate_left(first_of(class.len(), turn));
        rest = farther;
    }
    all.into_iter()
}

/// Which of `count` records comes first in this turn.
///
/// The turn is spread over all numbers before it is reduced: resolvers ask for A and
/// AAAA in pairs, so turns of one type may all be even.
pub(crate) fn first_of(count: usize, turn: u64) -> usize {
    let spread = u128::from(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    usize::try_from((spread * count as u128) >> 64).unwrap_or(0)
}

/// Whether a place is in the zone of tasks under the dispatcher's name for it.
fn is_copied(zones: &Zones, place: &Place) -> bool {
    place.apex == *zones.domain() && place.apex_shown != place.apex
}

/// The SOA record of the place's zone, with the TTL of a negative answer (RFC 2308, 5).
fn soa(zones: &Zones, place: &Place) -> Option<Record> {
    let apex = match is_copied(zones, place) {
        true => &DnsName::fixed(DIRECTORY),
        false => &place.apex,
    };
    let set = zones.node(apex)?.set(SOA)?;
    let data = Data::from_bytes(SOA, set.iter().next()?.data());
    let Data::Soa(start) = &data else { return None };
    let ttl = set.ttl().min(start.negative_ttl);
    data.to_record(&place.apex_shown.to_wire()?, ttl, zones.serial())
}

#[cfg(test)]
mod tests;
