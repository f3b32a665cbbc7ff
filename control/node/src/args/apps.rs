//! Of commands about apps and their tasks.

use super::Output;
use clap::Args;
use std::path::PathBuf;

/// Of `mizzen run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// App definition as JSON, one app or an array of them; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What becomes of a deployment that is under way.
    #[command(flatten)]
    pub lock: Lock,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen scale`.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// App, with or without its leading slash
    pub app: String,
    /// How many instances
    pub instances: u32,
    /// What becomes of a deployment that is under way.
    #[command(flatten)]
    pub lock: Lock,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// App, with or without its leading slash
    pub app: String,
    /// What becomes of a deployment that is under way.
    #[command(flatten)]
    pub lock: Lock,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of what a deployment that is under way stands in the way of.
#[derive(Debug, Clone, Copy, Args)]
pub struct Lock {
    /// Give up a deployment of the app that is under way
    #[arg(long)]
    pub force: bool,
}

/// Of what goes on until the app runs.
#[derive(Debug, Clone, Copy, Args)]
pub struct Patience {
    /// Do not wait until the app runs
    #[arg(long)]
    pub no_wait: bool,
    /// Longest time to wait, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout: u64,
}

/// Of `mizzen tasks`.
#[derive(Debug, Args)]
pub struct TasksArgs {
    /// Only tasks of this app, or the one with this id or beginning of an id
    pub task: Option<String>,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Task, an app, or the beginning of an id
    pub task: String,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// What it wrote to stderr instead of stdout
    #[arg(long)]
    pub stderr: bool,
}
