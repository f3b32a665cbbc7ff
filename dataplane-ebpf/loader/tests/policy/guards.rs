//! Who reaches whom.

use std::net::SocketAddr;
use std::process::Command;

use mizzen_ebpf_core::policy::{Action, Class, Traffic, Verdict, number};
use mizzen_ebpf_loader::{
    Dataplane, JUDGED_MARK, Policy, PolicyHere, PolicyPlace, SpeakerWanted, VipAddress,
    namespace_cookie,
};

use crate::cluster::{FAMILIES, Family, address, at};
use crate::stage::{
    ALL, BESIDE, CLIENT, LONG, OVERLAY, PATHS, Path, RULE, SERVER, SOON, Stage, connects, echoes,
    is_answered, port,
};
use mizzen_tests_support::dataplane::backends;
use mizzen_tests_support::greeting::ask;
use mizzen_tests_support::room::{Room, in_room};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// Guards the server on each path but for one port of this protocol, which is open to the client. In each family the
/// client reaches that one and not another, which is beside it; then `look` at more.
fn guarded(
    room: &Room,
    (protocol, flags): (u8, u32),
    also: &[Traffic],
    look: impl Fn(&mut Stage, Family, [SocketAddr; 2]),
) {
    for path in PATHS {
        let stage = &mut Stage::new(room, path);
        for family in FAMILIES {
            let (open, shut) = (serves(stage, protocol, family), serves(stage, protocol, family));
            stage.guard(SERVER, flags);
            stage.wanted.rulings.clear();
            for traffic in [port(protocol, open.port())].iter().chain(also) {
                stage.allow((CLIENT, SERVER), *traffic);
            }
            stage.apply();
            let client = &stage.client().namespace;
            let reaches = |target, patience| match protocol {
                TCP => connects(client, target, patience),
                _ => is_answered(client, target, patience),
            };
            assert!(reaches(open, LONG), "{path:?} {family:?}");
            let before = stage.counts(number::GUARD_INGRESS).refused;
            assert!(!reaches(shut, SOON), "{path:?} {family:?}");
            assert!(stage.counts(number::GUARD_INGRESS).refused > before, "{path:?} {family:?}");
            look(stage, family, [open, shut]);
        }
        assert!(stage.counts(RULE).allowed > 0, "{path:?}");
        if let Some(paths) = &stage.paths {
            let counts = crate::cluster::counts(paths);
            assert!(counts[0].sent > 0 && counts[1].delivered > 0, "the fast path was taken");
        }
    }
}

/// One more server in the guarded container.
fn serves(stage: &Stage, protocol: u8, family: Family) -> SocketAddr {
    let (server, ip) = (&stage.server().namespace, at(address(family, 2, 2)));
    if protocol == TCP { server.server(&ip) } else { server.udp_server(&ip) }
}

#[test]
fn a_guarded_container_is_reached_as_rules_say() {
    let look = |stage: &mut Stage, family, [open, shut]: [SocketAddr; 2]| {
        // Somebody else, and the same one with something else.
        assert!(!connects(&stage.beside().namespace, open, SOON), "{family:?}");
        let client = &stage.client().namespace;
        assert!(!echoes(client, address(family, 2, 2), SOON));
        // What the guarded one begins is its own affair, and answered.
        let target = client.server(&at(address(family, 1, 2)));
        assert!(connects(&stage.server().namespace, target, LONG));
        assert!(echoes(&stage.server().namespace, address(family, 1, 2), LONG));
        // Its node always reaches it.
        assert!(connects(&stage.cluster.nodes[1].host, shut, LONG), "{family:?}");
        assert!(echoes(&stage.cluster.nodes[1].host, address(family, 2, 2), LONG));
    };
    in_room(|room| guarded(room, (TCP, Class::GUARDED_INGRESS), &[], look));
}

#[test]
fn datagrams_and_their_answers_pass_as_rules_say() {
    let flags = Class::GUARDED_INGRESS | Class::GUARDED_EGRESS;
    let look = |stage: &mut Stage, family, [open, _]: [SocketAddr; 2]| {
        let client = &stage.client().namespace;
        assert!(echoes(client, address(family, 2, 2), LONG), "{family:?}");
        // In pieces, of which only the first has ports.
        assert_eq!(ask(&client.udp(open), 20_000).expect("an answer in pieces").2, 20_000);
        // The guarded one begins nothing.
        let target = client.udp_server(&at(address(family, 1, 2)));
        assert!(!is_answered(&stage.server().namespace, target, SOON));
        assert!(!echoes(&stage.server().namespace, address(family, 1, 2), SOON));
    };
    in_room(|room| guarded(room, (UDP, flags), &[Traffic::Protocol(ICMP)], look));
}

#[test]
fn what_a_guarded_container_begins_is_refused_at_its_link() {
    in_room(|room| {
        for path in PATHS {
            let stage = &mut Stage::new(room, path);
            stage.guard(CLIENT, Class::GUARDED_EGRESS);
            stage.allow((CLIENT, BESIDE), Traffic::All);
            stage.apply();
            for family in FAMILIES {
                let far = stage.server().namespace.server(&at(address(family, 2, 2)));
                let near = stage.beside().namespace.server(&at(address(family, 1, 3)));
                let client = &stage.client().namespace;
                assert!(!connects(client, far, SOON), "{path:?} {family:?}");
                assert!(connects(client, near, LONG), "{path:?} {family:?}");
                assert!(
                    !connects(client, SocketAddr::new(address(family, 1, 1), 9), SOON),
                    "its node"
                );
                let own = client.server(&at(address(family, 1, 2)));
                assert!(connects(&stage.server().namespace, own, LONG), "answers pass");
                assert!(echoes(&stage.server().namespace, address(family, 1, 2), LONG));
            }
            let refusals = stage.refusals(0);
            let first = refusals.first().expect("it is told");
            assert_eq!(first.from.ip(), address(Family::V4, 1, 2));
            assert_eq!(first.to.ip(), address(Family::V4, 2, 2));
            assert_eq!((first.from_class, first.to_class), (CLIENT, SERVER));
            assert_eq!((first.protocol, first.rule), (TCP, number::GUARD_EGRESS));
            assert_eq!((first.verdict, first.place), (Verdict::Refuse, PolicyPlace::Sender));
            assert_eq!(stage.refusals(1), [], "nothing came there");
        }
    });
}

#[test]
fn what_is_tried_out_passes_and_is_reported() {
    in_room(|room| {
        for path in PATHS {
            let stage = &mut Stage::new(room, path);
            stage.guard(SERVER, Class::AUDITED_INGRESS);
            stage.allow((CLIENT, SERVER), Traffic::All);
            stage.rule((ALL, SERVER), Traffic::All, RULE + 1, Action::Audit);
            stage.apply();
            let target = stage.server().namespace.server("9.0.2.2");
            assert!(connects(&stage.client().namespace, target, LONG));
            assert_eq!(stage.refusals(1), []);
            assert!(connects(&stage.beside().namespace, target, LONG));
            let told = stage.refusals(1);
            let told: Vec<_> = told.iter().map(|it| (it.verdict, it.rule, it.from_class)).collect();
            assert_eq!(told, [(Verdict::WouldRefuse, number::AUDIT_INGRESS, BESIDE)]);
            assert_eq!(stage.counts(number::AUDIT_INGRESS).would_refuse, 1);
            assert_eq!(stage.counts(RULE).allowed, 1);
        }
    });
}

#[test]
fn an_address_of_somebody_else_opens_no_door() {
    in_room(|room| {
        let mut stage = Stage::new(room, Path::Ordinary);
        stage.guard(BESIDE, Class::GUARDED_INGRESS);
        stage.guard(CLIENT, Class::GUARDED_EGRESS);
        stage.allow((CLIENT, BESIDE), Traffic::All);
        stage.allow((SERVER, BESIDE), Traffic::All);
        stage.apply();
        let target = stage.beside().namespace.server("9.0.1.3");
        assert!(connects(&stage.client().namespace, target, LONG));
        // The client passes for the server, which may as well.
        let client = &stage.client().namespace;
        client.address("eth0", &["9.0.2.2/32"]);
        client.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.expect("a socket");
            let own: SocketAddr = "9.0.2.2:0".parse().expect("an address");
            socket.bind(&own.into()).expect("its own by now");
            let patience = std::time::Duration::from_millis(300);
            assert!(socket.connect_timeout(&target.into(), patience).is_err());
        });
        let refusals = stage.refusals(0);
        assert_eq!(refusals.last().expect("told").rule, number::FOREIGN_ADDRESS);
    });
}

#[test]
fn overlays_are_apart_until_a_rule_opens_a_way() {
    in_room(|room| {
        let mut stage = Stage::new(room, Path::Ordinary);
        let other = Class { class: SERVER, overlay: OVERLAY + 1, flags: 0 };
        stage.class((2, 2), other);
        stage.guard(BESIDE, Class::GUARDED_EGRESS);
        // Some way is open, so programs stand everywhere; this is the floor that filter rules are otherwise.
        stage.allow((BESIDE, SERVER), Traffic::Protocol(TCP));
        stage.apply();
        for family in FAMILIES {
            let target = stage.server().namespace.server(&at(address(family, 2, 2)));
            assert!(connects(&stage.beside().namespace, target, LONG), "{family:?}");
            assert!(!connects(&stage.client().namespace, target, SOON), "{family:?}");
            let back = stage.beside().namespace.server(&at(address(family, 1, 3)));
            assert!(!connects(&stage.server().namespace, back, SOON), "one way only");
            let datagrams = stage.server().namespace.udp_server(&at(address(family, 2, 2)));
            assert!(!is_answered(&stage.beside().namespace, datagrams, SOON));
        }
        assert!(stage.counts(number::ISOLATION).refused >= 4);
        stage.allow((BESIDE, SERVER), Traffic::All);
        stage.apply();
        let datagrams = stage.server().namespace.udp_server("9.0.2.2");
        assert!(is_answered(&stage.beside().namespace, datagrams, LONG), "and answers come back");
    });
}

#[test]
fn filter_rules_that_keep_overlays_apart_are_told_what_may_pass() {
    in_room(|room| {
        let mut stage = Stage::new(room, Path::Ordinary);
        stage.class((2, 2), Class { class: SERVER, overlay: OVERLAY + 1, flags: 0 });
        for node in &stage.cluster.nodes {
            // As the rules of the node's table, but for everybody.
            let floor = format!(
                "table inet floor {{ chain forward {{ type filter hook forward priority 0; policy drop;
                 meta mark & {JUDGED_MARK} != 0 accept; }}; }}"
            );
            let status = node.host.run(|| Command::new("nft").arg(&floor).status());
            assert!(status.expect("nftables").success());
        }
        stage.allow((BESIDE, SERVER), Traffic::Protocol(TCP));
        stage.apply();
        for family in FAMILIES {
            let target = stage.server().namespace.server(&at(address(family, 2, 2)));
            let mut held = stage.beside().namespace.connect(target).expect("a way");
            assert!(held.echoes(&vec![7; 300_000]), "both ways, over both nodes");
            assert!(!connects(&stage.client().namespace, target, SOON), "{family:?}");
            // Another way stays open, and this one is closed to whoever comes later.
            stage.wanted.rulings.clear();
            stage.allow((CLIENT, SERVER), Traffic::All);
            stage.apply();
            assert!(!connects(&stage.beside().namespace, target, SOON), "{family:?}");
            assert!(held.echoes(&vec![8; 300_000]), "{family:?}");
            assert!(echoes(&stage.client().namespace, address(family, 2, 2), LONG), "{family:?}");
            stage.allow((BESIDE, SERVER), Traffic::Protocol(TCP));
            stage.wanted.rulings.retain(|matched, _| matched.from == BESIDE);
            stage.apply();
        }
    });
}

#[test]
fn a_socket_is_refused_at_once_also_by_way_of_a_vip() {
    in_room(|room| {
        let mut vips = Dataplane::open(&room.options()).expect("loadable");
        let mut stage = Stage::new(room, Path::Ordinary);
        let node = &stage.cluster.nodes[0];
        stage.policies[0] = Policy::open(&node.pin_dir, Some(&room.cgroup)).expect("loadable");
        stage.guard(SERVER, Class::GUARDED_INGRESS);
        for family in FAMILIES {
            let open = stage.server().namespace.server(&at(address(family, 2, 2)));
            let shut = stage.server().namespace.server(&at(address(family, 2, 2)));
            stage.wanted.rulings.clear();
            stage.allow((CLIENT, SERVER), port(TCP, open.port()));
            stage.apply();
            let node = &stage.cluster.nodes[0];
            let cookie = namespace_cookie(&stage.client().namespace.path()).expect("a namespace");
            let speaker = SpeakerWanted {
                v4: Some(address(Family::V4, 1, 2)),
                v6: Some(address(Family::V6, 1, 2)),
            };
            let here =
                PolicyHere { speakers: [(cookie, speaker)].into(), ..crate::stage::here(node) };
            node.host.run(|| stage.policies[0].follow(&stage.wanted, &here)).expect("writable");
            let client = &stage.client().namespace;
            let vip: SocketAddr =
                if open.is_ipv4() { "11.0.0.1:80" } else { "[fd01:c::1]:80" }.parse().expect("one");
            for (backend, is_open) in [(open, true), (shut, false)] {
                vips.set_vip(VipAddress::tcp(vip), &backends(&[backend])).expect("room");
                for target in [backend, vip] {
                    let connected = client.connect(target);
                    let error = connected.err().map(|error| error.kind());
                    let refused = std::io::ErrorKind::PermissionDenied;
                    assert_eq!(error, (!is_open).then_some(refused), "{target}");
                }
            }
            assert!(stage.refusals(0).iter().all(|told| told.place == PolicyPlace::Socket));
            // A container talks to itself as it likes.
            let own = client.server(if family == Family::V4 { "127.0.0.1" } else { "::1" });
            assert!(client.connect(own).is_ok());
        }
    });
}
