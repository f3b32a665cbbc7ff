//! What `mizzen-launch` is told, and what it tells: the words between the agent
//! and the parent of a container.
//!
//! The daemon writes one [`LaunchSpec`] as a JSON line on the launcher's stdin,
//! reads [`LaunchEvent`] lines from its stdout, and sends a [`LaunchGo`] line once
//! the network is up. From then on the launcher needs nobody: how the container
//! ended is in the file `status` ([`ExitRecord`]) of its run directory.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Format of the lines and of the status file.
pub const FORMAT: u16 = 1;

/// Everything a container is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// See [`FORMAT`].
    pub format: u16,
    /// Container id, also the name of its cgroup.
    pub id: String,
    /// Host name inside.
    pub hostname: String,
    /// What to run.
    pub command: CommandSpec,
    /// Its whole environment; nothing is inherited.
    pub environment: BTreeMap<String, String>,
    /// User to run as; `None` is the launcher's.
    pub user: Option<String>,
    /// Sandbox on the host: working directory, `stdout` and `stderr`.
    pub sandbox: PathBuf,
    /// Where the launcher keeps `status`, `netns` and what it bind-mounts.
    pub run_dir: PathBuf,
    /// Cgroup directories to join, made by the daemon's isolators beforehand.
    pub cgroups: Vec<PathBuf>,
    /// The host's network, or one of its own.
    pub network: NetworkMode,
    /// Directories and files to bind into its mount namespace.
    pub mounts: Vec<MountSpec>,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandSpec {
    /// By `/bin/sh -c`.
    Shell(String),
    /// Directly: the program, looked up in `PATH`, and its whole argument vector.
    Exec {
        /// Program.
        program: String,
        /// Arguments, `argv[0]` included.
        arguments: Vec<String>,
    },
}

/// Which network a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// The node's.
    Host,
    /// A namespace of its own, to which CNI plugins attach.
    Container,
}

/// One bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Path on the host.
    pub source: PathBuf,
    /// Path inside.
    pub target: PathBuf,
    /// Without write permission.
    pub read_only: bool,
}

/// Sent once the container's network is up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchGo {
    /// Variables that only the network could tell, for example `MESOS_CONTAINER_IP`.
    pub environment: BTreeMap<String, String>,
    /// Addresses of the container, for its `/etc/hosts`.
    pub addresses: Vec<IpAddr>,
    /// Contents of its `/etc/resolv.conf`; `None` leaves the host's.
    pub resolv_conf: Option<String>,
}

/// What the launcher says while it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchEvent {
    /// Namespaces and cgroups stand; the network namespace is at `run_dir/netns`
    /// if it has one of its own. Waits for [`LaunchGo`].
    Ready {
        /// Process id of the launcher.
        launcher: u32,
    },
    /// The task runs.
    Forked {
        /// Process id of the container's first process, seen from the host.
        pid: u32,
    },
    /// It could not be made.
    Failed {
        /// Which step, as a verb with its object: `mount /proc`.
        step: String,
        /// The system's answer.
        error: String,
    },
}

/// How a container ended; contents of its `status` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// See [`FORMAT`].
    pub format: u16,
    /// How the task's process ended.
    pub exit: Exit,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody saw it: the launcher was killed.
    Unknown,
}
