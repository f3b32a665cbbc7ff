//! Of `mizzen vips` and `mizzen vip`.

use super::Output;
use clap::{Args, Subcommand};
use mizzen_types::vip::{Locality, Millis, OnRemoval, Rule};
use mizzen_types::vip_service::{VipServiceBackend, VipServiceId};
use std::path::PathBuf;
use std::time::Duration;

/// Of `mizzen vips`.
#[derive(Debug, Args)]
pub struct VipsArgs {
    /// Only VIPs whose address or name contains this
    #[arg(value_name = "WHICH", conflicts_with_all = ["plan", "problems"])]
    pub which: Option<String>,
    /// Go on, with what happened since the last look
    #[arg(short, long, conflicts_with_all = ["plan", "problems"])]
    pub watch: bool,
    /// Seconds between two looks
    #[arg(
        long, value_name = "SECONDS", default_value = "1", requires = "watch",
        value_parser = interval
    )]
    pub interval: Duration,
    /// End after so many looks
    #[arg(long, value_name = "N", requires = "watch")]
    pub count: Option<u32>,
    /// Show what the apps or services in FILE would change; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// List labels that do not do what they say
    #[arg(long, conflicts_with = "plan")]
    pub problems: bool,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// VIP as NAME:PORT or IP:PORT, /udp behind it if it is one; or a connection
    #[arg(value_name = "VIP|SRC:PORT->VIP:PORT")]
    pub what: String,
    /// Where the connection of the client before it goes, a VIP or a backend
    #[arg(value_name = "VIP:PORT")]
    pub to: Option<String>,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// `mizzen vip …`.
#[derive(Debug, Subcommand)]
pub enum VipCommand {
    /// Register a service, or replace what is registered
    #[command(after_help = "\
Examples:
  mizzen vip set demo:80/tcp --backend 192.0.2.7:8080 192.0.2.8:8080@3
  mizzen vip set 10.1.2.3:53/udp --backend 192.0.2.7:53 --rule source")]
    Set(VipSetArgs),
    /// Remove a registered service
    #[command(after_help = "Example:\n  mizzen vip rm demo:80/tcp")]
    Rm(VipRmArgs),
    /// List what is registered on this node
    #[command(after_help = "Examples:\n  mizzen vip ls\n  mizzen vip ls --json")]
    Ls(Output),
}

/// Of `mizzen vip set`.
#[derive(Debug, Args)]
pub struct VipSetArgs {
    /// NAME:PORT/PROTOCOL or ADDRESS:PORT/PROTOCOL
    #[arg(value_name = "SERVICE")]
    pub service: VipServiceId,
    /// Where connections go; weight 0 takes no new ones [default weight: 1]
    #[arg(
        long = "backend", value_name = "IP:PORT[@WEIGHT]", num_args = 1..,
        required_unless_present = "no_backends", value_parser = backend
    )]
    pub backends: Vec<VipServiceBackend>,
    /// None: connections are refused
    #[arg(long, conflicts_with = "backends")]
    pub no_backends: bool,
    /// latency, least-connections, random, maglev or source [default: latency]
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub rule: Option<Rule>,
    /// prefer (near backends first) or ignore [default: prefer]
    #[arg(long, value_name = "LOCALITY", value_parser = locality)]
    pub locality: Option<Locality>,
    /// Time in which a new backend grows to its share: 0, 500ms, 10s, 2m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = slow_start)]
    pub slow_start: Option<Millis>,
    /// Connections that end with their backend: datagrams, all or keep [default: datagrams]
    #[arg(long, value_name = "WHICH", value_parser = on_removal)]
    pub on_removal: Option<OnRemoval>,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen vip rm`.
#[derive(Debug, Args)]
pub struct VipRmArgs {
    /// NAME:PORT/PROTOCOL or ADDRESS:PORT/PROTOCOL
    #[arg(value_name = "SERVICE")]
    pub service: VipServiceId,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected 0.1 to 3600 seconds".to_owned())
}

fn backend(text: &str) -> Result<VipServiceBackend, String> {
    text.parse().map_err(|error| match text.parse::<VipServiceId>() {
        Ok(_) => format!("{error}; SERVICE stands before --backend"),
        Err(_) => format!("{error}"),
    })
}

fn rule(text: &str) -> Result<Rule, String> {
    Rule::from_text(text).ok_or_else(|| one_of(Rule::ALL.map(Rule::word)))
}

fn locality(text: &str) -> Result<Locality, String> {
    Locality::from_text(text).ok_or_else(|| one_of(Locality::ALL.map(Locality::word)))
}

fn on_removal(text: &str) -> Result<OnRemoval, String> {
    OnRemoval::from_text(text).ok_or_else(|| one_of(OnRemoval::ALL.map(OnRemoval::word)))
}

fn slow_start(text: &str) -> Result<Millis, String> {
    let expected = "expected 0 or a time with its unit, such as 500ms, 10s or 2m, at most a day";
    Millis::from_text(text).ok_or_else(|| expected.to_owned())
}

fn one_of<const N: usize>(words: [&str; N]) -> String {
    format!("expected one of {}", words.join(", "))
}
