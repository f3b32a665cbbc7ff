//! Real containers below a root of their own, removed with the value.

#![allow(dead_code, reason = "each test file is a program of its own and uses part of this one")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use mizzen_isolators::{Containerizer, CpuLimit, LaunchRequest, Limits, Settings};
use mizzen_types::container::{CommandSpec, FORMAT, LaunchSpec, NetworkMode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than scripts take on a machine that does much else.
pub const PLUGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The executable under test.
pub const LAUNCHER: &str = env!("CARGO_BIN_EXE_mizzen-launch");

/// A node's worth of containers.
pub struct Node {
    pub directory: PathBuf,
    pub root: String,
    pub containers: Containerizer,
    owned: Option<tempfile::TempDir>,
}

impl Node {
    /// Without networks.
    pub fn new(name: &str) -> Self {
        Self::with_networks(name, &[])
    }

    /// With networks whose plugins are shell scripts: (network and plugin name, script).
    pub fn with_networks(name: &str, plugins: &[(&str, &str)]) -> Self {
        let owned = tempfile::tempdir().unwrap();
        let directory = owned.path().to_path_buf();
        // A sandbox is reached by users that are not root.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let root = format!("mizzen-test-{name}-{}", std::process::id());
        let plugin_dir = directory.join("plugins");
        fs::create_dir(&plugin_dir).unwrap();
        let mut networks: BTreeMap<String, Value> = BTreeMap::new();
        for (network, script) in plugins {
            let path = plugin_dir.join(network);
            fs::write(&path, format!("#!/bin/sh\nlog={}\n{script}", directory.display())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            let configuration = json!({ "cniVersion": "1.0.0", "name": network, "type": network });
            networks.insert((*network).to_owned(), configuration);
        }
        let containers = Self::open(&directory, &root, &networks);
        Self { directory, root, containers, owned: Some(owned) }
    }

    /// The node of another process, which also cleans up.
    pub fn attached(directory: &Path, root: &str) -> Self {
        let containers = Self::open(directory, root, &BTreeMap::new());
        let directory = directory.to_path_buf();
        Self { directory, root: root.to_owned(), containers, owned: None }
    }

    /// What a new process of the daemon would have: the same places, no memory.
    pub fn restarted(&self) -> Containerizer {
        Self::open(&self.directory, &self.root, &BTreeMap::new())
    }

    fn open(directory: &Path, root: &str, networks: &BTreeMap<String, Value>) -> Containerizer {
        Containerizer::new(Settings {
            launcher: LAUNCHER.into(),
            run_root: directory.join("run"),
            cgroup_root: root.to_owned(),
            plugin_dirs: vec![directory.join("nowhere"), directory.join("plugins")],
            networks: networks.clone(),
            plugin_timeout: PLUGIN_TIMEOUT,
        })
        .unwrap()
    }

    /// A container that runs a shell command on the host's network.
    pub fn request(&self, id: &str, shell: &str) -> LaunchRequest {
        let sandbox = self.sandbox(id);
        fs::create_dir_all(&sandbox).unwrap();
        LaunchRequest {
            spec: LaunchSpec {
                format: FORMAT,
                id: id.to_owned(),
                hostname: "box".to_owned(),
                command: CommandSpec::Shell(shell.to_owned()),
                environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
                user: None,
                sandbox,
                run_dir: PathBuf::new(),
                cgroups: Vec::new(),
                network: NetworkMode::Host,
                mounts: Vec::new(),
            },
            limits: Limits { cpus: 0.1, cpu_limit: CpuLimit::Shares, mem_mb: 32, pids: Some(100) },
            networks: Vec::new(),
            resolv_conf: None,
        }
    }

    pub fn sandbox(&self, id: &str) -> PathBuf {
        self.directory.join("sandboxes").join(id)
    }

    pub fn run_dir(&self, id: &str) -> PathBuf {
        self.directory.join("run").join(id)
    }

    pub fn stdout(&self, id: &str) -> String {
        fs::read_to_string(self.sandbox(id).join("stdout")).unwrap_or_default()
    }

    pub fn stderr(&self, id: &str) -> String {
        fs::read_to_string(self.sandbox(id).join("stderr")).unwrap_or_default()
    }

    /// Waits until the task has written `text`.
    pub async fn written(&self, id: &str, text: &str) {
        until(|| self.stdout(id).contains(text)).await;
    }

    /// What is left of a container on this host: directories, mounts.
    pub fn traces(&self, id: &str) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let run_dir = self.run_dir(id);
        let mut traces: Vec<String> = mounts
            .lines()
            .filter(|line| line.contains(&*run_dir.to_string_lossy()))
            .map(str::to_owned)
            .collect();
        traces.extend(run_dir.exists().then(|| run_dir.display().to_string()));
        for mount in cgroup_mounts() {
            let directory = mount.join(&self.root).join(id);
            traces.extend(directory.exists().then(|| directory.display().to_string()));
        }
        traces
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.owned.is_none() {
            return;
        }
        let containers = self.restarted();
        let destroy = async move {
            for found in containers.recover().unwrap_or_default() {
                if let Err(errors) = containers.destroy(&found.id).await {
                    eprintln!("{}: {errors:?}", found.id);
                }
            }
            containers.remove_cgroup_root()
        };
        // A runtime of its own, on a thread of its own: the test's is ending.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(destroy))
        });
        match cleaned.join() {
            Ok(Ok(Ok(()))) => {}
            other => eprintln!("{other:?}"),
        }
    }
}

/// Where cgroup hierarchies are mounted.
pub fn cgroup_mounts() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mizzen_types::mountinfo::parse(&text)
        .into_iter()
        .filter(|mount| mount.file_system.starts_with("cgroup"))
        .map(|mount| mount.mount_point)
        .collect()
}

/// Whether a process runs; one that waits to be reaped does not.
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits for something that has no notification.
pub async fn until(mut condition: impl FnMut() -> bool) {
    let patience = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), patience).await.expect("it never happens");
}
