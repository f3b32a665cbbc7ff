//! What the kernel shows, one by one.

use std::net::IpAddr;

use ipnet::IpNet;
use mizzen_net_words::Mac;
use netlink_packet_core::{DecodeError, NlaBuffer, ParseableParametrized};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteLwEnCapType, RouteMetric, RouteType,
};

use super::{SeenEntry, TunnelEntry};
use crate::attributes::attributes_after;
use crate::link::IfIndex;
use crate::route::address;

/// What a notification says that was made or changed; `None` is nothing that could be ours.
pub(crate) fn read_seen(kind: u16, payload: &[u8], protocol: u8) -> Option<SeenEntry> {
    let bridge = i32::from(*payload.first()?) == libc::AF_BRIDGE;
    match kind {
        libc::RTM_NEWROUTE => {
            let header = RouteHeader::parse(payload).ok()?;
            let entry = route(&header, payload).ok()??;
            Some(SeenEntry { entry, is_ours: u8::from(header.protocol) == protocol })
        }
        libc::RTM_NEWNEIGH if bridge => {
            let entry = read_forwarding(payload).ok()??;
            Some(SeenEntry { entry, is_ours: true })
        }
        libc::RTM_NEWNEIGH => neighbour(payload, protocol).ok()?,
        _ => None,
    }
}

/// One of our routes; `None` is another one.
pub(super) fn read_route(payload: &[u8], protocol: u8) -> Result<Option<TunnelEntry>, DecodeError> {
    let header = RouteHeader::parse(payload)?;
    if u8::from(header.protocol) != protocol {
        return Ok(None);
    }
    route(&header, payload)
}

fn route(header: &RouteHeader, payload: &[u8]) -> Result<Option<TunnelEntry>, DecodeError> {
    let (mut to, mut via, mut link, mut source, mut mtu) = (None, None, None, None, None);
    let mut table = u32::from(header.table);
    let parameters = (header.address_family, header.kind, RouteLwEnCapType::None);
    let decode = |nla: &NlaBuffer<&[u8]>| RouteAttribute::parse_with_param(nla, parameters);
    for attribute in attributes_after(header, payload, decode) {
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
    // A route to everything does not say where.
    let everything = match header.address_family {
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => IpAddr::from([0; 4]),
    };
    let to = to.unwrap_or(everything);
    let destination = IpNet::new(to, header.destination_prefix_length);
    let destination = destination.map_err(|error| error.to_string())?;
    Ok(match (header.kind, link) {
        (RouteType::Unreachable, _) => Some(TunnelEntry::Unreachable { destination, table }),
        (RouteType::Unicast, Some(link)) => {
            Some(TunnelEntry::Route { link, destination, via, table, source, mtu })
        }
        _ => None,
    })
}

/// One of our neighbours; `None` is another one.
pub(super) fn read_neighbour(
    payload: &[u8],
    protocol: u8,
) -> Result<Option<TunnelEntry>, DecodeError> {
    let seen = neighbour(payload, protocol)?;
    Ok(seen.filter(|seen| seen.is_ours).map(|seen| seen.entry))
}

/// A neighbour, whosever it is.
fn neighbour(payload: &[u8], protocol: u8) -> Result<Option<SeenEntry>, DecodeError> {
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
    let is_ours = owner == protocol && header.state == NeighbourState::Permanent;
    let link = IfIndex(header.ifindex);
    let entry = |(address, mac)| TunnelEntry::Neighbour { link, address, mac };
    Ok(address.zip(mac).map(entry).map(|entry| SeenEntry { entry, is_ours }))
}

/// A forwarding entry to a machine; `None` is another one.
pub(super) fn read_forwarding(payload: &[u8]) -> Result<Option<TunnelEntry>, DecodeError> {
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
