//! Both roads give the same answers.

use super::*;
use crate::hash::Seed;
use crate::name::DnsName;
use crate::options::Options;
use crate::owner::OwnerKey;
use crate::query::{Absence, Answer, Asked, answer};
use crate::record::{Data, Record, Withheld};
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use mizzen_types::time::Wall;
use mizzen_types::vip::Distance;
use proptest::prelude::*;

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

fn address(at: &str, low: u8) -> Record {
    Record::new(name(at), 5, Data::A([10, 0, 0, low].into()))
}

fn service(at: &str, port: u16, target: &str) -> Record {
    let target = name(target);
    Record::new(name(at), 5, Data::Srv { priority: 0, weight: 1, port, target })
}

fn zones(mode: Mode, records: Vec<Record>) -> Zones {
    let mut zones = Zones::new(&Options { mode, seed: Seed(3, 4), ..Options::default() });
    zones.set(OwnerKey::Static("test".into()), records);
    zones
}

fn message(name: &str, kind: u16) -> Message {
    let mut message = Message::query();
    let name = hickory_proto::rr::Name::from_ascii(name).expect("a name");
    message.add_query(Query::query(name, RecordType::from(kind)));
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message
}

/// Sends a message down the short road, with room for `room` bytes.
fn short(zones: &Zones, message: &Message, turn: u64, room: usize) -> (PlainAnswer, Vec<u8>) {
    let bytes = message.to_vec().expect("it is encoded");
    let question = PlainQuestion::parse(&bytes, zones.seed()).expect("plain");
    let mut reply = [vec![0; room]];
    let mut answers = [PlainAnswer::NotPlain];
    let turn = PlainTurn { number: turn, recursion_available: true };
    zones.answer_plain(&[question], turn, &mut reply, &mut answers);
    if let [PlainAnswer::Done { length, .. }] = answers {
        reply[0].truncate(length);
    }
    let [reply] = reply;
    (answers[0], reply)
}

/// Checks that a reply of the short road says what the full one does.
fn agree(zones: &Zones, message: &Message, turn: u64) -> Result<(), TestCaseError> {
    let (short, bytes) = short(zones, message, turn, 65_535);
    let asked = Asked { question: &message.queries[0], turn, room: 4000, now: Wall(0) };
    let full = answer(zones, asked);
    let PlainAnswer::Done { length, zone, code } = short else {
        let forward = full == Answer::Forward;
        prop_assert_eq!(short == PlainAnswer::Forward, forward, "{:?}", message.queries);
        return Ok(());
    };
    prop_assert!(length <= bytes.len());
    let reply = Message::from_vec(&bytes).expect("a message");
    let (want_code, answers, authorities, additionals) = match full {
        Answer::Records { answers, additionals, cut: false, .. } => {
            (ResponseCode::NoError, answers, Vec::new(), additionals)
        }
        Answer::Nothing(Absence::NoData { soa }) => {
            (ResponseCode::NoError, Vec::new(), Vec::from_iter(soa), vec![])
        }
        Answer::Nothing(Absence::NxDomain { soa }) => {
            (ResponseCode::NXDomain, Vec::new(), Vec::from_iter(soa), vec![])
        }
        other => return Err(TestCaseError::fail(format!("{other:?} for {message:?}"))),
    };
    let sorted = |records: &[hickory_proto::rr::Record]| {
        let mut lines: Vec<String> = records.iter().map(|r| r.to_string().to_lowercase()).collect();
        // The owner of an SOA record is the end of the name that was asked, capitals included.
        lines.sort();
        lines
    };
    prop_assert_eq!(sorted(&reply.answers), sorted(&answers));
    prop_assert_eq!(sorted(&reply.authorities), sorted(&authorities));
    prop_assert_eq!(sorted(&reply.additionals), sorted(&additionals));
    // In the same order, too: it is the same turn.
    prop_assert_eq!(&reply.answers, &answers);
    prop_assert_eq!(reply.metadata.response_code, want_code);
    prop_assert_eq!(code, u8::try_from(u16::from(want_code)).unwrap());
    let head = &reply.metadata;
    prop_assert_eq!((head.id, head.op_code), (message.metadata.id, OpCode::Query));
    prop_assert!(head.authoritative && head.recursion_available && !head.truncation);
    prop_assert_eq!(head.recursion_desired, message.metadata.recursion_desired);
    prop_assert_eq!(head.checking_disabled, message.metadata.checking_disabled);
    prop_assert!(!head.authentic_data);
    prop_assert!(reply.queries[0].name().eq_case(message.queries[0].name()));
    prop_assert_eq!(&reply.queries, &message.queries);
    prop_assert_eq!(reply.edns.is_some(), message.edns.is_some());
    if let (Some(edns), Some(asked)) = (&reply.edns, &message.edns) {
        prop_assert_eq!(edns.max_payload(), UDP_PAYLOAD);
        prop_assert_eq!(edns.flags().dnssec_ok, asked.flags().dnssec_ok);
    }
    let apex = zones.zone_name(zone).expect("a zone");
    let asked = DnsName::from_wire(message.queries[0].name());
    prop_assert!(asked.before(apex).is_some());
    Ok(())
}

#[test]
fn which_questions_are_plain() {
    let records = || {
        vec![
            address("w.m.mesos", 1),
            service("_w._tcp.m.mesos", 80, "w.m.mesos"),
            Record::new(name("c.m.mesos"), 5, Data::Cname(name("w.m.mesos"))),
            Record::new(name("p.m.mesos"), 5, Data::Ptr(name("w.m.mesos"))),
            Record { withheld: Some(Withheld::Starting), ..address("late.m.mesos", 2) },
        ]
    };
    use PlainAnswer::{Forward, NotPlain};
    let (strict, legacy) = (zones(Mode::Strict, records()), zones(Mode::Legacy, records()));
    let done = |code| PlainAnswer::Done { length: 0, zone: ZoneNumber(0), code };
    #[rustfmt::skip]
    let table: &[(&str, u16, PlainAnswer, PlainAnswer)] = &[
        ("w.m.mesos.",                 1,   done(0),  done(0)),
        ("W.m.MESOS.",                 1,   done(0),  done(0)),
        ("_w._tcp.m.mesos.",           33,  done(0),  done(0)),
        ("p.m.mesos.",                 12,  done(0),  done(0)),
        ("c.m.mesos.",                 5,   done(0),  done(0)),
        ("c.m.mesos.",                 1,   NotPlain, NotPlain),
        ("w.m.mesos.",                 28,  done(0),  NotPlain),
        ("w.m.mesos.",                 65,  done(0),  NotPlain),
        ("late.m.mesos.",              1,   done(0),  NotPlain),
        ("m.mesos.",                   1,   done(0),  NotPlain),
        ("no.m.mesos.",                1,   done(3),  NotPlain),
        ("mesos.",                     6,   done(0),  NotPlain),
        ("mesos.",                     2,   done(0),  NotPlain),
        ("no.thisdcos.directory.",     1,   done(3),  done(3)),
        ("thisdcos.directory.",        6,   done(0),  done(0)),
        ("w.m.mesos.",                 16,  NotPlain, NotPlain),
        ("late.m.mesos.",              16,  NotPlain, NotPlain),
        ("no.m.mesos.",                16,  NotPlain, NotPlain),
        ("w.m.mesos.",                 255, NotPlain, NotPlain),
        ("w.m.mesos.",                 252, NotPlain, NotPlain),
        ("w.*.m.mesos.",               1,   NotPlain, NotPlain),
        ("w.m.mesos.thisdcos.directory.", 1, NotPlain, NotPlain),
        ("example.com.",               1,   Forward,  Forward),
        ("*.example.com.",             1,   Forward,  Forward),
        (".",                          2,   Forward,  Forward),
    ];
    for (name, kind, in_strict, in_legacy) in table {
        for (zones, want) in [(&strict, in_strict), (&legacy, in_legacy)] {
            let got = match short(zones, &message(name, *kind), 0, 1232).0 {
                PlainAnswer::Done { code, .. } => done(code),
                other => other,
            };
            assert_eq!(got, *want, "{name} {kind} {:?}", zones.mode());
        }
    }
}

#[test]
fn what_does_not_fit_is_left_to_the_full_road() {
    let records: Vec<Record> = (0..40).map(|low| address("w.m.mesos", low)).collect();
    let zones = zones(Mode::Strict, records);
    let mut message = message("w.m.mesos.", 1);
    assert_eq!(short(&zones, &message, 0, 1232).0, PlainAnswer::NotPlain, "512 bytes");
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    let (answer, bytes) = short(&zones, &message, 0, 1232);
    let PlainAnswer::Done { length, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(length, bytes.len());
    for room in 0..length {
        assert_eq!(short(&zones, &message, 0, room).0, PlainAnswer::NotPlain, "{room}");
    }
    assert_eq!(short(&zones, &message, 0, length).0, answer);
}

#[test]
fn the_nearest_come_first_and_take_turns() {
    let records: Vec<Record> = (0..12)
        .map(|low| {
            let distance = [Distance::Node, Distance::Zone, Distance::Far][usize::from(low / 4)];
            Record { distance, ..address("w.m.mesos", low) }
        })
        .collect();
    let zones = zones(Mode::Strict, records);
    let mut firsts = [[0_u32; 4]; 3];
    for turn in 0..4000 {
        let (_, bytes) = short(&zones, &message("w.m.mesos.", 1), turn, 1232);
        let reply = Message::from_vec(&bytes).expect("a message");
        let last: Vec<usize> = reply
            .answers
            .iter()
            .map(|record| match &record.data {
                hickory_proto::rr::RData::A(address) => usize::from(address.octets()[3]),
                other => panic!("{other}"),
            })
            .collect();
        for (class, chunk) in last.chunks(4).enumerate() {
            assert!(chunk.iter().all(|low| low / 4 == class), "{last:?}");
            firsts[class][chunk[0] % 4] += 1;
        }
    }
    assert!(firsts.iter().flatten().all(|count| count.abs_diff(1000) < 50), "{firsts:?}");
}

#[test]
fn a_batch_is_answered_as_one_by_one() {
    let records: Vec<Record> = (0..200_u8)
        .flat_map(|low| {
            let at = format!("t{low}.m.mesos");
            [address(&at, low), service(&format!("_t{low}._tcp.m.mesos"), 80, &at)]
        })
        .collect();
    let zones = zones(Mode::Strict, records);
    let ask = |n: usize| match n % 3 {
        0 => message(&format!("t{n}.m.mesos."), 1),
        1 => message(&format!("_t{n}._tcp.m.mesos."), 33),
        _ => message(&format!("n{n}.m.mesos."), 1),
    };
    let messages: Vec<Vec<u8>> = (0..150).map(|n| ask(n).to_vec().unwrap()).collect();
    let questions: Vec<PlainQuestion<'_>> =
        messages.iter().map(|m| PlainQuestion::parse(m, zones.seed()).unwrap()).collect();
    let mut replies = vec![vec![0; 512]; 149];
    let mut answers = vec![PlainAnswer::NotPlain; 150];
    let turn = PlainTurn { number: 7, recursion_available: true };
    zones.answer_plain(&questions, turn, &mut replies, &mut answers);
    for n in 0..149 {
        let (answer, bytes) = short(&zones, &ask(n), 7 + n as u64, 512);
        assert_eq!(answers[n], answer);
        assert!(replies[n].starts_with(&bytes));
    }
    assert_eq!(answers[149], PlainAnswer::NotPlain, "it had no buffer");
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let place = || {
        prop::sample::select(vec![
            "a.mesos",
            "b.a.mesos",
            "mesos",
            "_s._tcp.mesos",
            "_t._tcp.mesos",
            "c.mesos",
            "x.dclb.thisdcos.directory",
            "d.component.thisdcos.directory",
            "e.example",
        ])
    };
    let data = prop_oneof![
        4 => (0..60_u8).prop_map(|low| Data::A([10, 0, 0, low].into())),
        2 => (0..3_u8).prop_map(|low| Data::Aaaa([low; 16].into())),
        4 => (0..9_u16, place()).prop_map(|(port, target)| Data::Srv {
            priority: 0, weight: 1, port, target: name(target)
        }),
        1 => place().prop_map(|target| Data::Ptr(name(target))),
        1 => place().prop_map(|target| Data::Cname(name(target))),
        1 => Just(Data::Txt(vec![b"text".to_vec()])),
        1 => Just(Data::Raw { kind: 4711, bytes: vec![0, 1, 2] }),
    ];
    let withheld = prop_oneof![
        5 => Just(None),
        1 => Just(Some(Withheld::Starting)),
        1 => Just(Some(Withheld::Killing)),
    ];
    let distance = prop::sample::select(vec![Distance::Node, Distance::Zone, Distance::Far]);
    let one = (place(), data, 1..9_u32, withheld, distance).prop_map(
        |(at, data, ttl, withheld, distance)| Record {
            name: name(at),
            data,
            ttl,
            withheld,
            distance,
        },
    );
    prop::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn both_roads_agree(
        records in any_records(),
        legacy in any::<bool>(),
        questions in prop::collection::vec((
            prop::sample::select(vec![
                "A.mesos.", "b.a.mesos.", "mesos.", "_s._tcp.mesos.", "_T._tcp.MESOS.", "c.mesos.",
                "_tcp.mesos.", "no.mesos.", "no.a.mesos.", "x.dclb.thisdcos.directory.",
                "x.l4lb.thisdcos.directory.", "d.component.thisdcos.directory.", "e.example.",
                "example.", "*.mesos.", "a.*.mesos.", "ready.spartan.", "a.mesos.thisdcos.global.",
            ]),
            prop::sample::select(vec![1_u16, 28, 33, 6, 2, 5, 12, 16, 255, 65, 15, 4711]),
            any::<u64>(),
            prop::option::of((any::<u16>(), any::<bool>())),
            any::<(bool, bool)>(),
        ), 1..40),
    ) {
        let zones = zones(if legacy { Mode::Legacy } else { Mode::Strict }, records);
        for (name, kind, turn, edns, flags) in questions {
            let mut message = message(name, kind);
            (message.metadata.recursion_desired, message.metadata.checking_disabled) = flags;
            if let Some((size, dnssec_ok)) = edns {
                let mut edns = Edns::new();
                edns.set_max_payload(size).set_dnssec_ok(dnssec_ok);
                message.set_edns(edns);
            }
            prop_assert_eq!(message.queries[0].query_class(), DNSClass::IN);
            agree(&zones, &message, turn)?;
        }
    }
}
