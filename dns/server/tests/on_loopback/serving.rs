//! Our own names, asked by real packets.

use crate::common::{Resolver, connect, loopback, question, receive, send, task, with_edns};
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use mizzen_dns_core::{OwnerKey, Zones};
use mizzen_dns_server::{Server, Settings, SharedZones};
use mizzen_types::fact::{Health, Key};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

fn addresses(reply: &Message) -> BTreeSet<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

fn two_tasks() -> Resolver {
    let resolver = Resolver::start(Settings::default());
    resolver.add(task("web.1", [9, 0, 1, 5]));
    resolver.add(task("web.2", [9, 0, 1, 6]));
    resolver
}

#[test]
fn tasks_are_found_by_udp_and_tcp_alike() {
    let resolver = two_tasks();
    let mut six = task("six.1", [9, 0, 1, 9]);
    six.discovery_name = Some("six".into());
    six.container_addresses = vec!["fd01:b::9".parse().expect("an address")];
    resolver.add(six);
    #[rustfmt::skip]
    let table: &[(&str, RecordType, ResponseCode, &[&str])] = &[
        ("web.marathon.mesos.",   RecordType::A,    ResponseCode::NoError,  &["9.0.1.5", "9.0.1.6"]),
        ("web.marathon.slave.mesos.", RecordType::A, ResponseCode::NoError, &["10.0.0.2"]),
        ("six.marathon.mesos.",   RecordType::AAAA, ResponseCode::NoError,  &["fd01:b::9"]),
        ("web.marathon.mesos.",   RecordType::AAAA, ResponseCode::NoError,  &[]),
        ("nope.marathon.mesos.",  RecordType::A,    ResponseCode::NXDomain, &[]),
        ("web.marathon.containerip.dcos.thisdcos.directory.", RecordType::A, ResponseCode::NoError, &["9.0.1.5", "9.0.1.6"]),
        ("ready.spartan.",        RecordType::A,    ResponseCode::NoError,  &["127.0.0.1"]),
        ("example.com.",          RecordType::A,    ResponseCode::Refused,  &[]),
    ];
    for (name, kind, code, want) in table {
        let asked = question(name, *kind);
        for reply in [resolver.udp(&asked), resolver.tcp(&asked)] {
            assert_eq!(reply.metadata.response_code, *code, "{name} {kind}");
            assert_eq!(addresses(&reply).iter().collect::<Vec<_>>(), *want, "{name} {kind}");
            assert_eq!(reply.queries, asked.queries, "the question is repeated");
            let ours = *code != ResponseCode::Refused;
            assert_eq!(reply.metadata.authoritative, ours, "{name}");
            assert!(!reply.metadata.recursion_available, "nobody to forward to");
            assert!(reply.edns.is_none(), "no OPT record without one in the question");
        }
    }
}

#[test]
fn services_come_with_the_addresses_of_their_targets() {
    let resolver = two_tasks();
    for name in ["_web._tcp.marathon.mesos.", "_http._web._tcp.marathon.mesos."] {
        let asked = question(name, RecordType::SRV);
        for reply in [resolver.udp(&asked), resolver.tcp(&asked)] {
            let mut targets = BTreeSet::new();
            for record in &reply.answers {
                let RData::SRV(srv) = &record.data else { panic!("{record}") };
                assert_eq!((srv.priority, srv.weight, srv.port), (0, 1, 80));
                targets.insert(srv.target.clone());
            }
            assert_eq!(targets.len(), 2);
            let named: BTreeSet<Name> =
                reply.additionals.iter().map(|record| record.name.clone()).collect();
            assert_eq!(named, targets);
        }
    }
}

#[test]
fn negative_answers_name_the_zone_that_holds_the_name() {
    let resolver = two_tasks();
    #[rustfmt::skip]
    let table = [
        ("nope.marathon.mesos.",                  ResponseCode::NXDomain, "mesos."),
        ("marathon.mesos.",                       ResponseCode::NoError,  "mesos."),
        ("x.marathon.dclb.thisdcos.directory.",   ResponseCode::NXDomain, "dclb.thisdcos.directory."),
        ("x.thisdcos.directory.",                 ResponseCode::NXDomain, "thisdcos.directory."),
    ];
    for (name, code, zone) in table {
        let asked = question(name, RecordType::A);
        for reply in [resolver.udp(&asked), resolver.tcp(&asked)] {
            assert_eq!(reply.metadata.response_code, code, "{name}");
            let [soa] = reply.authorities.as_slice() else { panic!("{name}: no SOA record") };
            assert_eq!((soa.name.to_ascii().as_str(), soa.record_type()), (zone, RecordType::SOA));
        }
    }
}

#[test]
fn capitals_of_the_question_are_kept() {
    let resolver = two_tasks();
    let asked = question("wEb.MaRaThOn.MESOS.", RecordType::A);
    for reply in [resolver.udp(&asked), resolver.tcp(&asked)] {
        assert_eq!(reply.answers.len(), 2);
        for name in reply.answers.iter().map(|record| &record.name).chain([reply.queries[0].name()])
        {
            assert_eq!(name.to_ascii(), "wEb.MaRaThOn.MESOS.");
        }
    }
}

#[test]
fn a_thousand_tasks_are_cut_by_udp_and_complete_by_tcp() {
    let resolver = Resolver::start(Settings::default());
    for number in 0..1000_u16 {
        let [high, low] = number.to_be_bytes();
        resolver.add(task(&format!("web.{number}"), [9, 1, high, low]));
    }
    let rows =
        [("web.marathon.mesos.", RecordType::A), ("_web._tcp.marathon.mesos.", RecordType::SRV)];
    for (name, kind) in rows {
        let plain = question(name, kind);
        for (asked, limit) in [
            (plain.clone(), 512),
            (with_edns(plain.clone(), 0), 512),
            (with_edns(plain.clone(), 700), 700),
            (with_edns(plain.clone(), 4096), 1232),
            (with_edns(plain.clone(), 65535), 1232),
        ] {
            let bytes = resolver.udp_bytes(&asked.to_vec().expect("it is encoded"));
            let reply = Message::from_vec(&bytes).expect("a message");
            assert!(bytes.len() <= limit && bytes.len() > limit - 80, "{} of {limit}", bytes.len());
            assert!(reply.metadata.truncation && !reply.answers.is_empty());
            assert_eq!(reply.edns.is_some(), asked.edns.is_some());
        }
        for asked in [plain.clone(), with_edns(plain.clone(), 1232)] {
            let reply = resolver.tcp(&asked);
            assert!(!reply.metadata.truncation);
            assert_eq!(addresses(&reply).len(), 1000, "{name}");
            assert_eq!(reply.edns.is_some(), asked.edns.is_some());
        }
    }
    let mut first = BTreeSet::new();
    for _ in 0..50 {
        let reply = resolver.udp(&question("web.marathon.mesos.", RecordType::A));
        first.insert(reply.answers[0].data.to_string());
    }
    assert!(first.len() > 40, "answers rotate: {}", first.len());
}

#[test]
fn the_protocol_is_kept_to() {
    let resolver = two_tasks();
    let plain = question("web.marathon.mesos.", RecordType::A);
    let mut newer = with_edns(plain.clone(), 1232);
    newer.edns.as_mut().expect("it has one").set_version(1);
    let mut dnssec = with_edns(plain.clone(), 1232);
    dnssec.edns.as_mut().expect("it has one").set_dnssec_ok(true);
    let operation = |code| {
        let mut message = plain.clone();
        message.metadata.op_code = code;
        message
    };
    let mut two = plain.clone();
    two.add_query(Query::query(Name::root(), RecordType::NS));
    let mut none = plain.clone();
    none.queries.clear();
    #[rustfmt::skip]
    let table = [
        ("EDNS of another version", newer,                           ResponseCode::BADVERS),
        ("DO",                      dnssec,                          ResponseCode::NoError),
        ("status",                  operation(OpCode::Status),       ResponseCode::NotImp),
        ("notify",                  operation(OpCode::Notify),       ResponseCode::NotImp),
        ("an unknown operation",    operation(OpCode::Unknown(13)),  ResponseCode::NotImp),
        ("two questions",           two,                             ResponseCode::FormErr),
        ("no question",             none,                            ResponseCode::FormErr),
        ("an unknown type",         question("web.marathon.mesos.", RecordType::Unknown(60000)), ResponseCode::NoError),
        ("a transfer",              question("mesos.", RecordType::AXFR), ResponseCode::Refused),
    ];
    for (what, asked, code) in table {
        for reply in [resolver.udp(&asked), resolver.tcp(&asked)] {
            // By number: BADVERS and BADSIG have one.
            assert_eq!(u16::from(reply.metadata.response_code), u16::from(code), "{what}");
            assert_eq!(reply.edns.is_some(), asked.edns.is_some(), "{what}");
            if let (Some(asked), Some(reply)) = (&asked.edns, &reply.edns) {
                assert_eq!(reply.flags().dnssec_ok, asked.flags().dnssec_ok, "{what}");
                assert_eq!(reply.version(), 0, "{what}");
            }
        }
    }
}

/// Packets that are no questions, of many shapes.
fn garbage() -> Vec<Vec<u8>> {
    let good = question("web.marathon.mesos.", RecordType::A).to_vec().expect("it is encoded");
    let header = |counts: [u8; 8]| [&[7, 7, 1, 0][..], &counts].concat();
    let question_of = |name: &[u8]| [&header([0, 1, 0, 0, 0, 0, 0, 0])[..], name].concat();
    let mut shapes = vec![
        vec![],
        vec![0],
        vec![255; 12],
        vec![0; 12],
        vec![255; 65_000],
        header([255; 8]),
        header([255, 255, 0, 0, 0, 0, 0, 0]),
        [&header([0, 1, 255, 255, 255, 255, 255, 255])[..], &good[12..]].concat(),
        // A name that points to itself, one that points into the header, one that points
        // beyond the end, labels too long, a name without an end, an extended label type.
        question_of(&[0xc0, 12, 0, 1, 0, 1]),
        question_of(&[0xc0, 0, 0, 1, 0, 1]),
        question_of(&[0xff, 0xff, 0, 1, 0, 1]),
        question_of(&[63; 600]),
        question_of(&[1, b'a'].repeat(200)),
        question_of(&[0x40, 1, 0, 1, 0, 1]),
        // Two OPT records; an OPT record whose length lies.
        [
            &header([0, 1, 0, 0, 0, 0, 0, 2]),
            &good[12..],
            &[0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0].repeat(2),
        ]
        .concat(),
        [&header([0, 1, 0, 0, 0, 0, 0, 1]), &good[12..], &[0, 0, 41, 4, 0, 0, 0, 0, 0, 255, 255]]
            .concat(),
    ];
    shapes.extend((0..good.len()).map(|end| good[..end].to_vec()));
    // Every bit of a good question turned once.
    for at in 0..good.len() * 8 {
        let mut spoiled = good.clone();
        spoiled[at / 8] ^= 1 << (at % 8);
        shapes.push(spoiled);
    }
    shapes
}

#[test]
fn garbage_by_udp_is_survived() {
    let resolver = two_tasks();
    let socket = resolver.socket();
    for packet in garbage() {
        socket.send(&packet).expect("it is sent");
        let reply = resolver.udp(&question("web.marathon.mesos.", RecordType::A));
        assert_eq!(reply.answers.len(), 2, "after {packet:?}");
    }
    // A question that is marked as an answer gets none, or two servers would talk for ever.
    let mut reflected = question("web.marathon.mesos.", RecordType::A).to_vec().expect("encoded");
    reflected[2] |= 0x80;
    let socket = resolver.socket();
    socket.send(&reflected).expect("it is sent");
    let real = question("ready.spartan.", RecordType::A);
    socket.send(&real.to_vec().expect("it is encoded")).expect("it is sent");
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).expect("a reply");
    let reply = Message::from_vec(&buffer[..length]).expect("a message");
    assert_eq!(reply.metadata.id, real.metadata.id, "the first reply is to the real question");
}

#[test]
fn garbage_by_tcp_is_survived() {
    let resolver = two_tasks();
    for packet in garbage() {
        let mut stream = connect(resolver.address);
        send(&mut stream, &packet);
        // It is answered or the connection ends; either way the server goes on.
        let reply = receive(&mut stream);
        if let Ok(reply) = reply {
            assert!(reply.len() >= 12, "{packet:?}");
        }
    }
    let mut half = connect(resolver.address);
    half.write_all(&[0]).expect("it is sent");
    let reply = resolver.tcp(&question("web.marathon.mesos.", RecordType::A));
    assert_eq!(reply.answers.len(), 2);
}

#[test]
fn a_connection_carries_many_questions_and_ends_when_silent() {
    let resolver = Resolver::start(Settings {
        tcp_idle: Duration::from_secs(1),
        tcp_limit: 1,
        ..Settings::default()
    });
    resolver.add(task("web.1", [9, 0, 1, 5]));
    let mut stream = connect(resolver.address);
    let asked: Vec<Message> =
        (0..20).map(|_| question("web.marathon.mesos.", RecordType::A)).collect();
    for message in &asked {
        send(&mut stream, &message.to_vec().expect("it is encoded"));
    }
    for message in &asked {
        let reply = Message::from_vec(&receive(&mut stream).expect("a reply")).expect("a message");
        assert_eq!(reply.metadata.id, message.metadata.id);
    }
    assert_eq!(stream.read(&mut [0; 1]).expect("the end"), 0, "silence ends it");
    // With room for one connection, a silent one holds the next one up no longer than that.
    let _silent = connect(resolver.address);
    let reply = resolver.tcp(&question("web.marathon.mesos.", RecordType::A));
    assert_eq!(reply.answers.len(), 1);
}

#[test]
fn a_change_is_answered_at_once() {
    let resolver = two_tasks();
    let asked = question("web.marathon.mesos.", RecordType::A);
    let text = |reply: &Message| addresses(reply).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(text(&resolver.udp(&asked)), "9.0.1.5 9.0.1.6");
    let mut sick = task("web.2", [9, 0, 1, 6]);
    sick.health = Health::Unhealthy;
    resolver.add(sick);
    assert_eq!(text(&resolver.udp(&asked)), "9.0.1.5");
    resolver.add(task("web.3", [9, 0, 1, 7]));
    assert_eq!(text(&resolver.udp(&asked)), "9.0.1.5 9.0.1.7");
    for id in ["web.1", "web.2", "web.3"] {
        let key = Key::Task("m-0001".into(), id.into());
        let owner = OwnerKey::Fact { owner: "n1".into(), key };
        resolver.zones.update(|zones| zones.remove(&owner));
    }
    assert_eq!(resolver.udp(&asked).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn several_threads_share_one_port() {
    let threads = NonZeroUsize::MIN.saturating_add(2);
    let resolver = Resolver::start(Settings { threads, ..Settings::default() });
    resolver.add(task("web.1", [9, 0, 1, 5]));
    // Each socket has a port of its own, and the kernel spreads by port.
    for _ in 0..60 {
        let asked = question("web.marathon.mesos.", RecordType::A);
        assert_eq!(resolver.udp(&asked).answers.len(), 1);
        assert_eq!(resolver.tcp(&asked).answers.len(), 1);
    }
}

#[test]
fn a_stopped_server_leaves_its_port() {
    let resolver = two_tasks();
    let open = connect(resolver.address);
    let address = resolver.address;
    let settings = Settings { listen: vec![address], ..Settings::default() };
    let error = Server::start(&settings, Arc::clone(&resolver.zones)).expect_err("it is taken");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.to_string().contains("address in use"), "{error}");
    resolver.server.stop();
    let again = Server::start(&settings, resolver.zones).expect("the port is free");
    assert_eq!(again.addresses(), [address]);
    drop(open);
}

#[test]
fn sockets_belong_to_the_namespace_that_bound_them() {
    let inside = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip runs").success());
        let settings = Settings { listen: vec![loopback(53)], ..Settings::default() };
        let zones = Arc::new(SharedZones::new(Zones::new(&mizzen_dns_core::Options::default())));
        let server = Server::start(&settings, Arc::clone(&zones)).expect("it starts");
        let resolver = Resolver { address: server.addresses()[0], server, zones };
        let reply = resolver.udp(&question("ready.spartan.", RecordType::A));
        assert_eq!(addresses(&reply), BTreeSet::from(["127.0.0.1".to_owned()]));
        let taken = UdpSocket::bind(loopback(53)).expect_err("taken in here");
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    });
    inside.join().expect("it works in there");
}
