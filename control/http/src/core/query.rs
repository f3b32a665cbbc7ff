//! Questions that change nothing, and what they are answered with.

use bytes::Bytes;
use serde_json::Value;
use std::fs::File;
use std::sync::Arc;
use tokio::sync::mpsc;

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
    /// Node: `/v1/configuration`.
    Configuration,
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
    /// Node: `/v1/overlay`.
    Overlay,
    /// Node: `/v1/policy-drops`.
    PolicyDrops {
        /// Only those behind this number.
        after: u64,
    },
    /// Node: `/v1/policy-explain`.
    PolicyExplain {
        /// Who begins: an address, or the name of a task or an app.
        from: String,
        /// With whom, and its port: `DST:PORT/PROTOCOL`.
        to: String,
    },
    /// Node: `/v1/ping`.
    Ping {
        /// Id or host name of a node, id or container address of a task.
        to: String,
        /// What is found out.
        measured: Measured,
    },
    /// Agent and master: `/overlay-agent/overlay`.
    OverlayAgent,
    /// Master: `/overlay-master/state`.
    OverlayMaster,
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

/// What `/v1/ping` finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// How long one packet and its answer take.
    RoundTrip,
    /// The largest packet that is answered; takes some seconds where packets are lost.
    Mtu,
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
    /// 503 with a sentence: who has the answer does not answer.
    Away(String),
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
