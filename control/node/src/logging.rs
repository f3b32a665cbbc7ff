//! Log lines on stderr, as text for people or JSON for collectors.

use crate::config::{LogConfig, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error("cannot use log level `{level}`")]
    Filter {
        /// As configured.
        level: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody else has set up logging in this process.
    #[error("cannot set up logging, it is set up already")]
    Taken,
}

/// Changes the level of a running process.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogHandle {
    /// Logs what `level` lets through from now on.
    ///
    /// # Errors
    ///
    /// [`LoggingError::Filter`] if `level` cannot be read; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), LoggingError> {
        let filter = filter(level)?;
        self.filter.reload(filter).map_err(|_| LoggingError::Taken)
    }
}

/// Starts to log as configured, for the whole process.
///
/// # Errors
///
/// [`LoggingError`] if the level cannot be read or logging is set up already.
pub fn init(config: &LogConfig) -> Result<LogHandle, LoggingError> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let lines = match config.format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_ansi(colour_on_stderr())
            .with_writer(std::io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| LoggingError::Taken)?;
    Ok(LogHandle { filter: handle })
}

/// Whether `level` can be used.
///
/// # Errors
///
/// [`LoggingError::Filter`] says why not.
pub fn check_filter(level: &str) -> Result<(), LoggingError> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    let error = |source| LoggingError::Filter { level: level.to_owned(), source };
    // A word that is no level would be taken for a target, which hides a misspelt
    // level behind silence.
    for part in level.split(',').filter(|part| !part.contains('=')) {
        if part.trim().is_empty() {
            return Err(error("a part of it is empty".into()));
        }
        part.trim().parse::<LevelFilter>().map_err(|source| error(source.into()))?;
    }
    // These libraries log every question at INFO; what is said of them later wins.
    EnvFilter::builder()
        .parse(format!("hickory_server=warn,hickory_net=warn,{level}"))
        .map_err(|source| error(source.into()))
}

fn colour_on_stderr() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters() {
        for good in ["info", "debug", "off", "info,mizzen_dns=trace", "warn,hyper=error"] {
            assert!(check_filter(good).is_ok(), "{good}");
        }
        for bad in ["loud", "mizzen=loud", "", "info,=x=y"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
