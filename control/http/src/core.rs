//! What the listeners ask of the core loop.
//!
//! Requests travel over one bounded channel; each carries the sender of its
//! reply. A reply is given once; if nobody waits for it any more, sending it
//! fails and the core may forget it.

use bytes::Bytes;
use mizzen_api::v1::{master, scheduler};
use serde_json::Value;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A request to the core loop.
#[derive(Debug)]
pub enum CoreRequest {
    /// A framework's call, complete in form (see [`crate::routes`]).
    Scheduler {
        /// The call.
        call: Box<scheduler::Call>,
        /// `Mesos-Stream-Id` of the request; never set for SUBSCRIBE.
        stream_id: Option<String>,
        /// Where the answer goes.
        reply: oneshot::Sender<SchedulerReply>,
    },
    /// An operator's call to the master.
    Operator {
        /// The call.
        call: Box<master::Call>,
        /// Where the answer goes.
        reply: oneshot::Sender<OperatorReply>,
    },
    /// The client of a SUBSCRIBE stream went away.
    StreamClosed {
        /// As given in [`SchedulerReply::Subscribed`].
        stream_id: String,
    },
    /// Anything below `/v2`, or on the services port.
    Services {
        /// The request.
        request: ServicesRequest,
        /// Where the answer goes.
        reply: oneshot::Sender<ServicesReply>,
    },
    /// Anything below `/v1/vip-services`, or `/v1/vip-plan`.
    VipServices {
        /// The request.
        request: ServicesRequest,
        /// Where the answer goes.
        reply: oneshot::Sender<ServicesReply>,
    },
    /// Anything below `/v1/dns-records`.
    DnsRecords {
        /// The request.
        request: ServicesRequest,
        /// Where the answer goes.
        reply: oneshot::Sender<ServicesReply>,
    },
    /// The node's `/v1/metrics`.
    Metrics {
        /// How series are to be written.
        encoding: MetricsEncoding,
        /// Where the pieces of the answer come from. Nobody reads any more when the receiver is dropped.
        reply: oneshot::Sender<MetricsReply>,
    },
    /// A question that changes nothing.
    Query {
        /// The question.
        query: Query,
        /// Where the answer goes.
        reply: oneshot::Sender<QueryReply>,
    },
}

/// What becomes of a framework's call.
#[derive(Debug)]
pub enum SchedulerReply {
    /// It will be done; semantic errors come as events.
    Accepted,
    /// It will not be done.
    Refused {
        /// HTTP status.
        status: u16,
        /// The answer's body.
        text: String,
    },
    /// A stream begins. It ends when the sender of `events` is dropped; a full
    /// channel means a slow client, which the core drops in this way.
    Subscribed {
        /// `Mesos-Stream-Id` of the stream.
        stream_id: String,
        /// What the framework is told, heartbeats included.
        events: mpsc::Receiver<scheduler::Event>,
    },
}

/// What becomes of an operator's call.
#[derive(Debug, Clone, PartialEq)]
pub enum OperatorReply {
    /// It is done, and survives a restart.
    Done,
    /// What was asked for.
    Answer(Box<master::Response>),
    /// It is not done.
    Refused {
        /// HTTP status.
        status: u16,
        /// The answer's body.
        text: String,
    },
}

/// A request to the service scheduler, or about services registered by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesRequest {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Percent-decoded, with runs of `/` made one: `/v2/apps/web`.
    pub path: String,
    /// What follows the `?`, undecoded; empty without one.
    pub query: String,
    /// Its header `Accept`; empty without one.
    pub accept: String,
    /// The body.
    pub body: Vec<u8>,
}

/// How series are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsEncoding {
    /// Prometheus' text, version 0.0.4.
    Text,
    /// Messages `io.prometheus.client.MetricFamily`, each behind its length.
    Protobuf,
}

/// Metrics, piece by piece.
pub type MetricsReply = mpsc::Receiver<Bytes>;

/// The answer to a [`ServicesRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesReply {
    /// HTTP status.
    pub status: u16,
    /// Headers, the content type among them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Questions that change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Master: `/state`.
    MasterState,
    /// Master: `/state-summary`.
    MasterStateSummary,
    /// Master: `/slaves`.
    MasterSlaves {
        /// Only this agent.
        slave_id: Option<String>,
    },
    /// Master: `/frameworks`.
    MasterFrameworks {
        /// Only this framework.
        framework_id: Option<String>,
    },
    /// Master: `/tasks`.
    MasterTasks(TasksFilter),
    /// Master: `/roles`.
    MasterRoles,
    /// Master: `/metrics/snapshot`.
    MasterMetrics,
    /// Master: `/flags`.
    MasterFlags,
    /// Agent: `/state`.
    AgentState,
    /// Agent: `/metrics/snapshot`.
    AgentMetrics,
    /// Agent: `/flags`.
    AgentFlags,
    /// Agent: `/containers`.
    AgentContainers {
        /// Only this container.
        container_id: Option<String>,
    },
    /// Agent: `/files/read`.
    FilesRead {
        /// A path that the agent has attached.
        path: String,
        /// First byte; absent or -1 asks for the size.
        offset: Option<i64>,
        /// Bytes; absent or -1 is the agent's cap.
        length: Option<i64>,
    },
    /// Agent: `/files/browse`.
    FilesBrowse {
        /// A directory that the agent has attached.
        path: String,
    },
    /// Agent: `/files/download`.
    FilesDownload {
        /// A file that the agent has attached.
        path: String,
    },
    /// Agent: `/files/debug`.
    FilesDebug,
    /// Minuteman: `/vips`.
    MinutemanVips,
    /// Minuteman: `/vip/IP:PORT`.
    MinutemanVip(String),
    /// Minuteman: `/backend/IP:PORT`.
    MinutemanBackend(String),
    /// Minuteman: `/metrics`.
    MinutemanMetrics,
    /// Mesos-DNS: `/v1/config`.
    MesosDnsConfig,
    /// Mesos-DNS: `/v1/hosts/NAME`.
    MesosDnsHosts(String),
    /// Mesos-DNS: `/v1/services/NAME`.
    MesosDnsServices(String),
    /// Mesos-DNS: `/v1/enumerate`.
    MesosDnsEnumerate,
    /// Mesos-DNS: `/v1/axfr`.
    MesosDnsAxfr,
    /// Node: `/v1/hosts/NAME`.
    Hosts(String),
    /// Node: `/v1/services/NAME`.
    Services(String),
    /// Node: `/v1/records`.
    Records,
    /// Node: `/v1/dns-zones`.
    DnsZones,
    /// Node: `/v1/status`.
    Status,
    /// Node: `/v1/tasks`.
    Tasks,
    /// Node: `/v1/tasks/ended`.
    EndedTasks,
    /// Node: `/v1/vip-table`.
    VipTable {
        /// Only VIPs whose address or name contains this.
        filter: Option<String>,
    },
    /// Node: `/v1/explain`.
    Explain(Explained),
    /// Node: `/v1/vip-problems`.
    VipProblems,
    /// Node: `/v1/vips`.
    Vips,
    /// Node: `/v1/nodes`.
    Nodes,
    /// Node: `/v1/dns`.
    Dns {
        /// The name.
        name: String,
        /// `A`, `SRV`, …
        record_type: Option<String>,
    },
    /// Node: `/v1/logs`.
    Logs {
        /// Id of a task, or what the core accepts for one.
        task: String,
        /// `stdout` or `stderr`.
        stream: String,
        /// First byte; negative counts from the end.
        offset: Option<i64>,
        /// Bytes at most.
        length: Option<u64>,
    },
}

/// What `/v1/explain` is asked about, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explained {
    /// `NAME:PORT` or `IP:PORT`, with `/udp` or without.
    Vip(String),
    /// `SRC:PORT->VIP:PORT` or `SRC:PORT->BACKEND:PORT`.
    Connection(String),
}

/// Which tasks `/tasks` of the master lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TasksFilter {
    /// Of this framework only.
    pub framework_id: Option<String>,
    /// This task only.
    pub task_id: Option<String>,
    /// At most so many.
    pub limit: usize,
    /// After so many.
    pub offset: usize,
    /// By the time of their first status.
    pub order: Order,
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// The answer to a [`Query`].
#[derive(Debug, PartialEq)]
pub enum QueryReply {
    /// 200 with JSON.
    Json(Value),
    /// 404 with a sentence.
    NotFound(String),
    /// 400 with a sentence.
    Bad(String),
    /// 200 with text of a content type.
    Text(&'static str, String),
    /// 200 with the contents of a file.
    File(OpenFile),
    /// 200 with JSON that comes in pieces.
    Pieces(Pieces),
}

/// An answer that is made while it is sent. Nobody reads any more when the receiver is
/// dropped.
#[derive(Debug)]
pub struct Pieces(pub mpsc::Receiver<Bytes>);

impl PartialEq for Pieces {
    /// Whatever comes, it comes once.
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

/// A file to be sent, as long as it was when it was opened.
#[derive(Debug, Clone)]
pub struct OpenFile {
    /// What the client may call it.
    pub name: String,
    /// The file, opened for reading.
    pub file: Arc<File>,
    /// How much of it is sent, in bytes.
    pub size: u64,
}

impl PartialEq for OpenFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}

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
}

/// A handle, and the end at which the core loop receives.
#[must_use]
pub fn channel(capacity: usize) -> (CoreHandle, mpsc::Receiver<CoreRequest>) {
    let (requests, receiver) = mpsc::channel(capacity);
    (CoreHandle { requests }, receiver)
}

impl CoreHandle {
    /// Whether the core loop still receives.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.requests.is_closed()
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

    /// Passes a request to the service scheduler.
    ///
    /// # Errors
    ///
    /// [`CoreError`].
    pub async fn services(
        &self,
        request: ServicesRequest,
        wait: Duration,
    ) -> Result<ServicesReply, CoreError> {
        self.ask(wait, |reply| CoreRequest::Services { request, reply }).await
    }

    /// Passes a request about services that are registered by hand.
    ///
    /// # Errors
    ///
    /// [`CoreError`].
    pub async fn vip_services(
        &self,
        request: ServicesRequest,
        wait: Duration,
    ) -> Result<ServicesReply, CoreError> {
        self.ask(wait, |reply| CoreRequest::VipServices { request, reply }).await
    }

    /// Passes a request about records that are set by hand.
    ///
    /// # Errors
    ///
    /// [`CoreError`].
    pub async fn dns_records(
        &self,
        request: ServicesRequest,
        wait: Duration,
    ) -> Result<ServicesReply, CoreError> {
        self.ask(wait, |reply| CoreRequest::DnsRecords { request, reply }).await
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
