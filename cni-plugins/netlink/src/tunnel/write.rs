//! Changes as the kernel takes them.

use std::net::IpAddr;

use mizzen_net_words::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{TunnelChange, TunnelEntry};
use crate::address::family;
use crate::connection::request;
use crate::link::IfIndex;

/// Preferred to by any other route to the same network.
const LAST_METRIC: u32 = 0xffff;

pub(super) fn message(change: &TunnelChange, protocol: u8) -> NetlinkMessage<RouteNetlinkMessage> {
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
        TunnelEntry::Unreachable { destination, table } => (destination.trunc(), *table),
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
    match via {
        Some(via) => {
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway((*via).into()));
        }
        None => message.header.scope = RouteScope::Link,
    }
    message.attributes.push(RouteAttribute::Oif(link.0));
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
