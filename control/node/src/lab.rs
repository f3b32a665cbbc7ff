//! `mizzen lab`: a sandbox in which a node can be tried without touching the
//! machine.
//!
//! ```text
//!  the machine │ mizzen lab ── keeps the namespaces, a directory and cgroups
//!  ────────────┼───────────────────────────────────────────────────────────
//!  underlay    │ bridge ──┬───────────────────┬──      (no way out)
//!  node 1, 2 … │ eth0 172.31.255.1    eth0 172.31.255.2
//!              │ mizzen node, COMMAND mizzen node
//! ```
//!
//! The lab's process never enters the sandbox itself. Whoever runs inside is
//! started as `mizzen lab --enter`, a fresh process that joins cgroups and
//! namespaces before it becomes the program: no fork of a process with threads,
//! and `/sys` stays the machine's, with its cgroups.

mod cgroups;
mod enter;
mod error;
mod links;
mod namespaces;
mod nodes;
mod sandbox;
mod signals;
mod sweep;

pub use error::LabError;

use crate::args::LabArgs;
use links::Cable;
use nodes::{Node, Part};
use sandbox::Sandbox;
use signals::{Event, Signals};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitCode, ExitStatus};
use std::time::Duration;

/// How long the command may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(5);

/// What a shell returns for a command that it could not start.
const NOT_STARTED: u8 = 127;

/// Makes a sandbox, runs a command in it, and clears it away; or enters one.
///
/// # Errors
///
/// What stood in the way. The command's own failure is its exit code.
pub fn run(args: &LabArgs) -> anyhow::Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot.into());
    }
    if let Some(pid) = args.enter {
        return enter(pid, args.node, args);
    }
    if let Some(node) = args.on {
        return enter(surrounding()?, node, args);
    }
    for (node, cable) in [(args.cut, Cable::Unplugged), (args.heal, Cable::Plugged)] {
        if let Some(node) = node {
            enter::set_cable(surrounding()?, usize::from(node), cable)?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let signals = Signals::block()?;
    for error in sweep::sweep() {
        crate::complain(&anyhow::Error::from(error).context("clearing away after an older lab"));
    }
    match in_sandbox(args, &signals) {
        Ok(code) => Ok(code),
        Err(LabError::Interrupted { signal }) => Ok(signal_code(signal)),
        Err(error) => Err(error.into()),
    }
}

fn enter(pid: u32, node: u8, args: &LabArgs) -> anyhow::Result<ExitCode> {
    match enter::enter(pid, usize::from(node), &args.command) {
        Ok(never) => match never {},
        Err(error @ LabError::Start { .. }) => {
            crate::complain(&error.into());
            Ok(ExitCode::from(NOT_STARTED))
        }
        Err(error) => Err(error.into()),
    }
}

/// The lab that this process is in.
fn surrounding() -> Result<u32, LabError> {
    let pid = std::env::var("MIZZEN_LAB").ok().and_then(|pid| pid.parse().ok());
    pid.ok_or(LabError::Outside)
}

fn in_sandbox(args: &LabArgs, signals: &Signals) -> Result<ExitCode, LabError> {
    if std::io::stderr().is_terminal() {
        crate::say(&format!("mizzen: making a sandbox {}\n", contents(args)));
    }
    let sandbox = Sandbox::create(usize::from(args.nodes))?;
    let mut nodes = Vec::new();
    let result = start_nodes(args, &sandbox, &mut nodes, signals)
        .inspect_err(|error| show_log(error, &nodes))
        .and_then(|()| run_command(args, signals));
    for node in nodes {
        if let Err(error) = node.tear_down(signals) {
            crate::complain(&error.into());
        }
    }
    drop(sandbox);
    result
}

/// What will be in a sandbox.
fn contents(args: &LabArgs) -> String {
    match (args.no_node, args.nodes) {
        (true, 1) => "without a node".to_owned(),
        (true, nodes) => format!("with the places of {nodes} nodes"),
        (false, 1) => "with a node in it".to_owned(),
        (false, nodes) => format!("with a cluster of {nodes} nodes in it"),
    }
}

fn start_nodes(
    args: &LabArgs,
    sandbox: &Sandbox,
    nodes: &mut Vec<Node>,
    signals: &Signals,
) -> Result<(), LabError> {
    if args.no_node {
        return Ok(());
    }
    let mut places = (1..).zip(&sandbox.nodes);
    let Some((number, first)) = places.next() else { return Ok(()) };
    nodes.push(Node::start(number, first, Part::Begin)?);
    Node::wait_ready(nodes, signals)?;
    if sandbox.nodes.len() == 1 {
        return Ok(());
    }
    let token = join_token(signals)?;
    for (number, place) in places {
        nodes.push(Node::start(number, place, Part::Join(&token))?);
    }
    Node::wait_ready(nodes, signals)
}

/// What lets all other nodes in.
fn join_token(signals: &Signals) -> Result<String, LabError> {
    let executable = std::env::current_exe().map_err(LabError::process("find the executable"))?;
    let words = ["join-token", "--uses", "1000", "--json"].map(OsString::from);
    let command: Vec<OsString> = [executable.into()].into_iter().chain(words).collect();
    let said = nodes::output(&mut nodes::entering(1, &command)?, signals)?;
    let answer: Option<serde_json::Value> = serde_json::from_slice(&said).ok();
    let token = answer.as_ref().and_then(|answer| answer["token"].as_str());
    token.map(str::to_owned).ok_or(LabError::NoToken)
}

fn show_log(error: &LabError, nodes: &[Node]) {
    if !matches!(error, LabError::NodeEnded { .. } | LabError::NodeLate { .. }) {
        return;
    }
    for node in nodes {
        crate::say(&node.log_tail());
    }
}

/// Runs the command and returns its exit code; with `--keep` waits for a signal
/// afterwards.
fn run_command(args: &LabArgs, signals: &Signals) -> Result<ExitCode, LabError> {
    let pid = std::process::id();
    let interactive = args.command.is_empty();
    let mut code = ExitCode::SUCCESS;
    if !(args.keep && interactive) {
        if interactive && std::io::stderr().is_terminal() {
            crate::say(&format!("mizzen: lab {pid}; it is gone when this shell ends\n"));
        }
        let mut child = nodes::entering(1, &args.command)?
            .spawn()
            .map_err(|source| LabError::Start { program: "mizzen".to_owned(), source })?;
        code = wait_for_command(&mut child, signals)?;
    }
    if args.keep {
        crate::say(&format!(
            "mizzen: lab {pid} stands\n  enter it:  mizzen lab --enter {pid} [-- COMMAND]\n  \
             end it:    kill {pid}\n"
        ));
        while !matches!(signals.wait(&[], None)?, Event::Stop { .. }) {}
    }
    Ok(code)
}

fn wait_for_command(child: &mut Child, signals: &Signals) -> Result<ExitCode, LabError> {
    loop {
        let ended = child.try_wait().map_err(LabError::process("wait for the command"))?;
        if let Some(status) = ended {
            return Ok(exit_code(status));
        }
        match signals.wait(&[], None)? {
            // The command got it as well and decides for itself, as a shell would.
            Event::Stop { typed: true, .. } => {}
            Event::Stop { signal, .. } => {
                nodes::terminate(child);
                nodes::wait(child, signals, GRACE)?;
                return Err(LabError::Interrupted { signal });
            }
            Event::Child | Event::Readable | Event::Timeout => {}
        }
    }
}

/// As a shell has it: 128 and the signal where there is no code.
fn exit_code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(crate::FAILURE)),
        (None, Some(signal)) => signal_code(signal),
        (None, None) => ExitCode::from(crate::FAILURE),
    }
}

fn signal_code(signal: i32) -> ExitCode {
    ExitCode::from(128_u8.saturating_add(u8::try_from(signal).unwrap_or_default()))
}
