//! A packet, as far as policies care.

use mizzen_ebpf_abi::{Be16, Ip16};

use super::{ACK, SYN};
use crate::headers::{
    Buffer, ETH_LENGTH, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, V4Header, V6_END,
    V6Header, by_family, load,
};

/// Who sends what to whom.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Facts {
    /// The sender.
    pub from: Ip16,
    /// The receiver.
    pub to: Ip16,
    /// The sender's port; the number of an ICMP echo.
    pub from_port: Be16,
    /// The receiver's port, likewise.
    pub to_port: Be16,
    /// IP protocol number; ICMP's for both families.
    pub protocol: u8,
    /// What it is to the connection or flow that it belongs to: one of [`kind`].
    pub kind: u8,
    /// Zero.
    pub reserved: u16,
}

/// What a packet is to the connection or flow that it belongs to.
pub mod kind {
    /// The first packet of a TCP connection.
    pub const BEGINS: u8 = 0;
    /// A later one.
    pub const CONTINUES: u8 = 1;
    /// A datagram, which may be the first one or an answer.
    pub const DATAGRAM: u8 = 2;
    /// A question, which is no answer to another one.
    pub const ASKS: u8 = 3;
    /// An error that quotes some packet.
    pub const ERROR: u8 = 4;
    /// What no policy is about.
    pub const ASIDE: u8 = 5;
    /// It ends before its ports do.
    pub const BROKEN: u8 = 6;
}

impl Facts {
    /// Reads a packet; nothing if no policy is about it.
    #[inline(always)]
    pub fn read(buffer: Buffer) -> Option<Self> {
        by_family(buffer, Self::read_v4, Self::read_v6)
    }

    /// What a socket is about to begin.
    #[inline(always)]
    pub fn of_socket(from: Ip16, to: Ip16, protocol: u8, port: Be16) -> Self {
        Self {
            from,
            to,
            from_port: Be16::new(0),
            to_port: port,
            protocol,
            kind: kind::BEGINS,
            reserved: 0,
        }
    }

    /// The same the other way round.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            from_port: self.to_port,
            to_port: self.from_port,
            ..*self
        }
    }

    /// The port that rules are about.
    #[inline(always)]
    pub fn port(&self) -> Be16 {
        if self.protocol == IPPROTO_ICMP { Be16::new(0) } else { self.to_port }
    }

    #[inline(always)]
    fn read_v4(buffer: Buffer) -> Option<Self> {
        let header: V4Header = load(buffer, ETH_LENGTH)?;
        // Without the first piece the others are of no use to anybody.
        if header.fragment & OFFSET != 0 {
            return None;
        }
        let transport = ETH_LENGTH + u32::from(header.version_and_length & 0xf) * 4;
        let (from, to) = header.ends();
        Some(Self::new(from, to, header.protocol).with_transport(buffer, transport))
    }

    #[inline(always)]
    fn read_v6(buffer: Buffer) -> Option<Self> {
        let header: V6Header = load(buffer, ETH_LENGTH)?;
        let (from, to) = header.ends();
        let (mut next, mut transport) = (header.next, V6_END);
        if next == FRAGMENT {
            let piece: [u16; 4] = load(buffer, V6_END)?;
            if piece[1] & V6_OFFSET != 0 {
                return None;
            }
            [next, _] = piece[0].to_ne_bytes();
            transport = V6_END + FRAGMENT_LENGTH;
        }
        Some(Self::new(from, to, next).with_transport(buffer, transport))
    }

    #[inline(always)]
    fn new(from: Ip16, to: Ip16, protocol: u8) -> Self {
        let none = Be16::new(0);
        Self {
            from,
            to,
            from_port: none,
            to_port: none,
            protocol,
            kind: kind::DATAGRAM,
            reserved: 0,
        }
    }

    #[inline(always)]
    fn with_transport(mut self, buffer: Buffer, offset: u32) -> Self {
        match self.protocol {
            IPPROTO_TCP => self.read_tcp(buffer, offset),
            IPPROTO_UDP => match load::<[u16; 2]>(buffer, offset) {
                Some(ports) => self.take_ports(ports),
                None => self.kind = kind::BROKEN,
            },
            IPPROTO_ICMP => self.read_icmp(buffer, offset, icmp_v4),
            IPPROTO_ICMPV6 => {
                self.protocol = IPPROTO_ICMP;
                self.read_icmp(buffer, offset, icmp_v6);
            }
            _ => {}
        }
        self
    }

    #[inline(always)]
    fn read_tcp(&mut self, buffer: Buffer, offset: u32) {
        let Some(words) = load::<[u16; 8]>(buffer, offset) else {
            self.kind = kind::BROKEN;
            return;
        };
        self.take_ports([words[0], words[1]]);
        let [_, flags] = words[6].to_ne_bytes();
        self.kind = match flags & (SYN | ACK) {
            SYN => kind::BEGINS,
            _ => kind::CONTINUES,
        };
    }

    #[inline(always)]
    fn read_icmp(&mut self, buffer: Buffer, offset: u32, kind_of: fn(u8) -> u8) {
        let Some(words) = load::<[u16; 4]>(buffer, offset) else {
            self.kind = kind::BROKEN;
            return;
        };
        let [kind, _] = words[0].to_ne_bytes();
        self.kind = kind_of(kind);
        self.take_ports([words[2], words[2]]);
    }

    #[inline(always)]
    fn take_ports(&mut self, [from, to]: [u16; 2]) {
        (self.from_port, self.to_port) = (Be16::from_network(from), Be16::from_network(to));
    }
}

#[inline(always)]
fn icmp_v4(number: u8) -> u8 {
    match number {
        8 => kind::ASKS,
        3 | 4 | 5 | 11 | 12 => kind::ERROR,
        _ => kind::DATAGRAM,
    }
}

#[inline(always)]
fn icmp_v6(number: u8) -> u8 {
    match number {
        128 => kind::ASKS,
        1..=4 => kind::ERROR,
        // Neighbours, routers and who listens to which group: no link works without.
        130..=137 | 143 => kind::ASIDE,
        _ => kind::DATAGRAM,
    }
}

/// Where a fragment of IPv4 belongs, as it lies in memory.
const OFFSET: u16 = 0x1fff_u16.to_be();
/// Likewise of IPv6.
const V6_OFFSET: u16 = 0xfff8_u16.to_be();
/// The IPv6 header of a fragment.
const FRAGMENT: u8 = 44;
const FRAGMENT_LENGTH: u32 = 8;
