//! Restarts, upgrades and deaths of the daemon while clients go on connecting.

use mizzen_tests_support::load::{Load, while_loaded};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use mizzen_ebpf_loader::{
    Admission, Counts, Dataplane, LoadError, Rule, VipAddress, VipState, VipWanted, teardown,
};

use crate::VIP;
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{Room, at, in_room, reset, sink};
use mizzen_tests_support::wait::eventually;

#[test]
fn thirty_restarts_and_two_upgrades_lose_no_connect() {
    in_room(|room| {
        let wanted = backends(&[sink("127.0.0.1"), sink("127.0.0.2")]);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");
        drop(dataplane);
        let connects = under_load(100_000, || {
            for _ in 0..2 {
                restart(room, 10);
                upgrade(room, &wanted);
            }
            restart(room, 10);
        });
        assert!(connects >= 100_000);
        let dataplane = Dataplane::open(&room.options()).expect("loadable");
        let counters = dataplane.counters().expect("readable maps");
        let sum = |of: fn(&Counts) -> u64| counters.values().map(of).sum::<u64>();
        assert!(sum(|counts| counts.established) > 0, "the newest programs translate");
        assert_eq!(sum(|counts| counts.failed), 0);
        assert_eq!(sum(|counts| counts.established), sum(|counts| counts.closed));
    });
}

#[test]
fn programs_of_another_version_go_when_the_new_maps_are_filled() {
    in_room(|room| {
        let backend = sink("127.0.0.1");
        let options = room.options();
        let mut old = Dataplane::open(&options).expect("loadable");
        old.set_vip(tcp(VIP), &backends(&[backend])).expect("room");
        drop(old);
        let (other, own) = (options.pin_dir.join("v1"), options.pin_dir.join(ours()));
        std::fs::rename(&own, &other).expect("pins can be moved");

        let mut new = Dataplane::open(&options).expect("loadable beside the other version");
        assert_eq!(new.observe().expect("readable maps"), BTreeMap::new());
        let stream = std::net::TcpStream::connect(at(VIP)).expect("the old programs translate");
        assert_eq!(stream.peer_addr().expect("connected"), at(VIP));
        new.set_vip(tcp(VIP), &backends(&[backend])).expect("room");
        assert_eq!(new.retire_other_versions().expect("removable"), 1);
        assert_eq!(new.retire_other_versions().expect("again is no error"), 0);
        assert!(!other.exists() && own.exists());
        std::net::TcpStream::connect(at(VIP)).expect("the new programs translate");
        assert_eq!(new.counters().expect("readable maps")[&(tcp(VIP), backend)].established, 1);

        // A version that was never taken over is removed with all others.
        drop(new);
        std::fs::rename(&own, &other).expect("pins can be moved");
        drop(Dataplane::open(&options).expect("loadable"));
        teardown(&options).expect("removable");
        std::net::TcpStream::connect(at(VIP)).expect_err("nobody translates");
    });
}

#[test]
fn pins_that_cannot_be_removed_are_named() {
    in_room(|room| {
        let options = room.options();
        let dataplane = Dataplane::open(&options).expect("loadable");
        let stranger = options.pin_dir.join("v7").join("directory");
        std::fs::create_dir_all(&stranger).expect("a BPF file system has directories");
        let error = dataplane.retire_other_versions().expect_err("that is not empty");
        assert!(
            matches!(&error, LoadError::Teardown { count: 2, path, .. } if *path == stranger),
            "{error}"
        );
    });
}

#[test]
fn a_kill_during_a_swap_leaves_one_state_or_the_other() {
    in_room(|room| {
        let servers = [sink("127.0.0.1"), sink("127.0.0.1"), sink("127.0.0.1")];
        if let Some(role) = &room.role {
            swap_forever(room, role);
        }
        let role: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let states = states(&servers);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        for (vip, wanted) in &states[0] {
            dataplane.set_vip(*vip, wanted).expect("room");
        }
        // From now on it only reads; the swappers write.
        let mut random = 0x9e37_79b9_u32;
        for round in 0..50 {
            let mut swapper = room.start(&role.join(" "));
            let output = swapper.0.stdout.take().expect("a pipe");
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            assert!(lines.any(|line| line.ends_with(SWAPPING)), "it lives");
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            for _ in 0..random >> 26 {
                drop(std::net::TcpStream::connect(at(VIP)).expect("every connect succeeds"));
            }
            drop(swapper);
            let observed = dataplane.observe().expect("readable maps");
            for (vip, state) in &observed {
                let candidates = states.iter().filter_map(|state| state.get(vip));
                let found = candidates.into_iter().any(|wanted| is(state, wanted));
                assert!(found, "round {round}: {vip} is nobody's wish: {state:?}");
            }
            let mut ids: Vec<u32> = observed.values().flat_map(|state| state.ids.clone()).collect();
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), count, "round {round}: no row has two owners");
            drop(std::net::TcpStream::connect(at(VIP)).expect("every connect succeeds"));
        }
        drop(dataplane);
        // Nothing was leaked: a large VIP and its replacement still fit.
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let many: Vec<SocketAddr> = (0..65_000_u32)
            .map(|n| SocketAddr::from(((0x7f01_0000 + n).to_be_bytes(), 80)))
            .collect();
        let large = tcp("11.0.0.9:80");
        dataplane.set_vip(large, &backends(&many)).expect("room");
        let maglev = VipWanted { rule: Rule::Maglev, ..backends(&many) };
        dataplane.set_vip(large, &maglev).expect("room for its replacement");
    });
}

/// What a swapper says once it swaps.
const SWAPPING: &str = "swapping";

/// States between which a swapper goes back and forth.
fn states(servers: &[SocketAddr; 3]) -> [BTreeMap<VipAddress, VipWanted>; 3] {
    let [one, two, three] = *servers;
    let mut withheld = backends(&[one, two]);
    withheld.backends[1].admission = Admission::Withheld;
    let maglev = VipWanted { rule: Rule::Maglev, ..backends(&[two, three]) };
    let other = tcp("11.0.0.2:80");
    [
        BTreeMap::from([(tcp(VIP), withheld)]),
        BTreeMap::from([(tcp(VIP), maglev), (other, backends(&[one]))]),
        BTreeMap::from([(tcp(VIP), backends(&[three])), (other, backends(&[]))]),
    ]
}

fn swap_forever(room: &Room, role: &str) -> ! {
    let servers: Vec<SocketAddr> = role.split(' ').map(at).collect();
    let states = states(servers.as_slice().try_into().expect("three of them"));
    let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
    println!("{SWAPPING}");
    std::io::stdout().flush().expect("the parent listens");
    for state in states.iter().cycle() {
        let wanted: Vec<(VipAddress, VipWanted)> =
            state.iter().map(|(vip, wanted)| (*vip, wanted.clone())).collect();
        assert!(dataplane.set_vips(&wanted).errors.is_empty());
        if wanted.len() == 1 {
            dataplane.remove_vip(tcp("11.0.0.2:80")).expect("removable");
        }
    }
    unreachable!("there is always a next state")
}

fn is(state: &VipState, wanted: &VipWanted) -> bool {
    let mut wanted = wanted.clone();
    wanted.backends.sort_by_key(|backend| backend.address);
    state.spec == wanted
}

fn restart(room: &Room, times: usize) {
    for _ in 0..times {
        drop(Dataplane::open(&room.options()).expect("loadable again"));
    }
}

/// The directory of the pins of this version.
fn ours() -> String {
    format!("v{}", mizzen_ebpf_abi::ABI_VERSION)
}

/// As if what is there were of an older version.
fn upgrade(room: &Room, wanted: &VipWanted) {
    let pins = room.options().pin_dir;
    std::fs::rename(pins.join(ours()), pins.join("v1")).expect("pins can be moved");
    let mut dataplane = Dataplane::open(&room.options()).expect("loadable beside it");
    dataplane.set_vip(tcp(VIP), wanted).expect("room");
    assert_eq!(dataplane.retire_other_versions().expect("removable"), 1);
}

/// Connects to the VIP while `work` runs and until there were `least` connects; returns how many. All succeed.
fn under_load(least: u64, work: impl FnOnce()) -> u64 {
    let connects = AtomicU64::new(0);
    let connecting = |load: &Load| {
        while load.goes_on() || connects.load(Ordering::Relaxed) < least {
            let stream = std::net::TcpStream::connect(at(VIP)).expect("every connect succeeds");
            reset(stream);
            connects.fetch_add(1, Ordering::Relaxed);
        }
    };
    while_loaded([connecting; 2], |_| {
        eventually("the first connect", || connects.load(Ordering::Relaxed) > 0);
        work();
    });
    connects.into_inner()
}
