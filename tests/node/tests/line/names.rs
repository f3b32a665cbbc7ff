//! Names of what runs.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use mizzen_tests_node::apps::{self, WEB_VIP, deploy_web};
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{in_lab, lab};
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};

#[test]
fn names_resolve_by_udp_and_tcp() {
    in_lab(|| {
        let node = Node::start(&[]);
        let tasks = deploy_web(&node, 2);
        let mut containers: Vec<IpAddr> = tasks.iter().map(|task| task.addresses[0]).collect();
        containers.sort();
        let here = vec![lab::address()];
        let vip = vec![apps::vip_address(&node, WEB_VIP).ip()];
        let local: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap()];
        dns::await_addresses("web.marathon.mesos", &containers);
        for by in [By::Udp, By::Tcp] {
            for (name, want) in [
                ("web.marathon.mesos", &containers),
                ("WEB.Marathon.mesos.", &containers),
                ("web.marathon.slave.mesos", &here),
                ("leader.mesos", &here),
                ("slave.mesos", &here),
                ("ready.spartan", &local),
                (WEB_VIP, &vip),
            ] {
                assert_eq!(dns::addresses(by, name), *want, "{name} by {by:?}");
            }
            let services = dns::services(by, "_web._tcp.marathon.mesos");
            assert_eq!(services.len(), 2, "one for each task: {services:?}");
            for (port, target) in &services {
                assert_eq!(*port, apps::PORT);
                let found = dns::addresses(by, target);
                assert!(found.len() == 1 && containers.contains(&found[0]), "{target}: {found:?}");
            }
            for name in ["nobody.marathon.mesos", "nobody.marathon.l4lb.thisdcos.directory"] {
                assert!(dns::is_unknown(by, name), "{name} by {by:?}");
            }
        }
    });
}

#[test]
fn programs_on_the_node_resolve_as_they_always_do() {
    in_lab(|| {
        let node = Node::start(&[]);
        deploy_web(&node, 1);
        let vip = apps::vip_address(&node, WEB_VIP);
        let found: Vec<_> = (WEB_VIP, 80).to_socket_addrs().unwrap().collect();
        assert_eq!(found, [vip]);
    });
}

#[test]
fn a_name_follows_its_tasks() {
    in_lab(|| {
        let node = Node::start(&[]);
        let before = deploy_web(&node, 1).remove(0);
        dns::await_addresses("web.marathon.mesos", &before.addresses);
        assert_eq!(node.mizzen(&["scale", "web", "0"]).code, Some(0));
        dns::await_addresses("web.marathon.mesos", &[]);
        assert!(dns::is_unknown(By::Udp, "web.marathon.mesos"));
        assert_eq!(node.mizzen(&["scale", "web", "1"]).code, Some(0));
        let after = apps::await_tasks(&node, "/web", 1).remove(0);
        dns::await_addresses("web.marathon.mesos", &after.addresses);
    });
}

#[test]
fn a_name_without_addresses_of_a_family_exists_all_the_same() {
    in_lab(|| {
        let node = Node::start(&[]);
        deploy_web(&node, 1);
        for name in ["web.marathon.mesos", WEB_VIP, "leader.mesos"] {
            let answer = dns::ask(By::Udp, dns::resolver(), name, RecordType::AAAA).unwrap();
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
            assert!(answer.answers.is_empty(), "{name}");
        }
    });
}

/// Answers every question for an address with this one, until the test ends.
fn upstream(address: Ipv4Addr) -> std::net::SocketAddr {
    let socket = UdpSocket::bind((lab::address(), 0)).unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut message = Message::from_vec(&buffer[..length]).unwrap();
            message.metadata.message_type = MessageType::Response;
            let name = message.queries[0].name().clone();
            message.add_answer(Record::from_rdata(name, 60, RData::A(A(address))));
            let _ = socket.send_to(&message.to_vec().unwrap(), from);
        }
    });
    at
}

#[test]
fn names_of_others_are_asked_of_the_upstreams() {
    in_lab(|| {
        let outside = Ipv4Addr::new(203, 0, 113, 9);
        let at = upstream(outside).to_string();
        let node = Node::start(&["--dns-upstreams", &at]);
        for by in [By::Udp, By::Tcp] {
            assert_eq!(dns::addresses(by, "www.example.com"), [IpAddr::V4(outside)], "{by:?}");
            assert!(dns::is_unknown(by, "nobody.mesos"), "our own names are never asked elsewhere");
        }
        let text = node.text(&["dns", "www.example.com"]);
        assert!(text.contains("NOERROR, forwarded") && text.contains("203.0.113.9"), "{text}");
        assert!(text.contains(&format!("cache, from {at}")), "{text}");
        let _ = node.text(&["dns", "set", "db.example", "CNAME", "www.example.com"]);
        for by in [By::Udp, By::Tcp] {
            assert_eq!(dns::addresses(by, "db.example"), [IpAddr::V4(outside)], "{by:?}");
        }
        let chain = node.text(&["dns", "db.example"]);
        assert!(chain.contains("www.example.com.") && chain.contains("203.0.113.9"), "{chain}");
        let short = node.text(&["dns", "short"]);
        assert!(short.contains("asked of nobody outside"), "{short}");
        let odd = node.text(&["dns", "db.example", "TYPE65280"]);
        assert!(odd.contains("db.example. TYPE65280: NOERROR"), "{odd}");
        let unknown = node.mizzen(&["dns", "nobody.mesos"]);
        assert_eq!(unknown.code, Some(1));
        assert!(unknown.stdout.contains("NXDOMAIN, zone mesos"), "{}", unknown.stdout);
        assert!(unknown.stderr.contains("there is no such name"), "{}", unknown.stderr);
    });
}

#[test]
fn without_upstreams_other_names_are_an_error_and_not_a_silence() {
    in_lab(|| {
        let node = Node::start(&[]);
        let answer = dns::ask(By::Udp, dns::resolver(), "www.example.com", RecordType::A).unwrap();
        let code = answer.metadata.response_code;
        assert!(matches!(code, ResponseCode::ServFail | ResponseCode::Refused), "{code}");
        let said = node.mizzen(&["dns", "www.example.com", "--json"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(document["forwarded"], true);
        let shown = document["rcode"].as_str().unwrap();
        assert_eq!(shown, if code == ResponseCode::Refused { "REFUSED" } else { "SERVFAIL" });
        assert!(said.stderr.contains(shown), "{}", said.stderr);
    });
}
