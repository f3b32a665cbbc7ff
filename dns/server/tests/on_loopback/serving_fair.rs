//! Many clients, bad ones among them, and what is counted of it.

use crate::common::{PATIENCE, Resolver, question, task, with_edns};
use crate::fake::Fake;
use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{RData, Record, RecordType};
use mizzen_dns_core::{DnsName, Options, Zones};
use mizzen_dns_server::{Access, ForwardSettings, Road, Server, Settings, SharedZones, Transport};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

/// A socket of the client `127.0.0.<number>`.
fn client(number: u8, resolver: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, number), 0)).expect("a socket");
    socket.connect(resolver).expect("a peer");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket
}

fn ask(socket: &UdpSocket, message: &Message) -> Message {
    socket.send(&message.to_vec().expect("it is encoded")).expect("it is sent");
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).expect("a reply");
        let reply = Message::from_vec(&buffer[..length]).expect("a message");
        if reply.metadata.id == message.metadata.id {
            return reply;
        }
    }
}

/// Answers questions about names that begin with `good`, and no others.
fn only_good(asked: &Message) -> Vec<Vec<u8>> {
    let name = asked.queries[0].name();
    if !name.to_lowercase().to_ascii().starts_with("good") {
        return Vec::new();
    }
    let mut reply = asked.clone();
    reply.metadata.message_type = MessageType::Response;
    let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 7)));
    reply.add_answer(Record::from_rdata(name.clone(), 60, data));
    vec![reply.to_vec().expect("it is encoded")]
}

fn forwarding() -> (Fake, Settings) {
    let upstream = Fake::scripted(only_good, only_good);
    let forward =
        ForwardSettings { upstreams: vec![upstream.address.into()], ..ForwardSettings::default() };
    (upstream, Settings { forward, ..Settings::default() })
}

#[test]
fn a_flood_from_one_client_does_not_starve_others() {
    let (_upstream, settings) = forwarding();
    let resolver = Resolver::start(Settings { udp_limit: 64, udp_per_client: 16, ..settings });
    resolver.add(task("web.1", [9, 0, 1, 5]));
    let flood = client(2, resolver.address);
    let mut told = BTreeSet::new();
    for number in 0..200 {
        let mut message = question(&format!("bad-{number}.example.com."), RecordType::A);
        if u16::is_multiple_of(number, 2) {
            // As dig asks: no plain question.
            let mut edns = Edns::new();
            edns.options_mut().insert(EdnsOption::Unknown(10, vec![1, 2, 3, 4, 5, 6, 7, 8]));
            message.edns = Some(edns);
        }
        message.metadata.id = number;
        flood.send(&message.to_vec().expect("it is encoded")).expect("it is sent");
    }
    let other = client(3, resolver.address);
    let reply = ask(&other, &question("good.example.com.", RecordType::A));
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 1));
    let reply = ask(&other, &question("web.marathon.mesos.", RecordType::A));
    assert_eq!(reply.answers.len(), 1);
    // What was too much was told to come by TCP.
    let mut buffer = [0; 4096];
    while told.len() < 200 - 16 {
        let length = flood.recv(&mut buffer).expect("a reply");
        let reply = Message::from_vec(&buffer[..length]).expect("a message");
        if reply.metadata.truncation {
            assert_eq!((reply.queries.len(), reply.answers.len()), (1, 0));
            assert_eq!(reply.edns.is_some(), reply.metadata.id.is_multiple_of(2));
            told.insert(reply.metadata.id);
        }
    }
    assert_eq!(resolver.server.metrics().crowded_out, 200 - 16);
}

#[test]
fn strangers_are_answered_about_our_names_only() {
    let (_upstream, settings) = forwarding();
    let clients = vec!["127.0.0.2/32".parse().expect("a network")];
    let access = Access { clients, ..Access::default() };
    let resolver = Resolver::start(Settings { access, ..settings });
    resolver.add(task("web.1", [9, 0, 1, 5]));
    let (known, stranger) = (client(2, resolver.address), client(3, resolver.address));
    let good = with_edns(question("good.example.com.", RecordType::A), 1232);
    // The second time, the answer is in the cache.
    for _ in 0..2 {
        assert_eq!(ask(&known, &good).answers.len(), 1);
        let reply = ask(&stranger, &good);
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::Refused, 0));
        let edns = reply.edns.expect("an OPT record");
        let reasons: Vec<&EdnsOption> = edns.options().get_all(15.into());
        let [EdnsOption::Unknown(15, data)] = reasons.as_slice() else { panic!("{reasons:?}") };
        assert_eq!(data[..2], [0, 18], "prohibited");
    }
    let ours = question("web.marathon.mesos.", RecordType::A);
    assert_eq!(ask(&stranger, &ours).answers.len(), 1);
}

#[test]
fn replies_come_from_the_address_that_was_asked() {
    for (all, asked) in [("0.0.0.0:0", "127.0.0.77"), ("[::]:0", "::1")] {
        let zones = Arc::new(SharedZones::new(Zones::new(&Options::default())));
        let listen = vec![all.parse().expect("an address")];
        let server = Server::start(&Settings { listen, ..Settings::default() }, zones);
        let server = server.expect("it starts");
        let asked: IpAddr = asked.parse().expect("an address");
        let own = if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(own).expect("a socket");
        socket.connect((asked, server.addresses()[0].port())).expect("a peer");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        // By the short road, by the full one, and in batches.
        for kind in [RecordType::A, RecordType::TXT, RecordType::ANY] {
            for _ in 0..40 {
                let message = question("ready.spartan.", kind).to_vec().expect("it is encoded");
                socket.send(&message).expect("it is sent");
            }
            for _ in 0..40 {
                // A connected socket hears nobody but the address that it asked.
                socket.recv(&mut [0; 512]).expect("a reply");
            }
        }
    }
}

#[test]
fn both_roads_give_the_same_answer() {
    let resolver = Resolver::start(Settings::default());
    for number in 0..200_u8 {
        resolver.add(task(&format!("web.{number}"), [9, 1, 0, number]));
    }
    resolver.add(task("one.1", [9, 0, 1, 5]));
    let names = [
        "web.marathon.mesos.",
        "WEB.maraTHON.mesos.",
        "_web._tcp.marathon.mesos.",
        "_http._web._tcp.marathon.mesos.",
        "nope.marathon.mesos.",
        "marathon.mesos.",
        "mesos.",
        "ready.spartan.",
        "web.marathon.slave.mesos.",
        "web.marathon.containerip.dcos.thisdcos.directory.",
        "thisdcos.directory.",
        ".",
        "example.com.",
    ];
    let kinds = [
        RecordType::A,
        RecordType::AAAA,
        RecordType::SRV,
        RecordType::NS,
        RecordType::SOA,
        RecordType::TXT,
        RecordType::MX,
        RecordType::ANY,
        RecordType::Unknown(60_000),
    ];
    for name in names {
        for kind in kinds {
            let plain = with_edns(question(name, kind), 1232);
            let mut other = plain.clone();
            // An option that is ignored, but not by the short road.
            let padding = EdnsOption::Unknown(12, vec![0; 4]);
            other.edns.as_mut().expect("it has one").options_mut().insert(padding);
            for ask in [Resolver::udp, Resolver::tcp] {
                let (short, full) = (ask(&resolver, &plain), ask(&resolver, &other));
                assert_eq!(short.metadata, full.metadata_of(&short), "{name} {kind}");
                let whole = !short.metadata.truncation;
                let set = |records: &[Record]| -> BTreeSet<String> {
                    records.iter().map(ToString::to_string).collect()
                };
                if whole {
                    assert_eq!(set(&short.answers), set(&full.answers), "{name} {kind}");
                    assert_eq!(set(&short.authorities), set(&full.authorities), "{name} {kind}");
                }
                assert_eq!(short.edns, full.edns, "{name} {kind}");
            }
        }
    }
}

trait MetadataOf {
    fn metadata_of(&self, other: &Message) -> hickory_proto::op::Metadata;
}

impl MetadataOf for Message {
    /// The own metadata under another message's number.
    fn metadata_of(&self, other: &Message) -> hickory_proto::op::Metadata {
        let mut metadata = self.metadata;
        metadata.id = other.metadata.id;
        metadata
    }
}

#[test]
fn answers_are_counted_by_zone_type_code_and_road() {
    let threads = NonZeroUsize::MIN.saturating_add(1);
    let resolver = Resolver::start(Settings { threads, ..Settings::default() });
    resolver.add(task("web.1", [9, 0, 1, 5]));
    for _ in 0..10 {
        resolver.udp(&question("web.marathon.mesos.", RecordType::A));
        resolver.tcp(&question("nope.marathon.mesos.", RecordType::SRV));
        resolver.udp(&question("example.com.", RecordType::AAAA));
    }
    let metrics = resolver.server.metrics();
    let count = |zone: Option<&str>, kind, code| {
        metrics.queries.get(&(zone.map(str::to_owned), kind, code)).copied().unwrap_or_default()
    };
    assert_eq!(count(Some("mesos."), "A", "NOERROR"), 10);
    assert_eq!(count(Some("mesos."), "SRV", "NXDOMAIN"), 10);
    assert_eq!(count(None, "AAAA", "REFUSED"), 10);
    assert_eq!(metrics.roads[&(Transport::Udp, Road::Short)], 10);
    // How long an answer took is known only after it was sent.
    let begin = Instant::now();
    while resolver.server.metrics().durations[&Road::Short].count < 20 {
        assert!(begin.elapsed() < PATIENCE, "20 answers took the short road");
    }
    assert_eq!(metrics.queries.values().sum::<u64>(), 30);
    // While questions are logged, they take the road on which there is time to write.
    let mesos = DnsName::parse("marathon.mesos").expect("a name");
    resolver.server.query_log().set(vec![mesos]);
    resolver.udp(&question("web.marathon.mesos.", RecordType::A));
    resolver.udp(&question("ready.spartan.", RecordType::A));
    resolver.server.query_log().set(Vec::new());
    resolver.udp(&question("web.marathon.mesos.", RecordType::A));
    let roads = resolver.server.metrics().roads;
    assert_eq!(roads[&(Transport::Udp, Road::Short)], 12);
    assert_eq!(roads[&(Transport::Udp, Road::Full)], 11);
}
