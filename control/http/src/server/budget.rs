//! How many connections there may be at a time.
//!
//! A connection takes a descriptor, and descriptors are what containers and probes need
//! as well. So all listeners share one budget, which leaves half of the descriptors to
//! the rest of the daemon. A unix socket has a small one of its own.

use crate::limits::Limits;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What there is for all listeners.
pub struct Budget {
    all: Arc<Semaphore>,
    most: usize,
    admin: usize,
}

/// What there is for one listener.
pub struct Share {
    all: Option<Arc<Semaphore>>,
    own: Arc<Semaphore>,
}

/// The right to one connection, given back by being dropped.
pub struct Permit {
    _own: OwnedSemaphorePermit,
    _all: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// For a process that may have `descriptors`; `None` is any number.
    pub fn new(limits: &Limits, descriptors: Option<u64>) -> Self {
        let half = usize::try_from(descriptors.unwrap_or(u64::MAX) / 2).unwrap_or(usize::MAX);
        let total = limits.connections.min(half).clamp(1, Semaphore::MAX_PERMITS);
        let all = Arc::new(Semaphore::new(total));
        // A flood of one listener leaves the others something.
        Self { all, most: total - total / 4, admin: limits.admin_connections }
    }

    /// For a listener that everybody can reach.
    pub fn share(&self) -> Share {
        Share { all: Some(Arc::clone(&self.all)), own: Arc::new(Semaphore::new(self.most)) }
    }

    /// For a listener that only the operator can reach.
    pub fn admin_share(&self) -> Share {
        Share { all: None, own: Arc::new(Semaphore::new(self.admin)) }
    }
}

impl Share {
    /// One more connection, if there may be one.
    pub fn take(&self) -> Option<Permit> {
        let own = Arc::clone(&self.own).try_acquire_owned().ok()?;
        let all = match &self.all {
            Some(all) => Some(Arc::clone(all).try_acquire_owned().ok()?),
            None => None,
        };
        Some(Permit { _own: own, _all: all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(share: &Share) -> Vec<Permit> {
        std::iter::from_fn(|| share.take()).collect()
    }

    #[test]
    fn half_of_the_descriptors_at_most() {
        #[rustfmt::skip]
        let table = [
            // connections, descriptors, one listener, all listeners
            (4096,          Some(1024),  384,          512),
            (4096,          Some(20_000), 3072,        4096),
            (100,           None,        75,           100),
            (4096,          Some(0),     1,            1),
        ];
        for (connections, descriptors, one, all) in table {
            let limits = Limits { connections, ..Limits::default() };
            let budget = Budget::new(&limits, descriptors);
            let (first, second) = (budget.share(), budget.share());
            let mut taken = take(&first);
            assert_eq!(taken.len(), one, "{connections} of {descriptors:?}");
            taken.extend(take(&second));
            assert_eq!(taken.len(), all, "{connections} of {descriptors:?}");
            assert_eq!(take(&budget.admin_share()).len(), limits.admin_connections);
            taken.pop();
            assert!(second.take().is_some() || all == 1, "what ended makes room");
        }
    }
}
