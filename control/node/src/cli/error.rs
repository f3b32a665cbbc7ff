//! Why a command failed.

use mizzen_http::client::ClientError;
use std::path::{Path, PathBuf};

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Nobody listens on the socket.
    #[error(
        "no mizzen node answers at {}; start one with `mizzen node`, or try `mizzen lab`",
        .socket.display()
    )]
    NoNode {
        /// The socket.
        socket: PathBuf,
    },
    /// The plugins could not be installed or removed.
    #[error(transparent)]
    Cni(#[from] super::cni::CniInstallError),
    /// The conversation failed in another way.
    #[error(transparent)]
    Client(ClientError),
    /// The node refused.
    #[error("{reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The node's words.
        reason: String,
    },
    /// The answer has another form than this program knows.
    #[error("cannot understand the node's answer to {path}; is it of another version?")]
    Answer {
        /// What was asked.
        path: String,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
    /// The file cannot be read.
    #[error("cannot read {}", source_name(.path))]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A configuration has values that are none.
    #[error("{} cannot be taken over:\n  {}", source_name(.path), .wrong.join("\n  "))]
    Import {
        /// The file.
        path: PathBuf,
        /// A line for each.
        wrong: Vec<String>,
    },
    /// The file is no TOML.
    #[error("{} is not TOML", source_name(.path))]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// The file has policies that are none.
    #[error("{}:\n  {}", source_name(.path), .wrong.join("\n  "))]
    Policy {
        /// The file.
        path: PathBuf,
        /// A line for each.
        wrong: Vec<String>,
    },
    /// Several policies have the same id.
    #[error(
        "policies of one id replace each other; which one is meant?\n  {}",
        .twins.join("\n  ")
    )]
    Twins {
        /// A line for each id, with the places.
        twins: Vec<String>,
    },
    /// The file is no JSON.
    #[error("{} is not JSON", source_name(.path))]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The file is JSON, and no app.
    #[error("{} has no app with an \"id\"", source_name(.path))]
    NoApp {
        /// The file.
        path: PathBuf,
    },
    /// The id of an app has no name in it.
    #[error("`{app}` is not an app; `mizzen apps` lists them")]
    NotAnApp {
        /// As typed.
        app: String,
    },
    /// No task has that name.
    #[error("no task `{task}`; `mizzen tasks` lists them")]
    NoTask {
        /// As asked for.
        task: String,
    },
    /// It is known, and there is nothing to read.
    #[error("{reason}")]
    NothingRan {
        /// In words.
        reason: String,
    },
    /// A name has no answer.
    #[error("`{name}` is not resolved: {why}")]
    Unresolved {
        /// The name.
        name: String,
        /// The response code, in words.
        why: String,
    },
    /// Nothing was asked for.
    #[error("the name is empty; that of the root is `.`")]
    NoName,
    /// Several tasks have it.
    #[error("`{task}` are several tasks, name one of them:\n  {}", .tasks.join("\n  "))]
    Ambiguous {
        /// As asked for.
        task: String,
        /// Their ids.
        tasks: Vec<String>,
    },
    /// Neither a node nor a task has that name.
    #[error("`{name}` is neither a node (`mizzen nodes`) nor a task (`mizzen tasks`)")]
    NoTarget {
        /// As asked for.
        name: String,
    },
    /// Several nodes have it.
    #[error("`{name}` are several nodes, name one of them:\n  {}", .nodes.join("\n  "))]
    SeveralNodes {
        /// As asked for.
        name: String,
        /// Their ids.
        nodes: Vec<String>,
    },
    /// None of the packets was answered.
    #[error("{name} does not answer{}", because(.why.as_deref()))]
    Unanswered {
        /// As asked for.
        name: String,
        /// Why they could not be sent, if that is why.
        why: Option<String>,
    },
    /// No agent has that name.
    #[error("no agent `{agent}`; `mizzen agents` lists them")]
    NoAgent {
        /// As asked for.
        agent: String,
    },
    /// Several agents have it.
    #[error("`{agent}` are several agents, name one of them:\n  {}", .agents.join("\n  "))]
    SeveralAgents {
        /// As asked for.
        agent: String,
        /// Their ids.
        agents: Vec<String>,
    },
    /// Something is left on the agent.
    #[error("{agent} is not drained after {seconds} s; the drain goes on{}", because(.why.as_deref()))]
    Undrained {
        /// The agent.
        agent: String,
        /// How long was waited.
        seconds: u64,
        /// What the drain waits for.
        why: Option<String>,
    },
    /// A deployment is under way.
    #[error(
        "a deployment of this app is under way, as `mizzen apps` shows; wait for its end, or \
         give it up with --force"
    )]
    Locked,
    /// The app does not run yet.
    #[error("{app} does not run after {seconds} s; the deployment goes on{}", because(.why.as_deref()))]
    Late {
        /// The app.
        app: String,
        /// How long was waited.
        seconds: u64,
        /// Why its tasks wait, if the node knows.
        why: Option<String>,
    },
    /// Nobody reads what we print.
    #[error("cannot print")]
    Print(#[source] std::io::Error),
}

impl CliError {
    /// Whether what was typed is wrong, as the node understands it.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoName | Self::Refused { status: 400, .. })
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NoNode { socket, .. } => Self::NoNode { socket },
            other => Self::Client(other),
        }
    }
}

fn because(why: Option<&str>) -> String {
    why.map(|why| format!(" ({why})")).unwrap_or_default()
}

/// A file as people call it.
fn source_name(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => path.display().to_string(),
    }
}
