//! What the overlay's programs do to single frames.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use mizzen_ebpf_loader::{ContainerWanted, FastPath, FastPathWanted, PeerWanted};
use mizzen_tests_bpf::frame::{ETHERNET, Frame, Kind, checksum};
use mizzen_tests_bpf::{Programs, Verdict};
use mizzen_tests_support::room::{Room, at, in_room};

/// The loopback device, by which packets of these tests come.
const LOOPBACK: u32 = 1;
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 7];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 8];
/// The link-layer address of the loopback device, and what frames of these tests are sent to.
const BRIDGE: [u8; 6] = [0; 6];
const INSIDE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MTU: u32 = 1400;

/// A container of ours, one of another node, and one that nobody knows, of both families.
const FAMILIES: [[&str; 3]; 2] = [
    ["9.0.1.2:4000", "9.0.2.200:80", "9.0.3.2:80"],
    ["[fd01:b:0:1::2]:4000", "[fd01:b:0:2::f]:80", "[fd01:b:0:3::2]:80"],
];

fn wanted() -> FastPathWanted {
    let peer = PeerWanted {
        tunnel: LOOPBACK,
        mtu: MTU,
        is_narrow: false,
        group: 7,
        target: THEIRS,
        source: OURS,
    };
    let container = ContainerWanted {
        link: LOOPBACK,
        tunnel: LOOPBACK,
        mtu: MTU,
        group: 7,
        target: INSIDE,
        source: BRIDGE,
        sends: true,
        receives: true,
        hooked: false,
    };
    let nets = [(at("9.0.2.0:0").ip(), 24), (at("[fd01:b:0:2::]:0").ip(), 64)];
    FastPathWanted {
        peers: nets.map(|net| (net, peer)).into(),
        containers: FAMILIES.map(|[ours, ..]| (at(ours).ip(), container)).into(),
    }
}

/// The programs over maps with these contents.
fn stage(room: &Room, wanted: &FastPathWanted) -> (FastPath, Programs) {
    let pins = room.options().pin_dir;
    let mut path = FastPath::open(&pins).expect("loadable");
    let changed = path.follow(wanted).expect("writable maps");
    assert!(changed.errors.is_empty(), "{:?}", changed.errors);
    let version = format!("overlay_v{}", mizzen_ebpf_abi::overlay::OVERLAY_ABI_VERSION);
    let programs = Programs::load_overlay(&pins.join(version));
    (path, programs)
}

fn ends(frame: &[u8]) -> (&[u8], &[u8]) {
    (&frame[..6], &frame[6..12])
}

fn kinds(v4: bool) -> Vec<Kind> {
    let ping = if v4 { Kind::Icmp(8, 0) } else { Kind::Icmp(128, 0) };
    vec![Kind::Tcp(2, 7, 9), Kind::Udp, ping]
}

#[test]
fn frames_are_readdressed_and_counted_as_by_a_router() {
    in_room(|room| {
        let (path, mut programs) = stage(room, &wanted());
        for [ours, theirs, _] in FAMILIES.map(|family| family.map(at)) {
            for kind in kinds(ours.is_ipv4()) {
                for length in [0, 1, 1000] {
                    let sent = Frame::new(ours, theirs, kind).with(&vec![5; length]);
                    let sent = without_ports(sent, kind);
                    let (verdict, bytes) = programs.leave_container(&sent.bytes());
                    assert_eq!(verdict, Verdict::Redirect, "{kind:?}");
                    assert_eq!(ends(&bytes), (&THEIRS[..], &OURS[..]));
                    let want = Frame { hops: 63, ..sent.clone() };
                    assert_eq!(Frame::read(&bytes), Some(want), "nothing else has changed");

                    let answer = Frame { source: sent.target, target: sent.source, ..sent };
                    let (verdict, bytes) = programs.leave_tunnel(&answer.bytes());
                    assert_eq!(verdict, Verdict::Redirect, "{kind:?}");
                    assert_eq!(ends(&bytes), (&INSIDE[..], &BRIDGE[..]));
                    assert_eq!(Frame::read(&bytes), Some(Frame { hops: 63, ..answer }));
                }
            }
        }
        let counts = path.counts().expect("a readable map");
        assert_eq!((counts.sent, counts.delivered, counts.left), (18, 18, 0));
    });
}

#[test]
fn what_has_no_place_on_the_fast_path_stays_as_it_is() {
    in_room(|room| {
        let (path, mut programs) = stage(room, &wanted());
        for [ours, theirs, nobody] in FAMILIES.map(|family| family.map(at)) {
            let data = |kind, length| Frame::new(ours, theirs, kind).with(&vec![1; length]);
            let header = if ours.is_ipv4() { 28 } else { 48 };
            let fits = MTU as usize - header;
            let mut strangers = vec![
                Frame::new(ours, nobody, Kind::Udp).bytes(),
                Frame::new(nobody, theirs, Kind::Udp).bytes(),
                data(Kind::Udp, fits + 1).bytes(),
                Frame { hops: 1, ..data(Kind::Udp, 1) }.bytes(),
                // To a neighbour, and not to the router.
                [&[2, 0, 0, 0, 0, 9], &data(Kind::Udp, 1).bytes()[6..]].concat(),
                [&[0xff; 6], &data(Kind::Udp, 1).bytes()[6..]].concat(),
            ];
            let mut odd = data(Kind::Udp, 1).bytes();
            // Options; a header that every router looks at.
            odd[if ours.is_ipv4() { ETHERNET } else { ETHERNET + 6 }] =
                if ours.is_ipv4() { 0x46 } else { 0 };
            strangers.push(odd);
            let mut other = data(Kind::Udp, 1).bytes();
            other[12] = 0x99;
            strangers.push(other);
            for frame in strangers {
                assert_eq!(programs.leave_container(&frame), (Verdict::Next, frame));
            }
            let (verdict, _) = programs.leave_container(&data(Kind::Udp, fits).bytes());
            assert_eq!(verdict, Verdict::Redirect, "as large as may be");

            let back = |kind, length| data(kind, length).from(theirs).to(ours);
            for frame in [
                back(Kind::Udp, 1).to(nobody).bytes(),
                back(Kind::Udp, fits + 1).bytes(),
                Frame { hops: 1, ..back(Kind::Udp, 1) }.bytes(),
                [&[2, 0, 0, 0, 0, 9], &back(Kind::Udp, 1).bytes()[6..]].concat(),
            ] {
                assert_eq!(programs.leave_tunnel(&frame), (Verdict::Next, frame));
            }
        }
        assert_eq!(path.counts().expect("a readable map").left, 8, "known, and too large or old");
    });
}

#[test]
fn connections_over_a_narrow_way_begin_on_the_ordinary_path() {
    in_room(|room| {
        let mut wanted = wanted();
        wanted.peers.values_mut().for_each(|peer| peer.is_narrow = true);
        let (_path, mut programs) = stage(room, &wanted);
        for [ours, theirs, _] in FAMILIES.map(|family| family.map(at)) {
            for (flags, want) in
                [(2, Verdict::Next), (0x12, Verdict::Next), (0x10, Verdict::Redirect)]
            {
                let frame = Frame::new(ours, theirs, Kind::Tcp(flags, 7, 9)).bytes();
                assert_eq!(programs.leave_container(&frame).0, want, "{flags:x}");
            }
        }
    });
}

#[test]
fn nobody_passes_for_an_ipv4_address() {
    in_room(|room| {
        let (_path, mut programs) = stage(room, &wanted());
        let mapped = |text: &str| match at(text) {
            SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            v6 => v6,
        };
        let [ours, theirs, _] = FAMILIES[0].map(mapped);
        let frame = Frame::new(ours, theirs, Kind::Udp).bytes();
        assert_eq!(programs.leave_container(&frame), (Verdict::Next, frame));
    });
}

#[test]
fn pieces_of_a_packet_pass() {
    in_room(|room| {
        let (_path, mut programs) = stage(room, &wanted());
        let [ours, theirs, _] = FAMILIES[0].map(at);
        let mut bytes = Frame::new(ours, theirs, Kind::Udp).with(&[1; 64]).bytes();
        // The second piece of several.
        bytes[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&[0x20, 3]);
        bytes[ETHERNET + 10..ETHERNET + 12].fill(0);
        let sum = checksum(&[&bytes[ETHERNET..ETHERNET + 20]]);
        bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
        let (verdict, out) = programs.leave_container(&bytes);
        assert_eq!(verdict, Verdict::Redirect);
        assert_eq!(checksum(&[&out[ETHERNET..ETHERNET + 20]]), 0);
        assert_eq!((out[ETHERNET + 8], &out[ETHERNET + 12..]), (63, &bytes[ETHERNET + 12..]));
    });
}

#[test]
fn the_longest_prefix_counts_and_groups_are_apart() {
    in_room(|room| {
        let mut wanted = wanted();
        let peer = wanted.peers[&(at("9.0.2.0:0").ip(), 24)];
        let near = [2, 0, 0, 0, 0, 9];
        wanted.peers.insert((at("9.0.2.64:0").ip(), 26), PeerWanted { target: near, ..peer });
        // Of another overlay.
        wanted.peers.insert((at("9.0.2.128:0").ip(), 25), PeerWanted { group: 8, ..peer });
        let (_path, mut programs) = stage(room, &wanted);
        for (theirs, want) in [
            ("9.0.2.63:1", Some(THEIRS)),
            ("9.0.2.64:1", Some(near)),
            ("9.0.2.127:1", Some(near)),
            ("9.0.2.128:1", None),
        ] {
            let frame = Frame::new(at(FAMILIES[0][0]), at(theirs), Kind::Udp).bytes();
            let (verdict, bytes) = programs.leave_container(&frame);
            let taken = (verdict == Verdict::Redirect).then(|| ends(&bytes).0.to_vec());
            assert_eq!(taken, want.map(|target| target.to_vec()), "{theirs}");
        }
    });
}

#[test]
fn nothing_takes_a_fast_path_that_is_switched_off_or_not_for_it() {
    in_room(|room| {
        let (mut path, mut programs) = stage(room, &wanted());
        let [ours, theirs, _] = FAMILIES[0].map(at);
        let frame = Frame::new(ours, theirs, Kind::Udp).bytes();
        let answer = Frame::new(theirs, ours, Kind::Udp).bytes();
        let mut verdicts = |path: &mut FastPath, wanted: &FastPathWanted| {
            path.follow(wanted).expect("writable maps");
            (programs.leave_container(&frame).0, programs.leave_tunnel(&answer).0)
        };
        let (next, redirect) = (Verdict::Next, Verdict::Redirect);
        assert_eq!(verdicts(&mut path, &wanted()), (redirect, redirect));
        assert_eq!(verdicts(&mut path, &FastPathWanted::default()), (next, next));
        for (sends, receives, want) in
            [(false, true, (next, redirect)), (true, false, (redirect, next))]
        {
            let mut wanted = wanted();
            for container in wanted.containers.values_mut() {
                (container.sends, container.receives) = (sends, receives);
            }
            assert_eq!(verdicts(&mut path, &wanted), want);
        }
    });
}

/// A packet without ports is read without any.
fn without_ports(frame: Frame, kind: Kind) -> Frame {
    let bare = |end: SocketAddr| match kind {
        Kind::Icmp(..) => SocketAddr::new(end.ip(), 0),
        _ => end,
    };
    Frame { source: bare(frame.source), target: bare(frame.target), ..frame }
}
