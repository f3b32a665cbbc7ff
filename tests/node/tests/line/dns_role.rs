//! The resolver alone, as a plain forwarder with records set by hand, and its HTTP.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use mizzen_tests_node::apps::{self, deploy_web};
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::http::{get, send_json};
use mizzen_tests_node::node::{Node, Place, run};
use mizzen_tests_node::{SOON, eventually, in_lab, lab};
use mizzen_tests_support::load::{Load, while_loaded};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const LIMIT: Duration = Duration::from_secs(60);

/// An upstream that knows one name and no other.
fn upstream(known: &'static str, address: Ipv4Addr) -> SocketAddr {
    let socket = UdpSocket::bind((lab::address(), 0)).unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut message = Message::from_vec(&buffer[..length]).unwrap();
            message.metadata.message_type = MessageType::Response;
            let query = message.queries[0].clone();
            match query.name().to_lowercase().to_ascii() == known {
                true if query.query_type() == RecordType::A => {
                    let record = Record::from_rdata(query.name().clone(), 60, RData::A(A(address)));
                    message.add_answer(record);
                }
                true => {}
                false => message.metadata.response_code = ResponseCode::NXDomain,
            }
            let _ = socket.send_to(&message.to_vec().unwrap(), from);
        }
    });
    at
}

#[test]
fn the_resolvers_addresses_come_back_at_once() {
    in_lab(|| {
        let node = forwarder();
        let asked = || dns::addresses(By::Udp, "www.example.com");
        let known = asked();
        assert!(!known.is_empty());
        // The look of each minute comes between two of these at most once.
        for _ in 0..2 {
            assert_eq!(node.place().shell("ip link del spartan").code, Some(0));
            eventually("they are back", SOON, || {
                let said = node.place().shell("ip -o addr show dev spartan").stdout;
                said.contains("198.51.100.1/").then_some(())
            });
            assert_eq!(asked(), known);
        }
    });
}

pub fn forwarder() -> Node {
    let at = upstream("www.example.com.", Ipv4Addr::new(203, 0, 113, 9)).to_string();
    Node::start(&["--roles", "dns", "--dns-upstreams", &at])
}

/// What a program printed, word by word.
fn words(program: &str, arguments: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let said = run(command, LIMIT);
    said.stdout.split_whitespace().map(str::to_owned).collect()
}

/// A program that resolves its argument by musl's own resolver.
fn musl_resolver() -> PathBuf {
    let (source, program) = (lab::scratch("resolve.c"), lab::scratch("resolve"));
    fs::write(
        &source,
        r#"#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
int main(int count, char **words) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
    char text[64];
    int error = getaddrinfo(words[1], 0, &hints, &found);
    if (error) return fprintf(stderr, "%s\n", gai_strerror(error)), 1;
    for (; found; found = found->ai_next)
        if (!getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST))
            puts(text);
    return 0;
}
"#,
    )
    .unwrap();
    let mut compiler = Command::new("musl-gcc");
    compiler.args(["-static", "-o"]).args([&program, &source]);
    let said = run(compiler, LIMIT);
    assert_eq!(said.code, Some(0), "musl-gcc: {}", said.stderr);
    program
}

#[test]
fn a_forwarder_with_records_set_by_hand_serves_every_resolver() {
    in_lab(|| {
        let node = forwarder();
        let musl = musl_resolver().display().to_string();
        for arguments in [
            &["set", "db.example.com", "A", "192.0.2.7", "192.0.2.8", "--ttl", "60"][..],
            &["set", "db.example.com", "AAAA", "2001:db8::7"],
            &["set", "alias.example.com", "CNAME", "db.example.com"],
            &["set", "_db._tcp.example.com", "SRV", "0 5 5432 db.example.com"],
        ] {
            let _ = node.text(&[&["dns"], arguments].concat());
        }
        let set = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<BTreeSet<_>>();
        let both = set(&["192.0.2.7", "192.0.2.8", "2001:db8::7"]);
        let outside = set(&["203.0.113.9"]);
        for (name, want) in
            [("db.example.com", &both), ("alias.example.com", &both), ("www.example.com", &outside)]
        {
            let v4: BTreeSet<String> = want.iter().filter(|a| !a.contains(':')).cloned().collect();
            let dig = words("dig", &["+short", name, "A"]);
            assert!(v4.is_subset(&dig), "dig {name}: {dig:?}");
            let glibc = words("getent", &["ahosts", name]);
            assert!(want.is_subset(&glibc), "getent {name}: {glibc:?}");
            assert_eq!(words(&musl, &[name]), *want, "musl {name}");
        }
        let service = words("dig", &["+short", "_db._tcp.example.com", "SRV"]);
        assert!(service.contains("5432") && service.contains("db.example.com."), "{service:?}");
        // Only the name itself is ours.
        for (name, code) in [("nobody.example.com", "NXDOMAIN"), ("x.db.example.com", "NXDOMAIN")] {
            let dig = words("dig", &[name]);
            assert!(dig.contains(&format!("{code},")), "{name}: {dig:?}");
        }
        let dig = words("dig", &["db.example.com", "MX"]);
        assert!(dig.contains("NOERROR,") && dig.contains("aa"), "no such type: {dig:?}");

        fs::write(RESOLV_CONF, "nameserver 198.51.100.1\nsearch nowhere.mesos example.com\n")
            .unwrap();
        for (program, arguments) in [("getent", &["ahosts", "db"][..]), (&musl, &["db"])] {
            let found = words(program, arguments);
            assert!(both.is_subset(&found), "{program} with a search list: {found:?}");
        }
    });
}

#[test]
fn what_was_set_by_hand_survives_and_can_be_taken_away() {
    in_lab(|| {
        let place = Place::new(&["--roles", "dns", "--dns-upstreams", ""]);
        let mut node = place.start();
        let at: SocketAddr = "127.0.0.1:62080".parse().unwrap();
        let path = "/v1/dns-records/db.example.com/A";
        let put = |body: &Value| send_json(at, "PUT", path, body).unwrap();
        assert_eq!(put(&json!({ "values": ["192.0.2.7"] })).status, 201);
        let again = put(&json!({ "values": ["192.0.2.7"], "ttl": 9 }));
        assert_eq!(again.status, 200);
        assert_eq!(put(&again.json()).status, 200, "an answer is a question");
        assert_eq!(get(at, "/v1/dns-records").unwrap().json(), json!([again.json()]));
        let host = again.json()["host"].as_str().unwrap().to_owned();
        assert!(node.text(&["dns", "ls"]).contains(&host), "{host}");
        let shown = node.text(&["dns", "db.example.com"]);
        assert!(shown.contains(&format!("A of db.example.com, set on {host}")), "{shown}");
        // The other one is this node's address.
        let zones = node.text(&["dns", "zones"]);
        assert!(zones.contains("* (2 names)") && !zones.contains("db.example.com"), "{zones}");
        for (path, status) in [
            ("/v1/dns-records/db.example.com/CNAME", 400),
            ("/v1/dns-records/db.example.com/SOA", 400),
            ("/v1/dns-records/web.marathon.mesos/A", 400),
            ("/v1/dns-records/a..b/A", 400),
            ("/v1/dns-records/db.example.com/A/more", 404),
        ] {
            let body = json!({ "values": ["other.example.com"] });
            assert_eq!(send_json(at, "PUT", path, &body).unwrap().status, status, "{path}");
        }
        node.kill();
        let node = place.start();
        assert_eq!(
            dns::addresses(By::Udp, "db.example.com"),
            ["192.0.2.7".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(node.text(&["dns", "rm", "db.example.com."]), "db.example.com\n");
        assert_eq!(put(&json!({ "values": ["192.0.2.7"], "ttl": 9 })).status, 201);
        let removed = node.json(&["dns", "rm", "db.example.com", "A"]);
        assert_eq!(removed, json!([again.json()]));
        let gone = node.mizzen(&["dns", "rm", "db.example.com"]);
        assert_eq!(gone.code, Some(1));
        let answer = dns::ask(By::Udp, dns::resolver(), "db.example.com", RecordType::A).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "nobody's again");
    });
}

#[test]
fn resolv_conf_is_ours_while_the_node_runs_and_nobody_is_fought() {
    in_lab(|| {
        let before = fs::read_to_string(RESOLV_CONF).unwrap();
        let at = upstream("www.example.com.", Ipv4Addr::new(203, 0, 113, 9));
        fs::write(RESOLV_CONF, format!("{before}# {at}\n")).unwrap();
        let before = fs::read_to_string(RESOLV_CONF).unwrap();
        let flags = ["--roles", "dns", "--dns-resolv-conf", "write", "--dns-search", "example.com"];
        let place = Place::new(&flags);
        let mut node = place.start();
        let ours = fs::read_to_string(RESOLV_CONF).unwrap();
        for line in
            ["nameserver 198.51.100.3", "search example.com", "options timeout:1 attempts:3"]
        {
            assert!(ours.lines().any(|found| found == line), "{ours}");
        }
        node.kill();
        let mut node = place.start();
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), ours, "still");
        assert!(node.stop().success());
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), before);

        let mut node = place.start();
        fs::write(RESOLV_CONF, "nameserver 192.0.2.1\n").unwrap();
        node.signal(rustix::process::Signal::HUP);
        eventually("the node says that it was changed", SOON, || {
            node.problems().iter().any(|problem| problem.contains(RESOLV_CONF)).then_some(())
        });
        assert!(node.stop().success());
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), "nameserver 192.0.2.1\n");
    });
}

#[test]
fn mesos_dns_and_the_dispatcher_answer_by_http() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let task = deploy_web(&node, 1).remove(0);
        dns::await_addresses("web.marathon.mesos", &task.addresses);
        let mesos = |path: &str| get("127.0.0.1:8123".parse().unwrap(), path).unwrap();
        let dispatcher = |path: &str| get("127.0.0.1:62080".parse().unwrap(), path).unwrap();
        let address = task.addresses[0].to_string();
        let host = json!([{ "host": "web.marathon.mesos.", "ip": address }]);
        assert_eq!(mesos("/v1/hosts/WEB.marathon.mesos").json(), host);
        assert_eq!(dispatcher("/v1/hosts/web.marathon.mesos").json(), host);
        assert_eq!(mesos("/v1/hosts/nobody.mesos").json(), json!([{ "host": "", "ip": "" }]));
        assert_eq!(dispatcher("/v1/hosts/nobody.mesos").json(), json!([]));

        let service = "_web._tcp.marathon.mesos";
        let row = mesos(&format!("/v1/services/{service}")).json()[0].clone();
        assert_eq!(row["service"], service);
        assert_eq!((&row["ip"], &row["port"]), (&json!(address), &json!(apps::PORT.to_string())));
        let row = dispatcher(&format!("/v1/services/{service}")).json()[0].clone();
        assert_eq!((&row["ip"], &row["port"]), (&json!(address), &json!(apps::PORT)));

        let record = json!({ "name": "web.marathon.mesos.", "host": address, "rtype": "A" });
        let all = mesos("/v1/enumerate").json();
        let framework = &all["frameworks"][0];
        assert_eq!(framework["name"], "marathon", "{all}");
        let found = framework["tasks"][0]["records"].as_array().unwrap();
        assert!(found.contains(&record), "{all}");
        let is_of_zone =
            |record: &Value| record["name"].as_str().is_some_and(|name| name.ends_with(".mesos."));
        assert!(found.iter().all(is_of_zone), "{all}");
        let records = dispatcher("/v1/records").json();
        assert!(records.as_array().unwrap().contains(&record), "{records}");
        let zone = mesos("/v1/axfr").json();
        assert_eq!(zone["Records"]["As"]["web.marathon.mesos."], json!([address]), "{zone}");
        let target = zone["Records"]["SRVs"][format!("{service}.")][0].as_str().unwrap().to_owned();
        assert!(target.ends_with(&format!(".:{}", apps::PORT)), "{target}");
        let config = mesos("/v1/config").json();
        assert_eq!(config["Domain"], "mesos");
        assert_eq!((&config["HttpPort"], &config["Port"]), (&json!(8123), &json!(53)));
        assert_eq!((&config["DnsOn"], &config["HttpOn"]), (&json!(true), &json!(true)));
        assert_eq!(mesos("/v1/hosts/web.marathon.mesos/ports").status, 501);

        // The next process answers at once with what this one knew.
        let place = node.place();
        eventually("what is known is written down", SOON, || {
            let known = fs::read_to_string(lab::state_dir().join("names.log")).ok()?;
            known.contains("web.marathon").then_some(())
        });
        node.kill();
        let node = place.spawn();
        eventually("the name is answered", SOON, || {
            let answer =
                dns::ask(By::Udp, dns::resolver(), "web.marathon.mesos", RecordType::A).ok()?;
            assert!(!answer.answers.is_empty(), "never without its addresses");
            Some(())
        });
        drop(node);
    });
}

#[test]
fn the_list_of_tasks_is_whole_while_tasks_come_and_go() {
    in_lab(|| {
        let node = Node::start(&[]);
        let tasks = deploy_web(&node, 2);
        apps::deploy(&node, &apps::command("/other", "sleep 1000"));
        let stays: BTreeSet<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
        let listing = |load: &Load| {
            let (mut lists, mut sizes) = (0, BTreeSet::new());
            while load.goes_on() || lists == 0 {
                let answer = get("127.0.0.1:8123".parse().unwrap(), "/v1/enumerate").unwrap();
                let all = answer.json();
                let [framework] = &all["frameworks"].as_array().unwrap()[..] else {
                    panic!("one framework: {all}");
                };
                let tasks = framework["tasks"].as_array().unwrap();
                let ids: Vec<&str> = tasks.iter().filter_map(|task| task["id"].as_str()).collect();
                let once: BTreeSet<&str> = ids.iter().copied().collect();
                assert_eq!(once.len(), ids.len(), "each once: {ids:?}");
                assert!(stays.is_subset(&once), "{stays:?} in {ids:?}");
                sizes.insert(ids.len());
                lists += 1;
            }
            (lists, sizes)
        };
        let (listed, ()) = while_loaded([listing], |_| {
            for count in [3, 1, 2] {
                assert_eq!(node.mizzen(&["scale", "other", &count.to_string()]).code, Some(0));
                apps::await_tasks(&node, "/other", count);
            }
        });
        let (lists, sizes) = &listed[0];
        assert!(*lists > 3 && sizes.len() > 1, "{lists} lists of {sizes:?}");
    });
}
