//! The daemon's word on its overlays, read from its file.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mizzen_cni_core::error::Code;
use mizzen_cni_core::state::{OverlaysState, STATE_FILE, STATE_VERSION, complete, named_overlay};
use serde_json::{Map, Value};

use crate::daemon;
use crate::error::PluginError;

/// A configuration that says everything.
pub(crate) struct Completed {
    /// With the share of the overlay that it only named.
    pub(crate) config: Map<String, Value>,
    /// Where the daemon listens whose overlay it named.
    pub(crate) daemon: Option<PathBuf>,
}

/// Does `work` with a configuration that says everything. If all addresses of an overlay that it
/// named are leased, the daemon is asked for more, and `work` is done again with them.
pub(crate) fn with_addresses<T>(
    config: &Map<String, Value>,
    data_dir: &Path,
    work: impl Fn(&Completed) -> Result<T, PluginError>,
) -> Result<T, PluginError> {
    /// Others that came at once may have taken what was given.
    const PATIENCE: Duration = Duration::from_secs(5);
    let began = Instant::now();
    loop {
        let known = completed(config, data_dir)?;
        let outcome = work(&known);
        let short = matches!(&outcome, Err(error) if error.code() == Code::Exhausted);
        let is_patient = || began.elapsed() < PATIENCE;
        match &known.daemon {
            Some(socket) if short && is_patient() && daemon::gets_addresses(socket) => {}
            _ => return outcome,
        }
    }
}

/// `config` with the share of the overlay that it only names.
pub(crate) fn completed(
    config: &Map<String, Value>,
    data_dir: &Path,
) -> Result<Completed, PluginError> {
    let Some(overlay) = named_overlay(config) else {
        return Ok(Completed { config: config.clone(), daemon: None });
    };
    let path = data_dir.join(STATE_FILE);
    let unreadable = |source: io::Error| PluginError::State {
        overlay: overlay.to_owned(),
        path: path.clone(),
        source,
    };
    let text = std::fs::read(&path).map_err(unreadable)?;
    let state: OverlaysState = serde_json::from_slice(&text).map_err(|e| unreadable(e.into()))?;
    if state.version != STATE_VERSION {
        let words = format!("its format is {}, and we read {STATE_VERSION}", state.version);
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, words)));
    }
    Ok(Completed { config: complete(config, &state)?, daemon: state.socket })
}
