//! Ports of the host, against the real kernel: from outside, from the host, from the
//! container itself.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::host::{Answer, Host, PORTMAP, chained, container, ip, ip_tool};
use mizzen_tests_support::namespace::Namespace;
use mizzen_tests_support::wait::PATIENCE;
use serde_json::{Value, json};

/// A host with a neighbour outside, 192.0.2.1 and 192.0.2.2, fd02::1 and fd02::2.
struct Street {
    host: Host,
    outside: Namespace,
}

impl Street {
    fn new() -> Self {
        let (mut host, outside) = (Host::new(), Namespace::new());
        host.config["ipam"]["ranges"] = json!([[{ "subnet": "fd01:b::/80" }]]);
        host.config["ipam"]["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
        let there = outside.path();
        let pair = format!("link add wan type veth peer name wan netns {}", there.display());
        ip_tool(&host.namespace, &pair);
        for (namespace, last) in [(&host.namespace, 1), (&outside, 2)] {
            ip_tool(namespace, &format!("addr add 192.0.2.{last}/24 dev wan"));
            ip_tool(namespace, &format!("addr add fd02::{last}/64 dev wan nodad"));
            ip_tool(namespace, "link set wan up");
        }
        Self { host, outside }
    }

    /// Connects a container and publishes its ports; the answer of the last plugin.
    fn start(&self, id: &str, pod: &Namespace, mappings: &Value) -> Answer {
        let result = self.host.add(id, pod);
        let config = ports(mappings, Some(result));
        chained(&self.host, PORTMAP, "ADD", &container(id, pod), &config)
    }

    fn del(&self, id: &str, pod: &Namespace) {
        let target = container(id, pod);
        assert!(chained(&self.host, PORTMAP, "DEL", &target, &ports(&json!([]), None)).success);
        assert!(self.host.call("DEL", &target).success);
    }

    /// What nft shows of our table, without its rules.
    fn entries(&self) -> String {
        let run = || Command::new("nft").args(["list", "maps"]).output().unwrap();
        String::from_utf8(self.host.namespace.run(run).stdout).unwrap()
    }
}

fn ports(mappings: &Value, previous: Option<Value>) -> Value {
    let mut config = json!({ "type": "mizzen-portmap", "capabilities": { "portMappings": true },
                             "runtimeConfig": { "portMappings": mappings } });
    if let Some(previous) = previous {
        config["prevResult"] = previous;
    }
    config
}

/// Whom the server sees if the client reaches it; `None` if there is no answer.
fn reach(client: &Namespace, to: &str, server: &TcpListener) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let attempt = || TcpStream::connect_timeout(&to, Duration::from_secs(2));
    // The kernel puts new IPv6 addresses of links to work a moment after it agreed to them.
    let mut stream = client.run(|| attempt().or_else(|_| attempt())).ok()?;
    let (mut accepted, from) = server.accept().unwrap();
    accepted.write_all(b"mizzen").unwrap();
    drop(accepted);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "mizzen");
    Some(from.ip())
}

fn listen(namespace: &Namespace, at: &str) -> TcpListener {
    let at: SocketAddr = at.parse().unwrap();
    namespace.run(|| TcpListener::bind(at).unwrap())
}

/// Sends a datagram from `client` and returns whether `server` answered it.
fn echoes(client: &UdpSocket, to: &str, server: &UdpSocket) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"ping", to).unwrap();
    let mut buffer = [0; 16];
    let Ok((length, from)) = server.recv_from(&mut buffer) else { return false };
    server.send_to(&buffer[..length], from).unwrap();
    client.recv_from(&mut buffer).is_ok_and(|(_, from)| from == to)
}

fn socket(namespace: &Namespace, at: &str) -> UdpSocket {
    let at: SocketAddr = at.parse().unwrap();
    namespace.run(|| UdpSocket::bind(at).unwrap())
}

#[test]
fn a_port_is_reached_from_everywhere() {
    let (street, pod, neighbour) = (Street::new(), Namespace::new(), Namespace::new());
    let mapping = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    let result = street.start("c1", &pod, &mapping).result();
    assert_eq!(result["ips"][0]["address"], "9.0.5.2/25", "the answer is passed on");
    street.host.add("c2", &neighbour);
    let host = &street.host.namespace;

    let server = listen(&pod, "9.0.5.2:80");
    let seen = |client: &Namespace, to: &str| reach(client, to, &server);
    assert_eq!(seen(&street.outside, "192.0.2.1:8080"), Some(ip("192.0.2.2")));
    assert!(seen(host, "127.0.0.1:8080").is_some(), "from the host by its loopback address");
    assert!(seen(host, "192.0.2.1:8080").is_some(), "from the host by its own address");
    assert_eq!(seen(host, "9.0.5.1:8080"), Some(ip("9.0.5.1")));
    assert!(seen(&neighbour, "192.0.2.1:8080").is_some(), "from a container beside it");
    assert!(seen(&pod, "192.0.2.1:8080").is_some(), "from the container itself");
    assert!(seen(&pod, "9.0.5.1:8080").is_some());
    assert_eq!(seen(&street.outside, "192.0.2.1:8081"), None);
    assert_eq!(street.host.port_records(), BTreeSet::from(["c1".to_owned()]));
    drop(server);
    let server = listen(&pod, "[fd01:b::2]:80");
    let seen = |client: &Namespace, to: &str| reach(client, to, &server);
    assert_eq!(seen(&street.outside, "[fd02::1]:8080"), Some(ip("fd02::2")));
    assert!(seen(host, "[fd02::1]:8080").is_some());
    assert!(seen(&pod, "[fd02::1]:8080").is_some());
    drop(server);

    street.del("c1", &pod);
    let server = listen(&pod, "127.0.0.1:80");
    assert_eq!(reach(&street.outside, "192.0.2.1:8080", &server), None);
    assert!(!street.entries().contains("c1"), "{}", street.entries());
    assert_eq!(street.host.port_records(), BTreeSet::new());
}

/// `route_localnet` on the bridge must not let containers reach what the host has on its
/// loopback address.
#[test]
fn the_loopback_address_stays_private() {
    let (street, pod) = (Street::new(), Namespace::new());
    street.start("c1", &pod, &json!([{ "hostPort": 8080, "containerPort": 80 }])).result();
    let secret = listen(&street.host.namespace, "127.0.0.1:9999");
    ip_tool(&pod, "route add 127.0.0.1/32 via 9.0.5.1 table 7");
    ip_tool(&pod, "rule add pref 0 to 127.0.0.1/32 lookup 7");
    ip_tool(&pod, "rule add pref 1 lookup local");
    ip_tool(&pod, "rule del pref 0 lookup local");
    assert_eq!(reach(&pod, "127.0.0.1:9999", &secret), None);
}

#[test]
fn datagrams_go_where_the_port_leads_by_now() {
    let (street, first, second) = (Street::new(), Namespace::new(), Namespace::new());
    let mapping = json!([{ "hostPort": 5300, "containerPort": 53, "protocol": "udp" }]);
    let client = socket(&street.outside, "192.0.2.2:4000");
    // A flow of before the port was published must not stick to the host.
    let nobody = socket(&street.host.namespace, "0.0.0.0:5300");
    assert!(echoes(&client, "192.0.2.1:5300", &nobody));
    street.start("c1", &first, &mapping).result();
    let server = socket(&first, "9.0.5.2:53");
    assert!(echoes(&client, "192.0.2.1:5300", &server));
    assert!(echoes(&socket(&street.host.namespace, "127.0.0.1:0"), "127.0.0.1:5300", &server));

    street.del("c1", &first);
    street.start("c2", &second, &mapping).result();
    let server = socket(&second, "9.0.5.3:53");
    assert!(echoes(&client, "192.0.2.1:5300", &server), "the flow followed the port");
}

#[test]
fn an_address_of_the_host_may_be_chosen_and_some_are_kept_out() {
    let (street, pod) = (Street::new(), Namespace::new());
    ip_tool(&street.host.namespace, "addr add 192.0.2.7/24 dev wan");
    ip_tool(&street.host.namespace, "addr add 198.51.100.1/32 dev lo");
    let mapping = json!([{ "hostPort": 80, "containerPort": 80, "hostIP": "192.0.2.7" },
                         { "hostPort": 53, "containerPort": 80 }]);
    street.start("c1", &pod, &mapping).result();
    let server = listen(&pod, "9.0.5.2:80");
    assert!(reach(&street.outside, "192.0.2.7:80", &server).is_some());
    assert_eq!(reach(&street.outside, "192.0.2.1:80", &server), None);
    assert!(reach(&street.outside, "192.0.2.1:53", &server).is_some());
    // The resolver's own address keeps its ports.
    let resolver = listen(&street.host.namespace, "198.51.100.1:53");
    assert!(reach(&street.host.namespace, "198.51.100.1:53", &resolver).is_some());
}

#[test]
fn a_port_has_one_owner_and_a_refusal_leaves_nothing() {
    let (street, first, second) = (Street::new(), Namespace::new(), Namespace::new());
    let mapping = |port: u16| json!([{ "hostPort": port, "containerPort": 80 }]);
    street.start("c1", &first, &mapping(8080)).result();
    let both = json!([{ "hostPort": 8081, "containerPort": 80 },
                      { "hostPort": 8080, "containerPort": 80 }]);
    street.start("c2", &second, &both).refusal(101);
    assert!(!street.entries().contains("c2"), "{}", street.entries());
    assert!(!street.entries().contains("8081"), "{}", street.entries());
    assert_eq!(street.host.port_records(), BTreeSet::from(["c1".to_owned()]));

    let call = |mappings: &Value, previous: Option<Value>| {
        let target = container("c3", &second);
        chained(&street.host, PORTMAP, "ADD", &target, &ports(mappings, previous))
    };
    call(&mapping(8082), None).refusal(7);
    call(&json!([{ "hostPort": 8082 }]), Some(json!({}))).refusal(7);
    // Without ports there is nothing to do, and nothing is made.
    let other = Street::new();
    let result = other.start("c1", &Namespace::new(), &json!([])).result();
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
    assert_eq!((other.entries(), other.host.port_records()), (String::new(), BTreeSet::new()));
    assert!(other.host.call("DEL", &container("c1", &first)).success);
    other.del("c1", &first);
}

#[test]
fn check_and_gc_know_whose_a_port_is() {
    let (mut street, first, second) = (Street::new(), Namespace::new(), Namespace::new());
    street.host.config["cniVersion"] = json!("1.1.0");
    let mapping = |port: u16| json!([{ "hostPort": port, "containerPort": 80 }]);
    let kept = street.start("kept", &first, &mapping(8080)).result();
    let gone = street.start("gone", &second, &mapping(8081)).result();
    let call = |verb: &str, id: &str, config: &Value| {
        chained(&street.host, PORTMAP, verb, &container(id, &first), config)
    };
    assert!(call("STATUS", "kept", &ports(&json!([]), None)).success);
    assert!(call("CHECK", "gone", &ports(&mapping(8081), Some(gone.clone()))).success);
    call("GC", "kept", &ports(&json!([]), None)).refusal(7);
    let mut valid = ports(&json!([]), None);
    valid["cni.dev/valid-attachments"] = json!([{ "containerID": "kept", "ifname": "eth0" }]);
    assert!(call("GC", "kept", &valid).success);
    assert_eq!(street.host.port_records(), BTreeSet::from(["kept".to_owned()]));
    assert!(call("CHECK", "kept", &ports(&mapping(8080), Some(kept))).success);
    call("CHECK", "gone", &ports(&mapping(8081), Some(gone))).refusal(103);
}

#[test]
fn many_at_once_share_the_table() {
    let street = Street::new();
    let pods: Vec<Namespace> = (0..16).map(|_| Namespace::new()).collect();
    let ids: Vec<String> = (0..16).map(|at| format!("c{at}")).collect();
    let children: Vec<_> = (0..16)
        .map(|at| {
            let target = container(&ids[at], &pods[at]);
            let mapping = json!([{ "hostPort": 9000 + at, "containerPort": 80 }]);
            let mut config = ports(&mapping, Some(street.host.add(&ids[at], &pods[at])));
            for key in ["cniVersion", "name"] {
                config[key] = street.host.config[key].clone();
            }
            config["dataDir"] = json!(street.host.dir.path());
            let command = street.host.command(PORTMAP, "ADD", &target);
            street.host.start(command, config.to_string().as_bytes())
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(street.host.port_records().len(), pods.len());
    let server = listen(&pods[7], "9.0.5.9:80");
    assert!(reach(&street.outside, "192.0.2.1:9007", &server).is_some());
}
