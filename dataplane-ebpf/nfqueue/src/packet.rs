//! The headers of a packet, as far as a choice needs them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::wire::read_be16;
use crate::words::{TCP, UDP};

/// Headers of IPv6 that may stand before the transport's.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// How many of them are looked at.
const MOST_EXTENSIONS: usize = 6;

/// Flags of TCP.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Who speaks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Flow {
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// A packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub flow: Flow,
    /// Flags of TCP; zero for UDP.
    pub flags: u8,
}

impl Packet {
    /// Reads the headers; `None` if the packet is too short or of another transport.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (protocol, source, destination, transport) = match bytes.first()? >> 4 {
            4 => read_v4(bytes)?,
            6 => read_v6(bytes)?,
            _ => return None,
        };
        let flags = match protocol {
            TCP => *transport.get(13)?,
            UDP => 0,
            _ => return None,
        };
        let port = |at: usize| transport.get(at..at + 2).map(read_be16);
        let flow = Flow {
            protocol,
            source: SocketAddr::new(source, port(0)?),
            destination: SocketAddr::new(destination, port(2)?),
        };
        Some(Self { flow, flags })
    }
}

type Parts<'a> = (u8, IpAddr, IpAddr, &'a [u8]);

fn read_v4(bytes: &[u8]) -> Option<Parts<'_>> {
    let length = usize::from(bytes.first()? & 0xf) * 4;
    let address = |at: usize| {
        let octets = bytes.get(at..at + 4)?;
        Some(IpAddr::from(*octets.first_chunk::<4>()?))
    };
    Some((*bytes.get(9)?, address(12)?, address(16)?, bytes.get(length.max(20)..)?))
}

fn read_v6(bytes: &[u8]) -> Option<Parts<'_>> {
    let address = |at: usize| {
        let octets = bytes.get(at..at + 16)?;
        Some(IpAddr::from(Ipv6Addr::from(*octets.first_chunk::<16>()?)))
    };
    let (source, destination) = (address(8)?, address(24)?);
    let (mut next, mut rest) = (*bytes.get(6)?, bytes.get(40..)?);
    for _ in 0..MOST_EXTENSIONS {
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => 8 + 8 * usize::from(*rest.get(1)?),
            FRAGMENT => 8,
            _ => return Some((next, source, destination, rest)),
        };
        (next, rest) = (*rest.first()?, rest.get(length..)?);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, words: u8) -> Vec<u8> {
        let mut bytes = vec![0x40 | words, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        bytes.extend([10, 0, 0, 1, 11, 0, 0, 2]);
        bytes.resize(usize::from(words) * 4, 0);
        bytes
    }

    fn transport(flags: u8) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 0, 80];
        bytes.resize(13, 0);
        bytes.push(flags);
        bytes
    }

    #[test]
    fn both_families_with_and_without_options() {
        let short = [v4(TCP, 5), transport(SYN)].concat();
        let options = [v4(TCP, 8), transport(SYN)].concat();
        for bytes in [short, options] {
            let packet = Packet::read(&bytes).expect("a packet");
            assert_eq!(packet.flow.source, "10.0.0.1:4660".parse().expect("an address"));
            assert_eq!(packet.flow.destination, "11.0.0.2:80".parse().expect("an address"));
            assert_eq!((packet.flow.protocol, packet.flags), (TCP, SYN));
        }
        let mut v6 = vec![0x60, 0, 0, 0, 0, 0, HOP_BY_HOP, 64];
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        v6.extend("fd01:c::1".parse::<Ipv6Addr>().expect("an address").octets());
        v6.extend([UDP, 0, 0, 0, 0, 0, 0, 0]);
        v6.extend(transport(0));
        let packet = Packet::read(&v6).expect("a packet");
        assert_eq!(packet.flow.protocol, UDP);
        assert_eq!(packet.flow.destination, "[fd01:c::1]:80".parse().expect("an address"));
    }

    #[test]
    fn what_is_cut_or_strange_is_no_packet() {
        let whole = [v4(TCP, 5), transport(SYN)].concat();
        for cut in 0..whole.len() {
            assert_eq!(Packet::read(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Packet::read(&[v4(1, 5), transport(0)].concat()), None);
        assert_eq!(Packet::read(&[0; 64]), None);
        assert_eq!(Packet::read(&[0x60; 40]), None);
    }
}
