//! Against a directory in the place of the kernel, then against the kernel.

use super::*;
use std::process::{Child, Command};

const LIMITS: Limits = Limits { cpus: 0.5, cpu_limit: CpuLimit::Quota, mem_mb: 64, pids: Some(10) };

/// A tree of plain files; what would be in the kernel's is written by the tests.
struct Fake {
    directory: tempfile::TempDir,
    cgroups: Cgroups,
}

impl Fake {
    fn new(v1: &[&str], v2: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mounts = String::new();
        for name in v1 {
            let mount = directory.path().join(name);
            fs::create_dir(&mount).unwrap();
            mounts += &format!("1 1 0:1 / {} rw - cgroup cgroup rw,{name}\n", mount.display());
        }
        if let Some(controllers) = v2 {
            let mount = directory.path().join("unified");
            fs::create_dir(&mount).unwrap();
            fs::write(mount.join("cgroup.controllers"), controllers).unwrap();
            mounts += &format!("1 1 0:1 / {} rw - cgroup2 cgroup2 rw\n", mount.display());
        }
        let known = "cpu 0 1 1\ncpuacct 0 1 1\nmemory 0 1 1\npids 0 1 1\nfreezer 0 1 1\n";
        let cgroups = Cgroups::new(Layout::from_text(&mounts, known), "a/b").unwrap();
        Self { directory, cgroups }
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.directory.path().join(path)).unwrap_or_else(|e| e.to_string())
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.directory.path().join(path), text).unwrap();
    }
}

const ALL_V1: &[&str] = &["cpu", "cpuacct", "memory", "pids", "freezer"];

#[test]
fn limits_in_v1() {
    let fake = Fake::new(ALL_V1, None);
    assert_eq!(fake.cgroups.ensure("c", &LIMITS).unwrap().len(), 5);
    for (file, want) in [
        ("cpu/a/b/c/cpu.shares", "512"),
        ("cpu/a/b/c/cpu.cfs_period_us", "100000"),
        ("cpu/a/b/c/cpu.cfs_quota_us", "50000"),
        ("memory/a/b/c/memory.soft_limit_in_bytes", "67108864"),
        ("memory/a/b/c/memory.limit_in_bytes", "67108864"),
        ("pids/a/b/c/pids.max", "12"),
    ] {
        assert_eq!(fake.read(file), want, "{file}");
    }
}

#[test]
fn limits_in_v2() {
    let fake = Fake::new(&[], Some("cpu memory pids"));
    assert_eq!(fake.cgroups.ensure("c", &LIMITS).unwrap().len(), 1);
    for (file, want) in [
        ("unified/cgroup.subtree_control", "+cpu +memory +pids"),
        ("unified/a/cgroup.subtree_control", "+cpu +memory +pids"),
        ("unified/a/b/cgroup.subtree_control", "+cpu +memory +pids"),
        ("unified/a/b/c/cpu.weight", "50"),
        ("unified/a/b/c/cpu.max", "50000 100000"),
        ("unified/a/b/c/memory.low", "67108864"),
        ("unified/a/b/c/memory.max", "67108864"),
        ("unified/a/b/c/pids.max", "12"),
    ] {
        assert_eq!(fake.read(file), want, "{file}");
    }
}

#[test]
fn a_hybrid_host_uses_each_where_it_is() {
    let fake = Fake::new(&["cpu", "cpuacct", "freezer"], Some("memory pids"));
    let directories = fake.cgroups.ensure("c", &LIMITS).unwrap();
    assert_eq!(directories.len(), 4);
    assert_eq!(fake.read("cpu/a/b/c/cpu.shares"), "512");
    assert_eq!(fake.read("unified/a/b/c/memory.max"), "67108864");
    assert_eq!(fake.read("unified/cgroup.subtree_control"), "+memory +pids");
}

#[test]
fn little_is_never_too_little_for_the_kernel() {
    let limits = Limits { cpus: 0.001, mem_mb: 1, pids: None, ..LIMITS };
    let v1 = Fake::new(ALL_V1, None);
    v1.cgroups.ensure("c", &limits).unwrap();
    assert_eq!(v1.read("cpu/a/b/c/cpu.shares"), "2");
    assert_eq!(v1.read("cpu/a/b/c/cpu.cfs_quota_us"), "1000");
    assert_eq!(v1.read("memory/a/b/c/memory.limit_in_bytes"), "33554432");
    let v2 = Fake::new(&[], Some("cpu memory pids"));
    v2.cgroups.ensure("c", &Limits { cpu_limit: CpuLimit::Shares, ..limits }).unwrap();
    assert_eq!(v2.read("unified/a/b/c/cpu.weight"), "1");
    assert!(!v2.directory.path().join("unified/a/b/c/cpu.max").exists());
}

#[test]
fn a_limit_that_cannot_be_enforced_is_refused() {
    let fake = Fake::new(&["cpu", "memory"], None);
    let error = fake.cgroups.ensure("c", &LIMITS).unwrap_err();
    assert_eq!(error.to_string(), "no pids controller: its hierarchy is not mounted here");
    fake.cgroups.ensure("c", &Limits { pids: None, ..LIMITS }).unwrap();
}

#[test]
fn a_root_outside_the_mounts_is_refused() {
    let layout = Layout::from_text("", "");
    for bad in ["", "/a", "../a", "a//b", "a/"] {
        assert!(Cgroups::new(layout.clone(), bad).is_err(), "{bad}");
    }
}

#[test]
fn figures_and_kills_of_both_versions() {
    let v1 = Fake::new(ALL_V1, None);
    v1.cgroups.ensure("c", &LIMITS).unwrap();
    v1.write("cpuacct/a/b/c/cpuacct.stat", "user 150\nsystem 7\n");
    v1.write("cpu/a/b/c/cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 3000\n");
    v1.write("memory/a/b/c/memory.max_usage_in_bytes", "67108864\n");
    v1.write("memory/a/b/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
    v1.write("pids/a/b/c/pids.current", "3\n");
    let statistics = v1.cgroups.statistics("c");
    assert_eq!(statistics.cpu_user_usec, Some(1_500_000));
    assert_eq!(statistics.cpu_throttled_usec, Some(3));
    assert_eq!(statistics.pids, Some(1));
    assert_eq!(statistics.mem_bytes, None);
    assert_eq!(v1.cgroups.observe_oom("c"), None);
    v1.write("memory/a/b/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    assert_eq!(v1.cgroups.observe_oom("c").unwrap().kills, 2);

    let v2 = Fake::new(&[], Some("cpu memory pids"));
    v2.cgroups.ensure("c", &LIMITS).unwrap();
    v2.write("unified/a/b/c/cpu.stat", "user_usec 9\nsystem_usec 8\nthrottled_usec 7\n");
    v2.write("unified/a/b/c/memory.events", "low 0\nmax 40\noom 1\noom_kill 1\n");
    v2.write("unified/a/b/c/memory.peak", "67000000\n");
    let statistics = v2.cgroups.statistics("c");
    assert_eq!(statistics.cpu_system_usec, Some(8));
    assert_eq!(statistics.mem_limit_hits, Some(40));
    let oom = v2.cgroups.observe_oom("c").unwrap();
    assert_eq!(oom.message, "Memory limit exceeded: Requested: 64MB Maximum Used: 63MB");
}

/// Cgroups of the real kernel that go with the value.
struct Real {
    cgroups: Cgroups,
    children: Vec<Child>,
}

impl Real {
    fn new(name: &str) -> Self {
        let root = format!("mizzen-test-{name}-{}", std::process::id());
        let cgroups = Cgroups::new(Layout::observe().unwrap(), &root).unwrap();
        Self { cgroups, children: Vec::new() }
    }

    /// A process that lives in the container's cgroups.
    fn spawn(&mut self, id: &str, shell: &str) -> u32 {
        let mut text = String::new();
        for directory in self.cgroups.directories(id) {
            text += &format!("echo 0 > {}/cgroup.procs || exit 99; ", directory.display());
        }
        let child = Command::new("/bin/sh").args(["-c", &(text + shell)]).spawn().unwrap();
        let pid = child.id();
        self.children.push(child);
        pid
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for directory in self.cgroups.directories("c") {
            for directory in processes::descendants(&directory) {
                let _ = fs::remove_dir(directory);
            }
        }
        let _ = self.cgroups.remove_root();
    }
}

/// Waits until `pid` is in all cgroups and has `count` companions.
async fn settled(cgroups: &Cgroups, count: usize) {
    let complete = || {
        cgroups.directories("c").iter().all(|directory| {
            fs::read_to_string(directory.join("cgroup.procs"))
                .is_ok_and(|text| text.lines().count() == count)
        })
    };
    while !complete() {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_kernel_takes_the_limits_and_gives_figures() {
    let mut real = Real::new("limits");
    real.cgroups.ensure("c", &LIMITS).unwrap();
    real.cgroups.ensure("c", &LIMITS).unwrap();
    real.spawn("c", "exec sleep 1000");
    settled(&real.cgroups, 1).await;
    let statistics = real.cgroups.statistics("c");
    assert_eq!(statistics.mem_limit_bytes, Some(64 << 20));
    assert!(statistics.cpu_user_usec.is_some() && statistics.pids.is_some());
    real.cgroups.kill("c").await.unwrap();
    real.cgroups.remove("c").await.unwrap();
    real.cgroups.remove("c").await.unwrap();
    real.cgroups.remove_root().unwrap();
    for directory in real.cgroups.directories("c") {
        assert!(!directory.parent().unwrap().exists(), "{}", directory.display());
    }
}

/// The way of kernels without `cgroup.kill`: the freezer, then one by one; with a cgroup
/// below that the task made.
#[tokio::test]
async fn killing_by_freezer_takes_everything_along() {
    let mut real = Real::new("freezer");
    let directories = real.cgroups.ensure("c", &LIMITS).unwrap();
    for directory in &directories {
        fs::create_dir(directory.join("inner")).unwrap();
    }
    real.spawn("c", "sleep 1000 & sleep 1000 & wait");
    settled(&real.cgroups, 3).await;
    let freezer = real.cgroups.place("c", Controller::Freezer).unwrap().directory;
    processes::kill_all(&directories, None, Some(&freezer)).await.unwrap();
    settled(&real.cgroups, 0).await;
    real.cgroups.remove("c").await.unwrap();
    assert!(directories.iter().all(|directory| !directory.exists()));
}
