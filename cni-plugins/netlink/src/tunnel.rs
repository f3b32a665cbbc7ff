//! What leads through tunnels: routes, neighbours and forwarding entries, many at once.
//!
//! Entries are marked by the protocol number of their owner, except forwarding entries, which
//! have no place for it: those belong to whom the link belongs. Requests travel many to a
//! datagram, and the kernel answers only those that it refuses.

mod read;
mod write;

use std::net::IpAddr;

use ipnet::IpNet;
use mizzen_net_words::Mac;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::connection::Netlink;
use crate::error::{NetlinkError, Refusal};
use crate::link::IfIndex;
pub(crate) use read::read_seen;
use read::{read_forwarding, read_neighbour, read_route};
use write::message;

/// One thing that leads through a tunnel, or says that nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelEntry {
    /// Frames to a link-layer address go to a machine.
    Forwarding {
        /// The end of the tunnels.
        link: IfIndex,
        /// Whose frames.
        mac: Mac,
        /// The machine's address under the tunnels.
        remote: IpAddr,
    },
    /// An address has a link-layer address.
    Neighbour {
        /// The end of the tunnels.
        link: IfIndex,
        /// The address.
        address: IpAddr,
        /// Its link-layer address.
        mac: Mac,
    },
    /// A network is reached through a neighbour, whether or not its address is in a network
    /// of the link.
    Route {
        /// The end of the tunnels, or the link that their packets are encrypted by.
        link: IfIndex,
        /// The network.
        destination: IpNet,
        /// The neighbour; a link without neighbours has none.
        via: Option<IpAddr>,
        /// Routing table.
        table: u32,
        /// The sender's address where the program chose none.
        source: Option<IpAddr>,
        /// Largest packet in bytes, where it is smaller than the link's.
        mtu: Option<u32>,
    },
    /// What no other route leads to is nowhere; the sender is told.
    Unreachable {
        /// The network.
        destination: IpNet,
        /// Routing table.
        table: u32,
    },
}

/// What only one entry can be for. Routes come last: they lead to neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelKey {
    /// Frames to this address.
    Forwarding(IfIndex, Mac),
    /// This address.
    Neighbour(IfIndex, IpAddr),
    /// This network, in this table.
    Route(IpNet, u32),
    /// This network, in this table, if nothing leads there.
    Unreachable(IpNet, u32),
}

/// An entry that somebody made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenEntry {
    /// As it is now.
    pub entry: TunnelEntry,
    /// Whether it bears our protocol number, or has no place for one.
    pub is_ours: bool,
}

/// A change of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelChange {
    /// It must be there, and was not.
    Add(TunnelEntry),
    /// It takes the place of one of ours with the same key.
    Replace(TunnelEntry),
    /// It must not be there.
    Remove(TunnelEntry),
}

impl Netlink {
    /// Carries out changes, in order. Each stands for itself: the refusals are returned by
    /// their place. What is to be removed and is gone already is no refusal.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the socket broke; some changes may have been made.
    pub fn change_tunnels(
        &mut self,
        changes: &[TunnelChange],
        protocol: u8,
    ) -> Result<Vec<(usize, NetlinkError)>, NetlinkError> {
        let messages = changes.iter().map(|change| message(change, protocol)).collect();
        let refused = self.connection.change_many(messages);
        let refused =
            refused.map_err(|error| Refusal::from(error).to("change", "entries of tunnels"))?;
        let meant = |(at, refusal): (usize, Refusal)| {
            let change = changes.get(at)?;
            let error = refusal.to(change.verb(), change.entry().object());
            let gone = matches!(change, TunnelChange::Remove(_)) && error.is_absent();
            let foreign = matches!(change, TunnelChange::Add(_)) && error.is_taken();
            let object = || change.entry().object();
            match (gone, foreign) {
                (true, _) => None,
                (_, true) => {
                    Some((at, NetlinkError::Foreign { object: object(), attribute: "owner" }))
                }
                _ => Some((at, error)),
            }
        };
        Ok(refused.into_iter().filter_map(meant).collect())
    }

    /// Lists our entries on these ends of tunnels, our routes by further links, and our
    /// unreachable networks, in order.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the socket broke.
    pub fn observe_tunnels(
        &mut self,
        links: &[IfIndex],
        further: Option<IfIndex>,
        protocol: u8,
    ) -> Result<Vec<TunnelEntry>, NetlinkError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            found.extend(self.dump_tunnel_routes(family, protocol)?);
        }
        for link in links {
            found.extend(self.dump_neighbours(*link, protocol)?);
            found.extend(self.dump_forwarding(*link)?);
        }
        let ours = |link: IfIndex| links.contains(&link) || further == Some(link);
        found.retain(|entry| entry.link().is_none_or(ours));
        found.sort_unstable();
        Ok(found)
    }

    fn dump_tunnel_routes(
        &mut self,
        family: AddressFamily,
        protocol: u8,
    ) -> Result<Vec<TunnelEntry>, NetlinkError> {
        let mut asked = RouteMessage::default();
        asked.header.address_family = family;
        asked.header.protocol = protocol.into();
        let read = |payload: &[u8]| read_route(payload, protocol);
        let found = match self.connection.dump(RouteNetlinkMessage::GetRoute(asked), read) {
            // The machine has no such address family.
            Err(refusal) if refusal.is(libc::EOPNOTSUPP) => Vec::new(),
            other => other.map_err(|refusal| refusal.to("list", "routes"))?,
        };
        Ok(found.into_iter().flatten().collect())
    }

    fn dump_neighbours(
        &mut self,
        link: IfIndex,
        protocol: u8,
    ) -> Result<Vec<TunnelEntry>, NetlinkError> {
        let mut asked = NeighbourMessage::default();
        asked.attributes.push(NeighbourAttribute::IfIndex(link.0));
        let read = |payload: &[u8]| read_neighbour(payload, protocol);
        let found = self.connection.dump(RouteNetlinkMessage::GetNeighbour(asked), read);
        let found = found.map_err(|refusal| refusal.to("list", "neighbours"))?;
        Ok(found.into_iter().flatten().filter(|entry| entry.link() == Some(link)).collect())
    }

    fn dump_forwarding(&mut self, link: IfIndex) -> Result<Vec<TunnelEntry>, NetlinkError> {
        let mut asked = NeighbourMessage::default();
        asked.header.family = AddressFamily::Bridge;
        asked.header.ifindex = link.0;
        let request = RouteNetlinkMessage::GetNeighbour(asked);
        let found = match self.connection.dump(request, read_forwarding) {
            Err(refusal) if refusal.is(libc::ENODEV) => Vec::new(),
            other => other.map_err(|refusal| refusal.to("list", "forwarding entries"))?,
        };
        Ok(found.into_iter().flatten().filter(|entry| entry.link() == Some(link)).collect())
    }
}

impl TunnelEntry {
    /// The link that it is on.
    #[must_use]
    pub fn link(&self) -> Option<IfIndex> {
        match self {
            Self::Forwarding { link, .. }
            | Self::Neighbour { link, .. }
            | Self::Route { link, .. } => Some(*link),
            Self::Unreachable { .. } => None,
        }
    }

    /// Of entries with the same key, only one can be there.
    #[must_use]
    pub fn key(&self) -> TunnelKey {
        match *self {
            Self::Forwarding { link, mac, .. } => TunnelKey::Forwarding(link, mac),
            Self::Neighbour { link, address, .. } => TunnelKey::Neighbour(link, address),
            Self::Route { destination, table, .. } => TunnelKey::Route(destination.trunc(), table),
            Self::Unreachable { destination, table } => {
                TunnelKey::Unreachable(destination.trunc(), table)
            }
        }
    }

    fn object(&self) -> String {
        match self {
            Self::Forwarding { mac, .. } => format!("the forwarding entry of {mac}"),
            Self::Neighbour { address, .. } => format!("neighbour {address}"),
            Self::Route { destination, table, .. } => {
                format!("route to {destination} in table {table}")
            }
            Self::Unreachable { destination, table } => {
                format!("unreachable network {destination} in table {table}")
            }
        }
    }
}

impl TunnelChange {
    /// What is changed.
    #[must_use]
    pub fn entry(&self) -> &TunnelEntry {
        let (Self::Add(entry) | Self::Replace(entry) | Self::Remove(entry)) = self;
        entry
    }

    fn verb(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Replace(_) => "replace",
            Self::Remove(_) => "remove",
        }
    }
}
