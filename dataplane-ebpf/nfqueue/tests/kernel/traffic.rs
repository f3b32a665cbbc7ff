//! Packets of clients, near and far.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};

use mizzen_nfqueue::{Admission, BackendWanted, Masquerade, Rule, Tuning};
use socket2::{Domain, Protocol, Socket, Type};

use mizzen_tests_support::greeting::{Connection, GREETING, understood};
use mizzen_tests_support::namespace::Namespace;
use mizzen_tests_support::wait::{PATIENCE, eventually};

use crate::net::{
    BACKEND, BACKEND6, CLIENT, CLIENT6, NODE, Net, at, counts_when, ip, net, options, tcp, udp,
};

const VIP: &str = "11.0.0.1:80";
const VIP6: &str = "[fd01:c::1]:80";

#[test]
fn arriving_and_local_clients_reach_all_backends_in_both_families() {
    let net = Net::new();
    for (vip, address, client, node) in
        [(VIP, BACKEND, CLIENT, NODE), (VIP6, BACKEND6, CLIENT6, "fd00:2::1")]
    {
        let backends = [net.backend.server(address), net.backend.server(address)];
        let mut vip = tcp(vip, &backends);
        // What is measured on a busy machine shall not decide this test.
        vip.policy.rule = Rule::Random;
        let engine = net.engine(std::slice::from_ref(&vip));
        let ports: BTreeSet<u16> = backends.iter().map(SocketAddr::port).collect();
        for (namespace, expected) in [(&net.client, client), (&net.node, node)] {
            let hits = namespace.spread(vip.address.socket, 40);
            assert_eq!(hits.keys().copied().collect::<BTreeSet<u16>>(), ports);
            let mut connection = namespace.connect(vip.address.socket).expect("a connection");
            assert_eq!(connection.seen.ip(), ip(expected), "the client's address is kept");
            let peer = connection.stream.peer_addr().expect("connected");
            assert_eq!(peer, vip.address.socket);
            assert!(connection.echoes(b"still"));
        }
        let chosen: u64 = engine.counters().values().map(|counts| counts.chosen).sum();
        assert_eq!(chosen, 82, "{:?}", engine.counters());
        for backend in backends {
            let whole =
                |c: &mizzen_nfqueue::Counts| c.established == c.chosen && c.closed == c.chosen;
            let counts = counts_when(&engine, &vip, backend, whole);
            assert_eq!((counts.started, counts.failed), (counts.chosen, 0));
        }
    }
}

#[test]
fn datagrams_of_a_flow_stay_together_and_answers_come_from_the_vip() {
    let net = Net::new();
    for (vip, address, sources, client) in [
        ("11.0.0.1:53", BACKEND, ["0.0.0.0", "10.1.0.2"], CLIENT),
        ("[fd01:c::1]:53", BACKEND6, ["::", "fd00:1::2"], CLIENT6),
    ] {
        let backends = [net.backend.udp_server(address), net.backend.udp_server(address)];
        let vip = udp(vip, &backends);
        let engine = net.engine(std::slice::from_ref(&vip));
        let mut seen = BTreeSet::new();
        // They stay open, or one would get the port of another, and with it its flow.
        let sockets: Vec<_> = (0..20).map(|_| net.client.udp_at(sources[1])).collect();
        for (round, socket) in sockets.iter().enumerate() {
            let mut answers = BTreeSet::new();
            for _ in 0..3 {
                answers.insert(ask(socket, vip.address.socket, b"x"));
            }
            assert_eq!(answers.len(), 1, "round {round}: {answers:?}");
            seen.extend(answers);
        }
        assert_eq!(seen.len(), 2, "both backends get flows");
        assert!(seen.iter().all(|(_, seen, _)| *seen == ip(client)), "{seen:?}");
        let local = net.node.udp_at(sources[0]);
        ask(&local, vip.address.socket, b"x");
        let chosen: u64 = engine.counters().values().map(|counts| counts.chosen).sum();
        assert_eq!(chosen, 21, "one choice for each flow, not for each datagram");
        let in_flight: u64 = engine.counters().values().map(|counts| counts.in_flight).sum();
        assert_eq!(in_flight, 21);
    }
}

#[test]
fn large_datagrams_and_long_streams_get_through_whole() {
    let net = Net::new();
    let (stream, datagrams) = (net.backend.server(BACKEND), net.backend.udp_server(BACKEND));
    let (stream, datagrams) = (tcp(VIP, &[stream]), udp("11.0.0.1:53", &[datagrams]));
    let _engine = net.engine(&[stream.clone(), datagrams.clone()]);
    for namespace in [&net.client, &net.node] {
        // What fits one packet, and what has to be cut into several.
        for length in [1472, 8000] {
            let socket = namespace.udp_at("0.0.0.0");
            let payload = vec![b'm'; length];
            for _ in 0..2 {
                let (_, _, rest) = ask(&socket, datagrams.address.socket, &payload);
                assert!(rest == payload[GREETING..], "{length} bytes");
            }
        }
        let mut connection = namespace.connect(stream.address.socket).expect("a connection");
        let payload = vec![b'm'; 300_000];
        let mut reader = connection.stream.try_clone().expect("a second descriptor");
        std::thread::scope(|scope| {
            scope.spawn(|| connection.stream.write_all(&payload).expect("it is read"));
            let mut back = vec![0; payload.len()];
            reader.read_exact(&mut back).expect("all of it");
            assert_eq!(back, payload);
        });
    }
}

#[test]
fn a_closed_port_is_told_to_the_client_by_the_vip() {
    let net = Net::new();
    for (vip, closed, domain) in [
        ("11.0.0.1:53", at("10.2.0.2:9"), Domain::IPV4),
        ("[fd01:c::1]:53", at("[fd00:2::2]:9"), Domain::IPV6),
    ] {
        let vip = udp(vip, &[closed]);
        let engine = net.engine(std::slice::from_ref(&vip));
        for namespace in [&net.client, &net.node] {
            let errors = errors(namespace, domain);
            let socket = namespace.udp_at(if domain == Domain::IPV4 { "0.0.0.0" } else { "::" });
            namespace.run(|| socket.connect(vip.address.socket).expect("a route"));
            socket.send(b"x").expect("sent");
            // The kernel finds the socket by the datagram that the error quotes.
            refused(socket.recv(&mut [0; 8]).map(drop), "the backend's port is closed");
            assert_eq!(sender_of_error(&errors, domain), vip.address.socket.ip());
        }
        assert_eq!(engine.counters()[&(vip.address, closed)].chosen, 2);
    }
}

#[test]
fn clients_learn_that_a_link_towards_the_backend_is_narrow() {
    let net = Net::new();
    net.narrow_backend_link(1400);
    for (vip, address, client) in
        [("11.0.0.1:53", BACKEND, CLIENT), ("[fd01:c::1]:53", BACKEND6, CLIENT6)]
    {
        let vip = udp(vip, &[net.backend.udp_server(address)]);
        let _engine = net.engine(std::slice::from_ref(&vip));
        let socket = net.client.udp_at(client);
        let moment = std::time::Duration::from_millis(100);
        socket.set_read_timeout(Some(moment)).expect("a time-out");
        // It fits the client's link and may not be cut on the way. Once the node has said so, the
        // client cuts what follows: but only if the error is about the VIP and not the backend.
        let payload = vec![b'm'; 1440];
        let asked = || {
            socket.send_to(&payload, vip.address.socket)?;
            socket.recv_from(&mut [0; 2_048])
        };
        asked().expect_err("the first one is too large");
        eventually("one that is answered by the VIP", || {
            asked().is_ok_and(|(length, from)| length == 1440 && from == vip.address.socket)
        });
    }
}

#[test]
fn without_backends_everything_is_refused_at_once() {
    let net = Net::new();
    let backend = net.backend.server(BACKEND);
    let withheld = BackendWanted { admission: Admission::Withheld, ..BackendWanted::new(backend) };
    let mut all_withheld = tcp("11.0.0.2:80", &[]);
    all_withheld.backends.push(withheld);
    let (empty, empty6) = (tcp(VIP, &[]), tcp(VIP6, &[]));
    let datagrams = udp("11.0.0.1:53", &[]);
    let vips = [empty.clone(), empty6.clone(), all_withheld.clone(), datagrams.clone()];
    let engine = net.engine(&vips);
    for namespace in [&net.client, &net.node] {
        for vip in [&empty, &empty6, &all_withheld] {
            refused(namespace.connect(vip.address.socket).map(drop), &vip.address.to_string());
        }
        // An address of the VIPs' network that nobody has.
        refused(namespace.connect(at("11.9.9.9:1")).map(drop), "no VIP");
        let socket = namespace.udp_at("0.0.0.0");
        socket.connect(datagrams.address.socket).expect("a route");
        socket.send(b"x").expect("sent");
        refused(socket.recv(&mut [0; 8]).map(drop), "a datagram");
    }
    assert_eq!(engine.refusals()[&empty.address], 2);
    assert_eq!(engine.refusals()[&datagrams.address], 2);
}

#[test]
fn a_backend_that_is_gone_is_not_asked_for_long() {
    let net = Net::new();
    let (lives, dead) = (net.backend.server(BACKEND), at("10.2.0.2:9"));
    let mut vip = tcp(VIP, &[lives, dead]);
    // Neither what is measured on a busy machine shall decide this test, nor how long it takes.
    vip.policy.rule = Rule::Random;
    let tuning = Tuning { pause: PATIENCE * 6, ..Tuning::default() };
    let options = mizzen_nfqueue::Options { tuning, ..options() };
    let engine = net.engine_with(&options, std::slice::from_ref(&vip)).expect("an engine");
    let mut failures = 0;
    eventually("the dead one is ejected", || {
        failures += usize::from(net.client.connect(vip.address.socket).is_err());
        engine.counters()[&(vip.address, dead)].ejected_for.is_some()
    });
    assert!((1..=8).contains(&failures), "{failures} connects met the dead one");
    for _ in 0..60 {
        net.client.connect(vip.address.socket).expect("the other one serves");
    }
    let counts = counts_when(&engine, &vip, dead, |counts| counts.failed == counts.chosen);
    assert_eq!((counts.failed as usize, counts.established), (failures, 0));
    let counters = engine.counters();
    let ejected = counters.iter().filter(|(_, counts)| counts.ejected_for.is_some());
    let ejected: Vec<SocketAddr> = ejected.map(|((_, backend), _)| *backend).collect();
    assert_eq!(ejected, [dead]);
}

#[test]
fn a_connect_that_nobody_answers_is_tried_elsewhere() {
    let net = Net::new();
    let lives = net.backend.server(BACKEND);
    // Nobody has this address, and its neighbours do not say so.
    let silent = at("10.3.0.9:80");
    net.node.route("10.3.0.0/24", BACKEND);
    net.backend.run(|| {
        mizzen_netlink::ensure_sysctl("net/ipv4/ip_forward", "0").expect("a setting");
    });
    let vip = tcp(VIP, &[lives, silent]);
    let engine = net.engine(std::slice::from_ref(&vip));
    // The client's system asks again after a second, and then the other one is asked.
    while engine.counters()[&(vip.address, silent)].chosen == 0 {
        let connection = net.client.connect(vip.address.socket).expect("a connection");
        assert_eq!(connection.backend, lives.port());
    }
    let counts = counts_when(&engine, &vip, silent, |counts| counts.failed > 0);
    assert_eq!(counts.established, 0);
}

#[test]
fn a_backend_behind_the_clients_own_link_answers_through_the_node() {
    let net = Net::new();
    // The client is its own backend, as a container is that asks for its own VIP.
    let own = net.client.server(CLIENT);
    let own_datagrams = net.client.udp_server(CLIENT);
    let (vip, datagrams) = (tcp(VIP, &[own]), udp("11.0.0.1:53", &[own_datagrams]));
    let _engine = net.engine(&[vip.clone(), datagrams.clone()]);
    let mut connection = net.client.connect(vip.address.socket).expect("it finds itself");
    assert_eq!((connection.backend, connection.seen.ip()), (own.port(), ip("10.1.0.1")));
    assert!(connection.echoes(b"still"));
    let (backend, seen, _) = ask(&net.client.udp_at(CLIENT), datagrams.address.socket, b"me");
    assert_eq!((backend, seen), (own_datagrams.port(), ip("10.1.0.1")));
}

#[test]
fn clients_whose_addresses_nobody_knows_get_the_nodes() {
    let world = Net::new();
    let backend = world.backend.server(BACKEND);
    let vip = tcp(VIP, &[backend]);
    let hidden = |except: &[&str]| {
        let except = except.iter().map(|text| net(text)).collect();
        vec![Masquerade { source: net("10.1.0.0/24"), except }]
    };
    for (except, seen) in [(&[][..], NODE), (&["10.2.0.0/16"][..], CLIENT)] {
        let options = mizzen_nfqueue::Options { masquerade: hidden(except), ..options() };
        let engine = world.engine_with(&options, std::slice::from_ref(&vip)).expect("an engine");
        let mut connection = world.client.connect(vip.address.socket).expect("a connection");
        assert_eq!(connection.seen.ip(), ip(seen));
        assert!(connection.echoes(b"still"));
        drop(engine);
    }
}

#[test]
fn backends_on_the_node_itself() {
    let net = Net::new();
    let on_loopback = net.node.server("127.0.0.1");
    let on_node = net.node.server(NODE);
    let (loopback, node) = (tcp(VIP, &[on_loopback]), tcp("11.0.0.2:80", &[on_node]));
    let engine = net.engine(&[loopback.clone(), node.clone()]);
    for (vip, backend) in [(&loopback, on_loopback), (&node, on_node)] {
        let mut connection = net.node.connect(vip.address.socket).expect("a connection");
        assert_eq!(connection.backend, backend.port());
        assert!(connection.echoes(b"still"));
        drop(connection);
        counts_when(&engine, vip, backend, |c| (c.established, c.closed) == (1, 1));
    }
    let connection = net.client.connect(node.address.socket).expect("from outside as well");
    assert_eq!((connection.backend, connection.seen.ip()), (on_node.port(), ip(CLIENT)));
}

#[test]
fn ports_that_are_used_again_at_once_find_their_way() {
    let net = Net::new();
    let backends = [net.backend.server(BACKEND), net.backend.server(BACKEND)];
    let vip = tcp(VIP, &backends);
    let engine = net.engine(std::slice::from_ref(&vip));
    net.client.run(|| {
        // So few ports that each is used many times while conntrack still remembers it.
        mizzen_netlink::ensure_sysctl("net/ipv4/ip_local_port_range", "40000 40015")
            .expect("a setting");
        mizzen_netlink::ensure_sysctl("net/ipv4/tcp_tw_reuse", "1").expect("a setting");
    });
    for n in 0..200 {
        let connection = net.client.connect(vip.address.socket);
        let connection = connection.unwrap_or_else(|error| panic!("{n}: {error}"));
        // With a reset, the client's own system forgets the port at once; conntrack does not.
        let socket = Socket::from(connection.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("TCP sockets can linger");
    }
    let established = || engine.counters().values().map(|c| c.established).sum::<u64>();
    eventually("200 established", || established() == 200);
}

#[test]
fn the_same_port_comes_to_a_backend_twice() {
    let net = Net::new();
    let backend = net.backend.server(BACKEND);
    let vips = [tcp(VIP, &[backend]), tcp("11.0.0.2:80", &[backend])];
    let engine = net.engine(&vips);
    let from = |to: SocketAddr| {
        net.client.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
            let socket = socket.expect("a socket");
            socket.set_reuse_address(true).expect("an option");
            socket.bind(&at("10.1.0.2:4321").into()).expect("a free port");
            socket.connect(&to.into()).expect("a connection");
            let mut connection = Connection::greeted(socket.into()).expect("a greeting");
            assert!(connection.echoes(b"still"));
            connection
        })
    };
    // Directly, and as two VIPs: for the backend they would be the same connection.
    let _connections = [backend, vips[0].address.socket, vips[1].address.socket].map(from);
    let counters = engine.counters();
    let failed: u64 = counters.values().map(|counts| counts.failed).sum();
    let chosen: u64 = counters.values().map(|counts| counts.chosen).sum();
    assert_eq!((chosen, failed), (2, 0));
}

#[test]
fn a_vip_outside_the_networks_is_routed_too() {
    let net = Net::new();
    let backend = net.backend.server(BACKEND);
    let vip = tcp("192.0.2.7:4321", &[backend]);
    let mut engine = net.engine(std::slice::from_ref(&vip));
    net.node.connect(vip.address.socket).expect("a connection");
    net.client.connect(vip.address.socket).expect("a connection");
    engine.remove_vip(vip.address).expect("removable");
    let error = net.node.connect(vip.address.socket).map(drop).expect_err("no route is left");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
}

/// Backend, whom it saw, and what came back behind that.
fn ask(socket: &std::net::UdpSocket, vip: SocketAddr, payload: &[u8]) -> (u16, IpAddr, Vec<u8>) {
    socket.send_to(payload, vip).expect("sent");
    let mut buffer = [0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from, vip, "answers come from the VIP");
    let (backend, seen) = understood(&buffer);
    (backend, seen.ip(), buffer[GREETING..length].to_vec())
}

/// What a namespace is told by ICMP from now on.
fn errors(namespace: &Namespace, domain: Domain) -> Socket {
    let protocol = if domain == Domain::IPV4 { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let socket = namespace.run(|| Socket::new(domain, Type::RAW, Some(protocol)));
    let socket = socket.expect("root may listen to ICMP");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket
}

/// Who says first that something is unreachable. Neighbours that look for each other say other things.
fn sender_of_error(mut errors: &Socket, domain: Domain) -> IpAddr {
    const UNREACHABLE_V4: u8 = 3;
    const UNREACHABLE_V6: u8 = 1;
    loop {
        let mut packet = [MaybeUninit::<u8>::uninit(); 512];
        let (_, from) = errors.peek_from(&mut packet).expect("an error in time");
        let mut packet = [0; 512];
        let length = errors.read(&mut packet).expect("the same once more");
        // IPv4 hands its own header over, IPv6 does not.
        let unreachable = match domain {
            Domain::IPV4 => packet[..length].get(20) == Some(&UNREACHABLE_V4),
            _ => packet[..length].first() == Some(&UNREACHABLE_V6),
        };
        if unreachable {
            return from.as_socket().expect("an address").ip();
        }
    }
}

fn refused(outcome: std::io::Result<()>, what: &str) {
    let error = outcome.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{what}");
}
