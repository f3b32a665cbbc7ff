//! What can go wrong while a sandbox is made, entered or cleared away.

use mizzen_netlink::NetlinkError;
use std::path::PathBuf;

/// A failed step of a lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces, cgroups and mounts need it.
    #[error("mizzen lab needs root, try: sudo mizzen lab")]
    NotRoot,
    /// Something about a file.
    #[error("cannot {request} {}", .path.display())]
    File {
        /// What was asked, as a verb.
        request: &'static str,
        /// Of which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Something about this process.
    #[error("cannot {request}")]
    Process {
        /// What was asked, as a verb with its object.
        request: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Links and addresses.
    #[error("cannot connect the sandbox's networks")]
    Network(#[source] NetlinkError),
    /// A process did not start.
    #[error("cannot start `{program}`")]
    Start {
        /// Which.
        program: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A node ended before it was ready.
    #[error("node {node} ended before it was ready ({status})")]
    NodeEnded {
        /// Which.
        node: usize,
        /// How.
        status: std::process::ExitStatus,
    },
    /// A node takes too long.
    #[error("node {node} was not ready within {seconds} s")]
    NodeLate {
        /// Which.
        node: usize,
        /// The limit.
        seconds: u64,
    },
    /// The first node lets nobody join.
    #[error("node 1 gives no token to join it")]
    NoToken,
    /// The user changed his mind while it was being made.
    #[error("interrupted")]
    Interrupted {
        /// By which signal.
        signal: i32,
    },
    /// There is no such lab.
    #[error("no lab with process id {pid}; `mizzen lab --keep` makes one that can be entered")]
    NoLab {
        /// As asked for.
        pid: u32,
    },
    /// A command for the inside of a lab was given outside.
    #[error("this is not inside of a lab; `mizzen lab --enter PID` leads into one")]
    Outside,
    /// It has fewer nodes.
    #[error("lab {pid} has {nodes} nodes, no node {node}")]
    NoNode {
        /// The lab.
        pid: u32,
        /// As asked for.
        node: usize,
        /// How many it has.
        nodes: usize,
    },
    /// The description of the lab cannot be read.
    #[error("cannot read the description of lab {pid}")]
    Description {
        /// The lab.
        pid: u32,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Processes of the lab survive SIGKILL.
    #[error("processes {pids:?} of the lab do not end")]
    Immortal {
        /// Their ids.
        pids: Vec<i32>,
    },
}

impl LabError {
    /// For `map_err`: a failed request about a file.
    pub(super) fn file<E: Into<std::io::Error>>(
        request: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::File { request, path, source: source.into() }
    }

    /// For `map_err`: a failed request about this process.
    pub(super) fn process<E: Into<std::io::Error>>(
        request: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Process { request, source: source.into() }
    }
}
