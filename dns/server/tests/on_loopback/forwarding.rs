//! Names that are somebody else's, asked of upstreams on loopback.

use crate::common::{PATIENCE, Resolver, loopback, question, with_edns};
use crate::fake::{Fake, Script};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mizzen_dns_core::{self as core, Options, Zones};
use mizzen_dns_server::{ForwardSettings, Server, Settings, SharedZones, Sockets};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn reply(asked: &Message, addresses: &[[u8; 4]]) -> Message {
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.add_queries(asked.queries.clone());
    let name = asked.queries[0].name().clone();
    reply.add_answers(
        addresses
            .iter()
            .map(|address| Record::from_rdata(name.clone(), 60, RData::A(A((*address).into())))),
    );
    reply
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("it is encoded")
}

fn good(asked: &Message) -> Vec<Vec<u8>> {
    vec![bytes(&reply(asked, &[[192, 0, 2, 1]]))]
}

fn other(asked: &Message) -> Vec<Vec<u8>> {
    vec![bytes(&reply(asked, &[[192, 0, 2, 2]]))]
}

fn silent(_: &Message) -> Vec<Vec<u8>> {
    Vec::new()
}

fn failing(asked: &Message) -> Vec<Vec<u8>> {
    vec![bytes(&Message::error_msg(
        asked.metadata.id,
        asked.metadata.op_code,
        ResponseCode::ServFail,
    ))]
}

fn unknown(asked: &Message) -> Vec<Vec<u8>> {
    let mut reply = reply(asked, &[]);
    reply.metadata.response_code = ResponseCode::NXDomain;
    vec![bytes(&reply)]
}

/// First everything that must not be believed, then the truth.
fn lying(asked: &Message) -> Vec<Vec<u8>> {
    let lie = [[203, 0, 113, 66]];
    let mut wrong_id = reply(asked, &lie);
    wrong_id.metadata.id ^= 1;
    let mut wrong_name = reply(asked, &lie);
    wrong_name.queries[0].set_name(Name::from_ascii("evil.example.").expect("a name"));
    let mut wrong_type = reply(asked, &lie);
    wrong_type.queries[0].set_query_type(RecordType::AAAA);
    let mut no_question = reply(asked, &lie);
    no_question.queries.clear();
    let mut no_reply = reply(asked, &lie);
    no_reply.metadata.message_type = MessageType::Query;
    let mut packets: Vec<Vec<u8>> =
        [wrong_id, wrong_name, wrong_type, no_question, no_reply].iter().map(bytes).collect();
    packets.extend([vec![], vec![0; 12], vec![255; 300]]);
    packets.extend(good(asked));
    packets
}

fn truncated(asked: &Message) -> Vec<Vec<u8>> {
    let mut reply = reply(asked, &[]);
    reply.metadata.truncation = true;
    vec![bytes(&reply)]
}

fn many(asked: &Message) -> Vec<Vec<u8>> {
    let addresses: Vec<[u8; 4]> = (0..200).map(|last| [192, 0, 2, last]).collect();
    vec![bytes(&reply(asked, &addresses))]
}

/// An address where nobody listens to us: the port is held by a socket that hears only
/// somebody else, so that no other test can get it.
fn dead() -> UdpSocket {
    let socket = UdpSocket::bind(loopback(0)).expect("a port");
    socket.connect(loopback(1)).expect("a peer");
    socket
}

fn outcome(reply: &Message) -> (ResponseCode, Vec<String>) {
    let answers = reply.answers.iter().map(|record| record.data.to_string()).collect();
    (reply.metadata.response_code, answers)
}

fn forwarding(forward: ForwardSettings) -> Resolver {
    Resolver::start(Settings { forward, ..Settings::default() })
}

fn short_patience(upstreams: Vec<SocketAddr>) -> Resolver {
    let upstreams = upstreams.into_iter().map(core::Upstream::plain).collect();
    let deadline = Duration::from_secs(1);
    forwarding(ForwardSettings { upstreams, deadline, ..ForwardSettings::default() })
}

#[test]
fn other_names_are_answered_by_the_upstream() {
    let upstream = Fake::scripted(good, silent);
    let resolver = Resolver::forwarding(vec![upstream.address]);
    let asked = with_edns(question("WwW.example.COM.", RecordType::A), 1232);
    for answer in [resolver.udp(&asked), resolver.tcp(&asked)] {
        assert_eq!(outcome(&answer), (ResponseCode::NoError, vec!["192.0.2.1".to_owned()]));
        assert_eq!(answer.queries, asked.queries);
        assert_eq!(answer.answers[0].name.to_ascii(), "WwW.example.COM.");
        assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
        assert!(answer.edns.is_some());
    }
    let ours = resolver.udp(&question("ready.spartan.", RecordType::A));
    assert_eq!(outcome(&ours).1, ["127.0.0.1"], "our own names are not forwarded");
}

#[test]
fn bad_upstreams_are_hidden_by_good_ones() {
    let ok = || (ResponseCode::NoError, vec!["192.0.2.1".to_owned()]);
    let fail = || (ResponseCode::ServFail, vec![]);
    type Row<'a> = (&'a str, &'a [Option<Script>], (ResponseCode, Vec<String>));
    #[rustfmt::skip]
    let table: &[Row<'_>] = &[
        ("dead and good",             &[None, Some(good)],                       ok()),
        ("good and dead",             &[Some(good), None],                       ok()),
        ("silent and good",           &[Some(silent), Some(good)],               ok()),
        ("failing and good",          &[Some(failing), Some(good)],              ok()),
        ("lying",                     &[Some(lying)],                            ok()),
        ("lying and silent",          &[Some(lying), Some(silent)],              ok()),
        ("two dead, then good",       &[None, None, Some(good)],                 ok()),
        ("dead",                      &[None],                                   fail()),
        ("dead twice",                &[None, None],                             fail()),
        ("silent twice",              &[Some(silent), Some(silent)],             fail()),
        ("failing and silent",        &[Some(failing), Some(silent)],            fail()),
        ("a name that does not exist", &[Some(unknown), None],                   (ResponseCode::NXDomain, vec![])),
    ];
    std::thread::scope(|scope| {
        for (what, scripts, want) in table {
            scope.spawn(move || assert_eq!(outcome(&asked_of(scripts)), *want, "{what}"));
        }
    });
}

/// What a client gets whose resolver has these upstreams; none is a dead one.
fn asked_of(scripts: &[Option<Script>]) -> Message {
    let running: Vec<Option<Fake>> =
        scripts.iter().map(|script| script.map(|udp| Fake::scripted(udp, silent))).collect();
    let dead: Vec<UdpSocket> = scripts.iter().map(|_| dead()).collect();
    let held = dead.iter().map(|socket| socket.local_addr().expect("its address"));
    let addresses =
        running.iter().zip(held).map(|(u, dead)| u.as_ref().map_or(dead, |u| u.address));
    Resolver::forwarding(addresses.collect()).udp(&question("www.example.com.", RecordType::A))
}

/// Understands no question with an OPT record; some such servers repeat the question.
fn old_school(asked: &Message) -> Vec<Vec<u8>> {
    if asked.edns.is_none() {
        return good(asked);
    }
    let mut reply = reply(asked, &[]);
    reply.metadata.response_code = ResponseCode::FormErr;
    vec![bytes(&reply)]
}

/// The same, without the question and with another code.
fn older_school(asked: &Message) -> Vec<Vec<u8>> {
    match asked.edns {
        None => good(asked),
        Some(_) => {
            let (id, code) = (asked.metadata.id, asked.metadata.op_code);
            vec![bytes(&Message::error_msg(id, code, ResponseCode::NotImp))]
        }
    }
}

fn not_implemented(asked: &Message) -> Vec<Vec<u8>> {
    let (id, code) = (asked.metadata.id, asked.metadata.op_code);
    vec![bytes(&Message::error_msg(id, code, ResponseCode::NotImp))]
}

#[test]
fn upstreams_without_edns_are_asked_without() {
    for script in [old_school, older_school] {
        let upstream = Fake::scripted(script, silent);
        let resolver = Resolver::forwarding(vec![upstream.address]);
        for name in ["a.example.", "b.example."] {
            let answer = resolver.udp(&with_edns(question(name, RecordType::A), 1232));
            assert_eq!(outcome(&answer), (ResponseCode::NoError, vec!["192.0.2.1".to_owned()]));
            assert!(answer.edns.is_some(), "what the client may say is between it and us");
        }
        let asked = resolver.server.forwarding().upstreams[0].queries;
        assert_eq!(asked, 2);
    }
    let upstream = Fake::scripted(not_implemented, silent);
    let resolver = short_patience(vec![upstream.address]);
    let answer = resolver.udp(&question("a.example.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
}

#[test]
fn upstreams_that_come_back_are_asked_again() {
    let upstream = UdpSocket::bind(loopback(0)).expect("a port");
    let resolver = short_patience(vec![upstream.local_addr().expect("its address")]);
    let asked = |name: &str| question(name, RecordType::A);
    let receive = || {
        let mut buffer = [0; 512];
        let (length, client) = upstream.recv_from(&mut buffer).expect("a question");
        (Message::from_vec(&buffer[..length]).expect("a message"), client)
    };
    let fails = resolver.udp(&asked("www.example.com."));
    assert_eq!(fails.metadata.response_code, ResponseCode::ServFail);
    // A packet may have been lost.
    upstream.set_nonblocking(true).expect("a flag");
    let asked_before = std::iter::from_fn(|| upstream.recv_from(&mut [0; 512]).ok()).count();
    assert_eq!(asked_before, 3);
    upstream.set_nonblocking(false).expect("a flag");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (asked, client) = receive();
            upstream.send_to(&good(&asked)[0], client).expect("it is sent");
        });
        let end = Instant::now() + PATIENCE;
        let answers = |number| {
            let name = format!("www{number}.example.com.");
            outcome(&resolver.udp(&asked(&name))).1 == ["192.0.2.1"]
        };
        assert!((0..).take_while(|_| Instant::now() < end).any(answers), "it never is back");
    });
}

/// As a resolver does that waits in vain for the servers of other names.
fn picky(asked: &Message) -> Vec<Vec<u8>> {
    match asked.queries[0].name().to_lowercase().to_ascii().starts_with("good") {
        true => good(asked),
        false => Vec::new(),
    }
}

#[test]
fn a_name_that_is_never_answered_takes_no_upstream_down() {
    let upstream = Fake::scripted(picky, silent);
    let resolver = short_patience(vec![upstream.address]);
    let asked = |name: &str| question(name, RecordType::A);
    let is_answered = |name: &str| outcome(&resolver.udp(&asked(name))).1 == ["192.0.2.1"];
    let fails = resolver.udp(&asked("bad.example."));
    assert_eq!(fails.metadata.response_code, ResponseCode::ServFail);
    assert!(is_answered("good-1.example."), "after one such name");
    let ask = |number: u8| {
        let client = resolver.socket();
        client.send(&bytes(&asked(&format!("bad-{number}.example.")))).expect("it is sent");
        client
    };
    let clients: Vec<UdpSocket> = (0..4).map(ask).collect();
    assert!(is_answered("good-2.example."), "meanwhile");
    for client in &clients {
        client.recv(&mut [0; 512]).expect("a reply");
    }
    assert!(is_answered("good-3.example."), "after several at once");
}

#[test]
fn what_upstream_cut_is_fetched_by_tcp() {
    let upstream = Fake::scripted(truncated, many);
    let resolver = Resolver::forwarding(vec![upstream.address]);
    let asked = question("many.example.com.", RecordType::A);
    let whole = resolver.tcp(&asked);
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (200, false));
    let part = resolver.udp(&with_edns(asked.clone(), 1232));
    assert!(part.metadata.truncation && part.answers.len() > 50, "{}", part.answers.len());
    let plain = resolver.udp(&asked);
    assert!(plain.metadata.truncation && plain.answers.len() < part.answers.len());

    let stuck = Fake::scripted(truncated, silent);
    let resolver = short_patience(vec![stuck.address]);
    assert!(resolver.udp(&asked).metadata.truncation, "the client may try by itself");
}

#[test]
fn zones_have_resolvers_of_their_own() {
    let (rest, corp) = (Fake::scripted(good, silent), Fake::scripted(other, silent));
    let zones = BTreeMap::from([
        ("corp.example".to_owned(), vec![corp.address.into()]),
        ("blocked.example".to_owned(), vec![]),
        ("mesos".to_owned(), vec![corp.address.into()]),
    ]);
    let upstreams = vec![rest.address.into()];
    let resolver = forwarding(ForwardSettings { upstreams, zones, ..ForwardSettings::default() });
    #[rustfmt::skip]
    let table = [
        ("www.example.",         ResponseCode::NoError,  "192.0.2.1"),
        ("www.Corp.Example.",    ResponseCode::NoError,  "192.0.2.2"),
        ("www.blocked.example.", ResponseCode::Refused,  ""),
        ("www.mesos.",           ResponseCode::NXDomain, ""),
    ];
    for (name, code, address) in table {
        let answer = outcome(&resolver.udp(&question(name, RecordType::A)));
        assert_eq!((answer.0, answer.1.concat().as_str()), (code, address), "{name}");
    }
    let zones = BTreeMap::from([("a..b".to_owned(), vec![])]);
    let forward = ForwardSettings { zones, ..ForwardSettings::default() };
    let settings = Settings { forward, ..Settings::default() };
    let zones = Arc::new(SharedZones::new(Zones::new(&Options::default())));
    assert!(Server::start(&settings, zones).is_err(), "a suffix that is no name");
}

#[test]
fn a_resolver_never_asks_itself() {
    for listen in [loopback(0), ([0, 0, 0, 0], 0).into()] {
        let sockets = Sockets::bind(&[listen], NonZeroUsize::MIN).expect("a port");
        let ourselves = loopback(sockets.addresses()[0].port());
        let upstreams = vec![ourselves.into()];
        let forward = ForwardSettings { upstreams, ..ForwardSettings::default() };
        let settings = Settings { forward, ..Settings::default() };
        let zones = Arc::new(SharedZones::new(Zones::new(&Options::default())));
        let server = Server::start_on(sockets, &settings, Arc::clone(&zones)).expect("it starts");
        let resolver = Resolver { server, zones, address: ourselves };
        let answer = resolver.udp(&question("www.example.com.", RecordType::A));
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{listen}");
        assert!(!answer.metadata.recursion_available);
    }
}

#[test]
fn questions_that_wait_are_bounded() {
    // This upstream says nothing, so that the first question holds the only slot.
    let upstream = UdpSocket::bind(loopback(0)).expect("a port");
    let resolver = forwarding(ForwardSettings {
        upstreams: vec![upstream.local_addr().expect("its address").into()],
        in_flight: 1,
        deadline: PATIENCE,
        ..ForwardSettings::default()
    });
    let first = resolver.socket();
    first.send(&bytes(&question("slow.example.", RecordType::A))).expect("it is sent");
    let mut buffer = [0; 512];
    let (length, client) = upstream.recv_from(&mut buffer).expect("the question arrives");
    let refused = resolver.udp(&question("next.example.", RecordType::A));
    assert_eq!(refused.metadata.response_code, ResponseCode::ServFail, "at once");
    let ours = resolver.udp(&question("ready.spartan.", RecordType::A));
    assert_eq!(ours.answers.len(), 1, "our own names need no slot");

    let asked = Message::from_vec(&buffer[..length]).expect("a message");
    upstream.send_to(&good(&asked)[0], client).expect("it is sent");
    let length = first.recv(&mut buffer).expect("a reply");
    let answer = Message::from_vec(&buffer[..length]).expect("a message");
    assert_eq!(outcome(&answer).1, ["192.0.2.1"]);
}
