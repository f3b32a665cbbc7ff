//! How VIPs are reached by programs of this machine, and who a backend has to answer to.
//!
//! A program needs a route to a VIP before its first packet exists. Networks of VIPs are
//! therefore on the link that holds the node's own address, as if they were on its wire:
//! that gives packets the node's address as their source and the right size; a VIP outside
//! of them gets a route of its own where the machine has none.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::net::IpAddr;

use ipnet::IpNet;
use mizzen_netlink::{IfIndex, Netlink, NetlinkError, PathState, RouteSpec, TABLE_MAIN};

/// Marks routes as ours.
pub(crate) const PROTOCOL: u8 = 0x6e;

/// So high that every other route to the same network is preferred.
const METRIC: u32 = 0x7fff_fff0;

/// The loopback link, of every network namespace.
const LOOPBACK: IfIndex = IfIndex(1);

/// How long an answer about a path is believed, in nanoseconds.
const BELIEVED: u64 = 5_000_000_000;

/// Paths that are remembered.
const MOST_PATHS: usize = 65_536;

/// Packets from `source` whose sender's address means nothing outside, except to `except`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Where they come from.
    pub source: IpNet,
    /// Where their sender's address is known all the same.
    pub except: Vec<IpNet>,
}

/// Routes to VIPs.
pub(crate) struct Routes {
    netlink: Netlink,
    networks: Vec<IpNet>,
    /// The node's addresses and the links that hold them.
    addresses: Vec<(IpAddr, IfIndex)>,
    /// VIPs' addresses that have routes of their own, and how many VIPs use each.
    own: BTreeMap<IpAddr, usize>,
}

impl Routes {
    /// Makes the routes to `networks`; whoever has other routes there keeps them.
    pub fn open(networks: &[IpNet], addresses: &[IpAddr]) -> Result<Self, NetlinkError> {
        let mut netlink = Netlink::open()?;
        let mut found = Vec::new();
        for link in netlink.observe_links()? {
            for state in netlink.observe_addresses(link.index)? {
                let address = state.net.addr();
                found.extend(addresses.contains(&address).then_some((address, link.index)));
            }
        }
        let networks = networks.to_vec();
        let mut routes = Self { netlink, networks, addresses: found, own: BTreeMap::new() };
        for network in routes.networks.clone() {
            let route = routes.route(network);
            match routes.netlink.ensure_route(&route) {
                // A machine without IPv6 has no programs that would want the route.
                Err(error) if network.addr().is_ipv6() => {
                    tracing::info!(%network, error = &error as &dyn Error, "no route to IPv6 VIPs");
                }
                other => drop(other?),
            }
        }
        Ok(routes)
    }

    /// Makes sure that programs here can send to a VIP. Once for each VIP.
    pub fn add(&mut self, vip: IpAddr) -> Result<(), NetlinkError> {
        if self.networks.iter().any(|network| network.contains(&vip)) {
            return Ok(());
        }
        if let Some(users) = self.own.get_mut(&vip) {
            *users += 1;
            return Ok(());
        }
        if self.netlink.look_up_path(vip)?.is_some() && !self.is_ours(vip)? {
            return Ok(());
        }
        let route = self.route(IpNet::from(vip));
        self.netlink.ensure_route(&route)?;
        self.own.insert(vip, 1);
        Ok(())
    }

    /// Takes back what [`Routes::add`] did for one VIP.
    pub fn remove(&mut self, vip: IpAddr) -> Result<(), NetlinkError> {
        let Some(users) = self.own.get_mut(&vip) else { return Ok(()) };
        *users -= 1;
        if *users > 0 {
            return Ok(());
        }
        self.own.remove(&vip);
        let route = self.route(IpNet::from(vip));
        self.netlink.remove_route(&route).map(drop)
    }

    /// Removes routes that a former process made for VIPs that are no more.
    pub fn forget_others(&mut self) -> Result<(), NetlinkError> {
        for route in self.netlink.observe_routes(PROTOCOL)? {
            let is_network = self.networks.contains(&route.destination);
            if !is_network && !self.own.contains_key(&route.destination.addr()) {
                self.netlink.remove_route(&route)?;
            }
        }
        Ok(())
    }

    fn is_ours(&mut self, vip: IpAddr) -> Result<bool, NetlinkError> {
        let ours = self.netlink.observe_routes(PROTOCOL)?;
        Ok(ours.iter().any(|route| route.destination == IpNet::from(vip)))
    }

    fn route(&self, destination: IpNet) -> RouteSpec {
        let is_v4 = destination.addr().is_ipv4();
        let own = self.addresses.iter().find(|(address, _)| address.is_ipv4() == is_v4);
        let link = own.or(self.addresses.first()).map_or(LOOPBACK, |(_, link)| *link);
        RouteSpec {
            destination,
            gateway: None,
            link: Some(link),
            source: own.map(|(address, _)| *address),
            metric: Some(METRIC),
            table: TABLE_MAIN,
            protocol: PROTOCOL,
        }
    }
}

/// Whether a program of this machine has an IPv6 address to reach a VIP from: an address that
/// is valid on one link only cannot be answered once a packet is led to another one.
pub(crate) fn has_ipv6_source() -> Result<bool, NetlinkError> {
    let mut netlink = Netlink::open()?;
    for link in netlink.observe_links()? {
        let addresses = netlink.observe_addresses(link.index)?;
        if addresses.iter().any(|state| is_ipv6_source(state.net.addr())) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_ipv6_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// Removes all routes of ours. None there is fine.
pub(crate) fn remove_all() -> Result<(), NetlinkError> {
    let mut netlink = Netlink::open()?;
    for route in netlink.observe_routes(PROTOCOL)? {
        netlink.remove_route(&route)?;
    }
    Ok(())
}

/// Knows whether a client's address has to be replaced.
pub(crate) struct Paths {
    netlink: Netlink,
    masquerade: Vec<Masquerade>,
    known: HashMap<IpAddr, (u64, Option<PathState>)>,
}

impl Paths {
    pub fn open(masquerade: &[Masquerade]) -> Result<Self, NetlinkError> {
        let masquerade = masquerade.to_vec();
        Ok(Self { netlink: Netlink::open()?, masquerade, known: HashMap::new() })
    }

    /// The address that a backend has to see instead of the client's, so that its answers come
    /// back here. `came_by` is the link that the client's packet came by, if it is not ours.
    ///
    /// Mostly none. It takes one if the backend lies behind the same link as the client, which
    /// it would then answer directly and under its own name; if the client is itself the backend;
    /// if nobody outside knows the client's address; or if a program bound itself to loopback.
    pub fn source(
        &mut self,
        client: IpAddr,
        came_by: Option<u32>,
        backend: IpAddr,
        now: u64,
    ) -> Option<IpAddr> {
        let Some(link) = came_by else {
            let strays = client.is_loopback() && !backend.is_loopback();
            return if strays { self.look_up(backend, now)?.source } else { None };
        };
        let path = self.look_up(backend, now)?;
        if path.is_local {
            return None;
        }
        let hidden = |rule: &Masquerade| {
            rule.source.contains(&client) && !rule.except.iter().any(|net| net.contains(&backend))
        };
        let needed = path.link == IfIndex(link) || self.masquerade.iter().any(hidden);
        path.source.filter(|_| needed)
    }

    fn look_up(&mut self, backend: IpAddr, now: u64) -> Option<PathState> {
        if let Some((since, path)) = self.known.get(&backend)
            && now.saturating_sub(*since) < BELIEVED
        {
            return *path;
        }
        let path = self.netlink.look_up_path(backend).unwrap_or_else(|error| {
            tracing::debug!(%backend, error = &error as &dyn Error, "no path");
            None
        });
        if self.known.len() >= MOST_PATHS {
            self.known.clear();
        }
        self.known.insert(backend, (now, path));
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_vips_are_reached_from() {
        for (address, want) in [
            ("fd00::1", true),
            ("2001:db8::1", true),
            ("fe80::1", false),
            ("::1", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(is_ipv6_source(address.parse().unwrap()), want, "{address}");
        }
    }
}
