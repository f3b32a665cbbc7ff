//! Leases of addresses as the CNI plugins keep them: a file per address, which is its name. All
//! other names beside them are the plugins' own: locks, lists of a container's addresses, the
//! address given last.

use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::ipam::LeaseRecord;
use mizzen_cni_core::plan::{Hairpin, host_link};
use mizzen_plan::overlay::SeenLease;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The leases cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the leases in {}", path.display())]
pub struct LeasesError {
    /// Where they are.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The networks that ever had leases below `leases`.
pub(crate) fn observe_networks(leases: &Path) -> Result<Vec<String>, LeasesError> {
    let failed = |source| LeasesError { path: leases.to_owned(), source };
    let entries = match fs::read_dir(leases) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut networks = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        networks.extend(entry.file_name().into_string().ok().filter(|_| is_directory));
    }
    Ok(networks)
}

/// The addresses that have a lease in a directory; none if there is no such directory.
///
/// # Errors
///
/// [`LeasesError`] if it cannot be listed.
pub fn observe_addresses(directory: &Path) -> Result<Vec<IpAddr>, LeasesError> {
    let failed = |source| LeasesError { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut addresses = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        addresses.extend(name.to_str().and_then(|name| name.parse::<IpAddr>().ok()));
    }
    Ok(addresses)
}

/// Who has which address of a network whose leases are below `leases`.
pub(crate) fn observe_leases(
    leases: &Path,
    network: &str,
) -> Result<Vec<(IpAddr, SeenLease)>, LeasesError> {
    let directory = leases.join(network);
    let addresses = observe_addresses(&directory)?.into_iter();
    // One that was released meanwhile, or is damaged, is nobody's.
    let seen = addresses.filter_map(|address| {
        let record = read_lease(&directory.join(address.to_string()))?;
        Some((address, seen_lease(network, address, record)))
    });
    Ok(seen.collect())
}

/// The links of those who have an address of a network, as far as `mizzen-overlay` made them, with
/// what is to be said of their ports.
pub(crate) fn observe_ports(
    leases: &Path,
    network: &str,
) -> Result<BTreeMap<String, Hairpin>, LeasesError> {
    let directory = leases.join(network);
    let port = |address: IpAddr| {
        let record = read_lease(&directory.join(address.to_string()))?;
        let link = host_link(record.network.as_deref().unwrap_or(network), &record.key());
        // Before it was written down, the node's own networks had it.
        let hairpin = if record.hairpin.unwrap_or(true) { Hairpin::On } else { Hairpin::Off };
        Some((link, hairpin))
    };
    Ok(observe_addresses(&directory)?.into_iter().filter_map(port).collect())
}

/// Whose a lease is; nobody's if it is gone or damaged.
pub(crate) fn read_lease(path: &Path) -> Option<LeaseRecord> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn seen_lease(network: &str, address: IpAddr, record: LeaseRecord) -> SeenLease {
    let network = record.network.as_deref().unwrap_or(network);
    let first = record.addresses.first().copied().unwrap_or(address);
    let key = AttachmentKey { container_id: record.container_id, ifname: record.ifname };
    SeenLease { link: host_link(network, &key), container: key.container_id, first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_names_that_are_addresses_are_leases() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("dcos");
        assert_eq!(observe_addresses(&directory).unwrap(), [] as [IpAddr; 0], "no directory yet");
        fs::create_dir(&directory).unwrap();
        let make = |name: &str| fs::write(directory.join(name), "{}").unwrap();
        let others =
            ["last-reserved", "last-reserved.1", "lock-overlay-0a", "lock-removal", ".of-mz1"];
        others.iter().for_each(|name| make(name));
        assert_eq!(observe_addresses(&directory).unwrap(), [] as [IpAddr; 0], "all were released");
        let leased = ["9.0.0.2", "9.0.0.3", "fd01:b::2"];
        leased.iter().for_each(|name| make(name));
        let found: BTreeSet<IpAddr> = observe_addresses(&directory).unwrap().into_iter().collect();
        assert_eq!(found, leased.iter().map(|name| name.parse().unwrap()).collect());
    }
}
