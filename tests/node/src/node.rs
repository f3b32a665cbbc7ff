//! A node under test: its process, its log, and what its command line says.

use crate::lab::{ends_within, mizzen};
use crate::{SOON, eventually, lab, until_none};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a daemon may take to start or to stop.
const START_OR_STOP: Duration = Duration::from_secs(60);

/// How many lines of a log are shown when something failed.
const LOG_LINES: usize = 40;

/// A `mizzen node`; killed when dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    place: Place,
}

/// How a node is started, and where commands find it.
#[derive(Debug, Clone)]
pub struct Place {
    /// What runs the daemon, for example with fewer rights; nothing by default.
    through: Vec<String>,
    /// Beside which node of the lab it is.
    number: u8,
    flags: Vec<String>,
    /// `None` is the lab's own.
    run_dir: Option<PathBuf>,
    log: PathBuf,
}

/// What a command of the command line did.
#[derive(Debug)]
pub struct Said {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Place {
    /// The lab's node with more flags.
    #[must_use]
    pub fn new(flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (through, log) = (Vec::new(), lab::scratch("node.log"));
        Self { through, number: 1, flags, run_dir: None, log }
    }

    /// The node of the lab's place `number` (from 1), where the lab has several.
    #[must_use]
    pub fn at(number: u8, flags: &[&str]) -> Self {
        let log = lab::scratch(&format!("node-{number}.log"));
        Self { number, log, ..Self::new(flags) }
    }

    /// Runs a shell command beside the node.
    ///
    /// # Panics
    ///
    /// If it does not end.
    #[must_use]
    pub fn shell(&self, command: &str) -> Said {
        let on = self.number.to_string();
        run(mizzen(&["lab", "--on", &on, "--", "bash", "-c", command]), START_OR_STOP)
    }

    /// The same, with the daemon run by another program.
    #[must_use]
    pub fn through(mut self, program: &[&str]) -> Self {
        self.through = program.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// A node with a run directory and a log of its own.
    #[must_use]
    pub fn apart(name: &str, flags: &[&str]) -> Self {
        let run_dir = lab::scratch(&format!("run-{name}"));
        let mut place = Self::new(flags);
        place.flags.extend(["--run-dir".to_owned(), run_dir.display().to_string()]);
        Self { run_dir: Some(run_dir), log: lab::scratch(&format!("{name}.log")), ..place }
    }

    /// Starts a daemon and does not wait for it.
    ///
    /// # Panics
    ///
    /// If there is no such program.
    #[must_use]
    pub fn spawn(&self) -> Node {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        let child = self
            .daemon()
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .spawn()
            .expect("`mizzen node` starts");
        Node { child, place: self.clone() }
    }

    /// Starts a daemon and waits until it answers.
    #[must_use]
    pub fn start(&self) -> Node {
        let mut node = self.spawn();
        node.wait_ready();
        node
    }

    /// Runs `mizzen node` where it is expected to end by itself.
    ///
    /// # Panics
    ///
    /// If it does not end.
    #[must_use]
    pub fn run(&self, more: &[&str]) -> Said {
        let mut command = self.daemon();
        command.args(more);
        run(command, START_OR_STOP)
    }

    /// Runs `mizzen ARGUMENTS`, meant for this node.
    ///
    /// # Panics
    ///
    /// If it does not end.
    #[must_use]
    pub fn mizzen(&self, arguments: &[&str]) -> Said {
        run(self.command(arguments), START_OR_STOP)
    }

    /// `mizzen ARGUMENTS`, meant for this node.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.beside(arguments);
        if let Some(run_dir) = &self.run_dir {
            command.arg("--run-dir").arg(run_dir);
        }
        command
    }

    /// What `mizzen ARGUMENTS --json` says, or `None` if it failed.
    #[must_use]
    pub fn try_json(&self, arguments: &[&str]) -> Option<Value> {
        let said = self.mizzen(&[arguments, &["--json"]].concat());
        (said.code == Some(0)).then(|| serde_json::from_str(&said.stdout).ok())?
    }

    /// `mizzen ARGUMENTS` beside the node.
    fn beside(&self, arguments: &[&str]) -> Command {
        if self.number == 1 {
            return mizzen(arguments);
        }
        let (on, program) = (self.number.to_string(), lab::executable("mizzen"));
        let program = program.display().to_string();
        mizzen(&[&["lab", "--on", &on, "--", &program], arguments].concat())
    }

    fn daemon(&self) -> Command {
        let node = self.beside(&["node"]);
        let Some((program, words)) = self.through.split_first() else {
            let mut command = node;
            command.args(&self.flags);
            return command;
        };
        let mut command = Command::new(program);
        command.args(words).arg(node.get_program()).args(node.get_args()).args(&self.flags);
        command.stdin(Stdio::null());
        command
    }

    /// All lines that daemons at this place logged, without one that is being written.
    #[must_use]
    pub fn log(&self) -> String {
        let mut log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
        log
    }
}

impl Node {
    /// Starts the lab's node and waits until it answers.
    #[must_use]
    pub fn start(flags: &[&str]) -> Self {
        Place::new(flags).start()
    }

    /// Waits until it answers.
    ///
    /// # Panics
    ///
    /// If it ends, or does not answer in time.
    pub fn wait_ready(&mut self) {
        eventually("the node answers", START_OR_STOP, || {
            let ended = self.child.try_wait().expect("our own child can be waited for");
            assert!(ended.is_none(), "the node ended ({})", ended.unwrap_or_default());
            self.place.try_json(&["status"])
        });
    }

    /// How it was started.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Process id of the daemon.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the daemon without warning, as `kill -9` does.
    ///
    /// # Panics
    ///
    /// If it had ended already.
    pub fn kill(&mut self) {
        let ended = self.child.try_wait().expect("our own child can be waited for");
        assert_eq!(ended, None, "the node ended by itself");
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }

    /// Asks the daemon to end and waits until it did.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        ends_within(&mut self.child, START_OR_STOP).expect("the daemon ends after SIGTERM")
    }

    /// Sends the daemon a signal.
    ///
    /// # Panics
    ///
    /// If there is no daemon.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("the daemon can be signalled");
    }

    /// Whether the daemon runs.
    ///
    /// # Panics
    ///
    /// Never with a child of our own.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("our own child can be waited for").is_none()
    }

    /// Runs a command of the command line.
    #[must_use]
    pub fn mizzen(&self, arguments: &[&str]) -> Said {
        self.place.mizzen(arguments)
    }

    /// What a command that must succeed writes to stdout.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[must_use]
    pub fn text(&self, arguments: &[&str]) -> String {
        let said = self.mizzen(arguments);
        assert_eq!(said.code, Some(0), "`mizzen {}`: {}", arguments.join(" "), said.stderr);
        said.stdout
    }

    /// What `mizzen ARGUMENTS --json` says.
    ///
    /// # Panics
    ///
    /// If it fails, or says no JSON.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// What is wrong with the node, as `mizzen status` tells it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let status = self.json(&["status"]);
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until nothing is wrong with the node.
    pub fn await_well(&self) {
        until_none("problems", SOON, || self.problems());
    }

    /// Waits until the log has a line with all of `words`, and returns it.
    pub fn await_log(&self, words: &[&str]) -> String {
        eventually(&format!("the log has {words:?}"), SOON, || {
            let log = self.place.log();
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned)
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.place.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("end of {}:\n{}", self.place.log.display(), tail.join("\n"));
        }
    }
}

/// Runs a command to its end.
///
/// # Panics
///
/// If it does not end within `limit`.
#[must_use]
pub fn run(mut command: Command, limit: Duration) -> Said {
    let mut out = tempfile::tempfile().expect("a file");
    let mut err = tempfile::tempfile().expect("a file");
    let second = |file: &std::fs::File| Stdio::from(file.try_clone().expect("a descriptor"));
    let mut child = command
        .stdout(second(&out))
        .stderr(second(&err))
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let status = ends_within(&mut child, limit);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (contents(&mut out), contents(&mut err));
    let Some(status) = status else {
        panic!("{command:?} did not end within {limit:?}:\n{stdout}\n{stderr}");
    };
    Said { code: status.code(), stdout, stderr }
}

fn contents(file: &mut std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("our own file");
    String::from_utf8_lossy(&bytes).into_owned()
}
