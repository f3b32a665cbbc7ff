//! Packet in, packet out: the programs by themselves, run by the kernel on bytes.

use std::net::SocketAddr;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use mizzen_ebpf_loader::{Dataplane, LinkWanted, Stage, VipAddress};

use crate::packet::{Body, Packet};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{Room, at, in_room};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The kernel goes on with it.
    Next,
    /// It is dropped.
    Drop,
    /// It leaves by a link.
    Redirect,
}

use Verdict::{Drop, Next, Redirect};

/// A way in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// Description, way, packet in, verdict, packet out, stage of the only flow afterwards.
type Row = (&'static str, Way, Packet, Verdict, Packet, Option<Stage>);

/// Addresses of one family: client, VIP, backend, VIP without backends, a router.
type Ends = [&'static str; 5];

const V4: Ends = ["10.1.0.2", "11.0.0.1", "10.2.0.2", "11.0.0.9", "10.1.0.1"];
const V6: Ends = ["fd00:1::2", "fd01:c::1", "fd00:2::2", "fd01:c::9", "fd00:1::1"];

#[test]
fn a_connection_packet_by_packet() {
    in_room(|room| {
        for ends in [V4, V6] {
            let bench = Bench::new(room, ends);
            let [client, vip, backend, ..] = ends;
            let request = |flags, hops| segment(client, 5000, vip, 80, flags).hops(hops);
            let sent = |flags, hops| segment(client, 5000, backend, 8080, flags).hops(hops);
            let answer = |flags, hops| segment(backend, 8080, client, 5000, flags).hops(hops);
            let shown = |flags, hops| segment(vip, 80, client, 5000, flags).hops(hops);
            let (started, open) = (Some(Stage::Started), Some(Stage::Established));
            let closed = Some(Stage::Closed);
            #[rustfmt::skip]
            let table: &[Row] = &[
                ("the first is routed",           Way::In,  request(SYN, 64),      Next,     sent(SYN, 64),         started),
                ("so is its copy",                Way::In,  request(SYN, 64),      Next,     sent(SYN, 64),         started),
                ("a routed answer is shown",      Way::Out, answer(SYN | ACK, 63), Next,     shown(SYN | ACK, 63),  open),
                ("an answer is passed on",        Way::In,  answer(ACK, 64),       Redirect, shown(ACK, 63),        open),
                ("and then requests are",         Way::In,  request(ACK, 64),      Redirect, sent(ACK, 63),         open),
                ("the last hop is the kernel's",  Way::In,  request(ACK, 1),       Next,     sent(ACK, 1),          open),
                ("of an answer, untranslated",    Way::In,  answer(ACK, 1),        Next,     answer(ACK, 1),        open),
                ("a SYN amid is the backend's",   Way::In,  request(SYN, 64),      Redirect, sent(SYN, 63),         open),
                ("a client that leaves",          Way::In,  request(FIN | ACK, 9), Redirect, sent(FIN | ACK, 8),    open),
                ("and its backend",               Way::In,  answer(FIN | ACK, 9),  Redirect, shown(FIN | ACK, 8),   closed),
                ("once more",                     Way::In,  answer(FIN | ACK, 9),  Redirect, shown(FIN | ACK, 8),   closed),
                ("the last packet of all",        Way::In,  request(ACK, 64),      Redirect, sent(ACK, 63),         None),
                ("is forgotten with its flow",    Way::In,  answer(ACK, 64),       Next,     answer(ACK, 64),       None),
                ("another begins",                Way::In,  request(SYN, 64),      Next,     sent(SYN, 64),         started),
                ("and is refused",                Way::In,  answer(RST | ACK, 64), Redirect, shown(RST | ACK, 63),  None),
            ];
            bench.run(table);
        }
    });
}

#[test]
fn datagrams_and_what_is_left_alone() {
    in_room(|room| {
        for ends in [V4, V6] {
            let bench = Bench::new(room, ends);
            let [client, vip, backend, ..] = ends;
            let datagram = |from: &str, from_port, to: &str, port, body| {
                Packet::new(&format!("{from} {from_port}"), &format!("{to} {port}"), body)
            };
            let body = |length| Body::Udp(vec![7; length]);
            let open = Some(Stage::Established);
            #[rustfmt::skip]
            let mut table: Vec<Row> = vec![
                ("elsewhere",        Way::In, datagram(client, 1, backend, 53, body(9)),  Next,     datagram(client, 1, backend, 53, body(9)), None),
                ("another port",     Way::In, datagram(client, 1, vip, 54, body(9)),      Next,     datagram(client, 1, vip, 54, body(9)),     None),
                ("out of the node",  Way::Out, datagram(client, 1, vip, 53, body(9)),     Next,     datagram(client, 1, vip, 53, body(9)),     None),
                ("an empty one",     Way::In, datagram(client, 1, vip, 53, body(0)),      Next,     datagram(client, 1, backend, 5353, body(0)), open),
                ("its answer",       Way::In, datagram(backend, 5353, client, 1, body(5)), Redirect, datagram(vip, 53, client, 1, body(5)).hops(63), open),
                ("another question", Way::In, datagram(client, 1, vip, 53, body(1400)),   Redirect, datagram(client, 1, backend, 5353, body(1400)).hops(63), open),
            ];
            if ends == V4 {
                let plain = || Body::UdpUnchecked(vec![1; 30]);
                table.push((
                    "without a checksum",
                    Way::In,
                    datagram(client, 1, vip, 53, plain()),
                    Redirect,
                    datagram(client, 1, backend, 5353, plain()).hops(63),
                    open,
                ));
            }
            bench.run(&table);
            for (what, damage) in DAMAGES {
                let mut bytes = segment(client, 7, vip, 80, SYN).bytes();
                damage(&mut bytes);
                let (verdict, out) = bench.run_one(Way::In, &bytes);
                assert_eq!((verdict, &out), (Next, &bytes), "{what} is left alone");
            }
        }
    });
}

/// What is done to a frame, in words and bytes.
type Damage = (&'static str, fn(&mut [u8]));

/// What a packet may have that makes it none of ours.
const DAMAGES: [Damage; 4] = [
    ("a frame for somebody else", |bytes| bytes[5] = 9),
    ("a frame for all", |bytes| bytes[..6].fill(0xff)),
    ("another protocol", |bytes| {
        let place = if bytes[14] == 0x45 { 23 } else { 20 };
        bytes[place] = 132;
    }),
    ("a fragment", |bytes| match bytes[14] {
        0x45 => bytes[20] = 0x20,
        _ => bytes[20] = 44,
    }),
];

#[test]
fn what_nobody_takes_is_answered() {
    in_room(|room| {
        for ends in [V4, V6] {
            let bench = Bench::new(room, ends);
            let [client, vip, _, empty, _] = ends;
            let refused = |flags: u8| {
                let sequence = if flags & ACK == 0 { 0 } else { 2_000_000 };
                let acknowledged = if flags & ACK == 0 { 1_000_001 + 3 } else { 0 };
                let flags = if flags & ACK == 0 { RST | ACK } else { RST };
                (flags, sequence, acknowledged)
            };
            for (target, flags, port) in [(empty, SYN, 80), (vip, ACK, 80), (vip, SYN | ACK, 80)] {
                let asked = segment(client, 5000, target, port, flags).bytes();
                let (verdict, out) = bench.run_one(Way::In, &asked);
                let (flags, sequence, acknowledged) = refused(flags);
                // The window is what makes the checksum right, whoever finishes it.
                let at = if ends == V4 { 48 } else { 68 };
                let window = u16::from_be_bytes([out[at], out[at + 1]]);
                let body = Body::Tcp(flags, sequence, acknowledged, window, Vec::new());
                let source = format!("{target} {port}");
                let want = Packet::new(&source, &format!("{client} 5000"), body).bytes();
                assert_eq!((verdict, out), (Redirect, want), "{target} {flags}");
            }
            let reset = segment(client, 5000, vip, 80, RST).bytes();
            assert_eq!(bench.run_one(Way::In, &reset).0, Drop, "a reset is not answered");

            let body = Body::Udp(vec![5; 200]);
            let asked = Packet::new(&format!("{client} 9"), &format!("{empty} 53"), body);
            let (verdict, out) = bench.run_one(Way::In, &asked.bytes());
            let (kind, at, quoted) = if ends == V4 { ([3, 3], 38, 28) } else { ([1, 4], 58, 48) };
            let word = u32::from_be_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
            let body = Body::Icmp(kind, word, asked.ip()[..quoted].to_vec());
            let want = Packet::new(&format!("{empty} 0"), &format!("{client} 0"), body);
            assert_eq!((verdict, out), (Redirect, want.bytes()));
        }
    });
}

#[test]
fn errors_are_about_what_their_reader_sent() {
    in_room(|room| {
        for ends in [V4, V6] {
            let bench = Bench::new(room, ends);
            let [client, vip, backend, _, router] = ends;
            for (way, packet) in [
                (Way::In, segment(client, 5000, vip, 80, SYN)),
                (Way::In, segment(backend, 8080, client, 5000, SYN | ACK)),
            ] {
                bench.run_one(way, &packet.bytes());
            }
            let (kind, quoted) = if ends == V4 { ([3, 4], 28) } else { ([2, 0], 60) };
            let error = |from: &str, to: &str, about: Packet| {
                let body = Body::Icmp(kind, 1280, about.ip()[..quoted].to_vec());
                Packet::new(&format!("{from} 0"), &format!("{to} 0"), body)
            };
            // A quotation is only changed where its reader looks: the transport's own checksum stays.
            let quoted_as = |was: Packet, becomes: Packet| {
                let (was, mut becomes) = (was.ip(), becomes.ip());
                let from = if ends == V4 { 20 } else { 40 } + 4;
                becomes[from..].copy_from_slice(&was[from..]);
                becomes[..quoted].to_vec()
            };
            let sent = || segment(client, 5000, backend, 8080, ACK).hops(61);
            let asked = || segment(client, 5000, vip, 80, ACK).hops(61);
            let answered = || segment(backend, 8080, client, 5000, ACK).hops(61);
            let shown = || segment(vip, 80, client, 5000, ACK).hops(61);
            let table = [
                ("about a request", sent(), asked(), (router, router), (client, client)),
                ("from the backend", sent(), asked(), (backend, vip), (client, client)),
                ("about an answer", shown(), answered(), (router, router), (vip, backend)),
            ];
            for (what, about, becomes, (from, shown_from), (to, goes_to)) in table {
                let error = error(from, to, about.clone());
                let body = Body::Icmp(kind, 1280, quoted_as(about, becomes));
                let want = Packet::new(&format!("{shown_from} 0"), &format!("{goes_to} 0"), body);
                let (verdict, out) = bench.run_one(Way::In, &error.bytes());
                assert_eq!((verdict, out), (Redirect, want.clone().hops(63).bytes()), "{what}");
                let (verdict, out) = bench.run_one(Way::Out, &error.bytes());
                assert_eq!((verdict, out), (Next, want.bytes()), "{what}, on its way out");
            }
        }
    });
}

fn segment(source: &str, source_port: u16, target: &str, target_port: u16, flags: u8) -> Packet {
    let (source, target) = (format!("{source} {source_port}"), format!("{target} {target_port}"));
    Packet::new(&source, &target, Body::Tcp(flags, 1_000_000, 2_000_000, 512, vec![1, 2, 3]))
}

/// The programs, loaded beside the maps of a dataplane with one VIP that has a backend and one that has none.
struct Bench {
    object: Ebpf,
    dataplane: Dataplane,
}

impl Bench {
    fn new(room: &Room, [_, vip, backend, empty, _]: Ends) -> Self {
        let options = room.options();
        mizzen_ebpf_loader::teardown(&options).expect("removable");
        let mut dataplane = Dataplane::open(&options).expect("loadable");
        let socket = |ip: &str, port: u16| SocketAddr::new(ip.parse().expect("an address"), port);
        for (ip, to) in [(vip, Some(backend)), (empty, None)] {
            let to = |port| to.map(|to| socket(to, port)).into_iter().collect::<Vec<_>>();
            let stream = tcp(&socket(ip, 80).to_string());
            dataplane.set_vip(stream, &backends(&to(8080))).expect("room");
            let datagram = VipAddress::udp(at(&socket(ip, 53).to_string()));
            dataplane.set_vip(datagram, &backends(&to(5353))).expect("room");
        }
        // The kernel runs programs as if the packet had come by the loopback.
        let loopback = LinkWanted {
            index: 1,
            name: "lo".to_owned(),
            is_tunnel: false,
            bridge: None,
            mtu: 1500,
            networks: Vec::new(),
        };
        let followed = dataplane.follow_links(&[loopback]).expect("loadable");
        assert!(followed.errors.is_empty(), "{:?}", followed.errors);

        let pins = options.pin_dir.join(format!("v{}", mizzen_ebpf_abi::ABI_VERSION));
        let names: Vec<String> = pins
            .read_dir()
            .expect("a directory")
            .flatten()
            .filter_map(|pin| Some(pin.file_name().to_str()?.strip_prefix("map_")?.to_owned()))
            .collect();
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for map in &names {
            loader.map_pin_path(map, pins.join(format!("map_{map}")));
        }
        let mut object = loader
            .load(aya::include_bytes_aligned!("../../../prebuilt/mizzen.bpf.o"))
            .expect("the object that the loader has");
        for way in [Way::In, Way::Out] {
            program(&mut object, way).load().expect("what the loader takes as well");
        }
        Self { object, dataplane }
    }

    fn run(&self, table: &[Row]) {
        for (what, way, packet, verdict, want, stage) in table {
            let (found, out) = self.run_one(*way, &packet.bytes());
            assert_eq!((found, out), (*verdict, want.bytes()), "{what}");
            let flows = self.dataplane.arriving_flows().expect("readable maps");
            assert_eq!(flows.first().map(|flow| flow.stage), *stage, "{what}");
            assert!(flows.len() <= 1, "{what}: {flows:?}");
        }
    }

    fn run_one(&self, way: Way, bytes: &[u8]) -> (Verdict, Vec<u8>) {
        let mut out = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let program: &SchedClassifier = self
            .object
            .program(name(way))
            .and_then(|program| program.try_into().ok())
            .expect("a program of this kind");
        let result = program.test_run(options).expect("the kernel runs it");
        out.truncate(result.data_size_out as usize);
        let verdict = match result.return_value {
            u32::MAX => Next,
            2 => Drop,
            7 => Redirect,
            other => panic!("verdict {other}"),
        };
        (verdict, out)
    }
}

fn name(way: Way) -> &'static str {
    match way {
        Way::In => "mizzen_ingress",
        Way::Out => "mizzen_egress",
    }
}

fn program(object: &mut Ebpf, way: Way) -> &mut SchedClassifier {
    let program = object.program_mut(name(way)).expect("a program");
    program.try_into().expect("a program of this kind")
}
