//! Routes, marked as ours by their protocol number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NlaBuffer, ParseableParametrized,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteLwEnCapType, RouteMessage, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::family;
use crate::attributes::attributes_after;
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::IfIndex;
use crate::{Ensured, Removed};

/// The routing table that is asked when no rule says otherwise.
pub const TABLE_MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// A unicast route, wanted or observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// Where to; `0.0.0.0/0` or `::/0` is the default route. Host bits are ignored.
    pub destination: IpNet,
    /// The next router; `None` if the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The link to send by; may be left to the kernel where there is a gateway.
    pub link: Option<IfIndex>,
    /// The sender's address where the program chose none.
    pub source: Option<IpAddr>,
    /// Lower is preferred. `None` is 0 for IPv4 and 1024 for IPv6.
    pub metric: Option<u32>,
    /// Routing table, [`TABLE_MAIN`] usually.
    pub table: u32,
    /// Who made it: a number of one's own, or 4 (`static`).
    pub protocol: u8,
}

impl RouteSpec {
    /// Whether `other` is this route, given what the kernel fills in by itself.
    fn is(&self, other: &Self) -> bool {
        self.same_key(other)
            && self.gateway == other.gateway
            && (self.link.is_none() || self.link == other.link)
            && (self.source.is_none() || self.source == other.source)
    }

    fn same_key(&self, other: &Self) -> bool {
        self.destination.trunc() == other.destination.trunc()
            && self.table == other.table
            && self.effective_metric() == other.effective_metric()
    }

    fn effective_metric(&self) -> u32 {
        let default = if self.destination.addr().is_ipv6() { 1024 } else { 0 };
        self.metric.unwrap_or(default)
    }

    fn object(&self) -> String {
        format!("route to {} in table {}", self.destination, self.table)
    }
}

impl Netlink {
    /// Lists the unicast routes made by `protocol`, in all tables, IPv4 first.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the socket broke.
    pub fn observe_routes(&mut self, protocol: u8) -> Result<Vec<RouteSpec>, NetlinkError> {
        let mut routes = self.dump_routes(AddressFamily::Inet, protocol)?;
        routes.extend(self.dump_routes(AddressFamily::Inet6, protocol)?);
        Ok(routes)
    }

    /// Makes sure that a route exists.
    ///
    /// A route of ours that leads elsewhere is replaced; one that another protocol
    /// made is not touched.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Foreign`] if somebody else has that route; otherwise the
    /// kernel's answer.
    pub fn ensure_route(&mut self, route: &RouteSpec) -> Result<Ensured<()>, NetlinkError> {
        let request = RouteNetlinkMessage::NewRoute(message(route));
        match self.connection.change(request.clone(), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => return Ok(Ensured::Created(())),
            Err(refusal) if refusal.is(libc::EEXIST) => {}
            Err(refusal) => return Err(refusal.to("add", route.object())),
        }
        let family = family(route.destination.addr());
        let ours = self.dump_routes(family, route.protocol)?;
        let Some(present) = ours.iter().find(|present| route.same_key(present)) else {
            return Err(NetlinkError::Foreign { object: route.object(), attribute: "protocol" });
        };
        if route.is(present) {
            return Ok(Ensured::Unchanged(()));
        }
        let outcome = self.connection.change(request, NLM_F_CREATE | NLM_F_REPLACE);
        outcome.map_err(|refusal| refusal.to("replace", route.object()))?;
        Ok(Ensured::Repaired(()))
    }

    /// Removes a route with this destination, table, metric and protocol, and with
    /// this gateway and link where they are given.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel will not.
    pub fn remove_route(&mut self, route: &RouteSpec) -> Result<Removed, NetlinkError> {
        let mut unscoped = message(route);
        unscoped.header.scope = RouteScope::NoWhere;
        match self.connection.change(RouteNetlinkMessage::DelRoute(unscoped), 0) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ESRCH) || refusal.is(libc::ENODEV) => {
                Ok(Removed::Absent)
            }
            Err(refusal) => Err(refusal.to("remove", route.object())),
        }
    }

    /// Makes sure that packets to a network are refused at once ("no route to host") where no other route to it is: one
    /// of type `unreachable` in the main table, behind all others.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub fn ensure_unreachable(
        &mut self,
        network: IpNet,
        protocol: u8,
    ) -> Result<Ensured<()>, NetlinkError> {
        let request = RouteNetlinkMessage::NewRoute(unreachable(network, protocol));
        match self.connection.change(request, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(Ensured::Created(())),
            Err(refusal) if refusal.is(libc::EEXIST) => Ok(Ensured::Unchanged(())),
            // The machine has no such address family, or has it switched off.
            Err(refusal)
                if [libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::EACCES, libc::ENODEV]
                    .into_iter()
                    .any(|number| network.addr().is_ipv6() && refusal.is(number)) =>
            {
                Ok(Ensured::Unchanged(()))
            }
            Err(refusal) => Err(refusal.to("add", refused(network))),
        }
    }

    /// Removes what [`Netlink::ensure_unreachable`] made.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel will not.
    pub fn remove_unreachable(
        &mut self,
        network: IpNet,
        protocol: u8,
    ) -> Result<Removed, NetlinkError> {
        let request = RouteNetlinkMessage::DelRoute(unreachable(network, protocol));
        match self.connection.change(request, 0) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal)
                if [libc::ESRCH, libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::ENODEV]
                    .into_iter()
                    .any(|number| refusal.is(number)) =>
            {
                Ok(Removed::Absent)
            }
            Err(refusal) => Err(refusal.to("remove", refused(network))),
        }
    }

    fn dump_routes(
        &mut self,
        family: AddressFamily,
        protocol: u8,
    ) -> Result<Vec<RouteSpec>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.header.protocol = protocol.into();
        let found = match self.connection.dump(RouteNetlinkMessage::GetRoute(request), read) {
            // The machine has no such address family.
            Err(refusal) if refusal.is(libc::EOPNOTSUPP) => Vec::new(),
            other => other.map_err(|refusal| refusal.to("list", "routes"))?,
        };
        Ok(found.into_iter().flatten().filter(|route| route.protocol == protocol).collect())
    }
}

fn message(route: &RouteSpec) -> RouteMessage {
    let destination = route.destination.trunc();
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.addr()),
        destination_prefix_length: destination.prefix_len(),
        // A table number above 255 goes into the attribute only.
        table: u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: route.protocol.into(),
        scope: match route.gateway {
            None if destination.addr().is_ipv4() => RouteScope::Link,
            _ => RouteScope::Universe,
        },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    let to = Some(destination.addr()).filter(|_| destination.prefix_len() > 0);
    let attributes = [
        Some(RouteAttribute::Table(route.table)),
        to.map(|to| RouteAttribute::Destination(to.into())),
        route.gateway.map(|via| RouteAttribute::Gateway(via.into())),
        route.link.map(|link| RouteAttribute::Oif(link.0)),
        route.source.map(|from| RouteAttribute::PrefSource(from.into())),
        route.metric.map(RouteAttribute::Priority),
    ];
    message.attributes.extend(attributes.into_iter().flatten());
    message
}

fn unreachable(network: IpNet, protocol: u8) -> RouteMessage {
    let last = Some(u32::MAX - 1);
    let mut message = message(&RouteSpec {
        destination: network,
        gateway: None,
        link: None,
        source: None,
        metric: last,
        table: TABLE_MAIN,
        protocol,
    });
    (message.header.kind, message.header.scope) = (RouteType::Unreachable, RouteScope::Universe);
    message
}

fn refused(network: IpNet) -> String {
    format!("route that refuses {network}")
}

/// A unicast route; `None` is one of another type.
fn read(payload: &[u8]) -> Result<Option<RouteSpec>, DecodeError> {
    let header = RouteHeader::parse(payload)?;
    let mut to: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return Ok(None),
    };
    if header.kind != RouteType::Unicast {
        return Ok(None);
    }
    let (mut gateway, mut link, mut source, mut metric) = (None, None, None, None);
    let mut table = u32::from(header.table);
    let parameters = (header.address_family, header.kind, RouteLwEnCapType::None);
    let decode = |nla: &NlaBuffer<&[u8]>| RouteAttribute::parse_with_param(nla, parameters);
    for attribute in attributes_after(&header, payload, decode) {
        match attribute {
            RouteAttribute::Destination(found) => to = address(&found)?,
            RouteAttribute::Gateway(via) => gateway = Some(address(&via)?),
            RouteAttribute::Oif(index) => link = Some(IfIndex(index)),
            RouteAttribute::PrefSource(from) => source = Some(address(&from)?),
            RouteAttribute::Priority(found) => metric = Some(found),
            RouteAttribute::Table(found) => table = found,
            _ => {}
        }
    }
    let length = header.destination_prefix_length;
    let destination = IpNet::new(to, length).map_err(|error| error.to_string())?;
    let protocol = header.protocol.into();
    Ok(Some(RouteSpec { destination, gateway, link, source, metric, table, protocol }))
}

pub(crate) fn address(found: &RouteAddress) -> Result<IpAddr, DecodeError> {
    match found {
        RouteAddress::Inet(address) => Ok((*address).into()),
        RouteAddress::Inet6(address) => Ok((*address).into()),
        _ => Err("a route to something that is no address".into()),
    }
}
