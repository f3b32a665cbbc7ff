//! Changes, restarts, moves and removal, as the daemon causes them.

use mizzen_tests_support::load::{Load, while_loaded};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use mizzen_ebpf_loader::{
    Admission, BackendWanted, Counts, Dataplane, LoadError, MapError, Options, Rule, VipAddress,
    VipWanted, probe, teardown,
};

use crate::{VIP, counts, spread};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{at, connect, in_room, reset, server};
use mizzen_tests_support::wait::eventually;

#[test]
fn a_restart_loses_no_connect_and_no_count() {
    in_room(|room| {
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
    in_room(|room| {
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

#[test]
fn teardown_leaves_nothing() {
    in_room(|room| {
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
    in_room(|room| {
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
    in_room(|room| {
        let many: Vec<SocketAddr> = (0..65_536_u32)
            .map(|n| SocketAddr::from(((0x7f01_0000 + n).to_be_bytes(), 80)))
            .collect();
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&many)).expect("room");
        let mut wanted = backends(&many);
        wanted.backends.iter_mut().for_each(|backend| backend.weight = u16::MAX);
        dataplane.set_vip(tcp(VIP), &wanted).expect("room for its replacement");

        let observed = dataplane.observe().expect("readable maps");
        assert_eq!(observed[&tcp(VIP)].ids.len(), many.len());
        let mut ids = observed[&tcp(VIP)].ids.clone();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), many.len(), "no id has two owners");

        let other = tcp("11.0.0.2:80");
        let error = dataplane.set_vip(other, &backends(&many[..40_000])).expect_err("too few rows");
        assert!(error.to_string().contains("11.0.0.2:80/tcp"), "{error}");
        wanted.backends.push(BackendWanted::new(at("127.9.9.9:9")));
        let error = dataplane.set_vip(tcp(VIP), &wanted).expect_err("too many");
        assert!(error.to_string().contains("11.0.0.1:80/tcp"), "{error}");
        assert_eq!(dataplane.observe().expect("readable maps"), observed, "nothing else changed");

        // The last slot of the largest run can be reached: all but one are withheld.
        let last = server("127.255.255.254");
        wanted.backends.pop();
        wanted.backends.iter_mut().for_each(|backend| backend.admission = Admission::Withheld);
        wanted.backends[65_535] = BackendWanted::new(last);
        dataplane.set_vip(tcp(VIP), &wanted).expect("room once the old run has settled");
        assert_eq!(spread(at(VIP), 10), BTreeMap::from([(last.port(), 10)]));
    });
}

#[test]
fn a_full_map_refuses_by_name_and_leaves_the_others_alone() {
    in_room(|room| {
        let servers = [server("127.0.0.1"), server("127.0.0.2")];
        let vip = |n: u32| {
            let [_, high, middle, low] = n.to_be_bytes();
            VipAddress::tcp(SocketAddr::from(([11, high, middle, low], 80)))
        };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        // Two backends have a ring of 4,093 places, of which a million hold 256.
        let maglev = VipWanted { rule: Rule::Maglev, ..backends(&servers) };
        let many: Vec<_> = (1..=257).map(|n| (vip(n), maglev.clone())).collect();
        let errors = dataplane.set_vips(&many).errors;
        let refused: Vec<VipAddress> = errors.iter().map(|(vip, _)| *vip).collect();
        assert_eq!(refused, [vip(257)]);
        assert!(matches!(errors[0].1, MapError::Full { map: "RINGS", .. }), "{}", errors[0].1);
        assert!(errors[0].1.to_string().contains("11.0.1.1:80/tcp"), "{}", errors[0].1);

        let many: Vec<_> = (257..=32_768).map(|n| (vip(n), backends(&[]))).collect();
        assert!(dataplane.set_vips(&many).errors.is_empty());
        let before = dataplane.observe().expect("readable maps");
        assert_eq!(before.len(), 32_768);
        let error = dataplane.set_vip(vip(40_000), &backends(&servers)).expect_err("one too many");
        assert!(matches!(error, MapError::Full { map: "VIPS", .. }), "{error}");
        assert!(error.to_string().contains(&vip(40_000).to_string()), "{error}");
        assert_eq!(dataplane.observe().expect("readable maps"), before);
        connect(vip(1).socket).expect("the others serve");

        dataplane.remove_vip(vip(2)).expect("removable");
        dataplane.set_vip(vip(40_000), &maglev).expect("there is room for one again");
        connect(vip(40_000).socket).expect("it serves");
    });
}

#[test]
fn what_cannot_work_is_refused_before_anything_changes() {
    in_room(|room| {
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
    in_room(|room| {
        let options = room.options();
        probe(&options).expect("everything is there");
        let nowhere = Options { pin_dir: PathBuf::from("/proc/mizzen"), ..options.clone() };
        assert!(matches!(Dataplane::open(&nowhere), Err(LoadError::Probe(_))));
        let no_cgroup = Options { cgroup: room.pins.clone(), ..options.clone() };
        assert!(matches!(Dataplane::open(&no_cgroup), Err(LoadError::Probe(_))));

        drop(Dataplane::open(&options).expect("loadable"));
        let pins = options.pin_dir.join(format!("v{}", mizzen_ebpf_abi::ABI_VERSION));
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

#[test]
fn ids_and_counts_belong_to_a_backend_of_a_vip() {
    in_room(|room| {
        let (stays, goes, comes) = (server("127.0.0.1"), server("127.0.0.1"), server("127.0.0.1"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let id = |dataplane: &Dataplane, backend: SocketAddr| {
            let observed = dataplane.observe().expect("readable maps");
            let state = &observed[&tcp(VIP)];
            let position = state.spec.backends.iter().position(|b| b.address == backend);
            position.map(|position| state.ids[position])
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
        wanted.backends[0].weight = 7;
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
        assert_eq!(counts(&dataplane, tcp(VIP), stays).in_flight, 0);
        for vip in others {
            assert_eq!(counts(&dataplane, vip, comes), Counts::default(), "{vip}");
        }
    });
}

/// Connects to the VIP in another thread while `work` runs, and returns how often. All succeed.
pub(crate) fn under_load(work: impl FnOnce()) -> u64 {
    let connects = AtomicU64::new(0);
    let connecting = |load: &Load| {
        while load.goes_on() {
            let (stream, _) = connect(at(VIP)).expect("every connect succeeds");
            reset(stream);
            connects.fetch_add(1, Ordering::Relaxed);
        }
    };
    while_loaded([connecting], |_| {
        eventually("the first connect", || connects.load(Ordering::Relaxed) > 0);
        work();
    });
    connects.into_inner()
}
