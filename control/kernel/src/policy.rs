//! Network policy on this node: containers observed, and given to the programs with what is wanted.
//!
//! Links and leases are read anew in each pass, as for the fast path, so whoever made a container, it is found here.

use mizzen_ebpf_core::policy::PolicyWanted;
use mizzen_ebpf_loader::{
    LoadError, Policy, PolicyHere, SpeakerWanted, is_policy_pinned, namespace_cookie,
    teardown_policy,
};
pub use mizzen_ebpf_loader::{
    PolicyChanged, PolicyCounts, PolicyMeter, PolicyPlace, Refusal, Refusals,
};
use mizzen_netlink::{Netlink, NetlinkError};
use mizzen_plan::overlay::{NodeBridge, OverlaySpec, SeenLease};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::leases::{LeasesError, observe_leases};

/// Policies could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The node's links cannot be listed.
    #[error("cannot look for containers that policies are about")]
    Links(#[source] NetlinkError),
    /// The leases cannot be read.
    #[error("cannot tell whose addresses are whose")]
    Leases(#[source] LeasesError),
    /// The kernel does not take the programs.
    #[error(transparent)]
    Programs(#[from] LoadError),
}

/// What policies follow from.
#[derive(Debug, Clone, Default)]
pub struct PolicySpec {
    /// What all policies together come to.
    pub wanted: PolicyWanted,
    /// The node's shares.
    pub overlays: Vec<OverlaySpec>,
    /// The network of this node alone.
    pub bridge: Option<NodeBridge>,
    /// Files of network namespaces, by container. Connects of these are refused at once, those of others on their way.
    pub namespaces: BTreeMap<String, PathBuf>,
}

/// What one pass saw and did.
#[derive(Debug, Default)]
pub struct Pass {
    /// What differed.
    pub changed: PolicyChanged,
    /// Whose addresses of the node's overlays, and of its own bridge, are whose: containers' ids.
    pub leases: BTreeMap<IpAddr, String>,
}

/// The programs, for the network namespace of the thread that uses it.
#[derive(Debug)]
pub struct NetworkPolicy {
    programs: Policy,
    /// By container; one keeps its namespace.
    cookies: BTreeMap<String, u64>,
}

impl NetworkPolicy {
    /// Loads the programs; pins go below `pin_dir`, on a BPF file system. Connects are refused below `cgroup`.
    ///
    /// To be called after the programs of VIPs were attached, as those choose what a policy is asked about.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Programs`] with whatever the machine lacks.
    pub fn open(pin_dir: &Path, cgroup: Option<&Path>) -> Result<Self, PolicyError> {
        Ok(Self { programs: Policy::open(pin_dir, cgroup)?, cookies: BTreeMap::new() })
    }

    /// Has what follows from `spec` enforced; only what differs is written. To be called when policies, links or leases
    /// changed.
    ///
    /// # Errors
    ///
    /// [`PolicyError`]; what was enforced before goes on.
    pub fn ensure(&mut self, spec: &PolicySpec) -> Result<Pass, PolicyError> {
        let mut leases = Vec::new();
        let overlays = spec.overlays.iter().map(|overlay| (&overlay.leases, &overlay.name));
        let bridge = spec.bridge.iter().map(|bridge| (&bridge.leases, &bridge.name));
        for (directory, network) in overlays.chain(bridge) {
            leases.extend(observe_leases(directory, network).map_err(PolicyError::Leases)?);
        }
        let here = self.observe(spec, &leases)?;
        let changed = self.programs.follow(&spec.wanted, &here)?;
        let whose = |(address, lease): (IpAddr, SeenLease)| (address, lease.container);
        Ok(Pass { changed, leases: leases.into_iter().map(whose).collect() })
    }

    /// Has the next pass look at every map and link again.
    pub fn recheck(&mut self) {
        self.programs.recheck();
    }

    /// What reads the counts, on whichever thread.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Programs`] if descriptors run out.
    pub fn meter(&self) -> Result<PolicyMeter, PolicyError> {
        Ok(self.programs.meter()?)
    }

    /// What tells of refusals, on whichever thread. Each is told to one reader only.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Programs`] if the ring cannot be mapped.
    pub fn refusals(&self) -> Result<Refusals, PolicyError> {
        Ok(self.programs.refusals()?)
    }

    fn observe(
        &mut self,
        spec: &PolicySpec,
        leases: &[(IpAddr, SeenLease)],
    ) -> Result<PolicyHere, PolicyError> {
        let links = Netlink::open().and_then(|mut netlink| netlink.observe_links());
        let links: BTreeMap<String, u32> = links
            .map_err(PolicyError::Links)?
            .into_iter()
            .map(|link| (link.name, link.index.0))
            .collect();
        let of_link = |(address, lease): &(IpAddr, SeenLease)| {
            links.get(&lease.link).map(|link| (*address, *link))
        };
        let tunnels = spec.overlays.iter().filter_map(|overlay| links.get(&overlay.tunnel));
        Ok(PolicyHere {
            containers: leases.iter().filter_map(of_link).collect(),
            tunnels: tunnels.copied().collect(),
            speakers: self.speakers(&spec.namespaces, leases),
        })
    }

    /// Whose sockets are whose, as far as that is certain.
    fn speakers(
        &mut self,
        namespaces: &BTreeMap<String, PathBuf>,
        leases: &[(IpAddr, SeenLease)],
    ) -> BTreeMap<u64, SpeakerWanted> {
        self.cookies.retain(|container, _| namespaces.contains_key(container));
        for (container, namespace) in namespaces {
            if !self.cookies.contains_key(container)
                && let Ok(cookie) = namespace_cookie(namespace)
            {
                self.cookies.insert(container.clone(), cookie);
            }
        }
        let speaker = |container: &str| {
            let own = leases.iter().filter(|(_, lease)| lease.container == container);
            speaker(own.map(|(address, _)| *address))
        };
        self.cookies.iter().map(|(container, cookie)| (*cookie, speaker(container))).collect()
    }
}

/// Whether the kernel goes by what a former process gave it; to be asked before anything is opened here.
#[must_use]
pub fn is_pinned(pin_dir: &Path) -> bool {
    is_policy_pinned(pin_dir)
}

/// Ends policies on the links of the calling thread's namespace, and removes what any version left below `pin_dir`.
///
/// # Errors
///
/// [`PolicyError::Programs`] with the first pin that could not be removed.
pub fn teardown(pin_dir: &Path) -> Result<(), PolicyError> {
    Ok(teardown_policy(pin_dir)?)
}

/// Of several addresses of one family it depends on the route which one a socket gets.
fn speaker(addresses: impl Iterator<Item = IpAddr>) -> SpeakerWanted {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv4);
    let only = |addresses: &[IpAddr]| match addresses {
        [address] => Some(*address),
        _ => None,
    };
    SpeakerWanted { v4: only(&v4), v6: only(&v6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speaker_has_one_address_of_a_family() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = ["9.0.1.2", "9.0.1.3", "fd01::2"].map(at);
        assert_eq!(speaker(all.into_iter()), SpeakerWanted { v4: None, v6: Some(all[2]) });
        let one = SpeakerWanted { v4: Some(all[0]), v6: Some(all[2]) };
        assert_eq!(speaker([all[0], all[2]].into_iter()), one);
        assert_eq!(speaker(std::iter::empty()), SpeakerWanted::default());
    }
}
