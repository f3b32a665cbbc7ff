//! `mizzen tasks`, and how a task is named on the command line.

mod meaning;

use super::error::CliError;
use super::session::{Session, print, print_json, understand};
use super::table::{Paint, Tone, age, plain, render as table, toned};
use crate::args::TasksArgs;
use meaning::{Meaning, as_in_ids};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) use meaning::short;

/// The tasks of all nodes.
const ALL: &str = "/v1/cluster/tasks";

/// A task.
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
    /// The node that it runs on.
    #[serde(default)]
    host: String,
    /// When it was launched, in seconds since 1970.
    launched: Option<f64>,
    /// When it ended, if it has.
    ended: Option<f64>,
    /// For how long nothing has been heard of its node, if that does not answer.
    silent_seconds: Option<u64>,
}

/// The tasks that a node knows.
#[derive(Debug)]
pub(super) struct Lists {
    /// Those of all nodes that have not ended, or of whose end not everybody has heard.
    current: Vec<Task>,
    /// Those whose sandboxes are kept here, the newest last.
    ended: Vec<Task>,
}

impl Lists {
    /// Asks the node.
    pub async fn get(session: &Session) -> Result<Self, CliError> {
        Self::beside(session.read(ALL).await?, session).await
    }

    /// The same, with a list of the current ones that was given before.
    async fn beside(current: Vec<Task>, session: &Session) -> Result<Self, CliError> {
        let ended = match session.read("/v1/tasks/ended").await {
            // A node without an agent keeps no sandboxes.
            Err(CliError::Refused { status: 404, .. }) => Vec::new(),
            ended => ended?,
        };
        Ok(Self { current, ended })
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = &Task> {
        self.ended.iter().chain(&self.current)
    }

    fn live(&self) -> impl Iterator<Item = &Task> {
        self.current.iter().filter(|task| task.is_live())
    }
}

impl Task {
    fn is_live(&self) -> bool {
        self.ended.is_none() && self.state != "TASK_GONE_BY_OPERATOR"
    }
}

pub(super) async fn run(session: &Session, args: &TasksArgs) -> Result<(), CliError> {
    let value = session.get(ALL).await?;
    let tasks: Vec<Task> = understand(ALL, value.clone())?;
    let Some(word) = &args.task else {
        if args.output.json {
            return print_json(&value);
        }
        return print(&render(&tasks, SystemTime::now(), session.paint));
    };
    let lists = Lists::beside(tasks, session).await?;
    let meaning = meaning(session, word, &lists).await?;
    let is_meant = |task: &&Task| meaning.includes(&task.id);
    let chosen: Vec<Task> = lists.current.iter().filter(is_meant).cloned().collect();
    if chosen.is_empty() {
        crate::say(&format!("mizzen: {}\n", nothing_runs(word, &meaning, &lists)?));
    }
    if args.output.json {
        let rows = value.as_array().into_iter().flatten();
        let chosen = |row: &&Value| row["id"].as_str().is_some_and(|id| meaning.includes(id));
        return print_json(&rows.filter(chosen).cloned().collect());
    }
    print(&render(&chosen, SystemTime::now(), session.paint))
}

/// The tasks whose logs `word` names: the one with this id; all of an app that have
/// not ended, else the last one that has; the one whose id begins so.
pub(super) async fn with_logs(
    session: &Session,
    word: &str,
    lists: &Lists,
) -> Result<Vec<String>, CliError> {
    let meaning = meaning(session, word, lists).await?;
    let is_meant = |task: &&Task| meaning.includes(&task.id);
    let live: Vec<String> = lists.live().filter(is_meant).map(|task| task.id.clone()).collect();
    match (&meaning, live.len()) {
        (Meaning::Task(id), _) => return Ok(vec![id.clone()]),
        (Meaning::App(_), 1..) | (Meaning::Beginning(_), 1) => return Ok(live),
        (Meaning::Beginning(_), 2..) => {
            return Err(CliError::Ambiguous { task: word.to_owned(), tasks: live });
        }
        (_, 0) => {}
    }
    if let Some(last) = lists.all().rfind(is_meant) {
        return Ok(vec![last.id.clone()]);
    }
    Err(CliError::NothingRan { reason: nothing_runs(word, &meaning, lists)? })
}

/// Ids of the tasks of all nodes that `word` names and that have not ended.
pub(super) async fn of_all_nodes(session: &Session, word: &str) -> Result<Vec<String>, CliError> {
    let lists = Lists { current: session.read(ALL).await?, ended: Vec::new() };
    let meaning = Meaning::of(word, &lists);
    let is_meant = |task: &&Task| meaning.includes(&task.id);
    Ok(lists.live().filter(is_meant).map(|task| task.id.clone()).collect())
}

/// What `word` means. An app that has no tasks, which only the service scheduler knows,
/// comes before the beginning of an id.
async fn meaning(session: &Session, word: &str, lists: &Lists) -> Result<Meaning, CliError> {
    let meaning = Meaning::of(word, lists);
    let begins = matches!(meaning, Meaning::Beginning(_));
    let has_task = lists.all().any(|task| meaning.includes(&task.id));
    if (has_task && !begins) || as_in_ids(word).is_empty() {
        return Ok(meaning);
    }
    match super::apps::find(session, word).await {
        Ok(Some(app)) => Ok(Meaning::App(as_in_ids(&app.id))),
        // A node without the service scheduler has no apps.
        Ok(None) | Err(CliError::Refused { .. }) if has_task => Ok(meaning),
        Ok(None) | Err(CliError::Refused { .. }) => Err(CliError::NoTask { task: word.to_owned() }),
        Err(error) => Err(error),
    }
}

/// Says that what `word` means has no task.
fn nothing_runs(word: &str, meaning: &Meaning, lists: &Lists) -> Result<String, CliError> {
    let last = lists.all().rfind(|task| meaning.includes(&task.id));
    match (last, meaning) {
        (Some(last), _) => {
            let state = state_word(&last.state);
            let what = format!("`{word}` has no task that runs");
            Ok(format!("{what}; the last one was {} ({state})", last.id))
        }
        (None, Meaning::App(app)) if !app.is_empty() => Ok(format!("the app `{word}` has no task")),
        (None, _) => Err(CliError::NoTask { task: word.to_owned() }),
    }
}

fn render(tasks: &[Task], now: SystemTime, paint: Paint) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let hosts: BTreeSet<&str> = tasks.iter().map(|task| task.host.as_str()).collect();
    let rows = tasks.iter().map(|task| {
        let health = task.health.as_ref().map(health).unwrap_or_default();
        let ports: Vec<String> = task.ports.iter().map(port).collect();
        let mut row = vec![
            plain(&task.id),
            toned(tone(&task.state), state_word(&task.state)),
            toned(tone(&health), &health),
            plain(task.addresses.join(",")),
            plain(ports.join(",")),
            plain(task.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            plain(task.launched.map(|at| since(at, now)).unwrap_or_default()),
            plain(&task.framework),
        ];
        if hosts.len() > 1 {
            row.push(plain(&task.host));
        }
        row
    });
    let headings = ["ID", "STATE", "HEALTH", "ADDRESS", "PORTS", "PID", "AGE", "FRAMEWORK", "NODE"];
    let shown = headings.len() - usize::from(hosts.len() <= 1);
    let silent: BTreeMap<&str, u64> =
        tasks.iter().filter_map(|task| Some((task.host.as_str(), task.silent_seconds?))).collect();
    let mut text = table(&headings[..shown], rows.collect(), paint);
    for (node, seconds) in silent {
        let span = age(seconds);
        let line = format!(
            "\nnode {node} does not answer (silent for {span}); its tasks are shown as last known\n"
        );
        text.push_str(&paint.mark(Tone::Bad, &line));
    }
    text
}

/// How long ago `at` (seconds since 1970) was; a clock that was set back counts as
/// no time.
fn since(at: f64, now: Duration) -> String {
    age((now.as_secs_f64() - at).max(0.0) as u64)
}

/// `TASK_RUNNING` as `running`.
fn state_word(state: &str) -> String {
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
    match state_word(word).as_str() {
        "running" | "healthy" | "finished" => Tone::Good,
        "staging" | "starting" | "killing" | "unknown" => Tone::Busy,
        "failed" | "lost" | "error" | "unhealthy" | "killed" | "gone" | "unreachable"
        | "gone_by_operator" => Tone::Bad,
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
        assert_eq!(render(&tasks(), now, Paint::Plain), want);
    }

    #[test]
    fn tasks_of_several_nodes_say_where() {
        let mut tasks = tasks();
        tasks[0].host = "n1".to_owned();
        tasks[1].host = "n2".to_owned();
        let text = render(&tasks, UNIX_EPOCH + Duration::from_secs(1001), Paint::Plain);
        let last: Vec<_> = text.lines().map(|line| line.split_whitespace().last()).collect();
        assert_eq!(last, [Some("NODE"), Some("n1"), Some("n2")]);
    }
}
