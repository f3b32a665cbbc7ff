//! Shows one node doing the whole job, and fails if it does not.
//!
//! Run it inside a sandbox: `mizzen lab --no-node -- mizzen-demo`. It starts a node,
//! runs an app on it, and shows task, container, address, name and VIP as they come;
//! sends requests through the VIP, kills a task, kills the daemon under load, and
//! checks at each step what a user would rely on. With `--stay` it only starts the
//! node and the app, and leaves them running until it is interrupted.

mod load;
mod node;
mod steps;

use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: mizzen-demo [--stay] [APP.json]   (inside `mizzen lab --no-node --`)";

/// What the command line asks for.
struct Arguments {
    stay: bool,
    app: PathBuf,
}

fn main() -> ExitCode {
    let result = arguments().and_then(|arguments| match arguments.stay {
        true => steps::stay(&arguments.app),
        false => steps::demo(&arguments.app),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments> {
    let mut arguments = Arguments { stay: false, app: PathBuf::from("examples/web.json") };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--stay" => arguments.stay = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            option if option.starts_with('-') => bail!("unknown option {option}\n{USAGE}"),
            path => arguments.app = PathBuf::from(path),
        }
    }
    if std::env::var_os("MIZZEN_STATE_DIR").is_none() {
        bail!("this is no sandbox\n{USAGE}");
    }
    Ok(arguments)
}
