//! `mizzen doctor` on a machine where things are broken on purpose, with a daemon and without.

use mizzen_tests_node::apps::{self, deploy};
use mizzen_tests_node::node::{Node, Place, Said, run};
use mizzen_tests_node::{SOON, eventually, in_lab, kernel, lab};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;

/// What a check found that is not as it should be.
fn findings(place: &Place, check: &str) -> Vec<(String, String)> {
    let said = place.mizzen(&["doctor", "--json"]);
    let document: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| {
        panic!("{error} in {}{}", said.stdout, said.stderr);
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = document["findings"].as_array().cloned().unwrap_or_default();
    let of_it = all.iter().filter(|finding| finding["check"] == check && finding["grade"] != "ok");
    let found = of_it.map(|finding| {
        let is_told = finding["why"].is_string() && finding["remedy"].is_string();
        assert!(is_told || finding["grade"] == "skipped", "{finding}");
        (text(&finding["grade"]), text(&finding["what"]))
    });
    found.collect()
}

fn none() -> Vec<(String, String)> {
    Vec::new()
}

/// The one finding of a check.
fn the(place: &Place, check: &str, grade: &str) -> String {
    let found = findings(place, check);
    let [(found_grade, what)] = &found[..] else { panic!("one finding of {check}: {found:?}") };
    assert_eq!(found_grade, grade, "{what}");
    what.clone()
}

fn shell(place: &Place, command: &str) -> Said {
    let said = place.shell(command);
    assert_eq!(said.code, Some(0), "{command}: {}", said.stderr);
    said
}

#[test]
fn before_the_first_start() {
    in_lab(|| {
        let place = Place::new(&[]);
        let before = (kernel::links(), kernel::tables(), kernel::pins());
        assert_eq!(findings(&place, "ports"), none());
        assert_eq!(findings(&place, "leftovers"), none());
        assert_eq!(findings(&place, "kernel"), none(), "what tests run on can do everything");
        assert!(the(&place, "daemon", "skipped").contains("no daemon"));
        // The lab's resolv.conf names a resolver that does not run yet.
        assert!(the(&place, "resolv.conf", "error").contains("no daemon runs"));
        assert_eq!(place.mizzen(&["doctor"]).code, Some(1), "there is an error");

        let listener = TcpListener::bind(lab::at(5050)).unwrap();
        let what = the(&place, "ports", "error");
        let pid = format!("process {}", std::process::id());
        assert!(what.contains("master") && what.contains(&pid), "{what}");
        drop(listener);
        assert_eq!(findings(&place, "ports"), none());
        assert_eq!((kernel::links(), kernel::tables(), kernel::pins()), before, "it only looks");
    });
}

#[test]
fn beside_a_daemon() {
    in_lab(|| {
        let node = Node::start(&[]);
        let place = node.place();
        for check in
            ["daemon", "kernel", "settings", "ports", "leftovers", "resolv.conf", "firewall"]
        {
            assert_eq!(findings(&place, check), none(), "{check} of a node that is well");
        }
        shell(&place, "echo 0 > /proc/sys/net/ipv4/ip_forward");
        assert!(the(&place, "settings", "error").contains("ip_forward"));
        shell(&place, "echo 1 > /proc/sys/net/ipv4/ip_forward");
        assert_eq!(findings(&place, "settings"), none());

        // A bridge would be removed by the daemon.
        shell(&place, "ip link add m-old type veth && ip link set m-old alias 'mizzen default'");
        assert!(the(&place, "leftovers", "warning").contains("link m-old"));
        shell(&place, "ip link del m-old");

        shell(
            &place,
            "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
        );
        assert!(the(&place, "firewall", "error").contains("chain FORWARD of table ip filter"));
        shell(&place, "nft add rule ip filter FORWARD iifname m-dcos accept");
        assert_eq!(findings(&place, "firewall"), none());
        shell(
            &place,
            "nft 'add table ip nat; add chain ip nat OUT { type nat hook output priority -100; }; add rule ip nat OUT udp dport 53 redirect to :5353'",
        );
        assert!(
            the(&place, "firewall", "warning")
                .contains("sends elsewhere what is meant for port 53")
        );
        shell(&place, "nft 'delete table ip nat; delete table ip filter'");
        assert_eq!(findings(&place, "firewall"), none());

        // Ports in sets and ranges, and a rule at the end in place of a policy.
        shell(
            &place,
            "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; }; add rule inet fw in counter reject'",
        );
        let what = the(&place, "firewall", "warning");
        assert!(what.contains("chain in of table inet fw") && what.contains("62501"), "{what}");
        let remedy = "nft insert rule inet fw in meta l4proto '{ tcp, udp }' th dport";
        shell(&place, &format!("{remedy} '{{ 53, 5050-5051, 8080, 62501, 64000 }}' accept"));
        assert_eq!(findings(&place, "firewall"), none());
        shell(
            &place,
            "nft 'flush chain inet fw in; add rule inet fw in udp dport 63000-65000 drop'",
        );
        assert!(the(&place, "firewall", "warning").contains("port 64000"));
        shell(&place, "nft delete table inet fw");
        assert_eq!(findings(&place, "firewall"), none());

        let bridge = "ip link add cni0 type bridge && ip address add 9.0.200.1/24 dev cni0";
        shell(&place, bridge);
        assert!(the(&place, "addresses", "warning").contains("cni0 (9.0.200.1)"));
        shell(&place, "ip link del cni0");
        assert_eq!(findings(&place, "addresses"), none());
    });
}

#[test]
fn a_daemon_is_asked_what_it_was_started_with() {
    in_lab(|| {
        let node = Node::start(&["--roles", "vip"]);
        let place = node.place();
        // By the file this node would be everything, with a resolver at port 53.
        let listener = TcpListener::bind(lab::at(53)).unwrap();
        assert_eq!(findings(&place, "ports"), none());
        drop(listener);
    });
}

#[test]
fn after_a_daemon() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let place = node.place();
        node.kill();
        let what = the(&place, "leftovers", "warning");
        assert!(what.contains("m-dcos") && what.contains("nft table mizzen"), "{what}");
        let said = place.run(&["--teardown"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert_eq!(findings(&place, "leftovers"), none());
    });
}

#[test]
fn an_overlay_that_is_no_more_is_told_of_while_containers_are_in_it() {
    in_lab(|| {
        let mut node = Node::start(&["--overlay-networks", "web=10.128.0.0/12/24"]);
        let mut web = apps::web(1);
        web["networks"][0]["name"] = json!("web");
        deploy(&node, &web);
        assert_eq!(findings(&node.place(), "leftovers"), none());
        node.stop();

        let node = Node::start(&[]);
        let told = eventually("status tells", SOON, || {
            node.problems().into_iter().find(|text| text.contains("`web` is configured no more"))
        });
        assert!(told.contains("(1)"), "{told}");
        let what = the(&node.place(), "leftovers", "warning");
        assert!(what.contains("plugged into this (1)") && what.contains("m-web"), "{what}");

        let said = node.mizzen(&["rm", "/web"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        eventually("its link is gone", SOON, || {
            shell(&node.place(), "ip -o link show master m-web").stdout.is_empty().then_some(())
        });
        // Before the minute's look.
        shell(&node.place(), "ip link del m-dcos");
        node.await_well();
        assert_eq!(findings(&node.place(), "leftovers"), none());
    });
}

#[test]
fn without_rights_it_sees_less_and_says_so() {
    in_lab(|| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all", "--inh-caps", "-all"]);
        command.arg(lab::executable("mizzen")).args(["doctor", "--json"]);
        let said = run(command, SOON);
        let document: Value = serde_json::from_str(&said.stdout).expect(&said.stderr);
        assert!(document["skipped"].as_u64() >= Some(2), "{document:#}");
        let all = document["findings"].as_array().unwrap();
        let of_kernel = all.iter().find(|finding| finding["check"] == "kernel").unwrap();
        assert_eq!(of_kernel["grade"], "skipped", "what was not tried is not missing: {of_kernel}");
    });
}

#[test]
fn wrong_configurations_are_told() {
    in_lab(|| {
        let file = lab::scratch("wrong.toml");
        std::fs::write(&file, "[vip]\nengine = 'steam'\n").unwrap();
        let said = Place::new(&[]).mizzen(&["doctor", "--config", &file.display().to_string()]);
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("vip.engine"), "{}", said.stderr);
    });
}
