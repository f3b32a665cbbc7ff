//! Packets made from nothing, every checksum in them worked out in full.

use std::net::IpAddr;

/// One packet of TCP, UDP or ICMP in a frame to whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: (IpAddr, u16),
    pub target: (IpAddr, u16),
    pub hops: u8,
    pub body: Body,
}

/// What is in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Flags, sequence number, acknowledgement, window, data.
    Tcp(u8, u32, u32, u16, Vec<u8>),
    Udp(Vec<u8>),
    /// A datagram whose sender worked out no checksum.
    UdpUnchecked(Vec<u8>),
    /// Type and code, the word after the checksum, and the beginning of the packet that it is about.
    Icmp([u8; 2], u32, Vec<u8>),
}

impl Packet {
    pub fn new(source: &str, target: &str, body: Body) -> Self {
        let end = |text: &str| -> (IpAddr, u16) {
            let (ip, port) = text.rsplit_once(' ').expect("an address and a port");
            (ip.parse().expect("an address"), port.parse().expect("a port"))
        };
        Self { source: end(source), target: end(target), hops: 64, body }
    }

    pub fn hops(self, hops: u8) -> Self {
        Self { hops, ..self }
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let kind: u16 = if self.source.0.is_ipv4() { 0x0800 } else { 0x86dd };
        [&[0; 12][..], &kind.to_be_bytes(), &self.ip()].concat()
    }

    /// The IP packet.
    pub fn ip(&self) -> Vec<u8> {
        let transport = self.transport();
        let protocol = self.protocol();
        let mut bytes = Vec::new();
        match (self.source.0, self.target.0) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                bytes.extend([0x45, 0]);
                bytes.extend((20 + transport.len() as u16).to_be_bytes());
                bytes.extend([0, 0, 0x40, 0, self.hops, protocol, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(target.octets());
                let sum = checksum(&bytes).to_be_bytes();
                bytes[10..12].copy_from_slice(&sum);
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend((transport.len() as u16).to_be_bytes());
                bytes.extend([protocol, self.hops]);
                bytes.extend(source.octets());
                bytes.extend(target.octets());
            }
            _ => panic!("two families in one packet"),
        }
        bytes.extend(transport);
        bytes
    }

    fn protocol(&self) -> u8 {
        match (&self.body, self.source.0) {
            (Body::Tcp(..), _) => 6,
            (Body::Udp(_) | Body::UdpUnchecked(_), _) => 17,
            (Body::Icmp(..), IpAddr::V4(_)) => 1,
            (Body::Icmp(..), IpAddr::V6(_)) => 58,
        }
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ports = [self.source.1.to_be_bytes(), self.target.1.to_be_bytes()].concat();
        let field = match &self.body {
            Body::Tcp(flags, sequence, acknowledged, window, data) => {
                bytes.extend(ports);
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(acknowledged.to_be_bytes());
                bytes.extend([0x50, *flags]);
                bytes.extend(window.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend(data);
                16
            }
            Body::Udp(data) | Body::UdpUnchecked(data) => {
                bytes.extend(ports);
                bytes.extend((8 + data.len() as u16).to_be_bytes());
                bytes.extend([0; 2]);
                bytes.extend(data);
                6
            }
            Body::Icmp(kind, word, quote) => {
                bytes.extend(kind);
                bytes.extend([0; 2]);
                bytes.extend(word.to_be_bytes());
                bytes.extend(quote);
                2
            }
        };
        let pseudo = match (self.source.0, self.target.0, self.protocol()) {
            (_, _, 1) => Vec::new(),
            (source, target, protocol) => {
                let length = (bytes.len() as u32).to_be_bytes();
                [octets(source), octets(target), length.to_vec(), vec![0, 0, 0, protocol]].concat()
            }
        };
        if !matches!(self.body, Body::UdpUnchecked(_)) {
            let sum = checksum(&[&pseudo[..], &bytes[..]].concat()).to_be_bytes();
            bytes[field..field + 2].copy_from_slice(&sum);
        }
        bytes
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
