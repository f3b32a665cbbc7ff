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
        // SAFETY: an element of a map, whose fields are plain numbers.
        let (address, port, kind) = unsafe { ((*flow).address, (*flow).port, (*flow).kind) };
        let (quoted, side) = match kind {
            Flow::ANSWERS => (Side::Target, Side::Source),
            _ => (Side::Source, Side::Target),
        };
        // The key is the other way round.
        let (old, old_port) = match quoted {
            Side::Target => (self.key.source, self.key.source_port),
            Side::Source => (self.key.target, self.key.target_port),
        };
        let ports = (old_port, port);
        let outer = match side {
            // A router keeps its name; only the backend's is not shown.
            Side::Source if packet.key.source != old => packet.key.source,
            _ => address,
        };
        match packet.is_v4() {
            true => {
                self.translate_v4(buffer, packet, (quoted, side), (old, address), ports, outer, hop)
            }
            false => {
                self.translate_v6(buffer, packet, (quoted, side), (old, address), ports, outer, hop)
            }
        }
    }

    #[inline(always)]
    fn translate_v4(
        &self,
        buffer: Buffer,
        packet: &Packet,
        (quoted, side): (Side, Side),
        (old, new): (Ip16, Ip16),
        (old_port, port): (Be16, Be16),
        outer: Ip16,
        hop: Hop,
    ) -> Option<()> {
        let inner = rewrite::change_words(0, old.words(), new.words());
        let [_, _, _, word] = new.words();
        store(buffer, self.offset + 10, &rewrite::replaced(self.checksum, inner), 0)?;
        store(buffer, self.offset + if quoted == Side::Source { 12 } else { 16 }, &word, 0)?;
        let place = self.offset + V4_LENGTH + if quoted == Side::Source { 0 } else { 2 };
        store(buffer, place, &port.to_network(), 0)?;
        // The quoted header makes up for its own change, the port does not.
        replace_checksum(buffer, V4_END + 2, port_change(old_port, port), 0)?;
        let before = if side == Side::Source { packet.key.source } else { packet.key.target };
        let difference = rewrite::change_words(0, before.words(), outer.words());
        packet.write_v4(buffer, side, outer, difference, hop)
    }

    #[inline(always)]
    fn translate_v6(
        &self,
        buffer: Buffer,
        packet: &Packet,
        (quoted, side): (Side, Side),
        (old, new): (Ip16, Ip16),
        (old_port, port): (Be16, Be16),
        outer: Ip16,
        hop: Hop,
    ) -> Option<()> {
        let place = self.offset + if quoted == Side::Source { 8 } else { 24 };
        store(buffer, place, &new.words(), 0)?;
        let place = self.offset + V6_LENGTH + if quoted == Side::Source { 0 } else { 2 };
        store(buffer, place, &port.to_network(), 0)?;
        let inner = rewrite::change_words(port_change(old_port, port), old.words(), new.words());
        replace_checksum(buffer, V6_END + 2, inner, 0)?;
        let before = if side == Side::Source { packet.key.source } else { packet.key.target };
        let difference = rewrite::change_words(0, before.words(), outer.words());
        replace_checksum(buffer, V6_END + 2, difference, u64::from(BPF_F_PSEUDO_HDR))?;
        packet.write_v6(buffer, side, outer, hop)
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

#[inline(always)]
fn port_change(old: Be16, new: Be16) -> u32 {
    rewrite::change(0, u32::from(old.to_network()), u32::from(new.to_network()))
}

const ICMP_LENGTH: u32 = 8;
const V4_LENGTH: u32 = V4_END - ETH_LENGTH;
const V6_LENGTH: u32 = V6_END - ETH_LENGTH;
const V4_UNREACHABLE: u8 = 3;
const V4_TIME_EXCEEDED: u8 = 11;
const V4_PARAMETER: u8 = 12;
const V6_PARAMETER: u8 = 4;
