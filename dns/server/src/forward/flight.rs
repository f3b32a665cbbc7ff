//! Questions that wait for upstreams, each once: who asks the same meanwhile waits with
//! the first.

use mizzen_dns_core::{CacheKey, Notice, Relayed};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

const SERVFAIL: u16 = 2;
/// Extended error "Other" (RFC 8914, 4.1).
const OTHER: u16 = 0;

/// What a flight brings to everybody who waits.
pub(super) type Outcome = Arc<Relayed>;

/// Everything under way.
#[derive(Debug)]
pub(super) struct Flights {
    running: Arc<Mutex<Running>>,
    /// Bounds flights and questions that are not shared.
    slots: Arc<Semaphore>,
}

type Running = HashMap<Box<[u8]>, Flight>;

#[derive(Debug)]
struct Flight {
    details: Arc<Details>,
    landing: watch::Receiver<Option<Outcome>>,
}

/// What a flight is known by if its question comes back to us.
#[derive(Debug)]
pub(super) struct Details {
    /// The name with the capitals that are sent.
    pub(super) spelling: Box<[u8]>,
    /// Whom it may ask.
    pub(super) asked: Vec<IpAddr>,
}

/// What became of the wish to know.
#[derive(Debug)]
pub(super) enum Joined {
    /// It is under way.
    Waits(Landing),
    /// Too much is under way already.
    Full,
}

/// Where the outcome will be.
#[derive(Debug)]
pub(super) struct Landing(watch::Receiver<Option<Outcome>>);

impl Flights {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { running: Arc::default(), slots: Arc::new(Semaphore::new(limit)) }
    }

    /// How many are under way.
    pub(super) fn count(&self) -> usize {
        self.running.lock().len()
    }

    /// A place for a question that is not shared.
    pub(super) fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.try_acquire().ok()
    }

    /// Waits with the flight of `key`; `start` makes one if there is none. It ends by
    /// itself, whoever still waits.
    pub(super) fn join<F>(&self, key: &CacheKey, start: impl FnOnce() -> (Details, F)) -> Joined
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut running = self.running.lock();
        if let Some(flight) = running.get(key.as_bytes()) {
            return Joined::Waits(Landing(flight.landing.clone()));
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return Joined::Full };
        let (details, course) = start();
        let (sender, landing) = watch::channel(None);
        let flight = Flight { details: Arc::new(details), landing: landing.clone() };
        running.insert(key.as_bytes().into(), flight);
        let over = Over { running: Arc::clone(&self.running), key: key.as_bytes().into() };
        tokio::spawn(async move {
            let outcome = course.await;
            // Whoever comes from now on finds the answer in the cache or starts anew.
            drop(over);
            let _ = sender.send(Some(outcome));
            drop(slot);
        });
        Joined::Waits(Landing(landing))
    }

    /// The flights of this name and type, with whatever flags.
    pub(super) fn of_name(&self, key: &CacheKey) -> Vec<Arc<Details>> {
        let running = self.running.lock();
        let found = key.of_any_flags().filter_map(|key| running.get(key.as_bytes()));
        found.map(|flight| Arc::clone(&flight.details)).collect()
    }
}

impl Landing {
    /// Waits for the end.
    pub(super) async fn outcome(mut self) -> Outcome {
        let landed = self.0.wait_for(Option::is_some).await;
        let outcome = landed.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| {
            let notice = Notice { code: OTHER, text: "resolver stops" };
            Arc::new(Relayed::bare(SERVFAIL, Some(notice)))
        })
    }
}

/// Takes a flight off the list, also if its runtime ends first.
struct Over {
    running: Arc<Mutex<Running>>,
    key: Box<[u8]>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
    }
}
