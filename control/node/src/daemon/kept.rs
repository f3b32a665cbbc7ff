//! Sandboxes of tasks that ended: kept for a while, then removed.
//!
//! The record of such a task lies in a directory of its own until its sandbox is gone.
//! That file last changed when the task ended, so a restart knows as much as before.

use super::build::work_dir;
use super::checkpoints::Checkpoints;
use super::core::{Core, Input};
use crate::config::Config;
use mizzen_agent::{MAX_SHOWN, Record, Retention};
use mizzen_api::v1;
use mizzen_types::error::chain;
use mizzen_types::ids::ContainerId;
use mizzen_types::time::Wall;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

/// Between two looks at what is kept, as Mesos does.
pub(crate) const LOOK: Duration = Duration::from_secs(60);

/// What is kept of ended tasks.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    work_dir: PathBuf,
    /// Records of ended tasks.
    records: Checkpoints,
    /// Whether a thread is removing just now.
    busy: Arc<AtomicBool>,
}

/// What became of a look at what is kept.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Their sandboxes are gone.
    pub(crate) removed: Vec<ContainerId>,
    /// What could not be removed, and why.
    pub(crate) left: Vec<String>,
}

impl Kept {
    /// Opens the directory of records, or makes it.
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        let records = Checkpoints::open(config.state_dir.join("ended"))?;
        Ok(Self { work_dir: work_dir(config), records, busy: Arc::default() })
    }

    /// All has been said of a task: from now on its record is kept with its sandbox.
    pub(crate) fn retire(&self, live: &Checkpoints, id: &ContainerId) -> io::Result<()> {
        live.hand_over(id, &self.records)
    }

    /// The newest records, oldest first. A sandbox that nobody answers for, left by a
    /// crash or an older version, gets a record first.
    fn recover(&self, live: &Checkpoints, started: SystemTime) -> io::Result<Vec<Record>> {
        // In this order none is missed: a record only moves from the second place to the
        // third, and what is launched meanwhile is younger than we are.
        let sandboxes = self.sandboxes(started);
        let (live, ended) = (live.list()?, self.records.list()?);
        let known: BTreeSet<ContainerId> =
            live.into_iter().chain(ended).map(|(id, _)| id).collect();
        for (path, changed) in sandboxes {
            match self.record_of(&path, changed) {
                Some(record) if !known.contains(&record.container) => {
                    self.records.write_as_of(&record, changed)?;
                }
                _ => {}
            }
        }
        let mut ended = self.records.list()?;
        ended.sort_by_key(|(_, changed)| *changed);
        let beyond = ended.len().saturating_sub(MAX_SHOWN);
        Ok(ended.iter().skip(beyond).filter_map(|(id, _)| self.records.read(id).ok()).collect())
    }

    /// Removes what is due.
    fn collect(&self, retention: Retention, now: Wall) -> io::Result<Collected> {
        let usage = usage(&self.work_dir)?;
        let ended = self.records.list()?.into_iter().map(|(id, at)| (wall(at), id)).collect();
        let mut collected = Collected::default();
        for id in retention.due(ended, usage, now) {
            match self.remove(&id) {
                Ok(()) => collected.removed.push(id),
                Err(error) => collected.left.push(format!("sandbox of container {id}: {error}")),
            }
        }
        Ok(collected)
    }

    fn remove(&self, id: &ContainerId) -> io::Result<()> {
        // Of what cannot be read only the record goes; the next start finds the sandbox.
        if let Ok(record) = self.records.read(id) {
            let sandbox = self.work_dir.join(record.sandbox());
            let plain = |part: Component<'_>| !matches!(part, Component::ParentDir);
            if sandbox.components().all(plain) && sandbox.ends_with(id.as_str()) {
                absent(fs::remove_dir_all(&sandbox))?;
                tidy(&sandbox);
            }
        }
        self.records.remove(id)
    }

    /// Sandboxes that did not change since `started`, and when they did.
    fn sandboxes(&self, started: SystemTime) -> Vec<(PathBuf, SystemTime)> {
        let into = |name: &'static str| move |path: PathBuf| below(&path.join(name));
        below(&self.work_dir.join("slaves"))
            .into_iter()
            .flat_map(into("frameworks"))
            .flat_map(into("executors"))
            .flat_map(into("runs"))
            .filter_map(|path| {
                let found = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_dir)?;
                Some((path, found.modified().ok()?)).filter(|(_, changed)| *changed < started)
            })
            .collect()
    }

    /// What the path of a sandbox tells of its task.
    fn record_of(&self, sandbox: &Path, changed: SystemTime) -> Option<Record> {
        let parts: Vec<&str> =
            sandbox.strip_prefix(&self.work_dir).ok()?.iter().filter_map(|p| p.to_str()).collect();
        let [_, agent, _, framework, _, task, _, container] = parts[..] else { return None };
        let framework = v1::FrameworkInfo {
            id: Some(v1::FrameworkId { value: framework.to_owned() }),
            ..v1::FrameworkInfo::default()
        };
        let task = v1::TaskInfo {
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: v1::AgentId { value: agent.to_owned() },
            ..v1::TaskInfo::default()
        };
        Some(Record {
            phase: mizzen_agent::record::Phase::Ended,
            ..Record::new(framework, task, container.into(), agent.into(), wall(changed))
        })
    }
}

impl Core {
    /// Takes up what a former process kept, on a thread of its own: it may be much.
    pub(crate) fn recover_kept(&self) {
        let Some(containers) = self.containers.clone() else { return };
        let started = UNIX_EPOCH + Duration::from_nanos(self.started.wall.0);
        tokio::task::spawn_blocking(move || {
            match containers.kept.recover(&containers.checkpoints, started) {
                Ok(records) => containers.tell(Input::Recovered(records)),
                Err(error) => {
                    warn!(error = chain(&error), "cannot look for sandboxes of ended tasks");
                }
            }
        });
    }

    /// Removes sandboxes that are kept no longer, unless that is being done already.
    pub(crate) fn collect_sandboxes(&mut self, now: Wall) {
        let Some(containers) = self.containers.clone() else { return };
        let agent = &self.config.agent;
        let headroom = f64::from(agent.gc_disk_headroom) / 100.0;
        let retention = Retention { delay: agent.gc_delay, headroom };
        let kept = containers.kept.clone();
        if kept.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::task::spawn_blocking(move || {
            let collected = kept.collect(retention, now).unwrap_or_else(|error| Collected {
                left: vec![format!("cannot look for sandboxes: {error}")],
                ..Collected::default()
            });
            kept.busy.store(false, Ordering::Release);
            containers.tell(Input::Collected(collected));
        });
    }

    /// A look at what is kept is over.
    pub(crate) fn note_collected(&mut self, collected: &Collected) {
        if let Some(agent) = self.agent.as_mut().filter(|_| !collected.removed.is_empty()) {
            info!(count = collected.removed.len(), "sandboxes of ended tasks were removed");
            agent.sandboxes_removed(&collected.removed);
        }
        match collected.left.first() {
            None => self.problems.solve("sandboxes"),
            Some(first) => {
                let count = collected.left.len();
                self.problems.report("sandboxes", format!("{count} not removed, such as {first}"));
            }
        }
    }
}

/// Removes what is empty around a sandbox that is gone.
fn tidy(sandbox: &Path) {
    let (Some(runs), Some(id)) = (sandbox.parent(), sandbox.file_name()) else { return };
    let latest = runs.join("latest");
    if fs::read_link(&latest).is_ok_and(|target| target.as_os_str() == id) {
        let _ = fs::remove_file(latest);
    }
    // They stay if another run of the task is in them.
    let _ = fs::remove_dir(runs);
    let _ = runs.parent().map(fs::remove_dir);
}

/// Which part of a path's file system is used, from 0 to 1.
fn usage(path: &Path) -> io::Result<f64> {
    fs::create_dir_all(path)?;
    let found = rustix::fs::statvfs(path)?;
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    Ok(used as f64 / found.f_blocks.max(1) as f64)
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn wall(time: SystemTime) -> Wall {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Bench {
        directory: tempfile::TempDir,
        kept: Kept,
        live: Checkpoints,
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str| directory.path().join(name);
            let records = Checkpoints::open(at("ended")).unwrap();
            let kept = Kept { work_dir: at("work"), records, busy: Arc::default() };
            let live = Checkpoints::open(at("tasks")).unwrap();
            Self { directory, kept, live }
        }

        fn sandbox(&self, task: &str, container: &str) -> PathBuf {
            let runs = "work/slaves/a/frameworks/f/executors";
            let runs = self.directory.path().join(runs).join(task).join("runs");
            fs::create_dir_all(runs.join(container)).unwrap();
            fs::write(runs.join(container).join("stdout"), "ahoy").unwrap();
            let _ = fs::remove_file(runs.join("latest"));
            symlink(container, runs.join("latest")).unwrap();
            runs.join(container)
        }

        fn record(&self, sandbox: &Path) -> Record {
            self.kept.record_of(sandbox, UNIX_EPOCH).unwrap()
        }

        fn recover(&self) -> Vec<String> {
            let soon = SystemTime::now() + Duration::from_secs(60);
            let records = self.kept.recover(&self.live, soon).unwrap();
            records.iter().map(|record| record.container.to_string()).collect()
        }

        fn collect(&self, delay: Duration) -> Vec<String> {
            let retention = Retention { delay, headroom: 0.0 };
            let collected = self.kept.collect(retention, wall(SystemTime::now())).unwrap();
            assert_eq!(collected.left, [""; 0]);
            collected.removed.iter().map(ToString::to_string).collect()
        }
    }

    #[test]
    fn a_sandbox_is_kept_and_removed_with_its_record() {
        let bench = Bench::new();
        let (old, new) = (bench.sandbox("t", "c1"), bench.sandbox("t", "c2"));
        for sandbox in [&old, &new] {
            bench.live.write(&bench.record(sandbox)).unwrap();
        }
        bench.kept.retire(&bench.live, &"c1".into()).unwrap();
        assert_eq!(bench.collect(Duration::from_secs(1 << 30)), [""; 0], "it ended just now");
        assert!(old.exists());
        assert_eq!(bench.collect(Duration::ZERO), ["c1"], "the other one has not ended");
        assert!(!old.exists() && new.exists());
        assert_eq!(bench.recover(), [""; 0]);

        bench.kept.retire(&bench.live, &"c2".into()).unwrap();
        bench.collect(Duration::ZERO);
        let executors = new.ancestors().nth(3).unwrap();
        assert!(below(executors).is_empty(), "nothing of the task is left");
    }

    #[test]
    fn a_restart_finds_what_was_kept_and_what_nobody_answers_for() {
        let bench = Bench::new();
        let lives = bench.sandbox("lives", "c1");
        bench.live.write(&bench.record(&lives)).unwrap();
        let orphan = bench.sandbox("orphan", "c2");
        let now = SystemTime::now();
        assert!(bench.kept.recover(&bench.live, UNIX_EPOCH).unwrap().is_empty(), "too young");
        assert_eq!(bench.recover(), ["c2"]);
        assert_eq!(bench.recover(), ["c2"], "once");
        let listed = bench.kept.records.list().unwrap();
        assert!(listed[0].1 <= now, "it is as old as its sandbox");
        let record = bench.kept.records.read(&"c2".into()).unwrap();
        assert_eq!((record.task_id().as_str(), record.framework_id().as_str()), ("orphan", "f"));
        assert_eq!(bench.collect(Duration::ZERO), ["c2"]);
        assert!(!orphan.exists() && lives.exists());
    }

    #[test]
    fn what_a_task_links_to_stays() {
        let bench = Bench::new();
        let treasure = bench.directory.path().join("treasure");
        fs::write(&treasure, "gold").unwrap();
        let sandbox = bench.sandbox("t", "c1");
        symlink(bench.directory.path(), sandbox.join("way-out")).unwrap();
        bench.recover();
        assert_eq!(bench.collect(Duration::ZERO), ["c1"]);
        assert!(treasure.exists() && !sandbox.exists());
    }
}
