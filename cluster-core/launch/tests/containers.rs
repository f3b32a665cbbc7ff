//! What a task finds inside its container, and what is known of it outside.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::{Node, runs, until};
use mizzen_isolators::{LaunchFailure, LauncherError, SignalError};
use mizzen_types::container::{CommandSpec, Exit, MountSpec};
use mizzen_types::error::chain;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const TERM: i32 = 15;
const KILL: i32 = 9;

#[tokio::test]
async fn exit_codes_and_signals_are_told() {
    let node = Node::new("exits");
    for (id, shell, want) in [
        ("zero", "true", Exit::Code(0)),
        ("three", "exit 3", Exit::Code(3)),
        ("segv", "kill -SEGV $$", Exit::Signal(11)),
    ] {
        node.containers.launch(node.request(id, shell)).await.unwrap();
        let ended = node.containers.wait(id).await;
        assert_eq!((ended.exit, ended.oom), (want, None), "{id}");
        node.containers.destroy(id).await.unwrap();
        assert_eq!(node.traces(id), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_environment_is_the_given_one_and_nothing_else() {
    let node = Node::new("environment");
    let mut request = node.request("c", "");
    request.spec.command = CommandSpec::Exec {
        program: "env".to_owned(),
        arguments: vec!["env".to_owned(), "-0".to_owned()],
    };
    request.spec.environment.insert("A".to_owned(), "one\ntwo".to_owned());
    node.containers.launch(request).await.unwrap();
    assert_eq!(node.containers.wait("c").await.exit, Exit::Code(0));
    assert_eq!(node.stdout("c"), "A=one\ntwo\0PATH=/usr/bin:/bin\0");
}

#[tokio::test]
async fn no_descriptor_and_no_signal_setting_of_the_daemon_gets_in() {
    let node = Node::new("descriptors");
    // The runtime of this test has a lot of them open.
    let shell = "ls -l /proc/self/fd | sed -n 's/.*-> //p'; cat /proc/self/status | grep Sig[BIC]";
    node.containers.launch(node.request("c", shell)).await.unwrap();
    node.containers.wait("c").await;
    let text = node.stdout("c");
    let sandbox = node.sandbox("c");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("/dev/null"));
    // In a pipeline the output of `ls` is a pipe.
    assert!(lines.next().unwrap().starts_with("pipe:"));
    assert_eq!(lines.next(), Some(&*sandbox.join("stderr").to_string_lossy()));
    assert!(lines.next().unwrap().starts_with("/proc/"), "{text}");
    let signals: Vec<&str> = lines.collect();
    assert_eq!(signals.len(), 3, "{text}");
    assert!(signals.iter().all(|line| line.ends_with("\t0000000000000000")), "{text}");
}

#[tokio::test]
async fn a_task_runs_as_its_user_in_its_sandbox() {
    let node = Node::new("user");
    let shell = "id -un; id -Gn; pwd; echo problem >&2";
    let mut request = node.request("c", shell);
    request.spec.user = Some("nobody".to_owned());
    fs::write(node.sandbox("c").join("stdout"), "before\n").unwrap();
    node.containers.launch(request).await.unwrap();
    assert_eq!(node.containers.wait("c").await.exit, Exit::Code(0));
    let sandbox = node.sandbox("c");
    assert_eq!(node.stdout("c"), format!("before\nnobody\nnogroup\n{}\n", sandbox.display()));
    assert_eq!(node.stderr("c"), "problem\n");
    let metadata = fs::metadata(sandbox.join("stderr")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (65534, 0o644));
}

#[tokio::test]
async fn namespaces_are_private() {
    let node = Node::new("namespaces");
    let shell = "hostname; cat /etc/hostname; echo $$; readlink /proc/1/exe; \
                 ls -d /proc/[0-9]* | wc -l; touch /dev/shm/mine; ls /dev/shm; grep -c nsfs /proc/mounts";
    node.containers.launch(node.request("c", shell)).await.unwrap();
    node.containers.wait("c").await;
    let text = node.stdout("c");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], ["box", "box", "2", common::LAUNCHER], "{text}");
    // The first process, the shell, and what the shell runs.
    assert!(lines[4].parse::<u32>().unwrap() <= 4, "{text}");
    assert_eq!(lines[5..], ["mine", "0"], "{text}");
    assert!(!fs::exists("/dev/shm/mine").unwrap());
    assert_ne!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim(), "box");
}

#[tokio::test]
async fn volumes_are_bound_and_may_be_read_only() {
    let node = Node::new("volumes");
    let source = node.directory.join("volume");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "from outside\n").unwrap();
    let shell =
        "cat data/deep/file; echo more >> data/deep/file; cat /mnt/file; echo no > /mnt/file";
    let mut request = node.request("c", shell);
    let mount = |target: &str, read_only| MountSpec {
        source: source.clone(),
        target: target.into(),
        read_only,
    };
    request.spec.mounts = vec![mount("data/deep", false), mount("/mnt", true)];
    node.containers.launch(request).await.unwrap();
    node.containers.wait("c").await;
    assert_eq!(node.stdout("c"), "from outside\nfrom outside\nmore\n");
    assert!(node.stderr("c").contains("Read-only file system"), "{}", node.stderr("c"));
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "from outside\nmore\n");
    assert!(!fs::exists("/mnt/file").unwrap(), "the host's is another one");
}

#[tokio::test]
async fn a_volume_cannot_leave_the_sandbox() {
    let node = Node::new("escape");
    let mut request = node.request("c", "true");
    std::os::unix::fs::symlink("/tmp", node.sandbox("c").join("link")).unwrap();
    for target in ["link/made", "../made"] {
        request.spec.mounts = vec![MountSpec {
            source: node.directory.clone(),
            target: target.into(),
            read_only: false,
        }];
        let error = node.containers.launch(request.clone()).await.unwrap_err();
        assert!(chain(&error).contains("cannot bind"), "{}", chain(&error));
    }
    assert!(!fs::exists("/tmp/made").unwrap());
}

#[tokio::test]
async fn sigterm_reaches_everything_in_the_container() {
    let node = Node::new("term");
    let shell = "trap 'echo parent' TERM; \
                 (trap 'echo child; exit' TERM; echo ready; while :; do sleep 0.01; done) & \
                 wait; wait; exit 7";
    let launched = node.containers.launch(node.request("c", shell)).await.unwrap();
    node.written("c", "ready").await;
    node.containers.signal("c", TERM).await.unwrap();
    assert_eq!(node.containers.wait("c").await.exit, Exit::Code(7));
    let text = node.stdout("c");
    assert!(text.contains("child") && text.contains("parent"), "{text}");
    assert!(!runs(launched.pid) && !runs(launched.launcher));
    let error = node.containers.signal("c", TERM).await.unwrap_err();
    assert!(matches!(error, SignalError::NotRunning { .. }));
}

#[tokio::test]
async fn a_process_without_handlers_dies_of_sigterm() {
    let node = Node::new("default");
    node.containers.launch(node.request("c", "exec sleep 1000")).await.unwrap();
    node.containers.signal("c", TERM).await.unwrap();
    assert_eq!(node.containers.wait("c").await.exit, Exit::Signal(TERM));
}

#[tokio::test]
async fn the_launcher_forwards_sigterm() {
    let node = Node::new("forward");
    let launched = node.containers.launch(node.request("c", "exec sleep 1000")).await.unwrap();
    kill(launched.launcher, "TERM");
    assert_eq!(node.containers.wait("c").await.exit, Exit::Signal(TERM));
}

#[tokio::test]
async fn a_killed_container_takes_all_its_processes_along() {
    let node = Node::new("kill");
    let shell = "setsid sleep 1000 & nohup sleep 1000 & echo ready; wait";
    let launched = node.containers.launch(node.request("c", shell)).await.unwrap();
    node.written("c", "ready").await;
    node.containers.signal("c", KILL).await.unwrap();
    assert_eq!(node.containers.wait("c").await.exit, Exit::Signal(KILL));
    assert!(!runs(launched.pid));
    assert_eq!(node.containers.statistics("c").pids, Some(0));
}

#[tokio::test]
async fn what_the_task_leaves_behind_ends_with_it() {
    let node = Node::new("orphans");
    let shell = "setsid sleep 1000 & exit 4";
    node.containers.launch(node.request("c", shell)).await.unwrap();
    assert_eq!(node.containers.wait("c").await.exit, Exit::Code(4));
    assert_eq!(node.containers.statistics("c").pids, Some(0));
}

#[tokio::test]
async fn a_container_dies_with_its_launcher() {
    let node = Node::new("parent");
    let launched = node.containers.launch(node.request("c", "exec sleep 1000")).await.unwrap();
    kill(launched.launcher, "KILL");
    assert_eq!(node.containers.wait("c").await.exit, Exit::Unknown);
    until(|| !runs(launched.pid)).await;
    node.containers.destroy("c").await.unwrap();
    assert_eq!(node.traces("c"), Vec::<String>::new());
}

#[tokio::test]
async fn a_memory_hog_is_ended_by_the_kernel() {
    let node = Node::new("oom");
    let request = node.request("c", "exec tail /dev/zero");
    node.containers.launch(request).await.unwrap();
    let ended = node.containers.wait("c").await;
    assert_eq!(ended.exit, Exit::Signal(KILL));
    let oom = ended.oom.expect("the kernel has killed it");
    assert_eq!(oom.limit_bytes, 32 << 20);
    assert_eq!(oom.message, "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB");
}

#[tokio::test]
async fn a_fork_bomb_stays_in_its_container() {
    let node = Node::new("bomb");
    let shell = "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); done; echo all";
    let mut request = node.request("c", shell);
    request.limits.pids = Some(20);
    node.containers.launch(request).await.unwrap();
    // The shell gives up when it cannot fork.
    assert_eq!(node.containers.wait("c").await.exit, Exit::Code(2));
    assert!(node.stderr("c").contains("Cannot fork"), "{}", node.stderr("c"));
    assert_eq!(node.stdout("c"), "");

    let mut request = node.request("d", "b() { b | b & }; echo on; b & exec sleep 1000");
    request.limits.pids = Some(20);
    node.containers.launch(request).await.unwrap();
    node.written("d", "on").await;
    assert!(node.containers.statistics("d").pids.unwrap() <= 20);
    node.containers.destroy("d").await.unwrap();
    assert_eq!(node.traces("d"), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_started_says_why_and_leaves_nothing() {
    let node = Node::new("refused");
    let exec = |program: &str| CommandSpec::Exec {
        program: program.to_owned(),
        arguments: vec![program.to_owned()],
    };
    let cases: [(&str, CommandSpec, Option<&str>, &str); 4] = [
        ("missing", exec("no-such-program"), None, "cannot execute `no-such-program`: No such"),
        ("plain", exec("./file"), Some("nobody"), "cannot execute `./file`: Permission"),
        ("user", exec("true"), Some("no-one"), "cannot look up user `no-one`: no such user"),
        ("nul", exec("a\0b"), None, "cannot execute `a\0b`: nul byte"),
    ];
    for (id, command, user, want) in cases {
        let mut request = node.request(id, "");
        fs::write(node.sandbox(id).join("file"), "not a program").unwrap();
        request.spec.command = command;
        request.spec.user = user.map(str::to_owned);
        let error = node.containers.launch(request).await.unwrap_err();
        let failed = matches!(error.failure, LaunchFailure::Launcher(LauncherError::Failed { .. }));
        assert!(failed && chain(&error).contains(want), "{id}: {}", chain(&error));
        assert!(error.leftovers.is_empty());
        assert_eq!(node.traces(id), Vec::<String>::new());
    }
    let mut request = node.request("sandbox", "true");
    request.spec.sandbox = "/nowhere".into();
    let error = node.containers.launch(request).await.unwrap_err();
    assert!(chain(&error).contains("sandbox /nowhere: No such file"), "{}", chain(&error));
}

#[tokio::test]
async fn an_id_is_used_once_and_is_a_plain_name() {
    let node = Node::new("id");
    node.containers.launch(node.request("c", "exec sleep 1000")).await.unwrap();
    let error = node.containers.launch(node.request("c", "true")).await.unwrap_err();
    assert!(matches!(error.failure, LaunchFailure::Exists));
    node.containers.signal("c", TERM).await.expect("the first one runs on");
    for id in ["", "..", "a/b"] {
        let mut request = node.request("d", "true");
        request.spec.id = id.to_owned();
        let error = node.containers.launch(request).await.unwrap_err();
        assert!(matches!(error.failure, LaunchFailure::BadRequest { .. }), "{id}");
    }
}

#[tokio::test]
async fn many_start_and_end_at_once() {
    let node = Node::new("many");
    let mut running = tokio::task::JoinSet::new();
    for code in 0..24 {
        let id = format!("c{code}");
        let request = node.request(&id, &format!("exit {code}"));
        let containers = node.containers.clone();
        running.spawn(async move {
            containers.launch(request).await.unwrap();
            assert_eq!(containers.wait(&id).await.exit, Exit::Code(code));
            containers.destroy(&id).await.unwrap();
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    assert_eq!(node.containers.recover().unwrap(), []);
}

#[tokio::test]
async fn a_kill_during_the_launch_waits_and_wins() {
    let node = Node::new("race");
    let request = node.request("c", "exec sleep 1000");
    let containers = node.containers.clone();
    let launching = tokio::spawn(async move { containers.launch(request).await });
    until(|| node.run_dir("c").exists()).await;
    let waiting = tokio::spawn({
        let containers = node.containers.clone();
        async move { containers.wait("c").await }
    });
    node.containers.destroy("c").await.unwrap();
    assert_eq!(waiting.await.unwrap().exit, Exit::Signal(KILL));
    let launched = launching.await.unwrap().unwrap();
    assert!(!runs(launched.pid) && !runs(launched.launcher));
    assert_eq!(node.traces("c"), Vec::<String>::new());
}

#[tokio::test]
async fn a_waiting_launcher_is_small() {
    let node = Node::new("small");
    let launched = node.containers.launch(node.request("c", "exec sleep 1000")).await.unwrap();
    for pid in [launched.launcher, launched.pid] {
        until(|| own_kib(pid) <= 512).await;
    }
}

#[tokio::test]
async fn commands_run_inside() {
    let node = Node::new("inside");
    let mut request = node.request("c", "echo ready; exec sleep 1000");
    request.spec.user = Some("nobody".to_owned());
    request.spec.environment.insert("A".to_owned(), "b".to_owned());
    node.containers.launch(request).await.unwrap();
    node.written("c", "ready").await;
    let shell = |text: &str| CommandSpec::Shell(text.to_owned());
    let long = Duration::from_secs(60);

    let own = BTreeMap::from([("OWN".to_owned(), "its own".to_owned())]);
    let text = "hostname; id -un; pwd; echo $A$OWN; cat /proc/2/comm; echo no >&2; exit 9";
    let outcome = node.containers.run_in("c", &shell(text), &own, long).await.unwrap();
    let sandbox = node.sandbox("c");
    assert_eq!(outcome.stdout, format!("box\nnobody\n{}\nbits own\nsleep\n", sandbox.display()));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(9), "no\n"));

    let cgroup = node
        .containers
        .run_in("c", &shell("cat /proc/self/cgroup"), &BTreeMap::new(), long)
        .await
        .unwrap();
    let below = format!(":/{}/c", node.root);
    assert!(cgroup.stdout.contains(&format!("memory{below}")), "{}", cgroup.stdout);
    assert!(cgroup.stdout.contains(&format!("0:{below}")), "{}", cgroup.stdout);

    let missing = CommandSpec::Exec {
        program: "no-such-check".to_owned(),
        arguments: vec!["no-such-check".to_owned()],
    };
    let outcome = node.containers.run_in("c", &missing, &BTreeMap::new(), long).await.unwrap();
    assert_eq!(outcome.code, Some(125));
    assert!(outcome.stderr.contains("No such file"), "{}", outcome.stderr);

    let slow = shell("echo begun; sleep 1000 & sleep 1000");
    let outcome =
        node.containers.run_in("c", &slow, &BTreeMap::new(), Duration::from_secs(5)).await.unwrap();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (None, "begun\n"));
    // The task, and nothing of the check.
    until(|| node.containers.statistics("c").pids == Some(1)).await;
}

#[tokio::test]
async fn destroying_may_be_repeated_and_tells_those_who_wait() {
    let node = Node::new("destroy");
    let launched = node.containers.launch(node.request("c", "exec sleep 1000")).await.unwrap();
    let containers = node.containers.clone();
    let waiting = tokio::spawn(async move { containers.wait("c").await });
    tokio::task::yield_now().await;
    node.containers.destroy("c").await.unwrap();
    assert_eq!(waiting.await.unwrap().exit, Exit::Signal(KILL));
    assert!(!runs(launched.pid) && !runs(launched.launcher));
    assert_eq!(node.traces("c"), Vec::<String>::new());
    node.containers.destroy("c").await.unwrap();
    assert_eq!(node.containers.wait("c").await.exit, Exit::Unknown);
}

fn kill(pid: u32, signal: &str) {
    let status = std::process::Command::new("kill").args(["-s", signal, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// What a process has for itself. How much of the files that it shares with others is counted beside that depends on
/// what the kernel happens to hold of them.
fn own_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
