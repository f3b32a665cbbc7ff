//! Containers and the death of the daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::{LAUNCHER, Node, runs, until};
use mizzen_types::container::{Exit, LaunchEvent, LaunchGo, NetworkMode};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Set in the process that plays the daemon.
const PLAY: &str = "MIZZEN_TEST_DAEMON";

/// Not a test of its own: the daemon of the next one, in a process of its own. It
/// launches a container and then hangs until it is killed.
#[tokio::test]
async fn daemon_that_will_be_killed() {
    let Ok(directory) = std::env::var(PLAY) else { return };
    let (directory, root) = directory.split_once(';').unwrap();
    let node = Node::attached(directory.as_ref(), root);
    let shell = "echo ready; while [ ! -e stop ]; do sleep 0.01; done; exit 5";
    let launched = node.containers.launch(node.request("c", shell)).await.unwrap();
    println!("launched {} {}", launched.launcher, launched.pid);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_container_outlives_the_daemon_and_is_found_again() {
    let node = Node::new("outlive");
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["daemon_that_will_be_killed", "--exact", "--nocapture"])
        .env(PLAY, format!("{};{}", node.directory.display(), node.root))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find_map(|line| line.split_once("launched ").map(|(_, pids)| pids.to_owned()))
        .unwrap();
    let (launcher, pid) = line.split_once(' ').unwrap();
    let (launcher, pid): (u32, u32) = (launcher.parse().unwrap(), pid.parse().unwrap());
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    node.written("c", "ready").await;
    let containers = node.restarted();
    let found = containers.recover().unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].running && found[0].id == "c");
    let launched = found[0].launched.clone().unwrap();
    assert_eq!((launched.launcher, launched.pid), (launcher, pid));

    let waiting = tokio::spawn({
        let containers = containers.clone();
        async move { containers.wait("c").await }
    });
    fs::write(node.sandbox("c").join("stop"), "").unwrap();
    assert_eq!(waiting.await.unwrap().exit, Exit::Code(5));
    // And once more, when nothing runs any longer.
    let later = node.restarted();
    assert!(!later.recover().unwrap()[0].running);
    assert_eq!(later.wait("c").await.exit, Exit::Code(5));
    later.destroy("c").await.unwrap();
    assert_eq!(node.traces("c"), Vec::<String>::new());
    assert_eq!(later.recover().unwrap(), []);
}

#[tokio::test]
async fn a_new_daemon_can_signal_and_destroy() {
    let node = Node::new("takeover");
    let launched = node.containers.launch(node.request("c", "exec sleep 1000")).await.unwrap();
    let containers = node.restarted();
    containers.signal("c", 15).await.unwrap();
    assert_eq!(containers.wait("c").await.exit, Exit::Signal(15));
    let launched_again =
        node.containers.launch(node.request("d", "exec sleep 1000")).await.unwrap();
    containers.destroy("d").await.unwrap();
    for pid in [launched.pid, launched_again.pid, launched_again.launcher] {
        assert!(!runs(pid));
    }
}

#[tokio::test]
async fn without_go_nothing_runs() {
    let node = Node::new("nogo");
    let mut request = node.request("c", "touch ran");
    request.spec.network = NetworkMode::Container;
    request.spec.run_dir = node.run_dir("c");
    fs::create_dir_all(node.run_dir("c")).unwrap();

    let mut launcher = Command::new(LAUNCHER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = launcher.stdin.take().unwrap();
    let spec = serde_json::to_string(&request.spec).unwrap();
    writeln!(input, "{spec}").unwrap();
    let mut output = BufReader::new(launcher.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let ready: LaunchEvent = serde_json::from_str(&line).unwrap();
    assert_eq!(ready, LaunchEvent::Ready { launcher: launcher.id() });
    assert!(!node.traces("c")[0].is_empty(), "the namespace is mounted");

    // It dies in the middle of a word.
    let go = serde_json::to_string(&LaunchGo::default()).unwrap();
    write!(input, "{}", &go[..go.len() / 2]).unwrap();
    drop(input);
    assert!(launcher.wait().unwrap().success());
    line.clear();
    assert_eq!(output.read_line(&mut line).unwrap(), 0, "{line}");
    assert!(!node.sandbox("c").join("ran").exists());
    assert_eq!(node.traces("c"), [node.run_dir("c").display().to_string()]);

    let containers = node.restarted();
    let found = containers.recover().unwrap();
    assert!(!found[0].running && found[0].launched.is_none());
    containers.destroy("c").await.unwrap();
    assert_eq!(node.traces("c"), Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_launcher_leaves_an_unknown_end() {
    let node = Node::new("lost");
    let launched = node.containers.launch(node.request("c", "exec sleep 1000")).await.unwrap();
    let pid = launched.launcher.to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let containers = node.restarted();
    assert_eq!(containers.wait("c").await.exit, Exit::Unknown);
    until(|| !runs(launched.pid)).await;
    assert!(!containers.recover().unwrap()[0].running);
}

#[test]
fn the_command_line_explains_itself() {
    let run = |arguments: &[&str]| Command::new(LAUNCHER).args(arguments).output().unwrap();
    let help = run(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("mizzen-launch enter --pid PID"));
    let unknown = run(&["--what"]);
    assert_eq!(unknown.status.code(), Some(2));
    let gone = run(&["enter", "--pid", "4194304", "--", "true"]);
    assert_eq!(gone.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("cannot open /proc/4194304/ns/ipc"));
}
