//! What the programs of policies say to single frames.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr};

use mizzen_ebpf_core::policy::{Action, Class, Match, PolicyWanted, Ruling, Traffic, number};
use mizzen_ebpf_loader::{Policy, PolicyHere};
use mizzen_tests_bpf::frame::{ETHERNET, Frame, Kind};
use mizzen_tests_bpf::{Programs, Verdict};
use mizzen_tests_support::room::{Room, at, in_room};

/// The loopback device, by which packets of these tests come.
const LOOPBACK: u32 = 1;

/// A container of ours and one of another node, of both families.
const FAMILIES: [[&str; 2]; 2] =
    [["9.0.1.2:4000", "9.0.2.2:80"], ["[fd01:b:0:1::2]:4000", "[fd01:b:0:2::2]:80"]];

const OURS: u32 = 20;
const THEIRS: u32 = 30;
const RULE: u32 = 9;

const SYN: u8 = 2;
const ACK: u8 = 16;

/// Our container is guarded in what it sends, and may send datagrams to port 80 of the other.
fn wanted() -> PolicyWanted {
    let mut wanted = PolicyWanted::default();
    let whole = |text: &str| {
        let ip = at(text).ip();
        (ip, if ip.is_ipv4() { 32 } else { 128 })
    };
    for [ours, theirs] in FAMILIES {
        let guarded = Class { class: OURS, overlay: 7, flags: Class::GUARDED_EGRESS };
        wanted.classes.insert(whole(ours), guarded);
        wanted.classes.insert(whole(theirs), Class { class: THEIRS, overlay: 7, flags: 0 });
    }
    let traffic = Traffic::Ports { protocol: 17, port: 80, bits: 16 };
    let allowed = Ruling { rule: RULE, action: Action::Allow };
    wanted.rulings.insert(Match { from: OURS, to: THEIRS, traffic }, allowed);
    wanted
}

fn stage(room: &Room, wanted: &PolicyWanted) -> (Policy, Programs) {
    let pins = room.options().pin_dir;
    let mut policy = Policy::open(&pins, None).expect("loadable");
    let containers = FAMILIES.map(|[ours, _]| (at(ours).ip(), LOOPBACK)).into();
    let here = PolicyHere { containers, ..PolicyHere::default() };
    let changed = policy.follow(wanted, &here).expect("writable maps");
    assert!(changed.errors.is_empty(), "{:?}", changed.errors);
    let version = format!("policy_v{}", mizzen_ebpf_abi::policy::POLICY_ABI_VERSION);
    let programs = Programs::load_policy(&pins.join(version));
    (policy, programs)
}

fn ends([ours, theirs]: [&str; 2]) -> (SocketAddr, SocketAddr) {
    (at(ours), at(theirs))
}

#[test]
fn what_begins_is_judged_and_what_goes_on_passes() {
    in_room(|room| {
        let (policy, mut programs) = stage(room, &wanted());
        for (ours, theirs) in FAMILIES.map(ends) {
            let other = SocketAddr::new(theirs.ip(), 81);
            let (echo, reply, error) = match ours.is_ipv4() {
                true => (8, 0, 3),
                false => (128, 129, 1),
            };
            for (to, kind, want) in [
                (theirs, Kind::Udp, Verdict::Next),
                (other, Kind::Udp, Verdict::Drop),
                (theirs, Kind::Tcp(SYN, 7, 0), Verdict::Drop),
                (theirs, Kind::Tcp(SYN | ACK, 7, 9), Verdict::Next),
                (theirs, Kind::Tcp(ACK, 7, 9), Verdict::Next),
                (theirs, Kind::Tcp(4, 7, 9), Verdict::Next),
                (theirs, Kind::Icmp(echo, 0), Verdict::Drop),
                (theirs, Kind::Icmp(reply, 0), Verdict::Drop),
                (theirs, Kind::Icmp(error, 0), Verdict::Next),
            ] {
                let frame = Frame::new(ours, to, kind).with(&[1; 32]).bytes();
                assert_eq!(programs.send(&frame), want, "{to} {kind:?}");
            }
        }
        let counts = policy.meter().expect("descriptors").counts([RULE]).expect("readable");
        assert_eq!((counts[&RULE].allowed, counts[&number::GUARD_EGRESS].refused), (2, 8));
    });
}

#[test]
fn no_disguise_helps() {
    in_room(|room| {
        let (_policy, mut programs) = stage(room, &wanted());
        let (ours, theirs) = ends(FAMILIES[0]);
        let datagram = |port| {
            let to = SocketAddr::new(theirs.ip(), port);
            Frame::new(ours, to, Kind::Udp).with(&[1; 32]).bytes()
        };
        // Options of IPv4 move the ports.
        for (port, want) in [(80, Verdict::Next), (81, Verdict::Drop)] {
            let mut bytes = datagram(port);
            bytes[ETHERNET] = 0x46;
            bytes.splice(ETHERNET + 20..ETHERNET + 20, [1, 1, 1, 0]);
            assert_eq!(programs.send(&bytes), want, "{port}");
        }
        // A first piece that ends before its ports, and the pieces after it.
        let mut first = Frame::new(ours, theirs, Kind::Tcp(SYN, 7, 0)).bytes();
        first.truncate(ETHERNET + 28);
        assert_eq!(programs.send(&first), Verdict::Drop);
        let mut second = datagram(81);
        second[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&[0, 3]);
        assert_eq!(programs.send(&second), Verdict::Next);

        let (ours, theirs) = ends(FAMILIES[1]);
        let plain = Frame::new(ours, theirs, Kind::Udp).with(&[1; 32]).bytes();
        // A header for fragments shows what follows; any other is a protocol of its own, which no rule allows.
        for (kind, want) in [(44, Verdict::Next), (60, Verdict::Drop), (0, Verdict::Drop)] {
            let mut bytes = plain.clone();
            bytes[ETHERNET + 6] = kind;
            bytes.splice(ETHERNET + 40..ETHERNET + 40, [17, 0, 0, 0, 0, 0, 0, 7]);
            assert_eq!(programs.send(&bytes), want, "{kind}");
        }
        // Neighbours have to find each other.
        let ask = Frame::new(ours, theirs, Kind::Icmp(135, 0)).with(&[0; 24]).bytes();
        assert_eq!(programs.send(&ask), Verdict::Next);
        let mut unknown = plain;
        unknown[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(programs.send(&unknown), Verdict::Next, "not IP");
    });
}

#[test]
fn a_container_speaks_for_itself_alone() {
    in_room(|room| {
        let (policy, mut programs) = stage(room, &wanted());
        for (ours, theirs) in FAMILIES.map(ends) {
            let as_other = Frame::new(theirs, ours, Kind::Udp).bytes();
            assert_eq!(programs.send(&as_other), Verdict::Drop);
            // Of nobody in the overlay: it may be a router.
            let world: IpAddr = if ours.is_ipv4() { [192, 0, 2, 1].into() } else { [8; 16].into() };
            let routed = Frame::new(SocketAddr::new(world, 9), theirs, Kind::Udp).bytes();
            assert_eq!(programs.send(&routed), Verdict::Next);
        }
        let counts = policy.meter().expect("descriptors").counts([]).expect("readable");
        assert_eq!(counts[&number::FOREIGN_ADDRESS].refused, 2);
    });
}

#[test]
fn overlays_are_apart_where_tunnels_end() {
    in_room(|room| {
        let mut wanted = wanted();
        for class in wanted.classes.values_mut().filter(|class| class.class == THEIRS) {
            class.overlay = 8;
        }
        let (_policy, mut programs) = stage(room, &wanted);
        for (ours, theirs) in FAMILIES.map(ends) {
            let from_them = |kind| Frame::new(theirs, ours, kind).with(&[1; 32]).bytes();
            assert_eq!(programs.emerge(&from_them(Kind::Udp)), Verdict::Drop, "no way back");
            assert_eq!(programs.emerge(&from_them(Kind::Tcp(SYN, 7, 0))), Verdict::Drop);
            let question = Frame::new(ours, theirs, Kind::Udp).with(&[1; 32]).bytes();
            assert_eq!(programs.send(&question), Verdict::Next);
            assert_eq!(programs.emerge(&from_them(Kind::Udp)), Verdict::Next, "an answer");
        }
    });
}

#[test]
fn events_are_bounded_and_the_rest_is_counted() {
    in_room(|room| {
        let (policy, mut programs) = stage(room, &wanted());
        let (ours, theirs) = ends(FAMILIES[0]);
        let frame = Frame::new(ours, theirs, Kind::Tcp(SYN, 7, 0)).bytes();
        for _ in 0..5000 {
            assert_eq!(programs.send(&frame), Verdict::Drop);
        }
        let meter = policy.meter().expect("descriptors");
        let mut ring = policy.refusals().expect("a ring");
        let told = std::iter::from_fn(|| ring.take()).count() as u64;
        assert!(told > 0 && told < 5000, "{told}");
        assert_eq!(told + meter.untold().expect("readable"), 5000);
        let counts = |rule| meter.counts([]).expect("readable")[&rule].refused;
        assert_eq!(counts(number::GUARD_EGRESS), 5000);
        meter.reset(number::GUARD_EGRESS).expect("writable");
        assert_eq!(counts(number::GUARD_EGRESS), 0);
    });
}
