//! What a question deserves.
//!
//! Right by the RFCs where Mesos-DNS was not: NXDOMAIN and "no such type" are told
//! apart, both with the SOA record of the zone's start; names above a record exist
//! (RFC 8020); an answer carries the name as it was asked, capitals included, because
//! resolvers check that.

use crate::name::DnsName;
use crate::record::Data;
use crate::route::Place;
use crate::zone::{Entry, Zones};
use hickory_proto::op::Query;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use std::collections::BTreeSet;

/// Longest chain of CNAME records that is followed.
const MAX_CHAIN: usize = 8;

/// A question and how to answer it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Name, type and class.
    pub question: &'a Query,
    /// Counts questions: answers with several records begin with another one each time.
    pub turn: u64,
    /// How many answers are worth making; a larger set is cut, fairly over the turns.
    pub room: usize,
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
    },
    /// The name exists and has nothing of this type.
    NoData {
        /// For the authority section.
        soa: Option<Record>,
    },
    /// The name does not exist.
    NxDomain {
        /// For the authority section.
        soa: Option<Record>,
    },
    /// The name is somebody else's.
    Forward,
    /// Not a question that this server takes.
    Refused,
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
    if zones.node(place.name.as_str()).is_none() {
        return Answer::NxDomain { soa: soa(zones, &place) };
    }
    let mut reply = Reply { zones, asked, answers: Vec::new(), cut: false };
    let targets = reply.collect(&place);
    if reply.answers.is_empty() {
        return Answer::NoData { soa: soa(zones, &place) };
    }
    let additionals = reply.addresses_of(&targets);
    Answer::Records { answers: reply.answers, additionals, cut: reply.cut }
}

/// Types that ask for something else than data: transfers and the protocol's own.
fn is_no_data_type(kind: RecordType) -> bool {
    use RecordType as T;
    matches!(kind, T::AXFR | T::IXFR | T::OPT | T::TSIG | T::ZERO)
}

/// Records while they are gathered.
struct Reply<'a> {
    zones: &'a Zones,
    asked: Asked<'a>,
    answers: Vec<Record>,
    cut: bool,
}

impl Reply<'_> {
    /// Gathers the answers, along CNAME records if need be, and returns the targets of
    /// SRV records.
    fn collect(&mut self, place: &Place) -> BTreeSet<DnsName> {
        let kind = self.asked.question.query_type();
        let wanted = (kind != RecordType::ANY).then_some(kind);
        let mut here = place.name.clone();
        let mut shown = self.asked.question.name().clone();
        for _ in 0..MAX_CHAIN {
            let Some(node) = self.zones.node(here.as_str()) else { break };
            let entries = node.entries(wanted);
            if !entries.is_empty() {
                return self.push_set(&shown, entries);
            }
            let alias = node.entries(Some(RecordType::CNAME));
            let [Entry { data: Data::Cname(target), .. }, ..] = alias else { break };
            let target = target.clone();
            self.push_set(&shown, alias);
            let (Some(next), Some(name)) = (self.zones.locate(&target), target.to_wire()) else {
                break;
            };
            (here, shown) = (next.name, name);
        }
        BTreeSet::new()
    }

    /// Adds a record set in this turn's order, all with one TTL (RFC 2181, 5.2).
    fn push_set(&mut self, name: &Name, entries: &[Entry]) -> BTreeSet<DnsName> {
        let ttl = entries.iter().map(|entry| entry.ttl).min().unwrap_or_default();
        let (tail, head) = entries.split_at(first_of(entries.len(), self.asked.turn));
        let room = self.asked.room.saturating_sub(self.answers.len());
        self.cut |= entries.len() > room;
        let mut targets = BTreeSet::new();
        for entry in head.iter().chain(tail).take(room) {
            let Some(record) = entry.data.to_record(name, ttl, self.zones.serial()) else {
                continue;
            };
            self.answers.push(record);
            if let Data::Srv { target, .. } = &entry.data {
                targets.insert(target.clone());
            }
        }
        targets
    }

    fn addresses_of(&self, targets: &BTreeSet<DnsName>) -> Vec<Record> {
        let mut records = Vec::new();
        for target in targets {
            let Some(name) = target.to_wire() else { continue };
            let Some(node) = self.zones.node(target.as_str()) else { continue };
            for kind in [RecordType::A, RecordType::AAAA] {
                records.extend(node.entries(Some(kind)).iter().filter_map(|entry| {
                    entry.data.to_record(&name, entry.ttl, self.zones.serial())
                }));
            }
        }
        records
    }
}

/// Which of `count` records comes first in this turn.
///
/// The turn is spread over all numbers before it is reduced: resolvers ask for A and
/// AAAA in pairs, so turns of one type may all be even.
fn first_of(count: usize, turn: u64) -> usize {
    let spread = u128::from(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    usize::try_from((spread * count as u128) >> 64).unwrap_or(0)
}

/// The SOA record of the place's zone, with the TTL of a negative answer (RFC 2308, 5).
fn soa(zones: &Zones, place: &Place) -> Option<Record> {
    let node = zones.node(place.apex.as_str())?;
    let entry = node.entries(Some(RecordType::SOA)).first()?;
    let Data::Soa(start) = &entry.data else { return None };
    let ttl = entry.ttl.min(start.negative_ttl);
    entry.data.to_record(&place.apex_shown.to_wire()?, ttl, zones.serial())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::owner::OwnerKey;
    use crate::records::{records_of, vip_records};
    use crate::task::tests::{port, task};
    use mizzen_types::fact::{Fact, Health, Key, TaskFact};
    use std::collections::BTreeMap;

    fn owner(task: &TaskFact) -> OwnerKey {
        let key = Key::Task(task.framework_id.clone(), task.task_id.clone());
        OwnerKey::Fact { owner: "n1".into(), key }
    }

    fn add(zones: &mut Zones, task: &TaskFact) {
        let OwnerKey::Fact { key, .. } = owner(task) else { unreachable!() };
        let records = records_of(&key, &Fact::Task(Box::new(task.clone())), &Options::default());
        zones.set(owner(task), records);
    }

    fn zones() -> Zones {
        let mut zones = Zones::new(&Options {
            node_addresses: vec!["10.0.0.2".parse().unwrap()],
            ..Options::default()
        });
        let mut web = task("web.1", "web");
        web.discovery_name = Some("web".into());
        web.container_addresses = vec!["9.0.1.5".parse().unwrap()];
        web.ports = vec![port(80, Some(31042), "http", "tcp")];
        add(&mut zones, &web);
        (web.task_id, web.container_addresses) = ("web.2".into(), vec!["9.0.1.6".parse().unwrap()]);
        add(&mut zones, &web);
        (web.task_id, web.health) = ("web.3".into(), Health::Unhealthy);
        web.container_addresses = vec!["9.0.1.7".parse().unwrap()];
        add(&mut zones, &web);
        let vip = vip_records("web.marathon", &["11.0.0.7".parse().unwrap()], &Options::default());
        zones.set(OwnerKey::Vip("web.marathon".into()), vip);
        zones
    }

    fn ask(zones: &Zones, name: &str, kind: RecordType, turn: u64) -> Answer {
        let question = Query::query(Name::from_ascii(name).unwrap(), kind);
        answer(zones, Asked { question: &question, turn, room: 100 })
    }

    /// `code owner-of-SOA` or the sorted records, additional ones behind a `+`.
    fn short(answer: Answer) -> String {
        let line = |record: &Record| format!("{} {}", record.record_type(), record.data);
        match answer {
            Answer::Records { answers, additionals, cut } => {
                let mut lines: Vec<String> = answers.iter().map(line).collect();
                lines.extend(additionals.iter().map(|r| format!("+{} {}", r.name, line(r))));
                lines.sort();
                lines.join(", ") + if cut { " cut" } else { "" }
            }
            Answer::NoData { soa } => format!("nodata {}", soa.expect("an SOA record").name),
            Answer::NxDomain { soa } => format!("nxdomain {}", soa.expect("an SOA record").name),
            Answer::Forward => "forward".into(),
            Answer::Refused => "refused".into(),
        }
    }

    #[test]
    fn every_kind_of_question() {
        use RecordType as T;
        let zones = zones();
        let (one, two) = (crate::mangle::task_hash("web.1"), crate::mangle::task_hash("web.2"));
        let mut services = [
            format!("+web-{one}-s3.marathon.mesos. A 9.0.1.5"),
            format!("+web-{two}-s3.marathon.mesos. A 9.0.1.6"),
            format!("SRV 0 1 80 web-{one}-s3.marathon.mesos."),
            format!("SRV 0 1 80 web-{two}-s3.marathon.mesos."),
        ];
        services.sort();
        let services = services.join(", ");
        #[rustfmt::skip]
        let table: &[(&str, T, &str)] = &[
            ("web.marathon.mesos.",                  T::A,    "A 9.0.1.5, A 9.0.1.6"),
            ("WeB.mArAtHoN.MESOS.",                  T::A,    "A 9.0.1.5, A 9.0.1.6"),
            ("web.*.marathon.mesos.",                T::A,    "A 9.0.1.5, A 9.0.1.6"),
            ("web.marathon.mesos.",                  T::AAAA, "nodata mesos."),
            ("web.marathon.mesos.",                  T::TXT,  "nodata mesos."),
            ("web.marathon.mesos.",                  T::ANY,  "A 9.0.1.5, A 9.0.1.6"),
            ("web.marathon.mesos.",                  T::AXFR, "refused"),
            ("marathon.mesos.",                      T::A,    "nodata mesos."),
            ("_tcp.marathon.mesos.",                 T::SRV,  "nodata mesos."),
            ("api.marathon.mesos.",                  T::A,    "nxdomain mesos."),
            ("_api._tcp.marathon.mesos.",            T::SRV,  "nxdomain mesos."),
            ("web.marathon.slave.mesos.",            T::A,    "A 10.0.0.2"),
            ("_web._tcp.marathon.mesos.",            T::SRV,  &services),
            ("_http._web._tcp.marathon.mesos.",      T::SRV,  &services),
            ("_web._udp.marathon.mesos.",            T::SRV,  "nxdomain mesos."),
            ("web.marathon.mesos.thisdcos.directory.", T::A,  "A 9.0.1.5, A 9.0.1.6"),
            ("x.marathon.mesos.thisdcos.directory.", T::A,    "nxdomain mesos.thisdcos.directory."),
            ("web.marathon.agentip.dcos.thisdcos.directory.",     T::A, "A 10.0.0.2"),
            ("web.marathon.containerip.dcos.thisdcos.directory.", T::A, "A 9.0.1.5, A 9.0.1.6"),
            ("web.marathon.autoip.dcos.thisdcos.global.",         T::A, "A 10.0.0.2"),
            ("web.marathon.l4lb.thisdcos.directory.", T::A,   "A 11.0.0.7"),
            ("web.marathon.dclb.thisdcos.directory.", T::A,   "A 11.0.0.7"),
            ("web.marathon.l4lb.thisdcos.directory.", T::AAAA, "nodata l4lb.thisdcos.directory."),
            ("no.marathon.dclb.thisdcos.global.",     T::A,   "nxdomain dclb.thisdcos.global."),
            ("x.thisdcos.directory.",                 T::A,   "nxdomain thisdcos.directory."),
            ("thisnode.thisdcos.directory.",          T::A,   "A 10.0.0.2"),
            ("ready.spartan.",                        T::A,   "A 127.0.0.1"),
            ("ns.spartan.",                           T::A,   "A 198.51.100.1"),
            ("ns1.mesos.",                            T::A,   "A 198.51.100.1"),
            ("localhost.",                            T::AAAA, "AAAA ::1"),
            ("zk-1.zk.",                              T::A,   "nxdomain zk."),
            ("mesos.",                                T::NS,  "NS ns1.mesos."),
            ("spartan.",                              T::NS,  "NS ns.spartan."),
            ("mesos.",                                T::A,   "nodata mesos."),
            ("web.marathon.mesos.",                   T::SOA, "nodata mesos."),
            ("example.com.",                          T::A,   "forward"),
            (".",                                     T::NS,  "forward"),
            ("1.100.51.198.in-addr.arpa.",            T::PTR, "forward"),
        ];
        for (name, kind, want) in table {
            assert_eq!(short(ask(&zones, name, *kind, 7)), *want, "{name} {kind}");
        }
        let mut chaos = Query::query(Name::from_ascii("version.bind.").unwrap(), T::TXT);
        chaos.set_query_class(DNSClass::CH);
        let asked = Asked { question: &chaos, turn: 0, room: 9 };
        assert_eq!(answer(&zones, asked), Answer::Refused);
    }

    #[test]
    fn an_answer_repeats_the_name_as_it_was_asked() {
        let Answer::Records { answers, .. } =
            ask(&zones(), "WeB.MaRaThOn.mesos.", RecordType::A, 0)
        else {
            panic!("no records")
        };
        assert!(answers.iter().all(|record| record.name.to_ascii() == "WeB.MaRaThOn.mesos."));
    }

    #[test]
    fn soa_records_carry_the_serial_and_the_negative_ttl() {
        let mut zones = zones();
        let before = ask(&zones, "mesos.", RecordType::SOA, 0);
        let serial = |answer: &Answer| match answer {
            Answer::Records { answers, .. } => match &answers[0].data {
                hickory_proto::rr::RData::SOA(soa) => soa.serial,
                other => panic!("{other}"),
            },
            other => panic!("{other:?}"),
        };
        zones.remove(&OwnerKey::Vip("web.marathon".into()));
        assert_eq!(serial(&ask(&zones, "mesos.", RecordType::SOA, 0)), serial(&before) + 1);
        let Answer::NxDomain { soa: Some(soa) } = ask(&zones, "no.mesos.", RecordType::A, 0) else {
            panic!("it exists")
        };
        assert_eq!((soa.ttl, soa.record_type()), (1, RecordType::SOA));
    }

    #[test]
    fn answers_take_turns_also_for_clients_that_ask_in_pairs() {
        let mut zones = Zones::new(&Options::default());
        for number in 0..5_u8 {
            let mut web = task(&format!("web.{number}"), "web");
            web.host_address = [10, 0, 0, number].into();
            add(&mut zones, &web);
        }
        for stride in 1..=4 {
            let mut first: BTreeMap<String, u32> = BTreeMap::new();
            for turn in (0..1000).step_by(stride) {
                let Answer::Records { answers, cut, .. } =
                    ask(&zones, "web.marathon.mesos.", RecordType::A, turn)
                else {
                    panic!("no records")
                };
                assert_eq!((answers.len(), cut), (5, false));
                *first.entry(answers[0].data.to_string()).or_default() += 1;
            }
            let fair = 1000 / u32::try_from(stride).unwrap() / 5;
            assert!(
                first.len() == 5 && first.values().all(|n| n.abs_diff(fair) <= fair / 10),
                "{first:?}"
            );
        }
    }

    #[test]
    fn a_large_set_is_cut_to_the_room() {
        let mut zones = Zones::new(&Options::default());
        for number in 0..1000_u16 {
            let [high, low] = number.to_be_bytes();
            let mut web = task(&format!("web.{number}"), "web");
            web.host_address = [10, 0, high, low].into();
            add(&mut zones, &web);
        }
        let mut seen = BTreeSet::new();
        for turn in 0..200 {
            let Answer::Records { answers, cut, .. } =
                ask(&zones, "web.marathon.mesos.", RecordType::A, turn)
            else {
                panic!("no records")
            };
            assert_eq!((answers.len(), cut), (100, true));
            seen.extend(answers.iter().map(|record| record.data.to_string()));
        }
        assert_eq!(seen.len(), 1000, "every task is seen by somebody");
    }

    #[test]
    fn chains_of_names_are_followed_inside_our_zones() {
        let mut zones = zones();
        let alias = |name: &str, target: &str| {
            let (name, target) = (DnsName::parse(name).unwrap(), DnsName::parse(target).unwrap());
            crate::record::Record::new(name, 5, Data::Cname(target))
        };
        let records = vec![
            alias("shop.component.thisdcos.directory", "web.marathon.dclb.thisdcos.directory"),
            alias("out.component.thisdcos.directory", "example.com"),
            alias("a.component.thisdcos.directory", "b.component.thisdcos.directory"),
            alias("b.component.thisdcos.directory", "a.component.thisdcos.directory"),
        ];
        zones.set(OwnerKey::Static("test".into()), records);
        let text = |name: &str| short(ask(&zones, name, RecordType::A, 0));
        let shop = text("shop.component.thisdcos.directory.");
        assert_eq!(shop, "A 11.0.0.7, CNAME web.marathon.dclb.thisdcos.directory.");
        assert_eq!(text("out.component.thisdcos.directory."), "CNAME example.com.");
        assert!(text("a.component.thisdcos.directory.").starts_with("CNAME"), "a circle ends");
    }
}
