//! Policies that change while containers talk.

use mizzen_ebpf_core::policy::{Class, PolicyWanted, Traffic};
use mizzen_tests_support::load::{Load, while_loaded};

use crate::cluster::{FAMILIES, address, at};
use crate::stage::{CLIENT, LONG, PATHS, RULE, SERVER, SOON, Stage, connects, is_answered};
use mizzen_tests_support::greeting::ask;
use mizzen_tests_support::room::in_room;

#[test]
fn connections_outlive_the_rule_that_let_them_in() {
    in_room(|room| {
        for path in PATHS {
            let stage = &mut Stage::new(room, path);
            for family in FAMILIES {
                stage.guard(SERVER, Class::GUARDED_INGRESS | Class::GUARDED_EGRESS);
                stage.allow((CLIENT, SERVER), Traffic::All);
                stage.apply();
                let target = stage.server().namespace.server(&at(address(family, 2, 2)));
                let mut held = stage.client().namespace.connect(target).expect("a rule");
                assert!(held.echoes(&vec![1; 200_000]));
                stage.wanted.rulings.clear();
                stage.apply();
                assert!(!connects(&stage.client().namespace, target, SOON), "{path:?} {family:?}");
                assert!(held.echoes(&vec![2; 200_000]), "{path:?} {family:?}");
            }
            assert!(stage.counts(RULE).allowed > 0);
        }
    });
}

#[test]
fn a_flow_of_datagrams_ends_with_its_rule() {
    in_room(|room| {
        for path in PATHS {
            let stage = &mut Stage::new(room, path);
            stage.guard(SERVER, Class::GUARDED_INGRESS);
            stage.allow((CLIENT, SERVER), Traffic::Protocol(17));
            stage.apply();
            let target = stage.server().namespace.udp_server("9.0.2.2");
            let socket = stage.client().namespace.udp(target);
            for length in [100, 1000, 100] {
                assert_eq!(ask(&socket, length).expect("an answer").2, length);
            }
            assert_eq!(stage.counts(RULE).allowed, 1, "one flow");
            stage.wanted.rulings.clear();
            stage.apply();
            socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("one");
            assert!(ask(&socket, 100).is_err(), "{path:?}");
        }
    });
}

#[test]
fn nothing_is_refused_in_between_that_is_allowed_before_and_after() {
    in_room(|room| {
        let mut stage = Stage::new(room, crate::stage::Path::Fast);
        stage.guard(SERVER, Class::GUARDED_INGRESS);
        stage.allow((CLIENT, SERVER), Traffic::All);
        stage.apply();
        let target = stage.server().namespace.server("9.0.2.2");
        for number in CLIENT + 1..CLIENT + 9 {
            // The client matches another selector from now on, and others come and go.
            let class = Class { class: number, overlay: crate::stage::OVERLAY, flags: 0 };
            stage.class((1, 2), class);
            stage.wanted.rulings.clear();
            stage.allow((number, SERVER), Traffic::All);
            let client = stage.cluster.nodes[0].containers[0].namespace.path();
            let connecting = |load: &Load| {
                let connect = || std::net::TcpStream::connect(target).is_ok();
                let mut made = 0;
                while made < 20 || load.goes_on() {
                    let connected = mizzen_netlink::in_namespace(&client, connect);
                    assert!(connected.expect("a namespace"), "every connect succeeds");
                    made += 1;
                }
            };
            while_loaded([connecting], |_| {
                for (node, policy) in stage.cluster.nodes.iter().zip(&mut stage.policies) {
                    crate::stage::follow(node, policy, &stage.wanted);
                }
            });
        }
    });
}

#[test]
fn without_policies_nothing_is_judged() {
    in_room(|room| {
        let mut stage = Stage::new(room, crate::stage::Path::Ordinary);
        stage.guard(SERVER, Class::GUARDED_INGRESS);
        stage.apply();
        let target = stage.server().namespace.server("9.0.2.2");
        assert!(!connects(&stage.client().namespace, target, SOON));
        let datagrams = stage.server().namespace.udp_server("9.0.2.2");
        assert!(!is_answered(&stage.client().namespace, datagrams, SOON));
        stage.wanted = PolicyWanted::default();
        stage.apply();
        assert!(connects(&stage.client().namespace, target, LONG));
        assert!(is_answered(&stage.client().namespace, datagrams, LONG));
        for node in &stage.cluster.nodes {
            assert_eq!(crate::lifecycle::filters(node), 0, "programs stand nowhere");
        }
    });
}
