//! The thread that finds out how large packets to other nodes may be, one node at a time.

use crate::daemon::core::Input;
use anyhow::Context;
use mizzen_kernel::path_mtu::probe_path;
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use tokio::sync::mpsc::UnboundedSender;
use tracing::debug;

/// What to find out.
#[derive(Debug)]
pub(super) struct Question {
    /// Which node.
    pub(super) peer: OwnerId,
    /// Its address under the tunnels.
    pub(super) address: IpAddr,
    /// The largest packet that this node's link takes, in bytes.
    pub(super) largest: u32,
}

/// Starts the thread, in the network namespace of the calling one.
pub(super) fn start(inputs: UnboundedSender<Input>) -> anyhow::Result<Sender<Question>> {
    let (questions, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("path mtu".to_owned())
        .spawn(move || run(&receiver, &inputs))
        .context("cannot start the thread that probes paths")?;
    Ok(questions)
}

fn run(questions: &Receiver<Question>, inputs: &UnboundedSender<Input>) {
    while let Ok(Question { peer, address, largest }) = questions.recv() {
        match probe_path(address, largest) {
            // One that does not answer may be down, or answer no echo requests.
            Ok(None) => debug!(%peer, %address, "no answer to probes of the path"),
            Ok(Some(mtu)) => {
                if inputs.send(Input::PathProbed(peer, mtu)).is_err() {
                    return;
                }
            }
            Err(error) => {
                debug!(%peer, %address, error = chain(&error), "the path cannot be probed");
            }
        }
    }
}
