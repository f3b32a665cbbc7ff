use super::tests_support::{NAME, address, answer, name, negative, read, reply, sent, soa};
use super::*;
use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{CNAME, NULL};
use hickory_proto::rr::{RData, Record, RecordType};
use proptest::prelude::*;

fn asker(room: usize, opt: Option<Opt<'_>>) -> Asker<'_> {
    Asker {
        id: 99,
        name: b"\x03WWW\x07eXample\x03com\x00",
        kind: 1,
        class: 1,
        recursion_desired: true,
        checking_disabled: false,
        room,
        opt,
    }
}

/// Ends a change of a message.
fn put(_: &mut Message) {}

const OPT: Opt<'_> = Opt { payload: 1232, dnssec_ok: true, options: &[] };

fn written(relayed: &Relayed, room: usize, opt: Option<Opt<'_>>, age: Age) -> Message {
    let mut buffer = vec![0; 65535];
    let asker = asker(room, opt);
    let length = relayed.write(&asker, age, 0, &mut buffer).expect("room");
    assert!(length <= relayed.room_for(&asker) && length <= room);
    Message::from_vec(&buffer[..length]).expect("a message")
}

fn alias(owner: &str, target: &str, ttl: u32) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

#[test]
fn what_is_no_answer_is_told_apart() {
    type Change = fn(&mut Message);
    let a: Change = |m| put(m.add_answer(address("www.example.com.", 60, 1)));
    #[rustfmt::skip]
    let table: &[(&str, Change, Result<(), Unfit>)] = &[
        ("an answer",         a,                                                          Ok(())),
        ("another id",        |m| m.metadata.id = 8,                                      Err(Unfit::NotTheAnswer)),
        ("a question",        |m| m.metadata.message_type = MessageType::Query,           Err(Unfit::NotTheAnswer)),
        ("another name",      |m| { m.queries[0].set_name(name("wWw.example.org.")); },   Err(Unfit::NotTheAnswer)),
        ("a shorter name",    |m| { m.queries[0].set_name(name("example.com.")); },       Err(Unfit::NotTheAnswer)),
        ("another type",      |m| { m.queries[0].set_query_type(RecordType::AAAA); },     Err(Unfit::NotTheAnswer)),
        ("other capitals",    |m| { m.queries[0].set_name(name("www.example.com.")); },   Err(Unfit::Capitals)),
        ("no question",       |m| m.queries.clear(),                                      Err(Unfit::NotTheAnswer)),
        ("two questions",     |m| { let q = m.queries[0].clone(); m.add_query(q); },      Err(Unfit::NotTheAnswer)),
        ("only an error",     |m| { m.queries.clear(); m.metadata.response_code = ResponseCode::Refused; }, Ok(())),
        ("only a denial",     |m| { m.queries.clear(); m.metadata.response_code = ResponseCode::NXDomain; }, Err(Unfit::NotTheAnswer)),
        ("another's address", |m| put(m.add_answer(address("evil.example.", 60, 1))),    Err(Unfit::Foreign)),
        ("above the name",    |m| put(m.add_answer(address("example.com.", 60, 1))),     Err(Unfit::Foreign)),
        ("an alias",          |m| put(m.add_answers([alias("www.example.com.", "a.b.", 9), address("a.b.", 60, 1)])), Ok(())),
        ("aliases, shuffled", |m| put(m.add_answers([address("c.", 60, 1), alias("a.b.", "c.", 9), alias("www.example.com.", "A.b.", 9)])), Ok(())),
        ("behind the alias",  |m| put(m.add_answers([alias("www.example.com.", "a.b.", 9), address("c.", 60, 1)])), Err(Unfit::Foreign)),
        ("an alias in a circle", |m| put(m.add_answers([alias("www.example.com.", "a.", 9), alias("a.", "www.example.com.", 9)])), Ok(())),
        ("foreign additional", |m| put(m.add_additional(address("ns.example.", 60, 1))), Ok(())),
    ];
    for (what, change, want) in table {
        let mut message = reply();
        change(&mut message);
        let bytes = message.to_vec().expect("it is encoded");
        assert_eq!(Relayed::read(&bytes, &sent()).map(drop), *want, "{what}");
    }
    let mut short = reply();
    a(&mut short);
    let bytes = short.to_vec().expect("it is encoded");
    for length in 0..bytes.len() {
        Relayed::read(&bytes[..length], &sent()).expect_err("it is cut");
    }
}

#[test]
fn how_long_answers_are_worth_keeping() {
    type Change = fn(&mut Message);
    let nx: Change = |m| m.metadata.response_code = ResponseCode::NXDomain;
    let www = "www.example.com.";
    type Row = (&'static str, Vec<Record>, Vec<Record>, Change, Worth);
    let rows: Vec<Row> = vec![
        ("an address", vec![address(www, 60, 1)], vec![], |_| (), Worth::Positive(60)),
        (
            "the shortest of all",
            vec![alias(www, "a.b.", 30), address("a.b.", 60, 1)],
            vec![soa("example.com.", 20, 5)],
            |_| (),
            Worth::Positive(20),
        ),
        ("first bit", vec![address(www, 1 << 31, 1)], vec![], |_| (), Worth::Positive(0)),
        (
            "cut",
            vec![address(www, 60, 1)],
            vec![],
            |m| m.metadata.truncation = true,
            Worth::Nothing,
        ),
        ("does not exist", vec![], vec![soa("com.", 60, 90)], nx, Worth::Negative(60)),
        ("no such type", vec![], vec![soa(www, 60, 30)], |_| (), Worth::Negative(30)),
        ("no SOA record", vec![], vec![], nx, Worth::Nothing),
        ("another zone's SOA", vec![], vec![soa("org.", 60, 30)], nx, Worth::Nothing),
        ("a SOA from below", vec![], vec![soa("a.www.example.com.", 60, 30)], nx, Worth::Nothing),
        (
            "behind an alias",
            vec![alias(www, "a.b.", 10)],
            vec![soa("b.", 60, 30)],
            nx,
            Worth::Negative(10),
        ),
        (
            "the alias' zone",
            vec![alias(www, "a.b.", 10)],
            vec![soa("com.", 60, 30)],
            nx,
            Worth::Nothing,
        ),
        (
            "an error",
            vec![],
            vec![soa("com.", 60, 30)],
            |m| m.metadata.response_code = ResponseCode::ServFail,
            Worth::Nothing,
        ),
    ];
    for (what, answers, authorities, change, want) in rows {
        let mut message = reply();
        message.add_answers(answers).add_authorities(authorities);
        change(&mut message);
        assert_eq!(read(&message).worth(), want, "{what}");
    }
}

#[test]
fn a_client_gets_his_own_question_and_what_the_upstream_said() {
    let mut message = reply();
    let odd = RData::Unknown {
        code: RecordType::Unknown(65280),
        rdata: NULL::with(b"\x00anything\xff".to_vec()),
    };
    message
        .add_answer(address("wWw.example.com.", 60, 1))
        .add_answer(Record::from_rdata(name("www.example.com."), 50, odd))
        .add_authority(soa("example.com.", 40, 5))
        .add_additional(address("ns.example.com.", 30, 2));
    message.metadata.authentic_data = true;
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    edns.options_mut().insert(EdnsOption::Unknown(15, vec![0, 9]));
    message.set_edns(edns);
    let relayed = read(&message);

    let got = written(&relayed, 1232, None, Age::Fresh(35));
    assert_eq!((got.metadata.id, got.metadata.authoritative), (99, false));
    assert!(got.metadata.authentic_data && got.metadata.recursion_available);
    assert_eq!(got.queries[0].name().to_ascii(), "WWW.eXample.com.");
    assert_eq!(got.answers[0].name.to_ascii(), "WWW.eXample.com.", "it points at the question");
    assert_eq!(got.answers[1].data, message.answers[1].data);
    let ttl = |records: &[Record]| records.iter().map(|r| r.ttl).collect::<Vec<_>>();
    assert_eq!((ttl(&got.answers), ttl(&got.authorities)), (vec![25, 15], vec![5]));
    assert_eq!((ttl(&got.additionals), got.edns.is_none()), (vec![0], true));

    let got = written(&relayed, 1232, Some(OPT), Age::Stale);
    assert_eq!((ttl(&got.answers), ttl(&got.authorities)), (vec![30, 30], vec![30]));
    let edns = got.edns.expect("an OPT record");
    assert!(edns.flags().dnssec_ok && edns.max_payload() == 1232);
    assert_eq!(notices(&edns), [3], "a stale answer says so");
    let fresh = written(&relayed, 1232, Some(OPT), Age::Fresh(0)).edns.expect("an OPT record");
    assert_eq!(notices(&fresh), [9], "the upstream's is handed on");
    let stale = written(&negative(60, 60), 512, Some(OPT), Age::Stale);
    assert_eq!(notices(&stale.edns.expect("an OPT record")), [19]);
}

#[test]
fn addresses_begin_with_another_one_each_time() {
    let mut message = reply();
    let www = "wWw.example.com.";
    message.add_answers((1..4).map(|last| address(www, 60, last)));
    message.add_authority(soa("example.com.", 40, 5));
    let told = |message: &Message, turn, room| {
        let mut buffer = [0; 512];
        let relayed = read(message);
        let length = relayed.write(&asker(room, None), Age::Fresh(1), turn, &mut buffer);
        let got = Message::from_vec(&buffer[..length.expect("room")]).expect("a message");
        let lines = got.answers.iter().map(|r| format!("{} {}", r.data, r.ttl));
        (lines.collect::<Vec<_>>().join(", "), got.authorities.len())
    };
    let one = |first: u8| ["192.0.2.1 59", "192.0.2.2 59", "192.0.2.3 59"][usize::from(first) - 1];
    let order = |numbers: [u8; 3]| numbers.map(one).join(", ");
    for (turn, want) in [(0, [1, 2, 3]), (1, [2, 3, 1]), (2, [3, 1, 2]), (3, [1, 2, 3])] {
        assert_eq!(told(&message, turn, 512), (order(want), 1), "turn {turn}");
    }
    assert_eq!(told(&message, 1, 69), (format!("{}, {}", one(2), one(3)), 0), "cut");
    message.add_answer(alias(www, "a.b.", 60));
    assert!(told(&message, 1, 512).0.starts_with("192.0.2.1"), "others keep their places");
}

fn notices(edns: &Edns) -> Vec<u16> {
    let codes = edns.options().as_ref().iter().filter_map(|(_, option)| match option {
        EdnsOption::Unknown(15, data) => Some(u16::from_be_bytes([data[0], data[1]])),
        _ => None,
    });
    codes.collect()
}

#[test]
fn a_negative_answer_counts_down() {
    let got = written(&negative(900, 60), 512, None, Age::Fresh(45));
    assert_eq!(got.authorities[0].ttl, 15, "not 855: clients would start anew");
}

#[test]
fn codes_beyond_the_header_are_kept() {
    let mut message = reply();
    message.set_edns(Edns::new());
    message.metadata.response_code = ResponseCode::BADCOOKIE;
    let mut bytes = message.to_vec().expect("it is encoded");
    let at = bytes.len() - OPT_END;
    bytes[at] = 1;
    let relayed = Relayed::read(&bytes, &sent()).expect("it answers");
    assert_eq!(relayed.code(), 23);
    let got = written(&relayed, 512, Some(OPT), Age::Fresh(0));
    assert_eq!(got.metadata.response_code, ResponseCode::BADCOOKIE);
}

/// From the upper bits of the code to the end of an OPT record without options.
const OPT_END: usize = 6;

#[test]
fn options_of_our_own_and_notices_are_written() {
    let relayed = Relayed::bare(2, Some(Notice { code: 0, text: "too busy" }));
    let options = [0, 10, 0, 2, 7, 7];
    let opt = Opt { payload: 1232, dnssec_ok: false, options: &options };
    let mut buffer = [0; 512];
    let length =
        relayed.write(&asker(512, Some(opt)), Age::Fresh(0), 0, &mut buffer).expect("room");
    let tail = [&options[..], &[0, 15, 0, 10, 0, 0], b"too busy"].concat();
    assert!(buffer[..length].ends_with(&tail));
    let without = relayed.write(&asker(512, None), Age::Fresh(0), 0, &mut buffer).expect("room");
    assert_eq!(without, HEADER + NAME.len() + 4);
    assert_eq!(relayed.write(&asker(20, None), Age::Fresh(0), 0, &mut buffer), None);
}

#[test]
fn records_behind_the_opt_record_are_left_out() {
    let mut message = reply();
    message.add_answer(address("www.example.com.", 60, 1)).set_edns(Edns::new());
    let mut bytes = message.to_vec().expect("it is encoded");
    bytes.extend(b"\x00\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x09");
    bytes[11] += 1;
    let relayed = Relayed::read(&bytes, &sent()).expect("it answers");
    let got = written(&relayed, 512, Some(OPT), Age::Fresh(0));
    assert_eq!((got.answers.len(), got.additionals.len()), (1, 0));
}

proptest! {
    /// Whole records as far as there is room, and the TC bit if one is missed.
    #[test]
    fn replies_fit(
        counts in (0..40_u8, 0..20_u8, 0..20_u8),
        room in 100..1300_usize,
        edns in any::<bool>(),
    ) {
        let mut message = reply();
        let www = "www.example.com.";
        message.add_answers((0..counts.0).map(|last| address(www, 60, last)));
        message.add_authorities((0..counts.1).map(|last| address("example.com.", 60, last)));
        message.add_additionals((0..counts.2).map(|last| address("ns.example.com.", 60, last)));
        let relayed = read(&message);
        let got = written(&relayed, room, edns.then_some(OPT), Age::Fresh(1));
        let whole = got.answers.len() + got.authorities.len() == usize::from(counts.0 + counts.1);
        prop_assert_eq!(got.metadata.truncation, !whole);
        prop_assert_eq!(got.edns.is_some(), edns);
        let all = whole && got.additionals.len() == usize::from(counts.2);
        prop_assert!(all || room < 100 + 16 * usize::from(counts.0 + counts.1 + counts.2));
    }

    #[test]
    fn no_bytes_stop_the_reader(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in prop::collection::vec((0..120_usize, any::<u8>()), 0..6),
    ) {
        let mut message = reply();
        message.add_answers([alias("www.example.com.", "a.b.", 9), address("a.b.", 60, 1)]);
        message.add_authority(soa("example.com.", 40, 5)).set_edns(Edns::new());
        let mut spoiled = message.to_vec().expect("it is encoded");
        for (at, value) in at {
            let length = spoiled.len();
            spoiled[at % length] = value;
        }
        let question = spoiled[..33].to_vec();
        if bytes.len() > question.len() {
            bytes[..33].copy_from_slice(&question);
        }
        for bytes in [&spoiled, &bytes] {
            if let Ok(relayed) = Relayed::read(bytes, &sent()) {
                let mut buffer = [0; 600];
                for age in [Age::Fresh(9), Age::Stale] {
                    let length = relayed.write(&asker(600, Some(OPT)), age, 0, &mut buffer);
                    prop_assert!(length.is_none_or(|length| length <= 600));
                }
            }
        }
    }
}

#[test]
fn the_helpers_make_what_they_say() {
    assert_eq!(answer(60).worth(), Worth::Positive(60));
    assert_eq!(negative(60, 30).worth(), Worth::Negative(30));
}
