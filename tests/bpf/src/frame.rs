//! Ethernet frames with IP, TCP and UDP: written, and read only if every length and checksum is right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who sends it.
    pub source: SocketAddr,
    /// Who is to get it.
    pub target: SocketAddr,
    /// What it is.
    pub kind: Kind,
    /// Routers that it may still pass.
    pub hops: u8,
    /// What follows the headers.
    pub data: Vec<u8>,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP with flags, sequence and acknowledgement number.
    Tcp(u8, u32, u32),
    /// UDP.
    Udp,
    /// UDP over IPv4 whose sender left out the checksum.
    UdpUnchecked,
    /// ICMP with type and code; ports are zero.
    Icmp(u8, u8),
}

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

impl Frame {
    /// A frame without data.
    #[must_use]
    pub fn new(source: SocketAddr, target: SocketAddr, kind: Kind) -> Self {
        Self { source, target, kind, hops: 64, data: Vec::new() }
    }

    /// The same with data.
    #[must_use]
    pub fn with(self, data: &[u8]) -> Self {
        Self { data: data.to_vec(), ..self }
    }

    /// The same from elsewhere.
    #[must_use]
    pub fn from(self, source: SocketAddr) -> Self {
        Self { source, ..self }
    }

    /// The same to somebody else.
    #[must_use]
    pub fn to(self, target: SocketAddr) -> Self {
        Self { target, ..self }
    }

    /// The bytes, from the Ethernet header on.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let kind: [u8; 2] = if self.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
        // To the loopback device, whose address is all zeroes.
        [&[0; 6][..], &[2, 0, 0, 0, 0, 1], &kind, &self.packet()].concat()
    }

    /// The bytes from the IP header on.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let transport = self.transport();
        let length = transport.len() as u16;
        let mut packet = match (self.source.ip(), self.target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let [high, low] = (length + 20).to_be_bytes();
                let head = [0x45, 0, high, low, 0, 7, 0x40, 0, self.hops, self.protocol(), 0, 0];
                let mut header = [&head[..], &source.octets(), &target.octets()].concat();
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                header
            }
            (source, target) => {
                let [high, low] = length.to_be_bytes();
                let head = [0x60, 0, 0, 0, high, low, self.protocol(), self.hops];
                [&head[..], &octets(source), &octets(target)].concat()
            }
        };
        packet.extend(transport);
        packet
    }

    /// Reads a frame; none if anything about it is wrong.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let packet = bytes.get(ETHERNET..)?;
        let (protocol, hops, source, target, transport) = match bytes.get(12..ETHERNET)? {
            [8, 0] => read_v4(packet)?,
            [0x86, 0xdd] => read_v6(packet)?,
            _ => return None,
        };
        let pseudo = pseudo(source, target, protocol, transport.len());
        let (kind, header) = read_kind(protocol, transport)?;
        let is_ping = protocol == 1;
        let is_right = match kind {
            Kind::UdpUnchecked => true,
            _ if is_ping => checksum(&[transport]) == 0,
            _ => checksum(&[&pseudo, transport]) == 0,
        };
        let port = |at: usize| match kind {
            Kind::Icmp(..) => Some(0),
            _ => Some(u16::from_be_bytes(*transport.get(at..)?.first_chunk()?)),
        };
        let (source, target) =
            (SocketAddr::new(source, port(0)?), SocketAddr::new(target, port(2)?));
        let data = transport.get(header..)?.to_vec();
        is_right.then_some(Self { source, target, kind, hops, data })
    }

    fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Tcp(..) => 6,
            Kind::Udp | Kind::UdpUnchecked => 17,
            Kind::Icmp(..) if self.source.is_ipv4() => 1,
            Kind::Icmp(..) => 58,
        }
    }

    fn transport(&self) -> Vec<u8> {
        let ports = [self.source.port().to_be_bytes(), self.target.port().to_be_bytes()].concat();
        let (mut header, place) = match self.kind {
            Kind::Tcp(flags, sequence, acknowledged) => {
                let numbers = [sequence.to_be_bytes(), acknowledged.to_be_bytes()].concat();
                ([&ports[..], &numbers, &[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]].concat(), 16)
            }
            Kind::Udp | Kind::UdpUnchecked => {
                let length = (8 + self.data.len() as u16).to_be_bytes();
                ([&ports[..], &length, &[0, 0]].concat(), 6)
            }
            Kind::Icmp(kind, code) => (vec![kind, code, 0, 0, 0, 0, 0, 0], 2),
        };
        header.extend(&self.data);
        let pseudo = pseudo(self.source.ip(), self.target.ip(), self.protocol(), header.len());
        let sum = match self.kind {
            Kind::UdpUnchecked => 0,
            Kind::Icmp(..) if self.source.is_ipv4() => checksum(&[&header]),
            _ => checksum(&[&pseudo, &header]),
        };
        header[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        header
    }
}

/// The internet checksum of bytes that follow each other; all but the last are of even length.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

type Parts<'a> = (u8, u8, IpAddr, IpAddr, &'a [u8]);

fn read_v4(packet: &[u8]) -> Option<Parts<'_>> {
    let (header, transport) = packet.split_at_checked(20)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let address = |at: usize| {
        let bytes: [u8; 4] = *header.get(at..)?.first_chunk()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    let is_right = header[0] == 0x45 && length == packet.len() && checksum(&[header]) == 0;
    is_right.then_some((header[9], header[8], address(12)?, address(16)?, transport))
}

fn read_v6(packet: &[u8]) -> Option<Parts<'_>> {
    let (header, transport) = packet.split_at_checked(40)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let address = |at: usize| {
        let bytes: [u8; 16] = *header.get(at..)?.first_chunk()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)))
    };
    let is_right = header[0] >> 4 == 6 && length == transport.len();
    is_right.then_some((header[6], header[7], address(8)?, address(24)?, transport))
}

fn read_kind(protocol: u8, transport: &[u8]) -> Option<(Kind, usize)> {
    let number = |at: usize| Some(u32::from_be_bytes(*transport.get(at..)?.first_chunk()?));
    match protocol {
        6 => {
            let kind = Kind::Tcp(*transport.get(13)?, number(4)?, number(8)?);
            Some((kind, usize::from(transport[12] >> 4) * 4))
        }
        17 if transport.get(6..8)? == [0, 0] => Some((Kind::UdpUnchecked, 8)),
        17 => {
            let length = u16::from_be_bytes(*transport.get(4..)?.first_chunk()?);
            (usize::from(length) == transport.len()).then_some((Kind::Udp, 8))
        }
        1 | 58 => Some((Kind::Icmp(*transport.first()?, *transport.get(1)?), 8)),
        _ => None,
    }
}

fn pseudo(source: IpAddr, target: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    [octets(source), octets(target), (length as u32).to_be_bytes().to_vec(), vec![0, protocol]]
        .concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for (source, target) in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
            for kind in [Kind::Tcp(2, 7, 9), Kind::Udp] {
                let at = |text: &str| text.parse().expect("an address");
                let frame = Frame::new(at(source), at(target), kind).with(b"hello");
                let bytes = frame.bytes();
                assert_eq!(Frame::read(&bytes), Some(frame));
                for broken in ETHERNET + 8..bytes.len() {
                    let mut bytes = bytes.clone();
                    bytes[broken] ^= 4;
                    let hops = ETHERNET + if source.starts_with('[') { 7 } else { 8 };
                    assert!(broken == hops || Frame::read(&bytes).is_none(), "{kind:?} {broken}");
                }
            }
        }
    }
}
