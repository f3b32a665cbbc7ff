//! A packet in the kernel's hands: read, changed, cut.
//!
//! Headers are read and written through helpers only, which cope with packets in pieces, with
//! copies that share their bytes, and with checksums that hardware has yet to fill in or has
//! worked out already. IPv4 options and IPv6 extension headers stay with the routing of the
//! kernel, as do fragments, of which all but the first have no ports.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::helpers::generated::bpf_l4_csum_replace;
use mizzen_ebpf_abi::{Be16, FlowKey, Ip16};
use mizzen_ebpf_core::rewrite;

pub use crate::headers::{
    Buffer, ETH_LENGTH, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, V4_END, V4Header,
    V6_END, V6Header, load, store,
};
use crate::headers::{ETH_P_IP, ETH_P_IPV6, UDP_LENGTH, V6_LENGTH};

/// A packet of TCP, UDP or ICMP.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Packet {
    /// Both ends; ports are zero for ICMP.
    pub key: FlowKey,
    /// Largest packet on the wire that it becomes part of (bytes, without the link's header).
    pub size: u32,
    /// Checksum of the IPv4 header.
    pub checksum: u16,
    /// Routers that it may still pass.
    pub hops: u8,
    /// Flags of TCP.
    pub flags: u8,
}

/// Flags of TCP.
pub mod flag {
    /// The sender sends no more.
    pub const FIN: u8 = 1;
    /// A connection begins.
    pub const SYN: u8 = 2;
    /// The connection is over.
    pub const RST: u8 = 4;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
}

/// Which end of a packet is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Target,
}

/// What becomes of the number of routers that it may still pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// This is one of them.
    Count,
    /// The kernel's routing counts.
    Leave,
}

impl Packet {
    /// Reads the headers; nothing if the packet is none of ours.
    #[inline(always)]
    pub fn read(buffer: Buffer) -> Option<Self> {
        // SAFETY: the context is valid for the whole run of the program.
        match unsafe { (*buffer).protocol } as u16 {
            ETH_P_IP => Self::read_v4(buffer),
            ETH_P_IPV6 => Self::read_v6(buffer),
            _ => None,
        }
    }

    /// Whether both ends are IPv4 addresses.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        self.key.source.is_v4()
    }

    /// Puts another end in the place of one.
    ///
    /// The checksum of the transport is changed by what changes under it: its own field may be
    /// unfinished, and then only the part that the addresses have in it is there.
    #[inline(always)]
    pub fn change(
        &self,
        buffer: Buffer,
        side: Side,
        address: Ip16,
        port: Be16,
        hop: Hop,
    ) -> Option<()> {
        let (old, old_port, port_offset) = match side {
            Side::Source => (self.key.source, self.key.source_port, 0),
            Side::Target => (self.key.target, self.key.target_port, 2),
        };
        let transport = if self.is_v4() { V4_END } else { V6_END };
        let (field, mangled) = match self.key.protocol {
            IPPROTO_TCP => (transport + 16, 0),
            _ => (transport + 6, u64::from(BPF_F_MARK_MANGLED_0)),
        };
        let difference = rewrite::change_words(0, old.words(), address.words());
        let pseudo = u64::from(BPF_F_PSEUDO_HDR) | mangled;
        replace_checksum(buffer, field, difference, pseudo)?;
        if port != old_port {
            let (from, to) = (u32::from(old_port.to_network()), u32::from(port.to_network()));
            replace_checksum(buffer, field, rewrite::change(0, from, to), mangled)?;
        }
        if self.is_v4() {
            // The ports follow the addresses, so one write does for all.
            let [first, source, target] = self.words_v4(side, address, difference, hop);
            return store(
                buffer,
                ETH_LENGTH + 8,
                &[first, source, target, self.ports(side, port)],
                0,
            );
        }
        if port != old_port {
            store(buffer, transport + port_offset, &port.to_network(), 0)?;
        }
        self.write_v6(buffer, side, address, hop)
    }

    /// Writes all of the IPv4 header that a change of address touches.
    #[inline(always)]
    pub fn write_v4(
        &self,
        buffer: Buffer,
        side: Side,
        address: Ip16,
        difference: u32,
        hop: Hop,
    ) -> Option<()> {
        store(buffer, ETH_LENGTH + 8, &self.words_v4(side, address, difference, hop), 0)
    }

    /// The IPv4 header from its ninth byte on.
    #[inline(always)]
    fn words_v4(&self, side: Side, address: Ip16, difference: u32, hop: Hop) -> [u32; 3] {
        let hops = if hop == Hop::Count { self.hops.wrapping_sub(1) } else { self.hops };
        let word = |hops: u8| u16::from_ne_bytes([hops, self.key.protocol]);
        let (old, new) = (u32::from(word(self.hops)), u32::from(word(hops)));
        let checksum = rewrite::replaced(self.checksum, rewrite::change(difference, old, new));
        let [_, _, _, source] = self.key.source.words();
        let [_, _, _, target] = self.key.target.words();
        let [_, _, _, address] = address.words();
        let (source, target) = match side {
            Side::Source => (address, target),
            Side::Target => (source, address),
        };
        let first = u32::from(word(hops)) | u32::from(checksum) << 16;
        [first, source, target]
    }

    /// The first word of the transport's header.
    #[inline(always)]
    fn ports(&self, side: Side, port: Be16) -> u32 {
        let (source, target) = match side {
            Side::Source => (port, self.key.target_port),
            Side::Target => (self.key.source_port, port),
        };
        u32::from(source.to_network()) | u32::from(target.to_network()) << 16
    }

    /// Writes an address of the IPv6 header and the hop limit.
    #[inline(always)]
    pub fn write_v6(&self, buffer: Buffer, side: Side, address: Ip16, hop: Hop) -> Option<()> {
        let offset = if side == Side::Source { 8 } else { 24 };
        let recompute = u64::from(BPF_F_RECOMPUTE_CSUM);
        // The kernel takes each change of an address under a checksum for one that the IP header makes up
        // for, and IPv6 has no such checksum; so the sum of the whole packet is put right here.
        store(buffer, ETH_LENGTH + offset, &address.words(), recompute)?;
        match hop {
            Hop::Leave => Some(()),
            Hop::Count => store(buffer, ETH_LENGTH + 7, &self.hops.wrapping_sub(1), recompute),
        }
    }

    #[inline(always)]
    fn read_v4(buffer: Buffer) -> Option<Self> {
        // Both headers at once; only a datagram of hardly any bytes ends before.
        let whole: Option<(V4Header, [u32; 4])> = load(buffer, ETH_LENGTH);
        let (header, transport) = match whole {
            Some((header, transport)) => (header, Some(transport)),
            None => (load(buffer, ETH_LENGTH)?, None),
        };
        let is_whole = header.fragment & u16::to_be(0x3fff) == 0;
        if header.version_and_length != 0x45 || !is_whole {
            return None;
        }
        let key = FlowKey {
            source: Ip16::from_v4_word(header.source),
            target: Ip16::from_v4_word(header.target),
            protocol: header.protocol,
            ..FlowKey::default()
        };
        let size = u32::from(u16::from_be(header.length));
        let packet = Self { key, size, checksum: header.checksum, hops: header.hops, flags: 0 };
        packet.with_transport(buffer, V4_END, transport)
    }

    #[inline(always)]
    fn read_v6(buffer: Buffer) -> Option<Self> {
        let whole: Option<(V6Header, [u32; 4])> = load(buffer, ETH_LENGTH);
        let (header, transport) = match whole {
            Some((header, transport)) => (header, Some(transport)),
            None => (load(buffer, ETH_LENGTH)?, None),
        };
        let key = FlowKey {
            source: Ip16::from_v6_words(header.source),
            target: Ip16::from_v6_words(header.target),
            protocol: header.next,
            ..FlowKey::default()
        };
        let size = V6_LENGTH + u32::from(u16::from_be(header.length));
        let packet = Self { key, size, checksum: 0, hops: header.hops, flags: 0 };
        packet.with_transport(buffer, V6_END, transport)
    }

    #[inline(always)]
    fn with_transport(
        mut self,
        buffer: Buffer,
        offset: u32,
        words: Option<[u32; 4]>,
    ) -> Option<Self> {
        let mut length = UDP_LENGTH;
        match self.key.protocol {
            IPPROTO_TCP => {
                let words = words?;
                self.take_ports(words[0]);
                let [data_offset, flags, _, _] = words[3].to_ne_bytes();
                self.flags = flags;
                length = u32::from(data_offset >> 4) * 4;
            }
            IPPROTO_UDP => self.take_ports(match words {
                Some([ports, ..]) => ports,
                None => load(buffer, offset)?,
            }),
            IPPROTO_ICMP | IPPROTO_ICMPV6 => return Some(self),
            _ => return None,
        }
        // SAFETY: as in `read`.
        let segment = unsafe { (*buffer).gso_size };
        if segment != 0 {
            self.size = offset - ETH_LENGTH + length + segment;
        }
        Some(self)
    }

    #[inline(always)]
    fn take_ports(&mut self, word: u32) {
        self.key.source_port = Be16::from_network(word as u16);
        self.key.target_port = Be16::from_network((word >> 16) as u16);
    }
}

/// Changes the checksum at `field` by what the words under it changed.
#[inline(always)]
pub fn replace_checksum(buffer: Buffer, field: u32, difference: u32, flags: u64) -> Option<()> {
    // SAFETY: the helper checks the offset.
    match unsafe { bpf_l4_csum_replace(buffer, field, 0, u64::from(difference), flags) } {
        0 => Some(()),
        _ => None,
    }
}
