//! Where a value comes from, and what can be wrong with it.

use std::fmt;
use std::path::PathBuf;

/// Where a configuration value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Built in, or found out about the machine.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
    },
    /// The configuration file as such.
    WholeFile {
        /// The file.
        path: PathBuf,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag of the command line.
    Flag {
        /// Its name without the dashes.
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::WholeFile { path } => path.display().fmt(f),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag { flag } => write!(f, "--{flag}"),
        }
    }
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is no TOML here.
    #[error("{0}")]
    Syntax(String),
    /// There is no such key, variable or section.
    #[error("unknown key{}", did_you_mean(.suggestion.as_deref()))]
    Unknown {
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The value has another form.
    #[error("expected {expected}, found {found}")]
    Form {
        /// What was expected, with its article.
        expected: &'static str,
        /// What is there, with its article.
        found: &'static str,
    },
    /// The value cannot be read.
    #[error("`{value}` is not {expected}")]
    Value {
        /// As written.
        value: String,
        /// What it should be, with its article.
        expected: String,
    },
    /// The value does not go with another one.
    #[error("`{value}` {conflict}")]
    Conflict {
        /// As it is in force.
        value: String,
        /// Says what it collides with: `is also the value of …`.
        conflict: String,
    },
    /// The file cannot be read.
    #[error("cannot read this file: {0}")]
    Unreadable(String),
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default()
}

/// One mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it is.
    pub origin: Origin,
    /// The key that it is about; `None` where the text could not be taken apart.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, &self.key) {
            // A variable's or flag's name says which key it is.
            (Origin::Environment { .. } | Origin::Flag { .. }, _) | (_, None) => {
                write!(f, "{}: {}", self.origin, self.problem)
            }
            (_, Some(key)) => write!(f, "{}: {key}: {}", self.origin, self.problem),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}
