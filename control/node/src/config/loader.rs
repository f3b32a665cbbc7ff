//! Reads the layers of a configuration from this process and its machine, again
//! and again.

use super::error::ConfigError;
use super::sources::{self, Layers, Text};
use super::{Config, HostFacts, Sources, value};
use crate::daemon::resolv_conf::{self, ResolvConfFile};
use crate::instance::Instance;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The configuration file that is read if there is one and no other is named.
pub const DEFAULT_FILE: &str = "/etc/mizzen/mizzen.toml";

/// Knows where the layers are, so that they can be read again at SIGHUP.
#[derive(Debug, Clone)]
pub struct Loader {
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    flags: BTreeMap<String, String>,
}

impl Loader {
    /// * `file` — the file named by a flag; otherwise `MIZZEN_CONFIG` names it, or
    ///   it is [`DEFAULT_FILE`] if that exists.
    /// * `environment` — the process environment.
    /// * `flags` — flags that were given, by the path of their key.
    #[must_use]
    pub fn new(
        file: Option<PathBuf>,
        environment: BTreeMap<String, String>,
        flags: BTreeMap<String, String>,
    ) -> Self {
        let named = file.or_else(|| environment.get("MIZZEN_CONFIG").map(PathBuf::from));
        let file = named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()));
        Self { file, environment, flags }
    }

    /// The file that is read, if any.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// See [`Config::load`]; a file that cannot be read is one more mistake.
    pub fn load(&self) -> Result<Config, Vec<ConfigError>> {
        let (mut sources, unreadable) = self.sources(HostFacts::observe());
        // Our own text names ourselves; who is to be asked stood in the former one.
        let file = ResolvConfFile::new(Path::new(resolv_conf::PATH), &state_dir(&sources));
        if let Some(before) = file.before() {
            sources.host.resolv_conf = before;
        }
        match (Config::load(&sources), unreadable) {
            (result, None) => result,
            (Ok(_), Some(error)) => Err(vec![error]),
            (Err(mut errors), Some(error)) => {
                errors.insert(0, error);
                Err(errors)
            }
        }
    }

    fn sources(&self, host: HostFacts) -> (Sources, Option<ConfigError>) {
        let read = self.file.as_deref().map(sources::read).transpose();
        let (file, unreadable) = match read {
            Ok(file) => (file, None),
            Err(error) => (None, Some(error)),
        };
        let sources = Sources {
            file,
            environment: self.environment.clone(),
            flags: self.flags.clone(),
            host,
        };
        (sources, unreadable)
    }
}

/// Where the node's run directory is, for commands that only want to talk to it.
/// Mistakes elsewhere in the configuration do not matter to them.
#[must_use]
pub fn run_dir(loader: &Loader) -> PathBuf {
    let (sources, _) = loader.sources(HostFacts::default());
    let layers = sources::layers(&sources, &mut Vec::new());
    let run_dir = top(&layers, "run_dir").and_then(|text| value::absolute_path(text).ok());
    run_dir.unwrap_or_else(|| {
        let instance: Option<Instance> = top(&layers, "instance").and_then(|t| t.parse().ok());
        instance.unwrap_or_default().run_dir()
    })
}

fn state_dir(sources: &Sources) -> PathBuf {
    let layers = sources::layers(sources, &mut Vec::new());
    let state_dir = top(&layers, "state_dir").and_then(|text| value::absolute_path(text).ok());
    state_dir.unwrap_or_else(|| {
        let instance: Option<Instance> = top(&layers, "instance").and_then(|t| t.parse().ok());
        instance.unwrap_or_default().state_dir()
    })
}

fn top<'a>(layers: &'a Layers, key: &str) -> Option<&'a str> {
    match &layers.get(key)?.last()?.text {
        Text::One(text) => Some(text),
        Text::Many(_) => None,
    }
}
