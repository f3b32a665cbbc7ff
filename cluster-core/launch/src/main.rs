//! `mizzen-launch`: the small single-threaded parent of one container.
//!
//! The daemon is threaded, and a threaded process must not clone itself into a
//! container; besides, a container has to outlive the daemon. So each container has
//! a parent of its own, started fresh, which needs nobody once the task runs.
//!
//! ```text
//! daemon ──spec──▶ mizzen-launch ──fork──▶ init (pid 1) ──fork──▶ the task
//!        ◀─Ready──  cgroups, net ns         mounts, hostname       user, files, exec
//!        ──Go─────▶ waits for init          reaps, forwards
//!        ◀─Forked─  writes `status`         ends with the task, and all else with it
//! ```
//!
//! The words on both pipes are in [`mizzen_types::container`]. [`launch`] is the
//! parent, [`init`] the first process inside with its [`filesystem`], [`task`] the
//! last steps before the exec; [`enter`] runs a command in a running container.

mod channel;
mod enter;
mod failure;
mod filesystem;
mod init;
mod launch;
mod network;
mod process;
mod status;
mod task;

use std::ffi::OsString;
use std::process::ExitCode;

const HELP: &str = "\
The parent of one mizzen container.

Usage:
  mizzen-launch
      Reads a launch specification (one JSON line) from stdin, prepares the container,
      says `ready`, waits for the go line, runs the task and waits for its end. How it
      ended is written to the file `status` of the container's run directory.
      The daemon does this; there is no reason to do it by hand.

  mizzen-launch enter --pid PID [--parent PID] [--cwd DIR] [--user NAME]
                      [--environment-from-stdin] [--] COMMAND [ARGUMENT…]
      Runs a command in the namespaces and cgroups of the container whose first process
      is PID, and a child of the other PID if that is given. Ends with the command's exit
      code (128 + N if signal N ended it, 125 if it could not be run). Its environment is
      the caller's, or a JSON object on stdin.

Options:
  -h, --help     This text
  -V, --version  The version
";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().map(|first| first.to_string_lossy()).as_deref() {
        None => launch::run(),
        Some("enter") => enter::run(&arguments[1..]),
        Some("-h" | "--help") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some("-V" | "--version") => {
            println!("mizzen-launch {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(other) => {
            eprintln!("mizzen-launch: unknown argument `{other}`; try --help");
            ExitCode::from(2)
        }
    }
}
