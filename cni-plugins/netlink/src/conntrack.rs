//! Forgetting connections: what the kernel remembers of a flow outlives a change of rules.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::NetlinkSerializable;
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::Removed;
use crate::connection::Connection;
use crate::error::NetlinkError;

/// A conversation about the tracked connections of one network namespace.
pub struct Conntrack {
    connection: Connection,
}

/// Which flows are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowFilter {
    /// Those whose first packet was sent to this port.
    SentTo {
        /// Family of the addresses.
        family: FlowFamily,
        /// Number of the IP protocol.
        protocol: u8,
        /// The port.
        port: u16,
    },
    /// Those whose answers come from this address and port.
    AnsweredBy {
        /// Number of the IP protocol.
        protocol: u8,
        /// Address and port.
        address: SocketAddr,
    },
}

/// Family of a flow's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl FlowFamily {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv6() { Self::V6 } else { Self::V4 }
    }
}

impl Conntrack {
    /// Opens a conversation in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { connection: Connection::open(NETLINK_NETFILTER)? })
    }

    /// Forgets flows. Their next packet is looked at as a first one.
    ///
    /// Kernels before 6.8 cannot choose among them; there nothing is forgotten, and
    /// [`Removed::Absent`] says so: a flow then ends when it was silent for long enough.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel refuses.
    pub fn forget(&mut self, filter: &FlowFilter) -> Result<Removed, NetlinkError> {
        match self.connection.change(Forget(*filter), 0) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal)
                if [libc::ENOENT, libc::EOPNOTSUPP, libc::EINVAL]
                    .iter()
                    .any(|number| refusal.is(*number)) =>
            {
                Ok(Removed::Absent)
            }
            Err(refusal) => Err(refusal.to("forget", "tracked connections")),
        }
    }
}

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_DELETE` of the kernel.
const DELETE: u16 = 1 << 8 | 2;

/// Attributes of the kernel's `enum ctattr_type` and of what is nested in them.
mod attribute {
    pub(super) const ORIGINAL: u16 = 1;
    pub(super) const REPLY: u16 = 2;
    pub(super) const FILTER: u16 = 25;
    pub(super) const TUPLE_IP: u16 = 1;
    pub(super) const TUPLE_PROTO: u16 = 2;
    pub(super) const IPV4_SOURCE: u16 = 1;
    pub(super) const IPV6_SOURCE: u16 = 3;
    pub(super) const PROTOCOL: u16 = 1;
    pub(super) const SOURCE_PORT: u16 = 2;
    pub(super) const DESTINATION_PORT: u16 = 3;
    pub(super) const FILTER_ORIGINAL: u16 = 1;
    pub(super) const FILTER_REPLY: u16 = 2;
    pub(super) const NESTED: u16 = 1 << 15;
}

/// Bits of a filter: which fields of a tuple are looked at.
mod field {
    pub(super) const SOURCE: u32 = 1;
    pub(super) const PROTOCOL: u32 = 1 << 3;
    pub(super) const SOURCE_PORT: u32 = 1 << 4;
    pub(super) const DESTINATION_PORT: u32 = 1 << 5;
}

struct Forget(FlowFilter);

impl Forget {
    fn bytes(&self) -> Vec<u8> {
        use attribute as a;
        let (family, tuple, parts, flags, filter) = match self.0 {
            FlowFilter::SentTo { family, protocol, port } => {
                let proto =
                    [nla(a::PROTOCOL, &[protocol]), nla(a::DESTINATION_PORT, &port.to_be_bytes())];
                let parts = nla(a::TUPLE_PROTO | a::NESTED, &proto.concat());
                let flags = field::PROTOCOL | field::DESTINATION_PORT;
                (family, a::ORIGINAL, parts, flags, a::FILTER_ORIGINAL)
            }
            FlowFilter::AnsweredBy { protocol, address } => {
                let source = match address.ip() {
                    IpAddr::V4(ip) => nla(a::IPV4_SOURCE, &ip.octets()),
                    IpAddr::V6(ip) => nla(a::IPV6_SOURCE, &ip.octets()),
                };
                let proto = [
                    nla(a::PROTOCOL, &[protocol]),
                    nla(a::SOURCE_PORT, &address.port().to_be_bytes()),
                ];
                let parts = [
                    nla(a::TUPLE_IP | a::NESTED, &source),
                    nla(a::TUPLE_PROTO | a::NESTED, &proto.concat()),
                ];
                let flags = field::SOURCE | field::PROTOCOL | field::SOURCE_PORT;
                (FlowFamily::of(address.ip()), a::REPLY, parts.concat(), flags, a::FILTER_REPLY)
            }
        };
        let family = match family {
            FlowFamily::V4 => libc::AF_INET,
            FlowFamily::V6 => libc::AF_INET6,
        };
        // A version other than zero makes the kernel look at the family.
        let mut bytes = vec![family as u8, 1, 0, 0];
        bytes.extend(nla(tuple | a::NESTED, &parts));
        // Both masks must be there; one without bits looks at nothing.
        let other = a::FILTER_ORIGINAL + a::FILTER_REPLY - filter;
        let masks = [nla(filter, &flags.to_ne_bytes()), nla(other, &0_u32.to_ne_bytes())];
        bytes.extend(nla(a::FILTER | a::NESTED, &masks.concat()));
        bytes
    }
}

impl NetlinkSerializable for Forget {
    fn message_type(&self) -> u16 {
        DELETE
    }

    fn buffer_len(&self) -> usize {
        self.bytes().len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let bytes = self.bytes();
        if let Some(place) = buffer.get_mut(..bytes.len()) {
            place.copy_from_slice(&bytes);
        }
    }
}

/// An attribute, filled up to a multiple of four bytes. The parts here are short.
fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = value.len() + 4;
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}
