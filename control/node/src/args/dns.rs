//! Of `mizzen dns`.

use super::Output;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Of `mizzen dns`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct DnsArgs {
    /// What to do instead of asking.
    #[command(subcommand)]
    pub command: Option<DnsCommand>,
    /// What is asked.
    #[command(flatten)]
    pub question: DnsQuestion,
}

/// Of `mizzen dns NAME`.
#[derive(Debug, Args)]
pub struct DnsQuestion {
    /// Name to resolve; with a dot at its end if it is also a command, such as `set.`
    #[arg(required = true)]
    pub name: Option<String>,
    /// Type of record
    #[arg(default_value = "A", value_name = "TYPE")]
    pub record: String,
    /// Go on, and show the answer whenever it is another one
    #[arg(short, long)]
    pub watch: bool,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// `mizzen dns …`.
#[derive(Debug, Subcommand)]
pub enum DnsCommand {
    /// Set records of a name that is no task's, in place of those of that type
    #[command(after_help = "\
Examples:
  mizzen dns set db.example.com A 192.0.2.7 192.0.2.8 --ttl 60
  mizzen dns set _ldap._tcp.example.com SRV '0 5 389 db.example.com'")]
    Set(DnsSetArgs),
    /// Remove records that were set
    #[command(
        after_help = "Examples:\n  mizzen dns rm db.example.com\n  mizzen dns rm db.example.com AAAA"
    )]
    Rm(DnsRmArgs),
    /// List what was set
    #[command(after_help = "Example:\n  mizzen dns ls")]
    Ls(Output),
    /// List zones, what is in them, and whether that is confirmed
    #[command(after_help = "\
`*` stands for all names that are a zone of their own: those set by hand, and addresses
outside of the cluster's networks.

Example:
  mizzen dns zones")]
    Zones(Output),
    /// Turn Mesos-DNS' configuration file into ours
    #[command(after_help = "\
What has no meaning here is told in comments; secrets are not printed.

Examples:
  mizzen dns import-config /etc/mesos-dns/config.json
  mizzen dns import-config config.json --write /etc/mizzen/mizzen.toml")]
    ImportConfig(DnsImportArgs),
}

/// Of `mizzen dns set`.
#[derive(Debug, Args)]
pub struct DnsSetArgs {
    /// Name of the host or service
    pub name: String,
    /// A, AAAA, CNAME, TXT, SRV, MX, PTR, CAA, HTTPS or SVCB
    #[arg(value_name = "TYPE")]
    pub record: String,
    /// Data of each record, as zone files write it
    #[arg(value_name = "VALUE", required = true)]
    pub values: Vec<String>,
    /// How long clients may keep them, in seconds [default: dns.ttl]
    #[arg(long, value_name = "N")]
    pub ttl: Option<u32>,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen dns rm`.
#[derive(Debug, Args)]
pub struct DnsRmArgs {
    /// Name
    pub name: String,
    /// Only this type
    #[arg(value_name = "TYPE")]
    pub record: Option<String>,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}

/// Of `mizzen dns import-config`.
#[derive(Debug, Args)]
pub struct DnsImportArgs {
    /// Mesos-DNS' config.json; `-` is stdin
    pub file: PathBuf,
    /// Write to this file, which must not be there, instead of stdout
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub write: Option<PathBuf>,
    /// Form of the answer.
    #[command(flatten)]
    pub output: Output,
}
