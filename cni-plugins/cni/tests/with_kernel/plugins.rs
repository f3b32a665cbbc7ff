//! The executables against the real kernel: a runtime's calls, and what goes wrong.
//!
//! Each test has a namespace that plays the host, and others that play containers.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::host::{Host, IPAM, OVERLAY, address, container, ip, ip_tool};
use mizzen_netlink::LinkChange;
use mizzen_tests_support::namespace::{Namespace, connect};
use serde_json::{Value, json};

#[test]
fn add_check_del() {
    let (host, pod) = (Host::new(), Namespace::new());
    let result = host.add("c1", &pod);
    assert_eq!(result["cniVersion"], "1.0.0");
    assert_eq!(result["ips"][0]["address"], "9.0.5.2/25");
    assert_eq!(result["ips"][0]["gateway"], "9.0.5.1");
    assert_eq!(result["dns"]["nameservers"][0], "198.51.100.1");
    let inside = &result["interfaces"][result["ips"][0]["interface"].as_u64().unwrap() as usize];
    assert_eq!(inside["name"], "eth0");
    assert_eq!(inside["mac"], "02:6d:09:00:05:02");
    assert_eq!(inside["sandbox"], pod.path().to_str().unwrap());

    let eth0 = pod.netlink().observe_link("eth0").unwrap().unwrap();
    assert_eq!((eth0.up, eth0.mtu), (true, 1420));
    assert!(pod.netlink().observe_link("lo").unwrap().unwrap().up);
    let ends = host.pairs();
    assert_eq!(ends.len(), 1);
    assert_eq!(result["interfaces"][1]["name"], ends[0].name);
    assert_eq!((ends[0].hairpin, ends[0].mtu), (Some(true), 1420));
    assert_eq!(ends[0].alias.as_deref(), Some("mizzen-cni dcos c1 eth0"));

    assert!(host.check("c1", &pod, &result).success);
    assert!(host.call("DEL", &container("c1", &pod)).success);
    assert_eq!(pod.netlink().observe_link("eth0").unwrap(), None);
    host.assert_nothing_left("after DEL");
    host.check("c1", &pod, &result).refusal(103);
}

#[test]
fn leases_are_private_files_and_are_given_in_turn() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    host.config["hairpinMode"] = json!(false);
    assert_eq!(address(&host.add("c1", &pod)), ip("9.0.5.2"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = host.dir.path().join("dcos");
    assert_eq!((mode(&dir), mode(&dir.join("9.0.5.2"))), (0o700, 0o600));
    let lease = std::fs::read_to_string(dir.join("9.0.5.2")).unwrap();
    let lease: Value = serde_json::from_str(&lease).unwrap();
    assert_eq!(
        lease,
        json!({ "version": 1, "containerId": "c1", "ifname": "eth0", "plugin": "mizzen-overlay",
            "network": "dcos", "addresses": ["9.0.5.2"], "hairpin": false })
    );

    host.call("DEL", &container("c1", &pod)).result();
    assert_eq!(address(&host.add("c2", &pod)), ip("9.0.5.3"));
}

#[test]
fn containers_reach_each_other_the_host_and_back() {
    let (host, first, second) = (Host::new(), Namespace::new(), Namespace::new());
    let (a, b) = (address(&host.add("a", &first)), address(&host.add("b", &second)));
    assert_eq!(connect(&first, &second.listen(b), b).ip(), a);
    assert_eq!(connect(&second, &first.listen(a), a).ip(), b);
    let gateway = ip("9.0.5.1");
    assert_eq!(connect(&first, &host.namespace.listen(gateway), gateway).ip(), a);
    assert_eq!(connect(&host.namespace, &first.listen(a), a).ip(), gateway);
}

/// Two programs behind one port of the bridge that may only talk through the bridge:
/// `macvlan` in mode `vepa` sends every frame out and expects it back.
#[test]
fn frames_go_back_out_of_the_port_by_which_they_came() {
    let (host, pod) = (Host::new(), Namespace::new());
    host.add("c1", &pod);
    let halves = [Namespace::new(), Namespace::new()];
    for (at, half) in halves.iter().enumerate() {
        ip_tool(&pod, &format!("link add link eth0 name v{at} type macvlan mode vepa"));
        ip_tool(&pod, &format!("link set v{at} netns {}", half.path().display()));
        ip_tool(half, &format!("addr add 9.0.5.{}/25 dev v{at}", 100 + at));
        half.netlink().set_link(&format!("v{at}"), &LinkChange::new().up()).unwrap();
    }
    let there = ip("9.0.5.101");
    assert_eq!(connect(&halves[0], &halves[1].listen(there), there).ip(), ip("9.0.5.100"));
}

#[test]
fn hairpin_is_a_choice() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    host.config["hairpinMode"] = json!(false);
    host.add("c1", &pod);
    assert_eq!(host.pairs()[0].hairpin, Some(false));
}

#[test]
fn sixty_four_at_once_get_as_many_addresses() {
    let host = Host::new();
    let pods: Vec<Namespace> = (0..64).map(|_| Namespace::new()).collect();
    let ids: Vec<String> = (0..64).map(|at| format!("c{at}")).collect();
    let input = host.config.to_string();
    let started: Vec<Child> = ids
        .iter()
        .zip(&pods)
        .map(|(id, pod)| {
            host.start(host.command(OVERLAY, "ADD", &container(id, pod)), input.as_bytes())
        })
        .collect();
    let mut addresses = BTreeSet::new();
    for child in started {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        addresses.insert(address(&serde_json::from_slice(&output.stdout).unwrap()));
    }
    assert_eq!(addresses.len(), 64);
    assert_eq!(host.leases(), addresses);
    assert_eq!(host.pairs().len(), 64);

    let ended: Vec<Child> = ids
        .iter()
        .zip(&pods)
        .map(|(id, pod)| {
            host.start(host.command(OVERLAY, "DEL", &container(id, pod)), input.as_bytes())
        })
        .collect();
    for child in ended {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    host.assert_nothing_left("64 DELs at once");
}

#[test]
fn exhaustion_has_a_code_of_its_own_and_leaves_nothing() {
    let mut host = Host::new();
    host.config["ipam"]["subnet"] = json!("9.0.5.0/29");
    let pods: Vec<Namespace> = (0..6).map(|_| Namespace::new()).collect();
    for (at, pod) in pods[..5].iter().enumerate() {
        host.add(&format!("c{at}"), pod);
    }
    let words = host.call("ADD", &container("c5", &pods[5])).refusal(100);
    assert!(words.contains("9.0.5.6") && words.contains("5 leases"), "{words}");
    assert_eq!(pods[5].netlink().observe_link("eth0").unwrap(), None);
    assert_eq!((host.leases().len(), host.pairs().len()), (5, 5));

    host.config["cniVersion"] = json!("1.1.0");
    host.call("STATUS", &container("c5", &pods[5])).refusal(50);
    host.call("DEL", &container("c2", &pods[2])).result();
    assert!(host.call("STATUS", &container("c5", &pods[5])).success);
    assert_eq!(address(&host.add("c5", &pods[5])), ip("9.0.5.4"));
}

#[test]
fn del_may_come_twice_late_or_for_nobody() {
    let (host, pod) = (Host::new(), Namespace::new());
    assert!(host.call("DEL", &container("never", &pod)).success);
    host.add("c1", &pod);
    let mut target = container("c1", &pod);
    assert!(host.call("DEL", &target).success);
    assert!(host.call("DEL", &target).success);

    host.add("c1", &pod);
    target.netns = pod.path();
    drop(pod);
    assert!(host.call("DEL", &target).success);
    host.assert_nothing_left("after DEL without namespace");

    let pod = Namespace::new();
    host.add("c1", &pod);
    target.netns = PathBuf::new();
    assert!(host.call("DEL", &target).success);
    host.assert_nothing_left("after DEL with an empty CNI_NETNS");
}

#[test]
fn del_takes_only_its_own() {
    let (host, first, second) = (Host::new(), Namespace::new(), Namespace::new());
    host.add("c1", &first);
    let kept = host.add("c2", &second);
    host.call("DEL", &container("c1", &first)).result();
    assert_eq!(host.leases(), BTreeSet::from([address(&kept)]));
    assert!(host.check("c2", &second, &kept).success);
}

#[test]
fn check_sees_what_was_broken() {
    let (host, pod) = (Host::new(), Namespace::new());
    let result = host.add("c1", &pod);
    let link = host.pairs()[0].name.clone();
    let attempts: [(&str, &dyn Fn()); 4] = [
        ("address", &|| ip_tool(&pod, "addr del 9.0.5.2/25 dev eth0")),
        ("down", &|| ip_tool(&pod, "link set eth0 down")),
        ("bridge", &|| ip_tool(&host.namespace, &format!("link set {link} nomaster"))),
        ("host is gone", &|| ip_tool(&host.namespace, &format!("link del {link}"))),
    ];
    for (word, break_it) in attempts {
        break_it();
        let words = host.check("c1", &pod, &result).refusal(103);
        assert!(words.contains(word), "{words}");
    }
    host.call("DEL", &container("c1", &pod)).result();
    let again = host.add("c1", &pod);
    ip_tool(&pod, "route del default");
    let words = host.check("c1", &pod, &again).refusal(103);
    assert!(words.contains("route to 0.0.0.0/0"), "{words}");
    host.call("CHECK", &container("c1", &pod)).refusal(7);
}

#[test]
fn bad_requests_are_answered_in_json_and_leave_nothing() {
    let (host, pod) = (Host::new(), Namespace::new());
    let good = host.config.to_string();
    let target = container("c1", &pod);
    let run = |variable: Option<(&str, &str)>, stdin: &str| {
        let mut command = host.command(OVERLAY, "ADD", &target);
        command.envs(variable);
        host.finish(command, stdin.as_bytes())
    };
    run(None, "\u{1}\u{2}garbage").refusal(6);
    run(None, "").refusal(6);
    run(None, &good[..good.len() / 2]).refusal(6);
    run(None, &good.replace("m-dcos", "a/b")).refusal(7);
    run(None, &good.replace("1.0.0", "9.9.9")).refusal(1);
    let own = host.namespace.path();
    let own = own.to_str().unwrap();
    for (variable, value) in [
        ("CNI_COMMAND", ""),
        ("CNI_NETNS", ""),
        ("CNI_NETNS", "/proc/0/ns/net"),
        ("CNI_NETNS", own),
        ("CNI_CONTAINERID", "../c1"),
        ("CNI_IFNAME", "a/b"),
    ] {
        let words = run(Some((variable, value)), &good).refusal(4);
        assert!(words.contains(variable), "{words}");
    }
    host.assert_nothing_left("after refusals");
    assert_eq!(host.namespace.netlink().observe_links().unwrap().len(), 1);
}

#[test]
fn a_failed_add_is_undone() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    // The name is taken inside the container.
    ip_tool(&pod, "link add eth0 type bridge");
    host.call("ADD", &container("c1", &pod)).refusal(101);
    host.assert_nothing_left("name taken");
    ip_tool(&pod, "link del eth0");

    // The last step fails: no way to that router.
    host.config["ipam"]["routes"] = json!([{ "dst": "10.0.0.0/8", "gw": "192.0.2.1" }]);
    host.call("ADD", &container("c1", &pod)).refusal(102);
    host.assert_nothing_left("unreachable router");
    assert_eq!(pod.netlink().observe_link("eth0").unwrap(), None);

    // The bridge's name belongs to something else.
    host.config["bridge"] = json!("lo");
    host.call("ADD", &container("c1", &pod)).refusal(101);
    host.assert_nothing_left("no bridge");
}

#[test]
fn a_second_add_is_refused_and_the_first_stays() {
    let (host, pod) = (Host::new(), Namespace::new());
    let result = host.add("c1", &pod);
    let words = host.call("ADD", &container("c1", &pod)).refusal(101);
    assert!(words.contains("9.0.5.2"), "{words}");
    assert!(host.check("c1", &pod, &result).success);
}

#[test]
fn gc_removes_what_nobody_wants() {
    let (mut host, first, second) = (Host::new(), Namespace::new(), Namespace::new());
    let kept = host.add("kept", &first);
    host.add("gone", &second);
    let other = json!({ "version": 1, "containerId": "crashed", "ifname": "eth0" }).to_string();
    std::fs::write(host.dir.path().join("dcos/9.0.5.99"), other).unwrap();

    host.config["cniVersion"] = json!("1.1.0");
    host.call("GC", &container("x", &first)).refusal(7);
    assert_eq!(host.leases().len(), 3);
    host.config["cni.dev/valid-attachments"] = json!([{ "containerID": "kept", "ifname": "eth0" }]);
    assert!(host.call("GC", &container("x", &first)).success);
    assert_eq!(host.leases(), BTreeSet::from([address(&kept)]));
    assert_eq!(host.pairs().len(), 1);
    assert!(host.check("kept", &first, &kept).success);
}

#[test]
fn versions_and_their_shapes() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    let target = container("dummy", &pod);
    for plugin in [OVERLAY, IPAM] {
        let answer = host.finish(host.command(plugin, "VERSION", &target), b"{}").result();
        let supported = json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        assert_eq!(answer["supportedVersions"], supported);
    }
    for (version, family, mtu) in [
        ("0.3.1", json!("4"), Value::Null),
        ("0.4.0", json!("4"), Value::Null),
        ("1.0.0", Value::Null, Value::Null),
        ("1.1.0", Value::Null, json!(1420)),
    ] {
        host.config["cniVersion"] = json!(version);
        let result = host.add("c1", &pod);
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0]["version"], family, "{version}");
        assert_eq!(result["interfaces"][2]["mtu"], mtu, "{version}");
        host.call("DEL", &container("c1", &pod)).result();
    }
}

#[test]
fn a_requested_address_is_honoured() {
    let (host, pod) = (Host::new(), Namespace::new());
    let target = container("c1", &pod);
    let with = |arguments: &str| {
        let mut command = host.command(OVERLAY, "ADD", &target);
        command.env("CNI_ARGS", arguments);
        host.finish(command, host.config.to_string().as_bytes())
    };
    with("IgnoreUnknown=1;IP=9.0.5.1").refusal(4);
    with("MAC=02:00").refusal(4);
    let result = with("IgnoreUnknown=1;IP=9.0.5.77;MAC=02:00:00:00:00:01").result();
    assert_eq!(address(&result), ip("9.0.5.77"));
    let eth0 = pod.netlink().observe_link("eth0").unwrap().unwrap();
    assert_eq!(eth0.mac.unwrap().to_string(), "02:00:00:00:00:01");
}

#[test]
fn ipv6_works_alike() {
    let (mut host, first, second) = (Host::new(), Namespace::new(), Namespace::new());
    host.config["ipam"]["subnet"] = json!("fd01:b::/80");
    host.config["ipam"]["routes"] = json!([{ "dst": "::/0" }]);
    let result = host.add("a", &first);
    let (a, b) = (address(&result), address(&host.add("b", &second)));
    assert_eq!(connect(&first, &second.listen(b), b).ip(), a);
    assert!(host.check("a", &first, &result).success);
}

/// The address plugin on its own, and as the delegate of the overlay plugin under a
/// name that it does not know.
#[test]
fn addresses_from_another_plugin() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    let target = container("c1", &pod);
    let input = host.config.to_string();
    let ipam = |verb| host.finish(host.command(IPAM, verb, &target), input.as_bytes());
    let result = ipam("ADD").result();
    assert_eq!(result["ips"][0]["address"], "9.0.5.2/25");
    assert_eq!(result["interfaces"], Value::Null);
    assert!(ipam("CHECK").success);
    assert!(ipam("DEL").success && ipam("DEL").success);
    ipam("CHECK").refusal(103);

    std::os::unix::fs::symlink(IPAM, host.dir.path().join("other-ipam")).unwrap();
    host.config["ipam"]["type"] = json!("other-ipam");
    let result = host.add("c1", &pod);
    assert_eq!(address(&result), ip("9.0.5.3"));
    assert!(host.check("c1", &pod, &result).success);
    let words = host.call("ADD", &target).refusal(101);
    assert!(words.contains("DEL comes before another ADD"), "{words}");
    assert!(host.check("c1", &pod, &result).success, "its address is still its own");
    host.call("DEL", &target).result();
    host.assert_nothing_left("delegated DEL");

    // What it refuses, the runtime reads in our answer.
    host.config["ipam"]["subnet"] = json!("nonsense");
    let words = host.call("ADD", &target).refusal(104);
    assert!(words.contains("ipam.subnet"), "{words}");
    host.config["ipam"]["type"] = json!("missing");
    let words = host.call("ADD", &target).refusal(7);
    assert!(words.contains("missing"), "{words}");
    host.assert_nothing_left("failed delegates");
}

/// A directory that cannot be written is an error in words, not a half-made container.
#[test]
fn no_room_for_leases() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    let file = host.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    host.config["ipam"]["dataDir"] = json!(file);
    let words = host.call("ADD", &container("c1", &pod)).refusal(5);
    assert!(words.contains("file/dcos"), "{words}");
    assert_eq!(host.pairs(), []);
}
