//! Packets between containers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mizzen_ebpf_loader::{Dataplane, LinkWanted, Options, VipAddress};

use crate::cluster::{Cluster, FAMILIES, Family, MTU, Node, address, at, counts};
use crate::offload::{Offload, set_offload};
use mizzen_tests_support::dataplane::backends;
use mizzen_tests_support::greeting::ask;
use mizzen_tests_support::namespace::Namespace;
use mizzen_tests_support::room::in_room;
use mizzen_tests_support::wait::eventually;

#[test]
fn the_ordinary_path_connects_containers() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let [client, server] = cluster.pair();
        for family in FAMILIES {
            let target = server.namespace.server(&at(address(family, 2, 2)));
            // The neighbours of a bridge that was just made find each other in a moment.
            let mut made = None;
            eventually("a way", || {
                made = client.namespace.connect(target).ok();
                made.is_some()
            });
            let mut connection = made.expect("a way");
            assert!(connection.echoes(&vec![7; 300_000]));
        }
    });
}

#[test]
fn containers_of_two_nodes_need_neither_bridge_nor_routes() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let paths = cluster.open();
        cluster.nodes.iter().for_each(Node::cut);
        let [client, server] = cluster.pair();
        for family in FAMILIES {
            let before = counts(&paths);
            let target = server.namespace.server(&at(address(family, 2, 2)));
            let mut connection = client.namespace.connect(target).expect("the fast path");
            assert_eq!(connection.seen.ip(), address(family, 1, 2), "the sender keeps its address");
            assert!(connection.echoes(&vec![7; 1_000_000]));
            let udp = client.namespace.udp(server.namespace.udp_server(&at(address(family, 2, 2))));
            let (_, seen, length) = ask(&udp, 1200).expect("an answer");
            assert_eq!((seen.ip(), length), (address(family, 1, 2), 1200));
            // In pieces: every one of them is small enough.
            assert_eq!(ask(&udp, 20_000).expect("an answer in pieces").2, 20_000);
            for (after, before) in counts(&paths).iter().zip(before) {
                assert!(after.sent > before.sent && after.delivered > before.delivered);
                assert_eq!(after.left, before.left);
            }
        }
    });
}

#[test]
fn containers_whose_vips_become_backends_at_their_sockets_pass_before_the_programs_of_vips() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let mut paths = cluster.open();
        for (node, path) in cluster.nodes.iter().zip(&mut paths) {
            let mut wanted = node.wanted();
            wanted.containers.values_mut().for_each(|container| container.hooked = true);
            node.follow(path, &wanted);
            // Only the first place is left.
            node.remove_filters();
            node.cut();
        }
        let [client, server] = cluster.pair();
        for family in FAMILIES {
            let target = server.namespace.server(&at(address(family, 2, 2)));
            let mut connection = client.namespace.connect(target).expect("the fast path");
            assert!(connection.echoes(&vec![7; 1_000_000]), "{family:?}");
        }
        // Those of a daemon that comes later take their place.
        drop(paths);
        let _paths = cluster.open();
        let wanted = cluster.nodes.each_ref().map(|node| shown(&node.host));
        assert_eq!(wanted, [3, 3], "one program on every link");
        let target = server.namespace.server("9.0.2.2");
        assert!(client.namespace.connect(target).expect("the fast path").echoes(&[7; 1000]));
    });
}

#[test]
fn checksums_and_segments_are_right_whoever_works_them_out() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let _paths = cluster.open();
        cluster.nodes.iter().for_each(Node::cut);
        let [client, server] = cluster.pair();
        for (inside, outside) in
            [(Offload::Off, Offload::On), (Offload::On, Offload::Off), (Offload::Off, Offload::Off)]
        {
            for container in [client, server] {
                set_offload(&container.namespace, "eth0", inside);
            }
            for node in &cluster.nodes {
                set_offload(&node.host, "eth0", outside);
            }
            for family in FAMILIES {
                let target = server.namespace.server(&at(address(family, 2, 2)));
                let mut connection = client.namespace.connect(target).expect("the fast path");
                assert!(connection.echoes(&vec![9; 500_000]), "{inside:?} {outside:?} {family:?}");
            }
        }
    });
}

#[test]
fn containers_beside_each_other_do_without_the_bridge() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let paths = cluster.open();
        let [client, server] = [0, 1].map(|index| &cluster.nodes[0].containers[index]);
        for family in FAMILIES {
            let before = counts(&paths)[0].beside;
            let target = server.namespace.server(&at(address(family, 1, 3)));
            let mut connection = client.namespace.connect(target).expect("a bridge");
            assert!(connection.echoes(&vec![7; 300_000]));
            assert!(counts(&paths)[0].beside > before, "{family:?}");
        }
    });
}

#[test]
fn a_packet_too_large_for_the_peer_is_reported_to_its_sender() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let mut paths = cluster.open();
        let node = &cluster.nodes[0];
        // The path to the peer is smaller than the container's link, as the routes know too.
        node.ip("link set vtep1024 mtu 1300");
        let mut wanted = node.wanted();
        wanted.peers.values_mut().for_each(|peer| peer.mtu = 1300);
        node.follow(&mut paths[0], &wanted);
        let [client, server] = cluster.pair();
        for family in FAMILIES {
            let udp = client.namespace.udp(server.namespace.udp_server(&at(address(family, 2, 2))));
            set_never_in_pieces(&udp, family);
            assert_eq!(ask(&udp, 1200).expect("small enough").2, 1200);
            let before = counts(&paths)[0].left;
            eventually("the kernel tells what passes", || {
                let _ = udp.send(&[1; 1350]);
                path_mtu(&udp, family) == 1300
            });
            assert!(counts(&paths)[0].left > before, "{family:?}");
            let target = server.namespace.server(&at(address(family, 2, 2)));
            let mut connection = client.namespace.connect(target).expect("the fast path");
            assert!(connection.echoes(&vec![3; 300_000]), "segments fit");
        }
        assert_eq!(node.host.link("m-dcos").mtu, MTU);
    });
}

#[test]
fn what_is_wanted_to_takes_the_ordinary_path() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let mut paths = cluster.open();
        let node = &cluster.nodes[1];
        let mut wanted = node.wanted();
        // Answers of this container are translated by the host.
        for family in FAMILIES {
            let container = wanted.containers.get_mut(&address(family, 2, 2)).expect("a container");
            (container.sends, container.receives) = (false, false);
        }
        node.follow(&mut paths[1], &wanted);
        let [client, server] = cluster.pair();
        let before = counts(&paths);
        let target = server.namespace.server("9.0.2.2");
        assert!(client.namespace.connect(target).expect("a route").echoes(&[7; 1000]));
        let after = counts(&paths);
        assert_eq!((after[1].sent, after[1].delivered), (before[1].sent, before[1].delivered));
        assert!(after[0].sent > before[0].sent, "the other node knows nothing of it");
    });
}

#[test]
fn vips_of_clients_that_no_hook_sees_become_backends_on_their_way() {
    in_room(|room| {
        let cluster = Cluster::new(room);
        let options = Options {
            cgroup: room.child_cgroup("nobody"),
            pin_dir: cluster.nodes[0].pin_dir.clone(),
            ..room.options()
        };
        // The fast path is attached first: what runs first does not depend on who came first.
        let paths = cluster.open();
        let host = &cluster.nodes[0].host;
        let mut vips = Dataplane::open(&options).expect("loadable");
        let links = ["m-dcos", "vtep1024", "mz2x0", "mz3x1"];
        let [client, server] = cluster.pair();
        for is_clsact in [false, true] {
            if is_clsact {
                host.run(|| vips.follow_links(&[])).expect("detachable");
                vips.use_clsact();
            }
            let wanted: Vec<LinkWanted> = links.iter().map(|name| host.wanted(name)).collect();
            let followed = host.run(|| vips.follow_links(&wanted)).expect("attachable");
            assert!(followed.errors.is_empty(), "{:?}", followed.errors);
            for (family, vip) in [(Family::V4, "11.0.0.1:80"), (Family::V6, "[fd01:c::1]:80")] {
                let vip: SocketAddr = vip.parse().expect("an address");
                let target = server.namespace.server(&at(address(family, 2, 2)));
                vips.set_vip(VipAddress::tcp(vip), &backends(&[target])).expect("room");
                let before = counts(&paths);
                let mut connection = client.namespace.connect(vip).expect("the VIP answers");
                assert!(connection.echoes(&vec![7; 300_000]), "{family:?}");
                let after = counts(&paths);
                assert!(after[0].sent > before[0].sent, "{family:?} {is_clsact}: the fast path");
                assert!(after[1].delivered > before[1].delivered);
            }
        }
        let chosen: BTreeMap<_, _> = vips.counters().expect("readable maps");
        assert!(chosen.values().all(|counts| counts.established > 0), "{chosen:?}");
    });
}

/// How many programs stand in the first place of a node's links.
fn shown(host: &Namespace) -> u32 {
    const QUERY: libc::c_int = 16;
    const TCX_INGRESS: u32 = 46;
    #[repr(C)]
    struct Attr {
        index: u32,
        attach_type: u32,
        flags: [u32; 2],
        ids: u64,
        count: u32,
        end: u32,
    }
    let links = host.netlink().observe_links().expect("readable");
    let count = |index: u32| {
        let (attach_type, flags) = (TCX_INGRESS, [0; 2]);
        let mut attr = Attr { index, attach_type, flags, ids: 0, count: 0, end: 0 };
        // SAFETY: the structure is that of the command, and asks for a number only.
        unsafe { libc::syscall(libc::SYS_bpf, QUERY, &raw mut attr, size_of::<Attr>()) };
        attr.count
    };
    host.run(|| links.iter().map(|link| count(link.index.0)).sum())
}

fn set_never_in_pieces(socket: &std::net::UdpSocket, family: Family) {
    let (level, option) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    let always: libc::c_int = 2;
    // SAFETY: the option is a number.
    let set = unsafe {
        let value = (&raw const always).cast();
        libc::setsockopt(socket.as_raw_fd(), level, option, value, 4)
    };
    assert_eq!(set, 0);
}

fn path_mtu(socket: &std::net::UdpSocket, family: Family) -> libc::c_int {
    let (level, option) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let (mut mtu, mut length): (libc::c_int, libc::socklen_t) = (0, 4);
    // SAFETY: the option is a number.
    let got = unsafe {
        let value = (&raw mut mtu).cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut length)
    };
    assert_eq!(got, 0);
    mtu
}
