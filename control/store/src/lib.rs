//! The embedded store of a node: named records, kept by redb in one file.
//!
//! Five operations: open, get, scan a prefix, write a batch, close by drop. A batch
//! is durable when [`Store::write`] returns and is applied whole or not at all, also
//! over a crash. Tasks are *not* here: the agent's checkpoints are files of their
//! own, readable one by one.
//!
//! After one failed read or write, a full disk for example, redb refuses everything
//! until its file is opened anew. So a failure closes the file here, and the next
//! call opens it again: a node whose disk was full goes on when there is room.

use redb::{Builder, Database, DatabaseError, ReadableDatabase, TableDefinition, TableError};
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
    /// `None` after a failure, until the next call.
    database: Mutex<Option<Database>>,
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
        keep_secret(path).map_err(|source| storage("open", path, redb::Error::Io(source)))?;
        let database = builder().create(path).map_err(refused(path))?;
        if !has_format(&database, path)? {
            let format = (FORMAT_KEY.to_owned(), Some(FORMAT.to_vec()));
            write(&database, &[format]).map_err(|source| storage("open", path, source))?;
        }
        Ok(Self { path: path.to_owned(), database: Mutex::new(Some(database)) })
    }

    /// The record of `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if the file cannot be read, and what [`Self::open`]
    /// may say if it had to be opened anew.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with("read", |database| get(database, key))
    }

    /// All records whose key starts with `prefix`, in the order of their keys.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.with("read", |database| scan(database, prefix))
    }

    /// Applies a batch; when this returns, it is on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Storage`] if the disk refuses, and what [`Self::open`] may say
    /// if the file had to be opened anew. Then the batch is to be written again: all
    /// of it may have reached the disk or nothing, but not a part.
    pub fn write(&self, batch: &[Write]) -> Result<(), StoreError> {
        self.with("write", |database| write(database, batch))
    }

    /// Does `work` on the open file, and closes the file if it fails.
    fn with<T>(
        &self,
        request: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => reopen(&self.path)?,
        };
        let done = work(&database).map_err(|source| storage(request, &self.path, source))?;
        *slot = Some(database);
        Ok(done)
    }
}

/// Keys are among the records: nobody but the owner reads the file.
fn keep_secret(path: &Path) -> std::io::Result<()> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

/// The cache is small: what is kept here is read once, at start.
fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(1 << 20);
    builder
}

/// Opens a file that was open before. One that has vanished since is not made anew:
/// an empty store would look as if nothing had ever been written.
fn reopen(path: &Path) -> Result<Database, StoreError> {
    let database = builder().open(path).map_err(refused(path))?;
    has_format(&database, path)?;
    Ok(database)
}

/// Whether the store has a format, which must be the known one; a new store has none.
fn has_format(database: &Database, path: &Path) -> Result<bool, StoreError> {
    match get(database, FORMAT_KEY).map_err(|source| storage("open", path, source))? {
        None => Ok(false),
        Some(found) if found == FORMAT => Ok(true),
        Some(found) => Err(StoreError::Format {
            path: path.to_owned(),
            found: String::from_utf8_lossy(&found).into_owned(),
        }),
    }
}

fn get(database: &Database, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let table = match database.begin_read()?.open_table(RECORDS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

fn scan(database: &Database, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    let mut found = Vec::new();
    for record in table.range(prefix..)? {
        let (key, value) = record?;
        if !key.value().starts_with(prefix) {
            break;
        }
        found.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(found)
}

fn write(database: &Database, batch: &[Write]) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut table = write.open_table(RECORDS)?;
        for (key, value) in batch {
            match value {
                Some(value) => table.insert(key.as_str(), value.as_slice())?,
                None => table.remove(key.as_str())?,
            };
        }
    }
    Ok(write.commit()?)
}

fn refused(path: &Path) -> impl Fn(DatabaseError) -> StoreError {
    |error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        other => storage("open", path, other.into()),
    }
}

fn storage(request: &'static str, path: &Path, source: redb::Error) -> StoreError {
    StoreError::Storage { request, path: path.to_owned(), source: Box::new(source) }
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

    #[test]
    fn a_full_disk_is_survived() {
        // A mount namespace belongs to a thread; the file system goes with it.
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_owned();
        let done = std::thread::spawn(move || {
            mount_small_disk(&at);
            outlive_a_full_disk(&at);
        });
        done.join().unwrap();
    }

    fn mount_small_disk(at: &Path) {
        use nix::mount::{MsFlags, mount};

        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=8m")).unwrap();
    }

    fn outlive_a_full_disk(dir: &Path) {
        let store = Store::open(&dir.join("store")).unwrap();
        let record = |n: usize| (format!("a/{n:04}"), Some(vec![n as u8; 10_000]));
        store.write(&[record(0)]).unwrap();
        let ballast = dir.join("ballast");
        let error = std::fs::write(&ballast, vec![0; 16 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);

        let mut kept = 1;
        let error = loop {
            match store.write(&[record(kept)]) {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
        };
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().starts_with("cannot write the store /"), "{error}");
        assert!(cause.contains("No space left on device"), "{cause}");
        let again = store.write(&[record(kept)]).unwrap_err();
        let cause = std::error::Error::source(&again).unwrap().to_string();
        assert!(cause.contains("No space left on device"), "{cause}");
        assert_eq!(store.scan("a/").unwrap().len(), kept, "it can still be read");

        std::fs::remove_file(ballast).unwrap();
        store.write(&[record(kept)]).unwrap();
        let all: Vec<_> = store.scan("a/").unwrap();
        let want: Vec<_> = (0..=kept).map(|n| (record(n).0, record(n).1.unwrap())).collect();
        assert!(all == want, "{} of {} records", all.len(), want.len());
    }

    #[test]
    fn a_file_that_vanished_is_not_replaced_by_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        *store.database.lock().unwrap() = None;
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(store.get("a"), Err(StoreError::Storage { request: "open", .. })));
        assert!(!path.exists());
    }
}
