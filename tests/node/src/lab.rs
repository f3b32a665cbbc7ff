//! A test enters its own lab by running itself again in there.

use rustix::process::{Pid, Signal};
use std::fs::File;
use std::io::{Read, Seek};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Set inside of a lab.
const INSIDE: &str = "MIZZEN_TEST_IN_LAB";

/// Printed when a body came to its end, because a test executable that knows no test
/// of the name it is given ends well, too.
const FINISHED: &str = "the body of the test came to its end";

/// How long a test may take, its lab included.
const LIMIT: Duration = Duration::from_secs(300);

/// How long a lab may take to clear away.
const CLEARING: Duration = Duration::from_secs(60);

/// Runs `body` in a lab of its own: outside of one, runs the calling test again
/// inside. Must be the whole of the test function.
///
/// # Panics
///
/// If the test fails inside; the message has all that was said there.
pub fn in_lab<F: FnOnce()>(body: F) {
    in_lab_of(1, body);
}

/// The same with the places of several nodes; the body runs in that of the first.
///
/// # Panics
///
/// As [`in_lab`].
pub fn in_lab_of<F: FnOnce()>(nodes: u8, body: F) {
    if std::env::var_os(INSIDE).is_some() {
        body();
        println!("{FINISHED}");
        return;
    }
    let name = test_name::<F>();
    let mut output = tempfile::tempfile().expect("a file for the output");
    let lab = start(&name, nodes, &output);
    let status = wait(lab);
    output.rewind().expect("the file of the output");
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).expect("the file of the output");
    let said = String::from_utf8_lossy(&bytes);
    match status {
        Some(status) => assert!(
            status.success() && said.contains(FINISHED),
            "`{name}` failed in its lab ({status}):\n{said}"
        ),
        None => panic!("`{name}` was still running after {LIMIT:?} in its lab:\n{said}"),
    }
}

/// An executable of the build that is tested.
///
/// # Panics
///
/// If it has not been built.
#[must_use]
pub fn executable(name: &str) -> PathBuf {
    let path = build_dir().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build` first", path.display());
    path
}

/// The node's address in the lab.
///
/// # Panics
///
/// Outside of a lab.
#[must_use]
pub fn address() -> IpAddr {
    variable("MIZZEN_ADDRESS").parse().expect("MIZZEN_ADDRESS is an address")
}

/// A port on the node's address.
#[must_use]
pub fn at(port: u16) -> SocketAddr {
    SocketAddr::new(address(), port)
}

/// The node's state directory, as the lab has it.
#[must_use]
pub fn state_dir() -> PathBuf {
    variable("MIZZEN_STATE_DIR").into()
}

/// A path beside the state directory, for a test's own files.
#[must_use]
pub fn scratch(name: &str) -> PathBuf {
    state_dir().parent().unwrap_or(Path::new("/")).join(name)
}

/// A variable that the lab sets.
///
/// # Panics
///
/// If it is not set: this is no lab.
#[must_use]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: not in a lab"))
}

/// `mizzen ARGUMENTS`, as somebody in the lab would run it.
#[must_use]
pub fn mizzen(arguments: &[&str]) -> Command {
    let mut command = Command::new(executable("mizzen"));
    command.args(arguments).env_remove(INSIDE).stdin(Stdio::null());
    command
}

/// The test function that a closure was written in; the test harness knows it by its
/// path without the crate.
fn test_name<F>() -> String {
    let path = std::any::type_name::<F>();
    let path = path.split("::{{closure}}").next().unwrap_or(path);
    path.split_once("::").map_or(path, |(_, name)| name).to_owned()
}

fn build_dir() -> PathBuf {
    let executable = std::env::current_exe().expect("the path of this executable");
    let deps = executable.parent().expect("a directory");
    let is_deps = deps.file_name().is_some_and(|name| name == "deps");
    if is_deps { deps.parent().expect("a directory").to_owned() } else { deps.to_owned() }
}

fn start(name: &str, nodes: u8, output: &File) -> Child {
    let test = std::env::current_exe().expect("the path of this executable");
    let file = |file: &File| Stdio::from(file.try_clone().expect("a second descriptor"));
    Command::new(executable("mizzen"))
        .args(["lab", "--no-node", "--nodes", &nodes.to_string(), "--"])
        .arg(test)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(file(output))
        .stderr(file(output))
        .spawn()
        .expect("`mizzen lab` starts")
}

/// How the lab ended; `None` if it had to be ended.
fn wait(mut lab: Child) -> Option<ExitStatus> {
    if let Some(status) = ends_within(&mut lab, LIMIT) {
        return Some(status);
    }
    // It is our child and not waited for, so the number is still its own.
    if let Some(pid) = Pid::from_raw(lab.id().cast_signed()) {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    if ends_within(&mut lab, CLEARING).is_none() {
        let _ = lab.kill();
        let _ = lab.wait();
    }
    None
}

/// How a child ended, if it did within `limit`.
pub(crate) fn ends_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("our own child can be waited for") {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
