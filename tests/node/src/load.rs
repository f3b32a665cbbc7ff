//! Requests without a pause, from a thread of their own.

use crate::http;
use mizzen_tests_support::wait::until;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// For some hundred requests, one of which may get no answer.
const MANY: Duration = Duration::from_secs(90);

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
    ///
    /// # Panics
    ///
    /// If that takes too long; the message has how many were.
    pub fn await_more(&self, count: u64) {
        let before = self.sent.load(Ordering::Relaxed);
        let sent = || self.sent.load(Ordering::Relaxed) - before;
        let enough = || Ok::<_, Infallible>((sent() >= count).then_some(()));
        let Ok(done) = until(MANY, crate::LOOK, enough);
        assert!(done.is_some(), "{} requests were sent in {MANY:?} instead of {count}", sent());
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
