//! Apps and tasks as clients see them.

use crate::app::App;
use crate::instance::{Condition, Instance, ProbeResult};
use crate::scheduler::Services;
use crate::service::Service;
use crate::version::Version;
use mizzen_types::time::Now;
use serde_json::{Value, json};

/// What is shown of an app besides its definition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embed {
    /// `tasks`.
    pub tasks: bool,
    /// `lastTaskFailure`.
    pub failure: bool,
    /// `taskStats`.
    pub stats: bool,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    staged: usize,
    running: usize,
    healthy: usize,
    unhealthy: usize,
}

impl Services {
    /// An app with counts, deployments and what `embed` asks for.
    pub(crate) fn app_info(&self, app: &App, embed: Embed, now: Now) -> Value {
        let mut info = serde_json::to_value(app).unwrap_or_default();
        let Some(service) = self.services.get(&app.id) else { return info };
        let counts = counts(service.instances.values());
        info["tasksStaged"] = json!(counts.staged);
        info["tasksRunning"] = json!(counts.running);
        info["tasksHealthy"] = json!(counts.healthy);
        info["tasksUnhealthy"] = json!(counts.unhealthy);
        let deployments = self.blockers([&app.id].into_iter());
        info["deployments"] = deployments.iter().map(|id| json!({"id": id})).collect();
        if embed.tasks {
            info["tasks"] = self.tasks_of(service);
        }
        if let Some(failure) = service.failure.as_ref().filter(|_| embed.failure) {
            info["lastTaskFailure"] = json!(failure);
        }
        if embed.stats {
            info["taskStats"] = stats(app, service, Version::at(now.wall));
        }
        info
    }

    /// The tasks of a service, in the order of their ids.
    pub(crate) fn tasks_of(&self, service: &Service) -> Value {
        service.instances.values().map(|copy| self.task(copy)).collect()
    }

    /// One task.
    pub(crate) fn task(&self, copy: &Instance) -> Value {
        let app = self.services.get(&copy.app).and_then(|service| service.app.as_ref());
        let address = |ip: &String| json!({"ipAddress": ip, "protocol": if ip.contains(':') { "IPv6" } else { "IPv4" }});
        let addresses: Vec<Value> = copy.addresses.iter().map(address).collect();
        let mut task = json!({
            "id": copy.task_id,
            "appId": copy.app,
            "host": copy.host,
            "ipAddresses": addresses,
            "ports": copy.host_ports,
            "servicePorts": app.map(App::service_ports).unwrap_or_default(),
            "slaveId": copy.agent,
            "state": copy.state().as_str_name(),
            "stagedAt": copy.staged,
            "version": copy.version,
            "localVolumes": [],
            "healthCheckResults": results(copy),
            "role": self.settings.role,
        });
        let options = [("region", &copy.region), ("zone", &copy.zone)];
        for (name, value) in options {
            if let Some(value) = value {
                task[name] = json!(value);
            }
        }
        if let Some(started) = copy.started {
            task["startedAt"] = json!(started);
        }
        task
    }
}

fn counts<'a>(copies: impl Iterator<Item = &'a Instance>) -> Counts {
    let mut counts = Counts::default();
    for copy in copies {
        match copy.condition {
            Condition::Staging | Condition::Starting => counts.staged += 1,
            Condition::Running | Condition::Killing => counts.running += 1,
            Condition::Unreachable => continue,
        }
        match copy.healthy {
            Some(true) if copy.probed => counts.healthy += 1,
            Some(false) if copy.probed => counts.unhealthy += 1,
            _ => {}
        }
    }
    counts
}

fn results(copy: &Instance) -> Vec<Value> {
    let Some(alive) = copy.healthy.filter(|_| copy.probed) else { return Vec::new() };
    let ProbeResult { first_success, last_success, last_failure, failures } = copy.probe;
    let instance = copy.task_id.rsplit_once("._app.").map_or(copy.task_id.as_str(), |(id, _)| id);
    let mut result = json!({
        "alive": alive,
        "consecutiveFailures": failures,
        "instanceId": instance,
    });
    let times = [
        ("firstSuccess", first_success),
        ("lastSuccess", last_success),
        ("lastFailure", last_failure),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            result[name] = json!(time);
        }
    }
    vec![result]
}

fn stats(app: &App, service: &Service, now: Version) -> Value {
    type Group<'a> = (&'a str, &'a dyn Fn(&Instance) -> bool);
    let groups: [Group<'_>; 4] = [
        ("startedAfterLastScaling", &|copy| copy.version >= app.version_info.last_scaling_at),
        ("withLatestConfig", &|copy| copy.config == app.config()),
        ("withOutdatedConfig", &|copy| copy.config != app.config()),
        ("totalSummary", &|_| true),
    ];
    let mut stats = json!({});
    for (name, belongs) in groups {
        let copies: Vec<&Instance> =
            service.instances.values().filter(|copy| belongs(copy)).collect();
        if !copies.is_empty() {
            stats[name] = json!({"stats": group_stats(&copies, now)});
        }
    }
    stats
}

#[allow(clippy::cast_precision_loss, reason = "an average for people")]
fn group_stats(copies: &[&Instance], now: Version) -> Value {
    let counts = counts(copies.iter().copied());
    let mut ages: Vec<f64> = copies
        .iter()
        .filter_map(|copy| copy.started)
        .map(|started| now.seconds_since(started))
        .collect();
    ages.sort_by(f64::total_cmp);
    let mut stats = json!({"counts": {
        "staged": counts.staged,
        "running": counts.running,
        "healthy": counts.healthy,
        "unhealthy": counts.unhealthy,
    }});
    if let Some(median) = ages.get(ages.len() / 2) {
        let average = ages.iter().sum::<f64>() / ages.len() as f64;
        stats["lifeTime"] = json!({"averageSeconds": average, "medianSeconds": median});
    }
    stats
}
