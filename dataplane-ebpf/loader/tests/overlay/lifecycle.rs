//! Containers, daemons and programs come and go.

use mizzen_tests_support::load::{Load, while_loaded};
use std::process::Command;

use mizzen_ebpf_loader::{FastPath, FastPathWanted};

use crate::cluster::{Cluster, Family, Node, address, at, counts};
use mizzen_tests_support::room::in_room;

#[test]
fn a_container_that_comes_while_no_daemon_runs_works_at_once() {
    in_room(|room| {
        let mut cluster = Cluster::new(room);
        let mut paths = cluster.open();
        // Gone, and its address given to another one, while the maps still lead to the first.
        let node = &mut cluster.nodes[1];
        let gone = node.containers.remove(0);
        node.host.netlink().remove_link(&gone.link).expect("removable");
        drop(gone);
        node.add(2);
        let server = &cluster.nodes[1].containers[1].namespace;
        let target = server.server("9.0.2.2");
        let client = &cluster.nodes[0].containers[0].namespace;
        let before = counts(&paths)[1];
        assert!(client.connect(target).expect("the ordinary path").echoes(&[7; 100_000]));
        assert_eq!(counts(&paths)[1].delivered, before.delivered);

        let node = &cluster.nodes[1];
        node.follow(&mut paths[1], &node.wanted());
        assert!(client.connect(target).expect("the fast path").echoes(&[7; 100_000]));
        let after = counts(&paths)[1];
        assert!(after.delivered > before.delivered && after.sent > before.sent);
    });
}

#[test]
fn connections_outlive_daemons_and_the_fast_path() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let paths = cluster.open();
        let [client, server] = cluster.pair();
        let target = server.namespace.server(&at(address(Family::V6, 2, 2)));
        let mut held = client.namespace.connect(target).expect("the fast path");
        drop(paths);
        assert!(held.echoes(&[1; 100_000]), "without a daemon");
        let echoing = |load: &Load| {
            while load.goes_on() {
                assert!(held.echoes(&[2; 10_000]), "no byte is lost");
            }
        };
        while_loaded([echoing], |_| {
            let mut paths = cluster.open();
            let before = counts(&paths);
            for node in &cluster.nodes {
                let path = &mut paths[usize::from(node.number) - 1];
                node.follow(path, &FastPathWanted::default());
                assert_eq!(filters(node), 0, "nothing is wanted");
                node.follow(path, &node.wanted());
                assert_eq!(filters(node), 3, "a tunnel and two containers");
            }
            assert!(counts(&paths)[0].sent >= before[0].sent);
        });
        assert!(held.echoes(&[3; 100_000]));
    });
}

#[test]
fn a_container_takes_everything_with_it() {
    in_room(|room| {
        let mut cluster = Cluster::new(room);
        let mut paths = cluster.open();
        let node = &mut cluster.nodes[0];
        let gone = node.containers.remove(1);
        node.host.netlink().remove_link(&gone.link).expect("removable");
        assert_eq!(filters(node), 2);
        let changed = node.host.run(|| paths[0].follow(&node.wanted())).expect("writable maps");
        assert_eq!((changed.containers, changed.peers), (2, 0), "one address of each family");
        let changed = node.host.run(|| paths[0].follow(&node.wanted())).expect("writable maps");
        assert_eq!((changed.containers, changed.peers), (0, 0));
    });
}

#[test]
fn a_filter_that_somebody_removed_comes_back() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let mut paths = cluster.open();
        let node = &cluster.nodes[0];
        node.host.run(|| tc("qdisc del dev vtep1024 clsact"));
        assert_eq!(filters(node), 2);
        paths[0].recheck();
        node.follow(&mut paths[0], &node.wanted());
        assert_eq!(filters(node), 3);
    });
}

#[test]
fn a_link_that_is_gone_keeps_no_other_from_the_fast_path() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let node = &cluster.nodes[0];
        let mut wanted = node.wanted();
        let container = wanted.containers[&address(Family::V4, 1, 2)];
        let gone = mizzen_ebpf_loader::ContainerWanted { link: 4_000_000, ..container };
        wanted.containers.insert(address(Family::V4, 1, 9), gone);
        let mut path = FastPath::open(&node.pin_dir).expect("loadable");
        let changed = node.host.run(|| path.follow(&wanted)).expect("writable maps");
        assert_eq!((changed.errors.len(), changed.containers), (1, 4));
    });
}

#[test]
fn teardown_leaves_nothing() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        drop(cluster.open());
        let [client, server] = cluster.pair();
        let target = server.namespace.server("9.0.2.2");
        let mut held = client.namespace.connect(target).expect("the fast path");
        for node in &cluster.nodes {
            node.teardown();
            assert_eq!(filters(node), 0);
            let left = node.pin_dir.read_dir().expect("a directory").count();
            assert_eq!(left, 0);
            node.teardown();
        }
        assert!(held.echoes(&[3; 100_000]), "the ordinary path takes over");
    });
}

/// Filters on links of a node.
fn filters(node: &Node) -> usize {
    let mut links = vec!["vtep1024".to_owned()];
    links.extend(node.containers.iter().map(|container| container.link.clone()));
    let count = |link: &String| {
        let shown = tc(&format!("filter show dev {link} ingress"));
        shown.lines().filter(|line| line.contains("direct-action")).count()
    };
    node.host.run(|| links.iter().map(count).sum())
}

fn tc(words: &str) -> String {
    let output = Command::new("tc").args(words.split(' ')).output().expect("iproute2");
    String::from_utf8(output.stdout).expect("text")
}
