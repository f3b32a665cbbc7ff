//! Backends that fail: ejected, probed, admitted again.

use mizzen_tests_support::load::{Load, while_loaded};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use mizzen_ebpf_loader::{Admission, Counts, Dataplane, Reason, Rule, Tuning, VipWanted};

use crate::{VIP, counts};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{at, in_room, reset, sink};
use mizzen_tests_support::wait::eventually;

#[test]
fn a_backend_that_refuses_is_ejected_and_the_others_serve() {
    in_room(|room| {
        let (closed, another) = (Closed::new(), Closed::new());
        let bad = closed.address;
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&patient());
        dataplane
            .set_vip(tcp(VIP), &drawn(&[bad, sink(LOCAL), sink(LOCAL), sink(LOCAL)]))
            .expect("room");
        let failed = connect_until(|| counts(&dataplane, tcp(VIP), bad).ejections > 0);
        assert_eq!(failed, 3, "three in a row are enough, and needed");
        let state = counts(&dataplane, tcp(VIP), bad);
        assert_eq!((state.failed, state.failures_in_a_row), (3, 3));
        assert!(state.ejected_for.is_some_and(|pause| pause > 0), "{state:?}");

        for _ in 0..300 {
            reset(TcpStream::connect(at(VIP)).expect("the others serve"));
        }
        assert_eq!(counts(&dataplane, tcp(VIP), bad).started, 3, "it is left alone");
        let mut sockets = dataplane.sockets();
        sockets.retain(|socket| socket.passed_over && socket.backend != bad);
        assert!(!sockets.is_empty(), "those that it was drawn for say so");

        // A restart of the daemon does not forget it, and a backend that goes takes its ejection along.
        drop(dataplane);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable again");
        dataplane.tune(&patient());
        assert!(counts(&dataplane, tcp(VIP), bad).ejected_for.is_some());
        dataplane.set_vip(tcp(VIP), &drawn(&[sink(LOCAL), another.address])).expect("room");
        let failed = connect_until(|| ejections(&dataplane) > 0);
        assert_eq!(failed, 3, "no ejection is left over that would admit all");
        (0..50).for_each(|_| reset(TcpStream::connect(at(VIP)).expect("the other serves")));
    });
}

#[test]
fn pauses_grow_and_end_with_one_probe_each() {
    in_room(|room| {
        let closed = Closed::new();
        let bad = closed.address;
        let pause = Duration::from_millis(500);
        let tuning = Tuning { pause, longest_pause: 10 * pause, ..Tuning::default() };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&tuning);
        dataplane.set_vip(tcp(VIP), &drawn(&[bad, sink(LOCAL), sink(LOCAL)])).expect("room");
        let mut longest = [0; 5];
        let failed = with_clients(4, || {
            eventually("it was ejected four times", || {
                let Counts { ejections, ejected_for, .. } = counts(&dataplane, tcp(VIP), bad);
                let longest = &mut longest[ejections.min(4) as usize];
                *longest = ejected_for.unwrap_or(0).max(*longest);
                ejections >= 4
            });
        });
        let state = counts(&dataplane, tcp(VIP), bad);
        assert!(longest[2] > 500 && longest[3] > 1_000, "pauses grow: {longest:?}");
        // Until it was ejected, each of the four clients may have had one more under way.
        assert!((6..=6 + 3 + 1).contains(&state.started), "one probe ends a pause: {state:?}");
        assert_eq!(failed, state.failed, "nothing else failed");
        let probes =
            dataplane.sockets().into_iter().filter(|socket| socket.reason == Reason::Probe);
        assert!(probes.clone().count() > 0 && probes.clone().all(|probe| probe.backend == bad));

        // It comes back with the first probe that is answered.
        closed.open();
        with_clients(4, || {
            eventually("it is admitted", || {
                counts(&dataplane, tcp(VIP), bad).ejected_for.is_none()
            });
            let before = counts(&dataplane, tcp(VIP), bad).established;
            eventually("it serves", || {
                counts(&dataplane, tcp(VIP), bad).established > before + 100
            });
        });
        assert_eq!(counts(&dataplane, tcp(VIP), bad).failures_in_a_row, 0);
    });
}

#[test]
fn one_that_is_withheld_does_not_count_among_the_ejected() {
    in_room(|room| {
        let closed: [Closed; 3] = std::array::from_fn(|_| Closed::new());
        let sick = closed.each_ref().map(|closed| closed.address);
        let servers: Vec<SocketAddr> = sick.into_iter().chain([sink(LOCAL), sink(LOCAL)]).collect();
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&patient());
        // One after the other, so that never so many are sick that all are admitted.
        let only = |sick: &[SocketAddr]| {
            let mut wanted = drawn(&servers);
            let is_shut = |at: &SocketAddr| servers[..3].contains(at) && !sick.contains(at);
            let shut = wanted.backends.iter_mut().filter(|backend| is_shut(&backend.address));
            shut.for_each(|backend| backend.admission = Admission::Withheld);
            wanted
        };
        dataplane.set_vip(tcp(VIP), &only(&sick[..2])).expect("room");
        connect_until(|| ejections(&dataplane) == 2);
        // They are found unhealthy, then a third one fails.
        dataplane.set_vip(tcp(VIP), &only(&sick[2..])).expect("room");
        assert_eq!(counts(&dataplane, tcp(VIP), sick[0]).ejected_for, None);
        connect_until(|| ejections(&dataplane) == 3);
        for _ in 0..100 {
            reset(TcpStream::connect(at(VIP)).expect("one of the two good ones serves"));
        }
    });
}

#[test]
fn a_probe_whose_syn_is_repeated_makes_the_pause_longer_once() {
    in_room(|room| {
        let full = FullBacklog::new();
        let bad = full.address;
        let pause = Duration::from_secs(1);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&Tuning { failures: 1, pause, ..Tuning::default() });
        dataplane.set_vip(tcp(VIP), &drawn(&[bad])).expect("room");
        let first = begin_connect();
        eventually("it is ejected", || ejections(&dataplane) == 1);
        drop(first);
        dataplane.set_vip(tcp(VIP), &drawn(&[bad, sink(LOCAL), sink(LOCAL)])).expect("room");
        let mut probe = None;
        eventually("it is probed", || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.expect("a socket");
            socket.set_nonblocking(true).expect("a flag");
            // Whoever takes it.
            let _ = socket.connect(&at(VIP).into());
            let sockets = dataplane.sockets();
            let is_probe =
                sockets.iter().any(|one| one.reason == Reason::Probe && one.backend == bad);
            probe = is_probe.then_some(socket);
            is_probe
        });
        eventually("its SYN is repeated", || ejections(&dataplane) == 2);
        drop(probe);
        let state = counts(&dataplane, tcp(VIP), bad);
        assert_eq!((state.ejections, state.in_flight), (2, 0), "{state:?}");
    });
}

#[test]
fn a_backend_that_drops_handshakes_gets_eight_at_most() {
    in_room(|room| {
        let full = FullBacklog::new();
        let bad = full.address;
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&patient());
        let servers = [bad, sink(LOCAL), sink(LOCAL), sink(LOCAL)];
        dataplane.set_vip(tcp(VIP), &backends(&servers)).expect("room");
        with_clients(8, || {
            eventually("it is ejected", || counts(&dataplane, tcp(VIP), bad).ejections > 0);
            let others = |dataplane: &Dataplane| {
                servers[1..]
                    .iter()
                    .map(|good| counts(dataplane, tcp(VIP), *good).established)
                    .sum::<u64>()
            };
            let before = others(&dataplane);
            eventually("the others serve", || others(&dataplane) > before + 2_000);
        });
        let state = counts(&dataplane, tcp(VIP), bad);
        assert!((1..=8).contains(&state.started), "{state:?}");
        assert_eq!(state.established, 0);
    });
}

#[test]
fn one_at_a_time_tries_a_backend_that_is_silent() {
    in_room(|room| {
        let full = FullBacklog::new();
        let bad = full.address;
        // Nothing but the probe itself keeps the others away.
        let (pause, handshake) = (Duration::from_millis(500), Duration::from_secs(3_600));
        let tuning = Tuning { pause, handshake, ..Tuning::default() };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&tuning);
        dataplane.set_vip(tcp(VIP), &drawn(&[bad, sink(LOCAL), sink(LOCAL)])).expect("room");
        with_clients(8, || {
            let state = || counts(&dataplane, tcp(VIP), bad);
            eventually("it is ejected", || state().ejections > 0);
            let before = state().started;
            eventually("it is probed", || state().started > before);
            let connects = |dataplane: &Dataplane| {
                let counters = dataplane.counters().expect("readable maps");
                counters.values().map(|counts| counts.established).sum::<u64>()
            };
            let served = connects(&dataplane);
            eventually("the others serve", || connects(&dataplane) > served + 500);
            let probes = state().started - before;
            assert!((1..=3).contains(&probes), "{probes} of 8 clients tried it at once");
        });
    });
}

#[test]
fn a_backend_that_leaves_a_handshake_unanswered_is_passed_over() {
    in_room(|room| {
        let full = FullBacklog::new();
        let bad = full.address;
        let tuning = Tuning { failures: 0, handshake: Duration::from_millis(50), ..patient() };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&tuning);
        dataplane.set_vip(tcp(VIP), &drawn(&[bad])).expect("room");
        let pending = begin_connect();
        dataplane.set_vip(tcp(VIP), &drawn(&[bad, sink(LOCAL)])).expect("room");
        let waiting = || counts(&dataplane, tcp(VIP), bad).waiting_for;
        eventually("it has waited", || waiting().is_some_and(|waited| waited > 50));
        (0..100).for_each(|_| reset(TcpStream::connect(at(VIP)).expect("the other serves")));
        let state = counts(&dataplane, tcp(VIP), bad);
        assert_eq!((state.started, state.ejections), (1, 0), "not ejected, and left alone");
        drop(pending);
        let state = counts(&dataplane, tcp(VIP), bad);
        assert_eq!((state.waiting_for, state.failed), (None, 1), "nobody waits any more");
    });
}

#[test]
fn a_handshake_that_has_to_be_repeated_counts_before_the_client_gives_up() {
    in_room(|room| {
        let full = FullBacklog::new();
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&Tuning { failures: 1, ..patient() });
        dataplane.set_vip(tcp(VIP), &drawn(&[full.address])).expect("room");
        let pending = begin_connect();
        eventually("it is ejected", || ejections(&dataplane) > 0);
        let state = counts(&dataplane, tcp(VIP), full.address);
        assert_eq!((state.started, state.failed, state.in_flight), (1, 0, 1));
        drop(pending);
    });
}

#[test]
fn with_too_few_left_all_are_admitted() {
    in_room(|room| {
        let both = [Closed::new(), Closed::new()];
        let [bad, worse] = both.each_ref().map(|closed| closed.address);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&patient());
        dataplane.set_vip(tcp(VIP), &drawn(&[bad, worse])).expect("room");
        let failed = connect_until(|| ejections(&dataplane) == 2);
        assert!(failed >= 6, "{failed} failures ejected both");
        for _ in 0..20 {
            TcpStream::connect(at(VIP)).expect_err("nobody listens");
        }
        for backend in [bad, worse] {
            let state = counts(&dataplane, tcp(VIP), backend);
            assert!(state.started > 3, "it is tried all the same: {state:?}");
        }
        // So the first one that listens again serves, whatever the pause.
        both[0].open();
        eventually("it serves", || TcpStream::connect(at(VIP)).is_ok());
        assert_eq!(counts(&dataplane, tcp(VIP), bad).ejected_for, None);
        assert!(counts(&dataplane, tcp(VIP), worse).ejected_for.is_some());
    });
}

#[test]
fn one_healthy_backend_of_four_does_not_get_all() {
    in_room(|room| {
        let closed = [Closed::new(), Closed::new(), Closed::new()];
        let bad = closed.each_ref().map(|closed| closed.address);
        let good = sink(LOCAL);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&patient());
        let servers: Vec<SocketAddr> = bad.into_iter().chain([good]).collect();
        dataplane.set_vip(tcp(VIP), &drawn(&servers)).expect("room");
        connect_until(|| ejections(&dataplane) == 3);
        let started = |dataplane: &Dataplane| {
            bad.iter().map(|bad| counts(dataplane, tcp(VIP), *bad).started).sum::<u64>()
        };
        let before = started(&dataplane);
        for _ in 0..200 {
            connect_once();
        }
        let tried = started(&dataplane) - before;
        assert!((100..=190).contains(&tried), "{tried} of 200 went to the three as before");

        // A smaller share has to be left from now on, and one is enough.
        dataplane.tune(&Tuning { least_left: 20, ..patient() });
        let before = started(&dataplane);
        (0..200).for_each(|_| reset(TcpStream::connect(at(VIP)).expect("the good one serves")));
        assert_eq!(started(&dataplane), before);
    });
}

#[test]
fn zero_failures_eject_nobody() {
    in_room(|room| {
        let closed = Closed::new();
        let bad = closed.address;
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.tune(&Tuning { failures: 0, ..Tuning::default() });
        dataplane.set_vip(tcp(VIP), &drawn(&[bad, sink(LOCAL)])).expect("room");
        connect_until(|| counts(&dataplane, tcp(VIP), bad).failed >= 20);
        assert_eq!(ejections(&dataplane), 0);
    });
}

const LOCAL: &str = "127.0.0.1";

/// Ejects for longer than any test runs.
fn patient() -> Tuning {
    Tuning { pause: Duration::from_secs(60), ..Tuning::default() }
}

fn drawn(servers: &[SocketAddr]) -> VipWanted {
    VipWanted { rule: Rule::Random, ..backends(servers) }
}

/// An address at which nobody listens yet. The port is kept: another server must not get it, and
/// no connection that is opened here may begin there.
struct Closed {
    address: SocketAddr,
    socket: socket2::Socket,
}

impl Closed {
    fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let any: SocketAddr = at("127.0.0.1:0");
        socket.bind(&any.into()).expect("a free port");
        let bound = socket.local_addr().expect("it is bound");
        Self { address: bound.as_socket().expect("an IPv4 socket"), socket }
    }

    /// Closes what it accepts from now on.
    fn open(&self) {
        self.socket.listen(1_024).expect("it is bound");
        let listener = TcpListener::from(self.socket.try_clone().expect("a descriptor"));
        thread::spawn(move || listener.incoming().for_each(drop));
    }
}

fn ejections(dataplane: &Dataplane) -> u64 {
    dataplane.counters().expect("readable maps").values().map(|counts| counts.ejections).sum()
}

/// Connects one after another until `condition` holds; how many were refused. None fails otherwise.
fn connect_until(mut condition: impl FnMut() -> bool) -> u64 {
    let mut failed = 0;
    eventually("enough connects", || {
        failed += connect_once();
        condition()
    });
    failed
}

/// 1 if it was refused, 0 if it was not, or took too long.
fn connect_once() -> u64 {
    match TcpStream::connect_timeout(&at(VIP), Duration::from_secs(3)) {
        Ok(stream) => {
            reset(stream);
            0
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => 0,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            1
        }
    }
}

/// A connect to the VIP that is under way.
fn begin_connect() -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.set_nonblocking(true).expect("a flag");
    let error = socket.connect(&at(VIP).into()).expect_err("nobody answers at once");
    assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{error}");
    socket
}

/// Lets so many clients connect in a loop while `work` runs; how many connects were refused.
fn with_clients(clients: usize, work: impl FnOnce()) -> u64 {
    let connecting = |load: &Load| {
        let mut failed = 0;
        while load.goes_on() {
            failed += connect_once();
        }
        failed
    };
    while_loaded(std::iter::repeat_n(connecting, clients), |_| work()).0.into_iter().sum()
}

/// Somebody who listens and accepts nobody: the kernel drops what is sent to him.
struct FullBacklog {
    address: SocketAddr,
    _listener: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

impl FullBacklog {
    fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        let any: SocketAddr = at("127.0.0.1:0");
        listener.bind(&any.into()).expect("a free port");
        listener.listen(0).expect("it is bound");
        let bound = listener.local_addr().expect("it is bound");
        let address = bound.as_socket().expect("an IPv4 socket");
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            waiting.push(stream);
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}
