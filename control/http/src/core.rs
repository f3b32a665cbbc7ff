//! What the listeners ask of the core loop.
//!
//! Requests travel over one bounded channel; each carries the sender of its
//! reply. A reply is given once; if nobody waits for it any more, sending it
//! fails and the core may forget it.

mod query;
mod requests;

pub use query::{Explained, Measured, OpenFile, Order, Pieces, Query, QueryReply, TasksFilter};
pub use requests::{
    Addressee, CoreRequest, MetricsEncoding, MetricsReply, OperatorReply, SchedulerReply,
    ServicesReply, ServicesRequest,
};

pub use crate::leader::Leading;
use mizzen_api::v1::{master, scheduler};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Why the core gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// It has ended, or dropped the request.
    #[error("the node is stopping")]
    Gone,
    /// It did not answer in time.
    #[error("the node did not answer within {} seconds", after.as_secs())]
    Late {
        /// How long was waited.
        after: Duration,
    },
}

/// The sending end of the way to the core loop.
#[derive(Debug, Clone)]
pub struct CoreHandle {
    requests: mpsc::Sender<CoreRequest>,
    leading: watch::Receiver<Leading>,
}

/// A handle, and the end at which the core loop receives. This node leads.
#[must_use]
pub fn channel(capacity: usize) -> (CoreHandle, mpsc::Receiver<CoreRequest>) {
    let (requests, receiver) = mpsc::channel(capacity);
    let (_, leading) = watch::channel(Leading::Here);
    (CoreHandle { requests, leading }, receiver)
}

impl CoreHandle {
    /// Whether the core loop still receives.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.requests.is_closed()
    }

    /// The same handle; who leads is what the core says last.
    #[must_use]
    pub fn following(self, leading: watch::Receiver<Leading>) -> Self {
        Self { leading, ..self }
    }

    /// Who serves what needs the leading master.
    #[must_use]
    pub fn leading(&self) -> Leading {
        *self.leading.borrow()
    }

    /// Asks a question.
    ///
    /// # Errors
    ///
    /// [`CoreError`], like all functions here.
    pub async fn query(&self, query: Query, wait: Duration) -> Result<QueryReply, CoreError> {
        self.ask(wait, |reply| CoreRequest::Query { query, reply }).await
    }

    /// Asks for the node's metrics; the answer comes in pieces.
    ///
    /// # Errors
    ///
    /// [`CoreError`].
    pub async fn metrics(
        &self,
        encoding: MetricsEncoding,
        wait: Duration,
    ) -> Result<MetricsReply, CoreError> {
        self.ask(wait, |reply| CoreRequest::Metrics { encoding, reply }).await
    }

    /// Passes a request to the part of the node that answers it.
    ///
    /// # Errors
    ///
    /// [`CoreError`].
    pub async fn pass(
        &self,
        to: Addressee,
        request: ServicesRequest,
        wait: Duration,
    ) -> Result<ServicesReply, CoreError> {
        self.ask(wait, |reply| CoreRequest::Pass { to, request, reply }).await
    }

    /// Passes a framework's call to the master.
    ///
    /// # Errors
    ///
    /// [`CoreError`].
    pub async fn scheduler(
        &self,
        call: Box<scheduler::Call>,
        stream_id: Option<String>,
        wait: Duration,
    ) -> Result<SchedulerReply, CoreError> {
        self.ask(wait, |reply| CoreRequest::Scheduler { call, stream_id, reply }).await
    }

    /// Passes an operator's call to the master.
    ///
    /// # Errors
    ///
    /// [`CoreError`].
    pub async fn operator(
        &self,
        call: Box<master::Call>,
        wait: Duration,
    ) -> Result<OperatorReply, CoreError> {
        self.ask(wait, |reply| CoreRequest::Operator { call, reply }).await
    }

    /// Says that agents at these addresses are gone for good.
    ///
    /// # Errors
    ///
    /// [`CoreError`].
    pub async fn delete_overlay_agents(
        &self,
        addresses: Vec<IpAddr>,
        wait: Duration,
    ) -> Result<OperatorReply, CoreError> {
        self.ask(wait, |reply| CoreRequest::DeleteOverlayAgents { addresses, reply }).await
    }

    /// Tells that a stream's client went away; never blocks, never gets lost
    /// while the core lives.
    pub fn stream_closed(&self, stream_id: String) {
        use mpsc::error::TrySendError;
        let request = CoreRequest::StreamClosed { stream_id };
        if let Err(TrySendError::Full(request)) = self.requests.try_send(request) {
            let requests = self.requests.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { requests.send(request).await });
            }
        }
    }

    async fn ask<T>(
        &self,
        wait: Duration,
        request: impl FnOnce(oneshot::Sender<T>) -> CoreRequest,
    ) -> Result<T, CoreError> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.requests.send(request(reply)).await.map_err(|_| CoreError::Gone)?;
            answer.await.map_err(|_| CoreError::Gone)
        };
        tokio::time::timeout(wait, exchange).await.unwrap_or(Err(CoreError::Late { after: wait }))
    }
}
