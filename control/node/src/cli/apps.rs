//! `mizzen apps`, and what the other commands have to know of apps.

use super::error::CliError;
use super::session::{Session, encode, print, print_json, understand};
use super::table::{Field, Paint, Tone, number, plain, render as table, toned};
use crate::args::Output;
use serde::Deserialize;
use serde_json::Value;

/// Where the apps are listed, with their tasks.
const LIST: &str = "/v2/apps?embed=apps.tasks&embed=apps.counts&embed=apps.deployments";

/// An app as the service scheduler shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct App {
    /// With its leading slash.
    pub id: String,
    /// How many are wanted.
    #[serde(default)]
    pub instances: u64,
    #[serde(default)]
    cpus: f64,
    #[serde(default)]
    mem: f64,
    #[serde(default)]
    health_checks: Vec<Value>,
    tasks_running: Option<u64>,
    tasks_staged: Option<u64>,
    tasks_healthy: Option<u64>,
    #[serde(default)]
    deployments: Vec<Value>,
    #[serde(default)]
    tasks: Vec<AppTask>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppTask {
    #[serde(default)]
    state: String,
    #[serde(default)]
    health_check_results: Vec<HealthResult>,
}

#[derive(Debug, Deserialize)]
struct HealthResult {
    #[serde(default)]
    alive: bool,
}

/// Why an app's tasks wait.
#[derive(Debug, Deserialize)]
pub(super) struct Waiting {
    id: String,
    why: String,
}

impl App {
    /// How many run.
    pub fn running(&self) -> u64 {
        self.tasks_running.unwrap_or_else(|| self.count(|task| task.state == "TASK_RUNNING"))
    }

    /// How many are starting.
    fn staged(&self) -> u64 {
        let starting =
            |task: &AppTask| matches!(task.state.as_str(), "TASK_STAGING" | "TASK_STARTING");
        self.tasks_staged.unwrap_or_else(|| self.count(starting))
    }

    /// How many are healthy; `None` for an app that is not checked.
    pub fn healthy(&self) -> Option<u64> {
        let alive = |task: &AppTask| {
            let results = &task.health_check_results;
            !results.is_empty() && results.iter().all(|result| result.alive)
        };
        (!self.health_checks.is_empty())
            .then(|| self.tasks_healthy.unwrap_or_else(|| self.count(alive)))
    }

    /// Whether everything is as wanted.
    pub fn settled(&self) -> bool {
        self.deployments.is_empty()
            && self.running() == self.instances
            && self.healthy().is_none_or(|healthy| healthy == self.instances)
    }

    fn state(&self, waits: bool) -> Field {
        match () {
            () if waits && self.staged() == 0 && self.running() < self.instances => {
                toned(Tone::Bad, "waiting")
            }
            () if !self.deployments.is_empty() => toned(Tone::Busy, "deploying"),
            () if self.instances == 0 && self.running() == 0 => toned(Tone::Faint, "suspended"),
            () if self.settled() => toned(Tone::Good, "running"),
            () if self.healthy().is_some_and(|healthy| healthy < self.running()) => {
                toned(Tone::Bad, "unhealthy")
            }
            () => toned(Tone::Busy, "starting"),
        }
    }

    fn count(&self, which: impl Fn(&AppTask) -> bool) -> u64 {
        self.tasks.iter().filter(|task| which(task)).count() as u64
    }
}

pub(super) async fn run(session: &Session, output: Output) -> Result<(), CliError> {
    let value = session.get(LIST).await?;
    if output.json {
        return print_json(&value);
    }
    let apps = apps(value)?;
    let waiting = waiting(session).await;
    print(&render(&apps, &waiting, session.paint))
}

/// One app; `None` if there is none of that id.
pub(super) async fn find(session: &Session, id: &str) -> Result<Option<App>, CliError> {
    let path = format!("{}?embed=app.tasks&embed=app.counts&embed=app.deployments", path(id));
    match session.get(&path).await {
        Ok(mut value) => {
            let app = value.get_mut("app").map(Value::take).unwrap_or(value);
            understand(&path, app).map(Some)
        }
        Err(CliError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why tasks wait, in words. An older node does not say.
pub(super) async fn waiting(session: &Session) -> Vec<Waiting> {
    session.read("/v2/queue/why").await.unwrap_or_default()
}

/// The words about `id` in `waiting`.
pub(super) fn why<'a>(waiting: &'a [Waiting], id: &str) -> Option<&'a str> {
    waiting.iter().find(|waiting| same(&waiting.id, id)).map(|waiting| waiting.why.as_str())
}

/// The resource of an app, whose id may have been typed without its slash.
pub(super) fn path(id: &str) -> String {
    format!("/v2/apps/{}", encode(id.trim_matches('/')))
}

fn same(a: &str, b: &str) -> bool {
    a.trim_matches('/') == b.trim_matches('/')
}

fn apps(mut value: Value) -> Result<Vec<App>, CliError> {
    understand(LIST, value.get_mut("apps").map(Value::take).unwrap_or(Value::Null))
}

fn render(apps: &[App], waiting: &[Waiting], paint: Paint) -> String {
    let rows = apps.iter().map(|app| {
        let healthy = app.healthy().map(|n| n.to_string()).unwrap_or_default();
        vec![
            plain(&app.id),
            plain(format!("{}/{}", app.running(), app.instances)),
            plain(healthy),
            plain(number(app.cpus)),
            plain(number(app.mem)),
            app.state(why(waiting, &app.id).is_some()),
        ]
    });
    let headings = ["ID", "RUNNING", "HEALTHY", "CPUS", "MEM", "STATE"];
    let mut text = table(&headings, rows.collect(), paint);
    for app in apps {
        if let Some(why) = why(waiting, &app.id) {
            let line = format!("\n{} waits: {why}\n", app.id);
            text.push_str(&paint.mark(Tone::Bad, line.trim_end_matches('\n')));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn apps_and_why_they_wait() {
        let list = json!({"apps": [
            {"id": "/web", "instances": 2, "cpus": 0.1, "mem": 32, "tasksRunning": 2,
             "tasksHealthy": 2, "healthChecks": [{}], "deployments": []},
            {"id": "/big", "instances": 1, "cpus": 400, "mem": 32, "tasksRunning": 0,
             "tasksStaged": 0, "deployments": [{"id": "d"}]},
            {"id": "/ill", "instances": 2, "cpus": 1, "mem": 1, "healthChecks": [{}], "tasks": [
                {"state": "TASK_RUNNING", "healthCheckResults": [{"alive": true}]},
                {"state": "TASK_RUNNING", "healthCheckResults": [{"alive": false}]}]},
            {"id": "/off", "instances": 0, "cpus": 1, "mem": 1},
            {"id": "/new", "instances": 1, "cpus": 1, "mem": 1, "tasks": [{"state": "TASK_STAGING"}]},
        ]});
        let waiting: Vec<Waiting> =
            serde_json::from_value(json!([{"id": "/big", "why": "no agent has 400 cpus"}]))
                .unwrap();
        let want = "\
ID     RUNNING   HEALTHY   CPUS   MEM   STATE
/web   2/2       2         0.1    32    running
/big   0/1       -         400    32    waiting
/ill   2/2       1         1      1     unhealthy
/off   0/0       -         1      1     suspended
/new   0/1       -         1      1     starting

/big waits: no agent has 400 cpus
";
        assert_eq!(render(&apps(list).unwrap(), &waiting, Paint::Plain), want);
    }

    #[test]
    fn an_id_with_and_without_its_slash() {
        assert_eq!(path("/group/web"), "/v2/apps/group/web");
        assert_eq!(path("web"), "/v2/apps/web");
        assert!(same("/web", "web") && !same("/web", "/webs"));
    }
}
