//! A step that did not succeed.

use mizzen_types::container::LaunchEvent;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// Which step, and the system's answer. It crosses the pipe from the inside of the
/// container, hence text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("cannot {step}: {error}")]
pub struct Failure {
    /// As a verb with its object: `mount /proc`.
    pub step: String,
    /// The system's answer.
    pub error: String,
}

impl Failure {
    /// A failure that is not the system's.
    pub fn new(step: impl Into<String>, error: &dyn fmt::Display) -> Self {
        Self { step: step.into(), error: error.to_string() }
    }
}

impl From<Failure> for LaunchEvent {
    fn from(Failure { step, error }: Failure) -> Self {
        Self::Failed { step, error }
    }
}

/// Names the step on the way out.
pub trait Step<T> {
    /// The verb and its object, made only if needed.
    fn step(self, name: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(name(), &error.into()))
    }
}
