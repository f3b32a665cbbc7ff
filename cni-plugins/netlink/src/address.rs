//! Addresses on links, IPv4 and IPv6 alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::IfIndex;
use crate::wire::{Attributes, Message, u32_at};
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
        let request = Message::new(libc::RTM_GETADDR, 0, &header(0, 0, 0, link));
        let found = match self.connection.dump(&request, parse) {
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
        let flags = match detection {
            DuplicateDetection::Off if net.addr().is_ipv6() => libc::IFA_F_NODAD as u8,
            _ => 0,
        };
        let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        match self.connection.change(&message(libc::RTM_NEWADDR, create, flags, link, net)) {
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
        match self.connection.change(&message(libc::RTM_DELADDR, 0, 0, link, net)) {
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

/// The number of an address family.
pub(crate) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// The bytes of an address, in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address in 4 or 16 bytes.
pub(crate) fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

fn object(link: IfIndex) -> String {
    format!("link number {}", link.0)
}

/// `struct ifaddrmsg`.
fn header(family: u8, prefix: u8, flags: u8, link: IfIndex) -> [u8; 8] {
    let [a, b, c, d] = link.0.to_ne_bytes();
    [family, prefix, flags, 0, a, b, c, d]
}

fn message(kind: u16, request: i32, flags: u8, link: IfIndex, net: IpNet) -> Message {
    let address = octets(net.addr());
    Message::new(kind, request, &header(family(net.addr()), net.prefix_len(), flags, link))
        .attr(libc::IFA_LOCAL, &address)
        .attr(libc::IFA_ADDRESS, &address)
}

fn parse(payload: &[u8]) -> Option<AddressState> {
    let attributes = Attributes::after(payload, 8);
    // On a point-to-point link IFA_ADDRESS is the other side's; IPv6 has no IFA_LOCAL.
    let own = attributes.find(libc::IFA_LOCAL).or_else(|| attributes.find(libc::IFA_ADDRESS))?;
    let net = IpNet::new(from_octets(own)?, *payload.get(1)?).ok()?;
    Some(AddressState { link: IfIndex(u32_at(payload, 4)?), net })
}
