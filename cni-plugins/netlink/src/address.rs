//! Addresses on links, IPv4 and IPv6 alike.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::attributes::attributes_after;
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::IfIndex;
use crate::{Ensured, Removed};

/// An address as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressState {
    /// The link that holds it.
    pub link: IfIndex,
    /// The address itself with the length of its prefix: `9.0.0.1/24`.
    pub net: IpNet,
}

/// Whether the kernel first asks the wire if somebody else has an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateDetection {
    /// Ask; the address is unusable for about a second.
    On,
    /// The address is known to be ours, from a lease for instance.
    Off,
}

impl Netlink {
    /// Lists the addresses of one link, IPv4 before IPv6.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the socket broke.
    pub fn observe_addresses(&mut self, link: IfIndex) -> Result<Vec<AddressState>, NetlinkError> {
        let mut request = AddressMessage::default();
        request.header.index = link.0;
        let found = match self.connection.dump(RouteNetlinkMessage::GetAddress(request), read) {
            Err(refusal) if refusal.is(libc::ENODEV) => Vec::new(),
            other => other.map_err(|error| error.to("list addresses of", object(link)))?,
        };
        let mut addresses: Vec<_> = found.into_iter().filter(|found| found.link == link).collect();
        addresses.sort_by_key(|address| address.net.addr().is_ipv6());
        Ok(addresses)
    }

    /// Makes sure that `link` has an address. Its prefix becomes reachable through
    /// the link once that is up.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] with the kernel's answer.
    pub fn ensure_address(
        &mut self,
        link: IfIndex,
        net: IpNet,
        detection: DuplicateDetection,
    ) -> Result<Ensured<()>, NetlinkError> {
        let mut address = message(link, net);
        if detection == DuplicateDetection::Off && net.addr().is_ipv6() {
            address.header.flags = AddressHeaderFlags::Nodad;
        }
        let request = RouteNetlinkMessage::NewAddress(address);
        match self.connection.change(request, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(Ensured::Created(())),
            Err(refusal) if refusal.is(libc::EEXIST) => Ok(Ensured::Unchanged(())),
            Err(refusal) => Err(refusal.to("add", format!("address {net} to {}", object(link)))),
        }
    }

    /// Removes an address from `link`.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel will not.
    pub fn remove_address(&mut self, link: IfIndex, net: IpNet) -> Result<Removed, NetlinkError> {
        let request = RouteNetlinkMessage::DelAddress(message(link, net));
        match self.connection.change(request, 0) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::EADDRNOTAVAIL) || refusal.is(libc::ENODEV) => {
                Ok(Removed::Absent)
            }
            Err(refusal) => {
                Err(refusal.to("remove", format!("address {net} from {}", object(link))))
            }
        }
    }
}

/// The family of an address.
pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn object(link: IfIndex) -> String {
    format!("link number {}", link.0)
}

fn message(link: IfIndex, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: family(net.addr()),
        prefix_len: net.prefix_len(),
        flags: AddressHeaderFlags::empty(),
        scope: AddressScope::Universe,
        index: link.0,
    };
    message.attributes =
        vec![AddressAttribute::Local(net.addr()), AddressAttribute::Address(net.addr())];
    message
}

fn read(payload: &[u8]) -> Result<AddressState, DecodeError> {
    let header = AddressHeader::parse(payload)?;
    let (mut local, mut address) = (None, None);
    for attribute in attributes_after(&header, payload, |nla| AddressAttribute::parse(nla)) {
        match attribute {
            AddressAttribute::Local(found) => local = Some(found),
            AddressAttribute::Address(found) => address = Some(found),
            _ => {}
        }
    }
    // On a point-to-point link the second is the other side's; IPv6 has no first.
    let own = local.or(address).ok_or("an address message without an address")?;
    let net = IpNet::new(own, header.prefix_len).map_err(|error| error.to_string())?;
    Ok(AddressState { link: IfIndex(header.index), net })
}
