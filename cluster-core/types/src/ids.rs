//! Identifiers, one type per kind of thing.
//!
//! Ids that a user may choose (tasks, executors, frameworks, agents) follow the
//! Mesos rules, see [`check_id`]; container ids are UUIDs made by the agent.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest id in bytes: an id becomes a directory name (`NAME_MAX`).
pub const MAX_ID_BYTES: usize = 255;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("ID must not be empty")]
    Empty,
    /// Longer than [`MAX_ID_BYTES`].
    #[error("ID must not be greater than {MAX_ID_BYTES} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// `.` or `..`, which name directories.
    #[error("'{0}' is disallowed as an ID")]
    Directory(String),
    /// A control character, `/` or `\`.
    #[error("ID contains the invalid character {0:?}")]
    Character(char),
}

/// Checks an id that a user chose.
///
/// # Errors
///
/// [`IdError`] names the first rule that `id` breaks.
pub fn check_id(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong { bytes: id.len() });
    }
    if id == "." || id == ".." {
        return Err(IdError::Directory(id.to_owned()));
    }
    match id.chars().find(|c| c.is_control() || matches!(c, '/' | '\\')) {
        Some(c) => Err(IdError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a text that is known to be an id.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    };
}

id_type!(
    /// A framework: `<master id>-NNNN`.
    FrameworkId
);
id_type!(
    /// An agent: `<master id>-S<n>`.
    AgentId
);
id_type!(
    /// A task, unique within its framework.
    TaskId
);
id_type!(
    /// An executor, unique within its framework and agent.
    ExecutorId
);
id_type!(
    /// A container, made by the agent that runs it.
    ContainerId
);
id_type!(
    /// An offer: `<master id>-O<n>`.
    OfferId
);
id_type!(
    /// The writer of an owner log: one per node, kept in its state directory.
    OwnerId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_rules_of_directory_names() {
        let long = "x".repeat(256);
        #[rustfmt::skip]
        let table: &[(&str, Result<(), IdError>)] = &[
            ("web.1",   Ok(())),
            ("a:b c",   Ok(())),
            ("",        Err(IdError::Empty)),
            (&long,     Err(IdError::TooLong { bytes: 256 })),
            ("..",      Err(IdError::Directory("..".into()))),
            ("a/b",     Err(IdError::Character('/'))),
            ("a\\b",    Err(IdError::Character('\\'))),
            ("a\nb",    Err(IdError::Character('\n'))),
        ];
        for (id, want) in table {
            assert_eq!(check_id(id), *want, "{id:?}");
        }
    }
}
