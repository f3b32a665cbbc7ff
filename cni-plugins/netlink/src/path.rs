//! The way that a packet would take.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NlaBuffer, ParseableParametrized};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteLwEnCapType, RouteMessage, RouteType,
};

use crate::address::family;
use crate::attributes::attributes_after;
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::IfIndex;

/// How a packet of this machine would get somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathState {
    /// The link that it would leave by; loopback if the destination is this machine.
    pub link: IfIndex,
    /// The address that it would come from.
    pub source: Option<IpAddr>,
    /// Whether the destination is one of this machine's own addresses.
    pub is_local: bool,
}

impl Netlink {
    /// Asks the kernel how a packet to `destination` would go; `None` if it would not.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the socket broke.
    pub fn look_up_path(&mut self, destination: IpAddr) -> Result<Option<PathState>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(destination);
        request.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        request.attributes = vec![RouteAttribute::Destination(destination.into())];
        match self.connection.get(RouteNetlinkMessage::GetRoute(request), read) {
            Ok(path) => Ok(path.flatten()),
            Err(refusal) if NOWHERE.iter().any(|number| refusal.is(*number)) => Ok(None),
            Err(refusal) => Err(refusal.to("look up", format!("the path to {destination}"))),
        }
    }
}

/// What the kernel says where there is no way.
const NOWHERE: [i32; 4] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL];

fn read(payload: &[u8]) -> Result<Option<PathState>, DecodeError> {
    let header = RouteHeader::parse(payload)?;
    let (mut link, mut source) = (None, None);
    let parameters = (header.address_family, header.kind, RouteLwEnCapType::None);
    let decode = |nla: &NlaBuffer<&[u8]>| RouteAttribute::parse_with_param(nla, parameters);
    for attribute in attributes_after(&header, payload, decode) {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(IfIndex(index)),
            RouteAttribute::PrefSource(RouteAddress::Inet(from)) => source = Some(from.into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(from)) => source = Some(from.into()),
            _ => {}
        }
    }
    let is_local = header.kind == RouteType::Local;
    let leads_somewhere = is_local || header.kind == RouteType::Unicast;
    Ok(link.filter(|_| leads_somewhere).map(|link| PathState { link, source, is_local }))
}
