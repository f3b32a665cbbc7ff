//! Connections and datagrams through a node that none of their ends runs on.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use mizzen_ebpf_loader::{Rule, Tuning, VipAddress, VipWanted};

use crate::net::{BESIDE, CLIENT, CLIENT6, INSIDE, INSIDE6, NODE, NODE6, Net, counts_when};
use crate::offload::Offload;
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::greeting::ask;
use mizzen_tests_support::room::{at, in_room};
use mizzen_tests_support::wait::{PATIENCE, eventually};

const VIP: &str = "11.0.0.1:80";
const VIP6: &str = "[fd01:c::1]:80";

/// At all ends, and at those of the node: in the last case the node's kernel finishes what others began.
const OFFLOADS: [(Offload, Offload); 3] =
    [(Offload::On, Offload::On), (Offload::Off, Offload::Off), (Offload::On, Offload::Off)];

fn udp(text: &str) -> VipAddress {
    VipAddress::udp(at(text))
}

#[test]
fn clients_elsewhere_reach_backends_and_keep_their_addresses() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        for (vip, backend, client) in [(VIP, INSIDE, CLIENT), (VIP6, INSIDE6, CLIENT6)] {
            let client: IpAddr = client.parse().expect("an address");
            let (stream, datagram) = (net.inside.server(backend), net.inside.udp_server(backend));
            dataplane.set_vip(tcp(vip), &backends(&[stream])).expect("room");
            dataplane.set_vip(udp(vip), &backends(&[datagram])).expect("room");

            let mut connection = net.client.connect(at(vip)).expect("the VIP answers");
            assert_eq!((connection.backend, connection.seen.ip()), (stream.port(), client));
            assert_eq!(connection.stream.peer_addr().expect("connected"), at(vip));
            assert!(connection.echoes(b"hello"));
            drop(connection);
            let counts =
                counts_when(&dataplane, tcp(vip), stream, "closed", |counts| counts.closed == 1);
            assert_eq!((counts.chosen, counts.started, counts.established), (1, 1, 1));
            assert_eq!((counts.failed, counts.in_flight), (0, 0));
            assert!(counts.connect_micros > 0 && counts.duration_micros > 0, "{counts:?}");

            let socket = net.client.udp(at(vip));
            for _ in 0..3 {
                let (name, seen, _) = ask(&socket, 20).expect("an answer");
                assert_eq!((name, seen.ip()), (datagram.port(), client));
            }
            let counts = counts_when(&dataplane, udp(vip), datagram, "a flow", |_| true);
            assert_eq!((counts.chosen, counts.started, counts.in_flight), (1, 1, 1));
        }
        let flows = dataplane.arriving_flows().expect("readable maps");
        assert!(flows.iter().any(|flow| flow.vip == udp(VIP6) && flow.backend.is_ipv6()));
        assert!(flows.iter().all(|flow| flow.vip.protocol == mizzen_ebpf_loader::UDP), "{flows:?}");
    });
}

#[test]
fn large_transfers_and_full_datagrams_pass_with_offload_and_without() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        for (vip, backend, largest) in [(VIP, INSIDE, 1472), (VIP6, INSIDE6, 1452)] {
            dataplane.set_vip(tcp(vip), &backends(&[net.inside.server(backend)])).expect("room");
            dataplane
                .set_vip(udp(vip), &backends(&[net.inside.udp_server(backend)]))
                .expect("room");
            for (offload, at_node) in OFFLOADS {
                net.set_offload(offload);
                net.set_offload_of_node(at_node);
                for client in [&net.client, &net.beside] {
                    let mut connection = client.connect(at(vip)).expect("the VIP answers");
                    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
                    assert!(connection.echoes(&bytes), "{vip} {offload:?}");
                    let socket = client.udp(at(vip));
                    for length in [20, 21, largest, largest - 1] {
                        let (.., echoed) = ask(&socket, length).expect("an answer");
                        assert_eq!(echoed, length, "{vip} {offload:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn a_client_beside_the_backend_gets_its_answers_from_the_vip() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let backend = net.inside.server(INSIDE);
        dataplane.set_vip(tcp(VIP), &backends(&[backend])).expect("room");
        let mut connection = net.beside.connect(at(VIP)).expect("the VIP answers");
        assert_eq!(connection.seen.ip().to_string(), BESIDE);
        assert!(connection.echoes(b"hello"));

        // A client that is the only backend itself cannot be served, and is told so at once.
        let error = net.inside.connect(at(VIP)).err().expect("nobody else to send it to");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_backend_may_be_the_node_itself() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        for (vip, node) in [(VIP, NODE), (VIP6, NODE6), ("11.0.0.2:80", "10.1.0.1")] {
            let (stream, datagram) = (net.node.server(node), net.node.udp_server(node));
            dataplane.set_vip(tcp(vip), &backends(&[stream])).expect("room");
            dataplane.set_vip(udp(vip), &backends(&[datagram])).expect("room");
            for client in [&net.client, &net.inside] {
                let mut connection = client.connect(at(vip)).expect("the VIP answers");
                assert!(connection.echoes(&vec![3; 1_000_000]));
                let (name, ..) = ask(&client.udp(at(vip)), 20).expect("an answer");
                assert_eq!(name, datagram.port());
            }
            let what = "two connections closed";
            counts_when(&dataplane, tcp(vip), stream, what, |counts| counts.closed == 2);
        }
    });
}

#[test]
fn without_a_backend_clients_are_refused_at_once() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        for vip in [VIP, VIP6] {
            dataplane.set_vip(tcp(vip), &backends(&[])).expect("room");
            dataplane.set_vip(udp(vip), &backends(&[])).expect("room");
            for (offload, at_node) in OFFLOADS {
                net.set_offload(offload);
                net.set_offload_of_node(at_node);
                for client in [&net.client, &net.inside] {
                    let error = client.connect(at(vip)).err().expect("nobody to send it to");
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{vip} {offload:?}");
                    for length in [0, 20, 1400] {
                        let error = ask(&client.udp(at(vip)), length).expect_err("nobody");
                        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{vip} {offload:?}");
                    }
                }
            }
        }
        let refusals = dataplane.refusals().expect("readable maps");
        assert_eq!((refusals[&tcp(VIP)], refusals[&udp(VIP6)]), (6, 18));
    });
}

#[test]
fn rules_that_stick_stick_to_clients_and_connections() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let servers: Vec<SocketAddr> = (0..8).map(|_| net.inside.server(INSIDE)).collect();
        let names = |vip: &str| -> BTreeSet<u16> {
            (0..40).map(|_| net.client.connect(at(vip)).expect("the VIP answers").backend).collect()
        };
        for (vip, rule) in [("11.0.0.1:80", Rule::Source), ("11.0.0.2:80", Rule::Maglev)] {
            let wanted = VipWanted { rule, ..backends(&servers) };
            dataplane.set_vip(tcp(vip), &wanted).expect("room");
        }
        assert_eq!(names("11.0.0.1:80").len(), 1, "one client, one backend");
        assert!(names("11.0.0.2:80").len() > 4, "many connections, many backends");
    });
}

#[test]
fn a_backend_that_answers_no_syn_is_passed_over_and_ejected() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let alive = net.inside.server(INSIDE);
        // Nobody has this address, so SYNs to it vanish.
        let silent = at("10.2.0.77:80");
        dataplane.tune(&Tuning { pause: PATIENCE * 3, ..Tuning::default() });
        dataplane.set_vip(tcp(VIP), &backends(&[alive, silent])).expect("room");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        let connection = net.client.connect(at(VIP)).expect("another one answers");
                        assert_eq!(connection.backend, alive.port());
                    }
                });
            }
        });
        let counts = counts_when(&dataplane, tcp(VIP), silent, "any", |_| true);
        assert!(counts.ejections > 0 && counts.started <= 8, "{counts:?}");
        assert_eq!((counts.in_flight, counts.failed), (0, counts.started));
    });
}

#[test]
fn a_closed_port_is_told_to_the_client_and_counted() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        for (vip, closed) in [(VIP, at("10.2.0.2:9")), (VIP6, at("[fd00:2::2]:9"))] {
            dataplane.set_vip(tcp(vip), &backends(&[closed])).expect("room");
            dataplane.set_vip(udp(vip), &backends(&[closed])).expect("room");
            let error = net.client.connect(at(vip)).err().expect("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let counts = counts_when(&dataplane, tcp(vip), closed, "any", |_| true);
            assert_eq!((counts.started, counts.failed, counts.in_flight), (1, 1, 0));
            // The backend's ICMP error quotes what it got, and reaches the socket all the same.
            let error = ask(&net.client.udp(at(vip)), 20).expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn datagrams_go_elsewhere_when_their_backend_is_gone() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let (goes, stays) = (net.inside.udp_server(INSIDE), net.inside.udp_server(INSIDE));
        dataplane.set_vip(udp(VIP), &backends(&[goes])).expect("room");
        let socket = net.client.udp(at(VIP));
        assert_eq!(ask(&socket, 20).expect("an answer").0, goes.port());
        dataplane.set_vip(udp(VIP), &backends(&[stays])).expect("room");
        assert_eq!(ask(&socket, 20).expect("an answer").0, stays.port());
        dataplane.remove_vip(udp(VIP)).expect("removable");
        eventually("nobody answers", || {
            socket.send(b"?").ok();
            dataplane.observe().expect("readable maps").is_empty()
        });
    });
}
