//! One connection to an upstream for all who ask it.
//!
//! A task of its own makes the connection, and who asks waits for it. Whoever gives up takes
//! nothing with him: an upstream whose handshake takes longer than a question may is connected
//! to all the same, and the next questions find the connection.

use super::UpstreamError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long making a connection may take.
const LONGEST: Duration = Duration::from_secs(30);

/// What became of a connection; none yet while it is made.
type Made<C> = Option<Result<C, Arc<UpstreamError>>>;

/// The present connection, whose handles are clones of one another.
#[derive(Debug)]
pub(super) struct Shared<C> {
    current: Mutex<Option<watch::Receiver<Made<C>>>>,
}

impl<C> Default for Shared<C> {
    fn default() -> Self {
        Self { current: Mutex::default() }
    }
}

impl<C: Clone + Send + Sync + 'static> Shared<C> {
    /// The connection, if `is_usable`; else one that `connect` makes, or that is being made.
    pub(super) async fn get<F>(
        &self,
        is_usable: impl Fn(&C) -> bool,
        connect: impl FnOnce() -> F,
    ) -> Result<C, UpstreamError>
    where
        F: Future<Output = Result<C, UpstreamError>> + Send + 'static,
    {
        let mut made = self.current_or(is_usable, connect);
        let made = made.wait_for(Option::is_some).await.map_err(|_| UpstreamError::Closed)?;
        match made.as_ref() {
            Some(Ok(connection)) => Ok(connection.clone()),
            Some(Err(error)) => Err(UpstreamError::NoConnection(Arc::clone(error))),
            None => Err(UpstreamError::Closed),
        }
    }

    fn current_or<F>(
        &self,
        is_usable: impl Fn(&C) -> bool,
        connect: impl FnOnce() -> F,
    ) -> watch::Receiver<Made<C>>
    where
        F: Future<Output = Result<C, UpstreamError>> + Send + 'static,
    {
        let mut current = self.current.lock();
        if let Some(known) = current.as_ref() {
            let serves = match known.borrow().as_ref() {
                Some(Ok(connection)) => is_usable(connection),
                Some(Err(_)) => false,
                // Nobody makes it any more if its maker is gone.
                None => known.has_changed().is_ok(),
            };
            if serves {
                return known.clone();
            }
        }
        let (said, made) = watch::channel(None);
        let connecting = timeout(LONGEST, connect());
        tokio::spawn(async move {
            let made = connecting.await.unwrap_or(Err(UpstreamError::TimedOut(LONGEST)));
            // Nobody may wait for it any more.
            said.send_replace(Some(made.map_err(Arc::new)));
        });
        *current = Some(made.clone());
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::{Notify, futures::OwnedNotified};

    async fn after(go: OwnedNotified, number: usize) -> Result<usize, UpstreamError> {
        go.await;
        Ok(number)
    }

    #[tokio::test]
    async fn a_connection_outlives_who_asked_for_it() {
        let (shared, go) = (Shared::default(), Arc::new(Notify::new()));
        let connects = AtomicUsize::new(0);
        let get = |is_usable: fn(&usize) -> bool| {
            let connect = || {
                let number = connects.fetch_add(1, Ordering::Relaxed);
                after(Arc::clone(&go).notified_owned(), number)
            };
            shared.get(is_usable, connect)
        };
        tokio::select! {
            biased;
            _ = get(|_| true) => panic!("nobody let it go on"),
            () = tokio::task::yield_now() => {}
        }
        go.notify_waiters();
        assert_eq!(get(|_| true).await.unwrap(), 0, "the first one's");
        assert_eq!(get(|_| true).await.unwrap(), 0, "and it is kept");
        go.notify_one();
        assert_eq!(get(|_| false).await.unwrap(), 1, "until it has ended");
    }

    #[tokio::test]
    async fn all_hear_why_there_is_none_and_the_next_one_tries_again() {
        let shared = Shared::<u8>::default();
        let refuse = || async { Err(UpstreamError::Status(500)) };
        let (one, other) = tokio::join!(
            shared.get(|_| true, refuse),
            shared.get(|_| true, || async { Err(UpstreamError::Closed) })
        );
        for answer in [one, other] {
            let Err(UpstreamError::NoConnection(why)) = answer else { panic!("{answer:?}") };
            assert!(matches!(*why, UpstreamError::Status(500)), "{why:?}");
        }
        assert_eq!(shared.get(|_| true, || async { Ok(7) }).await.unwrap(), 7);
    }
}
