//! What can be typed after `mizzen`.

mod agents;
mod vip;

pub use agents::{DrainArgs, ReactivateArgs};
pub use vip::{ExplainArgs, VipCommand, VipRmArgs, VipSetArgs, VipsArgs};

use crate::config::{KEYS, Key, Kind, Loader};
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::collections::BTreeMap;
use std::ffi::OsString;
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
  mizzen lab --nodes 3 -- sh -c 'ping -c1 172.31.255.3'
  mizzen lab --keep &               then: mizzen lab --enter PID -- mizzen status")]
    Lab(LabArgs),
    /// Show the node, its parts and what is wrong with it
    #[command(after_help = "Examples:\n  mizzen status\n  mizzen status --json | jq .problems")]
    Status(Output),
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
    #[command(after_help = "Example:\n  mizzen scale web 5")]
    Scale(ScaleArgs),
    /// Remove an app and end its tasks
    #[command(after_help = "Example:\n  mizzen rm web")]
    Rm(RmArgs),
    /// List the tasks of this node
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
    /// List agents, and how they stand
    #[command(after_help = "Examples:\n  mizzen agents\n  mizzen agents --json")]
    Agents(Output),
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
    Reactivate(ReactivateArgs),
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
    /// Ask the node's resolver, and say where the answer comes from
    #[command(after_help = "\
Examples:
  mizzen dns web.marathon.mesos
  mizzen dns _web._tcp.marathon.mesos SRV
  mizzen dns web.marathon.l4lb.thisdcos.directory")]
    Dns(DnsArgs),
}

/// Of `mizzen node`; the configuration keys are added to these.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Print the configuration in force with where each value comes from, and exit
    #[arg(long, conflicts_with = "teardown")]
    pub check_config: bool,
    /// End this node's tasks and remove everything that it made, then exit
    #[arg(long)]
    pub teardown: bool,
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
    /// What to run inside, beside node 1 [default: $SHELL]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Of commands that list something.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print what the node answered, as JSON
    #[arg(long)]
    pub json: bool,
}

/// Of `mizzen run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// App definition as JSON, one app or an array of them; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Do not wait until the app runs
    #[arg(long)]
    pub no_wait: bool,
    /// Longest time to wait, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout: u64,
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
    /// Do not wait until that many run
    #[arg(long)]
    pub no_wait: bool,
    /// Longest time to wait, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout: u64,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// App, with or without its leading slash
    pub app: String,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
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

/// Of `mizzen dns`.
#[derive(Debug, Args)]
pub struct DnsArgs {
    /// Name to resolve
    pub name: String,
    /// Type of record
    #[arg(default_value = "A", value_name = "TYPE")]
    pub record: String,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// A command line, taken apart.
#[derive(Debug)]
pub struct Invocation {
    /// Which node is meant.
    pub global: Global,
    /// What to do.
    pub command: Command,
    /// Configuration keys given as flags.
    pub flags: BTreeMap<String, String>,
}

impl Invocation {
    /// Reads a command line; prints help or what is wrong with it, and exits, where
    /// there is nothing to run.
    #[must_use]
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Self {
        Self::try_parse(words).unwrap_or_else(|error| error.exit())
    }

    /// # Errors
    ///
    /// clap's error, which also is how help is asked for.
    pub fn try_parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(words)?;
        let line = Line::from_arg_matches(&matches)?;
        let mut flags: BTreeMap<String, String> = BTreeMap::new();
        if let Some(node) = matches.subcommand_matches("node") {
            for key in node_keys() {
                if let Some(text) = node.get_one::<String>(key.path) {
                    flags.insert(key.path.to_owned(), text.clone());
                }
            }
        }
        if let Some(instance) = &line.global.instance {
            flags.insert("instance".to_owned(), instance.clone());
        }
        if let Some(run_dir) = &line.global.run_dir {
            flags.insert("run_dir".to_owned(), run_dir.display().to_string());
        }
        Ok(Self { global: line.global, command: line.command, flags })
    }
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

/// The whole command line, configuration keys included.
#[must_use]
pub fn command() -> clap::Command {
    Line::command().mut_subcommand("node", |node| node.args(node_keys().map(flag)))
}

/// Keys that `mizzen node` takes as flags of its own; the others are global.
fn node_keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| !matches!(key.path, "instance" | "run_dir"))
}

fn flag(key: &'static Key) -> Arg {
    let arg = Arg::new(key.path)
        .long(key.flag())
        .help(key.help)
        .help_heading("Configuration")
        .allow_hyphen_values(key.kind == Kind::Integer)
        .value_name(match key.kind {
            Kind::Text => "VALUE",
            Kind::Integer => "N",
            Kind::Boolean => "true|false",
            Kind::List | Kind::Table => "LIST",
        });
    // `--dns-write-resolv-conf` alone means yes.
    if key.kind == Kind::Boolean {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg.num_args(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Invocation, clap::Error> {
        Invocation::try_parse(words.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn keys_are_flags() {
        let words = [
            "mizzen",
            "--instance",
            "blue",
            "node",
            "--vip-engine",
            "off",
            "--dns-ttl",
            "-1",
            "--agent-cpu-quota",
            "--run-dir",
            "/r",
        ];
        let flags = parse(&words).unwrap().flags;
        let want = [
            ("agent.cpu_quota", "true"),
            ("instance", "blue"),
            ("dns.ttl", "-1"),
            ("run_dir", "/r"),
            ("vip.engine", "off"),
        ];
        let want: BTreeMap<_, _> = want.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(flags, want);
    }

    #[test]
    fn wrong_usage_exits_with_two() {
        for words in [
            &["mizzen"][..],
            &["mizzen", "sail"],
            &["mizzen", "run"],
            &["mizzen", "node", "--check-config", "--teardown"],
            &["mizzen", "lab", "--nodes", "0"],
            &["mizzen", "lab", "--node", "2"],
            &["mizzen", "scale", "web", "many"],
            &["mizzen", "vip"],
            &["mizzen", "vip", "set", "demo:80/tcp"],
            &["mizzen", "vip", "set", "demo:80/tcp", "--backend"],
            &["mizzen", "vips", "--plan"],
            &["mizzen", "vips", "--count", "2"],
            &["mizzen", "vips", "--watch", "--interval", "0"],
            &["mizzen", "vips", "--watch", "--problems"],
            &["mizzen", "explain"],
            &["mizzen", "drain"],
            &["mizzen", "drain", "a", "--grace", "long"],
            &["mizzen", "drain", "a", "--timeout", "5"],
        ] {
            assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn every_command_has_an_example() {
        for command in command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("mizzen {}", command.get_name());
            assert!(help.contains(&example), "{example}");
        }
    }

    #[test]
    fn backends_of_a_service_in_one_list_or_one_by_one() {
        for words in [
            &["--backend", "192.0.2.7:80", "192.0.2.8:80@3", "--rule", "random"][..],
            &["--backend", "192.0.2.7:80", "--rule", "random", "--backend", "192.0.2.8:80@3"],
        ] {
            let line = [&["mizzen", "vip", "set", "demo:80/tcp"], words].concat();
            let Command::Vip(VipCommand::Set(set)) = parse(&line).unwrap().command else {
                panic!("no vip set")
            };
            assert_eq!(set.backends, ["192.0.2.7:80", "192.0.2.8:80@3"]);
            assert_eq!(set.rule.as_deref(), Some("random"));
        }
    }

    #[test]
    fn the_lab_takes_any_command() {
        let line = parse(&["mizzen", "lab", "--nodes", "2", "--", "sh", "-c", "exit 3"]).unwrap();
        let Command::Lab(lab) = line.command else { panic!("no lab") };
        assert_eq!((lab.nodes, lab.command.len()), (2, 3));
    }
}
