use std::collections::BTreeMap;

use super::*;
use crate::words::{Admission, Distance, Locality};
use mizzen_ebpf_core::select::mix;

const SECOND: u64 = 1_000_000_000;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn wanted(n: u8) -> BackendWanted {
    BackendWanted::new(SocketAddr::from(([10, 0, 0, n], 80)))
}

fn flow(client: u16) -> Flow {
    let source = SocketAddr::from(([10, 1, (client >> 8) as u8, client as u8], client));
    Flow { protocol: 6, source, destination: at("11.0.0.1:80") }
}

/// How often each backend is chosen by 1000 connects of different clients.
fn spread_of(vip: &Vip) -> BTreeMap<u8, u32> {
    let mut hits = BTreeMap::new();
    for n in 0..1_000_u16 {
        let chosen = vip.choose(&flow(n), mix(u64::from(n)), Limits::default(), SECOND);
        let std::net::IpAddr::V4(ip) = chosen.expect("a backend").backend.address.ip() else {
            continue;
        };
        *hits.entry(ip.octets()[3]).or_default() += 1;
    }
    hits
}

#[test]
fn shares_follow_weights_and_admission() {
    let heavy = BackendWanted { weight: 3, ..wanted(2) };
    let shut = BackendWanted { admission: Admission::Withheld, ..wanted(3) };
    for rule in [Rule::Latency, Rule::LeastConnections, Rule::Random, Rule::Maglev] {
        let policy = Policy { rule, ..Policy::default() };
        let vip = Vip::new(&[wanted(1), heavy, shut], policy, None, SECOND);
        let hits = spread_of(&vip);
        assert_eq!(hits.keys().copied().collect::<Vec<u8>>(), [1, 2], "{rule:?}");
        assert!((180..=320).contains(&hits[&1]), "{rule:?}: {hits:?}");
    }
    let vip = Vip::new(&[shut], Policy::default(), None, SECOND);
    assert!(vip.choose(&flow(1), 1, Limits::default(), SECOND).is_none());
    let vip = Vip::new(&[], Policy::default(), None, SECOND);
    assert!(vip.choose(&flow(1), 1, Limits::default(), SECOND).is_none());
}

#[test]
fn the_slow_and_the_busy_are_avoided_as_the_rule_says() {
    #[rustfmt::skip]
    let table = [
        (Rule::Latency,          true),
        (Rule::LeastConnections, true),
        (Rule::Random,           false),
    ];
    for (rule, avoids) in table {
        let policy = Policy { rule, ..Policy::default() };
        let vip = Vip::new(&[wanted(1), wanted(2)], policy, None, SECOND);
        let busy = vip.backend(at("10.0.0.1:80")).expect("a backend");
        (0..10).for_each(|_| busy.started(1, SECOND));
        (0..10).for_each(|_| busy.succeeded(1, SECOND / 10, SECOND));
        let hits = spread_of(&vip).get(&1).copied().unwrap_or(0);
        assert_eq!(hits < 320, avoids, "{rule:?}: {hits}");
    }
}

#[test]
fn near_ones_go_first_and_far_ones_help_when_they_are_busy() {
    let near = BackendWanted { distance: Distance::Node, ..wanted(1) };
    let vip = Vip::new(&[near, wanted(2)], Policy::default(), None, SECOND);
    assert_eq!(spread_of(&vip), BTreeMap::from([(1, 1_000)]));
    let busy = vip.backend(near.address).expect("a backend");
    busy.joined(10);
    assert_eq!(spread_of(&vip), BTreeMap::from([(2, 1_000)]));
    let alike = Policy { locality: Locality::Ignore, ..Policy::default() };
    let vip = Vip::new(&[near, wanted(2)], alike, None, SECOND);
    assert_eq!(spread_of(&vip).len(), 2);
}

#[test]
fn the_zone_goes_before_elsewhere() {
    let near = BackendWanted { distance: Distance::Node, ..wanted(1) };
    let zone = BackendWanted { distance: Distance::Zone, ..wanted(2) };
    let vip = Vip::new(&[wanted(3), zone, near], Policy::default(), None, SECOND);
    let make_busy = |backend: BackendWanted| {
        vip.backend(backend.address).expect("a backend").joined(10);
        spread_of(&vip)
    };
    assert_eq!(spread_of(&vip), BTreeMap::from([(1, 1_000)]));
    assert_eq!(make_busy(near), BTreeMap::from([(2, 1_000)]));
    assert_eq!(make_busy(zone), BTreeMap::from([(3, 1_000)]));
}

#[test]
fn the_search_for_another_begins_in_the_zone() {
    let near = BackendWanted { distance: Distance::Node, ..wanted(1) };
    let zone = BackendWanted { distance: Distance::Zone, ..wanted(2) };
    let vip = Vip::new(&[near, zone, wanted(3)], Policy::default(), None, SECOND);
    let eject = |backend: BackendWanted| {
        let backend = vip.backend(backend.address).expect("a backend");
        (0..3).for_each(|_| backend.started(1, SECOND));
        (0..3).for_each(|_| backend.failed(1, Reason::Only, SECOND, &Limits::default()));
        spread_of(&vip)
    };
    assert_eq!(eject(near), BTreeMap::from([(2, 1_000)]));
    assert_eq!(eject(zone), BTreeMap::from([(3, 1_000)]));
}

#[test]
fn why_a_backend_was_chosen() {
    let vip = Vip::new(&[wanted(1), wanted(2)], Policy::default(), None, SECOND);
    let reasons = |vip: &Vip| {
        let choices = (0..1_000_u16).filter_map(|n| {
            let seed = mix(u64::from(n));
            let chosen = vip.choose(&flow(n), seed, Limits::default(), SECOND)?;
            let other = chosen.decision.other.map(|(other, ..)| other);
            Some((chosen.backend.address, format!("{:?}", chosen.decision.reason), other))
        });
        choices.collect::<std::collections::BTreeSet<_>>()
    };
    let (first, second) = (wanted(1).address, wanted(2).address);
    let why = |chosen, reason: &str, other| (chosen, reason.to_owned(), Some(other));
    let alike = [why(first, "Tie", second), why(second, "Tie", first)];
    assert_eq!(reasons(&vip), alike.into());
    vip.backend(first).expect("a backend").joined(10);
    let busy = [why(second, "Cheaper", first), why(second, "Tie", first)];
    assert_eq!(reasons(&vip), busy.into());
}

#[test]
fn a_client_stays_with_its_backend_when_another_goes() {
    let policy = Policy { rule: Rule::Source, ..Policy::default() };
    let all: Vec<BackendWanted> = (1..=5).map(wanted).collect();
    let vip = Vip::new(&all, policy, None, SECOND);
    let fewer = Vip::new(&all[..4], policy, Some(&vip), SECOND);
    let mut moved = 0;
    for n in 0..1_000 {
        let of = |vip: &Vip, seed| {
            let chosen = vip.choose(&flow(n), seed, Limits::default(), SECOND);
            chosen.expect("a backend").backend.address
        };
        assert_eq!(of(&vip, 1), of(&vip, 2));
        moved += u32::from(of(&vip, 1) != all[4].address && of(&vip, 1) != of(&fewer, 1));
    }
    assert!(moved < 40, "{moved} clients moved without need");
}

#[test]
fn who_stays_is_known_and_who_comes_warms_up() {
    let vip = Vip::new(&[wanted(1)], Policy::default(), None, SECOND);
    vip.backend(wanted(1).address).expect("a backend").chosen();
    let slow_start = std::time::Duration::from_secs(10);
    let policy = Policy { rule: Rule::Random, slow_start, ..Policy::default() };
    let vip = Vip::new(&[wanted(1), wanted(2)], policy, Some(&vip), SECOND);
    assert_eq!(vip.counts(SECOND).next().expect("a backend").1.chosen, 1);
    let hits = spread_of(&vip);
    assert!(hits[&2] < 150, "{hits:?}");
}

#[test]
fn who_stays_is_known_wherever_he_moves() {
    let near = |n| BackendWanted { distance: Distance::Node, ..wanted(n) };
    let shut = |n| BackendWanted { admission: Admission::Withheld, ..wanted(n) };
    let before = [1, 2, 3, 4, 5].map(wanted);
    #[rustfmt::skip]
    let table = [
        ("one goes",           vec![wanted(1), wanted(2), wanted(4), wanted(5)],            "3"),
        ("one for another",    vec![wanted(1), wanted(2), wanted(4), wanted(5), wanted(9)], "3"),
        ("one comes near",     vec![wanted(1), wanted(2), wanted(3), near(4), wanted(5)],   ""),
        ("some are withheld",  vec![shut(1), wanted(2), shut(3), wanted(4), shut(5)],       ""),
        ("all others",         vec![wanted(6), near(7)],                                    "12345"),
    ];
    for (name, after, want) in table {
        let before = Vip::new(&before, Policy::default(), None, SECOND);
        let after = Vip::new(&after, Policy::default(), Some(&before), SECOND);
        let gone: String = before
            .without(&after)
            .map(|backend| backend.address.ip().to_string().split_off(7))
            .collect();
        assert_eq!(gone, want, "{name}");
        for backend in after.backends().filter(|one| before.backend(one.address).is_some()) {
            let known = before.backend(backend.address).expect("a backend");
            assert!(Arc::ptr_eq(known, backend), "{name}: {}", backend.address);
        }
    }
}

#[test]
fn changes_of_a_few_lead_where_changes_of_all_would() {
    const CLIENTS: u64 = 20;
    let slow_start = std::time::Duration::from_secs(10);
    let policy = Policy { slow_start, ..Policy::default() };
    let alike = Policy { locality: Locality::Ignore, rule: Rule::Random, ..policy };
    let (mut parts, mut wholes) = (0, 0);
    for (policy, many, steps) in [(policy, 60, 2_000), (alike, 60, 2_000), (policy, 3_000, 300)] {
        let mut chance = Chance(steps);
        let mut all: BTreeMap<SocketAddr, BackendWanted> = BTreeMap::new();
        for n in 0..many / 2 {
            let backend = BackendWanted { distance: chance.distance(), ..numbered(n) };
            all.insert(backend.address, backend);
        }
        let wanted = |all: &BTreeMap<_, _>| all.values().copied().collect::<Vec<BackendWanted>>();
        let mut whole = Vip::new(&wanted(&all), policy, None, SECOND);
        let mut part = Vip::new(&wanted(&all), policy, None, SECOND);
        for step in 0..steps {
            let now = (step + 2) * SECOND;
            let touched: Touched = (0..1 + chance.below(2)).map(|_| chance.touched(many)).collect();
            for (address, backend) in &touched {
                match backend {
                    Some(backend) => _ = all.insert(*address, *backend),
                    None => _ = all.remove(address),
                }
            }
            whole = Vip::new(&wanted(&all), policy, Some(&whole), now);
            let changed = part.changed(policy, &touched, now);
            match changed {
                Some(_) => parts += 1,
                None => wholes += 1,
            }
            let after =
                changed.unwrap_or_else(|| Vip::new(&wanted(&all), policy, Some(&part), now));
            for address in touched.keys() {
                if let (Some(known), Some(now)) = (part.backend(*address), after.backend(*address))
                {
                    assert!(Arc::ptr_eq(known, now), "step {step}: {address}");
                }
            }
            part = after;
            assert_eq!(part.wish(), whole.wish(), "step {step}");
            assert_eq!(part.wanted(), whole.wanted(), "step {step}");
            assert_eq!(part.classes, whole.classes, "step {step}");
            assert!(part.counts(now).eq(whole.counts(now)), "step {step}");
            for client in 0..CLIENTS {
                let flow = flow(client as u16);
                let choose = |vip: &Vip| {
                    let seed = mix(step * CLIENTS + client);
                    let chosen = vip.choose(&flow, seed, Limits::default(), now)?;
                    Some((chosen.backend.address, chosen.decision))
                };
                assert_eq!(choose(&part), choose(&whole), "step {step}");
            }
        }
    }
    assert!(parts > 2_000 && wholes > 300, "{parts} {wholes}");
}

#[test]
fn what_concerns_all_backends_is_no_change_of_a_few() {
    let plain = Policy::default();
    let gone = [(wanted(2).address, None)];
    let change = |backends: &[BackendWanted], policy, touched: &[_]| {
        let vip = Vip::new(backends, policy, None, SECOND);
        let touched = touched.iter().copied().collect();
        vip.changed(policy, &touched, SECOND).map(|vip| vip.wish().0)
    };
    let two = [wanted(1), wanted(2)];
    assert_eq!(change(&two, plain, &gone), Some(vec![wanted(1)]));
    for rule in [Rule::Maglev, Rule::Source] {
        assert_eq!(change(&two, Policy { rule, ..plain }, &gone), None, "{rule:?}");
    }
    let heavy = |n| BackendWanted { weight: 2, ..wanted(n) };
    assert_eq!(change(&[heavy(1), wanted(2)], plain, &gone), None);
    assert_eq!(change(&two, plain, &[(heavy(2).address, Some(heavy(2)))]), None);
    let near = BackendWanted { distance: Distance::Node, ..heavy(2) };
    let apart = change(&two, plain, &[(near.address, Some(near))]);
    assert_eq!(apart, Some(vec![near, wanted(1)]), "it has a class of its own");
    let vip = Vip::new(&two, plain, None, SECOND);
    let other = Policy { removal: Removal::Keep, ..plain };
    assert!(vip.changed(other, &gone.into(), SECOND).is_none());
}

/// A backend with one of many addresses.
fn numbered(n: u64) -> BackendWanted {
    let [.., high, low] = n.to_be_bytes();
    BackendWanted::new(SocketAddr::from(([10, 0, high, low], 80)))
}

/// The same numbers in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 += 1;
        mix(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % end
    }

    fn distance(&mut self) -> Distance {
        [Distance::Node, Distance::Zone, Distance::Far, Distance::Far][self.below(4) as usize]
    }

    /// One that comes, goes or is told otherwise: mostly with the weight of all.
    fn touched(&mut self, many: u64) -> (SocketAddr, Option<BackendWanted>) {
        let backend = numbered(self.below(many));
        if self.below(3) == 0 {
            return (backend.address, None);
        }
        let admission = match self.below(5) {
            0 => Admission::Withheld,
            _ => Admission::Admitted,
        };
        let weight = if self.below(40) == 0 { 2 } else { 1 };
        let distance = self.distance();
        (backend.address, Some(BackendWanted { weight, admission, distance, ..backend }))
    }
}

#[test]
fn when_all_are_ejected_one_is_tried_all_the_same() {
    let vip = Vip::new(&[wanted(1)], Policy::default(), None, SECOND);
    let backend = vip.backend(wanted(1).address).expect("a backend");
    for _ in 0..10 {
        backend.started(1, SECOND);
        backend.failed(1, Reason::Only, SECOND, &Limits::default());
    }
    assert!(backend.counts(SECOND).ejected_for.is_some());
    assert!(vip.choose(&flow(1), 1, Limits::default(), SECOND).is_some());
}

#[test]
fn one_that_is_admitted_beside_others_warms_up() {
    let policy = Policy { slow_start: std::time::Duration::from_secs(10), ..Policy::default() };
    let withheld = BackendWanted { admission: Admission::Withheld, ..wanted(2) };
    let before = Vip::new(&[wanted(1), withheld], policy, None, SECOND);
    let later = 100 * SECOND;
    let vip = Vip::new(&[wanted(1), wanted(2)], policy, Some(&before), later);
    let joined: Vec<_> = vip.counts(later + SECOND).map(|(_, counts)| counts.joined_for).collect();
    assert_eq!(joined, [None, Some(1_000)], "it was listed long ago, but got nothing");
    let alone = Vip::new(&[withheld], policy, None, SECOND);
    let vip = Vip::new(&[wanted(2)], policy, Some(&alone), later);
    assert_eq!(vip.counts(later).next().expect("a backend").1.joined_for, None, "nobody else was");
}

#[test]
fn who_is_withheld_is_not_counted_among_the_ejected() {
    let all: Vec<BackendWanted> = (1..=5).map(wanted).collect();
    let mut vip = Vip::new(&all, Policy::default(), None, SECOND);
    let eject = |vip: &Vip, n: u8| {
        let backend = vip.backend(wanted(n).address).expect("a backend");
        (0..3).for_each(|_| backend.started(1, SECOND));
        (0..3).for_each(|_| backend.failed(1, Reason::Only, SECOND, &Limits::default()));
    };
    (1..=2).for_each(|n| eject(&vip, n));
    let withheld = |n: u8| BackendWanted { admission: Admission::Withheld, ..wanted(n) };
    let rest = [withheld(1), withheld(2), wanted(3), wanted(4), wanted(5)];
    vip = Vip::new(&rest, Policy::default(), Some(&vip), SECOND);
    eject(&vip, 1);
    eject(&vip, 3);
    assert_eq!(spread_of(&vip).into_keys().collect::<Vec<u8>>(), [4, 5], "the sick third is shut");
    vip = Vip::new(&all, Policy::default(), Some(&vip), SECOND);
    assert_eq!(
        spread_of(&vip).into_keys().collect::<Vec<u8>>(),
        [1, 2, 4, 5],
        "who is back is tried"
    );
}
