//! What the agent shows of itself: `/state`, `/metrics/snapshot`, and the rows of
//! `mizzen tasks`.

use crate::record::Record;
use crate::task::Task;
use crate::{Agent, status};
use mizzen_api::link::Duty;
use mizzen_api::{resources, summary, v1};
use mizzen_types::fact::Health;
use mizzen_types::ids::ContainerId;
use mizzen_types::resources::Resources;
use mizzen_types::time::Now;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What happened since the agent started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub launch_errors: u64,
    finished: u64,
    failed: u64,
    killed: u64,
    lost: u64,
}

impl Counters {
    pub(crate) fn ended(&mut self, state: v1::TaskState) {
        let counter = match state {
            v1::TaskState::TaskFinished => &mut self.finished,
            v1::TaskState::TaskKilled | v1::TaskState::TaskGoneByOperator => &mut self.killed,
            v1::TaskState::TaskDropped | v1::TaskState::TaskLost => &mut self.lost,
            _ => &mut self.failed,
        };
        *counter += 1;
    }
}

impl Agent {
    /// The body of `/state`.
    #[must_use]
    pub fn state(&self) -> Value {
        let total = parsed(&self.settings.info.resources);
        let summary = summary::of(&total);
        let port = self.settings.port;
        let mut state = json!({
            "version": mizzen_api::MESOS_VERSION,
            "build_date": "",
            "build_time": 0.0,
            "build_user": "",
            "capabilities": ["MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "AGENT_DRAINING"],
            "start_time": self.started.wall.as_secs_f64(),
            "id": self.id().map(ToString::to_string).unwrap_or_default(),
            "pid": format!("slave(1)@{}:{port}", self.settings.address),
            "hostname": self.settings.info.hostname,
            "port": port,
            "attributes": {},
            "resources": summary,
            "reserved_resources": {},
            "unreserved_resources": summary,
            "flags": { "work_dir": self.settings.work_dir },
            "frameworks": self.frameworks(Activity::Active),
            "completed_frameworks": self.frameworks(Activity::Completed),
        });
        if let Duty::Drain(config) = &self.orders.duty {
            state["drain_config"] = json!(config);
            state["estimated_drain_start_time_seconds"] = json!(self.orders.since.as_secs_f64());
        }
        state
    }

    /// The body of `/metrics/snapshot`.
    #[must_use]
    pub fn metrics(&self, now: Now) -> Value {
        let mut metrics = Map::new();
        let mut set = |name: &str, value: f64| {
            metrics.insert(format!("slave/{name}"), json!(value));
        };
        let (total, used) = (parsed(&self.settings.info.resources), self.used());
        for name in ["cpus", "mem", "disk", "gpus"] {
            let (total, used) = (total.scalar(name).as_f64(), used.scalar(name).as_f64());
            set(&format!("{name}_total"), total);
            set(&format!("{name}_used"), used);
            set(&format!("{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
        }
        let count = |wanted: v1::TaskState| {
            self.tasks.values().filter(|task| status::latest_state(&task.record) == wanted).count()
                as f64
        };
        set("registered", f64::from(u8::from(self.registered)));
        set("uptime_secs", now.mono.since(self.started.mono).as_secs_f64());
        set("tasks_staging", count(v1::TaskState::TaskStaging));
        set("tasks_starting", count(v1::TaskState::TaskStarting));
        set("tasks_running", count(v1::TaskState::TaskRunning));
        set("tasks_killing", count(v1::TaskState::TaskKilling));
        set("tasks_finished", self.counters.finished as f64);
        set("tasks_failed", self.counters.failed as f64);
        set("tasks_killed", self.counters.killed as f64);
        set("tasks_lost", self.counters.lost as f64);
        set("container_launch_errors", self.counters.launch_errors as f64);
        set("frameworks_active", self.by_framework().len() as f64);
        Value::Object(metrics)
    }

    /// One row per task: `/v1/tasks`.
    #[must_use]
    pub fn rows(&self) -> Value {
        self.tasks.values().map(|task| self.row(task)).collect()
    }

    /// The same of tasks that ended and whose sandboxes are kept, the newest last.
    #[must_use]
    pub fn ended_rows(&self) -> Value {
        self.ended.iter().map(|task| self.row(task)).collect()
    }

    /// The first process of each container that runs.
    pub fn processes(&self) -> impl Iterator<Item = (&ContainerId, u32)> {
        let live = self.tasks.values().filter(|task| !task.is_terminal());
        live.filter_map(|task| Some((&task.record.container, task.record.pid?)))
    }

    /// Whether a task with this id has not ended yet.
    #[must_use]
    pub fn is_live(&self, task: &str) -> bool {
        let live = |candidate: &Task| {
            candidate.record.task_id().as_str() == task && !candidate.is_terminal()
        };
        self.tasks.values().any(live)
    }

    /// What tasks hold of a resource beyond what the agent offers, in words; a smaller
    /// offer than before does not end them.
    #[must_use]
    pub fn overcommitted(&self) -> Option<String> {
        let (total, used) = (parsed(&self.settings.info.resources), self.used());
        let beyond = |name: Arc<str>| {
            let (has, of) = (used.scalar(&name), total.scalar(&name));
            if has > of {
                return Some(format!("{} {name} of {}", has.as_f64(), of.as_f64()));
            }
            let (has, of) = (used.ranges(&name), total.ranges(&name));
            let count = has.difference(&of).count();
            (count > 0).then(|| format!("{count} {name} that are not among those"))
        };
        let texts: Vec<String> = used.names().into_iter().filter_map(beyond).collect();
        (!texts.is_empty())
            .then(|| format!("tasks hold more than agent.resources offers: {}", texts.join(", ")))
    }

    /// What the agent has and what its tasks hold of it.
    #[must_use]
    pub fn totals(&self) -> Value {
        json!({
            "resources": summary::of(&parsed(&self.settings.info.resources)),
            "used": summary::of(&self.used()),
        })
    }

    /// The sandbox of the task with this id, the newest if several frameworks have
    /// one.
    #[must_use]
    pub fn sandbox_of(&self, task: &str) -> Option<PathBuf> {
        let newest = self
            .tasks
            .values()
            .chain(self.ended.iter())
            .filter(|candidate| candidate.record.task_id().as_str() == task)
            .max_by_key(|candidate| candidate.record.launched)?;
        Some(self.settings.work_dir.join(newest.record.sandbox()))
    }

    fn row(&self, task: &Task) -> Value {
        let record = &task.record;
        json!({
            "id": record.task_id(),
            "name": record.task.name,
            "framework": record.framework.name,
            "state": status::latest_state(record).as_str_name(),
            "health": health_name(task.health()),
            "addresses": record.addresses,
            "ports": ports(record),
            "agent": record.agent,
            "container": record.container,
            "pid": record.pid,
            "sandbox": self.settings.work_dir.join(record.sandbox()),
            "launched": record.launched.as_secs_f64(),
            "ended": task.is_terminal().then(|| last_word(record)),
        })
    }

    fn used(&self) -> Resources {
        let live = self.tasks.values().filter(|task| !task.is_terminal());
        live.fold(Resources::new(), |mut sum, task| {
            for resource in &task.record.task.resources {
                let plain = v1::Resource { allocation_info: None, ..resource.clone() };
                sum += &parsed(&[plain]);
            }
            sum
        })
    }

    fn by_framework(&self) -> BTreeMap<String, Vec<&Task>> {
        grouped(self.tasks.values())
    }

    fn frameworks(&self, wanted: Activity) -> Value {
        let (active, ended) = (self.by_framework(), grouped(self.ended.iter()));
        let ids: BTreeSet<&String> = match wanted {
            Activity::Active => active.keys().collect(),
            Activity::Completed => ended.keys().filter(|id| !active.contains_key(*id)).collect(),
        };
        let of = |map: &BTreeMap<String, Vec<&Task>>, id: &str| -> Vec<Value> {
            map.get(id).into_iter().flatten().map(|task| self.executor(task)).collect()
        };
        let framework = |id: &String| {
            let tasks = [active.get(id), ended.get(id)].into_iter().flatten().flatten();
            let info = tasks.last().map(|task| task.record.framework.clone()).unwrap_or_default();
            json!({
                "id": id,
                "name": info.name,
                "user": info.user,
                "failover_timeout": info.failover_timeout(),
                "checkpoint": info.checkpoint(),
                "hostname": info.hostname.unwrap_or_default(),
                "executors": of(&active, id),
                "completed_executors": of(&ended, id),
            })
        };
        ids.into_iter().map(framework).collect()
    }

    /// A command task has an executor of its own name.
    fn executor(&self, task: &Task) -> Value {
        let record = &task.record;
        let list = json!([self.task(task)]);
        let (running, completed) =
            if task.is_terminal() { (json!([]), list) } else { (list, json!([])) };
        json!({
            "id": record.task_id(),
            "name": format!("Command Executor (Task: {})", record.task_id()),
            "source": record.task_id(),
            "container": record.container,
            "directory": self.settings.work_dir.join(record.sandbox()),
            "resources": summary::of(&parsed(&record.task.resources)),
            "tasks": running,
            "queued_tasks": [],
            "completed_tasks": completed,
        })
    }

    fn task(&self, task: &Task) -> Value {
        let v1 = task.to_v1(self.id());
        json!({
            "id": v1.task_id.value,
            "name": v1.name,
            "framework_id": v1.framework_id.value,
            "executor_id": "",
            "slave_id": v1.agent_id.value,
            "state": v1.state().as_str_name(),
            "resources": summary::of(&parsed(&v1.resources)),
            "statuses": v1.statuses,
            "labels": v1.labels,
            "discovery": v1.discovery,
            "container": v1.container,
        })
    }
}

/// Whether a framework has tasks here that have not been forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Active,
    Completed,
}

fn grouped<'a>(tasks: impl Iterator<Item = &'a Task>) -> BTreeMap<String, Vec<&'a Task>> {
    let mut map: BTreeMap<String, Vec<&Task>> = BTreeMap::new();
    for task in tasks {
        map.entry(task.record.framework_id().to_string()).or_default().push(task);
    }
    map
}

/// When the last status of a task was made.
fn last_word(record: &Record) -> Option<f64> {
    record.statuses.last().and_then(|status| status.timestamp)
}

fn parsed(list: &[v1::Resource]) -> Resources {
    // Resources of accepted tasks were checked by the master, the agent's own at start.
    resources::from_v1(list).unwrap_or_default()
}

fn ports(record: &Record) -> Vec<u32> {
    let discovery = record.task.discovery.as_ref().and_then(|discovery| discovery.ports.as_ref());
    discovery.into_iter().flat_map(|ports| &ports.ports).map(|port| port.number).collect()
}

fn health_name(health: Health) -> &'static str {
    match health {
        Health::Unchecked => "-",
        Health::Unknown => "unknown",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}
