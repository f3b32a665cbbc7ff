//! One daemon for each state directory.

use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the lock file in a state directory.
pub const LOCK_NAME: &str = "lock";
/// The lock is asked for so often, with this pause between.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Why a directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "state directory {} is in use by process {holder}; \
         stop that node first, or give this one another --state-dir and --instance",
        .directory.display()
    )]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Process id of the holder, as it wrote it down.
        holder: String,
    },
    /// Everybody could put files there.
    #[error("directory {} can be written by others (mode {mode:o})", .directory.display())]
    Open {
        /// The directory.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refused.
    #[error("cannot {request} {}", .path.display())]
    Io {
        /// What was asked, as a verb.
        request: &'static str,
        /// Of which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// Holds a state directory until it is dropped or the process ends, however that
/// happens.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes `directory` where it is missing and takes its lock.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] with the process that has it; otherwise what stood in
    /// the way.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        ensure_dir(directory, Access::Passage)?;
        let path = directory.join(LOCK_NAME);
        let io = |request| {
            let path = path.clone();
            move |source: std::io::Error| LockError::Io { request, path, source }
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| io("open")(errno.into()))?;
        let mut file = File::from(fd);
        match lock_patiently(&file) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(io("read"))?;
                let holder = holder.trim().to_owned();
                return Err(LockError::Held { directory: directory.to_owned(), holder });
            }
            Err(errno) => return Err(io("lock")(errno.into())),
        }
        file.set_len(0).map_err(io("truncate"))?;
        file.rewind().map_err(io("rewind"))?;
        writeln!(file, "{}", std::process::id()).map_err(io("write"))?;
        Ok(Self { _file: file })
    }
}

/// The process that has a state directory, as it wrote it down, if it is there and a daemon
/// of ours. Takes no lock, so no daemon that starts meanwhile is hindered.
#[must_use]
pub fn holder(directory: &Path) -> Option<u32> {
    let pid = written(directory)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "mizzen").then_some(pid)
}

/// Whether the lock that lies in a directory is the one that this process took.
#[must_use]
pub fn is_ours(directory: &Path) -> bool {
    written(directory) == Some(std::process::id())
}

fn written(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join(LOCK_NAME)).ok()?.trim().parse().ok()
}

/// A child that a killed daemon had just forked holds the lock until it executes its
/// program, so the lock is asked for more than once.
fn lock_patiently(file: &File) -> rustix::io::Result<()> {
    let mut tries = 0;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if tries < LOCK_TRIES => {
                tries += 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            other => return other,
        }
    }
}

/// Who may do what with a directory that we make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody but us (0700).
    Owner,
    /// Others may pass through but not look around (0711): tasks that run as other
    /// users have their sandboxes further down.
    Passage,
}

/// Makes sure that `directory` exists. One that exists is left as it is, unless
/// everybody can write there.
///
/// # Errors
///
/// [`LockError::Open`], or what the system says.
pub fn ensure_dir(directory: &Path, access: Access) -> Result<(), LockError> {
    let io = |request| move |source| LockError::Io { request, path: directory.to_owned(), source };
    let mode = match access {
        Access::Owner => 0o700,
        Access::Passage => 0o711,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
        .map_err(io("create directory"))?;
    let mode = fs::metadata(directory).map_err(io("look up"))?.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(LockError::Open { directory: directory.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_second_is_refused_and_told_who_has_it() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("state");
        let first = StateLock::take(&directory).unwrap();
        let error = StateLock::take(&directory).unwrap_err().to_string();
        assert!(error.contains(&directory.display().to_string()), "{error}");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");

        assert!(is_ours(&directory));
        fs::rename(&directory, temp.path().join("elsewhere")).unwrap();
        assert!(!is_ours(&directory));

        drop(first);
        StateLock::take(&directory).unwrap();
    }

    #[test]
    fn others_cannot_look_around() {
        let temp = tempfile::tempdir().unwrap();
        let (directory, run) = (temp.path().join("state"), temp.path().join("run"));
        let _lock = StateLock::take(&directory).unwrap();
        ensure_dir(&run, Access::Owner).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&directory), 0o711);
        assert_eq!(mode(&run), 0o700);
        assert_eq!(mode(&directory.join(LOCK_NAME)), 0o600);
    }

    #[test]
    fn a_directory_that_is_open_to_all_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = StateLock::take(temp.path()).unwrap_err();
        assert!(matches!(error, LockError::Open { .. }), "{error}");
    }

    #[test]
    fn a_link_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", temp.path().join(LOCK_NAME)).unwrap();
        let error = StateLock::take(temp.path()).unwrap_err();
        assert!(matches!(error, LockError::Io { request: "open", .. }), "{error}");
    }
}
