//! The embedded store of a node: named records, kept by redb in one file.
//!
//! Five operations: open, get, scan a prefix, write a batch, close by drop. A batch
//! is durable when [`Store::write`] returns and is applied whole or not at all, also
//! over a crash. Tasks are *not* here: the agent's checkpoints are files of their
//! own, readable one by one.

use redb::{Database, ReadableDatabase, TableDefinition};
use std::path::{Path, PathBuf};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// Written under [`FORMAT_KEY`] at first use; a store of another format is refused.
const FORMAT: &[u8] = b"1";
const FORMAT_KEY: &str = "format";

/// A store that could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds it.
    #[error("the store {path} is in use by another process")]
    InUse {
        /// Its file.
        path: PathBuf,
    },
    /// Made by a version that this one does not know.
    #[error("the store {path} has format {found:?}, this program writes \"1\"")]
    Format {
        /// Its file.
        path: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// The disk or the file refused.
    #[error("cannot {request} the store {path}")]
    Storage {
        /// What was asked, as a verb.
        request: &'static str,
        /// Its file.
        path: PathBuf,
        /// redb's answer.
        #[source]
        source: Box<redb::Error>,
    },
}

/// Named records in one file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

/// One change of a batch: a key, and its new value or `None` to remove it.
pub type Write = (String, Option<Vec<u8>>);

impl Store {
    /// Opens the store at `path`, or makes an empty one.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if another process has it open, [`StoreError::Format`]
    /// if another version made it, [`StoreError::Storage`] for everything else.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // The cache is small: what is kept here is read once, at start.
        let database =
            Database::builder().set_cache_size(1 << 20).create(path).map_err(|e| match e {
                redb::DatabaseError::DatabaseAlreadyOpen => {
                    StoreError::InUse { path: path.to_owned() }
                }
                other => storage("open", path)(other),
            })?;
        let store = Self { path: path.to_owned(), database };
        store.check_format()?;
        Ok(store)
    }

    /// The record of `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if the file cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.database.begin_read().map_err(storage("read", &self.path))?;
        let table = read.open_table(RECORDS).map_err(storage("read", &self.path))?;
        let value = table.get(key).map_err(storage("read", &self.path))?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// All records whose key starts with `prefix`, in the order of their keys.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if the file cannot be read.
    pub fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let read = self.database.begin_read().map_err(storage("read", &self.path))?;
        let table = read.open_table(RECORDS).map_err(storage("read", &self.path))?;
        let mut found = Vec::new();
        for record in table.range(prefix..).map_err(storage("read", &self.path))? {
            let (key, value) = record.map_err(storage("read", &self.path))?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(found)
    }

    /// Applies a batch; when this returns, it is on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if the disk refuses; then nothing of the batch is
    /// there.
    pub fn write(&self, batch: &[Write]) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(storage("write", &self.path))?;
        {
            let mut table = write.open_table(RECORDS).map_err(storage("write", &self.path))?;
            for (key, value) in batch {
                match value {
                    Some(value) => table.insert(key.as_str(), value.as_slice()),
                    None => table.remove(key.as_str()),
                }
                .map_err(storage("write", &self.path))?;
            }
        }
        write.commit().map_err(storage("write", &self.path))
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(storage("open", &self.path))?;
        write.open_table(RECORDS).map_err(storage("open", &self.path))?;
        write.commit().map_err(storage("open", &self.path))?;
        match self.get(FORMAT_KEY)? {
            None => self.write(&[(FORMAT_KEY.to_owned(), Some(FORMAT.to_vec()))]),
            Some(found) if found == FORMAT => Ok(()),
            Some(found) => Err(StoreError::Format {
                path: self.path.clone(),
                found: String::from_utf8_lossy(&found).into_owned(),
            }),
        }
    }
}

fn storage<E: Into<redb::Error>>(
    request: &'static str,
    path: &Path,
) -> impl Fn(E) -> StoreError + use<E> {
    let path = path.to_owned();
    move |source| StoreError::Storage {
        request,
        path: path.clone(),
        source: Box::new(source.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_survives_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        store.write(&[("a/1".into(), Some(b"x".to_vec())), ("b".into(), Some(vec![]))]).unwrap();
        store.write(&[("a/2".into(), Some(b"y".to_vec())), ("b".into(), None)]).unwrap();
        drop(store);

        let store = Store::open(&path).unwrap();
        assert_eq!(store.get("a/1").unwrap().as_deref(), Some(&b"x"[..]));
        assert_eq!(store.get("b").unwrap(), None);
        let keys: Vec<_> = store.scan("a/").unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a/1", "a/2"]);
    }

    #[test]
    fn a_second_opener_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let _first = Store::open(&path).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::InUse { .. })));
    }

    #[test]
    fn another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        Store::open(&path).unwrap().write(&[(FORMAT_KEY.into(), Some(b"99".to_vec()))]).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Format { ref found, .. } if found == "99"), "{error}");
    }
}
