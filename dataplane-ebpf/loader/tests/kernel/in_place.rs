//! Single backends of a VIP with many, changed in place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mizzen_ebpf_loader::{
    Admission, BackendWanted, Dataplane, Distance, Removal, Rule, Tuning, VipWanted,
};

use crate::lifecycle::under_load;
use crate::{VIP, counts};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{at, connect, in_room, reset, server};
use mizzen_tests_support::wait::eventually;

/// Few enough to write all of them often.
const MANY: usize = 2_048;

#[test]
fn what_goes_gets_no_connection_and_what_comes_does() {
    in_room(|room| {
        let all = addresses(server("0.0.0.0").port(), MANY + 100);
        let (there, come) = all.split_at(MANY);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &drawn(there)).expect("room");
        let before = ids(&dataplane);

        let gone: Vec<SocketAddr> = there.iter().copied().step_by(MANY / 100).take(100).collect();
        assert!(change(&mut dataplane, &swapped(&gone, come)), "in place");
        let is_gone = |address: &SocketAddr| gone.contains(address);
        let now = ids(&dataplane);
        assert!(before.iter().all(|(address, id)| is_gone(address) || now[address] == *id));
        assert_eq!(now.len(), MANY);
        let mut rows: Vec<u32> = now.values().copied().collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), MANY, "no id has two owners");

        let times = 3_000;
        (0..times).for_each(|_| reset(connect(at(VIP)).expect("the VIP answers").0));
        let chosen = chosen_by(&dataplane);
        assert_eq!(chosen.values().sum::<u64>(), times, "nobody else got any");
        let to_come = come.iter().map(|address| chosen[address]).sum::<u64>();
        assert!((60..300).contains(&to_come), "{to_come} of {times} to 100 of {MANY}");
        assert_eq!(dataplane.refusals().expect("readable maps")[&tcp(VIP)], 0);

        drop(dataplane);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable again");
        assert!(ids(&dataplane) == now, "a restart changes nothing");
        let wanted = drawn(&now.keys().copied().collect::<Vec<_>>());
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");
        assert!(chosen_by(&dataplane) == chosen, "all is as it was");
        assert!(!change(&mut dataplane, &swapped(&[], &gone[..1])), "where they are is unknown");
    });
}

#[test]
fn who_goes_leaves_its_connections_and_who_drains_keeps_them() {
    in_room(|room| {
        let all = addresses(server("0.0.0.0").port(), MANY);
        let wanted = VipWanted { removal: Removal::EndAll, ..drawn(&all) };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");
        let held: Vec<TcpStream> =
            (0..2).map(|_| connect(at(VIP)).expect("the VIP answers").0).collect();
        let has = |dataplane: &Dataplane, backend| counts(dataplane, tcp(VIP), backend).in_flight;
        let busy: Vec<SocketAddr> =
            all.iter().copied().filter(|backend| has(&dataplane, *backend) > 0).collect();
        let [goes, drains] = busy[..] else { panic!("two of {MANY} have one each: {busy:?}") };

        let withheld =
            BackendWanted { admission: Admission::Withheld, ..BackendWanted::new(drains) };
        let both = [(goes, None), (drains, Some(withheld))];
        let policy = VipWanted { backends: Vec::new(), ..wanted.clone() };
        let is_done = dataplane.change_vip(tcp(VIP), &policy, &both.into()).expect("room");
        assert!(is_done, "in place");
        let leavers = dataplane.take_leavers();
        assert_eq!(leavers.iter().map(|leaver| leaver.backend).collect::<Vec<_>>(), [goes]);
        let sockets = dataplane.socket_table().expect("descriptors");
        let theirs = sockets.sockets_of(&leavers).expect("readable maps");
        assert_eq!(theirs.iter().map(|socket| socket.backend).collect::<Vec<_>>(), [goes]);
        assert_eq!(has(&dataplane, drains), 1);
        held.into_iter().for_each(reset);
        assert_eq!(has(&dataplane, drains), 0, "its end is counted");

        let admitted = [(drains, Some(BackendWanted::new(drains)))];
        assert!(dataplane.change_vip(tcp(VIP), &policy, &admitted.into()).expect("room"));
        eventually("it is chosen again", || {
            (0..500).for_each(|_| reset(connect(at(VIP)).expect("the VIP answers").0));
            counts(&dataplane, tcp(VIP), drains).chosen > 1
        });
    });
}

#[test]
fn those_that_go_do_not_count_among_the_ejected() {
    in_room(|room| {
        let good = addresses(server("0.0.0.0").port(), MANY - 64);
        let bad = addresses(9, 64);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        // Of 2,048 backends 64 are more than three in a hundred, and 54 are not.
        let tuning = Tuning {
            failures: 1,
            least_left: 97,
            pause: Duration::from_secs(600),
            longest_pause: Duration::from_secs(600),
            ..Tuning::default()
        };
        dataplane.tune(&tuning);
        dataplane.set_vip(tcp(VIP), &drawn(&[good, bad.clone()].concat())).expect("room");
        let fails = |_: &u32| connect(at(VIP)).map(|(stream, _)| reset(stream)).is_err();
        let failures = |times: u32| (0..times).filter(fails).count();
        eventually("all of them are ejected", || {
            failures(1_000);
            let counters = dataplane.counters().expect("readable maps");
            bad.iter().all(|bad| counters[&(tcp(VIP), *bad)].ejected_for.is_some())
        });
        assert!(failures(1_000) > 0, "too few are left, and all are admitted");

        assert!(change(&mut dataplane, &swapped(&bad[..5], &[])), "in place");
        let withheld = bad[5..10].iter().map(|bad| {
            let backend = BackendWanted::new(*bad);
            (*bad, Some(BackendWanted { admission: Admission::Withheld, ..backend }))
        });
        assert!(change(&mut dataplane, &withheld.collect()), "in place");
        assert_eq!(failures(1_000), 0, "enough are left");
    });
}

#[test]
fn changes_in_place_under_load_lose_no_connect() {
    in_room(|room| {
        let all = addresses(server("0.0.0.0").port(), MANY + 1);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let mut there: BTreeSet<SocketAddr> = all[1..].iter().copied().collect();
        dataplane.set_vip(tcp(VIP), &drawn(&all[1..])).expect("room");
        under_load(|| {
            let (mut comes, mut in_place) = (all[0], 0);
            for number in 0..4_200_usize {
                let goes = all[number * 7 % all.len()];
                if goes == comes {
                    continue;
                }
                there.remove(&goes);
                there.insert(comes);
                let both = swapped(&[goes], &[comes]);
                if change(&mut dataplane, &both) {
                    in_place += 1;
                } else {
                    let wanted = drawn(&there.iter().copied().collect::<Vec<_>>());
                    dataplane.set_vip(tcp(VIP), &wanted).expect("room");
                }
                comes = goes;
            }
            assert!(in_place > 4_000, "{in_place} in place");
        });
        assert!(ids(&dataplane).keys().eq(&there));
    });
}

#[test]
fn many_changes_in_place_leave_what_is_wanted() {
    in_room(|room| {
        let pool = addresses(80, 1_600);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let mut chance = Chance(11);
        let first = |address: &SocketAddr| (*address, BackendWanted::new(*address));
        let mut model: BTreeMap<SocketAddr, BackendWanted> =
            pool[..1_300].iter().map(first).collect();
        dataplane.set_vip(tcp(VIP), &spec(&model)).expect("room");
        let mut before = ids(&dataplane);
        let (mut in_place, mut anew) = (0, 0);
        for step in 0..5_000 {
            let mut touched = BTreeMap::new();
            for _ in 0..=chance.below(3) {
                let address = pool[chance.below(pool.len())];
                touched.insert(address, any(&mut chance, address));
            }
            // One that differs keeps all others from being changed in place; it does not stay.
            let odd = BackendWanted::new(pool[0]);
            let odd = match step % 200 {
                50 => BackendWanted { weight: 3, ..odd },
                150 => BackendWanted { distance: Distance::Node, ..odd },
                _ => odd,
            };
            touched.insert(pool[0], Some(odd));
            for (address, now) in &touched {
                match now {
                    Some(now) => model.insert(*address, *now),
                    None => {
                        before.remove(address);
                        model.remove(address)
                    }
                };
            }
            if dataplane.change_vip(tcp(VIP), &VipWanted::default(), &touched).expect("room") {
                in_place += 1;
            } else {
                anew += 1;
                dataplane.set_vip(tcp(VIP), &spec(&model)).expect("room");
            }
            if step % 8 != 7 {
                continue;
            }
            let wish = dataplane.wish(tcp(VIP)).expect("readable maps").expect("it is there");
            assert!(wish == spec(&model), "step {step}");
            let now = ids(&dataplane);
            assert!(
                before.iter().all(|(address, id)| now[address] == *id),
                "step {step}: who stays"
            );
            assert_eq!(now.values().collect::<BTreeSet<_>>().len(), now.len(), "step {step}");
            if step % 104 == 7 {
                dataplane.set_vip(tcp(VIP), &spec(&model)).expect("room");
                assert!(ids(&dataplane) == now, "step {step}: the same once more");
            }
            if step % 504 == 7 {
                drop(dataplane);
                dataplane = Dataplane::open(&room.options()).expect("loadable again");
                assert!(ids(&dataplane) == now, "step {step}: a restart");
            }
            before = now;
        }
        assert!(in_place > 4_096 && anew > 20, "{in_place} in place, {anew} anew");
    });
}

#[test]
fn the_largest_vip_is_changed_in_place_and_can_still_be_written_anew() {
    in_room(|room| {
        let all = addresses(80, 65_536 + 5_000);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let mut there: BTreeSet<SocketAddr> = all[..65_536].iter().copied().collect();
        let wanted =
            |there: &BTreeSet<SocketAddr>| backends(&there.iter().copied().collect::<Vec<_>>());
        dataplane.set_vip(tcp(VIP), &wanted(&there)).expect("room");
        let mut anew = 0;
        for number in 0..5_000 {
            let (goes, comes) = (all[number * 13], all[65_536 + number]);
            there.remove(&goes);
            there.insert(comes);
            let both = swapped(&[goes], &[comes]);
            if !dataplane.change_vip(tcp(VIP), &VipWanted::default(), &both).expect("room") {
                anew += 1;
                dataplane.set_vip(tcp(VIP), &wanted(&there)).expect("room");
            }
        }
        assert!((1..=3).contains(&anew), "{anew} times");
        let before = ids(&dataplane);
        assert!(before.keys().eq(&there));

        drop(dataplane);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable again");
        let mut heavy = wanted(&there);
        heavy.backends[0].weight = 9;
        dataplane.set_vip(tcp(VIP), &heavy).expect("room, although some are gone");
        assert!(ids(&dataplane) == before);
    });
}

#[test]
fn what_draws_could_not_hit_fairly_is_written_anew() {
    in_room(|room| {
        let all = addresses(80, MANY);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let newcomer = at("127.99.0.1:80");
        let one = |backend: BackendWanted| [(backend.address, Some(backend))];
        let plain = BackendWanted::new(newcomer);
        let near = BackendWanted { distance: Distance::Node, ..plain };
        let heavy = BackendWanted { weight: 2, ..plain };
        let mut uneven = backends(&all);
        uneven.backends[7].weight = 5;
        let ring = VipWanted { rule: Rule::Maglev, ..backends(&all) };
        #[rustfmt::skip]
        let table = [
            ("like the others",     backends(&all),        plain, true),
            ("of another class",    backends(&all),        near,  false),
            ("of another weight",   backends(&all),        heavy, false),
            ("the others differ",   uneven,                plain, false),
            ("there is a ring",     ring,                  plain, false),
            ("few are written soon", backends(&all[..99]), plain, false),
        ];
        for (name, wanted, backend, want) in table {
            dataplane.set_vip(tcp(VIP), &wanted).expect("room");
            let policy = VipWanted { backends: Vec::new(), ..wanted };
            let is_done = dataplane.change_vip(tcp(VIP), &policy, &one(backend).into());
            assert_eq!(is_done.expect("room"), want, "{name}");
        }
        let nobody = tcp("11.0.0.2:80");
        let is_done = dataplane.change_vip(nobody, &VipWanted::default(), &one(plain).into());
        assert!(!is_done.expect("readable maps"), "there is no such VIP");
    });
}

#[test]
fn enough_of_each_class_stay() {
    in_room(|room| {
        let all = addresses(80, MANY);
        let mut wanted = drawn(&all);
        wanted.backends[..20].iter_mut().for_each(|near| near.distance = Distance::Node);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");
        let mut goes =
            |backend: usize| change(&mut dataplane, &swapped(&all[backend..=backend], &[]));
        assert!(goes(3), "one of twenty that are near");
        assert!(!goes(4), "two are more than a sixteenth");
        assert!((20..140).all(&mut goes), "there are many elsewhere");
        assert!(!(140..148).all(&mut goes), "but not for ever");
    });
}

/// So many of one port.
fn addresses(port: u16, count: usize) -> Vec<SocketAddr> {
    let address = |n: usize| SocketAddr::from(((0x7f01_0000 + n as u32).to_be_bytes(), port));
    (0..count).map(address).collect()
}

fn drawn(addresses: &[SocketAddr]) -> VipWanted {
    VipWanted { rule: Rule::Random, ..backends(addresses) }
}

type Touched = BTreeMap<SocketAddr, Option<BackendWanted>>;

/// Some go, others come.
fn swapped(go: &[SocketAddr], come: &[SocketAddr]) -> Touched {
    let go = go.iter().map(|address| (*address, None));
    go.chain(come.iter().map(|address| (*address, Some(BackendWanted::new(*address))))).collect()
}

/// Whether it was done in place.
fn change(dataplane: &mut Dataplane, touched: &Touched) -> bool {
    dataplane.change_vip(tcp(VIP), &drawn(&[]), touched).expect("room")
}

fn ids(dataplane: &Dataplane) -> BTreeMap<SocketAddr, u32> {
    let observed = dataplane.observe().expect("readable maps");
    let state = &observed[&tcp(VIP)];
    state
        .spec
        .backends
        .iter()
        .map(|backend| backend.address)
        .zip(state.ids.iter().copied())
        .collect()
}

/// How often each backend was.
fn chosen_by(dataplane: &Dataplane) -> BTreeMap<SocketAddr, u64> {
    let counters = dataplane.counters().expect("readable maps");
    counters.into_iter().map(|((_, backend), counts)| (backend, counts.chosen)).collect()
}

/// In the order of a run.
fn spec(model: &BTreeMap<SocketAddr, BackendWanted>) -> VipWanted {
    let mut backends: Vec<BackendWanted> = model.values().copied().collect();
    backends.sort_by_key(|backend| (!backend.is_open(), backend.distance, backend.address));
    VipWanted::from(backends)
}

/// Mostly gone or like the others.
fn any(chance: &mut Chance, address: SocketAddr) -> Option<BackendWanted> {
    let backend = BackendWanted::new(address);
    match chance.below(400) {
        0..120 => None,
        120..180 => Some(BackendWanted { admission: Admission::Withheld, ..backend }),
        180..190 => Some(BackendWanted {
            admission: Admission::Withheld,
            distance: Distance::Zone,
            ..backend
        }),
        _ => Some(backend),
    }
}

/// The same numbers in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}
