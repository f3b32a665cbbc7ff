//! Of `mizzen agents`, `mizzen drain` and `mizzen reactivate`.

use super::Output;
use clap::Args;
use mizzen_types::vip::Millis;
use std::time::Duration;

/// Of `mizzen drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Agent's id, the beginning of one, or its host's name
    pub agent: String,
    /// Longest time that a task may take to end: 0, 500ms, 10s, 2m [default: each task's own]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub grace: Option<Duration>,
    /// Take the agent out for good once nothing is left on it
    #[arg(long)]
    pub mark_gone: bool,
    /// Wait until nothing is left on it
    #[arg(long)]
    pub wait: bool,
    /// Longest time to wait, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS", requires = "wait")]
    pub timeout: u64,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen reactivate`.
#[derive(Debug, Args)]
pub struct ReactivateArgs {
    /// Agent's id, the beginning of one, or its host's name
    pub agent: String,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

fn time(text: &str) -> Result<Duration, String> {
    Millis::from_text(text)
        .map(|millis| Duration::from_millis(u64::from(millis.0)))
        .ok_or_else(|| "not 0 or a time with its unit, such as 500ms, 10s or 2m".to_owned())
}
