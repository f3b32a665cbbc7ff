//! What the programs on links do to single packets.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use mizzen_ebpf_loader::{Dataplane, LinkWanted, VipAddress};
use mizzen_tests_bpf::frame::{ETHERNET, Frame, Kind, checksum};
use mizzen_tests_bpf::{Programs, Verdict};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{Room, at, in_room};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Client, VIP, backend, of both families.
const FAMILIES: [[&str; 3]; 2] = [
    ["192.0.2.9:4000", "11.0.0.1:80", "10.2.0.2:8080"],
    ["[fd00:1::9]:4000", "[fd01:c::1]:80", "[fd00:2::2]:8080"],
];

/// A dataplane in which each VIP has its one backend, for TCP and UDP, and programs over its maps.
fn stage(room: &Room) -> (Dataplane, Programs) {
    let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
    // So that ingress and its maps are there; the packets of these tests come by no real link.
    let followed = dataplane.follow_links(&[LinkWanted {
        index: 1,
        name: "lo".to_owned(),
        bridge: None,
        is_tunnel: false,
        mtu: 1500,
        networks: Vec::new(),
    }]);
    assert!(followed.expect("attachable").errors.is_empty());
    for [_, vip, backend] in FAMILIES {
        dataplane.set_vip(tcp(vip), &backends(&[at(backend)])).expect("room");
        dataplane.set_vip(VipAddress::udp(at(vip)), &backends(&[at(backend)])).expect("room");
    }
    let version = format!("v{}", mizzen_ebpf_abi::ABI_VERSION);
    let programs = Programs::load(&room.options().pin_dir.join(version));
    (dataplane, programs)
}

fn arrive(programs: &mut Programs, frame: &Frame) -> (Verdict, Frame) {
    let (verdict, bytes) = programs.arrive(&frame.bytes());
    (verdict, Frame::read(&bytes).unwrap_or_else(|| panic!("not a sound frame: {bytes:x?}")))
}

#[test]
fn a_first_packet_goes_to_a_backend_and_its_answer_comes_from_the_vip() {
    in_room(|room| {
        let (dataplane, mut programs) = stage(room);
        for [client, vip, backend] in FAMILIES.map(|family| family.map(at)) {
            for (kind, answered) in
                [(Kind::Tcp(SYN, 7, 0), Kind::Tcp(SYN | ACK, 9, 8)), (Kind::Udp, Kind::Udp)]
            {
                let request = Frame::new(client, vip, kind).with(b"odd");
                let (verdict, out) = arrive(&mut programs, &request);
                assert_eq!((verdict, out), (Verdict::Next, request.to(backend)), "routed once");
                let answer = Frame::new(backend, client, answered).with(b"even");
                let (verdict, out) = arrive(&mut programs, &answer);
                // The link by which the client's packets came is known, so the answer is not routed.
                let want = Frame { hops: 63, ..answer.from(vip) };
                assert_eq!((verdict, out), (Verdict::Redirect, want));
                let next = match kind {
                    Kind::Udp => Kind::Udp,
                    _ => Kind::Tcp(ACK, 8, 10),
                };
                let request = Frame::new(client, vip, next).with(&[1; 1000]);
                let (verdict, out) = arrive(&mut programs, &request);
                let want = Frame { hops: 63, ..request.to(backend) };
                assert_eq!((verdict, out), (Verdict::Redirect, want), "and now it is passed on");
            }
        }
        let counters = dataplane.counters().expect("readable maps");
        assert!(counters.values().all(|counts| counts.established == 1), "{counters:?}");
    });
}

#[test]
fn a_checksum_that_was_left_out_stays_out() {
    in_room(|room| {
        let (_dataplane, mut programs) = stage(room);
        let [client, vip, backend] = FAMILIES[0].map(at);
        let request = Frame::new(client, vip, Kind::UdpUnchecked).with(b"data");
        assert_eq!(arrive(&mut programs, &request), (Verdict::Next, request.to(backend)));
    });
}

#[test]
fn what_is_not_ours_stays_as_it_is() {
    in_room(|room| {
        let (_dataplane, mut programs) = stage(room);
        for [client, vip, _] in FAMILIES {
            let (client, vip) = (at(client), at(vip));
            let elsewhere = SocketAddr::new(client.ip(), 81);
            let other_port = SocketAddr::new(vip.ip(), 81);
            let syn = Kind::Tcp(SYN, 7, 0);
            let mut strangers = vec![
                Frame::new(client, elsewhere, syn).bytes(),
                Frame::new(client, other_port, syn).bytes(),
                Frame::new(client, elsewhere, Kind::Udp).bytes(),
                Frame::new(client, vip, Kind::Icmp(8, 0)).with(b"ping").bytes(),
            ];
            // Another EtherType, another IP protocol.
            let protocol = ETHERNET + if vip.is_ipv4() { 9 } else { 6 };
            for (place, byte) in [(12, 0x99), (protocol, 0x84)] {
                let mut bytes = Frame::new(client, vip, syn).bytes();
                bytes[place] = byte;
                strangers.push(bytes);
            }
            // Another version, a fragment, options.
            if vip.is_ipv4() {
                let changes =
                    [(ETHERNET, 0x95), (ETHERNET + 6, 0x20), (ETHERNET + 7, 3), (ETHERNET, 0x46)];
                for (place, byte) in changes {
                    let mut bytes = Frame::new(client, vip, syn).with(&[0; 32]).bytes();
                    bytes[place] = byte;
                    strangers.push(bytes);
                }
            }
            for bytes in strangers {
                assert_eq!(programs.arrive(&bytes), (Verdict::Next, bytes.clone()), "{bytes:x?}");
                assert_eq!(programs.depart(&bytes), (Verdict::Next, bytes.clone()), "{bytes:x?}");
            }
        }
    });
}

#[test]
fn who_cannot_be_served_is_told_at_once() {
    in_room(|room| {
        let (mut dataplane, mut programs) = stage(room);
        for [client, vip, _] in FAMILIES.map(|family| family.map(at)) {
            // A packet of a connection that nobody knows, then one to a VIP without backends.
            let stray = Frame::new(client, vip, Kind::Tcp(ACK, 7, 9)).with(b"data");
            let reset = Frame::new(vip, client, Kind::Tcp(RST, 9, 0));
            assert_eq!(arrive(&mut programs, &stray), (Verdict::Redirect, reset));
            let late = Frame::new(client, vip, Kind::Tcp(RST, 7, 0));
            assert_eq!(arrive(&mut programs, &late).0, Verdict::Drop, "no answer to a reset");

            dataplane.set_vip(VipAddress::tcp(vip), &backends(&[])).expect("room");
            dataplane.set_vip(VipAddress::udp(vip), &backends(&[])).expect("room");
            let syn = Frame::new(client, vip, Kind::Tcp(SYN, 7, 0));
            let reset = Frame::new(vip, client, Kind::Tcp(RST | ACK, 0, 8));
            assert_eq!(arrive(&mut programs, &syn), (Verdict::Redirect, reset));

            let datagram = Frame::new(client, vip, Kind::Udp).with(b"some data");
            let (verdict, error) = arrive(&mut programs, &datagram);
            let kind = if vip.is_ipv4() { Kind::Icmp(3, 3) } else { Kind::Icmp(1, 4) };
            assert_eq!((verdict, error.kind), (Verdict::Redirect, kind), "port unreachable");
            assert_eq!((error.source.ip(), error.target.ip()), (vip.ip(), client.ip()));
            let quoted = datagram.packet();
            assert!(error.data.len() >= 28 && quoted.starts_with(&error.data), "{error:?}");
        }
        let refusals = dataplane.refusals().expect("readable maps");
        assert!(refusals.values().all(|refused| *refused == 1), "{refusals:?}");
    });
}

#[test]
fn errors_about_translated_packets_are_about_what_the_client_sent() {
    in_room(|room| {
        let (_dataplane, mut programs) = stage(room);
        for [client, vip, backend] in FAMILIES.map(|family| family.map(at)) {
            let request = Frame::new(client, vip, Kind::Udp).with(b"some data");
            let (_, translated) = arrive(&mut programs, &request);
            let (router, kind) = match vip {
                SocketAddr::V4(_) => (at("10.9.9.9:0"), Kind::Icmp(11, 0)),
                SocketAddr::V6(_) => (at("[fd00:9::9]:0"), Kind::Icmp(3, 0)),
            };
            let nobody = SocketAddr::new(client.ip(), 0);
            let error = Frame::new(router, nobody, kind).with(&translated.packet());
            let (verdict, out) = arrive(&mut programs, &error);
            assert_ne!(verdict, Verdict::Drop);
            assert_eq!((out.source, out.target, out.kind), (router, nobody, kind));
            let quoted = [&[0; 12][..], &request.bytes()[12..ETHERNET], &out.data].concat();
            let header = if vip.is_ipv4() { 20 } else { 40 };
            let ports = |bytes: &[u8]| bytes[ETHERNET + header..ETHERNET + header + 4].to_vec();
            assert_eq!(ports(&quoted), ports(&request.bytes()), "{backend} is not shown");
            assert_eq!(out.data[header - 8..header], request.packet()[header - 8..header]);
            if vip.is_ipv4() {
                assert_eq!(checksum(&[&out.data[..20]]), 0, "the quoted header is sound");
            }
        }
    });
}

#[test]
fn whatever_a_packet_is_the_verdict_is_one_of_ours() {
    in_room(|room| {
        let (_dataplane, mut programs) = stage(room);
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 4096,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let strategy = (
            0..2_usize,
            0..4_usize,
            any::<u8>(),
            any::<prop::sample::Index>(),
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            0..200_usize,
        );
        let programs = std::cell::RefCell::new(&mut programs);
        let outcome = runner.run(&strategy, |(family, kind, flags, cut, changes, data)| {
            let [client, vip, _] = FAMILIES[family].map(at);
            let kind = [
                Kind::Tcp(flags, 7, 9),
                Kind::Udp,
                Kind::Icmp(flags % 16, 0),
                Kind::Icmp(3, flags),
            ][kind];
            let mut bytes = Frame::new(client, vip, kind).with(&vec![flags; data]).bytes();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                // The addresses of the link say who it is for.
                if place >= 12 {
                    bytes[place] = byte;
                }
            }
            // The kernel makes no packet of less than an IP header.
            let least = ETHERNET + if vip.is_ipv4() { 20 } else { 40 };
            bytes.truncate(least + cut.index(bytes.len() - least + 1));
            for is_arriving in [true, false] {
                let mut programs = programs.borrow_mut();
                let (verdict, out) =
                    if is_arriving { programs.arrive(&bytes) } else { programs.depart(&bytes) };
                prop_assert!(!matches!(verdict, Verdict::Other(_)), "{verdict:?}");
                if verdict == Verdict::Next {
                    prop_assert_eq!(out.len(), bytes.len());
                }
            }
            Ok(())
        });
        outcome.expect("all of them");
    });
}
