//! What the engine knows of its VIPs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Engine;
use crate::shared::now;
use crate::words::{BackendWanted, Connection, Counts, Latencies, Policy, VipAddress, VipWanted};

impl Engine {
    /// The VIPs that the kernel knows, with the backends that this process knows: after a
    /// restart, none.
    #[must_use]
    pub fn observe(&self) -> BTreeMap<VipAddress, (Vec<BackendWanted>, Policy)> {
        let vips = self.shared.vips.read();
        let vip = |address: &VipAddress| {
            let found = vips.get(address).map(|vip| vip.wanted());
            (*address, found.unwrap_or_default())
        };
        self.listed.iter().map(vip).collect()
    }

    /// What a VIP is, in the words of [`Engine::set_vip`]: its open backends first, of those the nearest, in the order of
    /// addresses among equals. None if this process was not told of it.
    #[must_use]
    pub fn wish(&self, vip: VipAddress) -> Option<VipWanted> {
        let (backends, policy) = self.shared.vip(&vip)?.wish();
        Some(VipWanted { address: vip, backends, policy })
    }

    /// Reads the counts of every backend of every VIP.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<(VipAddress, SocketAddr), Counts> {
        let now = now();
        let vips = self.shared.vips.read();
        let all = vips.iter().flat_map(|(address, vip)| {
            vip.counts(now).map(|(backend, counts)| ((*address, backend), counts))
        });
        all.collect()
    }

    /// Reads the refusals of a VIP and the counts of its backends in the order of their addresses; none if there is no
    /// such VIP.
    #[must_use]
    pub fn standing(&self, vip: VipAddress) -> Option<(u64, Vec<(SocketAddr, Counts)>)> {
        let vip = self.shared.vip(&vip)?;
        let mut counts: Vec<(SocketAddr, Counts)> = vip.counts(now()).collect();
        counts.sort_unstable_by_key(|(address, _)| *address);
        Some((vip.refused(), counts))
    }

    /// Reads the latencies of every backend of a VIP: handshakes, lives of connections.
    #[must_use]
    pub fn latencies(&self, vip: VipAddress) -> BTreeMap<SocketAddr, (Latencies, Latencies)> {
        let Some(vip) = self.shared.vip(&vip) else { return BTreeMap::new() };
        vip.backends().map(|backend| (backend.address, backend.latencies())).collect()
    }

    /// The connections and flows that are watched.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.shared.flows.lock().connections(now())
    }

    /// Reads how many connects and datagrams each VIP refused for want of an admitted backend.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<VipAddress, u64> {
        let vips = self.shared.vips.read();
        vips.iter().map(|(address, vip)| (*address, vip.refused())).collect()
    }
}
