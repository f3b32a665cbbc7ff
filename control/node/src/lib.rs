//! The frame of the `mizzen` binary: command line, configuration, state lock, logs
//! and readiness around the daemon.
//!
//! Floor 3. `args` says what can be typed; [`node`] starts the daemon with a
//! [`config`] in force; [`lab`] makes a sandbox for it; [`cli`] talks to one that
//! runs; [`instance`] has every name by which a node marks what is its own.

pub mod args;
pub mod cli;
pub mod config;
pub mod daemon;
#[doc(hidden)]
pub mod fuzzing;
pub mod instance;
pub mod lab;
pub mod limits;
pub mod lock;
pub mod logging;
pub mod node;
pub mod notify;
mod several;

use args::{Command, Invocation};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

/// Exit code of a command that failed.
pub const FAILURE: u8 = 1;
/// Exit code of wrong usage.
pub const USAGE: u8 = 2;

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let Invocation { global, command, flags } = Invocation::parse(std::env::args_os());
    let result = match command {
        Command::Node(node) => node::run(&global.loader(environment, flags), &node),
        Command::Lab(lab) => lab::run(&lab),
        command => cli::run(&global, environment, flags, command),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILURE)
        }
    }
}

/// Says on stderr what went wrong, causes included.
fn complain(error: &anyhow::Error) {
    say(&format!("mizzen: {error:#}\n"));
}

/// Writes to stderr. Where nobody reads it any more there is nobody to tell, and
/// what has to be cleared away still has to (`eprintln!` would panic).
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
