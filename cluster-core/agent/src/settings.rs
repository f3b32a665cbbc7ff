//! What an agent goes by.

use mizzen_api::v1;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

/// What does not change while an agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it offers, and how it calls itself; the id is filled in.
    pub info: v1::AgentInfo,
    /// Its address, which host-mode tasks listen on.
    pub address: IpAddr,
    /// TCP port of its API.
    pub port: u16,
    /// Networks whose addresses mean nothing to other nodes.
    pub local_networks: BTreeSet<String>,
    /// Below it lie the sandboxes.
    pub work_dir: PathBuf,
    /// Below it lie the run directories of the containers.
    pub run_root: PathBuf,
    /// Whether a container may use more CPU than its share when others leave it.
    pub cpu_limit: CpuLimit,
    /// Largest number of processes in one container.
    pub pids: u32,
}

/// What a task's `cpus` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuLimit {
    /// A share: more is given while nobody else wants it.
    Shares,
    /// A share and a ceiling (CFS quota).
    Quota,
}
