//! What leads through tunnels: routes, neighbours and forwarding entries, many at once.
//!
//! Entries are marked by the protocol number of their owner, except forwarding entries, which
//! have no place for it: those belong to whom the link belongs. Requests travel many to a
//! datagram, and the kernel answers only those that it refuses.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkMessage, NlaBuffer,
    ParseableParametrized,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessage, RouteMetric,
    RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::family;
use crate::attributes::attributes_after;
use crate::connection::{Netlink, request};
use crate::error::{NetlinkError, Refusal};
use crate::link::{IfIndex, Mac};
use crate::route::address;

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
        /// The end of the tunnels.
        link: IfIndex,
        /// The network.
        destination: IpNet,
        /// The neighbour.
        via: IpAddr,
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
    /// This network, if nothing leads there.
    Unreachable(IpNet),
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

/// Preferred to by any other route to the same network.
const LAST_METRIC: u32 = 0xffff;

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

    /// Lists our entries on these links, and our unreachable networks, in order.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the socket broke.
    pub fn observe_tunnels(
        &mut self,
        links: &[IfIndex],
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
        found.retain(|entry| entry.link().is_none_or(|link| links.contains(&link)));
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
            Self::Unreachable { destination } => TunnelKey::Unreachable(destination.trunc()),
        }
    }

    fn object(&self) -> String {
        match self {
            Self::Forwarding { mac, .. } => format!("the forwarding entry of {mac}"),
            Self::Neighbour { address, .. } => format!("neighbour {address}"),
            Self::Route { destination, table, .. } => {
                format!("route to {destination} in table {table}")
            }
            Self::Unreachable { destination } => format!("unreachable network {destination}"),
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

fn message(change: &TunnelChange, protocol: u8) -> NetlinkMessage<RouteNetlinkMessage> {
    let entry = change.entry();
    let neighbour = |message: NeighbourMessage| match change {
        TunnelChange::Remove(_) => request(RouteNetlinkMessage::DelNeighbour(message), 0),
        // Whoever had this key on our link was not meant to.
        _ => request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE),
    };
    let route = |message: RouteMessage| match change {
        TunnelChange::Add(_) => {
            request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
        }
        TunnelChange::Replace(_) => {
            request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
        }
        TunnelChange::Remove(_) => {
            let mut message = message;
            message.header.scope = RouteScope::NoWhere;
            message.header.flags = RouteFlags::empty();
            message.attributes.retain(|attribute| {
                !matches!(attribute, RouteAttribute::Metrics(_) | RouteAttribute::PrefSource(_))
            });
            request(RouteNetlinkMessage::DelRoute(message), 0)
        }
    };
    match *entry {
        TunnelEntry::Forwarding { link, mac, remote } => neighbour(forwarding(link, mac, remote)),
        TunnelEntry::Neighbour { link, address, mac } => {
            neighbour(neighbour_message(link, address, mac, protocol))
        }
        TunnelEntry::Route { .. } | TunnelEntry::Unreachable { .. } => {
            route(route_message(entry, protocol))
        }
    }
}

fn forwarding(link: IfIndex, mac: Mac, remote: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: AddressFamily::Bridge,
        ifindex: link.0,
        state: NeighbourState::Other(libc::NUD_PERMANENT | libc::NUD_NOARP),
        flags: NeighbourFlags::Own,
        ..NeighbourHeader::default()
    };
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        NeighbourAttribute::Destination(destination(remote)),
    ];
    message
}

fn neighbour_message(link: IfIndex, address: IpAddr, mac: Mac, protocol: u8) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: family(address),
        ifindex: link.0,
        state: NeighbourState::Permanent,
        ..NeighbourHeader::default()
    };
    message.attributes = vec![
        NeighbourAttribute::Destination(destination(address)),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        NeighbourAttribute::Protocol(protocol.into()),
    ];
    message
}

fn route_message(entry: &TunnelEntry, protocol: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (to, table) = match entry {
        TunnelEntry::Route { destination, table, .. } => (destination.trunc(), *table),
        TunnelEntry::Unreachable { destination } => (destination.trunc(), crate::TABLE_MAIN),
        TunnelEntry::Forwarding { .. } | TunnelEntry::Neighbour { .. } => return message,
    };
    message.header = RouteHeader {
        address_family: family(to.addr()),
        destination_prefix_length: to.prefix_len(),
        table: u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: protocol.into(),
        scope: RouteScope::Universe,
        kind: RouteType::Unreachable,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Table(table)];
    if to.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(to.addr().into()));
    }
    let TunnelEntry::Route { link, via, source, mtu, .. } = entry else {
        message.attributes.push(RouteAttribute::Priority(LAST_METRIC));
        return message;
    };
    message.header.kind = RouteType::Unicast;
    message.header.flags = RouteFlags::Onlink;
    message
        .attributes
        .extend([RouteAttribute::Gateway((*via).into()), RouteAttribute::Oif(link.0)]);
    message.attributes.extend(source.map(|from| RouteAttribute::PrefSource(from.into())));
    let metrics = mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    message.attributes.extend(metrics);
    message
}

fn destination(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}

/// One of our routes; `None` is another one.
fn read_route(payload: &[u8], protocol: u8) -> Result<Option<TunnelEntry>, DecodeError> {
    let header = RouteHeader::parse(payload)?;
    if u8::from(header.protocol) != protocol {
        return Ok(None);
    }
    let (mut to, mut via, mut link, mut source, mut mtu) = (None, None, None, None, None);
    let mut table = u32::from(header.table);
    let parameters = (header.address_family, header.kind, RouteLwEnCapType::None);
    let decode = |nla: &NlaBuffer<&[u8]>| RouteAttribute::parse_with_param(nla, parameters);
    for attribute in attributes_after(&header, payload, decode) {
        match attribute {
            RouteAttribute::Destination(found) => to = Some(address(&found)?),
            RouteAttribute::Gateway(found) => via = Some(address(&found)?),
            RouteAttribute::Oif(index) => link = Some(IfIndex(index)),
            RouteAttribute::PrefSource(found) => source = Some(address(&found)?),
            RouteAttribute::Table(found) => table = found,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let Some(to) = to else { return Ok(None) };
    let destination = IpNet::new(to, header.destination_prefix_length);
    let destination = destination.map_err(|error| error.to_string())?;
    Ok(match (header.kind, via, link) {
        (RouteType::Unreachable, ..) => Some(TunnelEntry::Unreachable { destination }),
        (RouteType::Unicast, Some(via), Some(link)) => {
            Some(TunnelEntry::Route { link, destination, via, table, source, mtu })
        }
        _ => None,
    })
}

/// One of our neighbours; `None` is another one.
fn read_neighbour(payload: &[u8], protocol: u8) -> Result<Option<TunnelEntry>, DecodeError> {
    let header = NeighbourHeader::parse(payload)?;
    let (mut address, mut mac, mut owner) = (None, None, 0);
    let decode = |nla: &NlaBuffer<&[u8]>| NeighbourAttribute::parse_with_param(nla, header.family);
    for attribute in attributes_after(&header, payload, decode) {
        match attribute {
            NeighbourAttribute::Destination(found) => address = ip(&found),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(Mac),
            NeighbourAttribute::Protocol(found) => owner = found.into(),
            _ => {}
        }
    }
    let ours = owner == protocol && header.state == NeighbourState::Permanent;
    let link = IfIndex(header.ifindex);
    let found = address.zip(mac).filter(|_| ours);
    Ok(found.map(|(address, mac)| TunnelEntry::Neighbour { link, address, mac }))
}

/// A forwarding entry to a machine; `None` is another one.
fn read_forwarding(payload: &[u8]) -> Result<Option<TunnelEntry>, DecodeError> {
    let header = NeighbourHeader::parse(payload)?;
    let (mut remote, mut mac) = (None, None);
    let decode = |nla: &NlaBuffer<&[u8]>| {
        // The address under the tunnel is of the family that its length says.
        let family =
            if nla.value().len() == 4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        NeighbourAttribute::parse_with_param(nla, family)
    };
    for attribute in attributes_after(&header, payload, decode) {
        match attribute {
            NeighbourAttribute::Destination(found) => remote = ip(&found),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(Mac),
            _ => {}
        }
    }
    let link = IfIndex(header.ifindex);
    Ok(remote.zip(mac).map(|(remote, mac)| TunnelEntry::Forwarding { link, mac, remote }))
}

fn ip(found: &NeighbourAddress) -> Option<IpAddr> {
    match found {
        NeighbourAddress::Inet(address) => Some((*address).into()),
        NeighbourAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
