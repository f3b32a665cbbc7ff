//! The answer to packets that nobody takes: a reset, or "port unreachable".
//!
//! It is made from the packet itself and sent back by the link that the packet came by, so no
//! firewall of this node is asked and no client has to wait.
//!
//! The packet may be one whose checksum hardware is still to fill in, which cannot be seen from
//! here: then 16 bits at the place of the old checksum are replaced by the complement of the sum
//! of all that follows the IP header. Each answer has a field that its reader ignores, and that
//! field is chosen so that the answer is right either way. With P for what the IP header has in
//! the checksum:
//!
//! ```text
//! reset       checksum := P, window := so that all adds up          hardware writes P once more
//! ICMPv6      two unused bytes := P, checksum := so that all adds up   likewise
//! ICMP        no P at all: the unused bytes are zero, in one way of writing it or the other
//! ```

use aya_ebpf::bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_skb_change_tail};
use mizzen_ebpf_core::rewrite::{add, add_words, change, checksum, fold};

use crate::packet::{
    Buffer, ETH_LENGTH, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, Packet, V4_END, V4Header,
    V6_END, V6Header, flag, load, store,
};
use crate::tc::DROP;

/// Turns the packet into its answer and sends it.
#[inline(always)]
pub fn refuse(buffer: Buffer) -> i32 {
    mizzen_refuse(buffer)
}

/// [`refuse`], as the verifier wants it: see `choose.rs`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_refuse(buffer: *mut __sk_buff) -> i32 {
    let Some(packet) = Packet::read(buffer) else { return DROP };
    answer(buffer, &packet).unwrap_or(DROP)
}

#[inline(always)]
fn answer(buffer: Buffer, packet: &Packet) -> Option<i32> {
    // A reset is not answered, or two nodes would answer each other for ever.
    if packet.flags & flag::RST != 0 {
        return Some(DROP);
    }
    match (packet.is_v4(), packet.key.protocol) {
        (true, IPPROTO_TCP) => reset_v4(buffer, packet)?,
        (true, _) => unreachable_v4(buffer)?,
        (false, IPPROTO_TCP) => reset_v6(buffer, packet)?,
        (false, _) => unreachable_v6(buffer)?,
    }
    let [a, b, c, d, e, f]: [u16; 6] = load(buffer, 0)?;
    store(buffer, 0, &[d, e, f, a, b, c], 0)?;
    // SAFETY: the context is valid for the whole run of the program.
    Some(unsafe { bpf_redirect((*buffer).ifindex, 0) as i32 })
}

const HOPS: u8 = 64;
const TCP_LENGTH: u32 = 20;
const ICMP_LENGTH: u32 = 8;
const QUOTED: u32 = 8;

/// Sends the packet back with its beginning replaced.
#[inline(always)]
fn put<T>(buffer: Buffer, whole: &T) -> Option<()> {
    store(buffer, ETH_LENGTH, whole, u64::from(BPF_F_RECOMPUTE_CSUM))
}

#[inline(always)]
fn resize(buffer: Buffer, length: u32) -> Option<()> {
    // SAFETY: the helper takes the context of this program type.
    match unsafe { bpf_skb_change_tail(buffer, length, 0) } {
        0 => Some(()),
        _ => None,
    }
}

#[inline(always)]
fn answered_v4(header: &V4Header, length: u32, protocol: u8) -> V4Header {
    let mut answer = V4Header {
        length: (length as u16).to_be(),
        id: 0,
        fragment: u16::to_be(0x4000),
        hops: HOPS,
        protocol,
        checksum: 0,
        source: header.target,
        target: header.source,
        ..*header
    };
    let first = u32::from(u16::from_ne_bytes([answer.version_and_length, answer.service]));
    let life = u32::from(u16::from_ne_bytes([HOPS, protocol]));
    let lengths = u32::from(answer.length) + u32::from(answer.fragment);
    let sum = add(add(first + life + lengths, answer.source), answer.target);
    answer.checksum = checksum(sum);
    answer
}

#[inline(always)]
fn answered_v6(header: &V6Header, length: u32, protocol: u8) -> V6Header {
    V6Header {
        length: (length as u16).to_be(),
        next: protocol,
        hops: HOPS,
        source: header.target,
        target: header.source,
        ..*header
    }
}

/// What an IP header of `protocol` has in the checksum of `length` bytes, with addresses that add up to `addresses`.
#[inline(always)]
fn pseudo(addresses: u32, length: u32, protocol: u8) -> u32 {
    let protocol = u32::from(u16::from(protocol).to_be());
    add(add(addresses, protocol), u32::from((length as u16).to_be()))
}

#[derive(Clone, Copy)]
#[repr(C)]
struct ResetV4(V4Header, [u32; 5]);

#[derive(Clone, Copy)]
#[repr(C)]
struct ResetV6(V6Header, [u32; 5]);

#[inline(always)]
fn reset_v4(buffer: Buffer, packet: &Packet) -> Option<()> {
    let header: V4Header = load(buffer, ETH_LENGTH)?;
    let words: [u32; 5] = load(buffer, V4_END)?;
    let payload = u32::from(u16::from_be(header.length)).wrapping_sub(V4_END - ETH_LENGTH);
    let answer = answered_v4(&header, V4_END - ETH_LENGTH + TCP_LENGTH, IPPROTO_TCP);
    let under = pseudo(add(header.source, header.target), TCP_LENGTH, IPPROTO_TCP);
    resize(buffer, V4_END + TCP_LENGTH)?;
    put(buffer, &ResetV4(answer, reset(words, packet.flags, payload, under)))
}

#[inline(always)]
fn reset_v6(buffer: Buffer, packet: &Packet) -> Option<()> {
    let header: V6Header = load(buffer, ETH_LENGTH)?;
    let words: [u32; 5] = load(buffer, V6_END)?;
    let payload = u32::from(u16::from_be(header.length));
    let answer = answered_v6(&header, TCP_LENGTH, IPPROTO_TCP);
    let addresses = add_words(add_words(0, header.source), header.target);
    let under = pseudo(addresses, TCP_LENGTH, IPPROTO_TCP);
    resize(buffer, V6_END + TCP_LENGTH)?;
    put(buffer, &ResetV6(answer, reset(words, packet.flags, payload, under)))
}

/// The TCP header that resets what `words` began (RFC 9293, 3.10.7.1); `length` is that of header and data.
#[inline(always)]
fn reset(words: [u32; 5], flags: u8, length: u32, under: u32) -> [u32; 5] {
    let [ports, sequence, acknowledged, control, _] = words;
    let header = (control.to_ne_bytes()[0] >> 4) as u32 * 4;
    let (sequence, acknowledged, flags) = if flags & flag::ACK != 0 {
        (acknowledged, 0, flag::RST)
    } else {
        let begins = u32::from(flags & (flag::SYN | flag::FIN) != 0);
        let end =
            u32::from_be(sequence).wrapping_add(length.wrapping_sub(header)).wrapping_add(begins);
        (0, end.to_be(), flag::RST | flag::ACK)
    };
    let ports = ports.rotate_left(16);
    let control = u32::from(u16::from_ne_bytes([5 << 4, flags]));
    let sum = add(add(add(ports, sequence), acknowledged), control);
    let window = fold(change(change(0, under, 0), add(under, sum), 0));
    [ports, sequence, acknowledged, control | u32::from(window) << 16, u32::from(fold(under))]
}

#[derive(Clone, Copy)]
#[repr(C)]
struct UnreachableV4(V4Header, [u32; 2], V4Header, [u32; 2]);

#[derive(Clone, Copy)]
#[repr(C)]
struct UnreachableV6(V6Header, [u32; 2], V6Header, [u32; 2]);

#[inline(always)]
fn unreachable_v4(buffer: Buffer) -> Option<()> {
    let header: V4Header = load(buffer, ETH_LENGTH)?;
    let quoted: [u32; 2] = load(buffer, V4_END)?;
    let inner = V4_END - ETH_LENGTH + QUOTED;
    let answer = answered_v4(&header, V4_END - ETH_LENGTH + ICMP_LENGTH + inner, IPPROTO_ICMP);
    // The quoted header adds up to nothing, as its checksum sees to.
    let kind = u32::from(u16::from_ne_bytes([3, 3]));
    let sum = add(add(kind, quoted[0]), quoted[1]);
    let icmp = [kind | u32::from(checksum(sum)) << 16, 0];
    resize(buffer, V4_END + ICMP_LENGTH + inner)?;
    put(buffer, &UnreachableV4(answer, icmp, header, quoted))
}

#[inline(always)]
fn unreachable_v6(buffer: Buffer) -> Option<()> {
    let header: V6Header = load(buffer, ETH_LENGTH)?;
    let quoted: [u32; 2] = load(buffer, V6_END)?;
    let inner = V6_END - ETH_LENGTH + QUOTED;
    let answer = answered_v6(&header, ICMP_LENGTH + inner, IPPROTO_ICMPV6);
    let addresses = add_words(add_words(0, header.source), header.target);
    let under = u32::from(fold(pseudo(addresses, ICMP_LENGTH + inner, IPPROTO_ICMPV6)));
    let kind = u32::from(u16::from_ne_bytes([1, 4]));
    let next = u32::from(u16::from_ne_bytes([header.next, header.hops]));
    let header_sum = add(add(add(addresses, header.version), u32::from(header.length)), next);
    let sum = add(add(add(kind, header_sum), quoted[0]), quoted[1]);
    let icmp = [kind | u32::from(checksum(add(add(sum, under), under))) << 16, under << 16];
    resize(buffer, V6_END + ICMP_LENGTH + inner)?;
    put(buffer, &UnreachableV6(answer, icmp, header, quoted))
}
