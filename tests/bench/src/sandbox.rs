//! The sandbox that a section runs in, and what it must have for figures.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The congestion control of every variant. The machine's default may pace, and
/// then a figure tells of its timers.
pub(crate) const CONGESTION_CONTROL: &str = "reno";

/// Settings of this network namespace, which is the sandbox's own. Those of the
/// connection tracker are missing where nothing tracks.
const SETTINGS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/tcp_congestion_control", CONGESTION_CONTROL),
    ("/proc/sys/net/ipv4/tcp_no_metrics_save", "1"),
    // Connections that are gone must not fill its table.
    ("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
];

/// The lab's share of the machine, where the usual one is 1024 (v1) and 100 (v2):
/// whoever else computes takes less of it then.
const SHARE: [(&str, &str); 2] = [("cpu.shares", "32768"), ("cpu.weight", "3200")];

/// A node's part of `mizzen lab`.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// Of the node, which makes it.
    pub state_dir: PathBuf,
    /// Of the node, which makes it.
    pub run_dir: PathBuf,
    /// A cgroup whose processes can use VIPs.
    pub inside: PathBuf,
    /// A cgroup whose processes no program of the node sees.
    pub outside: PathBuf,
    /// The cgroup above all of them.
    lab: PathBuf,
}

impl Sandbox {
    /// The one that this process runs in.
    pub(crate) fn enter() -> Result<Self> {
        if std::env::var_os("MIZZEN_LAB").is_none() {
            bail!("this is no sandbox; run it by `mizzen lab --no-node -- mizzen-bench SECTION`");
        }
        let hooked = directory("MIZZEN_VIP_CGROUP")
            .context("this machine has no unified cgroup hierarchy, so it has no VIPs")?;
        let above = hooked.parent().context("the cgroup of VIPs is the root")?;
        let sandbox = Self {
            state_dir: directory("MIZZEN_STATE_DIR")?,
            run_dir: directory("MIZZEN_RUN_DIR")?,
            inside: hooked.join("bench"),
            outside: above.join("bench"),
            lab: above.to_owned(),
        };
        for group in [&sandbox.inside, &sandbox.outside] {
            std::fs::create_dir_all(group)
                .with_context(|| format!("cannot make cgroup {}", group.display()))?;
        }
        weigh(above)?;
        for (path, value) in SETTINGS {
            if Path::new(path).exists() {
                std::fs::write(path, value).with_context(|| format!("cannot write {path}"))?;
            }
        }
        Ok(sandbox)
    }

    /// A cgroup of its own for `name`, which no program of the node sees.
    pub(crate) fn cgroup(&self, name: &str) -> Result<PathBuf> {
        let group = self.outside.join(name);
        std::fs::create_dir_all(&group)
            .with_context(|| format!("cannot make cgroup {}", group.display()))?;
        Ok(group)
    }

    /// A place for files of `name`.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.state_dir.with_file_name(format!("bench-{name}"));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// The same with another node's files, which are in `directory`.
    pub(crate) fn elsewhere(&self, directory: &Path) -> Self {
        Self {
            state_dir: directory.join("state"),
            run_dir: directory.join("run"),
            inside: self.inside.clone(),
            outside: self.outside.clone(),
            lab: self.lab.clone(),
        }
    }

    /// What everything in the lab has computed so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let path = self.lab.join("cpu.stat");
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
        let usage = usage.with_context(|| format!("no time in {}", path.display()))?;
        Ok(Duration::from_micros(usage.parse()?))
    }

    /// Where the node listens for its command line.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("mizzen.sock")
    }

    /// Where the node's log goes.
    pub(crate) fn log(&self) -> PathBuf {
        // Not in its state directory: that one the node makes itself.
        self.state_dir.with_file_name("bench-node.log")
    }
}

/// Moves this process into `cgroup`. Sockets that it has opened before stay
/// where they are.
pub(crate) fn join(cgroup: &Path) -> Result<()> {
    std::fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot join cgroup {}", cgroup.display()))
}

/// Holds this thread on one core: a wake-up of another one costs as much as a
/// whole connection.
pub(crate) fn hold_on(cpu: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .with_context(|| format!("cannot stay on core {cpu}"))
}

/// The core for generators and servers: the last one, because the first has
/// most of the interrupts.
pub(crate) fn core() -> usize {
    std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1)
}

/// This executable, as the apps' program.
pub(crate) fn ourselves() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this executable")
}

/// The executable that `name` means to a shell.
pub(crate) fn find_executable(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("there is no `{name}` in PATH"))
}

/// Gives the lab's cgroup its [`SHARE`] in whichever hierarchy has it. A process's
/// own niceness would not do: shells have groups of their own.
fn weigh(lab: &Path) -> Result<()> {
    let name = lab.file_name().context("the lab has no cgroup of its own")?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read mounts")?;
    for mount in mounts.lines().filter_map(cgroup_mount) {
        for (file, value) in SHARE {
            let path = Path::new(mount).join(name).join(file);
            if path.exists() {
                std::fs::write(&path, value)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    Ok(())
}

fn cgroup_mount(line: &str) -> Option<&str> {
    let fields: Vec<&str> = line.split(' ').collect();
    matches!(fields.get(2), Some(&("cgroup" | "cgroup2"))).then(|| fields[1])
}

fn directory(variable: &str) -> Result<PathBuf> {
    let value = std::env::var_os(variable).with_context(|| format!("{variable} is not set"))?;
    Ok(PathBuf::from(value))
}
