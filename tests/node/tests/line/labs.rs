//! `mizzen lab` with nodes in it, as somebody tries it first.

use mizzen_tests_node::lab::{executable, mizzen};
use mizzen_tests_node::node::{Said, run};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// Runs a lab in a directory of its own, in which nothing may be left.
fn lab(arguments: &[&str], script: &str) -> Said {
    let temp = tempfile::tempdir().unwrap();
    let mut command = mizzen(&["lab"]);
    command.args(arguments).args(["--", "sh", "-c", script]).env("TMPDIR", temp.path());
    let said = run(command, LIMIT);
    let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}: {}", said.stderr);
    let id = said.stdout.lines().next().unwrap_or_default();
    let group = format!("/sys/fs/cgroup/unified/mizzen-lab-{id}");
    assert!(!Path::new(&group).exists(), "{group} is left");
    said
}

#[test]
fn a_lab_has_a_node_that_is_ready() {
    let said = lab(&[], "echo $MIZZEN_LAB; mizzen status && mizzen apps");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("leading") && said.stdout.contains("registered"),
        "{}",
        said.stdout
    );
}

#[test]
fn a_lab_clears_away_a_node_with_tasks() {
    let script = "echo $MIZZEN_LAB; echo '{\"id\":\"/sleep\",\"cmd\":\"sleep 1000\",\"cpus\":0.1}' | mizzen run - && mizzen tasks --json";
    let said = lab(&[], script);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let pid = said.stdout.lines().find_map(|line| line.trim().strip_prefix("\"pid\": "));
    let pid: u32 = pid.and_then(|text| text.trim_end_matches(',').parse().ok()).expect("a process");
    assert!(!mizzen_tests_node::kernel::runs(pid), "process {pid} is left");
}

#[test]
fn a_lab_has_as_many_nodes_as_it_is_asked_for() {
    let script = "echo $MIZZEN_LAB; for n in 1 2; do mizzen lab --enter $MIZZEN_LAB --node $n -- mizzen status --json; done";
    let said = lab(&["--nodes", "2"], script);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for address in ["172.31.255.1", "172.31.255.2"] {
        assert!(said.stdout.contains(&format!("\"address\": \"{address}\"")), "{}", said.stdout);
    }
}

#[test]
fn a_container_reaches_other_machines_under_its_nodes_address() {
    let server = executable("mizzen-test-server").display().to_string();
    let ask = format!("until {server} get 172.31.255.2 7000 /peer; do sleep 0.1; done; sleep 1000");
    let app = json!({
        "id": "/out", "cmd": ask, "cpus": 0.1, "mem": 32, "networks": [{ "mode": "container" }],
    });
    let script = format!(
        "echo $MIZZEN_LAB
         mizzen lab --enter $MIZZEN_LAB --node 2 -- {server} 7000 >/dev/null &
         echo '{app}' | mizzen run - >/dev/null || exit
         until mizzen logs out | grep .; do sleep 0.05; done"
    );
    let said = lab(&["--nodes", "2"], &script);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stdout.lines().nth(1), Some("172.31.255.1"), "{}", said.stdout);
}
