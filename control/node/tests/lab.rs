//! `mizzen lab` on the real kernel, as root: what a sandbox keeps in, and that
//! nothing of it stays behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mizzen_netlink::in_namespace;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A temporary directory of a test, and labs in it.
struct Bench {
    temp: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    fn lab(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mizzen"));
        command.arg("lab").args(words).env("TMPDIR", self.temp.path()).stdin(Stdio::null());
        command
    }

    /// Runs a shell script in a lab without a node.
    fn script(&self, script: &str) -> Output {
        self.lab(&["--no-node", "--", "sh", "-c", script]).output().unwrap()
    }

    fn dir(&self, pid: u32) -> PathBuf {
        self.temp.path().join(format!("mizzen-lab-{pid}"))
    }

    fn assert_nothing_left(&self, pid: u32) {
        assert!(!self.dir(pid).exists(), "the directory is still there");
        assert_eq!(cgroups(pid), Vec::<PathBuf>::new());
    }
}

/// A lab that stands until it is told to end.
struct Standing {
    child: Child,
    dir: PathBuf,
}

impl Standing {
    fn start(bench: &Bench, words: &[&str]) -> Self {
        let mut all = vec!["--keep", "--no-node"];
        all.extend(words);
        let mut child = bench.lab(&all).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let stands = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("stands")));
        assert!(stands.is_some(), "the lab ended early");
        let dir = bench.dir(child.id());
        Self { child, dir }
    }

    /// Path of the network namespace of node `number`.
    fn network(&self, number: usize) -> PathBuf {
        let text = fs::read(self.dir.join("lab.json")).unwrap();
        let lab: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let fd = &lab["nodes"][number - 1]["network_fd"];
        PathBuf::from(format!("/proc/{}/fd/{fd}", self.child.id()))
    }

    fn end(&mut self, signal: rustix::process::Signal) -> std::process::ExitStatus {
        signal_to(self.child.id(), signal);
        self.child.wait().unwrap()
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end(rustix::process::Signal::TERM);
        }
    }
}

fn signal_to(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// The lab's cgroups that exist, in any hierarchy.
fn cgroups(pid: u32) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|words| words[2].starts_with("cgroup"))
        .map(|words| Path::new(words[1]).join(format!("mizzen-lab-{pid}")))
        .filter(|path| path.exists())
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn exists(pid: &str) -> bool {
    // A killed process that its parent has not looked at yet is gone as well.
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn the_exit_code_is_the_commands() {
    let bench = Bench::new();
    for (script, want) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)] {
        let output = bench.script(script);
        assert_eq!(output.status.code(), Some(want), "{script}: {}", text(&output.stderr));
    }
    let output = bench.lab(&["--no-node", "--", "/no/such/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(text(&output.stderr).contains("/no/such/program"));
}

#[test]
fn a_command_finds_itself_in_the_sandbox() {
    let bench = Bench::new();
    let output = bench.script(
        "cat /etc/resolv.conf; cat /proc/self/cgroup; echo state=$MIZZEN_STATE_DIR; \
         echo lab=$MIZZEN_LAB; echo mizzen=$(command -v mizzen); echo pwd=$(pwd); \
         echo vip=$MIZZEN_VIP_CGROUP root=$MIZZEN_CGROUP_ROOT; mizzen node --check-config",
    );
    let out = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(out.starts_with("nameserver 198.51.100.1\n"), "{out}");
    assert!(out.contains(&format!("mizzen={}", env!("CARGO_BIN_EXE_mizzen"))), "{out}");
    let here = std::env::current_dir().unwrap();
    assert!(out.contains(&format!("pwd={}\n", here.display())), "{out}");
    let pid = out.lines().find_map(|line| line.strip_prefix("lab=")).unwrap();
    assert!(out.contains(&format!("/mizzen-lab-{pid}/n1/state")), "{out}");
    assert!(out.contains(&format!("0::/mizzen-lab-{pid}/n1/host")), "{out}");
    assert!(
        out.contains(&format!("/mizzen-lab-{pid}/n1 root=mizzen-lab-{pid}/n1/mizzen")),
        "{out}"
    );
    assert!(out.contains("address = \"172.31.255.1\""), "a node sees its sandbox: {out}");
    assert!(out.contains("upstreams = []"), "and has nobody to ask: {out}");
}

#[test]
fn there_is_no_way_out() {
    let bench = Bench::new();
    let lab = Standing::start(&bench, &[]);
    let send = |to: &'static str| {
        in_namespace(&lab.network(1), move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).map_err(|error| error.kind())
        })
        .unwrap()
    };
    assert_eq!(send("192.0.2.1:9"), Err(ErrorKind::NetworkUnreachable));
    assert_eq!(send("10.0.0.1:9"), Err(ErrorKind::NetworkUnreachable));
    assert_eq!(send("127.0.0.1:9"), Ok(()));
    assert_eq!(send("172.31.255.1:9"), Ok(()));
}

#[test]
fn nodes_reach_each_other() {
    let bench = Bench::new();
    let lab = Standing::start(&bench, &["--nodes", "2"]);
    let bind = |number: usize| {
        let address = format!("172.31.255.{number}:4000");
        in_namespace(&lab.network(number), move || UdpSocket::bind(address).unwrap()).unwrap()
    };
    let (one, two) = (bind(1), bind(2));
    two.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    one.send_to(b"ahoy", "172.31.255.2:4000").unwrap();
    let mut buffer = [0; 16];
    let (length, from) = two.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"ahoy"[..], one.local_addr().unwrap()));
}

#[test]
fn a_node_can_be_unplugged() {
    let bench = Bench::new();
    let script = "
        mizzen lab --on 2 -- sh -c 'echo node $MIZZEN_LAB_NODE; ip -br link show eth0'
        mizzen lab --cut 2; mizzen lab --on 2 -- ip -br link show eth0
        mizzen lab --heal 2; mizzen lab --on 2 -- ip -br link show eth0
        mizzen lab --cut 3";
    let output =
        bench.lab(&["--no-node", "--nodes", "2", "--", "sh", "-c", script]).output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let words: Vec<&str> =
        out.lines().map(|line| line.split_whitespace().nth(1).unwrap_or_default()).collect();
    assert_eq!(words, ["2", "UP", "DOWN", "UP"], "{out}{err}");
    assert!(err.contains("has 2 nodes, no node 3"), "{err}");
}

#[test]
fn a_lab_can_be_entered() {
    let bench = Bench::new();
    let lab = Standing::start(&bench, &["--nodes", "2"]);
    let pid = lab.child.id().to_string();
    let enter = |node: &str| {
        let words =
            ["--enter", &pid, "--node", node, "--", "sh", "-c", "echo $MIZZEN_ADDRESS; exit 3"];
        bench.lab(&words).output().unwrap()
    };
    let output = enter("2");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("172.31.255.2\n", Some(3)));
    let output = enter("3");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("has 2 nodes, no node 3"), "{}", text(&output.stderr));
}

#[test]
fn nodes_run_in_it() {
    let bench = Bench::new();
    let script =
        "mizzen status --json; mizzen lab --enter $MIZZEN_LAB --node 2 -- mizzen status --json";
    let output = bench.lab(&["--nodes", "2", "--", "sh", "-c", script]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let answers: Vec<serde_json::Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    let addresses: Vec<_> = answers.iter().map(|answer| answer["address"].as_str()).collect();
    assert_eq!(addresses, [Some("172.31.255.1"), Some("172.31.255.2")]);
}

#[test]
fn the_bpf_file_system_is_its_own() {
    let bench = Bench::new();
    let name = format!("mizzen-test-{}", std::process::id());
    let output = bench
        .script(&format!("stat -f -c %T /sys/fs/bpf; mkdir /sys/fs/bpf/{name}; ls /sys/fs/bpf"));
    let out = text(&output.stdout);
    assert!(out.starts_with("bpf_fs\n") && out.contains(&name), "{out}{}", text(&output.stderr));
    assert!(!Path::new("/sys/fs/bpf").join(&name).exists());
}

#[test]
fn nothing_stays_behind() {
    let bench = Bench::new();
    let output = bench.script(
        "setsid sleep 1000 >/dev/null 2>&1 & echo $!; echo $MIZZEN_LAB; \
         mkdir -p $MIZZEN_STATE_DIR/deep; echo x > $MIZZEN_STATE_DIR/deep/file",
    );
    let out = text(&output.stdout);
    let [sleeper, lab] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    assert!(!exists(sleeper), "what ran inside is ended");
    bench.assert_nothing_left(lab.parse().unwrap());
}

#[test]
fn a_signal_ends_the_lab_and_what_runs_in_it() {
    use rustix::process::Signal;
    for (signal, want) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let bench = Bench::new();
        let script = "sleep 1000 & echo $!; wait";
        let mut child = bench
            .lab(&["--no-node", "--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut sleeper = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut sleeper).unwrap();
        signal_to(child.id(), signal);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(want));
        assert!(!exists(&sleeper), "what ran inside is ended");
        bench.assert_nothing_left(child.id());
    }
}

#[test]
fn the_next_lab_sweeps_after_one_that_was_killed() {
    let bench = Bench::new();
    let script = "setsid sleep 1000 & echo $!; wait";
    let mut child =
        bench.lab(&["--no-node", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut sleeper = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut sleeper).unwrap();
    signal_to(child.id(), rustix::process::Signal::KILL);
    child.wait().unwrap();
    assert!(bench.dir(child.id()).exists(), "nobody could clear away");

    // A lab that lives is none of its business.
    let living = Standing::start(&bench, &[]);
    assert!(!exists(&sleeper), "what ran in the dead one is ended");
    bench.assert_nothing_left(child.id());
    assert!(bench.script("true").status.success());
    assert!(living.dir.exists() && !cgroups(living.child.id()).is_empty());
}

#[test]
fn a_node_that_does_not_start_says_why() {
    let bench = Bench::new();
    let mut child = bench
        .lab(&["--", "true"])
        .env("MIZZEN_VIP_ENGINE", "magic")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(message.contains("MIZZEN_VIP_ENGINE: `magic` is not a VIP engine"), "{message}");
    assert!(message.contains("node 1 ended before it was ready"), "{message}");
    bench.assert_nothing_left(child.id());
}
