//! `mizzen run`, `mizzen scale` and `mizzen rm`: changes, and waiting for them.

use super::apps::{self, App};
use super::error::CliError;
use super::files;
use super::progress::Progress;
use super::session::{Session, print, print_json};
use crate::args::{Lock, Patience, RmArgs, RunArgs, ScaleArgs};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How often a deployment is looked at.
const LOOK: Duration = Duration::from_millis(150);

pub(super) async fn run(session: &Session, args: &RunArgs) -> Result<(), CliError> {
    let definition = read(&args.file)?;
    let ids = ids(&definition).ok_or_else(|| CliError::NoApp { path: args.file.clone() })?;
    let answer = submit(session, &definition, &ids, args.lock).await?;
    tell(&answer, &ids, args.output.json)?;
    for id in &ids {
        wait(session, id, args.patience).await?;
    }
    Ok(())
}

pub(super) async fn scale(session: &Session, args: &ScaleArgs) -> Result<(), CliError> {
    check_app(&args.app)?;
    let body = json!({ "instances": args.instances });
    let answer = change(session, "PATCH", &apps::path(&args.app), Some(&body), args.lock).await?;
    let ids = [absolute(&args.app)];
    tell(&answer, &ids, args.output.json)?;
    wait(session, &ids[0], args.patience).await
}

pub(super) async fn remove(session: &Session, args: &RmArgs) -> Result<(), CliError> {
    check_app(&args.app)?;
    let answer = change(session, "DELETE", &apps::path(&args.app), None, args.lock).await?;
    tell(&answer, &[absolute(&args.app)], args.output.json)
}

pub(super) fn read(path: &Path) -> Result<Value, CliError> {
    let text = files::read(path)?;
    serde_json::from_str(&text).map_err(|source| CliError::Json { path: path.to_owned(), source })
}

/// The ids of one app or of a list of them, as absolute paths.
fn ids(definition: &Value) -> Option<Vec<String>> {
    let id = |app: &Value| app.get("id").and_then(Value::as_str).map(absolute);
    let ids: Vec<String> = match definition {
        Value::Array(apps) => apps.iter().map(id).collect::<Option<_>>()?,
        app => vec![id(app)?],
    };
    (!ids.is_empty()).then_some(ids)
}

/// `/` is all apps to the API, and none of them on the command line.
fn check_app(id: &str) -> Result<(), CliError> {
    match id.trim_matches('/').is_empty() {
        true => Err(CliError::NotAnApp { app: id.to_owned() }),
        false => Ok(()),
    }
}

fn absolute(id: &str) -> String {
    format!("/{}", id.trim_matches('/'))
}

/// A new app, or a new version of one that exists.
async fn submit(
    session: &Session,
    definition: &Value,
    ids: &[String],
    lock: Lock,
) -> Result<Value, CliError> {
    if definition.is_array() {
        return change(session, "PUT", "/v2/apps", Some(definition), lock).await;
    }
    match change(session, "POST", "/v2/apps", Some(definition), lock).await {
        Err(CliError::Refused { status: 409, .. })
            if apps::find(session, &ids[0]).await?.is_some() =>
        {
            change(session, "PUT", &apps::path(&ids[0]), Some(definition), lock).await
        }
        result => result,
    }
}

/// Sends a change of apps, which a deployment of theirs may stand in the way of.
async fn change(
    session: &Session,
    method: &str,
    path: &str,
    body: Option<&Value>,
    lock: Lock,
) -> Result<Value, CliError> {
    let forced = if lock.force { "?force=true" } else { "" };
    let answer = session.send(method, &format!("{path}{forced}"), body).await;
    match answer {
        Err(CliError::Refused { status: 409, reason }) if reason.contains("force=true") => {
            Err(CliError::Locked)
        }
        answer => answer,
    }
}

fn tell(answer: &Value, ids: &[String], json: bool) -> Result<(), CliError> {
    if json {
        return print_json(answer);
    }
    let deployment = deployment(answer).map(|id| format!("deployment {id}")).unwrap_or_default();
    print(&format!("{} {deployment}\n", ids.join(" ")))
}

/// Its id, which is in another place in the answer to each method.
fn deployment(answer: &Value) -> Option<&str> {
    let direct = answer.get("deploymentId").and_then(Value::as_str);
    direct.or_else(|| answer.get("deployments")?.get(0)?.get("id")?.as_str())
}

/// Waits until the app is as it should be, and says on stderr how far it is.
async fn wait(session: &Session, id: &str, patience: Patience) -> Result<(), CliError> {
    if patience.no_wait {
        return Ok(());
    }
    let limit = Duration::from_secs(patience.timeout);
    let mut progress = Progress::new();
    let deadline = Instant::now() + limit;
    loop {
        let app = apps::find(session, id).await?;
        let waiting = match &app {
            Some(app) if app.settled() => {
                progress.show(&line(app, None));
                progress.end();
                return Ok(());
            }
            Some(_) => apps::waiting(session).await,
            None => Vec::new(),
        };
        let why = apps::why(&waiting, id);
        if let Some(app) = &app {
            progress.show(&line(app, why));
        }
        if Instant::now() >= deadline {
            progress.end();
            let why = why.map(str::to_owned);
            return Err(CliError::Late { app: id.to_owned(), seconds: limit.as_secs(), why });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn line(app: &App, why: Option<&str>) -> String {
    let healthy = app.healthy().map(|n| format!(", {n} healthy")).unwrap_or_default();
    let why = why.map(|why| format!(" - {why}")).unwrap_or_default();
    format!("{}: {} of {} running{healthy}{why}", app.id, app.running(), app.instances)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_app_and_of_many() {
        assert_eq!(ids(&json!({"id": "web"})), Some(vec!["/web".to_owned()]));
        let both = json!([{"id": "/a/b"}, {"id": "c/"}]);
        assert_eq!(ids(&both), Some(vec!["/a/b".to_owned(), "/c".to_owned()]));
        for bad in [json!({}), json!([]), json!(3), json!([{"id": "a"}, {}]), json!({"id": 3})] {
            assert_eq!(ids(&bad), None, "{bad}");
        }
    }

    #[test]
    fn the_deployment_of_each_answer() {
        assert_eq!(deployment(&json!({"deploymentId": "d1", "version": "v"})), Some("d1"));
        assert_eq!(deployment(&json!({"id": "/web", "deployments": [{"id": "d2"}]})), Some("d2"));
        assert_eq!(deployment(&Value::Null), None);
    }

    #[test]
    fn the_root_is_no_app() {
        assert!(check_app("/").is_err() && check_app("").is_err() && check_app("/a").is_ok());
    }

    #[test]
    fn progress_in_words() {
        let app = json!({"id": "/web", "instances": 2, "tasksRunning": 1, "healthChecks": [{}],
                         "tasksHealthy": 0});
        let app: App = serde_json::from_value(app).unwrap();
        assert_eq!(line(&app, None), "/web: 1 of 2 running, 0 healthy");
        let want = "/web: 1 of 2 running, 0 healthy - no agent has 9 cpus";
        assert_eq!(line(&app, Some("no agent has 9 cpus")), want);
    }
}
