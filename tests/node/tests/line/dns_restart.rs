//! What clients notice of the resolver's restarts and reloads: nothing, if they ask twice.

use crate::dns_role;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::http::get;
use mizzen_tests_node::manager::Manager;
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, in_lab, lab};
use mizzen_tests_support::load::{Load, while_loaded};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// What became of a client's questions.
#[derive(Debug, Default)]
struct Answered {
    count: u32,
    /// How many were answered only when they were asked again.
    again: u32,
    lost: Vec<String>,
}

impl Answered {
    fn and(mut self, other: Self) -> Self {
        self.lost.extend(other.lost);
        let (count, again) = (self.count + other.count, self.again.max(other.again));
        Self { count, again, ..self }
    }
}

/// Asks all the time, each question once, and once more if no answer comes: stub resolvers
/// do so.
fn ask_on(load: &Load, name: &str, after: Duration) -> Answered {
    let mut sum = Answered::default();
    while load.goes_on() {
        match dns::ask_twice(dns::resolver(), name, after) {
            Ok((answer, again)) if answer.answers.len() == 1 => {
                (sum.count, sum.again) = (sum.count + 1, sum.again + again);
            }
            Ok((answer, _)) => sum.lost.push(format!("{:?}", answer.metadata)),
            Err(error) => sum.lost.push(error.to_string()),
        }
    }
    sum
}

/// What all clients saw together; asked again is what one of them had to do most often.
fn all(clients: Vec<Answered>) -> Answered {
    clients.into_iter().fold(Answered::default(), Answered::and)
}

/// A resolver that knows one name, which it will know at once when it starts again.
fn knowing(start: impl FnOnce() -> Node) -> Node {
    let node = start();
    let _ = node.text(&["dns", "set", "db.example.com", "A", "192.0.2.7"]);
    let known = || fs::read_to_string(lab::state_dir().join("names.log")).unwrap_or_default();
    eventually("what is known is written down", SOON, || {
        known().contains("db.example.com").then_some(())
    });
    node
}

/// Starts of the daemon while clients ask.
const RESTARTS: u32 = 4;
/// Clients that ask while no daemon runs.
const WAITING: usize = 64;

/// Kills and stops the daemon in turns, while clients ask and ask again once. What is asked
/// while there is no daemon waits and need not be asked again, so a client may lose what the
/// daemon had in its hands when it was killed, and nothing else: one question a restart.
fn restart_unnoticed(mut node: Node, start: impl Fn() -> Node) -> Node {
    let asking = |load: &Load| ask_on(load, "db.example.com", Duration::from_secs(2));
    let (clients, ()) = while_loaded([asking; 4], |_| {
        for round in 0..RESTARTS {
            match round % 2 {
                0 => node.kill(),
                _ => assert!(node.stop().success()),
            }
            let ask = |_| dns::Waiting::ask(dns::resolver(), "db.example.com", RecordType::A);
            let waiting: Vec<_> = (0..WAITING).map(|n| ask(n).unwrap()).collect();
            node = start();
            for question in waiting {
                let answer = question.answer().expect("a question that waited in the socket");
                assert_eq!(dns::addresses_of(&answer).len(), 1);
            }
        }
    });
    let seen = all(clients);
    assert!(seen.lost.is_empty(), "{:?}", seen.lost);
    assert!(seen.count > 100, "{}", seen.count);
    assert!(seen.again <= RESTARTS, "a client had to ask again {} times", seen.again);
    node
}

fn holder() -> PathBuf {
    PathBuf::from(lab::variable("MIZZEN_RUN_DIR")).join("dns.sock")
}

#[test]
fn a_client_that_asks_twice_does_not_notice_a_restart() {
    in_lab(|| {
        let place = Place::new(&["--roles", "dns", "--dns-upstreams", ""]);
        let node = knowing(|| place.start());
        eventually("somebody holds the sockets", SOON, || holder().exists().then_some(()));
        drop(restart_unnoticed(node, || place.start()));
        let gone = place.run(&["--teardown"]);
        assert_eq!(gone.code, Some(0), "{gone:?}");
        assert!(!holder().exists(), "nobody holds anything any more");
    });
}

#[test]
fn a_service_manager_keeps_the_sockets_over_restarts() {
    in_lab(|| {
        let manager = Manager::start();
        let place = Place::new(&["--roles", "dns", "--dns-upstreams", ""]);
        let node = knowing(|| manager.run(&place));
        let kept = manager.kept();
        assert!(kept["mizzen-dns"] >= 2 && kept.len() == 1, "{kept:?}");
        let node = restart_unnoticed(node, || manager.run(&place));
        assert_eq!(manager.kept(), kept, "each start takes the place of the one before");
        assert!(!holder().exists(), "nobody else has held them");
        drop(node);
        let _without = manager.run(&Place::new(&["--roles", "master"]));
        eventually("nothing is kept for a role that is gone", SOON, || {
            manager.kept().is_empty().then_some(())
        });
    });
}

/// Starts one daemon after the other, each with listeners that are in the way of the next.
fn restart_elsewhere(start: impl Fn(&Place) -> Node, is_kept: impl Fn() -> bool) {
    let place = |flags: &[&str]| {
        Place::new(&[&["--roles", "dns", "--dns-upstreams", ""][..], flags].concat())
    };
    let usual = (place(&[]), dns::RESOLVER);
    let wide = place(&["--dns-addresses", "", "--dns-listen", "0.0.0.0:53"]);
    let everywhere = (wide, "127.0.0.1:53");
    for (place, at) in [&usual, &everywhere, &usual] {
        let mut node = start(place);
        let at = at.parse().unwrap();
        let answer = dns::ask(By::Udp, at, "ready.spartan", RecordType::A).unwrap();
        assert_eq!(dns::addresses_of(&answer), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        eventually("the sockets are kept", SOON, || is_kept().then_some(()));
        node.kill();
    }
}

#[test]
fn sockets_that_are_held_are_in_nobody_s_way() {
    in_lab(|| {
        restart_elsewhere(Place::start, || holder().exists());
        let manager = Manager::start();
        restart_elsewhere(|place| manager.run(place), || !manager.kept().is_empty());
    });
}

/// Writes what a node remembers of others that run so many tasks.
fn remember_tasks(tasks: u32) {
    let mut lines = vec![json!({ "format": 2 })];
    lines.extend((0..tasks).map(|task| {
        let id = format!("app-{task}.1");
        let fact = json!({
            "task_id": id, "framework_id": "f", "framework_name": "marathon",
            "agent_id": "a-S1", "container_id": format!("c-{task}"), "name": format!("app-{task}"),
            "discovery_name": null, "phase": "running", "health": "unchecked",
            "host_address": Ipv4Addr::from(0x0a00_0000 + task), "container_addresses": [],
            "host_ports": [2000 + task % 1000], "ports": [], "labels": {}, "launched": 0,
        });
        json!({ "fact": ["n7", { "task": ["f", id] }, { "task": fact }] })
    }));
    lines.push(json!({ "at": 1 }));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::create_dir_all(lab::state_dir()).unwrap();
    fs::write(lab::state_dir().join("names.log"), text).unwrap();
}

/// All records, as the dispatcher lists them.
fn all_records() -> BTreeSet<String> {
    let text = get("127.0.0.1:62080".parse().unwrap(), "/v1/records").unwrap().text();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    rows.iter().map(ToString::to_string).collect()
}

#[test]
fn what_was_known_is_answered_while_it_is_read() {
    in_lab(|| {
        remember_tasks(5_000);
        let place = Place::new(&["--roles", "dns", "--dns-upstreams", ""]);
        let mut node = place.start();
        let before = all_records();
        assert!(before.len() > 40_000, "{}", before.len());
        let index = lab::state_dir().join("names.index");
        eventually("where names are is written down", SOON, || index.exists().then_some(()));
        node.kill();

        let node = place.start();
        let answer = |name: &str, kind| dns::ask(By::Udp, dns::resolver(), name, kind).unwrap();
        assert_eq!(
            dns::addresses(By::Udp, "app-77.marathon.mesos"),
            [IpAddr::from(Ipv4Addr::from(0x0a00_004d))]
        );
        let service = answer("_app-4999._tcp.marathon.mesos", RecordType::SRV);
        assert_eq!((service.answers.len(), service.additionals.len()), (1, 1), "{service:?}");
        let absent = answer("app-5000.marathon.mesos", RecordType::A);
        assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
        let above = answer("_tcp.marathon.mesos", RecordType::A);
        assert_eq!(above.metadata.response_code, ResponseCode::NoError, "others are below it");
        assert_eq!(all_records(), before, "who lists names waits for all");
        let told = node.text(&["dns", "app-1.marathon.mesos"]);
        assert!(told.contains("unconfirmed"), "{told}");
    });
}

/// The value of a series.
fn counted(series: &str) -> Option<u64> {
    let text = get("127.0.0.1:62080".parse().unwrap(), "/v1/metrics").unwrap().text();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
    value.map(|value| value as u64)
}

#[test]
fn a_reload_loses_no_question_and_forgets_no_answer() {
    in_lab(|| {
        let node = dns_role::forwarder();
        let file = PathBuf::from(lab::variable("MIZZEN_CONFIG"));
        let _ = node.text(&["dns", "set", "db.example.com", "A", "192.0.2.7"]);
        assert_eq!(dns::addresses(By::Udp, "www.example.com").len(), 1);
        let names = ["db.example.com", "www.example.com"].into_iter().cycle().take(4);
        // So late is no answer but one that was lost, however busy the machine is.
        let asking = names.map(|name| move |load: &Load| ask_on(load, name, SOON));
        let (clients, ()) = while_loaded(asking, |_| {
            for ttl in 11..16 {
                fs::write(&file, format!("[dns]\nttl = {ttl}\ncache_entries = {ttl}00\n")).unwrap();
                node.signal(rustix::process::Signal::HUP);
                eventually("the reload has happened", SOON, || {
                    let answer =
                        dns::ask(By::Udp, dns::resolver(), "db.example.com", RecordType::A).ok()?;
                    (answer.answers.first()?.ttl == ttl).then_some(())
                });
            }
        });
        let seen = all(clients);
        assert!(seen.lost.is_empty(), "{:?}", seen.lost);
        assert_eq!(seen.again, 0, "no question is asked again");
        assert!(seen.count > 100, "{}", seen.count);
        assert_eq!(counted("mizzen_dns_cache_misses_total"), Some(1), "it was asked for once");

        // What cannot be is told, and changes nothing.
        fs::write(
            &file,
            "[dns]\nca_file = '/nonexistent.pem'\nttl = 17\n\
            forward_zones = { 'corp.example' = ['tls://192.0.2.1#dns.example'] }\n",
        )
        .unwrap();
        node.signal(rustix::process::Signal::HUP);
        eventually("the node says why", SOON, || {
            let problems = node.problems();
            problems.iter().any(|problem| problem.contains("/nonexistent.pem")).then_some(())
        });
        assert_eq!(dns::addresses(By::Udp, "www.example.com").len(), 1);
        assert_eq!(counted("mizzen_dns_cache_misses_total"), Some(1), "still");
    });
}
