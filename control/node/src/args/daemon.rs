//! Of `mizzen node` and `mizzen lab`.

use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Of `mizzen node`; the configuration keys are added to these.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Print the configuration in force with where each value comes from, and exit
    #[arg(long, conflicts_with = "teardown")]
    pub check_config: bool,
    /// End this node's tasks and remove everything that it made, then exit
    #[arg(long)]
    pub teardown: bool,
    /// Become a node of the cluster that HOST is in, with a token; later starts need neither
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',', conflicts_with_all = ["check_config", "teardown"])]
    pub join: Vec<String>,
    /// What `mizzen join-token` printed there
    #[arg(long, env = "MIZZEN_JOIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<Secret>,
    /// Read the token from FILE
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// Hold the sockets of the daemon of this run directory while it is away
    #[arg(long, hide = true, value_name = "DIR")]
    pub hold_sockets: Option<PathBuf>,
}

/// A text that nobody may read in a log. What it means is found out where it is used: clap
/// repeats what it refuses.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Of `mizzen lab`.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// How many nodes, each with a network of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// Make the sandbox and start no node in it
    #[arg(long)]
    pub no_node: bool,
    /// Leave the sandbox standing after COMMAND, until it is interrupted
    #[arg(long)]
    pub keep: bool,
    /// Run COMMAND in the sandbox of the lab with this process id
    #[arg(long, value_name = "PID", conflicts_with_all = ["nodes", "no_node", "keep"])]
    pub enter: Option<u32>,
    /// Which of the nodes to enter
    #[arg(long, default_value_t = 1, value_name = "N", requires = "enter")]
    pub node: u8,
    /// Inside of a lab: run COMMAND beside its node N
    #[arg(long, value_name = "N", conflicts_with_all = ["nodes", "no_node", "keep", "enter"])]
    pub on: Option<u8>,
    /// Inside of a lab: unplug node N, so that no packet leaves or reaches it
    #[arg(long, value_name = "N", conflicts_with_all = ["nodes", "no_node", "keep", "enter", "on", "command"])]
    pub cut: Option<u8>,
    /// Inside of a lab: plug node N in again
    #[arg(long, value_name = "N", conflicts_with_all = ["nodes", "no_node", "keep", "enter", "on", "command", "cut"])]
    pub heal: Option<u8>,
    /// What to run inside, beside node 1 [default: $SHELL]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
