//! The dataplane in a real kernel, seen the way programs and the daemon see it.

mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use mizzen_ebpf_loader::{
    Admission, BackendWanted, Counts, Dataplane, LoadError, MapError, Options, VipAddress, probe,
    teardown,
};
use support::{at, backends, connect, eventually, in_room, reset, server, tcp, udp_server};

const VIP: &str = "11.0.0.1:80";

/// Connects `times` and returns how often each backend answered.
fn spread(vip: SocketAddr, times: u32) -> BTreeMap<u16, u32> {
    let mut hits = BTreeMap::new();
    for _ in 0..times {
        let (stream, port) = connect(vip).expect("the VIP answers");
        *hits.entry(port).or_default() += 1;
        reset(stream);
    }
    hits
}

fn counts(dataplane: &Dataplane, vip: VipAddress, backend: SocketAddr) -> Counts {
    dataplane.counters().expect("readable maps")[&(vip, backend)]
}

#[test]
fn connects_spread_over_the_backends_and_show_the_vip() {
    in_room("connects_spread_over_the_backends_and_show_the_vip", |room| {
        let (first, second) = (server("127.0.0.2"), server("127.0.0.3"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[first, second])).expect("room");

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
fn weights_and_admission_decide_who_gets_connects() {
    in_room("weights_and_admission_decide_who_gets_connects", |room| {
        let servers = [server("127.0.0.1"), server("127.0.0.1"), server("127.0.0.1")];
        let mut wanted = backends(&servers);
        wanted[0].weight = 3;
        wanted[2].weight = 60_000;
        wanted[2].admission = Admission::Withheld;
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");

        let hits = spread(at(VIP), 800);
        assert_eq!(hits.get(&servers[2].port()), None, "{hits:?}");
        assert!((520..=680).contains(&hits[&servers[0].port()]), "{hits:?}");
    });
}

#[test]
fn ipv6_sockets_reach_vips_of_both_families() {
    in_room("ipv6_sockets_reach_vips_of_both_families", |room| {
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
    in_room("a_removed_backend_gets_no_connect_and_keeps_its_connections", |room| {
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
    in_room("a_vip_without_admitted_backends_refuses_at_once", |room| {
        let withheld = BackendWanted {
            admission: Admission::Withheld,
            ..BackendWanted::new(server("127.0.0.1"))
        };
        let idle = BackendWanted { weight: 0, ..BackendWanted::new(server("127.0.0.1")) };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        for (count, wanted) in [(1, vec![]), (2, vec![withheld]), (3, vec![withheld, idle])] {
            dataplane.set_vip(tcp(VIP), &wanted).expect("room");
            let error = connect(at(VIP)).expect_err("nobody to send it to");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert_eq!(dataplane.refusals().expect("readable maps")[&tcp(VIP)], count);
        }
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let vip = VipAddress::udp(at("11.0.0.1:53"));
        dataplane.set_vip(vip, &[]).expect("room");
        let error = socket.send_to(b"?", vip.socket).expect_err("nobody to send it to");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(dataplane.refusals().expect("readable maps")[&vip], 1);
    });
}

#[test]
fn counts_say_how_connects_ended() {
    in_room("counts_say_how_connects_ended", |room| {
        let alive = server("127.0.0.1");
        let closed_port = at("127.0.0.1:9");
        let unreachable = at("192.0.2.1:9");
        let (vip, refusing, lost) = (tcp(VIP), tcp("11.0.0.2:80"), tcp("11.0.0.3:80"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(vip, &backends(&[alive])).expect("room");
        dataplane.set_vip(refusing, &backends(&[closed_port])).expect("room");
        dataplane.set_vip(lost, &backends(&[unreachable])).expect("room");

        let (stream, _) = connect(vip.socket).expect("the VIP answers");
        let open = Counts { chosen: 1, started: 1, established: 1, failed: 0, closed: 0 };
        assert_eq!(counts(&dataplane, vip, alive), open);
        assert_eq!(counts(&dataplane, vip, alive).in_flight(), 1);
        reset(stream);
        assert_eq!(counts(&dataplane, vip, alive), Counts { closed: 1, ..open });

        let error = connect(refusing.socket).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let failed = Counts { chosen: 1, started: 1, established: 0, failed: 1, closed: 0 };
        assert_eq!(counts(&dataplane, refusing, closed_port), failed);

        let error = connect(lost.socket).expect_err("no route");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
        let never = Counts { chosen: 1, ..Counts::default() };
        assert_eq!(counts(&dataplane, lost, unreachable), never);

        connect(alive).expect("a direct connect");
        assert_eq!(counts(&dataplane, vip, alive).chosen, 1, "direct connects are not counted");
    });
}

#[test]
fn ids_and_counts_belong_to_a_backend_of_a_vip() {
    in_room("ids_and_counts_belong_to_a_backend_of_a_vip", |room| {
        let (stays, goes, comes) = (server("127.0.0.1"), server("127.0.0.1"), server("127.0.0.1"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let id = |dataplane: &Dataplane, backend: SocketAddr| {
            let observed = dataplane.observe().expect("readable maps");
            observed[&tcp(VIP)].iter().find(|state| state.address == backend).map(|state| state.id)
        };
        dataplane.set_vip(tcp(VIP), &backends(&[stays, goes])).expect("room");
        let kept = id(&dataplane, stays);
        let mut held = Vec::new();
        while counts(&dataplane, tcp(VIP), goes).chosen == 0
            || counts(&dataplane, tcp(VIP), stays).chosen == 0
        {
            held.push(connect(at(VIP)).expect("the VIP answers"));
        }
        let before = counts(&dataplane, tcp(VIP), stays);

        let mut wanted = backends(&[stays, comes]);
        wanted[0].weight = 7;
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");
        assert_eq!(id(&dataplane, stays), kept);
        assert_eq!(counts(&dataplane, tcp(VIP), stays), before);
        assert_eq!(counts(&dataplane, tcp(VIP), comes), Counts::default());

        // The row of the one that went is given to somebody else sooner or later; what its old
        // connections still do must not be counted there.
        drop(dataplane);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let others: Vec<VipAddress> = (1..=4).map(|n| tcp(&format!("11.0.1.{n}:80"))).collect();
        for vip in &others {
            dataplane.set_vip(*vip, &backends(&[comes])).expect("room");
        }
        held.into_iter().for_each(|(stream, _)| reset(stream));
        assert_eq!(counts(&dataplane, tcp(VIP), stays).in_flight(), 0);
        for vip in others {
            assert_eq!(counts(&dataplane, vip, comes), Counts::default(), "{vip}");
        }
    });
}

#[test]
fn a_restart_loses_no_connect_and_no_count() {
    in_room("a_restart_loses_no_connect_and_no_count", |room| {
        let (first, second) = (server("127.0.0.1"), server("127.0.0.1"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[first, second])).expect("room");
        let before = dataplane.observe().expect("readable maps");
        drop(dataplane);
        let (mut held, _) = connect(at(VIP)).expect("VIPs work while no daemon runs");

        let connects = under_load(|| {
            for _ in 0..10 {
                drop(Dataplane::open(&room.options()).expect("loadable again"));
            }
        });
        let dataplane = Dataplane::open(&room.options()).expect("loadable again");
        assert_eq!(dataplane.observe().expect("readable maps"), before);
        held.write_all(b"still").expect("the old connection is open");
        assert_eq!(held.peer_addr().expect("connected"), at(VIP));
        let counters = dataplane.counters().expect("readable maps");
        let sum = |field: fn(&Counts) -> u64| counters.values().map(field).sum::<u64>();
        assert_eq!(sum(|counts| counts.established), connects + 1);
        assert_eq!(sum(|counts| counts.closed), connects);
        assert_eq!(sum(|counts| counts.failed), 0);
    });
}

#[test]
fn changes_under_load_lose_no_connect() {
    in_room("changes_under_load_lose_no_connect", |room| {
        let servers = [server("127.0.0.1"), server("127.0.0.1"), server("127.0.0.1")];
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&servers)).expect("room");
        under_load(|| {
            for round in 0..2000_usize {
                let wanted = &servers[round % 3..=(round % 3).max(round % 2 + 1)];
                dataplane.set_vip(tcp(VIP), &backends(wanted)).expect("room");
            }
        });
    });
}

/// Connects to the VIP in another thread while `work` runs, and returns how often. All succeed.
fn under_load(work: impl FnOnce()) -> u64 {
    let (stop, connects) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (stream, _) = connect(at(VIP)).expect("every connect succeeds");
                reset(stream);
                connects.fetch_add(1, Ordering::Relaxed);
            }
        });
        eventually("the first connect", || connects.load(Ordering::Relaxed) > 0);
        work();
        stop.store(true, Ordering::Relaxed);
        load.join().expect("no connect failed");
    });
    connects.into_inner()
}

#[test]
fn datagrams_come_back_under_the_name_of_the_vip() {
    in_room("datagrams_come_back_under_the_name_of_the_vip", |room| {
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
    in_room("a_socket_that_is_used_again_shows_its_true_peer", |room| {
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

#[test]
fn teardown_leaves_nothing() {
    in_room("teardown_leaves_nothing", |room| {
        let backend = server("127.0.0.1");
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[backend])).expect("room");
        let (mut held, _) = connect(at(VIP)).expect("the VIP answers");
        drop(dataplane);

        teardown(&room.options()).expect("removable");
        let error = connect(at(VIP)).expect_err("nobody translates, and there is no route");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
        assert!(!room.options().pin_dir.exists());
        held.write_all(b"still").expect("connections outlive the dataplane");
        held.read_exact(&mut [0; 5]).expect("an echo");

        teardown(&room.options()).expect("again is no error");
        let dataplane = Dataplane::open(&room.options()).expect("loadable again");
        assert_eq!(dataplane.observe().expect("readable maps"), BTreeMap::new());
    });
}

#[test]
fn links_follow_the_configured_cgroup() {
    in_room("links_follow_the_configured_cgroup", |room| {
        let backend = server("127.0.0.1");
        let elsewhere = Options { cgroup: room.child_cgroup("elsewhere"), ..room.options() };
        let mut dataplane = Dataplane::open(&elsewhere).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[backend])).expect("room");
        connect(at(VIP)).expect_err("this process is not below that cgroup");

        drop(Dataplane::open(&room.options()).expect("movable"));
        connect(at(VIP)).expect("now it is");
        drop(Dataplane::open(&elsewhere).expect("movable"));
        connect(at(VIP)).expect_err("now it is not");

        std::fs::remove_dir(&elsewhere.cgroup).expect("an empty cgroup");
        drop(Dataplane::open(&room.options()).expect("a cgroup that is gone is no obstacle"));
        connect(at(VIP)).expect("now it is");
    });
}

#[test]
fn the_largest_vip_fits_and_one_more_is_refused_by_name() {
    in_room("the_largest_vip_fits_and_one_more_is_refused_by_name", |room| {
        let many: Vec<SocketAddr> = (0..65_536_u32)
            .map(|n| SocketAddr::from(((0x7f01_0000 + n).to_be_bytes(), 80)))
            .collect();
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&many)).expect("room");
        let mut wanted = backends(&many);
        wanted.iter_mut().for_each(|backend| backend.weight = u16::MAX);
        dataplane.set_vip(tcp(VIP), &wanted).expect("room for its replacement");

        let observed = dataplane.observe().expect("readable maps");
        assert_eq!(observed[&tcp(VIP)].len(), many.len());
        let mut ids: Vec<u32> = observed[&tcp(VIP)].iter().map(|state| state.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), many.len(), "no id has two owners");

        let other = tcp("11.0.0.2:80");
        let error = dataplane.set_vip(other, &wanted[..40_000]).expect_err("too few rows");
        assert!(error.to_string().contains("11.0.0.2:80/tcp"), "{error}");
        wanted.push(BackendWanted::new(at("127.9.9.9:9")));
        let error = dataplane.set_vip(tcp(VIP), &wanted).expect_err("too many");
        assert!(error.to_string().contains("11.0.0.1:80/tcp"), "{error}");
        assert_eq!(dataplane.observe().expect("readable maps"), observed, "nothing else changed");

        // The last slot of the largest run can be reached: all but one are withheld.
        let last = server("127.255.255.254");
        wanted.pop();
        wanted.iter_mut().for_each(|backend| backend.admission = Admission::Withheld);
        wanted[65_535] = BackendWanted::new(last);
        dataplane.set_vip(tcp(VIP), &wanted).expect("room once the old run has settled");
        assert_eq!(spread(at(VIP), 10), BTreeMap::from([(last.port(), 10)]));
    });
}

#[test]
fn what_cannot_work_is_refused_before_anything_changes() {
    in_room("what_cannot_work_is_refused_before_anything_changes", |room| {
        let backend = at("127.0.0.1:80");
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[backend])).expect("room");
        let before = dataplane.observe().expect("readable maps");

        let twice = backends(&[backend, at("[::ffff:127.0.0.1]:80")]);
        let error = dataplane.set_vip(tcp(VIP), &twice).expect_err("the same one twice");
        assert!(matches!(error, MapError::Duplicate { .. }), "{error}");
        let error = dataplane.set_vip(tcp(VIP), &backends(&[at("[::1]:80")])).expect_err("IPv6");
        assert!(matches!(error, MapError::Family { .. }), "{error}");
        assert_eq!(dataplane.observe().expect("readable maps"), before);
    });
}

#[test]
fn foreign_pins_and_wrong_places_are_named() {
    in_room("foreign_pins_and_wrong_places_are_named", |room| {
        let options = room.options();
        probe(&options).expect("everything is there");
        let nowhere = Options { pin_dir: PathBuf::from("/proc/mizzen"), ..options.clone() };
        assert!(matches!(Dataplane::open(&nowhere), Err(LoadError::Probe(_))));
        let no_cgroup = Options { cgroup: room.pins.clone(), ..options.clone() };
        assert!(matches!(Dataplane::open(&no_cgroup), Err(LoadError::Probe(_))));

        drop(Dataplane::open(&options).expect("loadable"));
        let pins = options.pin_dir.join("v1");
        std::fs::remove_file(pins.join("map_VIPS")).expect("a pin");
        std::fs::rename(pins.join("map_SLOTS"), pins.join("map_VIPS")).expect("a pin");
        let error = Dataplane::open(&options).expect_err("that is no map of VIPs");
        assert!(
            matches!(&error, LoadError::Layout { path, .. } if path.ends_with("map_VIPS")),
            "{error}"
        );
        teardown(&options).expect("all of it is below our directory");
    });
}
