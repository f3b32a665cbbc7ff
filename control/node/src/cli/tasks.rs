//! `mizzen tasks`, and how a task is named on the command line.

use super::error::CliError;
use super::session::{Session, print, print_json, understand};
use super::table::{Paint, Tone, age, plain, render as table, toned};
use crate::args::TasksArgs;
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A task of this node.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Task {
    /// Its id.
    pub id: String,
    framework: String,
    state: String,
    health: Option<Value>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    ports: Vec<Value>,
    pid: Option<u64>,
    /// When it was launched, in seconds since 1970.
    launched: Option<f64>,
}

impl Task {
    fn runs(&self) -> bool {
        self.state.eq_ignore_ascii_case("TASK_RUNNING")
            || self.state.eq_ignore_ascii_case("running")
    }
}

pub(super) async fn run(session: &Session, args: &TasksArgs) -> Result<(), CliError> {
    let value = session.get("/v1/tasks").await?;
    let Some(word) = &args.task else {
        if args.output.json {
            return print_json(&value);
        }
        let tasks: Vec<Task> = understand("/v1/tasks", value)?;
        return print(&render(&tasks, SystemTime::now(), session.paint));
    };
    let tasks: Vec<Task> = understand("/v1/tasks", value.clone())?;
    let ids = matching(word, &tasks);
    if args.output.json {
        let chosen = |task: &&Value| ids.iter().any(|id| task["id"] == *id);
        let chosen: Vec<Value> =
            value.as_array().into_iter().flatten().filter(chosen).cloned().collect();
        return print_json(&Value::Array(chosen));
    }
    let chosen: Vec<Task> =
        tasks.iter().filter(|t| ids.contains(&t.id.as_str())).cloned().collect();
    print(&render(&chosen, SystemTime::now(), session.paint))
}

/// The one task that `word` names: by its id, by the beginning of its id, or by
/// its app. Of several, the one that runs.
pub(super) fn resolve(word: &str, tasks: &[Task]) -> Result<String, CliError> {
    let found = matching(word, tasks);
    let running: Vec<&str> = tasks
        .iter()
        .filter(|task| task.runs() && found.contains(&task.id.as_str()))
        .map(|task| task.id.as_str())
        .collect();
    match (&found[..], &running[..]) {
        ([], _) => Err(CliError::NoTask { task: word.to_owned() }),
        ([one], _) | (_, [one]) => Ok((*one).to_owned()),
        _ => {
            let tasks = found.iter().map(|id| (*id).to_owned()).collect();
            Err(CliError::Ambiguous { task: word.to_owned(), tasks })
        }
    }
}

/// Ids of the tasks that `word` can mean; an exact id wins over an app, an app
/// over the beginning of other ids.
fn matching<'a>(word: &str, tasks: &'a [Task]) -> Vec<&'a str> {
    let ids = || tasks.iter().map(|task| task.id.as_str());
    if let Some(exact) = ids().find(|id| *id == word) {
        return vec![exact];
    }
    // The scheduler names tasks after their app, with `_` for `/`.
    let app = word.trim_matches('/').replace('/', "_");
    let of_app = |id: &&str| id.strip_prefix(&app).is_some_and(|rest| rest.starts_with('.'));
    let found: Vec<&str> = ids().filter(of_app).collect();
    if !found.is_empty() && !app.is_empty() {
        return found;
    }
    ids().filter(|id| !app.is_empty() && id.starts_with(&app)).collect()
}

fn render(tasks: &[Task], now: SystemTime, paint: Paint) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let rows = tasks.iter().map(|task| {
        let health = task.health.as_ref().map(health).unwrap_or_default();
        let ports: Vec<String> = task.ports.iter().map(port).collect();
        vec![
            plain(&task.id),
            toned(tone(&task.state), short(&task.state)),
            toned(tone(&health), &health),
            plain(task.addresses.join(",")),
            plain(ports.join(",")),
            plain(task.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            plain(task.launched.map(|at| since(at, now)).unwrap_or_default()),
            plain(&task.framework),
        ]
    });
    let headings = ["ID", "STATE", "HEALTH", "ADDRESS", "PORTS", "PID", "AGE", "FRAMEWORK"];
    table(&headings, rows.collect(), paint)
}

/// How long ago `at` (seconds since 1970) was; a clock that was set back counts as
/// no time.
fn since(at: f64, now: Duration) -> String {
    age((now.as_secs_f64() - at).max(0.0) as u64)
}

/// `TASK_RUNNING` as `running`.
fn short(state: &str) -> String {
    state.strip_prefix("TASK_").unwrap_or(state).to_ascii_lowercase()
}

fn health(value: &Value) -> String {
    match value {
        Value::Bool(true) => "healthy".to_owned(),
        Value::Bool(false) => "unhealthy".to_owned(),
        Value::String(text) => text.clone(),
        _ => String::new(),
    }
}

/// A port is a number, or an object with one.
fn port(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(port) => port.get("number").map(Value::to_string).unwrap_or_default(),
        other => other.to_string(),
    }
}

fn tone(word: &str) -> Tone {
    match short(word).as_str() {
        "running" | "healthy" | "finished" => Tone::Good,
        "staging" | "starting" | "killing" | "unknown" => Tone::Busy,
        "failed" | "lost" | "error" | "unhealthy" | "killed" | "gone" => Tone::Bad,
        _ => Tone::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tasks() -> Vec<Task> {
        serde_json::from_value(json!([
            {"id": "web.1a", "name": "web", "framework": "marathon", "state": "TASK_RUNNING",
             "health": "healthy", "addresses": ["9.0.0.2"], "ports": [8080], "agent": "a",
             "pid": 4711, "sandbox": "/s", "launched": 935.5},
            {"id": "web.1b", "name": "web", "framework": "marathon", "state": "TASK_STAGING",
             "health": null, "addresses": [], "ports": [], "agent": "a", "pid": null,
             "sandbox": "/s", "launched": 999.0},
            {"id": "webs.2", "framework": "marathon", "state": "TASK_RUNNING"},
            {"id": "group_db.3a", "framework": "marathon", "state": "TASK_FAILED"},
            {"id": "group_db.3b", "framework": "marathon", "state": "TASK_FAILED"},
        ]))
        .unwrap()
    }

    #[test]
    fn a_list_of_tasks() {
        let want = "\
ID       STATE     HEALTH    ADDRESS   PORTS   PID    AGE     FRAMEWORK
web.1a   running   healthy   9.0.0.2   8080    4711   1m05s   marathon
web.1b   staging   -         -         -       -      2s      marathon
";
        let now = UNIX_EPOCH + Duration::from_secs(1001);
        assert_eq!(render(&tasks()[..2], now, Paint::Plain), want);
    }

    #[test]
    fn which_task_is_meant() {
        #[rustfmt::skip]
        let table: &[(&str, Result<&str, &[&str]>)] = &[
            ("web.1b",    Ok("web.1b")),
            ("/web",      Ok("web.1a")),
            ("web",       Ok("web.1a")),
            ("webs",      Ok("webs.2")),
            ("webs.",     Ok("webs.2")),
            ("/group/db", Err(&["group_db.3a", "group_db.3b"])),
            ("group",     Err(&["group_db.3a", "group_db.3b"])),
            ("nothing",   Err(&[])),
            ("/",         Err(&[])),
        ];
        for (word, want) in table {
            match (resolve(word, &tasks()), want) {
                (Ok(id), Ok(want)) => assert_eq!(id, *want, "{word}"),
                (Err(CliError::Ambiguous { tasks, .. }), Err(want)) => assert_eq!(tasks, *want),
                (Err(CliError::NoTask { .. }), Err([])) => {}
                (other, _) => panic!("{word}: {other:?}"),
            }
        }
    }
}
