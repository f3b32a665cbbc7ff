//! Leases as files, and the lock of one container.
//!
//! `<data dir>/<network or overlay>/<address>` says in one line of JSON whose the address is. It is
//! born as a second name of a complete file, by a call that fails if the name is taken: so
//! two processes never get one address, and a crash leaves no half lease. The file's first
//! name is `.new-…` while addresses are being taken and `.of-…` afterwards, with a hash of
//! the container's name; it lists the addresses that were taken or about to be, so DEL finds
//! them without reading the leases of all others. Every other name in the directory is no
//! lease: `last-reserved…`, and the directory `locks`.

mod file;

pub(crate) use file::{ContainerLock, LeaseError, failed, lock, remove, write};
use file::{last, read_record, remember};

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::io::{self};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::config::{OWN_IPAM, OWN_OVERLAY};
use mizzen_cni_core::ipam::{LeaseRecord, Pool, PoolError};
use mizzen_cni_core::plan::host_link;
use mizzen_netlink::booted;

/// The leases of one network, or of the overlay that several share.
pub(crate) struct LeaseStore {
    holder: Holder,
    dir: PathBuf,
    network: String,
}

/// Which plugin takes leases and holds locks. Locks are kept apart because one may run inside
/// the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// `mizzen-overlay`.
    Overlay,
    /// `mizzen-ipam` on its own.
    Ipam,
}

impl Holder {
    fn plugin(self) -> &'static str {
        match self {
            Self::Overlay => OWN_OVERLAY,
            Self::Ipam => OWN_IPAM,
        }
    }
}

/// The address given last, of the first pool; those of the others have a number behind it.
const LAST: &str = "last-reserved";

/// The directory of locks.
const LOCKS: &str = "locks";
/// The lock of those who remove links together.
const REMOVAL: &str = "removal";

impl LeaseStore {
    /// Opens the leases in `directory`, for a container of `network`; makes the directory if
    /// need be.
    pub(crate) fn open(
        holder: Holder,
        data_dir: &Path,
        directory: &str,
        network: &str,
    ) -> Result<Self, LeaseError> {
        let dir = data_dir.join(directory);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir.join(LOCKS));
        made.map_err(|source| failed("create directory", &dir, source))?;
        Ok(Self { holder, dir, network: network.to_owned() })
    }

    /// Waits until no other process works on the container of `key`.
    ///
    /// There are 4,096 locks per plugin for all containers, so that nobody has to remove lock files,
    /// which cannot be done without a race, and containers hardly ever wait for each other.
    pub(crate) fn lock(&self, key: &AttachmentKey) -> Result<ContainerLock, LeaseError> {
        let name = host_link(&self.network, key);
        let digits = name.get(name.len() - 3..).unwrap_or_default();
        let holder = match self.holder {
            Holder::Overlay => "overlay",
            Holder::Ipam => "ipam",
        };
        lock(&self.dir.join(LOCKS).join(format!("{holder}-{digits}")))
    }

    /// Waits until no other process removes links.
    pub(crate) fn lock_removal(&self) -> Result<ContainerLock, LeaseError> {
        lock(&self.dir.join(LOCKS).join(REMOVAL))
    }

    /// Lists the leases of all networks; one that cannot be read is `None`.
    pub(crate) fn observe(&self) -> Result<BTreeMap<IpAddr, Option<LeaseRecord>>, LeaseError> {
        let mut leases = BTreeMap::new();
        for address in self.addresses()? {
            match std::fs::read(self.dir.join(address.to_string())) {
                Ok(bytes) => {
                    leases.insert(address, serde_json::from_slice(&bytes).ok());
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

    /// The addresses that have a lease.
    pub(crate) fn addresses(&self) -> Result<BTreeSet<IpAddr>, LeaseError> {
        let failed = |source| failed("list", &self.dir, source);
        let mut addresses = BTreeSet::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            addresses.extend(name.to_str().and_then(|name| name.parse::<IpAddr>().ok()));
        }
        Ok(addresses)
    }

    /// The addresses of `key`.
    pub(crate) fn observe_of(&self, key: &AttachmentKey) -> Result<Vec<IpAddr>, LeaseError> {
        let listed = [self.index(key), self.draft(key)].into_iter().find_map(|path| {
            read_record(&path)
                .filter(|record| self.is_of(record, key))
                .map(|record| record.addresses)
        });
        match listed {
            Some(addresses) if !addresses.is_empty() => {
                Ok(addresses.into_iter().filter(|address| self.owns(key, *address)).collect())
            }
            // A lease of before there was a list, or whose list was lost.
            _ => {
                let mine = |found: &Option<LeaseRecord>| {
                    found.as_ref().is_some_and(|record| self.is_of(record, key))
                };
                let leases = self.observe()?.into_iter();
                Ok(leases.filter(|(_, found)| mine(found)).map(|(at, _)| at).collect())
            }
        }
    }

    /// Gives `key` an address of each pool. The caller holds the container's lock.
    ///
    /// * `hairpin` — what is written down of the container's port.
    pub(crate) fn take(
        &self,
        key: &AttachmentKey,
        pools: &[Pool],
        wanted: &[IpAddr],
        hairpin: Option<bool>,
    ) -> Result<Vec<IpAddr>, LeaseError> {
        let held = [self.index(key), self.draft(key)].iter().find_map(|path| {
            let record = read_record(path).filter(|record| self.is_of(record, key))?;
            record.addresses.into_iter().find(|address| self.owns(key, *address))
        });
        if let Some(address) = held {
            return Err(LeaseError::Held { key: key.clone(), address });
        }
        if let Some(address) = wanted.iter().find(|ip| !pools.iter().any(|pool| pool.gives(**ip)))
            && let Some(pool) = pools.first()
        {
            return Err(pool.not_given(*address).into());
        }
        let mut record = LeaseRecord::new(self.holder.plugin(), &self.network, key);
        record.hairpin = hairpin;
        let taken = pools
            .iter()
            .enumerate()
            .try_for_each(|(number, pool)| self.take_one(number, pool, wanted, &mut record));
        let draft = self.draft(key);
        let kept = taken.and_then(|()| {
            let index = self.index(key);
            std::fs::rename(&draft, &index).map_err(|source| failed("replace", &index, source))
        });
        match kept {
            Ok(()) => Ok(record.addresses),
            Err(error) => {
                // The caller learns of no address, so it must not keep one.
                let _ = self.release(key);
                Err(error)
            }
        }
    }

    /// Takes the addresses of `key` back; whether there was any does not matter.
    pub(crate) fn release(&self, key: &AttachmentKey) -> Result<(), LeaseError> {
        for address in self.observe_of(key)? {
            remove(&self.dir.join(address.to_string()))?;
        }
        for path in [self.draft(key), self.index(key)] {
            // Another container with the same hash keeps its list.
            if read_record(&path).is_none_or(|record| self.is_of(&record, key)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// The same directory for another network.
    pub(crate) fn of_network(&self, network: &str) -> Self {
        Self { holder: self.holder, dir: self.dir.clone(), network: network.to_owned() }
    }

    /// Whose leases `mizzen-overlay` made before the machine was started, with their networks.
    /// Leases below other main plugins are not among them: whether their containers have a
    /// link cannot be seen.
    pub(crate) fn of_before_boot(&self) -> Result<BTreeSet<(String, AttachmentKey)>, LeaseError> {
        let booted = booted();
        let leases = self.observe()?.into_iter();
        let former = leases.filter_map(|(address, record)| {
            let record = record.filter(|record| record.plugin.as_deref() == Some(OWN_OVERLAY))?;
            let network = record.network.clone()?;
            self.is_older(address, booted).then(|| (network, record.key()))
        });
        Ok(former.collect())
    }

    /// Whether all leases of `key` are of before the machine was started. The caller holds the
    /// container's lock.
    pub(crate) fn is_of_before_boot(&self, key: &AttachmentKey) -> Result<bool, LeaseError> {
        let booted = booted();
        Ok(self.observe_of(key)?.into_iter().all(|address| self.is_older(address, booted)))
    }

    /// Removes leases that a power failure left empty: a lease is never empty while it is
    /// made, and whoever had it did not outlive the machine.
    pub(crate) fn remove_damaged(&self) -> Result<(), LeaseError> {
        let booted = booted();
        for (address, _) in self.observe()?.into_iter().filter(|(_, owner)| owner.is_none()) {
            if self.is_older(address, booted) {
                remove(&self.dir.join(address.to_string()))?;
            }
        }
        Ok(())
    }

    /// Takes one address of `pool` and adds it to `record`.
    fn take_one(
        &self,
        number: usize,
        pool: &Pool,
        wanted: &[IpAddr],
        record: &mut LeaseRecord,
    ) -> Result<(), LeaseError> {
        let key = record.key();
        let hint = self.hint(number);
        let last = last(&hint);
        // Most often the next address is free, and nobody has to look at the others.
        let mut taken = BTreeSet::new();
        let mut mended = false;
        loop {
            let address = match pool.choose(wanted, last, &taken) {
                Err(PoolError::Exhausted { .. }) if !mended => {
                    mended = true;
                    self.remove_damaged()?;
                    taken = self.addresses()?;
                    pool.choose(wanted, last, &taken)?
                }
                other => other?,
            };
            record.addresses.push(address);
            if self.publish(&key, record, address)? {
                return remember(&hint, address);
            }
            record.addresses.pop();
            let before = taken.len();
            taken = self.addresses()?;
            taken.insert(address);
            // Another process may take and give back as we look; the set still grows.
            if taken.len() <= before {
                std::thread::yield_now();
            }
        }
    }

    /// Writes the record and gives it the address as a second name; `false` if that is taken.
    fn publish(
        &self,
        key: &AttachmentKey,
        record: &LeaseRecord,
        address: IpAddr,
    ) -> Result<bool, LeaseError> {
        let draft = self.draft(key);
        write(&draft, &serde_json::json!(record).to_string())?;
        let path = self.dir.join(address.to_string());
        match std::fs::hard_link(&draft, &path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(failed("create", &path, source)),
        }
    }

    fn is_older(&self, address: IpAddr, than: SystemTime) -> bool {
        let metadata = std::fs::metadata(self.dir.join(address.to_string()));
        metadata.and_then(|found| found.modified()).is_ok_and(|written| written < than)
    }

    fn is_of(&self, record: &LeaseRecord, key: &AttachmentKey) -> bool {
        record.is_of(&self.network) && record.key() == *key
    }

    /// The leases of this network, with whose they are.
    pub(crate) fn owned(&self) -> Result<Vec<(IpAddr, AttachmentKey)>, LeaseError> {
        let leases = self.observe()?.into_iter();
        let ours = leases.filter_map(|(address, record)| {
            let record = record.filter(|record| record.is_of(&self.network))?;
            Some((address, record.key()))
        });
        Ok(ours.collect())
    }

    fn owns(&self, key: &AttachmentKey, address: IpAddr) -> bool {
        let record = read_record(&self.dir.join(address.to_string()));
        record.is_some_and(|record| self.is_of(&record, key))
    }

    fn hint(&self, number: usize) -> PathBuf {
        match number {
            0 => self.dir.join(LAST),
            number => self.dir.join(format!("{LAST}.{number}")),
        }
    }

    /// The list of the addresses of `key` while they are being taken.
    fn draft(&self, key: &AttachmentKey) -> PathBuf {
        self.dir.join(format!(".new-{}", host_link(&self.network, key)))
    }

    /// The list of the addresses of `key`.
    fn index(&self, key: &AttachmentKey) -> PathBuf {
        self.dir.join(format!(".of-{}", host_link(&self.network, key)))
    }
}
