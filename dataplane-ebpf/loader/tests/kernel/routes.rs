//! Backends that nothing leads to: the connect fails before a packet leaves.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use mizzen_ebpf_loader::{Counts, Dataplane, Reason, Stage, Tuning};
use mizzen_netlink::{DuplicateDetection, IfIndex, Netlink, in_namespace};
use mizzen_tests_support::load::{Load, while_loaded};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{VIP, counts};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{at, in_room, namespace, reset, sink};
use mizzen_tests_support::wait::eventually;

#[test]
fn a_backend_without_a_route_is_ejected_and_comes_back_with_it() {
    in_room(|room| {
        let (mut ways, servers) = (Ways::new(), [1, 2, 3, 4].map(listener));
        servers.iter().for_each(|server| ways.open(*server));
        let bad = servers[1];
        let pause = Duration::from_millis(100);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&Tuning { pause, longest_pause: 2 * pause, ..Tuning::default() });
        // By cost: a backend that never has a connection would be the cheapest of all.
        dataplane.set_vip(tcp(VIP), &backends(&servers)).expect("room");
        let state = || counts(&dataplane, tcp(VIP), bad);
        let unreachable = with_clients(4, || {
            eventually("it serves", || state().established > 50);
            ways.close(bad);
            eventually("it is ejected", || state().ejections > 0);
            let others = || {
                let good = servers.iter().filter(|server| **server != bad);
                good.map(|good| counts(&dataplane, tcp(VIP), *good).established).sum::<u64>()
            };
            let before = others();
            eventually("the others serve", || others() > before + 1_000);
            eventually("it is tried in vain", || state().ejections >= 4);
        });
        let Counts { failed, ejections, ejected_for, .. } = state();
        assert!(ejected_for.is_some());
        // Three that eject it, one more that each of the other clients had under way, and a probe after each pause.
        assert!((unreachable..=ejections + 5).contains(&failed), "{failed}, {ejections}");
        assert!(unreachable >= 3, "{unreachable}");
        let sockets = dataplane.sockets();
        let lost = sockets.iter().filter(|socket| socket.backend == bad && socket.local.is_none());
        assert!(lost.clone().count() > 0 && lost.clone().all(|lost| lost.stage == Stage::Failed));
        assert!(lost.clone().any(|lost| lost.reason == Reason::Probe), "{sockets:?}");

        ways.open(bad);
        with_clients(4, || {
            eventually("it is admitted", || state().ejected_for.is_none());
            let before = state().established;
            eventually("it serves again", || state().established > before + 50);
        });
        assert_eq!(state().failures_in_a_row, 0);
    });
}

#[test]
fn a_socket_that_connects_again_has_failed_before() {
    in_room(|room| {
        let lost = at("10.9.0.1:80");
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[lost])).expect("room");
        for blocking in [true, false] {
            let before = counts(&dataplane, tcp(VIP), lost);
            let socket = stream(Protocol::TCP);
            socket.set_nonblocking(!blocking).expect("a flag");
            for n in 0..3 {
                let error = socket.connect(&at(VIP).into()).expect_err("no route");
                assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
                assert_eq!(counts(&dataplane, tcp(VIP), lost).failed, before.failed + n);
            }
            drop(socket);
            let state = counts(&dataplane, tcp(VIP), lost);
            assert_eq!((state.started, state.failed), (before.started + 3, before.failed + 3));
            assert_eq!((state.chosen, state.in_flight, state.pending()), (state.started, 0, 0));
            assert_eq!(state.ejections, 1, "once, and it is taken all the same for want of others");
        }
    });
}

#[test]
fn who_has_no_way_to_any_backend_or_sends_nothing_blames_none() {
    in_room(|room| {
        let (backend, lost) = (sink("127.0.0.1"), at("10.9.0.1:80"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[lost])).expect("room");
        // What a container lacks, or is not allowed, says nothing to others.
        let (_container, path) = namespace();
        in_namespace(&path, || {
            for _ in 0..20 {
                let error = TcpStream::connect(at(VIP)).expect_err("no route");
                assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
            }
        })
        .expect("alive");
        let lost = counts(&dataplane, tcp(VIP), lost);
        assert_eq!((lost.chosen, lost.started, lost.failed, lost.ejections), (20, 0, 0, 0));

        // The SYN waits for the first data, and there is none.
        dataplane.set_vip(tcp(VIP), &backends(&[backend])).expect("room");
        let before = counts(&dataplane, tcp(VIP), backend);
        let socket = stream(Protocol::TCP);
        set(&socket, libc::TCP_FASTOPEN_CONNECT).expect("TCP Fast Open");
        set(&socket, TCP_FASTOPEN_NO_COOKIE).expect("TCP Fast Open");
        socket.connect(&at(VIP).into()).expect("put off");
        drop(socket);
        // The connections of a multipath socket are not the socket that connects.
        let socket = stream(libc::IPPROTO_MPTCP.into());
        socket.connect(&at(VIP).into()).expect("the VIP answers");
        drop(socket);
        let after = counts(&dataplane, tcp(VIP), backend);
        assert_eq!((after.chosen, after.failed), (before.chosen + 2, before.failed));
        assert_eq!(after.failures_in_a_row, 0);
    });
}

/// Ways to addresses that nothing else leads to.
struct Ways {
    netlink: Netlink,
    loopback: IfIndex,
}

impl Ways {
    fn new() -> Self {
        let mut netlink = Netlink::open().expect("a netlink socket");
        let loopback = netlink.observe_link("lo").expect("answers").expect("there is always one");
        Self { netlink, loopback: loopback.index }
    }

    fn open(&mut self, to: SocketAddr) {
        let (net, detection) = (IpNet::from(to.ip()), DuplicateDetection::Off);
        self.netlink.ensure_address(self.loopback, net, detection).expect("root");
    }

    fn close(&mut self, to: SocketAddr) {
        self.netlink.remove_address(self.loopback, IpNet::from(to.ip())).expect("root");
    }
}

/// Where a server is that closes what it accepts, once there is a way to it.
fn listener(number: u8) -> SocketAddr {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || listener.incoming().for_each(drop));
    SocketAddr::from(([10, 9, 0, number], port))
}

/// Lets so many clients connect in a loop while `work` runs; how many found no way.
fn with_clients(clients: usize, work: impl FnOnce()) -> u64 {
    let connecting = |load: &Load| {
        let mut lost = 0;
        while load.goes_on() {
            match TcpStream::connect_timeout(&at(VIP), Duration::from_secs(3)) {
                Ok(stream) => reset(stream),
                Err(error) if error.kind() == ErrorKind::NetworkUnreachable => lost += 1,
                // Its way went while it shook hands.
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
            }
        }
        lost
    };
    while_loaded(std::iter::repeat_n(connecting, clients), |_| work()).0.into_iter().sum()
}

fn stream(protocol: Protocol) -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, Some(protocol)).expect("a socket")
}

/// Switches an option of TCP on.
fn set(socket: &Socket, option: libc::c_int) -> io::Result<()> {
    let (on, length) = (1 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the socket is open, and the option is as long as said.
    let result = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, value, length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const TCP_FASTOPEN_NO_COOKIE: libc::c_int = 34;
