//! What can be typed after `mizzen`.

mod agents;
mod apps;
mod cluster;
mod cni;
mod daemon;
mod dns;
mod invocation;
mod overlay;
mod policy;
mod vip;

pub use agents::{AgentArgs, AgentsArgs, AgentsCommand, DrainArgs};
pub use apps::{Lock, LogsArgs, Patience, RmArgs, RunArgs, ScaleArgs, TasksArgs};
pub use cluster::{ExpelArgs, JoinTokenArgs, NodesArgs, PingArgs};
pub use cni::{CniCommand, CniInstallArgs, CniPlaces};
pub use daemon::{LabArgs, NodeArgs, Secret};
pub use dns::{DnsArgs, DnsCommand, DnsImportArgs, DnsQuestion, DnsRmArgs, DnsSetArgs};
pub use invocation::{Invocation, command};
pub use overlay::{OverlayAdoptArgs, OverlayArgs, OverlayCommand};
pub use policy::{
    PolicyApplyArgs, PolicyCommand, PolicyDropsArgs, PolicyExplainArgs, PolicyIdArgs, PolicyRmArgs,
};
pub use vip::{ExplainArgs, VipCommand, VipRmArgs, VipSetArgs, VipsArgs};

use crate::config::Loader;
use clap::{Args, Parser, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Turns this machine into a node of a cluster: containers, names, VIPs and an
/// overlay network in one daemon.
#[derive(Debug, Parser)]
#[command(name = "mizzen", version, max_term_width = 100)]
#[command(after_help = "\
Try it without touching this machine (as root):
  mizzen lab                         a shell in a sandbox with a node in it
  mizzen run examples/web.json       there: run an app
  mizzen status

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Which node is meant.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Configuration file [env: MIZZEN_CONFIG] [default: /etc/mizzen/mizzen.toml if it exists]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which node")]
    pub config: Option<PathBuf>,
    /// Instance, where several nodes share this kernel [env: MIZZEN_INSTANCE] [default: default]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which node")]
    pub instance: Option<String>,
    /// Run directory of the node [env: MIZZEN_RUN_DIR] [default: /run/mizzen]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Which node")]
    pub run_dir: Option<PathBuf>,
    /// Socket of the node, for commands that talk to it [env: MIZZEN_SOCKET]
    /// [default: mizzen.sock in the run directory]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Which node")]
    pub socket: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run this machine's node in the foreground
    #[command(after_help = "\
Every configuration key is a flag, a variable MIZZEN_<KEY> and a line of the file.
Lists are separated by commas. A flag wins over a variable, that over the file.
SIGHUP reads the file again; SIGTERM stops the daemon and leaves its tasks running.

Examples:
  mizzen node --state-dir /var/lib/mizzen
  mizzen node --roles master,agent,services --log-level debug
  mizzen node --join 192.0.2.1 --token-file /run/token
  mizzen node --check-config
  mizzen node --teardown")]
    Node(NodeArgs),
    /// Try a node in a sandbox that is gone afterwards
    #[command(after_help = "\
Inside there is a network without a way out, a cgroup, a BPF file system, and state
and run directories of its own. Needs root. The exit code is COMMAND's.

Examples:
  mizzen lab
  mizzen lab -- mizzen status
  mizzen lab --nodes 3               inside: mizzen lab --on 2 -- mizzen status
                                     inside: mizzen lab --cut 3, mizzen lab --heal 3
  mizzen lab --keep &               then: mizzen lab --enter PID -- mizzen status")]
    Lab(LabArgs),
    /// Show the node, its parts and what is wrong with it
    #[command(after_help = "Examples:\n  mizzen status\n  mizzen status --json | jq .problems")]
    Status(Output),
    /// Say what stands in the way of a node on this machine, and what to do about it
    #[command(after_help = "\
Looks at the kernel's features (by trying them), settings, firewalls, ports, MTU, clock,
disk, names and what former nodes left; asks the node's daemon, if it runs. Changes
nothing: links and rules are tried in a network that is gone at once. Other users than
root see less.

Exit codes: 0 nothing stands in the way, 3 there are warnings, 1 there are errors.

Examples:
  mizzen doctor
  mizzen doctor --json | jq -r '.findings[] | select(.grade == \"error\") | .what'")]
    Doctor(Output),
    /// List apps, and say why tasks of theirs wait
    #[command(after_help = "Examples:\n  mizzen apps\n  mizzen apps --json")]
    Apps(Output),
    /// Start an app, or change it to what FILE says
    #[command(after_help = "\
Examples:
  mizzen run examples/web.json
  echo '{\"id\":\"/sleep\",\"cmd\":\"sleep 1h\"}' | mizzen run -")]
    Run(RunArgs),
    /// Set how many instances of an app run
    #[command(after_help = "\
Examples:
  mizzen scale web 5
  mizzen scale web 2 --force         instead of a deployment that does not come to its end")]
    Scale(ScaleArgs),
    /// Remove an app and end its tasks
    #[command(after_help = "Example:\n  mizzen rm web")]
    Rm(RmArgs),
    /// List the tasks of all nodes
    #[command(after_help = "Examples:\n  mizzen tasks\n  mizzen tasks web\n  mizzen tasks --json")]
    Tasks(TasksArgs),
    /// Print what a task wrote
    #[command(after_help = "\
TASK is a task's id, an app, or the beginning of an id: web.8d5f is that of
web.instance-8d5f….  Of an app all tasks are read that run, their lines marked where
there are several, else the last one that ended. With -f it ends when they have ended.

Examples:
  mizzen logs web
  mizzen logs -f web.8d5f
  mizzen logs --stderr web")]
    Logs(LogsArgs),
    /// List the nodes of the cluster, and how they are
    #[command(after_help = "\
A node that does not answer is suspect at once, gets no new connections of VIPs, and is
dead if it does not object for a second; what it said is hidden then.

Examples:
  mizzen nodes
  mizzen nodes --watch
  mizzen nodes --json")]
    Nodes(NodesArgs),
    /// Ask a node or a task for an answer through the overlay
    #[command(after_help = "\
TARGET is a node (its host name, address, id or the beginning of one) or a task, as
`mizzen logs` takes it. The node itself sends the packets: to a node's end of the tunnels,
or to a task's container address. Says by which way they go, how long answers take, and
how large packets may be. The exit code is 1 if nothing was answered.

Examples:
  mizzen ping other
  mizzen ping web.8d5f -c 20
  mizzen ping other --json | jq .path_mtu")]
    Ping(PingArgs),
    /// Print a token by which another machine becomes a node of this cluster
    #[command(after_help = "\
To be asked of the node that has the authority of the cluster: its first one.

Examples:
  mizzen join-token
  mizzen join-token --ttl 10m --uses 20
  mizzen join-token --list
  mizzen join-token --revoke 2HJ6xQ0k1bM

On the other machine: mizzen node --join HOST --token TOKEN")]
    JoinToken(JoinTokenArgs),
    /// Throw another node out of the cluster: its certificate counts no longer
    #[command(after_help = "Example, on the node with the authority:\n  mizzen expel 6e1f0b8a")]
    Expel(ExpelArgs),
    /// Take this node out of its cluster
    #[command(after_help = "Example:\n  mizzen leave")]
    Leave,
    /// List agents, and how they stand; deactivate one, or take it out for good
    #[command(after_help = "\
Examples:
  mizzen agents
  mizzen agents --json
  mizzen agents deactivate anchor
  mizzen agents mark-gone 8d5f1c02-1b99-4a4c-a853-775669ff2c0b-S3")]
    Agents(AgentsArgs),
    /// End all tasks of an agent and start none there, until it is reactivated
    #[command(after_help = "\
Its tasks take no new connections of VIPs, finish the ones they have while their grace
lasts, and are started elsewhere. It stays out over restarts, until `mizzen reactivate`.

Examples:
  mizzen drain anchor
  mizzen drain 8d5f1c02 --grace 2m --wait
  mizzen drain anchor --mark-gone")]
    Drain(DrainArgs),
    /// Let an agent that was drained or deactivated run tasks again
    #[command(after_help = "Example:\n  mizzen reactivate anchor")]
    Reactivate(AgentArgs),
    /// Show the overlays, this node's blocks, and the nodes that are reached through tunnels
    #[command(
        after_help = "Examples:\n  mizzen overlay\n  mizzen overlay --json | jq .registry.usage"
    )]
    Overlay(OverlayArgs),
    /// List VIPs and their backends, or what a change would do to them
    #[command(after_help = "\
--plan FILE shows what `mizzen run FILE` would change about VIPs and names, or what
registering the services in FILE would (as `mizzen vip ls --json` prints them). Nothing
is changed. --watch shows connections a second, latencies and states while they change,
with --json one line for each look.

Examples:
  mizzen vips
  mizzen vips web
  mizzen vips --watch
  mizzen vips --watch --json --count 10
  mizzen vips --problems
  mizzen vips --plan examples/web.json")]
    Vips(VipsArgs),
    /// Register services by hand, for programs outside of the cluster
    #[command(
        subcommand,
        after_help = "\
SERVICE is NAME:PORT/PROTOCOL or ADDRESS:PORT/PROTOCOL; /tcp may be left out. A NAME gets
an address of its own and is found as NAME.static.l4lb.thisdcos.directory. A NAME with a
dot is LABEL.FRAMEWORK and shares the VIP with that framework's tasks.

Examples:
  mizzen vip set demo:80/tcp --backend 192.0.2.7:8080 192.0.2.8:8080@3
  mizzen vip set 10.1.2.3:53/udp --backend 192.0.2.7:53 --rule source
  mizzen vip ls
  mizzen vip rm demo:80/tcp"
    )]
    Vip(VipCommand),
    /// Say who may reach whom: network policies
    #[command(
        subcommand,
        after_help = "\
Between overlays everything is refused, else everything is allowed, until a policy guards
a container: then only what a rule of some policy allows passes. Answers always pass, and
connections that stand are not cut.

Examples:
  mizzen policy apply examples/policy.toml
  mizzen policy apply --audit examples/policy.toml
  mizzen policy ls
  mizzen policy explain web db:5432
  mizzen policy drops --watch
  mizzen policy rm db"
    )]
    Policy(PolicyCommand),
    /// Say why connections to a VIP go where they go
    #[command(after_help = "\
Of a VIP: how it chooses, what each backend costs, and how likely the next connection
goes there. Of a connection: the candidates that were drawn, what they cost, and how it
stands. A client's address and port are what `ss -tn` shows.

Examples:
  mizzen explain web.marathon:80
  mizzen explain 11.0.0.1:53/udp
  mizzen explain 172.31.255.1:40312 web.marathon:80
  mizzen explain '172.31.255.1:40312->11.0.0.1:80' --json")]
    Explain(ExplainArgs),
    /// Ask the node's resolver, and say where the answer comes from; set records by hand
    #[command(after_help = "\
A NAME that is also a command has a dot at its end: `mizzen dns set.`

Examples:
  mizzen dns web.marathon.mesos --watch
  mizzen dns set db.example.com A 192.0.2.7 --ttl 5m
  mizzen dns zones
  mizzen dns web.marathon.mesos
  mizzen dns _web._tcp.marathon.mesos SRV
  mizzen dns web.marathon.l4lb.thisdcos.directory")]
    Dns(DnsArgs),
    /// Install the CNI plugins and a network for containerd, Podman and others
    #[command(after_help = "Example:\n  mizzen cni install")]
    #[command(subcommand)]
    Cni(CniCommand),
}

/// Of commands that list something.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print what the node answered, as JSON
    #[arg(long)]
    pub json: bool,
}

impl Global {
    /// The configuration's layers for this node.
    #[must_use]
    pub fn loader(
        &self,
        environment: BTreeMap<String, String>,
        flags: BTreeMap<String, String>,
    ) -> Loader {
        Loader::new(self.config.clone(), environment, flags)
    }
}

#[cfg(test)]
mod tests;
