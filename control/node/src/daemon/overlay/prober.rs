//! The threads that find out how large packets to other nodes may be. A few of them, because each
//! waits for packets that get lost, and a router between two sites concerns many nodes at once.

use crate::daemon::core::Input;
use anyhow::Context;
use mizzen_kernel::path_mtu::probe_path;
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use tokio::sync::mpsc::UnboundedSender;
use tracing::debug;

const THREADS: usize = 4;

/// What to find out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    /// Which node.
    pub(super) peer: OwnerId,
    /// Its address under the tunnels.
    pub(super) address: IpAddr,
    /// The largest packet that is tried, in bytes.
    pub(super) size: u32,
    /// What an answer to that means.
    pub(super) purpose: Purpose,
}

/// Why a path is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// To know the largest packet.
    Search,
    /// To know whether what is known is still true.
    Check,
}

/// Takes questions.
pub(super) struct Prober {
    questions: Sender<Question>,
    /// Those that were not answered yet.
    open: Arc<Mutex<BTreeSet<Question>>>,
}

impl Prober {
    /// Starts the threads, in the network namespace of the calling one.
    pub(super) fn start(inputs: &UnboundedSender<Input>) -> anyhow::Result<Self> {
        let (questions, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let open = Arc::default();
        for _ in 0..THREADS {
            let (receiver, open, inputs) = (receiver.clone(), Arc::clone(&open), inputs.clone());
            thread::Builder::new()
                .name("path mtu".to_owned())
                .spawn(move || run(&receiver, &open, &inputs))
                .context("cannot start a thread that probes paths")?;
        }
        Ok(Self { questions, open })
    }

    /// Has it found out, unless that is under way.
    pub(super) fn ask(&self, question: Question) {
        if lock(&self.open).insert(question.clone()) {
            // The threads end with the process only.
            let _ = self.questions.send(question);
        }
    }
}

fn run(
    questions: &Mutex<Receiver<Question>>,
    open: &Mutex<BTreeSet<Question>>,
    inputs: &UnboundedSender<Input>,
) {
    loop {
        let Ok(question) = lock(questions).recv() else { return };
        let found = probe(&question);
        lock(open).remove(&question);
        if let Some(mtu) = found
            && inputs.send(Input::PathProbed(question.peer, mtu)).is_err()
        {
            return;
        }
    }
}

/// The largest packet, if that is news.
fn probe(question: &Question) -> Option<u32> {
    let Question { peer, address, size, purpose } = question;
    match probe_path(*address, *size) {
        Ok(Some(mtu)) if *purpose == Purpose::Search || mtu < *size => Some(mtu),
        Ok(Some(_)) => None,
        // One that does not answer may be down, or answer no echo requests.
        Ok(None) => {
            debug!(%peer, %address, "no answer to probes of the path");
            None
        }
        Err(error) => {
            debug!(%peer, %address, error = chain(&error), "the path cannot be probed");
            None
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
