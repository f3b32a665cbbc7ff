//! Requests from other nodes of the sandbox: this program, run beside them.

use crate::load::{Load, Seen, by_name};
use crate::node::program_on;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Three nodes share one machine's processors with all of their clients.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends `count` requests to a name from node `number`; answers counted by body.
pub(crate) fn ask_from(number: usize, name: &str, count: u32) -> Result<BTreeMap<String, u32>> {
    let words = ["--ask", name, &count.to_string()];
    let output = program_on(number, "mizzen-demo", &words).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "from node {number}: {}", said.trim());
    serde_json::from_slice(&output.stdout).context("what the other node answered is not JSON")
}

/// The other side of [`ask_from`].
pub(crate) fn answer(name: &str, count: u32) -> Result<()> {
    let answers = by_name(name, crate::steps::PORT, count)?;
    report(&answers)
}

/// Requests without end from one node, by several clients at a time.
pub(crate) struct FarLoad {
    number: usize,
    child: Child,
}

impl FarLoad {
    /// Starts to send.
    pub(crate) fn start(number: usize, address: SocketAddr, clients: usize) -> Result<Self> {
        let words = ["--load", &address.to_string(), &clients.to_string()];
        let mut command = program_on(number, "mizzen-demo", &words);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        Ok(Self { number, child })
    }

    /// Stops, and tells what was seen.
    pub(crate) fn stop(mut self) -> Result<Seen> {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output()?;
        let mut seen: Seen =
            serde_json::from_slice(&output.stdout).context("what a load has seen is not JSON")?;
        for failure in &mut seen.failures {
            failure.why = format!("from node {}: {}", self.number, failure.why);
        }
        Ok(seen)
    }
}

/// The other side of [`FarLoad`].
pub(crate) fn load(address: SocketAddr, clients: usize) -> Result<()> {
    let loads: Vec<Load> = (0..clients).map(|_| Load::start(address, PAUSE)).collect();
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let seen = loads
        .into_iter()
        .try_fold(Seen::default(), |seen, load| load.stop().map(|more| seen.and(more)))?;
    report(&seen)
}

/// Whoever started this program may have failed, and be gone.
fn report(seen: &impl Serialize) -> Result<()> {
    serde_json::to_writer(std::io::stdout(), seen).context("nobody reads what was seen")
}
