//! What every kind of question gets.

use super::*;
use crate::options::Options;
use crate::owner::OwnerKey;
use crate::records::vip_records;
use crate::task::task_records;
use crate::task::tests::{port, task};
use mizzen_types::fact::{Health, Key, TaskFact};
use mizzen_types::vip::Distance;
use std::collections::{BTreeMap, BTreeSet};

/// 75 s after the tasks were launched.
const NOW: Wall = Wall(80_000_000_000);
const LAUNCHED: Wall = Wall(5_000_000_000);

fn owner(task: &TaskFact) -> OwnerKey {
    let key = Key::Task(task.framework_id.clone(), task.task_id.clone());
    OwnerKey::Fact { owner: "n1".into(), key }
}

fn add(zones: &mut Zones, task: &TaskFact) {
    let records = task_records(task, &Options::default(), Distance::Far);
    zones.set_since(&owner(task), &records, Some(LAUNCHED));
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
    answer(zones, Asked { question: &question, turn, room: 100, now: NOW })
}

fn words(absence: &Absence) -> String {
    let (code, soa) = match absence {
        Absence::NoData { soa } => ("nodata", soa),
        Absence::NxDomain { soa } => ("nxdomain", soa),
    };
    let record = |soa: &Record| format!("{} {}", soa.name, soa.record_type());
    format!("{code} {}", soa.as_ref().map_or("-".to_owned(), record))
}

/// `code owner-of-SOA SOA` or the sorted records, additional ones behind a `+`.
fn short(answer: Answer) -> String {
    let line = |record: &Record| format!("{} {}", record.record_type(), record.data);
    match answer {
        Answer::Records { answers, additionals, cut, end } => {
            let mut lines: Vec<String> = answers.iter().map(line).collect();
            lines.extend(additionals.iter().map(|r| format!("+{} {}", r.name, line(r))));
            lines.extend(match end {
                End::Here => None,
                End::Nothing(absence) => Some(format!("to {}", words(&absence))),
                End::Elsewhere(name) => Some(format!("to {name}")),
            });
            lines.sort();
            lines.join(", ") + if cut { " cut" } else { "" }
        }
        Answer::Nothing(absence) => words(&absence),
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
    let text = |task: u8| format!("TXT task web.{task} of framework m-0001 on node n1, for 75 s");
    let sick = format!("{}, left out: the task's health check fails", text(3));
    let texts = [text(1), text(2), sick].join(", ");
    let back = format!("PTR web-{one}-s3.marathon.mesos.");
    #[rustfmt::skip]
    let table: &[(&str, T, &str)] = &[
        ("web.marathon.mesos.",                  T::A,    "A 9.0.1.5, A 9.0.1.6"),
        ("WeB.mArAtHoN.MESOS.",                  T::A,    "A 9.0.1.5, A 9.0.1.6"),
        ("web.*.marathon.mesos.",                T::A,    "A 9.0.1.5, A 9.0.1.6"),
        ("web.marathon.mesos.",                  T::AAAA, "nodata mesos. SOA"),
        ("web.marathon.mesos.",                  T::TXT,  &texts),
        ("web.marathon.autoip.dcos.thisdcos.global.", T::TXT, &texts),
        ("web.marathon.l4lb.thisdcos.directory.", T::TXT, "TXT VIP web.marathon"),
        ("5.1.0.9.in-addr.arpa.",                T::TXT,  "TXT task web.1 of framework m-0001 on node n1, for 75 s"),
        ("ready.spartan.",                       T::TXT,  "nodata spartan. SOA"),
        ("marathon.mesos.",                      T::TXT,  "nodata mesos. SOA"),
        ("no.mesos.",                            T::TXT,  "nxdomain mesos. SOA"),
        ("web.marathon.mesos.",                  T::ANY,  "A 9.0.1.5, A 9.0.1.6"),
        ("web.marathon.mesos.",                  T::AXFR, "refused"),
        ("marathon.mesos.",                      T::A,    "nodata mesos. SOA"),
        ("_tcp.marathon.mesos.",                 T::SRV,  "nodata mesos. SOA"),
        ("api.marathon.mesos.",                  T::A,    "nxdomain mesos. SOA"),
        ("_api._tcp.marathon.mesos.",            T::SRV,  "nxdomain mesos. SOA"),
        ("web.marathon.slave.mesos.",            T::A,    "A 10.0.0.2"),
        ("_web._tcp.marathon.mesos.",            T::SRV,  &services),
        ("_http._web._tcp.marathon.mesos.",      T::SRV,  &services),
        ("_web._udp.marathon.mesos.",            T::SRV,  "nxdomain mesos. SOA"),
        ("web.marathon.mesos.thisdcos.directory.", T::A,  "A 9.0.1.5, A 9.0.1.6"),
        ("x.marathon.mesos.thisdcos.directory.", T::A,    "nxdomain mesos.thisdcos.directory. SOA"),
        ("web.marathon.agentip.dcos.thisdcos.directory.",     T::A, "A 10.0.0.2"),
        ("web.marathon.containerip.dcos.thisdcos.directory.", T::A, "A 9.0.1.5, A 9.0.1.6"),
        ("web.marathon.autoip.dcos.thisdcos.global.",         T::A, "A 10.0.0.2"),
        ("web.marathon.l4lb.thisdcos.directory.", T::A,   "A 11.0.0.7"),
        ("web.marathon.dclb.thisdcos.directory.", T::A,   "A 11.0.0.7"),
        ("web.marathon.l4lb.thisdcos.directory.", T::AAAA, "nodata l4lb.thisdcos.directory. SOA"),
        ("no.marathon.dclb.thisdcos.global.",     T::A,   "nxdomain dclb.thisdcos.global. SOA"),
        ("x.thisdcos.directory.",                 T::A,   "nxdomain thisdcos.directory. SOA"),
        ("thisnode.thisdcos.directory.",          T::A,   "A 10.0.0.2"),
        ("ready.spartan.",                        T::A,   "A 127.0.0.1"),
        ("ns.spartan.",                           T::A,   "A 198.51.100.1"),
        ("ns1.mesos.",                            T::A,   "A 198.51.100.1"),
        ("localhost.",                            T::AAAA, "AAAA ::1"),
        ("zk-1.zk.",                              T::A,   "nxdomain zk. SOA"),
        ("mesos.",                                T::NS,  "NS ns1.mesos."),
        ("spartan.",                              T::NS,  "NS ns.spartan."),
        ("mesos.",                                T::A,   "nodata mesos. SOA"),
        ("web.marathon.mesos.",                   T::SOA, "nodata mesos. SOA"),
        ("example.com.",                          T::A,   "forward"),
        (".",                                     T::NS,  "forward"),
        ("1.100.51.198.in-addr.arpa.",            T::PTR, "PTR ns.spartan."),
        ("7.0.0.11.in-addr.arpa.",                T::PTR, "PTR web.marathon.l4lb.thisdcos.directory."),
        ("8.0.0.11.in-addr.arpa.",                T::PTR, "nxdomain 11.in-addr.arpa. SOA"),
        ("5.1.0.9.in-addr.arpa.",                 T::PTR, &back),
        ("1.0.0.10.in-addr.arpa.",                T::PTR, "forward"),
    ];
    for (name, kind, want) in table {
        assert_eq!(short(ask(&zones, name, *kind, 7)), *want, "{name} {kind}");
    }
    let mut chaos = Query::query(Name::from_ascii("version.bind.").unwrap(), T::TXT);
    chaos.set_query_class(DNSClass::CH);
    let asked = Asked { question: &chaos, turn: 0, room: 9, now: NOW };
    assert_eq!(answer(&zones, asked), Answer::Refused);
}

#[test]
fn an_answer_repeats_the_name_as_it_was_asked() {
    let Answer::Records { answers, .. } = ask(&zones(), "WeB.MaRaThOn.mesos.", RecordType::A, 0)
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
    let missing = ask(&zones, "no.mesos.", RecordType::A, 0);
    let Answer::Nothing(Absence::NxDomain { soa: Some(soa) }) = missing else {
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
        alias("far.component.thisdcos.directory", "out.component.thisdcos.directory"),
        alias("gone.component.thisdcos.directory", "no.marathon.mesos"),
        alias("bare.component.thisdcos.directory", "ready.spartan"),
        alias("a.component.thisdcos.directory", "b.component.thisdcos.directory"),
        alias("b.component.thisdcos.directory", "a.component.thisdcos.directory"),
        alias("self.component.thisdcos.directory", "self.component.thisdcos.directory"),
    ];
    zones.set(OwnerKey::Static("test".into()), records);
    let text = |name: &str| short(ask(&zones, name, RecordType::A, 0));
    let shop = text("shop.component.thisdcos.directory.");
    assert_eq!(shop, "A 11.0.0.7, CNAME web.marathon.dclb.thisdcos.directory.");
    #[rustfmt::skip]
    let table = [
        ("out",  "CNAME example.com., to example.com."),
        ("far",  "CNAME example.com., CNAME out.component.thisdcos.directory., to example.com."),
        // The code is that of the chain's end, with the SOA record of its zone.
        ("gone", "CNAME no.marathon.mesos., to nxdomain mesos. SOA"),
        // A circle is gone round once.
        ("a",    "CNAME a.component.thisdcos.directory., CNAME b.component.thisdcos.directory."),
        ("self", "CNAME self.component.thisdcos.directory."),
    ];
    for (name, want) in table {
        assert_eq!(text(&format!("{name}.component.thisdcos.directory.")), want, "{name}");
    }
    let bare = short(ask(&zones, "bare.component.thisdcos.directory.", RecordType::MX, 0));
    assert_eq!(bare, "CNAME ready.spartan., to nodata spartan. SOA");
    let out = "out.component.thisdcos.directory.";
    assert_eq!(short(ask(&zones, out, RecordType::CNAME, 0)), "CNAME example.com.");
}

/// Where Mesos-DNS' ways and the RFCs' differ.
#[test]
fn both_modes() {
    use RecordType as T;
    let of = |mode| {
        let mut zones = Zones::new(&Options { mode, ttl: 9, ..Options::default() });
        let mut web = task("web.1", "web");
        web.container_addresses = vec!["9.0.1.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        add(&mut zones, &web);
        (web.task_id, web.name, web.phase) =
            ("late.1".into(), "late".into(), mizzen_types::fact::TaskPhase::Staging);
        add(&mut zones, &web);
        zones
    };
    let (strict, legacy) = (of(Mode::Strict), of(Mode::Legacy));
    let told = |zones: &Zones, name: &str, kind| short(ask(zones, name, kind, 0));
    let text = |task: &str| format!("TXT task {task} of framework m-0001 on node n1, for 75 s");
    let (web, late) = (text("web.1"), text("late.1") + ", left out: the task does not run yet");
    #[rustfmt::skip]
    let table: &[(&str, T, &str, &str)] = &[
        // name                      type      strict                          legacy
        ("web.marathon.mesos.",      T::A,     "A 9.0.1.5",                    "A 9.0.1.5"),
        ("web.marathon.mesos.",      T::ANY,   "A 9.0.1.5",                    "A 9.0.1.5, AAAA fd00::5"),
        ("web.marathon.mesos.",      T::MX,    "nodata mesos. SOA",            "nodata web.marathon.mesos. SOA"),
        ("no.mesos.",                T::A,     "nxdomain mesos. SOA",          "nxdomain no.mesos. SOA"),
        ("No.mesos.",                T::AAAA,  "nxdomain mesos. SOA",          "nxdomain No.mesos. SOA"),
        ("marathon.mesos.",          T::A,     "nodata mesos. SOA",            "nxdomain marathon.mesos. SOA"),
        ("late.marathon.mesos.",     T::A,     "nodata mesos. SOA",            "nxdomain late.marathon.mesos. SOA"),
        ("late.marathon.mesos.",     T::TXT,   &late,                          "nxdomain late.marathon.mesos. SOA"),
        ("web.marathon.mesos.",      T::TXT,   &web,                           "nodata web.marathon.mesos. SOA"),
        ("_no._tcp.mesos.",          T::SRV,   "nxdomain mesos. SOA",          "nodata -"),
        ("web.marathon.mesos.",      T::SRV,   "nodata mesos. SOA",            "nodata -"),
        ("web.marathon.mesos.",      T::SOA,   "nodata mesos. SOA",            "nodata web.marathon.mesos. SOA"),
        ("no.mesos.",                T::NS,    "nxdomain mesos. SOA",          "nodata no.mesos. NS"),
        ("mesos.",                   T::NS,    "NS ns1.mesos.",                "nodata mesos. NS"),
        ("no.thisdcos.directory.",   T::A,     "nxdomain thisdcos.directory. SOA", "nxdomain thisdcos.directory. SOA"),
        ("no.thisdcos.directory.",   T::SRV,   "nxdomain thisdcos.directory. SOA", "nxdomain thisdcos.directory. SOA"),
        ("spartan.",                 T::NS,    "NS ns.spartan.",               "NS ns.spartan."),
    ];
    for (name, kind, in_strict, in_legacy) in table {
        assert_eq!(told(&strict, name, *kind), *in_strict, "{name} {kind} strict");
        assert_eq!(told(&legacy, name, *kind), *in_legacy, "{name} {kind} legacy");
    }
    let ttl = |zones| match ask(zones, "no.mesos.", T::A, 0) {
        Answer::Nothing(Absence::NxDomain { soa }) => soa.map(|soa| soa.ttl),
        other => panic!("{other:?}"),
    };
    assert_eq!(ttl(&strict), Some(1));
    assert!(ttl(&legacy) >= Some(9), "as long as an answer");
}

#[test]
fn texts_that_were_set_are_all_there_are() {
    let mut zones = zones();
    for (kind, value) in [("TXT", "\"ours\""), ("A", "192.0.2.7")] {
        let fact = mizzen_types::fact::DnsRecordFact { values: vec![value.into()], ttl: Some(60) };
        for name in ["a.example", "b.example"].into_iter().take(if kind == "TXT" { 1 } else { 2 }) {
            let records = crate::by_hand::records(name, kind, &fact, &Options::default());
            let key = Key::DnsRecord(name.into(), kind.into());
            zones.set(OwnerKey::Fact { owner: "n1".into(), key }, records);
        }
    }
    let text = |name: &str| short(ask(&zones, name, RecordType::TXT, 0));
    assert_eq!(text("a.example."), "TXT ours");
    assert_eq!(text("b.example."), "nodata b.example. SOA");
}

#[test]
fn a_text_has_an_age_and_is_not_kept() {
    let Answer::Records { answers, .. } = ask(&zones(), "web.marathon.mesos.", RecordType::TXT, 0)
    else {
        panic!("no records")
    };
    assert!(answers.len() == 3 && answers.iter().all(|record| record.ttl == 0), "{answers:?}");
    let question = Query::query(Name::from_ascii("web.marathon.mesos.").unwrap(), RecordType::TXT);
    let asked = Asked { question: &question, turn: 0, room: 2, now: NOW };
    let Answer::Records { answers, cut, .. } = answer(&zones(), asked) else {
        panic!("no records")
    };
    assert_eq!((answers.len(), cut), (2, true));
}
