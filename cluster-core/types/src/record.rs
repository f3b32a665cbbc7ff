//! Values as they are written down: JSON with the number of its format.
//!
//! A reader takes one format only. What it does not take is an error that names both
//! numbers, never an empty value; whoever changes a format says how the one before is read.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Why a record cannot be written or taken.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The value has no JSON; no such value is known.
    #[error("the record cannot be written")]
    Unwritable(#[source] serde_json::Error),
    /// It is not the JSON of such a value.
    #[error("the record is unreadable")]
    Unreadable(#[source] serde_json::Error),
    /// Another version of the program wrote it.
    #[error("the record is of format {found}, this version reads {known}")]
    Format {
        /// Its format.
        found: u16,
        /// The one that is read.
        known: u16,
    },
}

/// The bytes of `value` in a format. The value is an object without a field `format`.
///
/// # Errors
///
/// [`RecordError::Unwritable`].
pub fn write<T: Serialize>(format: u16, value: &T) -> Result<Vec<u8>, RecordError> {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        format: u16,
        #[serde(flatten)]
        value: &'a T,
    }
    serde_json::to_vec(&Versioned { format, value }).map_err(RecordError::Unwritable)
}

/// Reads what [`write()`] wrote, or a value that has the number in a field of its own.
///
/// # Errors
///
/// [`RecordError::Format`] for any other format than `known`, and [`RecordError::Unreadable`].
pub fn read<T: DeserializeOwned>(known: u16, bytes: &[u8]) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u16,
    }
    // Of another format the rest may be anything.
    let found = serde_json::from_slice::<Versioned>(bytes).map_err(RecordError::Unreadable)?.format;
    if found != known {
        return Err(RecordError::Format { found, known });
    }
    serde_json::from_slice(bytes).map_err(RecordError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Fruit {
        name: String,
        #[serde(default)]
        seeds: Option<u32>,
    }

    #[test]
    fn what_is_written_is_read() {
        let fruit = Fruit { name: "plum".to_owned(), seeds: Some(1) };
        let bytes = write(3, &fruit).unwrap();
        assert_eq!(bytes, br#"{"format":3,"name":"plum","seeds":1}"#);
        assert_eq!(read::<Fruit>(3, &bytes).unwrap(), fruit);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        #[rustfmt::skip]
        let table: &[(&[u8], &str)] = &[
            (br#"{"format":2,"kind":"plum"}"#, "the record is of format 2, this version reads 3"),
            (br#"{"format":4,"name":"plum"}"#, "the record is of format 4, this version reads 3"),
            (br#"{"format":3,"kind":"plum"}"#, "the record is unreadable"),
            (br#"{"name":"plum"}"#,            "the record is unreadable"),
            (b"",                              "the record is unreadable"),
        ];
        for (bytes, want) in table {
            assert_eq!(read::<Fruit>(3, bytes).unwrap_err().to_string(), *want);
        }
    }

    #[test]
    fn what_has_no_json_is_not_written() {
        let keys_are_lists = BTreeMap::from([(vec![1], 2)]);
        assert!(matches!(write(3, &keys_are_lists), Err(RecordError::Unwritable(_))));
    }
}
