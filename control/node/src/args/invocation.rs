//! A command line, taken apart: the command, and the configuration keys given as flags.

use super::{Command, Global, Line};
use crate::config::{KEYS, Key, Kind};
use clap::{Arg, CommandFactory, FromArgMatches};
use std::collections::BTreeMap;
use std::ffi::OsString;

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
}
