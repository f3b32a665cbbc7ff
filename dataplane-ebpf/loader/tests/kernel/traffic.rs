//! Connects and datagrams to VIPs, as the programs below the cgroup see them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};

use mizzen_ebpf_loader::{
    Admission, BackendWanted, Counts, Dataplane, Rule, VipAddress, VipWanted,
};

use crate::{VIP, counts, spread};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{at, connect, in_room, reset, server, udp_server};
use mizzen_tests_support::wait::eventually;

#[test]
fn connects_spread_over_the_backends_and_show_the_vip() {
    in_room(|room| {
        let (first, second) = (server("127.0.0.2"), server("127.0.0.3"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let drawn = VipWanted { rule: Rule::Random, ..backends(&[first, second]) };
        dataplane.set_vip(tcp(VIP), &drawn).expect("room");

        let (mut stream, _) = connect(at(VIP)).expect("the VIP answers");
        assert_eq!(stream.peer_addr().expect("connected"), at(VIP));
        stream.write_all(b"ping").expect("open");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("an echo");
        assert_eq!(&answer, b"ping");

        let hits = spread(at(VIP), 400);
        assert!(hits.values().all(|count| (140..=260).contains(count)), "{hits:?}");
        assert_eq!(hits.len(), 2);
    });
}

#[test]
fn ipv6_sockets_reach_vips_of_both_families() {
    in_room(|room| {
        let (v4, v6) = (server("127.0.0.1"), server("::1"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[v4])).expect("room");
        dataplane.set_vip(tcp("[fd01:c::1]:80"), &backends(&[v6])).expect("room");
        dataplane.set_vip(tcp("[fd01:c::2]:80"), &backends(&[v4, v6])).expect("room");

        for (asked, answered) in [("[::ffff:11.0.0.1]:80", vec![v4]), ("[fd01:c::1]:80", vec![v6])]
        {
            let (stream, port) = connect(at(asked)).expect("the VIP answers");
            assert_eq!(stream.peer_addr().expect("connected"), at(asked));
            assert!(answered.iter().any(|backend| backend.port() == port), "{asked}");
        }
        assert_eq!(spread(at("[fd01:c::2]:80"), 100).len(), 2, "a VIP may have both families");

        eventually("all connections are counted as closed", || {
            let counters = dataplane.counters().expect("readable maps");
            counters.values().all(|counts| {
                counts.started > 0
                    && counts.chosen == counts.established
                    && counts.established == counts.closed
            })
        });
    });
}

#[test]
fn a_removed_backend_gets_no_connect_and_keeps_its_connections() {
    in_room(|room| {
        let (stays, goes) = (server("127.0.0.1"), server("127.0.0.1"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[goes])).expect("room");
        let (mut old, _) = connect(at(VIP)).expect("the VIP answers");

        dataplane.set_vip(tcp(VIP), &backends(&[stays])).expect("room");
        assert_eq!(spread(at(VIP), 200), BTreeMap::from([(stays.port(), 200)]));
        old.write_all(b"still").expect("the old connection is open");
        old.read_exact(&mut [0; 5]).expect("an echo");

        dataplane.remove_vip(tcp(VIP)).expect("removable");
        dataplane.remove_vip(tcp(VIP)).expect("again is no error");
        let error = connect(at(VIP)).expect_err("nobody translates, and there is no route");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
        assert_eq!(dataplane.observe().expect("readable maps"), BTreeMap::new());
        old.write_all(b"still").expect("the old connection is open");
        assert_eq!(old.peer_addr().expect("connected"), at(VIP));
    });
}

#[test]
fn a_vip_without_admitted_backends_refuses_at_once() {
    in_room(|room| {
        let withheld = BackendWanted {
            admission: Admission::Withheld,
            ..BackendWanted::new(server("127.0.0.1"))
        };
        let idle = BackendWanted { weight: 0, ..BackendWanted::new(server("127.0.0.1")) };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        for (count, wanted) in [(1, vec![]), (2, vec![withheld]), (3, vec![withheld, idle])] {
            dataplane.set_vip(tcp(VIP), &wanted.into()).expect("room");
            let error = connect(at(VIP)).expect_err("nobody to send it to");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert_eq!(dataplane.refusals().expect("readable maps")[&tcp(VIP)], count);
        }
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let vip = VipAddress::udp(at("11.0.0.1:53"));
        dataplane.set_vip(vip, &backends(&[])).expect("room");
        let error = socket.send_to(b"?", vip.socket).expect_err("nobody to send it to");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(dataplane.refusals().expect("readable maps")[&vip], 1);
    });
}

#[test]
fn counts_say_how_connects_ended() {
    in_room(|room| {
        let alive = server("127.0.0.1");
        let closed_port = at("127.0.0.1:9");
        let unreachable = at("192.0.2.1:9");
        let (vip, refusing, lost) = (tcp(VIP), tcp("11.0.0.2:80"), tcp("11.0.0.3:80"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[alive])).expect("room");
        dataplane.set_vip(refusing, &backends(&[closed_port])).expect("room");
        dataplane.set_vip(lost, &backends(&[unreachable])).expect("room");

        let (stream, _) = connect(vip.socket).expect("the VIP answers");
        assert_eq!(numbers(&dataplane, vip, alive), [1, 1, 1, 0, 0, 1]);
        reset(stream);
        assert_eq!(numbers(&dataplane, vip, alive), [1, 1, 1, 0, 1, 0]);

        let error = connect(refusing.socket).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(numbers(&dataplane, refusing, closed_port), [1, 1, 0, 1, 0, 0]);

        let error = connect(lost.socket).expect_err("no route");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
        assert_eq!(numbers(&dataplane, lost, unreachable), [1, 1, 0, 1, 0, 0]);

        connect(alive).expect("a direct connect");
        assert_eq!(counts(&dataplane, vip, alive).chosen, 1, "direct connects are not counted");
    });
}

#[test]
fn datagrams_come_back_under_the_name_of_the_vip() {
    in_room(|room| {
        let (first, second) = (udp_server("127.0.0.1"), udp_server("127.0.0.1"));
        let v6 = udp_server("::1");
        let vip = VipAddress::udp(at("11.0.0.1:53"));
        let vip6 = VipAddress::udp(at("[fd01:c::1]:53"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[first, second])).expect("room");
        dataplane.set_vip(vip6, &backends(&[v6])).expect("room");

        let table = [
            ("0.0.0.0:0", "11.0.0.1:53"),
            ("[::]:0", "[::ffff:11.0.0.1]:53"),
            ("[::]:0", "[fd01:c::1]:53"),
        ];
        for (local, asked) in table {
            let mut answer = [0; 2];
            let loose = UdpSocket::bind(local).expect("a socket");
            let mut names = Vec::new();
            for _ in 0..10 {
                loose.send_to(b"?", at(asked)).expect("translated");
                let (_, from) = loose.recv_from(&mut answer).expect("an answer");
                assert_eq!(from, at(asked));
                names.push(answer);
            }
            names.dedup();
            assert_eq!(names.len(), 1, "{asked}: one socket stays with one backend");

            let tied = UdpSocket::bind(local).expect("a socket");
            tied.connect(at(asked)).expect("translated");
            assert_eq!(tied.peer_addr().expect("connected"), at(asked));
            tied.send(b"?").expect("connected");
            let (_, from) = tied.recv_from(&mut answer).expect("an answer");
            assert_eq!(from, at(asked));
        }
        let chosen = |backend| counts(&dataplane, vip, backend).chosen;
        assert_eq!(chosen(first) + chosen(second), 4, "one choice for each socket");
        assert_eq!(counts(&dataplane, vip6, v6).chosen, 2);
    });
}

#[test]
fn a_socket_that_is_used_again_shows_its_true_peer() {
    in_room(|room| {
        let (backend, other) = (udp_server("127.0.0.1"), udp_server("127.0.0.1"));
        let vip = VipAddress::udp(at("11.0.0.1:53"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[backend])).expect("room");
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect(vip.socket).expect("translated");
        assert_eq!(socket.peer_addr().expect("connected"), vip.socket);
        socket.connect(other).expect("direct");
        assert_eq!(socket.peer_addr().expect("connected"), other);
    });
}

/// Chosen, started, established, failed, closed, in flight.
fn numbers(dataplane: &Dataplane, vip: VipAddress, backend: SocketAddr) -> [u64; 6] {
    let Counts { chosen, started, established, failed, closed, in_flight, .. } =
        counts(dataplane, vip, backend);
    [chosen, started, established, failed, closed, in_flight]
}
