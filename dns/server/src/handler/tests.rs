//! The full road as a table and as properties: bytes in, bytes out.

use super::*;
use crate::access::Access;
use crate::forward::{ForwardSettings, Forwarder};
use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use mizzen_dns_core::{Data, Options, OwnerKey, Zones};
use proptest::prelude::*;
use std::time::Duration;

fn handler(tasks: u16) -> Handler {
    let mut zones = Zones::new(&Options::default());
    let name = DnsName::parse("web.m.mesos").expect("a name");
    let service = DnsName::parse("_web._tcp.m.mesos").expect("a name");
    for task in 0..tasks {
        let [high, low] = task.to_be_bytes();
        let data = Data::A([10, 0, high, low].into());
        let srv = Data::Srv { priority: 0, weight: 1, port: task, target: name.clone() };
        let record = |name: &DnsName, data| mizzen_dns_core::Record::new(name.clone(), 5, data);
        let records = vec![record(&name, data), record(&service, srv)];
        zones.set(OwnerKey::Static(task.to_string()), records);
    }
    let zones = Arc::new(SharedZones::new(zones));
    let none = ForwardSettings::default();
    let forwarder = Forwarder::new(&none, Arc::clone(&zones), &[], None).expect("a forwarder");
    let identity = Identity {
        nsid: Some(b"node-1".to_vec()),
        cookie_secret: [7; 16],
        tcp_idle: Duration::from_secs(10),
    };
    Handler::new(zones, Rules { forwarder, access: Access::default() }, identity)
}

/// Takes bytes the whole way.
fn road(handler: &Handler, bytes: &[u8], protocol: Protocol) -> Option<Vec<u8>> {
    let client = ([127, 0, 0, 1], 4000).into();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    match runtime.block_on(handler.take(bytes.to_vec(), client, protocol)) {
        Outcome::Reply(bytes, _) => Some(bytes),
        Outcome::Nothing | Outcome::Transfer(..) => None,
    }
}

fn question() -> Message {
    let mut message = Message::query();
    let name = Name::from_ascii("web.m.mesos.").expect("a name");
    message.add_query(Query::query(name, RecordType::A));
    message
}

fn with_option(option: EdnsOption) -> Message {
    let mut message = question();
    let mut edns = Edns::new();
    edns.options_mut().insert(option);
    message.set_edns(edns);
    message
}

fn ask(handler: &Handler, message: &Message, protocol: Protocol) -> Message {
    let bytes = message.to_vec().expect("it is encoded");
    let reply = road(handler, &bytes, protocol).expect("a reply");
    Message::from_vec(&reply).expect("a message")
}

fn option(message: &Message, code: u16) -> Option<Vec<u8>> {
    match message.edns.as_ref()?.option(EdnsCode::from(code))? {
        EdnsOption::Unknown(_, data) => Some(data.clone()),
        EdnsOption::NSID(data) => Some(data.as_ref().to_vec()),
        _ => Some(Vec::new()),
    }
}

#[test]
fn options_are_answered_or_ignored() {
    let handler = handler(1);
    let nsid = EdnsOption::NSID(
        hickory_proto::rr::rdata::opt::NSIDPayload::new(Vec::new()).expect("an empty one"),
    );
    #[rustfmt::skip]
    let table: &[(&str, EdnsOption, Protocol, u16, Option<usize>)] = &[
        ("NSID",                nsid,                                 Protocol::Udp, 3,  Some(6)),
        ("half a cookie",       EdnsOption::Unknown(10, vec![1; 8]),  Protocol::Udp, 10, Some(24)),
        ("a whole cookie",      EdnsOption::Unknown(10, vec![1; 24]), Protocol::Udp, 10, Some(24)),
        ("keepalive by TCP",    EdnsOption::Unknown(11, vec![]),      Protocol::Tcp, 11, Some(2)),
        ("keepalive by UDP",    EdnsOption::Unknown(11, vec![]),      Protocol::Udp, 11, None),
        ("padding",             EdnsOption::Unknown(12, vec![0; 99]), Protocol::Udp, 12, None),
        ("an unknown one",      EdnsOption::Unknown(4096, vec![1]),   Protocol::Udp, 4096, None),
    ];
    for (what, asked, protocol, code, length) in table {
        let reply = ask(&handler, &with_option(asked.clone()), *protocol);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{what}");
        assert_eq!(reply.answers.len(), 1, "{what}");
        assert_eq!(option(&reply, *code).map(|data| data.len()), *length, "{what}");
    }
    let malformed = ask(&handler, &with_option(EdnsOption::Unknown(10, vec![1; 9])), Protocol::Udp);
    assert_eq!(malformed.metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn a_cookie_may_be_asked_for_without_a_question() {
    let handler = handler(1);
    let mut message = with_option(EdnsOption::Unknown(10, vec![1; 8]));
    message.queries.clear();
    let reply = ask(&handler, &message, Protocol::Udp);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(option(&reply, 10).map(|cookie| cookie.len()), Some(24));
    message.set_edns(Edns::new());
    let reply = ask(&handler, &message, Protocol::Udp);
    assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn refusals_come_with_a_reason() {
    let closed = handler(1);
    let forwarder = closed.rules.get().forwarder.clone();
    let access = Access { clients: Vec::new(), ..Access::default() };
    closed.rules.set(Rules { forwarder, access });
    let reason = |name: &str, kind| {
        let mut message = with_option(EdnsOption::Unknown(12, vec![]));
        message.queries = vec![Query::query(Name::from_ascii(name).expect("a name"), kind)];
        let reply = ask(&closed, &message, Protocol::Udp);
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{name}");
        let data = option(&reply, 15).expect("an extended error");
        u16::from_be_bytes([data[0], data[1]])
    };
    assert_eq!(reason("example.com.", RecordType::A), 18, "a stranger");
    assert_eq!(reason("mesos.", RecordType::AXFR), 18, "not a secondary");
    assert_eq!(reason("mesos.", RecordType::IXFR), 18, "not a secondary");
}

#[test]
fn what_cannot_be_read_is_answered_as_far_as_it_could() {
    let handler = handler(1);
    let good = question().to_vec().expect("it is encoded");
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    #[rustfmt::skip]
    let table: &[(&str, Vec<u8>, Option<u8>)] = &[
        ("nothing",             vec![], None),
        ("half a header",       good[..11].to_vec(), None),
        ("a header",            good[..12].to_vec(), Some(1)),
        ("half a question",     good[..20].to_vec(), Some(1)),
        ("a reply",             with(|b| b[2] |= 0x80), None),
        ("65,535 questions",    with(|b| b[4..6].fill(255)), Some(1)),
        ("an unknown opcode",   with(|b| b[2] = 15 << 3), Some(4)),
        ("an update, cut",      with(|b| { b[2] = 5 << 3; b.truncate(15); }), Some(4)),
        ("reserved flag",       with(|b| b[3] |= 0x40), Some(0)),
        ("AD and CD",           with(|b| b[3] |= 0x30), Some(0)),
        ("AA, TC and RA",       with(|b| { b[2] |= 0x06; b[3] |= 0x80; }), Some(0)),
        ("an error code",       with(|b| b[3] |= 0x0f), Some(0)),
    ];
    for (what, bytes, code) in table {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let reply = road(&handler, bytes, protocol);
            assert_eq!(reply.as_ref().map(|reply| reply[3] & 0x0f), *code, "{what}");
            if let Some(reply) = reply {
                assert_eq!(reply[..2], bytes[..2], "{what}: the number is repeated");
                assert_eq!(reply[2] & 0xf8, 0x80 | bytes[2] & 0x78, "{what}: opcode");
                assert_eq!(reply[3] & 0x40, 0, "{what}: the reserved flag is never set");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_stop_the_road(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
        header in any::<bool>(),
    ) {
        // A plausible header leads further in than pure noise does.
        if header && bytes.len() > 12 {
            bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        }
        let handler = handler(3);
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let reply = road(&handler, &bytes, protocol);
            let deserves = bytes.len() >= 12 && bytes[2] & 0x80 == 0;
            prop_assert_eq!(reply.is_some(), deserves);
        }
    }

    #[test]
    fn no_spoiled_question_stops_the_road(
        at in prop::collection::vec((0..60_usize, any::<u8>()), 1..8)
    ) {
        let mut message = question();
        message.set_edns(Edns::new());
        let mut bytes = message.to_vec().expect("it is encoded");
        for (at, value) in at {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        let handler = handler(3);
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let reply = road(&handler, &bytes, protocol);
            prop_assert_eq!(reply.is_some(), bytes[2] & 0x80 == 0);
            if let Some(reply) = reply {
                prop_assert!(Message::from_vec(&reply).is_ok());
            }
        }
    }

    /// Whatever is asked, the reply fits what the client takes, and what had to go
    /// is announced.
    #[test]
    fn replies_fit(
        tasks in 0..400_u16,
        payload in prop::option::of(any::<u16>()),
        kind in prop::sample::select(vec![RecordType::A, RecordType::SRV]),
    ) {
        let handler = handler(tasks);
        let mut message = Message::query();
        let name = if kind == RecordType::A { "WEB.m.mesos." } else { "_web._TCP.m.mesos." };
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let bytes = message.to_vec().expect("it is encoded");
        let limit = payload.map_or(512, |payload| payload.clamp(512, 1232));
        let udp = road(&handler, &bytes, Protocol::Udp).expect("a reply");
        prop_assert!(udp.len() <= usize::from(limit), "{} > {limit}", udp.len());
        let udp = Message::from_vec(&udp).expect("a message");
        prop_assert_eq!(udp.metadata.truncation, udp.answers.len() < usize::from(tasks));
        prop_assert_eq!(udp.edns.is_some(), payload.is_some());
        let tcp = road(&handler, &bytes, Protocol::Tcp).expect("a reply");
        let tcp = Message::from_vec(&tcp).expect("a message");
        prop_assert_eq!(tcp.answers.len(), usize::from(tasks));
        prop_assert!(!tcp.metadata.truncation);
        prop_assert_eq!(tcp.edns.is_some(), payload.is_some());
    }
}
