//! Requests without a pause, from a thread of their own.

use crate::http;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What a load has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Answers by their text.
    pub answers: BTreeMap<String, u64>,
    /// What went wrong.
    pub failures: Vec<String>,
}

/// A thread that sends requests, each on a connection of its own.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Seen>,
}

impl Load {
    /// Starts to send.
    #[must_use]
    pub fn start(at: SocketAddr) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !told.load(Ordering::Relaxed) {
                match http::get(at, "/") {
                    Ok(answer) => *seen.answers.entry(answer.text()).or_default() += 1,
                    Err(error) => seen.failures.push(error.to_string()),
                }
                counter.fetch_add(1, Ordering::Relaxed);
            }
            seen
        });
        Self { stop, sent, thread }
    }

    /// Waits until so many more requests were sent.
    pub fn await_more(&self, count: u64) {
        let goal = self.sent.load(Ordering::Relaxed) + count;
        crate::eventually(&format!("{count} requests were sent"), crate::SOON, || {
            (self.sent.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    /// Stops, and tells what was seen.
    ///
    /// # Panics
    ///
    /// If the thread did.
    #[must_use]
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load's thread")
    }
}
