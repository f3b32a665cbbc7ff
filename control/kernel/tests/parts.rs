//! Changes of some backends leave in the kernel what a change of the whole VIP would.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use mizzen_kernel::vips::{Vips, admit_absent, refuse_absent};
use mizzen_plan::vip::{Claims, Effects, Planner};
use mizzen_tests_support::room::in_room;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::vip::{
    BackendSpec, Distance, OnRemoval, PolicyWish, Protocol, Rule, VipKey, VipPolicy, VipSpec,
};
use mizzen_types::vip_service::{VipServiceBackend, VipServiceFact};

const STEPS: u32 = 200;

#[test]
fn some_backends_change_as_all_would() {
    in_room(|room| {
        let mut vips = Vips::open(&room.options()).expect("loadable");
        let mut planner =
            Planner::new(Claims::new("11.0.0.0/8".parse().expect("a range")), "n1".into());
        let mut chance = Chance(7);
        let (mut parts, mut wholes) = (0, 0);
        for step in 0..STEPS {
            let effects = change(&mut planner, &mut chance);
            for vip in &effects.changed {
                let part = effects.backends.get(vip);
                let part = part.and_then(|touched| planner.backends(vip, touched));
                match part.map(|now| vips.change(vip, &now).expect("the kernel takes it")) {
                    Some(true) => parts += 1,
                    _ => {
                        wholes += 1;
                        match planner.spec(vip) {
                            Some(spec) => vips.set(&spec).expect("the kernel takes it"),
                            None => vips.remove(vip).expect("the kernel takes it"),
                        }
                    }
                }
            }
            let before = observe(&vips);
            let specs: BTreeMap<_, VipSpec> = planner.specs();
            assert_eq!(before.len(), specs.len(), "step {step}");
            let refused = vips.reconcile(&specs);
            assert!(refused.is_empty(), "step {step}: {refused:?}");
            assert_eq!(observe(&vips), before, "step {step}: nothing was left to do");
        }
        assert!(parts > STEPS / 2 && wholes > 0, "{parts} {wholes}");
    });
}

#[test]
fn all_that_is_refused_is_named_and_the_others_are_there() {
    in_room(|room| {
        let mut vips = Vips::open(&room.options()).expect("loadable");
        // An IPv4 VIP cannot have an IPv6 backend.
        let desired = BTreeMap::from([
            spec("11.0.0.1:80", "[fd00::1]:80"),
            spec("11.0.0.2:80", "10.0.0.1:80"),
            spec("11.0.0.3:80", "[fd00::1]:80"),
        ]);
        let refused = vips.reconcile(&desired);
        let texts: Vec<String> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        for (text, vip) in texts.iter().zip(["11.0.0.1:80/tcp", "11.0.0.3:80/tcp"]) {
            assert!(text.contains(vip), "{text}");
        }
        let present: Vec<String> = observe(&vips).into_keys().collect();
        assert_eq!(present, ["11.0.0.2:80/tcp"]);
    });
}

#[test]
fn a_vip_that_is_not_there_is_refused_and_one_that_is_there_is_not() {
    in_room(|room| {
        let networks =
            ["11.0.0.0/8".parse().expect("a network"), "fd01:c::/64".parse().expect("one")];
        lead_nowhere();
        let connect = |vip: &str| {
            let vip: SocketAddr = vip.parse().expect("an address");
            TcpStream::connect_timeout(&vip, Duration::from_millis(300))
        };
        assert_eq!(
            connect("11.0.0.9:80").expect_err("nobody is there").kind(),
            ErrorKind::TimedOut
        );

        let mut vips = Vips::open(&room.options()).expect("loadable");
        assert!(refuse_absent(&networks).expect("routes"));
        assert!(!refuse_absent(&networks).expect("routes"), "they are there");
        for vip in ["11.0.0.9:80", "[fd01:c::b00:9]:80"] {
            assert_eq!(
                connect(vip).expect_err("nobody is there").kind(),
                ErrorKind::HostUnreachable,
                "{vip}"
            );
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let backend = listener.local_addr().expect("bound");
        let specs = BTreeMap::from([spec("11.0.0.9:80", &backend.to_string())]);
        assert!(vips.reconcile(&specs).is_empty());
        connect("11.0.0.9:80").expect("it is there now");

        assert!(admit_absent(&networks).expect("routes"));
        assert!(!admit_absent(&networks).expect("routes"), "they are gone");
        assert_eq!(
            connect("11.0.0.8:80").expect_err("nobody is there").kind(),
            ErrorKind::TimedOut
        );
    });
}

/// Gives everything a way out, at the end of which nobody answers.
fn lead_nowhere() {
    for words in [
        "link add out type veth peer name far",
        "link set far up",
        "link set out up arp off",
        "address add 10.9.0.1/24 dev out",
        "address add fd09::1/64 dev out nodad",
        "route add default via 10.9.0.2",
        "route add default via fd09::2 dev out",
    ] {
        let ended = Command::new("ip").args(words.split(' ')).status();
        assert!(ended.is_ok_and(|status| status.success()), "ip {words}");
    }
}

/// A VIP with one backend.
fn spec(vip: &str, backend: &str) -> (VipKey, VipSpec) {
    let vip: SocketAddr = vip.parse().expect("an address");
    let (address, port, protocol) = (vip.ip(), vip.port(), Protocol::Tcp);
    let backend = BackendSpec {
        address: backend.parse().expect("an address"),
        weight: 1,
        withheld: None,
        distance: Distance::Far,
        task: None,
    };
    let key = VipKey { address, port, protocol };
    let policy = VipPolicy::default();
    (key, VipSpec { key, name: None, backends: vec![backend], policy })
}

/// Everything that is in the kernel, with the backends' numbers: one that stays keeps its own.
fn observe(vips: &Vips) -> BTreeMap<String, String> {
    let Vips::Ebpf(dataplane) = vips else { return BTreeMap::new() };
    let observed = dataplane.observe().expect("readable maps");
    observed.iter().map(|(vip, state)| (vip.to_string(), format!("{state:?}"))).collect()
}

/// Somebody registers a service anew, or takes it back: by name or by address, which may meet.
fn change(planner: &mut Planner, chance: &mut Chance) -> Effects {
    let service = ["web:80/tcp", "11.0.0.9:80/tcp", "db:53/udp", "[fd00::9]:80/tcp"];
    let id = service[chance.below(service.len())].parse().expect("an id");
    let owner = ["n1", "n2", "n3"][chance.below(3)].into();
    let key = Key::VipService(id);
    if chance.below(12) == 0 {
        return planner.apply(&owner, &key, None);
    }
    let mut addresses = BTreeSet::new();
    if chance.below(2) == 0 {
        // So many that single ones change in place.
        let many = (0..1_100_u16).filter(|_| chance.below(50) > 0);
        addresses.extend(many.map(|n| SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 80))));
    }
    for _ in 0..chance.below(24) {
        addresses.insert(SocketAddr::from(([10, 0, 0, chance.below(40) as u8], 80)));
        addresses
            .insert(SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, chance.below(9) as u16], 80)));
    }
    let weights = chance.below(3);
    let mut backend = |address| VipServiceBackend {
        address,
        weight: if weights == 0 { 1 } else { chance.below(4) as u16 },
    };
    let backends = addresses.into_iter().map(&mut backend).collect();
    let rule = [None, None, None, Some(Rule::Maglev), Some(Rule::Random)][chance.below(5)];
    let fact = VipServiceFact {
        backends,
        policy: PolicyWish { rule, on_removal: Some(OnRemoval::Keep), ..PolicyWish::default() },
    };
    planner.apply(&owner, &key, Some(&Fact::VipService(fact)))
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
