//! Requests to a service: so many, or without a pause until told to stop.

use crate::request::{Lost, request, request_or_lost};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A load ends by itself after this many requests.
const MOST_REQUESTS: u64 = 2_000_000;

/// `count` requests to a name, resolved anew for each one; answers counted by body.
pub(crate) fn by_name(name: &str, port: u16, count: u32) -> Result<BTreeMap<String, u32>> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let address = resolve(name, port)?;
        *answers.entry(request(address)?).or_default() += 1;
    }
    Ok(answers)
}

/// The address of a name, as any program gets it.
pub(crate) fn resolve(name: &str, port: u16) -> Result<SocketAddr> {
    let mut addresses =
        (name, port).to_socket_addrs().with_context(|| format!("cannot resolve {name}"))?;
    addresses.next().with_context(|| format!("{name} has no address"))
}

/// What a load has seen.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub requests: u64,
    /// Answers by what they say: the task that gave them.
    pub answers: BTreeMap<String, u64>,
    pub failures: Vec<Lost>,
    pub slowest: Duration,
}

impl Seen {
    /// Both together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.requests += other.requests;
        for (task, count) in other.answers {
            *self.answers.entry(task).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
        self
    }
}

/// Requests one after the other, in a thread of their own.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Load {
    /// Starts to send, with so much time between two requests.
    pub(crate) fn start(address: SocketAddr, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !told.load(Ordering::Relaxed) && seen.requests < MOST_REQUESTS {
                let started = Instant::now();
                match request_or_lost(address) {
                    Ok(task) => *seen.answers.entry(task).or_default() += 1,
                    Err(lost) => seen.failures.push(lost),
                }
                seen.requests += 1;
                seen.slowest = seen.slowest.max(started.elapsed());
                if !pause.is_zero() {
                    std::thread::sleep(pause);
                }
            }
            seen
        });
        Self { stop, thread }
    }

    /// Stops, and tells what was seen.
    pub(crate) fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the load's thread ended early"))
    }
}
