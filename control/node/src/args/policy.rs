//! Of `mizzen policy`.

use super::Output;
use clap::{Args, Subcommand};
use mizzen_types::policy::PolicyId;
use std::path::PathBuf;

/// `mizzen policy …`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Set the policies in FILEs, each in the place of the one with its id
    #[command(after_help = "\
A file is JSON or TOML: one policy, a list of them, or an object with a list `policies`.
Nothing is changed if anything in any of the files is wrong.

Examples:
  mizzen policy apply examples/policy.toml
  mizzen policy apply --audit db.json        try it: report, refuse nothing
  mizzen policy show db | mizzen policy apply -")]
    Apply(PolicyApplyArgs),
    /// List policies, and what their rules let pass
    #[command(after_help = "Examples:\n  mizzen policy ls\n  mizzen policy ls --json | jq .counts")]
    Ls(Output),
    /// Print a policy as it was written
    #[command(after_help = "Example:\n  mizzen policy show db > db.json")]
    Show(PolicyIdArgs),
    /// Remove policies
    #[command(after_help = "Example:\n  mizzen policy rm db web")]
    Rm(PolicyRmArgs),
    /// Say whether, and why, SRC reaches DST
    #[command(after_help = "\
SRC and DST are addresses, tasks, apps or `host`, this node. Without a port, all that
passes is listed; without a protocol it is TCP. This node judges what its own containers
take in; what another one's take in, that one judges, by the same rules.

Examples:
  mizzen policy explain web db:5432
  mizzen policy explain web 9.0.1.2:53/udp
  mizzen policy explain 198.18.0.1 db/icmp
  mizzen policy explain web db --json")]
    Explain(PolicyExplainArgs),
    /// List what policies refused on this node lately
    #[command(after_help = "\
Examples:
  mizzen policy drops
  mizzen policy drops --watch
  mizzen policy drops --audit              what policies that are tried out would refuse
  mizzen policy drops --watch --json | jq .from.task")]
    Drops(PolicyDropsArgs),
}

/// Of `mizzen policy apply`.
#[derive(Debug, Args)]
pub struct PolicyApplyArgs {
    /// JSON or TOML; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Only report what they would refuse
    #[arg(long)]
    pub audit: bool,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen policy show`.
#[derive(Debug, Args)]
pub struct PolicyIdArgs {
    /// Which policy
    #[arg(value_name = "ID")]
    pub id: PolicyId,
}

/// Of `mizzen policy rm`.
#[derive(Debug, Args)]
pub struct PolicyRmArgs {
    /// Which policies
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<PolicyId>,
}

/// Of `mizzen policy explain`.
#[derive(Debug, Args)]
pub struct PolicyExplainArgs {
    /// Who begins: an address, a task, an app, or `host`
    #[arg(value_name = "SRC")]
    pub from: String,
    /// With whom
    #[arg(value_name = "DST[:PORT[/PROTOCOL]]")]
    pub to: String,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen policy drops`.
#[derive(Debug, Args)]
pub struct PolicyDropsArgs {
    /// Go on, with what is refused from now on
    #[arg(short, long)]
    pub watch: bool,
    /// Only what policies that are tried out would have refused
    #[arg(long)]
    pub audit: bool,
    /// Form of the answer; with --watch one line for each.
    #[command(flatten)]
    pub output: Output,
}
