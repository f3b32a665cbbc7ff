//! Links, addresses, settings and the masquerade table of one node.
//!
//! One pass goes through the domains in order. A domain that fails is reported and
//! does not keep the others from being done; the caller tries again.

use ipnet::{IpNet, Ipv4Net};
use mizzen_netlink::{
    AddressDeviceSpec, BridgeSpec, Ensured, MasqueradeRule, MasqueradeSpec, Netlink, NetlinkError,
    Nft, Removed, ensure_sysctl,
};
use mizzen_plan::overlay::OverlaySpec;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What one node's network should look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Written on every link that is ours.
    pub mark: String,
    /// The device that holds the resolver's addresses.
    pub names: Option<NamesSpec>,
    /// The overlay's bridge and its masquerading.
    pub overlay: Option<OverlaySpec>,
    /// Name of our filter table.
    pub filter_table: String,
    /// Where other callers find the CNI configuration.
    pub cni_directory: PathBuf,
}

/// The device that holds the resolver's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesSpec {
    /// Its name.
    pub link: String,
    /// The addresses, each alone in its network.
    pub addresses: Vec<IpAddr>,
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused.
    #[error("cannot bring the {domain} into shape")]
    Kernel {
        /// What the pass was at.
        domain: &'static str,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// The CNI configuration could not be written or removed.
    #[error("cannot write {path}")]
    Configuration {
        /// Its file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// One pass: how much had to be changed, and what could not be.
#[derive(Debug, Default)]
pub struct Report {
    /// Objects that were made or mended.
    pub changed: u32,
    /// What went wrong; empty if the node is as it should be.
    pub errors: Vec<NetworkError>,
}

impl Report {
    fn note<T>(&mut self, result: Result<Ensured<T>, NetworkError>) {
        match result {
            Ok(Ensured::Unchanged(_)) => {}
            Ok(Ensured::Created(_) | Ensured::Repaired(_)) => self.changed += 1,
            Err(error) => self.errors.push(error),
        }
    }
}

/// Brings the network of the calling thread's namespace into shape.
#[must_use]
pub fn ensure_network(spec: &NetworkSpec) -> Report {
    let mut report = Report::default();
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(source) => {
            report.errors.push(NetworkError::Kernel { domain: "links", source });
            return report;
        }
    };
    if let Some(names) = &spec.names {
        report.note(ensure_names(&mut netlink, names, &spec.mark));
    }
    if let Some(overlay) = &spec.overlay {
        report.note(ensure_bridge(&mut netlink, overlay, &spec.mark));
        report.note(
            ensure_sysctl("net/ipv4/ip_forward", "1").map_err(kernel("forwarding of packets")),
        );
        report.note(ensure_masquerade(overlay, &spec.filter_table));
        report.note(ensure_configuration(overlay, &spec.cni_directory));
    }
    report
}

/// Removes everything that [`ensure_network`] made. Settings of the kernel stay:
/// others may rely on them by now.
#[must_use]
pub fn remove_network(spec: &NetworkSpec) -> Report {
    let mut report = Report::default();
    let mut removed = |result: Result<Removed, NetworkError>| match result {
        Ok(Removed::Removed) => report.changed += 1,
        Ok(Removed::Absent) => {}
        Err(error) => report.errors.push(error),
    };
    let links = spec.names.iter().map(|names| &names.link);
    let links = links.chain(spec.overlay.iter().map(|overlay| &overlay.bridge));
    for link in links {
        removed(remove_link(link));
    }
    if let Some(overlay) = &spec.overlay {
        removed(remove_masquerade(&spec.filter_table));
        removed(remove_file(&overlay.configuration_file(&spec.cni_directory)));
        removed(remove_file(&overlay.cni_state_file()));
    }
    report
}

fn ensure_names(
    netlink: &mut Netlink,
    names: &NamesSpec,
    mark: &str,
) -> Result<Ensured<()>, NetworkError> {
    let device = AddressDeviceSpec {
        name: names.link.clone(),
        alias: Some(mark.to_owned()),
        addresses: names.addresses.iter().map(|address| IpNet::from(*address)).collect(),
    };
    let made = netlink.ensure_address_device(&device).map_err(kernel("resolver's addresses"))?;
    Ok(without_value(&made))
}

fn ensure_bridge(
    netlink: &mut Netlink,
    overlay: &OverlaySpec,
    mark: &str,
) -> Result<Ensured<()>, NetworkError> {
    let bridge = BridgeSpec {
        name: overlay.bridge.clone(),
        mtu: Some(overlay.mtu),
        mac: None,
        alias: Some(mark.to_owned()),
        addresses: vec![IpNet::V4(overlay.gateway_net())],
    };
    let made = netlink.ensure_bridge(&bridge).map_err(kernel("overlay's bridge"))?;
    Ok(without_value(&made))
}

fn ensure_masquerade(overlay: &OverlaySpec, table: &str) -> Result<Ensured<()>, NetworkError> {
    let rule = MasqueradeRule {
        source: IpNet::V4(overlay.subnet),
        except: vec![IpNet::V4(whole(overlay.network))],
        bridge: overlay.bridge.clone(),
    };
    let spec = MasqueradeSpec { table: table.to_owned(), rules: vec![rule] };
    let mut nft = Nft::open().map_err(kernel("masquerade table"))?;
    nft.ensure_masquerade(&spec).map_err(kernel("masquerade table"))
}

fn ensure_configuration(
    overlay: &OverlaySpec,
    directory: &Path,
) -> Result<Ensured<()>, NetworkError> {
    let configuration = overlay.configuration_file(directory);
    let written = ensure_file(&configuration, &format!("{:#}\n", overlay.cni_configuration()))?;
    let state = ensure_file(&overlay.cni_state_file(), &format!("{:#}\n", overlay.cni_state()))?;
    Ok(if let Ensured::Unchanged(()) = written { state } else { written })
}

/// A file appears complete and at once.
fn ensure_file(path: &Path, text: &str) -> Result<Ensured<()>, NetworkError> {
    let failed = |source| NetworkError::Configuration { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(present) if present == text => return Ok(Ensured::Unchanged(())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).map_err(failed)?;
    Ok(Ensured::Created(()))
}

fn remove_link(name: &str) -> Result<Removed, NetworkError> {
    let mut netlink = Netlink::open().map_err(kernel("links"))?;
    netlink.remove_link(name).map_err(kernel("links"))
}

fn remove_masquerade(table: &str) -> Result<Removed, NetworkError> {
    let mut nft = Nft::open().map_err(kernel("masquerade table"))?;
    nft.remove_table(table).map_err(kernel("masquerade table"))
}

fn remove_file(path: &Path) -> Result<Removed, NetworkError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(Removed::Removed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removed::Absent),
        Err(source) => Err(NetworkError::Configuration { path: path.to_owned(), source }),
    }
}

fn kernel(domain: &'static str) -> impl Fn(NetlinkError) -> NetworkError {
    move |source| NetworkError::Kernel { domain, source }
}

fn without_value<T>(ensured: &Ensured<T>) -> Ensured<()> {
    match ensured {
        Ensured::Unchanged(_) => Ensured::Unchanged(()),
        Ensured::Created(_) => Ensured::Created(()),
        Ensured::Repaired(_) => Ensured::Repaired(()),
    }
}

fn whole(network: Ipv4Net) -> Ipv4Net {
    network.trunc()
}
