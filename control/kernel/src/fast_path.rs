//! The overlay's fast path on this node: observed, planned, applied.
//!
//! Links, leases and published ports are read anew in each pass, so whoever made a container, it is
//! found here; plugins know nothing of it.

use crate::leases::{LeasesError, observe_leases};
use mizzen_cni_core::portmap::DEFAULT_TABLE;
use mizzen_ebpf_loader::{FastPath, FastPathWanted, LoadError, teardown_fast_path};
pub use mizzen_ebpf_loader::{FastPathChanged, FastPathMeter};
use mizzen_netlink::{LinkState, Netlink, NetlinkError, Nft, PortEntry};
use mizzen_plan::overlay::{Between, Desired, Hooked, OverlaySpec, Seen, SeenLink, plan_fast_path};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

/// The fast path could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum FastPathError {
    /// The node's links or published ports cannot be listed.
    #[error("cannot look for containers")]
    Observe(#[from] NetlinkError),
    /// The leases cannot be read.
    #[error(transparent)]
    Leases(#[from] LeasesError),
    /// The kernel does not take the programs.
    #[error(transparent)]
    Programs(#[from] LoadError),
}

/// What the fast path follows from.
#[derive(Debug, Clone)]
pub struct FastPathSpec {
    /// The node's shares.
    pub overlays: Vec<OverlaySpec>,
    /// The ordinary path to other nodes.
    pub desired: Desired,
    /// Whether overlays reach each other.
    pub between: Between,
    /// Whose VIPs are translated at their sockets.
    pub hooked: Hooked,
    /// Name of the table with the ports that lead to the node's containers.
    pub port_table: String,
}

/// The programs, for the network namespace of the thread that uses it.
#[derive(Debug)]
pub struct OverlayPath {
    programs: FastPath,
}

impl OverlayPath {
    /// Loads the programs; pins go below `pin_dir`, on a BPF file system.
    ///
    /// # Errors
    ///
    /// [`FastPathError::Programs`] with whatever the machine lacks.
    pub fn open(pin_dir: &Path) -> Result<Self, FastPathError> {
        Ok(Self { programs: FastPath::open(pin_dir)? })
    }

    /// Makes what follows from `spec` take the fast path; nothing without one.
    ///
    /// # Errors
    ///
    /// [`FastPathError`]; what could not be looked at takes the path that it took before.
    pub fn follow(
        &mut self,
        spec: Option<&FastPathSpec>,
    ) -> Result<FastPathChanged, FastPathError> {
        let wanted = match spec {
            None => FastPathWanted::default(),
            Some(spec) => {
                let seen = observe(spec)?;
                let FastPathSpec { overlays, desired, between, hooked, .. } = spec;
                plan_fast_path(overlays, desired, *between, hooked, &seen)
            }
        };
        Ok(self.programs.follow(&wanted)?)
    }

    /// Has the next pass look at every link again.
    pub fn recheck(&mut self) {
        self.programs.recheck();
    }

    /// What reads the programs' counts, on whichever thread.
    ///
    /// # Errors
    ///
    /// [`FastPathError::Programs`] if descriptors run out.
    pub fn meter(&self) -> Result<FastPathMeter, FastPathError> {
        Ok(self.programs.meter()?)
    }
}

/// Removes what any version left below `pin_dir`, and on the links of the calling thread's namespace.
///
/// # Errors
///
/// [`FastPathError::Programs`] with the first pin that could not be removed.
pub fn teardown(pin_dir: &Path) -> Result<(), FastPathError> {
    Ok(teardown_fast_path(pin_dir)?)
}

fn observe(spec: &FastPathSpec) -> Result<Seen, FastPathError> {
    let links = Netlink::open()?.observe_links()?.iter().map(seen_link).collect();
    let mut leases = BTreeMap::new();
    for overlay in &spec.overlays {
        leases.extend(observe_leases(&overlay.leases, &overlay.name)?);
    }
    Ok(Seen { links, leases, published: observe_published(&spec.port_table)? })
}

fn seen_link(link: &LinkState) -> SeenLink {
    SeenLink {
        index: link.index.0,
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.0),
        master: link.master.map(|master| master.0),
        mtu: link.mtu,
        is_queued: link.queue.as_deref().is_some_and(|queue| queue != NO_QUEUE),
    }
}

/// The queue of a link that sends at once.
const NO_QUEUE: &str = "noqueue";

/// Addresses of containers that ports of this host lead to, by our table or by the one that
/// the plugin has for other runtimes.
fn observe_published(port_table: &str) -> Result<BTreeSet<IpAddr>, NetlinkError> {
    let mut nft = Nft::open()?;
    let mut ports = Vec::new();
    for table in BTreeSet::from([port_table, DEFAULT_TABLE]) {
        ports.extend(nft.observe_ports(table)?);
    }
    let target = |entry: PortEntry| match entry {
        PortEntry::Publish { to, .. } => Some(to.ip()),
        PortEntry::Itself { address } | PortEntry::Hairpin { address, .. } => Some(address),
    };
    Ok(ports.into_iter().filter_map(|port| target(port.entry)).collect())
}
