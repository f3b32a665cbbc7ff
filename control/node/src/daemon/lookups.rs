//! Questions whose answers lie on the disk or in `/sys`: they are looked up on a thread
//! of their own, because tasks decide how much there is to read.

use super::core::Core;
use super::queries::role_is_off;
use super::{build, files, status};
use mizzen_http::core::{Query, QueryReply};
use mizzen_isolators::Containerizer;
use mizzen_types::ids::check_id;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Finds the answer, wherever that takes place.
pub(crate) type Lookup = Box<dyn FnOnce() -> QueryReply + Send>;

impl Core {
    /// How to answer a question of this kind; any other is given back.
    pub(crate) fn look_up(&self, query: Query) -> Result<Lookup, Query> {
        let root = build::work_dir(&self.config);
        let (Some(agent), Some(containers)) = (&self.agent, &self.containers) else {
            return self.without_agent(query);
        };
        Ok(match query {
            Query::FilesRead { path, offset, length } => {
                let length = length.and_then(|length| u64::try_from(length).ok());
                Box::new(move || files::read(&root, &path, offset, length))
            }
            Query::FilesBrowse { path } => Box::new(move || files::browse(&root, &path)),
            Query::FilesDownload { path } => Box::new(move || files::download(&root, &path)),
            Query::Logs { task, stream, offset, length } => {
                // Known before the file is read: what ended writes no more.
                let ended = !agent.is_live(&task);
                let sandbox = agent.sandbox_of(&task);
                Box::new(move || {
                    with_end(logs(&root, sandbox, &task, &stream, offset, length), ended)
                })
            }
            Query::AgentContainers { container_id } => {
                let (rows, containerizer) = (agent.rows(), containers.containerizer.clone());
                Box::new(move || containers_view(&rows, &containerizer, container_id.as_deref()))
            }
            other => return Err(other),
        })
    }

    fn without_agent(&self, query: Query) -> Result<Lookup, Query> {
        match query {
            Query::FilesRead { .. }
            | Query::FilesBrowse { .. }
            | Query::FilesDownload { .. }
            | Query::Logs { .. }
            | Query::AgentContainers { .. } => Ok(Box::new(|| role_is_off("agent"))),
            other => Err(other),
        }
    }
}

fn logs(
    root: &Path,
    sandbox: Option<PathBuf>,
    task: &str,
    stream: &str,
    offset: Option<i64>,
    length: Option<u64>,
) -> QueryReply {
    if stream != "stdout" && stream != "stderr" {
        return QueryReply::Bad(format!("`{stream}` is neither stdout nor stderr"));
    }
    let Some(sandbox) = sandbox.or_else(|| former_sandbox(root, task)) else {
        return QueryReply::NotFound(format!("no task `{task}` on this node"));
    };
    files::read(root, &sandbox.join(stream).display().to_string(), offset, length)
}

/// Says with a piece of a log whether more can come.
fn with_end(reply: QueryReply, ended: bool) -> QueryReply {
    match reply {
        QueryReply::Json(mut piece) => {
            piece["ended"] = json!(ended);
            QueryReply::Json(piece)
        }
        refusal => refusal,
    }
}

/// The last sandbox of a task that has ended: a command task's executor has its name.
fn former_sandbox(root: &Path, task: &str) -> Option<PathBuf> {
    check_id(task).ok()?;
    let below = |directory: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    below(root.join("slaves"))
        .into_iter()
        .flat_map(|agent| below(agent.join("frameworks")))
        .map(|framework| framework.join("executors").join(task).join("runs/latest"))
        .find(|latest| latest.exists())
}

fn containers_view(rows: &Value, containerizer: &Containerizer, only: Option<&str>) -> QueryReply {
    let wanted = |row: &&Value| only.is_none_or(|only| row["container"] == only);
    let view = |row: &Value| {
        let container = row["container"].as_str().unwrap_or_default();
        json!({
            "container_id": container,
            "executor_id": row["id"],
            "executor_name": row["name"],
            "source": row["id"],
            "status": { "executor_pid": row["pid"] },
            "statistics": status::statistics(&containerizer.statistics(container)),
        })
    };
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    QueryReply::Json(rows.iter().filter(wanted).map(view).collect())
}
