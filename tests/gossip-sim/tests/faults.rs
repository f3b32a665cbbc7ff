//! What a cluster must survive.

use mizzen_membership::membership::{Membership, Report};
use mizzen_membership::swim::{self, State};
use mizzen_tests_gossip_sim::cluster::{Cluster, Seen};
use mizzen_tests_gossip_sim::measure::speak;
use mizzen_tests_gossip_sim::network::SECOND;
use mizzen_types::fact::{Fact, Key};
use std::time::Duration;

fn all(cluster: &Cluster) -> Vec<usize> {
    cluster.alive().collect()
}

fn key(name: &str) -> Key {
    Key::VipClaim(name.to_owned())
}

fn claim(last: u8) -> Fact {
    Fact::VipClaim([11, 0, 0, last].into())
}

/// Whether everybody knows of each owner what it says itself.
fn agree(cluster: &Cluster, owners: usize) -> bool {
    let nodes = all(cluster);
    let of = |node: usize, owner: usize| {
        let membership = cluster.nodes[node].membership.as_ref()?;
        Some(membership.exchange().version(&cluster.nodes[owner].id))
    };
    (0..owners).all(|owner| nodes.iter().all(|node| of(*node, owner) == of(owner, owner)))
}

fn deaths(cluster: &Cluster) -> Vec<(usize, usize)> {
    let dead = |(_, seen): &(u64, Seen)| match seen {
        Seen::State(who, about, State::Dead) => Some((*who, *about)),
        _ => None,
    };
    cluster.seen.iter().filter_map(dead).collect()
}

#[test]
fn a_partition_hides_the_other_side_and_heals() {
    let mut cluster = Cluster::new(60, 0.01, 1);
    speak(&mut cluster, 60);
    for node in 30..60 {
        cluster.network.group(node, 1);
    }
    cluster.network.cut(0, 1, 1.0);
    cluster.run(10 * SECOND);
    assert_eq!(cluster.state(3, 40), Some(State::Dead));
    assert!(cluster.said(3, 40).is_empty(), "hidden while it counts as dead");
    assert_eq!(cluster.said(41, 40).len(), 1, "not on its own side");
    cluster.say(40, key("news"), Some(&claim(9)));
    cluster.say(4, key("news"), Some(&claim(8)));
    cluster.run(60 * SECOND);

    cluster.network.cut(0, 1, 0.0);
    let everybody = all(&cluster);
    let healed = cluster.run_until(60 * SECOND, |cluster| cluster.is_whole(&everybody));
    assert!(healed.is_some(), "the halves found each other");
    let agreed = cluster.run_until(120 * SECOND, |cluster| agree(cluster, 60));
    assert!(agreed.is_some(), "and know what was said meanwhile");
    assert!(cluster.said(3, 40).contains(&(key("news"), claim(9))));
}

#[test]
fn a_node_that_was_cut_off_alone_comes_back_also_of_two() {
    for count in [2, 20] {
        let mut cluster = Cluster::new(count, 0.01, 2);
        cluster.network.group(1, 1);
        cluster.network.cut(0, 1, 1.0);
        cluster.run(20 * SECOND);
        assert_eq!(cluster.state(0, 1), Some(State::Dead));
        assert_eq!(cluster.state(1, 0), Some(State::Dead));
        cluster.network.cut(0, 1, 0.0);
        let everybody = all(&cluster);
        let back = cluster.run_until(60 * SECOND, |cluster| cluster.is_whole(&everybody));
        assert!(back.is_some(), "of {count}");
    }
}

#[test]
fn a_node_that_was_cut_off_for_a_moment_is_back_soon() {
    for seed in 0..500 {
        let mut cluster = Cluster::new(3, 0.01, seed);
        cluster.network.group(2, 1);
        cluster.run(SECOND);
        cluster.network.cut(0, 1, 1.0);
        cluster.run(SECOND / 2 + seed * SECOND / 100);
        // Neighbours have to be found again, so what is sent first is often lost.
        cluster.network.cut(0, 1, 0.6);
        cluster.run(SECOND / 2);
        cluster.network.cut(0, 1, 0.0);
        let everybody = all(&cluster);
        let back = cluster.run_until(5 * SECOND, |cluster| cluster.is_whole(&everybody));
        assert!(back.is_some(), "seed {seed}");
    }
}

#[test]
fn two_nodes_that_do_not_hear_each_other_live_on_by_others() {
    let mut cluster = Cluster::new(20, 0.01, 3);
    cluster.network.group(4, 1);
    cluster.network.group(5, 2);
    // One direction lost altogether, the other one by half.
    cluster.network.set_loss(1, 2, 1.0);
    cluster.network.set_loss(2, 1, 0.5);
    cluster.run(120 * SECOND);
    assert_eq!(deaths(&cluster), []);
}

#[test]
fn a_node_that_hears_nothing_dies_alone() {
    let mut cluster = Cluster::new(30, 0.01, 4);
    cluster.network.group(7, 1);
    cluster.network.set_loss(0, 1, 1.0);
    cluster.run(20 * SECOND);
    let of_others: Vec<_> = deaths(&cluster).into_iter().filter(|(who, _)| *who != 7).collect();
    let wrong: Vec<_> = of_others.iter().filter(|(_, about)| *about != 7).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(
        (0..30).filter(|node| *node != 7).all(|node| cluster.state(node, 7) != Some(State::Alive))
    );
    cluster.network.set_loss(0, 1, 0.0);
    let everybody = all(&cluster);
    assert!(cluster.run_until(60 * SECOND, |cluster| cluster.is_whole(&everybody)).is_some());
}

#[test]
fn a_restart_is_no_death_and_takes_nothing_away() {
    let mut cluster = Cluster::new(20, 0.01, 5);
    speak(&mut cluster, 20);
    cluster.kill(6);
    cluster.run(SECOND / 2);
    cluster.start(6);
    cluster.join(6, 2);
    cluster.run(5 * SECOND);
    assert_eq!(deaths(&cluster), []);
    assert_eq!(cluster.said(3, 6).len(), 1, "the new life has said nothing yet");
    cluster.say(6, key("first"), Some(&claim(0)));
    cluster.say(6, key("second"), Some(&claim(1)));
    cluster.run(2 * SECOND);
    assert_eq!(cluster.said(3, 6).len(), 2);
    assert_eq!(cluster.said(6, 3).len(), 1, "and it learned what others say");
}

#[test]
fn a_node_that_comes_back_with_an_old_log_outlives_its_newer_one() {
    let mut cluster = Cluster::new(20, 0.01, 6);
    cluster.kill(6);
    cluster.start_as(6, 50);
    cluster.join(6, 0);
    cluster.run(5 * SECOND);
    cluster.say(6, key("late"), Some(&claim(1)));
    cluster.run(5 * SECOND);
    assert_eq!(cluster.said(3, 6), [(key("late"), claim(1))]);
    cluster.kill(6);
    cluster.run(SECOND / 2);
    // Its state directory is from before: generation and log are.
    cluster.start_as(6, 2);
    cluster.join(6, 0);
    cluster.say(6, key("early"), Some(&claim(2)));
    let known = |cluster: &Cluster| cluster.said(3, 6) == [(key("early"), claim(2))];
    assert!(cluster.run_until(90 * SECOND, known).is_some());
    assert!(cluster.nodes[6].generation > 50, "to be kept on disk");
    assert_eq!(cluster.state(3, 6), Some(State::Alive));
}

#[test]
fn a_node_whose_log_is_old_is_told_what_it_missed() {
    let mut cluster = Cluster::new(20, 0.01, 7);
    speak(&mut cluster, 20);
    cluster.kill(6);
    cluster.run(10 * SECOND);
    cluster.say(3, key("first"), None);
    cluster.say(3, key("other"), Some(&claim(5)));
    cluster.run(5 * SECOND);
    cluster.start(6);
    cluster.join(6, 2);
    cluster.run(5 * SECOND);
    assert_eq!(cluster.said(6, 3), [(key("other"), claim(5))]);
}

#[test]
fn two_nodes_with_one_address_are_reported() {
    let mut cluster = Cluster::new(10, 0.01, 8);
    let twin = cluster.add();
    cluster.nodes[twin].address = cluster.nodes[4].address;
    let address = cluster.nodes[4].address;
    cluster.start(twin);
    cluster.join(twin, 0);
    cluster.run(2 * SECOND);
    let told = |report: &Report| matches!(report, Report::SharedAddress { address: at, .. } if *at == address);
    let tellers = (0..10).filter(|node| cluster.nodes[*node].reports.iter().any(told)).count();
    assert!(tellers >= 8, "{tellers} of 10 say so");
    let there =
        |report: &Report| matches!(report, Report::Swim(swim::Report::SharedAddress { .. }));
    assert!(cluster.nodes[4].reports.iter().any(there), "and the one that gets the datagrams");
    let others: Vec<usize> = (0..10).filter(|node| *node != 4).collect();
    cluster.run(60 * SECOND);
    let others_die = |(who, about): &(usize, usize)| others.contains(who) && others.contains(about);
    assert_eq!(deaths(&cluster).into_iter().find(others_die), None, "nobody else is touched");
}

#[test]
fn of_two_copies_of_a_machine_the_later_one_counts() {
    let mut cluster = Cluster::new(10, 0.01, 9);
    let copy = cluster.copy(4);
    cluster.start(copy);
    let by = vec![cluster.nodes[0].address];
    cluster.with(copy, |membership, now| membership.call(by, now));
    cluster.run(10 * SECOND);
    assert!(cluster.nodes[4].membership.as_ref().unwrap().is_refused());
    assert!(!cluster.nodes[copy].membership.as_ref().unwrap().is_refused());
    let later = cluster.nodes[copy].address;
    let id = cluster.nodes[4].id.clone();
    let seen = cluster.nodes[3].membership.as_ref().unwrap().nodes().get(&id).unwrap().clone();
    assert_eq!((seen.identity.address, seen.state), (later, State::Alive));
    let before = cluster.seen.len();
    cluster.run(100 * SECOND);
    let flaps =
        cluster.seen[before..].iter().filter(|(_, seen)| matches!(seen, Seen::State(0..4, ..)));
    assert_eq!(flaps.count(), 0, "they do not fight");

    cluster.kill(copy);
    let others: Vec<usize> = (0..10).collect();
    let back = cluster.run_until(90 * SECOND, |cluster| cluster.is_whole(&others));
    assert!(back.is_some(), "when it is gone, the other one takes its place");
}

#[test]
fn clocks_that_jump_kill_nobody() {
    let mut cluster = Cluster::new(30, 0.01, 10);
    cluster.run(5 * SECOND);
    cluster.nodes[3].wall_ahead = 3600 * SECOND as i64;
    cluster.nodes[4].wall_ahead = -86_400 * SECOND as i64;
    cluster.run(30 * SECOND);
    assert_eq!(deaths(&cluster), []);

    // A process that stood still finds all of its timers late.
    cluster.pause(5, 10 * SECOND);
    cluster.run(60 * SECOND);
    let by_it = deaths(&cluster).into_iter().filter(|(who, _)| *who == 5).count();
    assert_eq!(by_it, 0, "what it did not hear is not held against others");
    let everybody = all(&cluster);
    assert!(cluster.is_whole(&everybody), "and it is back");
}

#[test]
fn joining_twice_is_joining_once() {
    let mut cluster = Cluster::new(10, 0.01, 11);
    let joiner = cluster.add();
    cluster.start(joiner);
    cluster.join(joiner, 0);
    cluster.join(joiner, 1);
    cluster.run(3 * SECOND);
    cluster.join(joiner, 0);
    cluster.run(3 * SECOND);
    let everybody = all(&cluster);
    assert!(cluster.is_whole(&everybody));
    let nodes = cluster.nodes[3].membership.as_ref().unwrap().nodes();
    assert_eq!(nodes.iter().count(), 11);
}

#[test]
fn many_nodes_join_one_another_from_nothing() {
    let mut cluster = Cluster::new(1, 0.01, 12);
    for number in 1..100 {
        let node = cluster.add();
        cluster.start(node);
        let by = cluster.dice.below(number);
        cluster.join(node, by);
        cluster.say(node, key("mine"), Some(&claim(number as u8)));
        cluster.run(SECOND / 20);
    }
    let everybody = all(&cluster);
    assert!(cluster.run_until(20 * SECOND, |cluster| cluster.is_whole(&everybody)).is_some());
    let agreed = cluster.run_until(60 * SECOND, |cluster| agree(cluster, 100));
    assert!(agreed.is_some());
    assert_eq!(deaths(&cluster), []);
}

#[test]
fn nodes_that_know_only_an_address_find_the_cluster() {
    let mut cluster = Cluster::new(5, 0.01, 13);
    let caller = cluster.add();
    cluster.start(caller);
    let nobody = "10.200.0.1:62501".parse().unwrap();
    let addresses = vec![nobody, cluster.nodes[2].address];
    cluster.with(caller, |membership, now| membership.call(addresses, now));
    let everybody = all(&cluster);
    assert!(cluster.run_until(35 * SECOND, |cluster| cluster.is_whole(&everybody)).is_some());
}

#[test]
fn a_goodbye_is_no_death() {
    let mut cluster = Cluster::new(50, 0.01, 14);
    cluster.run(SECOND);
    cluster.with(7, Membership::leave);
    cluster.run(SECOND / 100);
    cluster.kill(7);
    cluster.run(2 * SECOND);
    let others = (0..50).filter(|node| *node != 7);
    let left = others.filter(|node| cluster.state(*node, 7) == Some(State::Left)).count();
    assert_eq!(left, 49);
    cluster.start(7);
    cluster.join(7, 0);
    let everybody = all(&cluster);
    assert!(cluster.run_until(10 * SECOND, |cluster| cluster.is_whole(&everybody)).is_some());
}

#[test]
fn garbage_is_reported_and_harms_nobody() {
    let mut cluster = Cluster::new(10, 0.01, 15);
    speak(&mut cluster, 10);
    for _ in 0..2000 {
        let length = cluster.dice.below(200);
        let mut bytes: Vec<u8> = (0..length).map(|_| cluster.dice.draw() as u8).collect();
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        cluster.inject_datagram(3, &bytes);
        cluster.inject_message(3, 4, &bytes);
    }
    let reports = &cluster.nodes[3].reports;
    let told = |report: &Report| matches!(report, Report::Swim(swim::Report::Garbage { .. }));
    assert!(reports.iter().any(told));
    let peers = reports.iter().filter(|report| matches!(report, Report::Peer(..))).count();
    assert!((1..=3).contains(&peers), "{peers} words about one peer, then it is not listened to");
    cluster.run(30 * SECOND);
    let everybody = all(&cluster);
    assert!(cluster.is_whole(&everybody) && deaths(&cluster).is_empty());
}

#[test]
fn what_the_dead_said_is_forgotten_in_the_end() {
    let mut cluster = Cluster::new(0, 0.01, 16);
    cluster.keep = Duration::from_secs(600);
    for node in 0..6 {
        cluster.add();
        cluster.start(node);
        cluster.join(node, 0);
        cluster.run(SECOND);
    }
    speak(&mut cluster, 6);
    cluster.kill(2);
    cluster.run(10 * SECOND);
    let id = cluster.nodes[2].id.clone();
    let knows = |cluster: &Cluster, node: usize| {
        cluster.nodes[node]
            .membership
            .as_ref()
            .unwrap()
            .exchange()
            .owners()
            .any(|owner| *owner == id)
    };
    assert!(knows(&cluster, 3) && cluster.said(3, 2).is_empty(), "kept, and hidden");
    cluster.run(700 * SECOND);
    let nodes = all(&cluster);
    assert!(nodes.iter().all(|node| !knows(&cluster, *node)));
    assert!(nodes.iter().all(|node| cluster.state(*node, 2).is_none()));
}
