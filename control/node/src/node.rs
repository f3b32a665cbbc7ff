//! `mizzen node`: everything that has to stand before the daemon runs.

use crate::args::{NodeArgs, Secret};
use crate::config::{Applies, CLUSTER_PORT, Config, ConfigError, Loader, Origin};
use crate::lock::{Access, StateLock, ensure_dir};
use crate::logging::{self, LogHandle};
use crate::{FAILURE, USAGE, daemon};
use anyhow::Context;
use mizzen_gossip::token::Token;
use mizzen_types::error::chain;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// What stands around the daemon while it runs.
#[derive(Debug)]
pub struct Frame {
    /// Reads the configuration again at SIGHUP.
    pub loader: Loader,
    /// Changes the level of log lines.
    pub log: LogHandle,
    /// Holds the state directory; to be kept until the end.
    pub lock: StateLock,
}

/// The cluster that a node was told to join, as it was typed.
#[derive(Debug, Clone, Default)]
pub struct Joining {
    /// `HOST:PORT` of nodes of it; empty if it was told of none.
    pub hosts: Vec<String>,
    token: Option<Secret>,
    token_file: Option<PathBuf>,
}

impl Joining {
    fn of(args: &NodeArgs) -> Self {
        let hosts = args.join.iter().map(|host| with_port(host)).collect();
        Self { hosts, token: args.token.clone(), token_file: args.token_file.clone() }
    }

    /// Whether there is a cluster to join.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// The token; `None` without a cluster to join or without one.
    ///
    /// # Errors
    ///
    /// That its file cannot be read, or that it is no token.
    pub fn token(&self) -> anyhow::Result<Option<Token>> {
        let token = match (&self.token_file, &self.token) {
            _ if !self.is_asked() => return Ok(None),
            (Some(path), _) => {
                let text = std::fs::read_to_string(path);
                Token::parse(&text.with_context(|| format!("cannot read {}", path.display()))?)
            }
            (None, Some(text)) => Token::parse(text.reveal()),
            (None, None) => return Ok(None),
        };
        Ok(Some(token?))
    }
}

/// A host as `HOST:PORT`, with the usual port where none is said.
fn with_port(host: &str) -> String {
    // An address of IPv6 may be in brackets, as it must be beside a port.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, CLUSTER_PORT).to_string(),
        Err(_) if host.contains(':') => host.to_owned(),
        Err(_) => format!("{host}:{CLUSTER_PORT}"),
    }
}

/// Loads the configuration and does what `args` ask for.
///
/// # Errors
///
/// What stood in the way of starting, or ended the daemon.
pub fn run(loader: &Loader, args: &NodeArgs) -> anyhow::Result<ExitCode> {
    if let Some(run_dir) = &args.hold_sockets {
        daemon::hold_sockets(run_dir).context("cannot hold the resolver's sockets")?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = match loader.load() {
        Ok(config) => config,
        Err(errors) => return Ok(refuse(&errors)),
    };
    if args.check_config {
        std::io::stdout().write_all(config.to_annotated_toml().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }

    let log = logging::init(&config.log)?;
    crate::limits::raise_descriptors();
    let lock = StateLock::take(&config.state_dir)?;
    ensure_dir(&config.run_dir, Access::Owner)?;
    let frame = Frame { loader: loader.clone(), log, lock };
    // One thread: nothing in the daemon computes for long, and what blocks has
    // threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let result = if args.teardown {
        runtime.block_on(daemon::teardown(config, frame))
    } else {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            instance = %config.instance,
            state_dir = %config.state_dir.display(),
            config = %loader.file().map_or("none".into(), |file| file.display().to_string()),
            "starting"
        );
        runtime.block_on(daemon::run(config, frame, &Joining::of(args)))
    };
    // A thread that hangs in the kernel must not keep the process.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// Says on stderr what is wrong with a configuration.
pub(crate) fn refuse(errors: &[ConfigError]) -> ExitCode {
    crate::say(&report(errors));
    ExitCode::from(exit_code(errors))
}

/// Flags alone are wrong usage; a file or a variable is not.
fn exit_code(errors: &[ConfigError]) -> u8 {
    let is_flag = |error: &ConfigError| matches!(error.origin, Origin::Flag { .. });
    if errors.iter().all(is_flag) { USAGE } else { FAILURE }
}

/// All mistakes, one a line.
#[must_use]
pub fn report(errors: &[ConfigError]) -> String {
    let count = match errors.len() {
        1 => "one mistake".to_owned(),
        n => format!("{n} mistakes"),
    };
    let lines: String = errors.iter().map(|error| format!("  {error}\n")).collect();
    format!("mizzen: {count} in the configuration\n{lines}")
}

/// A configuration that was read again.
#[derive(Debug)]
pub struct Reloaded {
    /// What is in force now.
    pub config: Config,
    /// Keys that are different in the sources and need a restart.
    pub refused: Vec<&'static str>,
}

/// Reads the configuration again; what needs a restart is named in the log and keeps
/// its old value in force.
///
/// # Errors
///
/// Every mistake; nothing changes then.
pub fn reload(frame: &Frame, current: &Config) -> Result<Reloaded, Vec<ConfigError>> {
    let new = frame.loader.load().inspect_err(|errors| {
        for error in errors {
            tracing::error!(error = chain(&error), "configuration not reloaded");
        }
    })?;
    let mut refused = Vec::new();
    for change in current.difference(&new) {
        let (key, old, new) = (change.key, change.old, change.new);
        match change.applies {
            Applies::Now => tracing::info!(key, old, new, "configuration changed"),
            Applies::NeedsRestart => {
                tracing::warn!(key, old, new, "configuration change refused, it needs a restart");
                refused.push(key);
            }
        }
    }
    if let Err(error) = frame.log.set_level(&new.log.level) {
        tracing::error!(error = %anyhow::Error::from(error), "log level not changed");
    }
    Ok(Reloaded { config: current.with_applicable(&new), refused })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;

    #[test]
    fn where_to_join() {
        for (host, want) in [
            ("one", "one:62501"),
            ("one:7", "one:7"),
            ("192.0.2.1", "192.0.2.1:62501"),
            ("2001:db8::1", "[2001:db8::1]:62501"),
            ("[2001:db8::1]", "[2001:db8::1]:62501"),
            ("[2001:db8::1]:7", "[2001:db8::1]:7"),
        ] {
            assert_eq!(with_port(host), want);
        }
    }

    #[test]
    fn a_reload_applies_what_it_can_and_keeps_the_rest() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("m.toml");
        fs::write(&file, "hostname = 'a'\n[log]\nlevel = 'error'\n[dns]\nttl = 5\n").unwrap();
        let loader = Loader::new(Some(file.clone()), BTreeMap::new(), BTreeMap::new());
        let config = loader.load().unwrap();
        let log = logging::init(&config.log).unwrap();
        let lock = StateLock::take(&temp.path().join("state")).unwrap();
        let frame = Frame { loader, log, lock };

        fs::write(&file, "hostname = 'b'\n[log]\nlevel = 'off'\n[dns]\nttl = 9\n").unwrap();
        let reloaded = reload(&frame, &config).unwrap();
        assert_eq!(reloaded.refused, ["hostname"]);
        let new = reloaded.config;
        assert_eq!((new.dns.ttl, new.log.level.as_str(), new.hostname.as_str()), (9, "off", "a"));

        fs::write(&file, "[dns]\nttl = 'soon'\n").unwrap();
        assert!(reload(&frame, &new).is_err(), "mistakes change nothing");
        fs::remove_file(&file).unwrap();
        assert!(reload(&frame, &new).is_err(), "nor does a file that is gone");
    }
}
