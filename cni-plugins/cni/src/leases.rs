//! Leases as files, and the lock of one container.
//!
//! `<data dir>/<network>/<address>` says in one line of JSON whose the address is. The
//! file appears complete and at once, or not at all: it is written under another name
//! and moved to a name that must be free. So two processes never get one address, and
//! a crash leaves no half lease. Every other name in the directory is no lease:
//! `last-reserved`, `lock-…`, `.new-…`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::error::Code;
use mizzen_cni_core::ipam::{LeaseRecord, Pool, PoolError};
use mizzen_cni_core::plan::host_link;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

/// The leases of one network.
pub(crate) struct LeaseStore {
    dir: PathBuf,
    network: String,
}

/// While it lives, no other plugin process works on the same container.
pub(crate) struct ContainerLock {
    _file: File,
}

/// Which plugin holds a lock. They are kept apart because one may run inside the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// `mizzen-overlay`.
    Overlay,
    /// `mizzen-ipam` on its own.
    Ipam,
}

/// A lease that could not be read or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("cannot {request} `{}`", path.display())]
    File {
        request: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{key} has a lease on {address} already; DEL comes before another ADD")]
    Held { key: AttachmentKey, address: IpAddr },
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl LeaseError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::File { .. } => Code::Io,
            Self::Held { .. } => Code::Conflict,
            Self::Pool(error) => error.code(),
        }
    }
}

/// The address given last.
const LAST: &str = "last-reserved";

impl LeaseStore {
    /// Opens the leases of `network`; makes their directory if need be.
    pub(crate) fn open(data_dir: &Path, network: &str) -> Result<Self, LeaseError> {
        let dir = data_dir.join(network);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|source| failed("create directory", &dir, source))?;
        Ok(Self { dir, network: network.to_owned() })
    }

    /// Waits until no other process works on the container of `key`.
    ///
    /// There are 256 locks per plugin for all containers, so that nobody has to remove lock files,
    /// which cannot be done without a race.
    pub(crate) fn lock(
        &self,
        holder: Holder,
        key: &AttachmentKey,
    ) -> Result<ContainerLock, LeaseError> {
        let name = host_link(&self.network, key);
        let digits = name.get(name.len() - 2..).unwrap_or_default();
        let holder = match holder {
            Holder::Overlay => "overlay",
            Holder::Ipam => "ipam",
        };
        let path = self.dir.join(format!("lock-{holder}-{digits}"));
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| failed("open", &path, source))?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(ContainerLock { _file: file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failed("lock", &path, errno.into())),
            }
        }
    }

    /// Lists the leases; an owner that cannot be read is `None`.
    pub(crate) fn observe(&self) -> Result<BTreeMap<IpAddr, Option<AttachmentKey>>, LeaseError> {
        let failed = |source| failed("list", &self.dir, source);
        let mut leases = BTreeMap::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            else {
                continue;
            };
            match std::fs::read(entry.path()) {
                Ok(bytes) => {
                    let record = serde_json::from_slice(&bytes).ok();
                    leases.insert(address, record.map(|record: LeaseRecord| record.key()));
                }
                // Released since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => {
                    leases.insert(address, None);
                }
            }
        }
        Ok(leases)
    }

    /// The addresses of `key`.
    pub(crate) fn observe_of(&self, key: &AttachmentKey) -> Result<Vec<IpAddr>, LeaseError> {
        let leases = self.observe()?.into_iter();
        Ok(leases.filter(|(_, owner)| owner.as_ref() == Some(key)).map(|(at, _)| at).collect())
    }

    /// Gives `key` an address of `pool`. The caller holds the container's lock.
    pub(crate) fn take(
        &self,
        key: &AttachmentKey,
        pool: &Pool,
        requested: Option<IpAddr>,
    ) -> Result<IpAddr, LeaseError> {
        let leases = self.observe()?;
        let held = leases.iter().find(|(_, owner)| owner.as_ref() == Some(key));
        if let Some((address, _)) = held {
            return Err(LeaseError::Held { key: key.clone(), address: *address });
        }
        let mut taken: BTreeSet<IpAddr> = leases.into_keys().collect();
        let last = self.last();
        let draft = self.draft(key);
        let record = serde_json::json!(LeaseRecord::new(key)).to_string();
        loop {
            let address = pool.choose(requested, last, &taken)?;
            if self.publish(&draft, &record, address)? {
                self.remember(&draft, address)?;
                return Ok(address);
            }
            // Another container was faster; the next choice leaves it out.
            taken.insert(address);
        }
    }

    /// Takes the addresses of `key` back; whether there was any does not matter.
    pub(crate) fn release(&self, key: &AttachmentKey) -> Result<(), LeaseError> {
        remove(&self.draft(key))?;
        for address in self.observe_of(key)? {
            remove(&self.dir.join(address.to_string()))?;
        }
        Ok(())
    }

    /// Writes the record and moves it to the address's name; `false` if that is taken.
    fn publish(&self, draft: &Path, record: &str, address: IpAddr) -> Result<bool, LeaseError> {
        write(draft, record)?;
        let path = self.dir.join(address.to_string());
        match renameat_with(CWD, draft, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => {
                remove(draft)?;
                Ok(false)
            }
            Err(errno) => {
                remove(draft)?;
                Err(failed("create", &path, errno.into()))
            }
        }
    }

    /// Notes the address as the last one. Two processes may overtake each other here;
    /// it is only where the next search starts.
    fn remember(&self, draft: &Path, address: IpAddr) -> Result<(), LeaseError> {
        let path = self.dir.join(LAST);
        let noted = write(draft, &format!("1 {address}\n")).and_then(|()| {
            std::fs::rename(draft, &path).map_err(|source| failed("replace", &path, source))
        });
        noted.inspect_err(|_| {
            // The caller learns of no address, so it must not keep one.
            let _ = remove(draft);
            let _ = remove(&self.dir.join(address.to_string()));
        })
    }

    fn last(&self) -> Option<IpAddr> {
        let text = std::fs::read_to_string(self.dir.join(LAST)).ok()?;
        text.strip_prefix("1 ")?.trim_end().parse().ok()
    }

    /// The name under which files of `key` are written before they are moved.
    fn draft(&self, key: &AttachmentKey) -> PathBuf {
        self.dir.join(format!(".new-{}", host_link(&self.network, key)))
    }
}

fn write(path: &Path, text: &str) -> Result<(), LeaseError> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| {
        let _ = remove(path);
        failed("write", path, source)
    })
}

fn remove(path: &Path) -> Result<(), LeaseError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

fn failed(request: &'static str, path: &Path, source: io::Error) -> LeaseError {
    LeaseError::File { request, path: path.to_owned(), source }
}
