//! Of `mizzen dns`.

use super::Output;
use clap::{Args, Subcommand};
use mizzen_types::time;
use std::path::PathBuf;
use std::time::Duration;

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
  mizzen dns set db.example.com A 192.0.2.7 192.0.2.8 --ttl 5m
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
    /// How long clients may keep them, such as 90s or 5m; a bare number means seconds
    /// [default: dns.ttl]
    #[arg(long, value_name = "TIME", value_parser = ttl)]
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

/// Whole seconds, with or without a unit; whoever sets the record says how many are too many.
fn ttl(text: &str) -> Result<u32, String> {
    let seconds = || {
        let time = time::parse(text, Duration::ZERO..=Duration::from_secs(u32::MAX.into()))?;
        u32::try_from(time.as_secs()).ok().filter(|_| time.subsec_nanos() == 0)
    };
    let wrong = || "not a time in whole seconds, such as 60, 90s, 5m or 1h".to_owned();
    text.parse().ok().or_else(seconds).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_has_a_unit_or_means_seconds() {
        #[rustfmt::skip]
        let table = [
            ("60", Some(60)), ("90s", Some(90)), ("5m", Some(300)), ("1h", Some(3600)), ("0", Some(0)),
            ("1500ms", None), ("-1", None), ("5 m", None), ("99999999999", None), ("", None),
        ];
        for (text, want) in table {
            assert_eq!(ttl(text).ok(), want, "{text}");
        }
    }
}
