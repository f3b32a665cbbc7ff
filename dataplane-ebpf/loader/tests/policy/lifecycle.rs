//! Daemons and containers come and go.

use std::io::Read;
use std::path::Path as FilePath;
use std::process::Command;

use mizzen_ebpf_core::policy::{Class, PolicyWanted, Traffic, number};
use mizzen_ebpf_loader::{Policy, PolicyHere, SpeakerWanted, teardown_policy};

use crate::cluster::{Family, Node, address};
use crate::stage::{
    BESIDE, CLIENT, LONG, PATHS, Path, RULE, SERVER, SOON, Stage, connects, follow, here,
};
use mizzen_tests_support::room::in_room;

#[test]
fn a_daemon_that_is_gone_leaves_no_door_open() {
    in_room(|room| {
        for path in PATHS {
            let stage = &mut Stage::new(room, path);
            stage.guard(SERVER, Class::GUARDED_INGRESS);
            stage.allow((CLIENT, SERVER), Traffic::All);
            stage.apply();
            let target = stage.server().namespace.server("9.0.2.2");
            let counts = stage.counts(RULE);
            // All that a process has is gone when it is killed: descriptors, and nothing else is closed here.
            let Stage { cluster, policies, wanted, paths } = stage;
            *paths = None;
            *policies = crate::stage::open(cluster);
            assert!(connects(&cluster.nodes[0].containers[0].namespace, target, LONG));
            assert!(!connects(&cluster.nodes[0].containers[1].namespace, target, SOON), "{path:?}");
            // A successor takes over, and changes what differs.
            for (node, policy) in cluster.nodes.iter().zip(policies) {
                let changed = node.host.run(|| policy.follow(wanted, &here(node)));
                let changed = changed.expect("writable maps");
                assert_eq!((changed.classes, changed.rulings), (0, 0));
            }
            assert!(connects(&stage.client().namespace, target, LONG));
            assert!(!connects(&stage.beside().namespace, target, SOON));
            assert_eq!(stage.counts(RULE).allowed, counts.allowed + 2);
            assert_eq!(stage.counts(number::GUARD_INGRESS).refused, 2);
        }
    });
}

#[test]
fn a_killed_process_is_not_missed() {
    in_room(|room| {
        if let Some(role) = &room.role {
            return be_the_daemon(role);
        }
        let stage = Stage::new(room, Path::Ordinary);
        let node = &stage.cluster.nodes[1];
        let link = node.host.link(&node.containers[0].link).index.0;
        let role = format!("{} {} {link}", node.host.path().display(), node.pin_dir.display());
        let mut daemon = room.start(&role);
        let mut output = daemon.0.stdout.take().expect("a pipe");
        let mut text = String::new();
        while !text.contains("enforced") {
            let mut bytes = [0; 256];
            let length = output.read(&mut bytes).expect("a pipe");
            assert!(length > 0, "it ended: {text}");
            text += &String::from_utf8_lossy(&bytes[..length]);
        }
        let target = stage.server().namespace.server("9.0.2.2");
        assert!(!connects(&stage.client().namespace, target, SOON));
        daemon.0.kill().expect("a child");
        daemon.0.wait().expect("a child");
        assert!(!connects(&stage.client().namespace, target, SOON));
    });
}

/// Guards a container, and then waits to be killed.
fn be_the_daemon(role: &str) {
    let words: Vec<&str> = role.split(' ').collect();
    let [namespace, pins, link] = words[..] else { panic!("another role: {role}") };
    let server = address(Family::V4, 2, 2);
    let class = Class { class: SERVER, overlay: 7, flags: Class::GUARDED_INGRESS };
    let wanted =
        PolicyWanted { classes: [((server, 32), class)].into(), ..PolicyWanted::default() };
    let link = link.parse().expect("a number");
    let here = PolicyHere { containers: [(server, link)].into(), ..PolicyHere::default() };
    let mut policy = Policy::open(FilePath::new(pins), None).expect("loadable");
    let follow = || policy.follow(&wanted, &here).expect("writable maps");
    let changed = mizzen_netlink::in_namespace(FilePath::new(namespace), follow);
    assert!(changed.expect("a namespace").errors.is_empty());
    println!("enforced");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

#[test]
fn programs_stand_where_something_is_judged() {
    in_room(|room| {
        let mut stage = Stage::new(room, Path::Ordinary);
        stage.guard(SERVER, Class::GUARDED_INGRESS);
        stage.apply();
        let [one, two] = [0, 1].map(|index| filters(&stage.cluster.nodes[index]));
        assert_eq!((one, two), (0, 2), "both ways of one container");
        // The containers' overlay opens to another one.
        let other = Class { class: BESIDE, overlay: 99, flags: 0 };
        stage.class((1, 3), other);
        stage.allow((CLIENT, BESIDE), Traffic::All);
        stage.apply();
        let [one, two] = [0, 1].map(|index| filters(&stage.cluster.nodes[index]));
        assert_eq!((one, two), (3, 4), "each container's way out, and the tunnel");
        // A container goes with all that stands at it.
        let node = &mut stage.cluster.nodes[1];
        let gone = node.containers.remove(0);
        node.host.netlink().remove_link(&gone.link).expect("removable");
        follow(&stage.cluster.nodes[1], &mut stage.policies[1], &stage.wanted);
        assert_eq!(filters(&stage.cluster.nodes[1]), 2);
        // Somebody removes what stands there.
        let node = &stage.cluster.nodes[0];
        node.host.run(|| tc("qdisc del dev mz2x0 clsact"));
        assert_eq!(filters(node), 2);
        stage.policies[0].recheck();
        follow(node, &mut stage.policies[0], &stage.wanted);
        assert_eq!(filters(node), 3);
    });
}

#[test]
fn teardown_leaves_nothing() {
    in_room(|room| {
        let mut stage = Stage::new(room, Path::Ordinary);
        stage.policies[1] =
            Policy::open(&stage.cluster.nodes[1].pin_dir, Some(&room.cgroup)).expect("loadable");
        stage.guard(SERVER, Class::GUARDED_INGRESS);
        stage.apply();
        let node = &stage.cluster.nodes[1];
        let pin = node.pin_dir.join("policy_v1/link_connect4");
        assert!(!pin.exists(), "nobody's connects are known");
        let here = PolicyHere { speakers: [(1, SpeakerWanted::default())].into(), ..here(node) };
        node.host.run(|| stage.policies[1].follow(&stage.wanted, &here)).expect("attachable");
        assert!(pin.exists());
        let target = stage.server().namespace.server("9.0.2.2");
        assert!(!connects(&stage.client().namespace, target, SOON));
        for node in &stage.cluster.nodes {
            node.host.run(|| teardown_policy(&node.pin_dir)).expect("removable");
            assert_eq!(filters(node), 0);
            assert_eq!(node.pin_dir.read_dir().expect("a directory").count(), 0);
            node.host.run(|| teardown_policy(&node.pin_dir)).expect("nothing to remove");
        }
        assert!(connects(&stage.client().namespace, target, LONG));
    });
}

#[test]
fn a_link_that_is_gone_keeps_no_other_from_being_judged() {
    in_room(|room| {
        let mut stage = Stage::new(room, Path::Ordinary);
        stage.guard(SERVER, Class::GUARDED_INGRESS);
        stage.class((2, 9), Class { class: SERVER, overlay: 7, flags: Class::GUARDED_INGRESS });
        let node = &stage.cluster.nodes[1];
        let mut here = here(node);
        here.containers.insert(address(Family::V4, 2, 9), 4_000_000);
        let changed = node.host.run(|| stage.policies[1].follow(&stage.wanted, &here));
        assert_eq!(changed.expect("writable maps").errors.len(), 1);
        let target = stage.server().namespace.server("9.0.2.2");
        assert!(!connects(&stage.client().namespace, target, SOON));
        node.host.run(|| stage.policies[1].follow(&PolicyWanted::default(), &here)).expect("maps");
        assert!(connects(&stage.client().namespace, target, LONG));
    });
}

/// Programs of policies on links of a node, in both directions.
pub fn filters(node: &Node) -> usize {
    let mut links = vec!["vtep1024".to_owned()];
    links.extend(node.containers.iter().map(|container| container.link.clone()));
    let count = |link: &String| {
        let shown = ["ingress", "egress"].map(|way| tc(&format!("filter show dev {link} {way}")));
        // The priority of policies, by which filters are told apart.
        let ours = format!("pref {}", 0x6d7c);
        let is_ours = |line: &&str| line.contains("direct-action") && line.contains(&ours);
        shown.iter().map(|shown| shown.lines().filter(is_ours).count()).sum::<usize>()
    };
    node.host.run(|| links.iter().map(count).sum())
}

fn tc(words: &str) -> String {
    let output = Command::new("tc").args(words.split(' ')).output().expect("iproute2");
    String::from_utf8(output.stdout).expect("text")
}
