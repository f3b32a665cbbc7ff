//! Flows of datagrams: their beginning, their end, and what they carry.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use mizzen_ebpf_loader::{
    Admission, BackendWanted, Counts, Dataplane, Leaver, Rule, Tuning, VipAddress, VipWanted,
};
use mizzen_netlink::{LinkChange, Netlink};

use crate::counts;
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{at, connect, in_room, udp_server};
use mizzen_tests_support::wait::eventually;

#[test]
fn a_connected_socket_is_in_flight_until_it_is_closed() {
    in_room(|room| {
        let (first, second) = (udp_server("127.0.0.1"), udp_server("127.0.0.1"));
        let (vip, other) = (VipAddress::udp(at("11.0.0.1:53")), VipAddress::udp(at("11.0.0.2:53")));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[first])).expect("room");
        dataplane.set_vip(other, &backends(&[second])).expect("room");
        let sockets: Vec<UdpSocket> = (0..3).map(|_| connected(vip.socket)).collect();
        assert_eq!(flows(&dataplane, vip, first), (3, 3, 0));
        sockets[0].connect(other.socket).expect("translated");
        assert_eq!(flows(&dataplane, vip, first), (3, 2, 1), "one has moved on");
        assert_eq!(flows(&dataplane, other, second), (1, 1, 0));
        drop(sockets);
        assert_eq!(flows(&dataplane, vip, first), (3, 0, 3));
        assert_eq!(flows(&dataplane, other, second), (1, 0, 1));
    });
}

#[test]
fn a_flow_that_falls_silent_ends() {
    in_room(|room| {
        let backend = udp_server("127.0.0.1");
        let vip = VipAddress::udp(at("11.0.0.1:53"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[backend])).expect("room");
        let loose = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let tied = connected(vip.socket);
        loose.send_to(b"?", vip.socket).expect("translated");
        dataplane.expire_flows().unwrap();
        assert_eq!(flows(&dataplane, vip, backend), (2, 2, 0), "neither is silent yet");
        dataplane.tune(&Tuning { idle: Duration::from_millis(20), ..Tuning::default() });
        eventually("the unconnected one is over", || {
            dataplane.expire_flows().unwrap();
            flows(&dataplane, vip, backend) == (2, 1, 1)
        });
        loose.send_to(b"?", vip.socket).expect("translated");
        assert_eq!(flows(&dataplane, vip, backend), (3, 2, 1), "another flow has begun");
        // Without a daemon that looks, the next datagram after a silence begins another one.
        thread::sleep(Duration::from_millis(30));
        loose.send_to(b"?", vip.socket).expect("translated");
        assert_eq!(flows(&dataplane, vip, backend), (4, 2, 2));
        drop((loose, tied));
        assert_eq!(flows(&dataplane, vip, backend), (4, 0, 4));
    });
}

#[test]
fn a_socket_with_several_vips_stays_with_one_backend_of_each() {
    in_room(|room| {
        let vips = [1, 2, 3].map(|n| VipAddress::udp(at(&format!("11.0.0.{n}:53"))));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        for vip in vips {
            // Of a backend that two VIPs share, nobody could tell which of them answers.
            let servers: Vec<SocketAddr> = (0..8).map(|_| udp_server("127.0.0.1")).collect();
            let drawn = VipWanted { rule: Rule::Random, ..backends(&servers) };
            dataplane.set_vip(vip, &drawn).expect("room");
        }
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let mut answers = [const { Vec::new() }; 3];
        for _ in 0..20 {
            for (vip, answers) in vips.iter().zip(&mut answers) {
                let mut answer = [0; 2];
                socket.send_to(b"?", vip.socket).expect("translated");
                let (_, from) = socket.recv_from(&mut answer).expect("an answer");
                assert_eq!(from, vip.socket);
                answers.push(answer);
            }
        }
        for mut answers in answers {
            answers.dedup();
            assert_eq!(answers.len(), 1);
        }
    });
}

#[test]
fn datagrams_of_the_size_of_the_link_go_both_ways() {
    in_room(|room| {
        let mut netlink = Netlink::open().expect("a netlink socket");
        netlink.set_link("lo", &LinkChange::new().mtu(1500)).expect("root");
        let (v4, v6) = (echo("127.0.0.1"), echo("::1"));
        let (vip, vip6) =
            (VipAddress::udp(at("11.0.0.1:53")), VipAddress::udp(at("[fd01:c::1]:53")));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[v4])).expect("room");
        dataplane.set_vip(vip6, &backends(&[v6])).expect("room");
        for (local, vip, headers) in [("0.0.0.0:0", vip, 28), ("[::]:0", vip6, 48)] {
            let loose = UdpSocket::bind(local).expect("a socket");
            let tied = UdpSocket::bind(local).expect("a socket");
            tied.connect(vip.socket).expect("translated");
            for size in [0, 1, 1500 - headers, 1501 - headers, 9_000, 65_507] {
                let data: Vec<u8> = (0..size).map(|n| n as u8).collect();
                let mut answer = vec![0; 65_535];
                loose.send_to(&data, vip.socket).expect("translated");
                let (length, from) = loose.recv_from(&mut answer).expect("an echo");
                assert_eq!((&answer[..length], from), (data.as_slice(), vip.socket));
                tied.send(&data).expect("connected");
                let length = tied.recv(&mut answer).expect("an echo");
                assert_eq!(&answer[..length], data.as_slice());
            }
        }
    });
}

#[test]
fn an_error_of_the_backend_reaches_the_client() {
    in_room(|room| {
        let nobody = at("127.0.0.1:9");
        let vip = VipAddress::udp(at("11.0.0.1:53"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[nobody])).expect("room");
        let socket = connected(vip.socket);
        socket.send(b"?").expect("nobody knows yet");
        let error = socket.recv(&mut [0; 2]).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn without_backends_every_call_is_refused_at_once() {
    in_room(|room| {
        let withheld = BackendWanted {
            admission: Admission::Withheld,
            ..BackendWanted::new(at("127.0.0.1:1"))
        };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        for (vip, local) in [("11.0.0.1:80", "0.0.0.0:0"), ("[fd01:c::1]:80", "[::]:0")] {
            for wanted in [VipWanted::default(), VipWanted::from(vec![withheld])] {
                dataplane.set_vip(tcp(vip), &wanted).expect("room");
                dataplane.set_vip(VipAddress::udp(at(vip)), &wanted).expect("room");
                let socket = UdpSocket::bind(local).expect("a socket");
                let refused = [
                    connect(at(vip)).map(drop),
                    socket.send_to(b"?", at(vip)).map(drop),
                    socket.connect(at(vip)),
                ];
                for refused in refused {
                    let error = refused.expect_err("nobody to send it to");
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{vip}");
                }
            }
        }
    });
}

#[test]
fn a_socket_whose_place_is_taken_is_followed_all_the_same() {
    in_room(|room| {
        let backend = udp_server("127.0.0.1");
        let vip = VipAddress::udp(at("11.0.0.1:53"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[backend])).expect("room");
        let holders: Vec<UdpSocket> = (0..64).map(|_| connected(vip.socket)).collect();
        let places: Vec<u64> = holders.iter().map(place).collect();
        // The kernel gives numbers out one after another, some to others; soon one meets a taken place.
        let mut second = None;
        for _ in 0..40 * 65_536 {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            if places.contains(&place(&socket)) {
                second = Some(socket);
                break;
            }
        }
        let second = second.expect("two sockets with one place");
        second.connect(vip.socket).expect("translated");
        assert_eq!(flows(&dataplane, vip, backend).1, 65);
        assert_eq!(second.peer_addr().expect("connected"), vip.socket);
        let first =
            &holders[places.iter().position(|taken| *taken == place(&second)).expect("one")];
        assert_eq!(first.peer_addr().expect("connected"), vip.socket);

        // It is found when its backend leaves, as all others are.
        dataplane.set_vip(vip, &backends(&[udp_server("127.0.0.1")])).expect("room");
        let leavers = dataplane.take_leavers();
        assert_eq!(
            leavers.iter().map(|leaver: &Leaver| leaver.backend).collect::<Vec<_>>(),
            [backend]
        );
        let table = dataplane.socket_table().expect("descriptors");
        let found = table.sockets_of(&leavers).expect("readable maps");
        assert_eq!(found.len(), 65);
        drop(second);
        assert_eq!(table.sockets_of(&leavers).expect("readable maps").len(), 64);
        drop(holders);
        assert_eq!(table.sockets_of(&leavers).expect("readable maps").len(), 0);
    });
}

/// Where the programs look for a socket first.
fn place(socket: &UdpSocket) -> u64 {
    socket2::SockRef::from(socket).cookie().expect("a number") % 65_536
}

/// Chosen, in flight, closed.
fn flows(dataplane: &Dataplane, vip: VipAddress, backend: SocketAddr) -> (u64, u64, u64) {
    let Counts { chosen, in_flight, closed, .. } = counts(dataplane, vip, backend);
    (chosen, in_flight, closed)
}

fn connected(vip: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect(vip).expect("translated");
    socket
}

/// Starts a UDP server on a free port of `ip` that sends back what it gets.
fn echo(ip: &str) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], peer);
        }
    });
    address
}
