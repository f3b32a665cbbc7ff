//! ICMP errors about packets that were translated.
//!
//! An error quotes the beginning of the packet that it is about. The quotation is translated
//! back, so that its reader knows the packet: without that, no path MTU would be found.
//!
//! ```text
//! about client → backend   seen beyond the node   for the client   quoted target  := VIP
//! about VIP → client       seen before the node   for the VIP      quoted source  := backend, and so the error's target
//! ```

use aya_ebpf::bindings::{__sk_buff, BPF_F_PSEUDO_HDR};
use mizzen_ebpf_abi::{Be16, Flow, FlowKey, Ip16};
use mizzen_ebpf_core::rewrite;

use crate::maps::FLOWS;
use crate::packet::{
    Buffer, ETH_LENGTH, Hop, IPPROTO_TCP, IPPROTO_UDP, Packet, Side, V4_END, V4Header, V6_END,
    V6Header, load, replace_checksum, store,
};
use crate::tc::{NEXT, pass_on};

/// Which way an ICMP packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It comes in.
    In = 0,
    /// It leaves.
    Out = 1,
}

/// What happens to an ICMP packet.
#[inline(always)]
pub fn verdict(buffer: Buffer, way: Way) -> i32 {
    mizzen_icmp(buffer, way as u32)
}

/// [`verdict`], as the verifier wants it: see `choose.rs`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_icmp(buffer: *mut __sk_buff, way: u32) -> i32 {
    let Some(packet) = Packet::read(buffer) else { return NEXT };
    let verdict = match way {
        IN => arrive(buffer, &packet),
        _ => depart(buffer, &packet),
    };
    verdict.unwrap_or(NEXT)
}

const IN: u32 = Way::In as u32;

/// One that comes in.
#[inline(always)]
fn arrive(buffer: Buffer, packet: &Packet) -> Option<i32> {
    let quote = Quote::read(buffer, packet)?;
    let flow = quote.flow()?;
    // SAFETY: an element of a map.
    let link = unsafe { (*flow).leaves };
    if link != 0 && packet.hops > 1 {
        quote.translate(buffer, packet, flow, Hop::Count)?;
        return Some(pass_on(buffer, link, None));
    }
    quote.translate(buffer, packet, flow, Hop::Leave)?;
    Some(NEXT)
}

/// One that leaves: the node's own words about packets that it could not pass on.
#[inline(always)]
fn depart(buffer: Buffer, packet: &Packet) -> Option<i32> {
    let quote = Quote::read(buffer, packet)?;
    quote.translate(buffer, packet, quote.flow()?, Hop::Leave)?;
    Some(NEXT)
}

/// The packet that an error is about.
struct Quote {
    /// Its ends the other way round: as packets would come that answer it.
    key: FlowKey,
    /// Where its IP header begins.
    offset: u32,
    /// Checksum of its IPv4 header.
    checksum: u16,
}

impl Quote {
    #[inline(always)]
    fn read(buffer: Buffer, packet: &Packet) -> Option<Self> {
        if packet.is_v4() { Self::read_v4(buffer) } else { Self::read_v6(buffer) }
    }

    #[inline(always)]
    fn read_v4(buffer: Buffer) -> Option<Self> {
        let kind: u8 = load(buffer, V4_END)?;
        let is_error = matches!(kind, V4_UNREACHABLE | V4_TIME_EXCEEDED | V4_PARAMETER);
        if !is_error {
            return None;
        }
        let offset = V4_END + ICMP_LENGTH;
        let header: V4Header = load(buffer, offset)?;
        let begins = header.fragment & u16::to_be(0x1fff) == 0;
        if header.version_and_length != 0x45 || !begins {
            return None;
        }
        let (source, target) =
            (Ip16::from_v4_word(header.source), Ip16::from_v4_word(header.target));
        let key = reversed(buffer, source, target, header.protocol, offset + V4_LENGTH)?;
        Some(Self { key, offset, checksum: header.checksum })
    }

    #[inline(always)]
    fn read_v6(buffer: Buffer) -> Option<Self> {
        let kind: u8 = load(buffer, V6_END)?;
        if kind == 0 || kind > V6_PARAMETER {
            return None;
        }
        let offset = V6_END + ICMP_LENGTH;
        let header: V6Header = load(buffer, offset)?;
        let (source, target) =
            (Ip16::from_v6_words(header.source), Ip16::from_v6_words(header.target));
        let key = reversed(buffer, source, target, header.next, offset + V6_LENGTH)?;
        Some(Self { key, offset, checksum: 0 })
    }

    #[inline(always)]
    fn flow(&self) -> Option<*mut Flow> {
        FLOWS.get_ptr_mut(self.key)
    }

    /// Puts into the quotation what its reader knows, and turns the error to him.
    #[inline(always)]
    fn translate(&self, buffer: Buffer, packet: &Packet, flow: *mut Flow, hop: Hop) -> Option<()> {
        let change = Change::of(self, flow);
        let (header, place) = match packet.is_v4() {
            true => (V4_LENGTH, if change.quoted == Side::Source { 12 } else { 16 }),
            false => (V6_LENGTH, if change.quoted == Side::Source { 8 } else { 24 }),
        };
        let port = self.offset + header + if change.quoted == Side::Source { 0 } else { 2 };
        store(buffer, port, &change.port.to_network(), 0)?;
        match packet.is_v4() {
            true => self.translate_v4(buffer, packet, &change, self.offset + place, hop),
            false => self.translate_v6(buffer, packet, &change, self.offset + place, hop),
        }
    }

    /// The rest of an IPv4 packet, where the quoted address lies at `place`.
    #[inline(always)]
    fn translate_v4(
        &self,
        buffer: Buffer,
        packet: &Packet,
        change: &Change,
        place: u32,
        hop: Hop,
    ) -> Option<()> {
        let [_, _, _, word] = change.new.words();
        let quoted = rewrite::replaced(self.checksum, change.of_address(0));
        store(buffer, self.offset + 10, &quoted, 0)?;
        store(buffer, place, &word, 0)?;
        // The quoted header makes up for its own change, the port does not.
        replace_checksum(buffer, V4_END + 2, change.of_port(), 0)?;
        packet.write_v4(buffer, change.side, change.outer(packet), change.of_outer(packet), hop)
    }

    /// The rest of an IPv6 packet, where the quoted address lies at `place`.
    #[inline(always)]
    fn translate_v6(
        &self,
        buffer: Buffer,
        packet: &Packet,
        change: &Change,
        place: u32,
        hop: Hop,
    ) -> Option<()> {
        store(buffer, place, &change.new.words(), 0)?;
        let checksum = V6_END + 2;
        replace_checksum(buffer, checksum, change.of_address(change.of_port()), 0)?;
        let pseudo = u64::from(BPF_F_PSEUDO_HDR);
        replace_checksum(buffer, checksum, change.of_outer(packet), pseudo)?;
        packet.write_v6(buffer, change.side, change.outer(packet), hop)
    }
}

/// What an error and its quotation become.
struct Change {
    /// Which end of the quoted packet is another.
    quoted: Side,
    /// That end, and what it becomes.
    old: Ip16,
    old_port: Be16,
    new: Ip16,
    port: Be16,
    /// Which end of the error is another.
    side: Side,
}

impl Change {
    #[inline(always)]
    fn of(quote: &Quote, flow: *mut Flow) -> Self {
        // SAFETY: an element of a map, whose fields are plain numbers.
        let (new, port, kind) = unsafe { ((*flow).address, (*flow).port, (*flow).kind) };
        // The key of the quotation is the other way round.
        let FlowKey { source, source_port, target, target_port, .. } = quote.key;
        match kind {
            Flow::ANSWERS => Self {
                quoted: Side::Target,
                old: source,
                old_port: source_port,
                new,
                port,
                side: Side::Source,
            },
            _ => Self {
                quoted: Side::Source,
                old: target,
                old_port: target_port,
                new,
                port,
                side: Side::Target,
            },
        }
    }

    /// What the error's own end becomes.
    #[inline(always)]
    fn outer(&self, packet: &Packet) -> Ip16 {
        match self.side {
            // A router keeps its name; only the backend's is not shown.
            Side::Source if packet.key.source != self.old => packet.key.source,
            _ => self.new,
        }
    }

    /// By what the quoted address changes a sum that changes by `sum` besides.
    #[inline(always)]
    fn of_address(&self, sum: u32) -> u32 {
        rewrite::change_words(sum, self.old.words(), self.new.words())
    }

    /// By what the quoted port changes a sum.
    #[inline(always)]
    fn of_port(&self) -> u32 {
        let (old, new) = (self.old_port.to_network(), self.port.to_network());
        rewrite::change(0, u32::from(old), u32::from(new))
    }

    /// By what the error's own address changes a sum.
    #[inline(always)]
    fn of_outer(&self, packet: &Packet) -> u32 {
        let key = &packet.key;
        let before = if self.side == Side::Source { key.source } else { key.target };
        rewrite::change_words(0, before.words(), self.outer(packet).words())
    }
}

/// The ends of a quoted packet, the other way round.
#[inline(always)]
fn reversed(
    buffer: Buffer,
    source: Ip16,
    target: Ip16,
    protocol: u8,
    transport: u32,
) -> Option<FlowKey> {
    if protocol != IPPROTO_TCP && protocol != IPPROTO_UDP {
        return None;
    }
    let ports: u32 = load(buffer, transport)?;
    Some(FlowKey {
        source: target,
        target: source,
        source_port: Be16::from_network((ports >> 16) as u16),
        target_port: Be16::from_network(ports as u16),
        protocol,
        reserved: [0; 3],
    })
}

const ICMP_LENGTH: u32 = 8;
const V4_LENGTH: u32 = V4_END - ETH_LENGTH;
const V6_LENGTH: u32 = V6_END - ETH_LENGTH;
const V4_UNREACHABLE: u8 = 3;
const V4_TIME_EXCEEDED: u8 = 11;
const V4_PARAMETER: u8 = 12;
const V6_PARAMETER: u8 = 4;
