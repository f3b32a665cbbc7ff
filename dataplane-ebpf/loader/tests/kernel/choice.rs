//! Which backend gets a connect, by each rule.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mizzen_ebpf_loader::{
    Admission, BackendWanted, Dataplane, Distance, Locality, Reason, Rule, Socket, Stage, Tuning,
    VipAddress, VipWanted,
};
use mizzen_netlink::in_namespace;

use crate::{VIP, counts, spread};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{
    Running, at, connect, in_room, namespace, reset, server, sink, slow_server,
};
use mizzen_tests_support::wait::eventually;

#[test]
fn a_slow_backend_gets_next_to_nothing() {
    in_room(|room| {
        let slow = slow_server("127.0.0.1", Duration::from_millis(80));
        let mut servers = vec![slow];
        servers.extend((0..3).map(|_| slow_server("127.0.0.1", Duration::from_millis(4))));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&servers)).expect("room");
        clients(8, 800);
        let before = counts(&dataplane, tcp(VIP), slow);
        assert!(before.duration_micros > 20_000, "it is known as slow: {before:?}");
        clients(8, 3_000);
        let chosen = counts(&dataplane, tcp(VIP), slow).chosen - before.chosen;
        assert!(chosen < 60, "{chosen} of 3000 went to the slow one");
    });
}

#[test]
fn the_less_busy_of_two_is_taken_and_a_draw_does_not_care() {
    in_room(|room| {
        let (busy, idle) = (server("127.0.0.1"), server("127.0.0.1"));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        for (rule, few, many) in
            [(Rule::LeastConnections, 0, 0), (Rule::Latency, 0, 0), (Rule::Random, 10, 50)]
        {
            let wanted = |servers: &[SocketAddr]| VipWanted { rule, ..backends(servers) };
            dataplane.set_vip(tcp(VIP), &wanted(&[busy])).expect("room");
            let held: Vec<_> =
                (0..100).map(|_| connect(at(VIP)).expect("the VIP answers")).collect();
            dataplane.set_vip(tcp(VIP), &wanted(&[busy, idle])).expect("room");
            let more: Vec<_> =
                (0..60).map(|_| connect(at(VIP)).expect("the VIP answers")).collect();
            let to_busy = more.iter().filter(|(_, port)| *port == busy.port()).count();
            assert!((few..=many).contains(&to_busy), "{rule:?}: {to_busy} of 60 to the busy one");
            held.into_iter().chain(more).for_each(|(stream, _)| reset(stream));
        }
    });
}

#[test]
fn weights_are_shares_of_the_draw() {
    in_room(|room| {
        let servers = [server("127.0.0.1"), server("127.0.0.1"), server("127.0.0.1")];
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        for rule in [Rule::Random, Rule::Maglev] {
            let mut wanted = VipWanted { rule, ..backends(&servers) };
            wanted.backends[0].weight = 3;
            wanted.backends[2].weight = 0;
            dataplane.set_vip(tcp(VIP), &wanted).expect("room");
            let hits = spread(at(VIP), 800);
            assert_eq!(hits.get(&servers[2].port()), None, "{rule:?}: {hits:?}");
            assert!((520..=680).contains(&hits[&servers[0].port()]), "{rule:?}: {hits:?}");
        }
    });
}

#[test]
fn a_ring_leads_one_socket_to_one_backend_and_keeps_most_of_the_others() {
    in_room(|room| {
        let servers: Vec<SocketAddr> = (1..=4).map(|n| at(&format!("127.0.0.{n}:4000"))).collect();
        let vip = VipAddress::udp(at(VIP));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let maglev = |servers: &[SocketAddr]| VipWanted { rule: Rule::Maglev, ..backends(servers) };
        dataplane.set_vip(vip, &maglev(&servers)).expect("room");
        let clients: Vec<UdpSocket> =
            (0..400).map(|_| UdpSocket::bind("0.0.0.0:0").expect("a socket")).collect();
        let connect_all = |dataplane: &Dataplane| -> BTreeMap<u64, SocketAddr> {
            clients.iter().for_each(|client| client.connect(vip.socket).expect("translated"));
            let mut sockets = dataplane.sockets();
            sockets.retain(|socket| socket.is_open);
            assert!(sockets.iter().all(|socket| socket.reason == Reason::Ring));
            sockets.iter().map(pair).collect()
        };
        let first = connect_all(&dataplane);
        assert_eq!(first.len(), 400);
        for backend in &servers {
            let share = first.values().filter(|chosen| *chosen == backend).count();
            assert!((60..=140).contains(&share), "{backend} has {share} of 400");
        }
        assert_eq!(connect_all(&dataplane), first, "the same socket gets the same backend");

        dataplane.set_vip(vip, &maglev(&servers[1..])).expect("room");
        let after = connect_all(&dataplane);
        let stayed = |cookie: &&u64| first[*cookie] == after[*cookie];
        let others = first.keys().filter(|cookie| first[*cookie] != servers[0]);
        let moved = others.clone().filter(|cookie| !stayed(cookie)).count();
        assert!(moved * 20 < others.count(), "{moved} moved");
        assert!(after.values().all(|backend| *backend != servers[0]));
    });
}

#[test]
fn a_network_namespace_stays_with_its_backend() {
    in_room(|room| {
        let servers: Vec<SocketAddr> = (1..=4).map(|n| at(&format!("127.0.0.{n}:4000"))).collect();
        let vip = VipAddress::udp(at(VIP));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        let source = |servers: &[SocketAddr]| VipWanted { rule: Rule::Source, ..backends(servers) };
        dataplane.set_vip(vip, &source(&servers)).expect("room");
        let namespaces: Vec<(Running, PathBuf)> = (0..12).map(|_| namespace()).collect();
        let connect_each = |dataplane: &Dataplane| -> BTreeMap<u64, Vec<SocketAddr>> {
            let connect = || {
                (0..5).map(|_| {
                    let client = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                    client.connect(vip.socket).expect("translated");
                    client
                })
            };
            let held: Vec<Vec<UdpSocket>> = namespaces
                .iter()
                .map(|(_, path)| in_namespace(path, || connect().collect()).expect("alive"))
                .collect();
            let mut chosen = BTreeMap::<u64, Vec<SocketAddr>>::new();
            for socket in dataplane.sockets().into_iter().filter(|socket| socket.is_open) {
                chosen.entry(socket.netns).or_default().push(socket.backend);
            }
            drop(held);
            chosen
        };
        let first = connect_each(&dataplane);
        assert_eq!(first.len(), namespaces.len());
        for backends in first.values() {
            assert!(backends.iter().all(|backend| *backend == backends[0]), "{backends:?}");
        }
        let mut used: Vec<SocketAddr> = first.values().map(|backends| backends[0]).collect();
        used.sort_unstable();
        used.dedup();
        assert!(used.len() > 1, "not all namespaces have the same one");

        // One backend goes; those of the other backends stay with theirs, but for a small part of the ring.
        dataplane.set_vip(vip, &source(&servers[1..])).expect("room");
        let after = connect_each(&dataplane);
        let moved = first.iter().filter(|(_, backends)| backends[0] != servers[0]);
        let moved = moved.filter(|(netns, backends)| after[*netns][0] != backends[0]).count();
        assert!(moved <= 1, "{moved} of {} moved", first.len());
    });
}

#[test]
fn near_backends_go_first_until_they_are_busy() {
    in_room(|room| {
        let (near, far) = (server("127.0.0.1"), server("127.0.0.1"));
        let mut wanted = backends(&[near, far]);
        wanted.backends[0].distance = Distance::Node;
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        wanted.rule = Rule::LeastConnections;
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");
        assert_eq!(spread(at(VIP), 60), BTreeMap::from([(near.port(), 60)]));

        let held: Vec<_> = (0..40).map(|_| connect(at(VIP)).expect("the VIP answers")).collect();
        let spilled = held.iter().filter(|(_, port)| *port == far.port()).count();
        assert!((4..20).contains(&spilled), "{spilled} of 40 spilled over");
        let sockets = dataplane.sockets();
        let is_spilled = |socket: &&Socket| socket.is_open && socket.reason == Reason::Spilled;
        assert_eq!(sockets.iter().filter(is_spilled).count(), spilled);
        held.into_iter().for_each(|(stream, _)| reset(stream));

        wanted.locality = Locality::Ignore;
        wanted.rule = Rule::Random;
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");
        assert_eq!(spread(at(VIP), 60).len(), 2, "all are alike");
    });
}

#[test]
fn what_is_too_much_for_the_node_goes_to_its_zone_before_it_goes_elsewhere() {
    in_room(|room| {
        let servers = [server("127.0.0.1"), server("127.0.0.1"), server("127.0.0.1")];
        let [node, zone, far] = servers;
        let placed = |servers: &[SocketAddr]| {
            let mut wanted = backends(servers);
            wanted.backends[0].distance = Distance::Node;
            wanted.backends[1].distance = Distance::Zone;
            VipWanted { rule: Rule::LeastConnections, ..wanted }
        };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &placed(&servers)).expect("room");
        let mut held = Vec::new();
        let mut hold = |connections: usize| {
            held.extend((0..connections).map(|_| connect(at(VIP)).expect("the VIP answers")));
            [node, zone, far]
                .map(|server| held.iter().filter(|(_, port)| *port == server.port()).count())
        };
        let [_, to_zone, to_far] = hold(40);
        assert!((4..20).contains(&to_zone) && to_far == 0, "{to_zone}, {to_far}");
        let [to_node, to_zone, to_far] = hold(160);
        assert!(to_node > to_zone && to_zone > to_far && to_far > 0, "{to_zone}, {to_far}");
        held.into_iter().for_each(|(stream, _)| reset(stream));

        let closed_port = at("127.0.0.1:9");
        dataplane.tune(&Tuning { pause: Duration::from_secs(60), ..Tuning::default() });
        dataplane.set_vip(tcp(VIP), &placed(&[closed_port, zone, far])).expect("room");
        eventually("it is ejected", || {
            let _ = TcpStream::connect(at(VIP)).map(reset);
            counts(&dataplane, tcp(VIP), closed_port).ejections > 0
        });
        assert_eq!(spread(at(VIP), 60), BTreeMap::from([(zone.port(), 60)]));
    });
}

#[test]
fn a_backend_that_joins_warm_ones_grows_to_its_share() {
    in_room(|room| {
        let (warm, cold) = (server("127.0.0.1"), server("127.0.0.1"));
        let wanted = |servers: &[SocketAddr]| VipWanted {
            rule: Rule::Random,
            slow_start: 3_000,
            ..backends(servers)
        };
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &wanted(&[warm])).expect("room");
        // Its sibling is warm when its own start is over, which is counted in whole seconds.
        thread::sleep(Duration::from_millis(4_100));
        dataplane.set_vip(tcp(VIP), &wanted(&[warm, cold])).expect("room");
        let age = |dataplane: &Dataplane| counts(dataplane, tcp(VIP), cold).joined_for;
        let (mut to_cold, mut all) = (0, 0);
        while age(&dataplane).expect("it joined others") < 500 {
            let (stream, port) = connect(at(VIP)).expect("the VIP answers");
            (to_cold, all) = (to_cold + u32::from(port == cold.port()), all + 1);
            reset(stream);
        }
        assert!(all >= 20 && to_cold * 4 < all, "{to_cold} of {all} while it was cold");
        eventually("it is warm", || age(&dataplane).is_none_or(|age| age > 3_000));
        let share = spread(at(VIP), 400)[&cold.port()];
        assert!((140..=260).contains(&share), "{share} of 400 once it was warm");
    });
}

#[test]
fn a_backend_that_drains_finishes_what_it_has() {
    in_room(|room| {
        let (drains, stays) = (server("127.0.0.1"), server("127.0.0.1"));
        let mut wanted = backends(&[drains]);
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");
        let held = connect(at(VIP)).expect("the VIP answers");

        wanted.backends[0].admission = Admission::Withheld;
        wanted.backends.push(BackendWanted::new(stays));
        dataplane.set_vip(tcp(VIP), &wanted).expect("room");
        assert_eq!(spread(at(VIP), 100), BTreeMap::from([(stays.port(), 100)]));
        assert_eq!(dataplane.take_leavers(), [], "it has not left");
        let counted = counts(&dataplane, tcp(VIP), drains);
        assert_eq!((counted.chosen, counted.in_flight), (1, 1));
        reset(held.0);
        let counted = counts(&dataplane, tcp(VIP), drains);
        assert_eq!((counted.closed, counted.in_flight), (1, 0));
    });
}

#[test]
fn sockets_tell_how_far_they_came_and_why() {
    in_room(|room| {
        let servers = [sink("127.0.0.1"), sink("127.0.0.1")];
        let refusing = at("127.0.0.1:9");
        let (vip, single, udp) = (tcp(VIP), tcp("11.0.0.2:80"), VipAddress::udp(at("11.0.0.3:53")));
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane
            .set_vip(vip, &VipWanted { rule: Rule::Random, ..backends(&servers) })
            .expect("room");
        dataplane.set_vip(single, &backends(&[refusing])).expect("room");
        dataplane.set_vip(udp, &backends(&servers)).expect("room");

        let stream = TcpStream::connect(vip.socket).expect("the VIP answers");
        TcpStream::connect(single.socket).expect_err("nobody listens");
        let flow = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        flow.send_to(b"?", udp.socket).expect("translated");
        let local = stream.local_addr().expect("connected");
        let of = |dataplane: &Dataplane, vip: VipAddress| {
            dataplane.sockets().into_iter().find(|socket| socket.vip == vip).expect("recorded")
        };
        let open = of(&dataplane, vip);
        assert_eq!(
            (open.stage, open.reason, open.is_open),
            (Stage::Established, Reason::Drawn, true)
        );
        assert_eq!(open.local, Some(local));
        assert!(servers.contains(&open.backend) && open.netns != 0, "{open:?}");
        assert_eq!(open.cookie, socket2::SockRef::from(&stream).cookie().expect("a number"));
        let failed = of(&dataplane, single);
        assert_eq!((failed.stage, failed.reason), (Stage::Failed, Reason::Only));
        assert!(!failed.is_open);
        let datagrams = of(&dataplane, udp);
        assert_eq!((datagrams.stage, datagrams.is_open), (Stage::Started, true));
        assert!(matches!(datagrams.reason, Reason::Tie | Reason::Cheaper), "{datagrams:?}");
        assert!(datagrams.other.is_some_and(|(other, ..)| other != datagrams.backend));

        reset(stream);
        drop(flow);
        for vip in [vip, udp] {
            let ended = of(&dataplane, vip);
            assert_eq!((ended.stage, ended.is_open), (Stage::Closed, false), "{vip}");
        }
    });
}

#[test]
fn latencies_are_counted_in_buckets() {
    in_room(|room| {
        let backend = server("127.0.0.1");
        let mut dataplane = Dataplane::open(&room.options()).expect("loadable");
        dataplane.set_vip(tcp(VIP), &backends(&[backend])).expect("room");
        let empty = &dataplane.latencies(tcp(VIP)).expect("readable maps")[&backend];
        assert_eq!(empty.0.buckets.iter().chain(&empty.1.buckets).sum::<u64>(), 0);
        spread(at(VIP), 50);
        let held = connect(at(VIP)).expect("the VIP answers");
        let (handshakes, lives) = &dataplane.latencies(tcp(VIP)).expect("readable maps")[&backend];
        assert_eq!(handshakes.buckets.iter().sum::<u64>(), 51);
        assert_eq!(lives.buckets.iter().sum::<u64>(), 50);
        assert!(handshakes.sum > 0 && lives.sum > 0);
        let counted = counts(&dataplane, tcp(VIP), backend);
        assert!(counted.connect_micros > 0 && counted.duration_micros > 0, "{counted:?}");
        drop(held);
    });
}

fn pair(socket: &Socket) -> (u64, SocketAddr) {
    (socket.cookie, socket.backend)
}

/// So many clients that connect in a loop, and wait for what the server says, until there were `connects`.
fn clients(clients: usize, connects: u64) {
    let done = AtomicU64::new(0);
    let client = || {
        while done.fetch_add(1, Ordering::Relaxed) < connects {
            reset(connect(at(VIP)).expect("the VIP answers").0);
        }
    };
    thread::scope(|scope| (0..clients).for_each(|_| drop(scope.spawn(client))));
}
