//! What can be changed while the server runs: whom to ask, and who may ask.

use crate::access::Access;
use crate::forward::Forwarder;
use parking_lot::RwLock;
use std::cell::{Ref, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How names of others are treated.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) forwarder: Forwarder,
    pub(crate) access: Access,
}

/// Rules between many readers and, now and then, one writer.
#[derive(Debug)]
pub(crate) struct SharedRules {
    current: RwLock<Arc<Rules>>,
    /// Grows with each change.
    version: AtomicU64,
}

/// The rules as one thread last saw them, so that most looks touch nothing that threads
/// share but a number.
#[derive(Debug)]
pub(crate) struct SeenRules(RefCell<(u64, Arc<Rules>)>);

impl Rules {
    /// Whether names that are somebody else's are asked for.
    pub(crate) fn recursion_available(&self) -> bool {
        !self.forwarder.is_empty()
    }
}

impl SharedRules {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { current: RwLock::new(Arc::new(rules)), version: AtomicU64::new(0) }
    }

    /// Those in force. Whoever has them may go on by them.
    pub(crate) fn get(&self) -> Arc<Rules> {
        Arc::clone(&self.current.read())
    }

    pub(crate) fn set(&self, rules: Rules) {
        *self.current.write() = Arc::new(rules);
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl SeenRules {
    pub(crate) fn new(shared: &SharedRules) -> Self {
        let version = shared.version.load(Ordering::Acquire);
        Self(RefCell::new((version, shared.get())))
    }

    /// Those in force.
    pub(crate) fn get(&self, shared: &SharedRules) -> Ref<'_, Rules> {
        let version = shared.version.load(Ordering::Acquire);
        if self.0.borrow().0 != version {
            self.0.replace((version, shared.get()));
        }
        Ref::map(self.0.borrow(), |(_, rules)| &**rules)
    }
}
