//! A sandbox as a value: made by [`Sandbox::create`], cleared away when dropped.

use super::cgroups::{self, Hierarchy};
use super::error::LabError;
use super::namespaces::{self, Network, NodeNamespaces};
use super::{links, sweep};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Format of [`Description`].
pub(super) const FORMAT: u16 = 1;

/// What is in the file `lab.json`: how to enter.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Description {
    /// See [`FORMAT`].
    pub format: u16,
    /// Process that keeps the namespaces.
    pub pid: u32,
    /// Descriptor of the underlay's network namespace in that process.
    pub underlay_fd: i32,
    /// The nodes, the first one is number 1.
    pub nodes: Vec<NodeDescription>,
}

/// How to enter a node's part of a lab.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NodeDescription {
    /// Descriptor of its mount namespace in the lab's process.
    pub mounts_fd: i32,
    /// Descriptor of its network namespace in the lab's process.
    pub network_fd: i32,
    /// Cgroups to join.
    pub cgroups: Vec<PathBuf>,
    /// Variables to set.
    pub environment: BTreeMap<String, String>,
}

/// A part of the sandbox for one node.
pub(super) struct NodePlace {
    /// Its directory: `state`, `run`, `node.log`, `mizzen.toml`.
    pub dir: PathBuf,
    namespaces: NodeNamespaces,
    description: NodeDescription,
}

/// Everything that a lab made.
pub(super) struct Sandbox {
    name: String,
    dir: PathBuf,
    hierarchies: Vec<Hierarchy>,
    /// The places for nodes.
    pub nodes: Vec<NodePlace>,
    underlay: Network,
    _lock: File,
}

impl Sandbox {
    /// Makes a sandbox for `nodes` nodes. What was made is removed again if a step
    /// fails.
    pub fn create(nodes: usize) -> Result<Self, LabError> {
        let pid = std::process::id();
        let name = sweep::name(pid);
        let dir = sweep::directory(&name);
        let hierarchies = cgroups::observe_hierarchies()?;
        // What has a name comes last: nothing below may fail before there is a
        // value that clears away.
        let underlay = namespaces::create_network()?;
        let lock = create_dir(&dir)?;
        let mut sandbox = Self { name, dir, hierarchies, nodes: Vec::new(), underlay, _lock: lock };
        let bridge = links::create_underlay(&mut sandbox.underlay)?;
        for number in 1..=nodes {
            let mut node = sandbox.create_node(number)?;
            links::connect(&mut sandbox.underlay, bridge, &mut node.namespaces, number)?;
            sandbox.nodes.push(node);
        }
        sandbox.write_description(pid)?;
        Ok(sandbox)
    }

    fn create_node(&self, number: usize) -> Result<NodePlace, LabError> {
        let dir = self.dir.join(format!("n{number}"));
        make_dir(&dir, PASSAGE)?;
        make_dir(&dir.join("state"), PASSAGE)?;
        make_dir(&dir.join("run"), OWNER)?;
        let resolv_conf = dir.join("resolv.conf");
        write(&resolv_conf, "nameserver 198.51.100.1\n")?;
        write(&dir.join("mizzen.toml"), "# Of this lab only. Read again at SIGHUP.\n")?;

        let group = format!("{}/n{number}", self.name);
        let host = format!("{group}/host");
        let create = |hierarchy| cgroups::create(hierarchy, &host);
        let joined: Vec<PathBuf> = self.hierarchies.iter().map(create).collect::<Result<_, _>>()?;
        let namespaces = namespaces::create_node(&resolv_conf)?;
        let description = NodeDescription {
            mounts_fd: namespaces.mounts.as_raw_fd(),
            network_fd: namespaces.network.fd.as_raw_fd(),
            cgroups: joined,
            environment: self.environment(number, &dir, &group),
        };
        Ok(NodePlace { dir, namespaces, description })
    }

    /// What leads a node, and commands that talk to it, into the sandbox.
    fn environment(&self, number: usize, dir: &Path, group: &str) -> BTreeMap<String, String> {
        let text = |path: &Path| path.display().to_string();
        let address = links::address(number).to_string();
        let mut variables = BTreeMap::from([
            ("MIZZEN_LAB", std::process::id().to_string()),
            ("MIZZEN_LAB_NODE", number.to_string()),
            ("MIZZEN_CONFIG", text(&dir.join("mizzen.toml"))),
            ("MIZZEN_STATE_DIR", text(&dir.join("state"))),
            ("MIZZEN_RUN_DIR", text(&dir.join("run"))),
            ("MIZZEN_CGROUP_ROOT", format!("{group}/mizzen")),
            ("MIZZEN_ADDRESS", address.clone()),
            // As DC/OS has it: the name of a node is its address.
            ("MIZZEN_HOSTNAME", address),
            ("PATH", path_with_ourselves()),
        ]);
        let unified = self.hierarchies.iter().find(|h| matches!(h, Hierarchy::V2(_)));
        if let Some(unified) = unified {
            variables.insert("MIZZEN_VIP_CGROUP", text(&unified.mount().join(group)));
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn write_description(&mut self, pid: u32) -> Result<(), LabError> {
        let nodes = self.nodes.iter().map(|node| &node.description).collect::<Vec<_>>();
        let value = serde_json::json!({
            "format": FORMAT, "pid": pid, "underlay_fd": self.underlay.fd.as_raw_fd(), "nodes": nodes,
        });
        write(&self.dir.join(DESCRIPTION), &value.to_string())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Namespaces and mounts go with the descriptors; the rest has names.
        for error in sweep::clear(&self.name, &self.dir, &self.hierarchies) {
            crate::complain(&error.into());
        }
    }
}

/// Name of the file with the [`Description`].
pub(super) const DESCRIPTION: &str = "lab.json";

/// Name of the lock file: while its lab lives, it is locked.
pub(super) const LOCK: &str = "lock";

/// Makes the lab's directory and locks it.
fn create_dir(dir: &Path) -> Result<File, LabError> {
    make_dir(dir, PASSAGE)?;
    // Locked before it has its name, so that a sweep never finds it unlocked.
    let (draft, path) = (dir.join("lock.new"), dir.join(LOCK));
    let file = File::create_new(&draft).map_err(LabError::file("make", &draft))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(LabError::file("lock", &draft))?;
    fs::rename(&draft, &path).map_err(LabError::file("name", &path))?;
    Ok(file)
}

/// Others may pass through, because tasks of theirs have their sandboxes in here,
/// but not look around.
const PASSAGE: u32 = 0o711;

/// The node's socket is its owner's.
const OWNER: u32 = 0o700;

fn make_dir(dir: &Path, mode: u32) -> Result<(), LabError> {
    fs::DirBuilder::new().mode(mode).create(dir).map_err(LabError::file("make directory", dir))
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(LabError::file("write", path))
}

/// `PATH` with the directory of this executable in front.
fn path_with_ourselves() -> String {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let executable = std::env::current_exe().unwrap_or_default();
    match executable.parent() {
        Some(dir) => format!("{}:{path}", dir.display()),
        None => path,
    }
}
