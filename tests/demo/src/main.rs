//! Shows one node doing the whole job, and fails if it does not.
//!
//! Run it inside a sandbox: `mizzen lab --no-node -- mizzen-demo`. It starts a node,
//! runs an app on it, and shows task, container, address, name and VIP as they come;
//! sends requests through the VIP, kills a task, kills the daemon under load, and
//! checks at each step what a user would rely on. With `--stay` it only starts the
//! node and the app, and leaves them running until it is interrupted. With `--cluster` it
//! shows three nodes: an app over all of them, one that is cut off and comes back, and a
//! master that is killed.

mod cluster;
mod cut;
mod far;
mod load;
mod node;
mod request;
mod steps;

use anyhow::{Result, bail};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: mizzen-demo [--stay] [APP.json]     (inside `mizzen lab --no-node --`)
       mizzen-demo --cluster [APP.json]  (inside `mizzen lab --no-node --nodes 3 --`)";

/// What the command line asks for.
enum Task {
    /// One node, or one that stays.
    Single { stay: bool, app: PathBuf },
    /// Several nodes.
    Cluster { app: PathBuf },
    /// Of a demonstration of several nodes: requests to a name from one of them.
    Ask { name: String, count: u32 },
    /// Likewise: requests until stdin ends.
    Load { address: SocketAddr, clients: usize },
}

fn main() -> ExitCode {
    let result = task().and_then(|task| match task {
        Task::Single { stay: true, app } => steps::stay(&app),
        Task::Single { stay: false, app } => steps::demo(&app),
        Task::Cluster { app } => cluster::demo(&app),
        Task::Ask { name, count } => far::answer(&name, count),
        Task::Load { address, clients } => far::load(address, clients),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn task() -> Result<Task> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let app = |rest: &[&str]| PathBuf::from(rest.first().copied().unwrap_or("examples/web.json"));
    let task = match words.as_slice() {
        ["--help" | "-h", ..] => {
            println!("{USAGE}");
            std::process::exit(0);
        }
        ["--ask", name, count] => Task::Ask { name: (*name).to_owned(), count: count.parse()? },
        ["--load", address, clients] => {
            Task::Load { address: address.parse()?, clients: clients.parse()? }
        }
        ["--stay", rest @ ..] => Task::Single { stay: true, app: app(rest) },
        ["--cluster", rest @ ..] => Task::Cluster { app: app(rest) },
        [option, ..] if option.starts_with('-') => bail!("unknown option {option}\n{USAGE}"),
        rest => Task::Single { stay: false, app: app(rest) },
    };
    if std::env::var_os("MIZZEN_STATE_DIR").is_none() {
        bail!("this is no sandbox\n{USAGE}");
    }
    Ok(task)
}
