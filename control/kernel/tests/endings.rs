//! Sockets of backends that left are ended, and nobody else's.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use mizzen_ebpf_loader::{Dataplane, Removal, VipAddress, VipWanted};
use mizzen_kernel::endings::{Ended, Endings};
use mizzen_netlink::in_namespace;
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{at, connect, in_room, namespace, server, udp_server};

const SERVICE: &str = "11.0.0.1:80";

#[test]
fn a_client_that_outlives_its_backend_is_told_and_connects_again() {
    in_room(|room| {
        let (goes, stays) = (udp_server("127.0.0.1"), udp_server("127.0.0.1"));
        let vip = VipAddress::udp(at(SERVICE));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[goes])).expect("room");
        let mapped = at("[::ffff:11.0.0.1]:80");
        let clients = [("0.0.0.0:0", vip.socket), ("[::]:0", mapped)].map(|(local, vip)| {
            let client = connected(local, vip);
            assert_eq!(ask(&client).expect("an answer"), goes.port());
            (client, vip)
        });
        let waiting = connected("0.0.0.0:0", vip.socket);
        let waiter = std::thread::spawn(move || waiting.recv(&mut [0; 2]));

        dataplane.set_vip(vip, &backends(&[stays])).expect("room");
        let ended = end(&mut dataplane);
        assert_eq!(ended.sockets[&vip], 3, "{ended:?}");
        let error = waiter.join().expect("no panic").expect_err("its backend left");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "one that waits is woken");
        for (client, vip) in clients {
            let error = client.recv(&mut [0; 2]).expect_err("its backend left");
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            client.send(b"?").expect_err("there is nobody to send to");
            client.connect(vip).expect("the VIP has another backend");
            assert_eq!(ask(&client).expect("an answer"), stays.port());
        }
        assert_eq!(end(&mut dataplane).sockets.len(), 0, "nothing left since");
    });
}

#[test]
fn streams_end_if_asked_for() {
    in_room(|room| {
        let (goes, stays) = (server("127.0.0.1"), server("127.0.0.1"));
        let v6 = server("::1");
        let (vip, vip6) = (tcp(SERVICE), tcp("[fd01:c::1]:80"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        for (removal, is_ended) in
            [(Removal::EndDatagrams, false), (Removal::Keep, false), (Removal::EndAll, true)]
        {
            let wanted = |addresses: &[SocketAddr]| VipWanted { removal, ..backends(addresses) };
            dataplane.set_vip(vip, &wanted(&[goes])).expect("room");
            dataplane.set_vip(vip6, &wanted(&[v6])).expect("room");
            let streams = [vip.socket, at("[::ffff:11.0.0.1]:80"), vip6.socket]
                .map(|vip| connect(vip).expect("the VIP answers").0);
            let mut direct = connect(goes).expect("it listens").0;

            dataplane.set_vip(vip, &wanted(&[stays])).expect("room");
            dataplane.remove_vip(vip6).expect("removable");
            let ended = end(&mut dataplane);
            assert_eq!(ended.sockets.values().sum::<u64>(), if is_ended { 3 } else { 0 });
            for mut stream in streams {
                let answer = stream.write_all(b"?").and_then(|()| stream.read(&mut [0; 1]));
                match answer {
                    Ok(1) => assert!(!is_ended, "{removal:?}"),
                    Err(error) if is_ended => {
                        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                    }
                    other => panic!("{removal:?}: {other:?}"),
                }
            }
            direct.write_all(b"?").expect("not translated, so not ours");
            assert_eq!(direct.read(&mut [0; 1]).expect("an echo"), 1);
        }
    });
}

#[test]
fn other_sockets_of_the_same_program_go_on() {
    in_room(|room| {
        let (goes, stays) = (udp_server("127.0.0.1"), udp_server("127.0.0.1"));
        let vip = VipAddress::udp(at(SERVICE));
        let kept = VipAddress::udp(at("11.0.0.2:80"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[goes])).expect("room");
        let keep = VipWanted { removal: Removal::Keep, ..backends(&[goes]) };
        dataplane.set_vip(kept, &keep).expect("room");
        let direct = connected("0.0.0.0:0", goes);
        let loose = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        loose.send_to(b"?", vip.socket).expect("translated");
        let other_vip = connected("0.0.0.0:0", kept.socket);
        let reused = connected("0.0.0.0:0", vip.socket);
        reused.connect(stays).expect("direct from now on");
        let theirs = connected("0.0.0.0:0", vip.socket);

        dataplane.set_vip(vip, &backends(&[stays])).expect("room");
        dataplane.remove_vip(kept).expect("removable");
        let ended = end(&mut dataplane);
        assert_eq!(ended.sockets.into_iter().collect::<Vec<_>>(), [(vip, 1)]);
        ask(&theirs).expect_err("its backend left");
        for (socket, peer) in [(direct, goes), (other_vip, goes), (reused, stays)] {
            assert_eq!(ask(&socket).expect("untouched"), peer.port());
        }
        loose.recv_from(&mut [0; 2]).expect("the answer to its first datagram");
        loose.send_to(b"?", vip.socket).expect("translated anew");
        loose.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut answer = [0; 2];
        assert_eq!(loose.recv_from(&mut answer).expect("an answer").1, vip.socket);
        assert_eq!(u16::from_be_bytes(answer), stays.port());
    });
}

#[test]
fn sockets_are_found_in_whichever_network_namespace() {
    in_room(|room| {
        let (_other, path) = namespace();
        let vip = VipAddress::udp(at(SERVICE));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let (goes, stays) = (at("127.0.0.1:4001"), at("127.0.0.1:4002"));
        dataplane.set_vip(vip, &backends(&[goes])).expect("room");
        let there = in_namespace(&path, || connected("0.0.0.0:0", vip.socket)).expect("alive");
        let here = connected("0.0.0.0:0", vip.socket);

        dataplane.set_vip(vip, &backends(&[stays])).expect("room");
        let ended = end(&mut dataplane);
        assert_eq!(ended.sockets[&vip], 2, "{ended:?}");
        for socket in [there, here] {
            let error = socket.recv(&mut [0; 2]).expect_err("its backend left");
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        }
    });
}

/// What the daemon does after a change.
fn end(dataplane: &mut Dataplane) -> Ended {
    let table = dataplane.socket_table().expect("descriptors");
    let ended = Endings::default().end_sockets(&table, &dataplane.take_leavers());
    assert!(ended.errors.is_empty() && ended.lost.is_empty(), "{ended:?}");
    ended
}

fn connected(local: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(local).expect("a socket");
    socket.connect(to).expect("an address that can be reached");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket
}

fn ask(socket: &UdpSocket) -> std::io::Result<u16> {
    let mut answer = [0; 2];
    socket.send(b"?")?;
    socket.recv(&mut answer)?;
    Ok(u16::from_be_bytes(answer))
}
