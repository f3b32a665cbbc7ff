//! Requests to the core loop, and the replies to those that change something.

use super::query::{Query, QueryReply};
use bytes::Bytes;
use mizzen_api::v1::{master, scheduler};
use std::net::IpAddr;
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
    /// Agents at these addresses are gone for good: what they had of the overlays is free.
    DeleteOverlayAgents {
        /// Their addresses.
        addresses: Vec<IpAddr>,
        /// Where the answer goes.
        reply: oneshot::Sender<OperatorReply>,
    },
    /// The client of a SUBSCRIBE stream went away.
    StreamClosed {
        /// As given in [`SchedulerReply::Subscribed`].
        stream_id: String,
    },
    /// A request that a part of the node reads and answers by itself.
    Pass {
        /// Which part.
        to: Addressee,
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

/// A part of the node that reads requests as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// The service scheduler: anything below `/v2`, or on the services port.
    Services,
    /// Services that are registered by hand: below `/v1/vip-services`, and `/v1/vip-plan`.
    VipServices,
    /// Records that are set by hand: below `/v1/dns-records`.
    DnsRecords,
    /// The cluster of nodes: below `/v1/cluster`.
    Cluster,
    /// Network policies: below `/v1/policies`.
    Policies,
    /// Another runtime's containers: `/v1/cni/attached`.
    Attached,
    /// More addresses for containers: `/v1/cni/addresses`.
    Addresses,
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
