//! Routes, marked as ours by their protocol number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::address::{family, from_octets, octets};
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::IfIndex;
use crate::wire::{Attributes, Message, u32_at};
use crate::{Ensured, Removed};

/// The routing table that is asked when no rule says otherwise.
pub const TABLE_MAIN: u32 = libc::RT_TABLE_MAIN as u32;

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
        let mut routes = self.dump_routes(libc::AF_INET as u8, protocol)?;
        routes.extend(self.dump_routes(libc::AF_INET6 as u8, protocol)?);
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
        let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        match self.connection.change(&message(libc::RTM_NEWROUTE, create, route)) {
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
        let replace = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let outcome = self.connection.change(&message(libc::RTM_NEWROUTE, replace, route));
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
        match self.connection.change(&message(libc::RTM_DELROUTE, 0, route)) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ESRCH) || refusal.is(libc::ENODEV) => {
                Ok(Removed::Absent)
            }
            Err(refusal) => Err(refusal.to("remove", route.object())),
        }
    }

    fn dump_routes(&mut self, family: u8, protocol: u8) -> Result<Vec<RouteSpec>, NetlinkError> {
        let header = [family, 0, 0, 0, 0, protocol, 0, 0, 0, 0, 0, 0];
        let request = Message::new(libc::RTM_GETROUTE, 0, &header);
        let found = match self.connection.dump(&request, parse) {
            // The machine has no such address family.
            Err(refusal) if refusal.is(libc::EOPNOTSUPP) => Vec::new(),
            other => other.map_err(|refusal| refusal.to("list", "routes"))?,
        };
        Ok(found.into_iter().filter(|route| route.protocol == protocol).collect())
    }
}

/// `struct rtmsg` and the attributes of one route.
fn message(kind: u16, flags: i32, route: &RouteSpec) -> Message {
    let destination = route.destination.trunc();
    // A table number above 255 goes into the attribute only.
    let table = u8::try_from(route.table).unwrap_or(libc::RT_TABLE_UNSPEC);
    let scope = match route.gateway {
        _ if kind == libc::RTM_DELROUTE => libc::RT_SCOPE_NOWHERE,
        None if destination.addr().is_ipv4() => libc::RT_SCOPE_LINK,
        _ => libc::RT_SCOPE_UNIVERSE,
    };
    let mut header = [0; 12];
    header[0] = family(destination.addr());
    header[1] = destination.prefix_len();
    header[4] = table;
    header[5] = route.protocol;
    header[6] = scope;
    header[7] = libc::RTN_UNICAST;
    Message::new(kind, flags, &header)
        .attr_u32(libc::RTA_TABLE, route.table)
        .maybe(Some(destination.addr()).filter(|_| destination.prefix_len() > 0), |inner, to| {
            inner.attr(libc::RTA_DST, &octets(to))
        })
        .maybe(route.gateway, |inner, via| inner.attr(libc::RTA_GATEWAY, &octets(via)))
        .maybe(route.link, |inner, link| inner.attr_u32(libc::RTA_OIF, link.0))
        .maybe(route.source, |inner, from| inner.attr(libc::RTA_PREFSRC, &octets(from)))
        .maybe(route.metric, |inner, metric| inner.attr_u32(libc::RTA_PRIORITY, metric))
}

fn parse(payload: &[u8]) -> Option<RouteSpec> {
    let header: &[u8; 12] = payload.get(..12)?.try_into().ok()?;
    if header[7] != libc::RTN_UNICAST {
        return None;
    }
    let attributes = Attributes::after(payload, 12);
    let unspecified: IpAddr = match i32::from(header[0]) {
        libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let number = |kind| attributes.find(kind).and_then(|value| u32_at(value, 0));
    let address = |kind| attributes.find(kind).and_then(from_octets);
    let destination = address(libc::RTA_DST).unwrap_or(unspecified);
    Some(RouteSpec {
        destination: IpNet::new(destination, header[1]).ok()?,
        gateway: address(libc::RTA_GATEWAY),
        link: number(libc::RTA_OIF).map(IfIndex),
        source: address(libc::RTA_PREFSRC),
        metric: number(libc::RTA_PRIORITY),
        table: number(libc::RTA_TABLE).unwrap_or(u32::from(header[4])),
        protocol: header[5],
    })
}
