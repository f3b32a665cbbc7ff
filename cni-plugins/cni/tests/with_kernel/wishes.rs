//! What runtimes and the daemon may say beyond the plain request, and what a machine may
//! have gone through before it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::host::{Container, Host, IPAM, OVERLAY, PORTMAP, address, container, ip};
use mizzen_tests_support::namespace::{Namespace, connect};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

fn queue(namespace: &Namespace, link: &str) -> String {
    let run = || Command::new("tc").args(["qdisc", "show", "dev", link]).output().unwrap();
    String::from_utf8(namespace.run(run).stdout).unwrap()
}

#[test]
fn capabilities_of_the_runtime() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    host.config["runtimeConfig"] = json!({
        "ips": ["9.0.5.9/25"], "mac": "02:00:00:00:00:09",
        "dns": { "servers": ["9.9.9.9"], "searches": ["lan"], "options": ["ndots:5"] },
        "bandwidth": { "ingressRate": 8_000_000, "egressRate": 16_000_000, "egressBurst": 800_000 },
    });
    let result = host.add("c1", &pod);
    assert_eq!(address(&result), ip("9.0.5.9"));
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:09");
    let dns = json!({ "nameservers": ["9.9.9.9"], "search": ["lan"], "options": ["ndots:5"] });
    assert_eq!(result["dns"], dns);
    let outside = queue(&host.namespace, result["interfaces"][1]["name"].as_str().unwrap());
    assert!(outside.contains("tbf") && outside.contains("rate 8Mbit"), "{outside}");
    let inside = queue(&pod, "eth0");
    assert!(inside.contains("rate 16Mbit"), "{inside}");
    assert!(host.check("c1", &pod, &result).success);

    let other = Namespace::new();
    for (key, value, code) in [
        ("ips", json!(["9.0.5.9"]), 101),
        ("ips", json!(["10.0.0.1"]), 4),
        ("ips", json!("9.0.5.9"), 7),
        ("mac", json!("zz"), 7),
        ("bandwidth", json!({ "ingressRate": "fast" }), 7),
        ("dns", json!(5), 7),
    ] {
        host.config["runtimeConfig"] = json!({ key: value });
        let words = host.call("ADD", &container("c2", &other)).refusal(code);
        assert!(code != 7 || words.contains(&format!("runtimeConfig.{key}")), "{words}");
    }
    assert_eq!((host.leases().len(), host.pairs().len()), (1, 1));
}

#[test]
fn an_overlay_by_name_with_blocks_of_both_families() {
    let (mut host, first, second) = (Host::new(), Namespace::new(), Namespace::new());
    host.config = json!({
        "cniVersion": "1.0.0", "name": "dcos", "type": "mizzen-overlay", "overlay": "blue",
        "ipam": { "dataDir": host.dir.path() },
    });
    let words = host.call("ADD", &container("a", &first)).refusal(11);
    assert!(words.contains("overlays.json") && words.contains("blue"), "{words}");

    let file = host.dir.path().join("overlays.json");
    let state = json!({ "version": 1, "overlays": { "blue": {
        "bridge": "m-blue", "mtu": 1400, "nameservers": ["198.51.100.1"],
        "blocks": [{ "subnet": "9.0.5.0/30" }, { "subnet": "9.0.9.0/30" }, { "subnet": "fd01:b::/80" }],
    } } });
    std::fs::write(&file, state.to_string()).unwrap();
    host.config["name"] = json!("pods");
    let a = host.add("a", &first);
    host.config["name"] = json!("tasks");
    let b = host.add("b", &second);
    let ips = |result: &Value| -> Vec<String> {
        let list = result["ips"].as_array().unwrap().iter();
        list.map(|ip| ip["address"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ips(&a), ["9.0.5.2/30", "fd01:b::2/80"]);
    assert_eq!(ips(&b), ["9.0.9.2/30", "fd01:b::3/80"]);
    assert_eq!(host.namespace.netlink().observe_link("m-blue").unwrap().unwrap().mtu, 1400);
    // Through the bridge's two gateways, and directly.
    for (to, from) in [("9.0.9.2", "9.0.5.2"), ("fd01:b::3", "fd01:b::2")] {
        assert_eq!(connect(&first, &second.listen(ip(to)), ip(to)).ip(), ip(from));
    }
    assert!(host.check("b", &second, &b).success);
    host.call("ADD", &container("c", &Namespace::new())).refusal(100);
    // What another runtime has by another network of the overlay is not ours to collect.
    host.config["cniVersion"] = json!("1.1.0");
    host.config["cni.dev/valid-attachments"] = json!([]);
    assert!(host.call("GC", &container("x", &second)).success);
    assert_eq!(host.pairs().len(), 1);
    host.call("DEL", &container("a", &first)).result();
    assert_eq!(host.pairs().len(), 1, "DEL is by network as well");
    host.config["name"] = json!("pods");
    assert!(host.check("a", &first, &a).success);

    // What was once made can be taken away, whatever the daemon says by now.
    std::fs::write(&file, "{").unwrap();
    host.call("ADD", &container("c", &Namespace::new())).refusal(11);
    host.call("DEL", &container("a", &first)).result();
    assert_eq!(host.pairs(), []);
    let left = std::fs::read_dir(host.dir.path().join("blue")).unwrap();
    let left = left.filter(|file| {
        file.as_ref().unwrap().file_name().to_str().unwrap().parse::<IpAddr>().is_ok()
    });
    assert_eq!(left.count(), 0, "DEL without the daemon's word");
}

#[test]
fn del_and_gc_need_no_more_than_the_leases() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    host.add("c1", &pod);
    for (key, value) in [("bridge", json!(5)), ("mtu", json!("x")), ("dns", json!(7))] {
        host.config[key] = value;
    }
    host.config["ipam"]["subnet"] = json!("nonsense");
    host.config["prevResult"] = json!({ "ips": 5 });
    host.call("DEL", &container("c1", &pod)).result();
    host.assert_nothing_left("DEL with a configuration that makes no sense");
}

#[test]
fn what_is_no_namespace_is_refused_at_once() {
    let host = Host::new();
    let pipe = host.dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    for netns in [pipe, "/proc/self/ns/mnt".into(), "/dev/null".into(), "/nowhere/at/all".into()] {
        let target = Container { id: "c1", netns };
        host.call("ADD", &target).refusal(4);
        host.assert_nothing_left("what is no namespace");
        host.call("DEL", &target).result();
    }
}

#[test]
fn a_reboot_that_keeps_the_files_gives_no_address_twice() {
    let mut host = Host::new();
    let (first, second) = (Namespace::new(), Namespace::new());
    let before =
        BTreeSet::from([address(&host.add("a", &first)), address(&host.add("b", &second))]);
    // The files stay; the kernel is a new one.
    host.namespace = Namespace::new();
    let third = Namespace::new();
    let after = address(&host.add("c", &third));
    assert!(!before.contains(&after));
    // The hint was lost as well.
    std::fs::remove_file(host.dir.path().join("dcos/last-reserved")).unwrap();
    let fourth = Namespace::new();
    assert_eq!(address(&host.add("d", &fourth)), ip("9.0.5.5"));

    let gone = Container { id: "a", netns: "/run/netns/gone".into() };
    host.call("DEL", &gone).result();
    assert_eq!(host.leases().len(), 3);
    // A container of before, under its old name.
    let again = Namespace::new();
    host.call("ADD", &container("b", &again)).refusal(101);
    host.call("DEL", &container("b", &again)).result();
    host.add("b", &again);
}

#[test]
fn leases_that_a_power_failure_emptied_are_given_again() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    host.config["ipam"]["subnet"] = json!("9.0.5.0/29");
    host.add("c0", &pod);
    let dir = host.dir.path().join("dcos");
    let write = |address: &str, written: SystemTime| {
        let file = std::fs::File::create(dir.join(address)).unwrap();
        file.set_modified(written).unwrap();
    };
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    for last in 3..=6 {
        write(&format!("9.0.5.{last}"), SystemTime::now());
    }
    let other = Namespace::new();
    host.call("ADD", &container("c1", &other)).refusal(100);
    write("9.0.5.4", long_ago);
    assert_eq!(address(&host.add("c1", &other)), ip("9.0.5.4"));
}

#[test]
fn leases_of_an_older_release_are_found() {
    let (host, pod) = (Host::new(), Namespace::new());
    host.add("c1", &pod);
    let dir = host.dir.path().join("dcos");
    let old = json!({ "version": 1, "containerId": "old", "ifname": "eth0" }).to_string();
    std::fs::write(dir.join("9.0.5.3"), old).unwrap();
    assert_eq!(address(&host.add("c2", &Namespace::new())), ip("9.0.5.4"));
    let target = Container { id: "old", netns: "".into() };
    host.call("DEL", &target).result();
    assert_eq!(host.leases(), BTreeSet::from(["9.0.5.2", "9.0.5.4"].map(ip)));
}

/// A configuration of a megabyte is read and carried through; what is no configuration at
/// all is refused, however long.
#[test]
fn a_configuration_of_a_megabyte() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    host.config["notes"] = json!("x".repeat(1 << 20));
    let result = host.add("c1", &pod);
    assert!(host.check("c1", &pod, &result).success);
    host.call("DEL", &container("c1", &pod)).result();

    let target = container("c1", &pod);
    let nested = format!("{{\"cniVersion\":\"1.0.0\",\"x\":{}", "[".repeat(1 << 20));
    let endless = vec![b' '; 5 << 20];
    for garbage in [nested.as_bytes(), &endless, &[0xff; 1 << 20]] {
        for plugin in [OVERLAY, IPAM, PORTMAP] {
            host.finish(host.command(plugin, "ADD", &target), garbage).refusal(6);
        }
    }
    host.assert_nothing_left("a megabyte");
}

#[test]
fn an_earlier_plugin_of_the_chain_is_heard() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    host.config["prevResult"] = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "net0", "sandbox": pod.path() }],
        "ips": [{ "address": "10.0.0.5/24", "interface": 0 }],
    });
    let result = host.add("c1", &pod);
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 4);
    assert_eq!(result["ips"][0]["address"], "10.0.0.5/24");
    assert_eq!(result["ips"][1]["interface"], 3);
}

/// Killed wherever it was, no plugin makes two containers share an address.
#[test]
fn killed_plugins_give_no_address_twice() {
    let host = Host::new();
    let input = host.config.to_string();
    let pods: Vec<Namespace> = (0..24).map(|_| Namespace::new()).collect();
    let ids: Vec<String> = (0..24).map(|at| format!("c{at}")).collect();
    let start = |at: usize| {
        let target = container(&ids[at], &pods[at]);
        let mut child = host.start(host.command(OVERLAY, "ADD", &target), input.as_bytes());
        if at.is_multiple_of(2) {
            // Where the kill falls is the point, not a synchronisation.
            let until = Instant::now() + Duration::from_micros(150) * at as u32;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
        }
        child
    };
    let started: Vec<_> = (0..24).map(start).collect();
    let mut given: BTreeSet<IpAddr> = BTreeSet::new();
    let mut killed = 0;
    for (at, child) in started.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            let result = serde_json::from_slice(&output.stdout).unwrap();
            assert!(given.insert(address(&result)), "{result}");
        } else {
            assert_eq!(at % 2, 0, "{}", String::from_utf8_lossy(&output.stdout));
            killed += 1;
            assert!(host.call("DEL", &container(&ids[at], &pods[at])).success);
        }
    }
    assert!(killed > 0);
    assert_eq!(host.leases(), given);
    assert_eq!(host.pairs().len(), given.len());
}

#[test]
fn the_daemon_is_asked_for_addresses_when_all_are_leased() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    let (dir, socket) = (host.dir.path().to_owned(), host.dir.path().join("mizzen.sock"));
    host.config = json!({
        "cniVersion": "1.0.0", "name": "dcos", "type": "mizzen-overlay", "overlay": "blue",
        "ipam": { "dataDir": dir },
    });
    let give = |blocks: &[&str]| {
        let blocks: Vec<Value> = blocks.iter().map(|net| json!({ "subnet": net })).collect();
        let blue = json!({ "bridge": "m-blue", "mtu": 1400, "blocks": blocks });
        let state = json!({ "version": 1, "socket": socket, "overlays": { "blue": blue } });
        std::fs::write(dir.join("overlays.json"), state.to_string()).unwrap();
    };
    // The network's, the bridge's, broadcast, and one.
    give(&["9.0.5.0/30"]);
    assert_eq!(address(&host.add("c1", &pod)), ip("9.0.5.2"));
    let other = Namespace::new();
    host.call("ADD", &container("c2", &other)).refusal(100);

    let daemon = UnixListener::bind(&socket).unwrap();
    let asked = |answer: &str, given: &dyn Fn()| {
        let (mut stream, _) = daemon.accept().unwrap();
        let mut request = [0; 256];
        let length = stream.read(&mut request).unwrap();
        given();
        stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| asked("503 Service Unavailable", &|| ()));
        host.call("ADD", &container("c2", &other)).refusal(100);
    });
    std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            let both = || give(&["9.0.5.0/30", "9.0.6.0/30"]);
            [asked("204 No Content", &both), asked("204 No Content", &|| ())]
        });
        assert_eq!(address(&host.add("c2", &other)), ip("9.0.6.2"));
        let [first, then] = told.join().unwrap();
        assert!(first.starts_with("POST /v1/cni/addresses HTTP/1.1\r\n"), "{first}");
        assert!(then.starts_with("POST /v1/cni/attached HTTP/1.1\r\n"), "{then}");
    });
}

#[test]
fn the_daemon_can_count_what_was_done_and_holds_nothing_up() {
    let (host, pod) = (Host::new(), Namespace::new());
    let add = |id: &str| assert_ne!(host.add(id, &pod), Value::Null);
    let del = |id: &str| assert!(host.call("DEL", &container(id, &pod)).success);
    add("away");
    del("away");
    let daemon = UnixListener::bind(host.dir.path().join("calls.sock")).unwrap();
    let told = |plugin: &str, verb: &str, code: &str| {
        let mut line = String::new();
        daemon.accept().unwrap().0.read_to_string(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..3], [plugin, verb, code], "{line}");
        assert!(words[3].parse::<u64>().unwrap() > 0 && line.ends_with('\n'), "{line}");
    };
    add("there");
    told("mizzen-overlay", "ADD", "0");
    assert!(!host.call("ADD", &container("there", &pod)).success);
    told("mizzen-overlay", "ADD", "101");
    del("there");
    told("mizzen-overlay", "DEL", "0");
    let ports = json!({ "cniVersion": "1.1.0", "name": "dcos", "type": "mizzen-portmap",
                        "dataDir": host.dir.path() });
    let there = container("there", &pod);
    let command = host.command(PORTMAP, "DEL", &there);
    assert!(host.finish(command, ports.to_string().as_bytes()).success);
    told("mizzen-portmap", "DEL", "0");

    // A daemon that stands still takes as many as find room, and nobody waits for it.
    rustix::net::listen(&daemon, 0).unwrap();
    for _ in 0..3 {
        add("silent");
        del("silent");
    }
}

#[test]
fn the_daemon_is_told_before_the_runtime_and_holds_nothing_up() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    let socket = host.dir.path().join("mizzen.sock");
    host.config = json!({
        "cniVersion": "1.0.0", "name": "dcos", "type": "mizzen-overlay", "overlay": "blue",
        "ipam": { "dataDir": host.dir.path() },
    });
    let state = json!({ "version": 1, "socket": socket, "overlays": { "blue": {
        "bridge": "m-blue", "mtu": 1400, "blocks": [{ "subnet": "9.0.5.0/29" }],
    } } });
    std::fs::write(host.dir.path().join("overlays.json"), state.to_string()).unwrap();
    let add = |id: &str, host: &Host| {
        assert_ne!(host.add(id, &pod), Value::Null);
        assert!(host.call("DEL", &container(id, &pod)).success);
    };
    add("away", &host);

    let daemon = UnixListener::bind(&socket).unwrap();
    let links = std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            let (mut stream, _) = daemon.accept().unwrap();
            let mut request = [0; 256];
            let length = stream.read(&mut request).unwrap();
            let links = host.pairs().len();
            // It waits no longer than a runtime should.
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            (String::from_utf8_lossy(&request[..length]).into_owned(), links)
        });
        assert_ne!(host.add("there", &pod), Value::Null);
        let (request, links) = told.join().unwrap();
        assert!(request.starts_with("POST /v1/cni/attached HTTP/1.1\r\n"), "{request}");
        links
    });
    assert_eq!(links, 1, "the link was there when the daemon was told");
    assert!(host.call("DEL", &container("there", &pod)).success);
    // One that takes requests and answers none.
    add("silent", &host);
    drop(daemon);
    add("gone", &host);
}
