//! What is written down: one record per app, older version, copy, deployment and
//! last failure, as JSON with a format number.
//!
//! Keys begin with the kind of record; the rest of a key is for people, because
//! every value names itself.

use crate::app::App;
use crate::app_id::AppId;
use crate::deployment::Deployment;
use crate::instance::Instance;
use crate::version::Version;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Format of the records.
pub const FORMAT: u16 = 1;

/// Why saved state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedStateError {
    /// A kind of record that this version does not know.
    #[error("saved record '{0}' is of an unknown kind")]
    Kind(
        /// Its key.
        String,
    ),
    /// A record of another format.
    #[error("saved record '{key}' has format {format}, this version reads {FORMAT}")]
    Format {
        /// Its key.
        key: String,
        /// Its format.
        format: u16,
    },
    /// A value that has no bytes; no such value is known.
    #[error("record '{key}' cannot be written")]
    Unwritable {
        /// Its key.
        key: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A record that does not parse.
    #[error("saved record '{key}' cannot be read")]
    Unreadable {
        /// Its key.
        key: String,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// The last copy of an app that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskFailure {
    /// Whose copy it was.
    pub app_id: AppId,
    /// Name of the machine.
    pub host: String,
    /// What the agent said.
    pub message: String,
    /// How it ended, as Mesos writes it.
    pub state: String,
    /// Its task.
    pub task_id: String,
    /// Its agent.
    pub slave_id: String,
    /// When it was heard of.
    pub timestamp: Version,
    /// Version of the app that it was started with.
    pub version: Version,
}

/// An app that stays as it is because its deployment was stopped half-way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Halt {
    /// Which one.
    pub app: AppId,
    /// How many copies it keeps, of whatever configuration.
    pub copies: u32,
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    Framework(String),
    App(Box<App>),
    OldVersion(Box<App>),
    Instance(Box<Instance>),
    Deployment(Box<Deployment>),
    Failure(Box<TaskFailure>),
    Halt(Halt),
}

/// Where a record is kept.
pub(crate) enum Key<'a> {
    Framework,
    App(&'a AppId),
    OldVersion(&'a AppId, Version),
    Instance(&'a str),
    Deployment(&'a str),
    Failure(&'a AppId),
    Halt(&'a AppId),
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u16,
    value: T,
}

impl Key<'_> {
    /// As text.
    pub fn text(&self) -> String {
        match self {
            Self::Framework => "framework:".to_owned(),
            Self::App(id) => format!("app:{id}"),
            Self::OldVersion(id, version) => format!("version:{id}@{version}"),
            Self::Instance(id) => format!("instance:{id}"),
            Self::Deployment(id) => format!("deployment:{id}"),
            Self::Failure(id) => format!("failure:{id}"),
            Self::Halt(id) => format!("halt:{id}"),
        }
    }
}

/// The bytes of a record.
pub(crate) fn write<T: Serialize>(key: &Key<'_>, value: &T) -> Result<Vec<u8>, SavedStateError> {
    serde_json::to_vec(&Envelope { format: FORMAT, value })
        .map_err(|source| SavedStateError::Unwritable { key: key.text(), source })
}

/// Reads a record.
pub(crate) fn read(key: &str, bytes: &[u8]) -> Result<Record, SavedStateError> {
    match key.split_once(':').map(|(kind, _)| kind) {
        Some("framework") => value(key, bytes).map(Record::Framework),
        Some("app") => value(key, bytes).map(Record::App),
        Some("version") => value(key, bytes).map(Record::OldVersion),
        Some("instance") => value(key, bytes).map(Record::Instance),
        Some("deployment") => value(key, bytes).map(Record::Deployment),
        Some("failure") => value(key, bytes).map(Record::Failure),
        Some("halt") => value(key, bytes).map(Record::Halt),
        _ => Err(SavedStateError::Kind(key.to_owned())),
    }
}

fn value<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, SavedStateError> {
    #[derive(Deserialize)]
    struct Format {
        format: u16,
    }
    let unreadable = |source| SavedStateError::Unreadable { key: key.to_owned(), source };
    let format = serde_json::from_slice::<Format>(bytes).map_err(unreadable)?.format;
    if format != FORMAT {
        return Err(SavedStateError::Format { key: key.to_owned(), format });
    }
    Ok(serde_json::from_slice::<Envelope<T>>(bytes).map_err(unreadable)?.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{app, instance};
    use serde_json::json;

    #[test]
    fn records_survive() {
        let app = app(json!({"labels": {"a": "b"}}));
        let key = Key::App(&app.id);
        let bytes = write(&key, &app).unwrap();
        assert_eq!(read(&key.text(), &bytes).unwrap(), Record::App(Box::new(app.clone())));
        let copy = instance("web.instance-1._app.1");
        let key = Key::Instance(&copy.task_id);
        let bytes = write(&key, &copy).unwrap();
        assert_eq!(read(&key.text(), &bytes).unwrap(), Record::Instance(Box::new(copy.clone())));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        #[rustfmt::skip]
        let table: &[(&str, &[u8], &str)] = &[
            ("app:/web",   b"{\"format\":1,\"value\":{}}", "saved record 'app:/web' cannot be read"),
            ("app:/web",   b"not json",                    "saved record 'app:/web' cannot be read"),
            ("app:/web",   b"{\"format\":9,\"value\":{}}", "saved record 'app:/web' has format 9, this version reads 1"),
            ("pod:/web",   b"{}",                          "saved record 'pod:/web' is of an unknown kind"),
        ];
        for (key, bytes, want) in table {
            assert_eq!(read(key, bytes).unwrap_err().to_string(), *want);
        }
    }
}
