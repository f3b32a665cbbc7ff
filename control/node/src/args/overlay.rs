//! Of `mizzen overlay`.

use super::Output;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Of `mizzen overlay`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct OverlayArgs {
    /// What to do instead of showing them.
    #[command(subcommand)]
    pub command: Option<OverlayCommand>,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Below `mizzen overlay`.
#[derive(Debug, Subcommand)]
pub enum OverlayCommand {
    /// Let the agents of a DC/OS cluster keep their blocks until they are nodes of this one
    #[command(after_help = "\
FILE is what DC/OS' leading master answers at /overlay-master/state. Nobody else gets what
those agents have, their containers are reached, and a machine that becomes a node of this
cluster under its former address has its former blocks. Said again, it replaces what was
said of the agents in it. Only the leading master of this cluster takes it.

Example:
  curl -s http://leader.mesos:5050/overlay-master/state | mizzen overlay adopt -")]
    Adopt(OverlayAdoptArgs),
}

/// Of `mizzen overlay adopt`.
#[derive(Debug, Args)]
pub struct OverlayAdoptArgs {
    /// JSON; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}
