//! Headers of packets, and the bytes behind them: what the programs of VIPs and those of the overlay share.

#![allow(dead_code, reason = "not every program uses all of it")]

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_store_bytes};
use mizzen_ebpf_abi::Ip16;

/// The buffer that a program works on.
pub type Buffer = *mut __sk_buff;

/// Reads a packet as one of its family; nothing if it is of neither.
#[inline(always)]
pub fn by_family<T>(
    buffer: Buffer,
    v4: impl FnOnce(Buffer) -> Option<T>,
    v6: impl FnOnce(Buffer) -> Option<T>,
) -> Option<T> {
    // SAFETY: the context is valid for the whole run of the program.
    match unsafe { (*buffer).protocol } as u16 {
        ETH_P_IP => v4(buffer),
        ETH_P_IPV6 => v6(buffer),
        _ => None,
    }
}

/// Reads bytes of the packet.
#[inline(always)]
pub fn load<T: Copy>(buffer: Buffer, offset: u32) -> Option<T> {
    let mut bytes = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper fills in as many bytes as said or none; callers ask for plain numbers.
    unsafe {
        let size = size_of::<T>() as u32;
        // Zero or an error below it. Linux before 6.8 knows of a number that it is not below zero, but not that it
        // is not zero, and would follow a failed read to where its bytes are used.
        match bpf_skb_load_bytes(buffer.cast(), offset, bytes.as_mut_ptr().cast(), size) {
            0.. => Some(bytes.assume_init()),
            _ => None,
        }
    }
}

/// Writes bytes of the packet.
#[inline(always)]
pub fn store<T>(buffer: Buffer, offset: u32, bytes: &T, flags: u64) -> Option<()> {
    let from = (&raw const *bytes).cast();
    // SAFETY: `bytes` are as many as said, and have no padding.
    match unsafe { bpf_skb_store_bytes(buffer, offset, from, size_of::<T>() as u32, flags) } {
        0 => Some(()),
        _ => None,
    }
}

/// The header of IPv4, without options.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct V4Header {
    /// 0x45.
    pub version_and_length: u8,
    /// Type of service.
    pub service: u8,
    /// Bytes of the packet (network order, like all numbers here).
    pub length: u16,
    /// Number of the packet, for its fragments.
    pub id: u16,
    /// Flags and offset of a fragment.
    pub fragment: u16,
    /// Routers that it may still pass.
    pub hops: u8,
    /// Protocol number.
    pub protocol: u8,
    /// Checksum of this header.
    pub checksum: u16,
    /// Source address.
    pub source: u32,
    /// Target address.
    pub target: u32,
}

impl V4Header {
    /// Where the packet comes from, and where it goes.
    #[inline(always)]
    pub fn ends(&self) -> (Ip16, Ip16) {
        (Ip16::from_v4_word(self.source), Ip16::from_v4_word(self.target))
    }
}

/// The header of IPv6.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct V6Header {
    /// Version, traffic class and flow label.
    pub version: u32,
    /// Bytes after this header (network order).
    pub length: u16,
    /// Protocol number.
    pub next: u8,
    /// Routers that it may still pass.
    pub hops: u8,
    /// Source address.
    pub source: [u32; 4],
    /// Target address.
    pub target: [u32; 4],
}

impl V6Header {
    /// Where the packet comes from, and where it goes.
    #[inline(always)]
    pub fn ends(&self) -> (Ip16, Ip16) {
        (Ip16::from_v6_words(self.source), Ip16::from_v6_words(self.target))
    }
}

/// TCP's protocol number.
pub const IPPROTO_TCP: u8 = 6;
/// UDP's.
pub const IPPROTO_UDP: u8 = 17;
/// ICMP's.
pub const IPPROTO_ICMP: u8 = 1;
/// ICMPv6's.
pub const IPPROTO_ICMPV6: u8 = 58;

/// Bytes before the IP header; only links that have just these are attached to.
pub const ETH_LENGTH: u32 = 14;
/// Where the IPv4 header ends.
pub const V4_END: u32 = ETH_LENGTH + 20;
/// Where the IPv6 header ends.
pub const V6_END: u32 = ETH_LENGTH + V6_LENGTH;

/// Bytes of the IPv6 header.
pub const V6_LENGTH: u32 = 40;
/// Bytes of the UDP header.
pub const UDP_LENGTH: u32 = 8;
/// EtherType of IPv4, as it lies in memory.
pub const ETH_P_IP: u16 = 0x0800_u16.to_be();
/// EtherType of IPv6, likewise.
pub const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();
