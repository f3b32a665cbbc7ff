//! A configuration with mistakes, and one that changes while the node runs.

use mizzen_tests_node::apps::deploy_web;
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, in_lab, kernel, lab};
use rustix::process::Signal;
use std::path::PathBuf;

/// The lab's configuration file.
fn file() -> PathBuf {
    lab::variable("MIZZEN_CONFIG").into()
}

#[test]
fn all_mistakes_are_told_at_once_with_their_place() {
    in_lab(|| {
        let text = "[vip]\nengin = 'off'\n\n[overlay]\nmtu = 'big'\nsubnet = '10.0.0.0/24'\n";
        std::fs::write(file(), text).unwrap();
        let links = kernel::links();
        let said = Place::new(&["--dns-port", "0"]).run(&[]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
        let file = file().display().to_string();
        for (place, words) in [
            (format!("{file}:2: vip.engin: "), "`vip.engine`"),
            (format!("{file}:5: overlay.mtu: "), "integer"),
            (format!("{file}:6: overlay.subnet: "), "10.0.0.0/24"),
            ("--dns-port: ".to_owned(), "not a port"),
        ] {
            let mut lines = said.stderr.lines();
            let found = lines.any(|line| line.contains(&place) && line.contains(words));
            assert!(found, "{place} … {words} in\n{}", said.stderr);
        }
        assert!(said.stderr.contains("4 mistakes"), "{}", said.stderr);
        assert_eq!(kernel::links(), links, "nothing was touched");
    });
}

#[test]
fn sighup_applies_what_it_can_and_refuses_the_rest_by_name() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let task = deploy_web(&node, 1).remove(0);
        assert!(!node.place().log().contains(" DEBUG "), "not before it is asked for");

        let text = "[log]\nlevel = 'debug'\n[overlay]\nmtu = 1400\n[dns]\nttl = 7\n";
        std::fs::write(file(), text).unwrap();
        node.signal(Signal::HUP);
        let line = node.await_log(&["overlay.mtu"]);
        assert!(line.contains("refused") && line.contains("restart"), "{line}");
        node.await_log(&["log.level"]);
        let problems = eventually("it is a problem", SOON, || {
            Some(node.problems()).filter(|problems| !problems.is_empty())
        });
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(problem.contains("restart") && problem.contains("overlay.mtu"), "{problem}");
        assert_eq!(node.mizzen(&["scale", "web", "2"]).code, Some(0));
        node.await_log(&[" DEBUG "]);
        assert_eq!(node.json(&["status"])["overlay"]["mtu"], 1420, "as it was");

        std::fs::write(file(), "[log]\nlevel = 'loud'\n").unwrap();
        node.signal(Signal::HUP);
        let line = node.await_log(&["`loud`"]);
        assert!(line.contains("log.level") && line.contains("mizzen.toml:2"), "{line}");
        assert!(node.runs() && kernel::runs(task.pid), "a bad file changes nothing");
        assert_eq!(dns::addresses(By::Udp, "leader.mesos"), [lab::address()]);
        eventually("it is a problem", SOON, || {
            node.problems().iter().any(|text| text.contains("mizzen.toml:2")).then_some(())
        });

        std::fs::write(file(), "[log]\nlevel = 'info'\n").unwrap();
        node.signal(Signal::HUP);
        node.await_well();
    });
}

#[test]
fn roles_that_need_another_one_are_a_mistake() {
    in_lab(|| {
        let place = Place::new(&["--roles", "services,dns,vip,overlay"]);
        for more in [&["--check-config"][..], &[]] {
            let said = place.run(more);
            assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{more:?}");
            let want = "--roles: `services` needs `master`";
            assert!(said.stderr.contains(want), "{}", said.stderr);
        }
    });
}

#[test]
fn a_file_that_is_not_there_has_no_lines() {
    in_lab(|| {
        let said = Place::new(&["--config", "/nonexistent.toml"]).run(&["--check-config"]);
        assert_eq!(said.code, Some(1));
        let want = "/nonexistent.toml: cannot read this file";
        assert!(said.stderr.contains(want), "{}", said.stderr);
    });
}

#[test]
fn a_part_that_is_off_is_not_there() {
    in_lab(|| {
        let node = Node::start(&["--roles", "dns"]);
        let status = node.json(&["status"]);
        for part in ["master", "agent", "vips", "overlay"] {
            assert!(status.get(part).is_none(), "{part} in {status:#}");
        }
        let refused = |port: u16| std::net::TcpStream::connect(lab::at(port)).is_err();
        assert!(refused(5050) && refused(5051) && refused(8080));
        assert!(!kernel::links().contains("m-dcos") && kernel::pins().is_empty());
        assert_eq!(dns::addresses(By::Tcp, "ready.spartan").len(), 1);
        assert_eq!(node.json(&["tasks"]), serde_json::json!([]), "other nodes have none either");
        let said = node.mizzen(&["logs", "web"]);
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("no task `web`"), "{}", said.stderr);
        let said = node.mizzen(&["vips"]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
        assert!(said.stderr.contains("`vip`"), "{}", said.stderr);
    });
}

#[test]
fn log_lines_can_be_json() {
    in_lab(|| {
        let node = Node::start(&["--log-format", "json"]);
        deploy_web(&node, 1);
        let log = node.place().log();
        assert!(log.lines().count() > 3, "{log}");
        for line in log.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect(line);
            assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
        }
    });
}
