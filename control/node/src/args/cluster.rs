//! Of `mizzen nodes`, `mizzen ping`, `mizzen join-token` and `mizzen expel`.

use super::Output;
use clap::Args;
use mizzen_types::time;
use std::time::Duration;

/// Of `mizzen nodes`.
#[derive(Debug, Args)]
pub struct NodesArgs {
    /// Show the list again whenever it is another one
    #[arg(long)]
    pub watch: bool,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen ping`.
#[derive(Debug, Args)]
pub struct PingArgs {
    /// A node or a task
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// How many packets are sent
    #[arg(short, long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen join-token`.
#[derive(Debug, Args)]
pub struct JoinTokenArgs {
    /// How long the token lets somebody in: 90s, 10m, 24h
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = ttl)]
    pub ttl: Duration,
    /// How many nodes it lets in
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub uses: u32,
    /// Make none, and list those that there are, without their secrets
    #[arg(long, conflicts_with_all = ["ttl", "uses", "revoke"])]
    pub list: bool,
    /// Make none, and have this one let nobody in any more
    #[arg(long, value_name = "ID", allow_hyphen_values = true, conflicts_with_all = ["ttl", "uses"])]
    pub revoke: Option<String>,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen expel`.
#[derive(Debug, Args)]
pub struct ExpelArgs {
    /// Its id, the first letters of that, or its host's name, as in `mizzen nodes`
    pub node: String,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

fn ttl(text: &str) -> Result<Duration, String> {
    time::parse(text, Duration::from_secs(1)..=MAX_TTL)
        .ok_or_else(|| "not a time with its unit, such as 90s, 10m or 24h, at most 30d".to_owned())
}

/// Tokens end some day.
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);
