//! Connections: many questions at once, out of order, and clients that behave badly.

use crate::common::{Resolver, connect, question, receive, send, task};
use crate::fake::Fake;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use mizzen_dns_server::{ForwardSettings, Settings};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const IDLE: Duration = Duration::from_millis(500);

fn impatient() -> Settings {
    Settings { tcp_idle: IDLE, tcp_message: IDLE, ..Settings::default() }
}

fn web() -> Vec<u8> {
    question("web.marathon.mesos.", RecordType::A).to_vec().expect("it is encoded")
}

fn answers(stream: &mut TcpStream) -> usize {
    let reply = receive(stream).expect("a reply");
    Message::from_vec(&reply).expect("a message").answers.len()
}

#[test]
fn an_answer_does_not_wait_for_an_earlier_one() {
    // This upstream never answers.
    let dead = Fake::scripted(|_| Vec::new(), |_| Vec::new());
    let forward =
        ForwardSettings { upstreams: vec![dead.address.into()], ..ForwardSettings::default() };
    let resolver = Resolver::start(Settings { forward, ..Settings::default() });
    resolver.add(task("web.1", [9, 0, 1, 5]));
    let mut stream = connect(resolver.address);
    let slow = question("example.com.", RecordType::A);
    let quick = question("web.marathon.mesos.", RecordType::A);
    for message in [&slow, &quick] {
        send(&mut stream, &message.to_vec().expect("it is encoded"));
    }
    for want in [&quick, &slow] {
        let reply = Message::from_vec(&receive(&mut stream).expect("a reply")).expect("a message");
        assert_eq!(reply.metadata.id, want.metadata.id);
    }
}

#[test]
fn all_questions_of_one_segment_are_answered() {
    let resolver = Resolver::start(Settings { tcp_in_flight: 2, ..Settings::default() });
    resolver.add(task("web.1", [9, 0, 1, 5]));
    let mut stream = connect(resolver.address);
    // An unknown type takes the full road, of which only two are taken at once.
    let other = question("web.marathon.mesos.", RecordType::Unknown(60_000));
    let other = other.to_vec().expect("it is encoded");
    let mut segment = Vec::new();
    for _ in 0..50 {
        for message in [&web(), &other] {
            segment.extend_from_slice(&u16::try_from(message.len()).expect("short").to_be_bytes());
            segment.extend_from_slice(message);
        }
    }
    stream.write_all(&segment).expect("it is sent");
    let total: usize = (0..100).map(|_| answers(&mut stream)).sum();
    assert_eq!(total, 50);
}

#[test]
fn a_client_that_has_said_all_gets_all_answers() {
    let resolver = Resolver::start(Settings::default());
    resolver.add(task("web.1", [9, 0, 1, 5]));
    let mut stream = connect(resolver.address);
    for _ in 0..10 {
        send(&mut stream, &web());
    }
    stream.shutdown(Shutdown::Write).expect("half of it");
    for _ in 0..10 {
        assert_eq!(answers(&mut stream), 1);
    }
    assert_eq!(stream.read(&mut [0; 1]).expect("the end"), 0);
}

#[test]
fn a_message_that_trickles_is_given_up() {
    let resolver = Resolver::start(impatient());
    resolver.add(task("web.1", [9, 0, 1, 5]));
    let mut stream = connect(resolver.address);
    let framed = [&u16::try_from(web().len()).expect("short").to_be_bytes()[..], &web()].concat();
    // A byte now and then moves on, and is too slow all the same.
    let ended = std::iter::repeat(&framed[..1]).any(|byte| {
        std::thread::sleep(IDLE / 8);
        stream.write_all(byte).is_err()
    });
    assert!(ended);
}

#[test]
fn a_client_that_reads_nothing_ends_when_it_was_waited_for() {
    let resolver = Resolver::start(impatient());
    for number in 0..500_u16 {
        let [high, low] = number.to_be_bytes();
        resolver.add(task(&format!("web.{number}"), [9, 1, high, low]));
    }
    let mut stream = connect(resolver.address);
    stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let framed = [&u16::try_from(web().len()).expect("short").to_be_bytes()[..], &web()].concat();
    // Answers fill the buffers of both ends; then questions are read no more, and at last
    // the connection is reset.
    let refused = (0..5_000_000).find_map(|_| stream.write_all(&framed).err());
    let error = refused.expect("it is not written for ever");
    let kinds = [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[test]
fn the_longest_idle_connection_makes_room() {
    let resolver = Resolver::start(Settings { tcp_limit: 3, ..Settings::default() });
    resolver.add(task("web.1", [9, 0, 1, 5]));
    let mut streams: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = connect(resolver.address);
            send(&mut stream, &web());
            assert_eq!(answers(&mut stream), 1);
            stream
        })
        .collect();
    let mut fourth = connect(resolver.address);
    send(&mut fourth, &web());
    assert_eq!(answers(&mut fourth), 1);
    assert_eq!(streams[0].read(&mut [0; 1]).expect("the end"), 0, "the first one went");
    for stream in &mut streams[1..] {
        send(stream, &web());
        assert_eq!(answers(stream), 1, "the others stay");
    }
    let metrics = resolver.server.metrics();
    assert_eq!((metrics.tcp_accepted, metrics.tcp_crowded_out), (4, 1));
}
