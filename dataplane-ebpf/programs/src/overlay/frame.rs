//! A frame with an IP packet in it: read, and readdressed on its way.
//!
//! Whatever is unusual (options, a header that routers have to look at) is not read, and so left to
//! the ordinary path. Ports are not looked at, so fragments pass as well.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_store_bytes};
use mizzen_ebpf_abi::Ip16;
use mizzen_ebpf_abi::overlay::HardwareAddress;
use mizzen_ebpf_core::rewrite;

use crate::headers::{
    Buffer, ETH_LENGTH, ETH_P_IP, IPPROTO_TCP, IPPROTO_UDP, UDP_LENGTH, V4_END, V6_END, V6_LENGTH,
    V6Header, by_family, load, store,
};
use crate::judging;

/// What is known of a frame.
pub struct Frame {
    /// Whom it is for on this link.
    pub target: HardwareAddress,
    /// Where the packet comes from.
    pub from: Ip16,
    /// Where it goes.
    pub to: Ip16,
    /// Largest packet on the wire that it becomes part of (bytes, without the frame's header).
    pub size: u32,
    /// Of an IPv4 packet, the first words of its header.
    first: [u32; 2],
    /// Of any packet what IPv4 has in the next one; for IPv6 without a checksum.
    hop_word: HopWord,
}

/// What is written again when the frame of an IPv4 packet changes.
///
/// In words: each value that outlives a call takes eight bytes of the stack, and this program may use 224 of them on
/// Linux 6.1 (`judging/report.rs` says why).
#[derive(Clone, Copy)]
#[repr(C)]
struct V4Head {
    /// Version, service, length, number and fragment, which stay.
    first: [u32; 2],
    hop_word: HopWord,
}

/// Routers that it may still pass, what the packet carries, and the header's checksum: as they lie in memory.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct HopWord(u32);

impl HopWord {
    #[inline(always)]
    fn new(hops: u8, protocol: u8, checksum: u16) -> Self {
        let [low, high] = checksum.to_ne_bytes();
        Self(u32::from_ne_bytes([hops, protocol, low, high]))
    }

    #[inline(always)]
    fn hops(self) -> u8 {
        let [hops, ..] = self.0.to_ne_bytes();
        hops
    }

    #[inline(always)]
    fn protocol(self) -> u8 {
        let [_, protocol, ..] = self.0.to_ne_bytes();
        protocol
    }

    /// After one more router.
    #[inline(always)]
    fn counted(self) -> Self {
        let [hops, protocol, low, high] = self.0.to_ne_bytes();
        let word = |hops: u8| u32::from(u16::from_ne_bytes([hops, protocol]));
        let change = rewrite::change(0, word(hops), word(hops.wrapping_sub(1)));
        let checksum = rewrite::replaced(u16::from_ne_bytes([low, high]), change);
        Self::new(hops.wrapping_sub(1), protocol, checksum)
    }
}

/// The header of IPv4, without options.
#[derive(Clone, Copy)]
#[repr(C)]
struct V4Packet {
    head: V4Head,
    source: u32,
    target: u32,
}

/// The headers of a frame and of its packet. The first field lets the last one be aligned.
#[repr(C)]
struct Headers<T> {
    padding: u16,
    target: HardwareAddress,
    source: HardwareAddress,
    kind: u16,
    packet: T,
}

impl Frame {
    /// Reads the headers.
    #[inline(always)]
    pub fn read(buffer: Buffer) -> Option<Self> {
        by_family(buffer, Self::read_v4, Self::read_v6)
    }

    /// Routers that the packet may still pass.
    #[inline(always)]
    pub fn hops(&self) -> u8 {
        self.hop_word.hops()
    }

    /// Writes both addresses of the frame, and counts this router. Nothing if the packet was left as it is.
    #[inline(always)]
    pub fn readdress(
        self,
        buffer: Buffer,
        target: HardwareAddress,
        source: HardwareAddress,
    ) -> Option<Readdressed> {
        if self.from.is_v4() {
            let packet = V4Head { first: self.first, hop_word: self.hop_word.counted() };
            // All at once, up to the checksum; what lies between is what it was.
            return Headers { padding: 0, target, source, kind: ETH_P_IP, packet }
                .store(buffer)
                .map(|()| Readdressed::Whole);
        }
        store(buffer, 0, &[target, source], 0)?;
        let hops = self.hops().wrapping_sub(1);
        // The sum of the whole packet, where hardware has worked it out, has the hop limit in it.
        match store(buffer, ETH_LENGTH + 7, &hops, u64::from(BPF_F_RECOMPUTE_CSUM)) {
            Some(()) => Some(Readdressed::Whole),
            None => Some(Readdressed::Half),
        }
    }

    /// Whether policies let it pass.
    #[inline(always)]
    pub fn passes(&self, buffer: Buffer, place: u8) -> bool {
        let transport = if self.from.is_v4() { V4_END } else { V6_END };
        judging::passes(buffer, (self.from, self.to), self.hop_word.protocol(), transport, place)
    }

    /// Whether a TCP connection begins with it.
    #[inline(always)]
    pub fn begins(&self, buffer: Buffer) -> bool {
        let transport = if self.from.is_v4() { V4_END } else { V6_END };
        self.hop_word.protocol() == IPPROTO_TCP
            && load::<u8>(buffer, transport + 13).is_some_and(|flags| flags & SYN != 0)
    }

    #[inline(always)]
    fn read_v4(buffer: Buffer) -> Option<Self> {
        let headers: Headers<V4Packet> = Headers::load(buffer)?;
        let V4Packet { head, source, target } = headers.packet;
        let [version_and_length, _, high, low] = head.first[0].to_ne_bytes();
        if version_and_length != 0x45 {
            return None;
        }
        let length = u32::from(u16::from_be_bytes([high, low]));
        Some(Self {
            target: headers.target,
            from: Ip16::from_v4_word(source),
            to: Ip16::from_v4_word(target),
            size: size(buffer, length, head.hop_word.protocol(), V4_END)?,
            first: head.first,
            hop_word: head.hop_word,
        })
    }

    #[inline(always)]
    fn read_v6(buffer: Buffer) -> Option<Self> {
        let headers: Headers<V6Header> = Headers::load(buffer)?;
        let packet = headers.packet;
        let (from, to) = packet.ends();
        // Every router has to look at these options; and nobody may pass for an IPv4 address.
        if packet.next == HOP_BY_HOP || from.is_v4() || to.is_v4() {
            return None;
        }
        let length = V6_LENGTH + u32::from(u16::from_be(packet.length));
        Some(Self {
            target: headers.target,
            from,
            to,
            size: size(buffer, length, packet.next, V6_END)?,
            first: [0; 2],
            hop_word: HopWord::new(packet.hops, packet.next, 0),
        })
    }
}

/// How far a change came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Readdressed {
    /// To its end.
    Whole,
    /// The packet is of no use to anybody.
    Half,
}

impl<T: Copy> Headers<T> {
    #[inline(always)]
    fn load(buffer: Buffer) -> Option<Self> {
        let mut headers = MaybeUninit::<Self>::uninit();
        let place = headers.as_mut_ptr();
        // SAFETY: the first field is written here, and the others by the helper, if it succeeds; all are plain
        // numbers.
        unsafe {
            (&raw mut (*place).padding).write(0);
            let to = (&raw mut (*place).target).cast();
            let length = ETH_LENGTH + size_of::<T>() as u32;
            match bpf_skb_load_bytes(buffer.cast(), 0, to, length) {
                0.. => Some(headers.assume_init()),
                _ => None,
            }
        }
    }

    #[inline(always)]
    fn store(&self, buffer: Buffer) -> Option<()> {
        let length = ETH_LENGTH + size_of::<T>() as u32;
        // SAFETY: what lies behind the first field has no padding, and is as long as said.
        let status = unsafe {
            let from = core::ptr::from_ref(self).byte_add(offset_of!(Self, target));
            bpf_skb_store_bytes(buffer, 0, from.cast(), length, 0)
        };
        match status {
            0 => Some(()),
            _ => None,
        }
    }
}

/// Size on the wire of a packet of `length` bytes, or of the segments that it stands for.
#[inline(always)]
fn size(buffer: Buffer, length: u32, protocol: u8, transport: u32) -> Option<u32> {
    // SAFETY: the context is valid for the whole run of the program.
    let segment = unsafe { (*buffer).gso_size };
    if segment == 0 {
        return Some(length);
    }
    let header = match protocol {
        IPPROTO_TCP => u32::from(load::<u8>(buffer, transport + 12)? >> 4) * 4,
        IPPROTO_UDP => UDP_LENGTH,
        _ => return None,
    };
    Some(transport - ETH_LENGTH + header + segment)
}

/// The flag of TCP.
const SYN: u8 = 2;

/// The IPv6 header with options for every router.
const HOP_BY_HOP: u8 = 0;
