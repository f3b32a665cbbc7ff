//! What takes the fast path past bridges and routes: from what the ordinary path consists of, and
//! from what the kernel and the leases say of containers.
//!
//! Only what the host has no part in: a container whose ports the host publishes has answers that the
//! host translates, and one whose rate is limited waits in the host's queue.

use super::desired::{Desired, PeerEntries, PeerRoute, RouteTable};
use super::local::OverlaySpec;
use mizzen_cni_core::plan::mac_of;
use mizzen_ebpf_core::paths::{ContainerWanted, FastPathWanted, PeerWanted};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A link of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLink {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its link-layer address.
    pub mac: Option<[u8; 6]>,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Largest packet that it takes, in bytes.
    pub mtu: u32,
    /// Whether what it sends waits in a queue.
    pub is_queued: bool,
}

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLease {
    /// The container.
    pub container: String,
    /// Name of the host's end of its pair of links.
    pub link: String,
    /// The first of its addresses, which its link-layer address follows from.
    pub first: IpAddr,
}

/// What there is on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its links.
    pub links: Vec<SeenLink>,
    /// Leases of all overlays.
    pub leases: BTreeMap<IpAddr, SeenLease>,
    /// Addresses whose ports the host publishes.
    pub published: BTreeSet<IpAddr>,
}

/// Containers whose VIPs are translated at their sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hooked {
    /// Every process of the machine is.
    All,
    /// These containers.
    Containers(BTreeSet<String>),
}

impl Hooked {
    fn has(&self, container: &str) -> bool {
        match self {
            Self::All => true,
            Self::Containers(containers) => containers.contains(container),
        }
    }
}

/// Whether packets may pass from one overlay to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// They may.
    Open,
    /// They may not; what is not on the fast path is for the ordinary one to refuse.
    Closed,
}

/// What takes the fast path.
#[must_use]
pub fn plan_fast_path(
    specs: &[OverlaySpec],
    desired: &Desired,
    between: Between,
    hooked: &Hooked,
    seen: &Seen,
) -> FastPathWanted {
    let by_name: BTreeMap<&str, &SeenLink> =
        seen.links.iter().map(|link| (link.name.as_str(), link)).collect();
    let plan = Plan { specs, desired, between, seen, by_name };
    let routes = desired.peers.values().flat_map(|peer| peer.routes.iter().map(move |r| (peer, r)));
    let peers = routes.filter_map(|(peer, route)| {
        let network = (route.destination.addr(), route.destination.prefix_len());
        Some((network, plan.peer(peer, route)?))
    });
    let containers = seen
        .leases
        .iter()
        .filter_map(|(address, lease)| Some((*address, plan.container(*address, lease, hooked)?)));
    FastPathWanted { peers: peers.collect(), containers: containers.collect() }
}

struct Plan<'a> {
    specs: &'a [OverlaySpec],
    desired: &'a Desired,
    between: Between,
    seen: &'a Seen,
    by_name: BTreeMap<&'a str, &'a SeenLink>,
}

impl Plan<'_> {
    fn peer(&self, entries: &PeerEntries, route: &PeerRoute) -> Option<PeerWanted> {
        // The other table has the ways to nodes, not to containers.
        if route.table != RouteTable::Main {
            return None;
        }
        let tunnel = self.desired.tunnels.get(&route.vni)?;
        let link = self.by_name.get(tunnel.link.as_str())?;
        let neighbour = entries
            .neighbours
            .iter()
            .find(|neighbour| neighbour.vni == route.vni && neighbour.address == route.via)?;
        Some(PeerWanted {
            tunnel: link.index,
            mtu: route.mtu.unwrap_or(tunnel.mtu).min(tunnel.mtu),
            is_narrow: route.mtu.is_some(),
            group: self.group(route.destination.addr())?,
            target: neighbour.mac.0,
            source: tunnel.mac.0,
        })
    }

    fn container(
        &self,
        address: IpAddr,
        lease: &SeenLease,
        hooked: &Hooked,
    ) -> Option<ContainerWanted> {
        let spec = self.specs.iter().find(|spec| is_in(spec, address))?;
        let tunnel = self.by_name.get(spec.tunnel.as_str())?;
        let link = self.by_name.get(lease.link.as_str())?;
        let bridge = self.by_name.get(spec.bridge.as_str())?;
        if link.master != Some(bridge.index) {
            return None;
        }
        Some(ContainerWanted {
            link: link.index,
            tunnel: tunnel.index,
            mtu: link.mtu,
            group: self.group(address)?,
            target: mac_of(lease.first),
            source: bridge.mac?,
            sends: !self.seen.published.contains(&address),
            receives: !link.is_queued,
            hooked: hooked.has(&lease.container),
        })
    }

    /// Addresses of different groups do not reach each other by the fast path.
    fn group(&self, address: IpAddr) -> Option<u32> {
        let overlay = self.specs.iter().position(|spec| is_in(spec, address))?;
        match self.between {
            Between::Open => Some(0),
            Between::Closed => u32::try_from(overlay).ok(),
        }
    }
}

fn is_in(spec: &OverlaySpec, address: IpAddr) -> bool {
    spec.networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::super::desired::{Neighbour, Tunnel};
    use super::*;
    use mizzen_types::ids::OwnerId;
    use mizzen_types::overlay::Mac;

    const PEER: Mac = Mac([0x70, 0xb3, 0xd5, 0x80, 0, 2]);
    const OWN: Mac = Mac([0x70, 0xb3, 0xd5, 0x80, 0, 1]);

    fn spec(name: &str, network: &str, vni: u32) -> OverlaySpec {
        OverlaySpec {
            name: name.into(),
            networks: vec![network.parse().unwrap()],
            blocks: Vec::new(),
            bridge: format!("m-{name}"),
            second: None,
            tunnel: format!("vtep{vni}"),
            mtu: 1420,
            leases: "/l".into(),
            resolver: None,
        }
    }

    fn link(index: u32, name: &str, master: Option<u32>) -> SeenLink {
        let mac = Some([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]);
        SeenLink { index, name: name.into(), mac, master, mtu: 1420, is_queued: false }
    }

    fn desired(routes: &[(u32, &str, Option<u32>)]) -> Desired {
        let tunnel = |vni: u32| Tunnel {
            vni,
            link: format!("vtep{vni}"),
            port: 64_000,
            mac: OWN,
            mtu: 1420,
            underlay: "192.0.2.1".parse().unwrap(),
            addresses: Vec::new(),
        };
        let via: IpAddr = "44.128.0.2".parse().unwrap();
        let route = |&(vni, net, mtu): &(u32, &str, Option<u32>)| PeerRoute {
            vni,
            destination: net.parse().unwrap(),
            via,
            table: RouteTable::Main,
            source: None,
            mtu,
        };
        let neighbour =
            |&(vni, ..): &(u32, &str, Option<u32>)| Neighbour { vni, address: via, mac: PEER };
        let entries = PeerEntries {
            forwarding: Vec::new(),
            neighbours: routes.iter().map(neighbour).collect(),
            routes: routes.iter().map(route).collect(),
            encryption: None,
        };
        Desired {
            tunnels: routes.iter().map(|(vni, ..)| (*vni, tunnel(*vni))).collect(),
            peers: [(OwnerId::new("peer".to_owned()), entries)].into(),
            ..Desired::default()
        }
    }

    fn seen() -> Seen {
        let lease = |container: &str, link: &str, address: &str| {
            let first: IpAddr = address.parse().unwrap();
            (first, SeenLease { container: container.into(), link: link.into(), first })
        };
        Seen {
            links: vec![
                link(1, "vtep1024", None),
                link(2, "m-dcos", None),
                link(3, "mz1", Some(2)),
                link(4, "m-web", None),
                link(5, "mz2", Some(4)),
                link(6, "mz3", Some(9)),
            ],
            leases: [
                lease("task", "mz1", "9.0.1.2"),
                lease("pod", "mz2", "10.1.1.2"),
                lease("elsewhere", "mz3", "9.0.1.3"),
                lease("gone", "mz4", "9.0.1.4"),
                lease("foreign", "mz1", "172.16.0.1"),
            ]
            .into(),
            published: BTreeSet::new(),
        }
    }

    fn specs() -> Vec<OverlaySpec> {
        vec![spec("dcos", "9.0.0.0/8", 1024), spec("web", "10.1.0.0/16", 1024)]
    }

    fn planned(between: Between, seen: &Seen) -> FastPathWanted {
        let desired = desired(&[(1024, "9.0.2.0/24", Some(1300)), (1024, "10.1.2.0/24", None)]);
        let hooked = Hooked::Containers(["task".to_owned()].into());
        plan_fast_path(&specs(), &desired, between, &hooked, seen)
    }

    #[test]
    fn containers_at_our_bridges_and_the_blocks_of_peers() {
        let wanted = planned(Between::Closed, &seen());
        let nets: Vec<String> =
            wanted.peers.keys().map(|(net, length)| format!("{net}/{length}")).collect();
        assert_eq!(nets, ["9.0.2.0/24", "10.1.2.0/24"]);
        let peer = wanted.peers.values().next().unwrap();
        assert_eq!((peer.tunnel, peer.mtu, peer.target, peer.source), (1, 1300, PEER.0, OWN.0));
        let narrow: Vec<bool> = wanted.peers.values().map(|peer| peer.is_narrow).collect();
        assert_eq!(narrow, [true, false]);
        let found: Vec<(String, u32, bool)> = wanted
            .containers
            .iter()
            .map(|(address, container)| (address.to_string(), container.link, container.hooked))
            .collect();
        assert_eq!(found, [("9.0.1.2".into(), 3, true), ("10.1.1.2".into(), 5, false)]);
        let task = &wanted.containers[&"9.0.1.2".parse::<IpAddr>().unwrap()];
        assert_eq!((task.target, task.source), ([2, 0x6d, 9, 0, 1, 2], [2, 0, 0, 0, 0, 2]));
    }

    #[test]
    fn overlays_are_apart_unless_they_are_open() {
        for (between, groups) in [(Between::Closed, vec![0, 1]), (Between::Open, vec![0, 0])] {
            let wanted = planned(between, &seen());
            let peers: Vec<u32> = wanted.peers.values().map(|peer| peer.group).collect();
            let own: Vec<u32> = wanted.containers.values().map(|own| own.group).collect();
            assert_eq!((&peers, &own), (&groups, &groups));
        }
    }

    #[test]
    fn what_the_host_has_a_part_in_takes_the_ordinary_path() {
        let mut seen = seen();
        seen.published.insert("9.0.1.2".parse().unwrap());
        seen.links[4].is_queued = true;
        let wanted = planned(Between::Closed, &seen);
        let ways: Vec<(bool, bool)> =
            wanted.containers.values().map(|own| (own.sends, own.receives)).collect();
        assert_eq!(ways, [(false, true), (true, false)]);
    }

    #[test]
    fn nothing_leads_through_a_tunnel_that_is_not_there() {
        let mut seen = seen();
        seen.links.remove(0);
        assert_eq!(planned(Between::Closed, &seen), FastPathWanted::default());
    }
}
