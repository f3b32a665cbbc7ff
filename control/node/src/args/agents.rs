//! Of `mizzen agents`, `mizzen drain` and `mizzen reactivate`.

use super::Output;
use clap::{Args, Subcommand};
use mizzen_types::time;
use std::time::Duration;

/// Of `mizzen agents`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentsArgs {
    /// What to do instead of listing them.
    #[command(subcommand)]
    pub command: Option<AgentsCommand>,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// `mizzen agents …`.
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// Start nothing more on an agent, until it is reactivated; what runs there goes on
    #[command(after_help = "Example:\n  mizzen agents deactivate anchor")]
    Deactivate(AgentArgs),
    /// Take an agent out for good and at once, also one that is out of reach
    #[command(after_help = "\
Its tasks are gone for their frameworks, which start others, and end if it hears of that.
Its id never comes back: what its machine runs next needs a state directory of its own.
`mizzen drain --mark-gone` lets the tasks end first. An agent that is unreachable for so
long that it is not listed any more is known by its whole id.

Example:
  mizzen agents mark-gone 8d5f1c02-1b99-4a4c-a853-775669ff2c0b-S3")]
    MarkGone(AgentArgs),
}

/// Of `mizzen drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Agent's id, the beginning of one, or its host's name
    pub agent: String,
    /// Longest time that a task may take to end: 0, 500ms, 10s, 1h [default: each task's own]
    #[arg(long, value_name = "TIME", value_parser = grace)]
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

/// Which agent is meant.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Agent's id, the beginning of one, or its host's name
    pub agent: String,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

fn grace(text: &str) -> Result<Duration, String> {
    time::parse(text, Duration::ZERO..=time::DAY).ok_or_else(|| {
        "not 0 or a time with its unit, such as 500ms, 10s or 1h, at most a day".to_owned()
    })
}
