//! What people and scrapers see of VIPs.

use super::vip_services::serve;
use mizzen_tests_node::http::{Request, get, send};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, load};
use rustix::net::{AddressFamily, SocketType};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

const NODE_PORT: &str = "127.0.0.1:62080";
const MINUTEMAN: &str = "127.0.0.1:61421";
const EBPF: &str = "ebpf";
const QUEUES: &str = "nfqueue";
const CONNECTS: u64 = 60;

/// A VIP with two servers and a backend that refuses, after so many connects.
struct Stage {
    node: Node,
    vip: SocketAddr,
    good: [String; 2],
    closed: String,
    /// Keeps the port of the backend that refuses: connections that are opened here must not
    /// get it, nor meet themselves there.
    _taken: OwnedFd,
}

impl Stage {
    fn set(engine: &str) -> Self {
        // Who is ejected stays so, however long it takes to look.
        let flags = ["--roles", "vip", "--vip-engine", engine, "--vip-eject-pause", "5m"];
        let node = Node::start(&flags);
        assert_eq!(node.json(&["status"])["vips"]["engine"], engine);
        let good = [serve("127.0.0.1:0", "one"), serve("127.0.0.1:0", "two")];
        let good = good.map(|address| address.to_string());
        let (taken, closed) = deaf();
        let flags = ["vip", "set", "demo:80/tcp", "--backend", &good[0], &good[1], &closed];
        let set = node.json(&flags);
        let vip: SocketAddr = set["vips"][0].as_str().unwrap().parse().unwrap();
        let mut good_answers = 0;
        while good_answers < CONNECTS {
            good_answers += u64::from(get(vip, "/").is_ok());
        }
        let stage = Self { node, vip, good, closed, _taken: taken };
        eventually("all answers are counted", SOON, || {
            let counted = stage.successes();
            assert!(counted <= CONNECTS, "{counted}");
            (counted == CONNECTS).then_some(())
        });
        stage
    }

    /// Handshakes with the servers, as Minuteman tells them.
    fn successes(&self) -> u64 {
        let shown = get(MINUTEMAN.parse().unwrap(), &format!("/vip/{}", self.vip)).unwrap().json();
        self.good.iter().map(|good| shown[good]["total_sucesses"].as_u64().unwrap()).sum()
    }
}

/// A socket that has a port and does not listen there, and its address.
fn deaf() -> (OwnedFd, String) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let at = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    (socket, at.to_string())
}

#[test]
fn minuteman_and_scrapers_see_what_happened() {
    in_lab(|| look_at_all_counts(EBPF));
}

#[test]
fn minuteman_and_scrapers_see_what_queues_did() {
    in_lab(|| look_at_all_counts(QUEUES));
}

fn look_at_all_counts(engine: &str) {
    let Stage { node, vip, good, closed, _taken } = Stage::set(engine);
    let all = get(MINUTEMAN.parse().unwrap(), "/vips").unwrap().json();
    let shown = &all["vips"][vip.to_string()];
    let successes = |backend: &str| shown[backend]["total_sucesses"].as_u64().unwrap();
    assert_eq!(successes(&good[0]) + successes(&good[1]), CONNECTS);
    for backend in &good {
        let latency = &shown[backend]["latency_last_60s"];
        assert_eq!(latency["n"].as_u64(), Some(successes(backend)), "{all:#}");
        let at = |name: &str| latency[name].as_f64().unwrap();
        assert!(at("min") <= at("50") && at("50") <= at("99") && at("99") <= at("max"));
        assert!((at("min")..=at("max")).contains(&at("mean")), "{latency}");
    }
    // Three failures in a row eject it.
    assert_eq!(shown[&closed]["is_healthy"], false, "{all:#}");
    assert_eq!(shown[&closed]["latency_last_60s"], json!({}));

    let parts = node.json(&["status"])["vips"].clone();
    assert_eq!((&parts["ejected"], &parts["out"]), (&json!(1), &json!(0)), "{parts}");
    eventually("the log says that it is ejected", SOON, || {
        let log = node.place().log();
        (log.contains("a backend is ejected") && log.contains(&closed)).then_some(())
    });

    let counted = get(MINUTEMAN.parse().unwrap(), "/metrics").unwrap().json();
    let spiral = json!({ "count": CONNECTS, "one": CONNECTS, "type": "spiral" });
    assert_eq!(counted["mm_connect_successes_spiral"], spiral, "{counted:#}");
    assert_eq!(counted["mm_connect_latency_histogram"]["n"], CONNECTS, "{counted:#}");
    let tag = get(NODE_PORT.parse().unwrap(), "/v1/vips").unwrap().headers["etag"].clone();
    let status = || {
        let headers = &[("If-None-Match", tag.as_str())];
        let request = Request { method: "GET", path: "/v1/vips", headers, body: &[] };
        send(NODE_PORT.parse().unwrap(), &request).unwrap().status
    };
    assert_eq!(status(), 304);
    let _ = node.text(&["vip", "set", "none:80/tcp", "--no-backends"]);
    assert_eq!(status(), 200, "there is another VIP");
    let _ = node.text(&["vip", "set", "gone:81/tcp", "--backend", &format!("{closed}@0")]);
    let gone = get(NODE_PORT.parse().unwrap(), "/v1/vip-services/gone:81/tcp").unwrap().json();
    assert!(TcpStream::connect(gone["vips"][0].as_str().unwrap()).is_err());

    let series = Series::scrape();
    let established: f64 = good.iter().map(|b| series.of("established_total", vip, b)).sum();
    assert_eq!(established, CONNECTS as f64);
    for backend in &good {
        let counted = series.of("established_total", vip, backend);
        assert_eq!(series.of("handshake_seconds_count", vip, backend), counted);
        assert!(series.of("handshake_seconds_sum", vip, backend) > 0.0);
        assert_eq!(series.of("ejected", vip, backend), 0.0);
        series.check_buckets(vip, backend, counted);
    }
    assert!(series.of("failed_total", vip, &closed) >= 3.0);
    assert_eq!(series.of("ejections_total", vip, &closed), 1.0);
    assert_eq!(series.of("ejected", vip, &closed), 1.0);
    let refused = series.0.iter().find(|(key, _)| {
        key.starts_with("mizzen_vip_refused_total{") && key.contains("gone.static")
    });
    assert_eq!(refused.map(|(_, value)| *value), Some(1.0), "{:#?}", series.0);
    assert!(series.0.contains_key("mizzen_node_uptime_seconds"));
    messages();
}

#[test]
fn a_connection_is_explained_by_its_clients_port() {
    in_lab(|| explain_a_connection(EBPF));
}

#[test]
fn a_queued_connection_is_explained_by_its_clients_port() {
    in_lab(|| explain_a_connection(QUEUES));
}

fn explain_a_connection(engine: &str) {
    let Stage { node, vip, good, closed, _taken } = Stage::set(engine);
    let stream = TcpStream::connect(vip).unwrap();
    let client = stream.local_addr().unwrap();
    let nobody = SocketAddr::new(client.ip(), 1).to_string();
    let client = client.to_string();
    let explained = eventually("its handshake was seen", SOON, || {
        let explained = node.json(&["explain", &client, "demo:80"]);
        (explained["connection"]["stage"] == "established").then_some(explained)
    });
    assert_eq!(explained["engine"], engine);
    let connection = &explained["connection"];
    assert_eq!(connection["client"], client.as_str(), "{explained:#}");
    assert_eq!(connection["open"], true);
    let backend = connection["backend"].as_str().unwrap();
    assert!(good.iter().any(|good| good == backend), "{explained:#}");
    assert_eq!(connection["candidates"][0]["address"], backend);
    assert_eq!(explained["vips"][0]["rule"], "latency");

    // The same by its backend, and by one word, as it would be pasted.
    for to in [backend, &vip.to_string(), "demo.static.l4lb.thisdcos.directory:80/tcp"] {
        let again = node.json(&["explain", &format!("{client}->{to}")]);
        assert_eq!(again["connection"]["backend"], backend, "{to}");
    }
    let ask = |query: &str| get(NODE_PORT.parse().unwrap(), &format!("/v1/explain{query}"));
    let asked = ask(&format!("?client={client}&vip=demo:80")).unwrap().json();
    assert_eq!(asked["connection"]["backend"], backend, "without anything to encode");
    let unclear = ask("").unwrap();
    assert_eq!(unclear.status, 400);
    for way in ["vip=", "client=", "connection="] {
        assert!(unclear.text().contains(way), "{}", unclear.text());
    }
    let text = node.text(&["explain", &client, "demo:80"]);
    assert!(text.contains(&format!("and got {backend}")), "{text}");
    assert!(text.contains("it is established"), "{text}");

    let all = node.json(&["explain", "demo:80/tcp"]);
    let rows = all["vips"][0]["backends"].as_array().unwrap();
    let chances: f64 = rows.iter().filter_map(|row| row["probability"].as_f64()).sum();
    assert!((chances - 1.0).abs() < 1e-6, "{all:#}");
    let row = rows.iter().find(|row| row["address"] == closed.as_str()).unwrap();
    assert!(["ejected", "half-open"].contains(&row["state"].as_str().unwrap()), "{row}");

    drop(stream);
    eventually("the end of the connection is seen", SOON, || {
        let told = node.json(&["explain", &client, "demo:80"]);
        (told["connection"]["open"] == false).then_some(())
    });
    let _ = node.text(&["vip", "set", "dns:53/udp", "--backend", "127.0.0.1:5353"]);
    let vip = node.json(&["explain", "dns:53/udp"])["vips"][0]["vip"].clone();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(vip.as_str().unwrap()).unwrap();
    // Queues see a flow when it speaks.
    socket.send(b"x").unwrap();
    let client = socket.local_addr().unwrap().to_string();
    let flow = node.json(&["explain", &client, "dns:53/udp"]);
    assert_eq!(flow["connection"]["backend"], "127.0.0.1:5353", "{flow:#}");

    let unknown = node.mizzen(&["explain", &nobody, "demo:80"]);
    assert_eq!(unknown.code, Some(1));
    for words in [
        &format!("no connection from {nobody} to demo:80 is known"),
        "are known, 0 open",
        "the last ones from that address",
    ] {
        assert!(unknown.stderr.contains(words), "{words}: {}", unknown.stderr);
    }
    let unknown = node.mizzen(&["explain", "demi:80"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("no VIP is demi:80"), "{}", unknown.stderr);
    let wrong = get(NODE_PORT.parse().unwrap(), "/v1/explain?vip=demo").unwrap();
    assert_eq!(wrong.status, 400, "{}", wrong.text());
}

#[test]
fn watching_tells_what_happens_between_two_looks() {
    in_lab(|| watch(EBPF));
}

#[test]
fn watching_tells_what_queues_do_between_two_looks() {
    in_lab(|| watch(QUEUES));
}

fn watch(engine: &str) {
    let Stage { node, vip, good, closed, _taken } = Stage::set(engine);
    let load = load::Load::start(vip);
    let text = node.text(&["vips", "demo", "--watch", "--count", "2", "--json"]);
    let _ = load.stop();
    let looks: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 2, "{text}");
    let rate = |look: &Value| -> f64 {
        let backends = look["vips"][0]["backends"].as_array().unwrap();
        backends.iter().map(|row| row["connects_per_second"].as_f64().unwrap()).sum()
    };
    assert!(looks.iter().all(|look| rate(look) > 0.0), "{text}");
    let backends = looks[1]["vips"][0]["backends"].as_array().unwrap();
    let seen: BTreeSet<&str> =
        backends.iter().map(|row| row["address"].as_str().unwrap()).collect();
    assert_eq!(seen, BTreeSet::from([good[0].as_str(), &good[1], &closed]));
    let quick = backends.iter().find(|row| row["address"] == good[0].as_str()).unwrap();
    assert!(quick["p99_ms"].is_f64() && quick["state"] == "in", "{quick}");

    let blocks = node.text(&["vips", "--watch", "--count", "1"]);
    assert!(blocks.starts_with("VIP ") && !blocks.contains('\u{1b}'), "{blocks}");
    let row = blocks.lines().find(|line| line.contains(&closed)).unwrap();
    assert!(row.contains("ejected") || row.contains("half-open"), "{blocks}");
    assert_eq!(node.json(&["vips", "nothing-like-it"]), json!([]));
    let plain = node.text(&["vips"]);
    assert!(plain.contains("latency") && plain.contains("WHERE"), "{plain}");
}

/// Samples by name and labels.
struct Series(BTreeMap<String, f64>);

impl Series {
    /// Reads `/v1/metrics`, strictly.
    fn scrape() -> Self {
        let text = get(NODE_PORT.parse().unwrap(), "/v1/metrics").unwrap().text();
        let (mut series, mut families) = (BTreeMap::new(), BTreeSet::new());
        let mut present = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                present = rest.split(' ').next().unwrap();
                assert!(families.insert(present), "{present} comes twice");
            } else if !line.starts_with("# HELP ") {
                let (key, value) = line.rsplit_once(' ').expect("a sample");
                assert!(key.starts_with(present) && !present.is_empty(), "{line} below {present}");
                let before = series.insert(key.to_owned(), value.parse().unwrap());
                assert_eq!(before, None, "{line} comes twice");
            }
        }
        Self(series)
    }

    fn of(&self, name: &str, vip: SocketAddr, backend: &str) -> f64 {
        let key = format!("mizzen_vip_{name}{{{}}}", labels(vip, backend));
        *self.0.get(&key).unwrap_or_else(|| panic!("no {key} in {:#?}", self.0))
    }

    /// Each bucket holds those below it, and the last one all.
    fn check_buckets(&self, vip: SocketAddr, backend: &str, all: f64) {
        let prefix = format!("mizzen_vip_handshake_seconds_bucket{{{},le=\"", labels(vip, backend));
        let buckets = self.0.iter().filter_map(|(key, count)| {
            let bound = key.strip_prefix(&prefix)?.trim_end_matches("\"}").replace("+Inf", "inf");
            Some((bound.parse::<f64>().unwrap(), *count))
        });
        let mut buckets: Vec<(f64, f64)> = buckets.collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert_eq!(buckets.len(), 25);
        assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{buckets:?}");
        assert_eq!(buckets[24], (f64::INFINITY, all));
        assert_eq!(buckets[23].1, all, "none took longer than there are bounds: {buckets:?}");
    }
}

fn labels(vip: SocketAddr, backend: &str) -> String {
    format!("vip=\"{vip}\",protocol=\"tcp\",backend=\"{backend}\",name=\"demo.static\"")
}

/// The same as messages: each behind its length, its name first.
fn messages() {
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let headers = &[("Accept", accept)];
    let request = Request { method: "GET", path: "/v1/metrics", headers, body: &[] };
    let answer = send(NODE_PORT.parse().unwrap(), &request).unwrap();
    assert!(answer.headers["content-type"].starts_with("application/vnd.google.protobuf"));
    let mut names = BTreeSet::new();
    let mut rest = answer.body.as_slice();
    while !rest.is_empty() {
        let length = varint(&mut rest);
        let (message, after) = rest.split_at(length);
        let mut head = &message[1..];
        assert_eq!(message[0], 0x0a, "the name comes first");
        let length = varint(&mut head);
        assert!(names.insert(String::from_utf8(head[..length].to_vec()).unwrap()));
        rest = after;
    }
    assert!(names.contains("mizzen_vip_handshake_seconds"), "{names:?}");
    assert!(names.contains("mizzen_node_uptime_seconds"), "{names:?}");
}

fn varint(bytes: &mut &[u8]) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
