//! Ports of this host that lead to containers: the port plugin publishes them and leaves a record
//! of each container; what somebody removed is put back from there.
//!
//! Plugins run at any moment. They change records and ports under a lock, and a look that finds
//! something missing looks again under it, so what is on its way is never taken for removed.

use mizzen_cni_core::config::DEFAULT_DATA_DIR;
use mizzen_cni_core::portmap::{
    DEFAULT_TABLE, PortRecord, PortmapConfig, Protocol, RECORD_LOCK, loopback_setting, plan_ports,
    read_port_mark, record_directory, record_name, record_root,
};
use mizzen_netlink::{
    Ensured, NetlinkError, Nft, PortEntry, PortTableSpec, PublishedPort, RemovalMonitor,
    ensure_sysctl, namespace_name,
};
use mizzen_types::error::chain;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Plugins hold their lock for moments. One that was stopped holds it until somebody ends it.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// Ports that are not as their records say.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// A record cannot be read.
    #[error("cannot use the record of published ports {}: {why}", path.display())]
    Record {
        /// Its file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A plugin does not come to an end.
    #[error("a plugin holds {} for longer than {} s", path.display(), PATIENCE.as_secs())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// The system would not lock.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not let us look, or has no place for ports.
    #[error("cannot look at published ports")]
    Kernel(#[from] NetlinkError),
    /// The kernel does not take what is missing: another one has the port by now.
    #[error("ports of container `{container}` cannot be published again")]
    Refused {
        /// Whose.
        container: String,
        /// Why.
        #[source]
        source: NetlinkError,
    },
}

/// What a pass put back, and what it could not.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// Tables, settings and containers' ports that were made or mended.
    pub(crate) changed: u32,
    /// Ports that were published again.
    pub(crate) ports: usize,
    pub(crate) errors: Vec<PublishedError>,
}

/// A table, and where the records of what is in it are.
struct Place {
    table: String,
    directories: Vec<PathBuf>,
}

/// The ports of a container that is there.
struct Promise {
    record: PortRecord,
    config: PortmapConfig,
    entries: Vec<PortEntry>,
}

/// Publishes again what is missing, for all containers whose links are there.
///
/// * `leases` — the data directory of the node's plugins.
/// * `port_table` — the node's table; that of other runtimes is looked at as well.
/// * `links` — names of all links.
pub(crate) fn ensure_published(
    leases: &Path,
    port_table: &str,
    links: &BTreeSet<String>,
) -> Restored {
    let mut restored = Restored::default();
    if let Err(error) = ensure_places(leases, port_table, links, &mut restored) {
        restored.errors.push(error);
    }
    remove_former(leases);
    restored
}

/// Ports of containers that are there which are not published, in words: `tcp 31000 of container
/// c1`.
pub(crate) fn observe_missing(
    leases: &Path,
    port_table: &str,
    links: &BTreeSet<String>,
) -> Result<Vec<String>, PublishedError> {
    let mut nft = Nft::open()?;
    let mut words = Vec::new();
    for place in places(leases, port_table)? {
        let (promises, errors) = read_promises(&place, links);
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        if promises.is_empty() {
            continue;
        }
        let there = match nft.has_port_rules(&place.table)? {
            true => observe(&mut nft, &place)?,
            // Entries without rules lead nowhere.
            false => BTreeSet::new(),
        };
        words.extend(promises.iter().flat_map(|promise| promise.told_missing(&there)));
    }
    Ok(words)
}

/// How many ports of this host lead to containers.
///
/// # Errors
///
/// [`NetlinkError::Request`] if the kernel does not tell.
pub fn count_published(port_table: &str) -> Result<usize, NetlinkError> {
    let mut nft = Nft::open()?;
    let mut count = 0;
    for table in BTreeSet::from([port_table, DEFAULT_TABLE]) {
        count += nft.observe_ports(table)?.iter().filter(|port| is_port(&port.entry)).count();
    }
    Ok(count)
}

/// What tells of published ports that somebody else removed, for each table.
///
/// # Errors
///
/// [`NetlinkError::Open`] if the kernel gives no socket.
pub fn published_monitors(
    leases: &Path,
    port_table: &str,
) -> Result<Vec<RemovalMonitor>, NetlinkError> {
    let monitor = |Place { table, directories }: Place| {
        // A plugin removes the record first.
        let stays = move |mark: &str| {
            let name = read_port_mark(mark).map(|(network, key)| record_name(network, &key));
            name.is_some_and(|name| directories.iter().any(|there| there.join(&name).exists()))
        };
        RemovalMonitor::open_ports(&table, stays)
    };
    places(leases, port_table)?.into_iter().map(monitor).collect()
}

fn places(leases: &Path, port_table: &str) -> Result<Vec<Place>, NetlinkError> {
    let here = namespace_name()?;
    let place = |table: &str| Place {
        table: table.to_owned(),
        directories: data_dirs(leases).map(|of| record_directory(of, &here, table)).collect(),
    };
    Ok(BTreeSet::from([port_table, DEFAULT_TABLE]).into_iter().map(place).collect())
}

/// Those of the node's own networks, and of networks that name none.
fn data_dirs(leases: &Path) -> impl Iterator<Item = &Path> {
    BTreeSet::from([leases, Path::new(DEFAULT_DATA_DIR)]).into_iter()
}

fn ensure_places(
    leases: &Path,
    port_table: &str,
    links: &BTreeSet<String>,
    restored: &mut Restored,
) -> Result<(), PublishedError> {
    let mut nft = Nft::open()?;
    for place in places(leases, port_table)? {
        ensure_place(&mut nft, &place, links, restored)?;
    }
    Ok(())
}

fn ensure_place(
    nft: &mut Nft,
    place: &Place,
    links: &BTreeSet<String>,
    restored: &mut Restored,
) -> Result<(), PublishedError> {
    let (promises, errors) = read_promises(place, links);
    if promises.is_empty() && !nft.observe_tables()?.contains(&place.table) {
        restored.errors.extend(errors);
        return Ok(());
    }
    let except: BTreeSet<_> = promises.iter().flat_map(|promise| &promise.config.except).collect();
    let except = except.into_iter().copied().collect();
    let table = PortTableSpec { table: place.table.clone(), except };
    restored.note(&nft.ensure_port_table(&table)?);
    for promise in &promises {
        promise.ensure_loopback(restored);
    }
    let there = observe(nft, place)?;
    if promises.iter().all(|promise| promise.missing(&there).is_empty()) {
        restored.errors.extend(errors);
        return Ok(());
    }
    let _locks = lock(place)?;
    let (promises, errors) = read_promises(place, links);
    restored.errors.extend(errors);
    let there = observe(nft, place)?;
    for promise in &promises {
        let missing = promise.missing(&there);
        if missing.is_empty() {
            continue;
        }
        match nft.add_ports(&place.table, &missing, &promise.record.mark()) {
            Ok(()) => {
                restored.changed += 1;
                restored.ports += missing.iter().filter(|entry| is_port(entry)).count();
            }
            Err(source) => {
                let container = promise.record.container_id.clone();
                restored.errors.push(PublishedError::Refused { container, source });
            }
        }
    }
    Ok(())
}

fn observe(nft: &mut Nft, place: &Place) -> Result<BTreeSet<PublishedPort>, PublishedError> {
    Ok(nft.observe_ports(&place.table)?.into_iter().collect())
}

fn read_promises(place: &Place, links: &BTreeSet<String>) -> (Vec<Promise>, Vec<PublishedError>) {
    let (mut promises, mut errors) = (Vec::new(), Vec::new());
    // A directory that is not there has no records.
    let files = place.directories.iter().filter_map(|directory| fs::read_dir(directory).ok());
    for path in files.flatten().flatten().map(|entry| entry.path()).filter(|path| is_record(path)) {
        // One that is not there any more was removed meanwhile.
        let Ok(text) = fs::read(&path) else { continue };
        match read_promise(&text) {
            Ok(promise) if promise.is_living(links) => promises.push(promise),
            Ok(_) => {}
            Err(why) => errors.push(PublishedError::Record { path, why }),
        }
    }
    (promises, errors)
}

fn is_record(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name != RECORD_LOCK.as_bytes() && !name.starts_with(b".")
}

fn read_promise(text: &[u8]) -> Result<Promise, String> {
    let record: PortRecord = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if record.version != PortRecord::VERSION {
        let (found, known) = (record.version, PortRecord::VERSION);
        return Err(format!("its format is {found}, and we read {known}"));
    }
    let config = record.config().map_err(|error| chain(&error))?;
    let entries = plan_ports(&config).map_err(|error| chain(&error))?;
    Ok(Promise { record, config, entries })
}

impl Promise {
    /// Without its links there is no container, or none that is connected.
    fn is_living(&self, links: &BTreeSet<String>) -> bool {
        self.config.host_links().iter().all(|link| links.contains(link))
    }

    fn missing(&self, there: &BTreeSet<PublishedPort>) -> Vec<PortEntry> {
        let mark = self.record.mark();
        let wanted = self
            .entries
            .iter()
            .map(|entry| PublishedPort { entry: entry.clone(), mark: mark.clone() });
        wanted.filter(|port| !there.contains(port)).map(|port| port.entry).collect()
    }

    fn told_missing(&self, there: &BTreeSet<PublishedPort>) -> BTreeSet<String> {
        let container = &self.record.container_id;
        let told = |entry: PortEntry| match entry {
            PortEntry::Publish { protocol, port, .. } => {
                let protocol = Protocol::of_number(protocol)?;
                Some(format!("{protocol} {port} of container {container}"))
            }
            PortEntry::Itself { .. } | PortEntry::Hairpin { .. } => None,
        };
        self.missing(there).into_iter().filter_map(told).collect()
    }

    /// A bridge that was made again has forgotten it.
    fn ensure_loopback(&self, restored: &mut Restored) {
        for link in self.config.loopback_links(&self.entries) {
            match ensure_sysctl(&loopback_setting(&link), "1") {
                Ok(made) => restored.note(&made),
                Err(error) if error.is_absent() => {}
                Err(error) => restored.errors.push(error.into()),
            }
        }
    }
}

impl Restored {
    fn note<T>(&mut self, made: &Ensured<T>) {
        self.changed += u32::from(!matches!(made, Ensured::Unchanged(_)));
    }
}

fn is_port(entry: &PortEntry) -> bool {
    matches!(entry, PortEntry::Publish { .. })
}

/// Has all plugins wait that would change the place.
fn lock(place: &Place) -> Result<Vec<File>, PublishedError> {
    let mut locks = Vec::new();
    for path in place.directories.iter().map(|directory| directory.join(RECORD_LOCK)) {
        match File::options().append(true).open(&path) {
            Ok(file) => locks.push(wait_for(file, path)?),
            // Nothing was published from there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PublishedError::Lock { path, source }),
        }
    }
    Ok(locks)
}

fn wait_for(file: File, path: PathBuf) -> Result<File, PublishedError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(PublishedError::Busy { path }),
            Err(TryLockError::Error(source)) => return Err(PublishedError::Lock { path, source }),
        }
    }
}

/// Removes records of before the machine was started, as far as the system lets us: nobody
/// looks at them, and nobody else removes them.
fn remove_former(leases: &Path) {
    let Ok(here) = namespace_name() else { return };
    let boot = here.rsplit_once('-').map_or(&*here, |(boot, _)| boot);
    let roots = data_dirs(leases).filter_map(|of| fs::read_dir(record_root(of)).ok());
    for entry in roots.flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(boot) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
