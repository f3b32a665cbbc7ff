//! A frame with an IP packet in it: read, and readdressed on its way.
//!
//! Whatever is unusual (options, a header that routers have to look at) is not read, and so left to
//! the ordinary path. Ports are not looked at, so fragments pass as well.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use mizzen_ebpf_abi::Ip16;
use mizzen_ebpf_abi::overlay::HardwareAddress;
use mizzen_ebpf_core::rewrite;

use crate::headers::{
    Buffer, ETH_LENGTH, ETH_P_IP, ETH_P_IPV6, IPPROTO_TCP, IPPROTO_UDP, UDP_LENGTH, V4_END,
    V4Header, V6_END, V6_LENGTH, V6Header, load, store,
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
    /// Routers that it may still pass.
    pub hops: u8,
    /// What the packet carries.
    protocol: u8,
    /// Of an IPv4 packet; zero for others.
    v4: V4Head,
}

/// What is written again when the frame of an IPv4 packet changes.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct V4Head {
    /// The header's first eight bytes, which stay.
    first: [u16; 4],
    hops_and_protocol: u16,
    checksum: u16,
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
        // SAFETY: the context is valid for the whole run of the program.
        match unsafe { (*buffer).protocol } as u16 {
            ETH_P_IP => Self::read_v4(buffer),
            ETH_P_IPV6 => Self::read_v6(buffer),
            _ => None,
        }
    }

    /// Writes both addresses of the frame, and counts this router. Nothing if the packet was left as it is.
    #[inline(always)]
    pub fn readdress(
        self,
        buffer: Buffer,
        target: HardwareAddress,
        source: HardwareAddress,
    ) -> Option<Readdressed> {
        let hops = self.hops.wrapping_sub(1);
        if self.from.is_v4() {
            let [_, protocol] = self.v4.hops_and_protocol.to_ne_bytes();
            let counted = u16::from_ne_bytes([hops, protocol]);
            let (old, new) = (u32::from(self.v4.hops_and_protocol), u32::from(counted));
            let checksum = rewrite::replaced(self.v4.checksum, rewrite::change(0, old, new));
            let head = V4Head { hops_and_protocol: counted, checksum, ..self.v4 };
            // All at once, up to the checksum; what lies between is what it was.
            return store(buffer, 0, &V4Frame { target, source, kind: ETH_P_IP, head }, 0)
                .map(|()| Readdressed::Whole);
        }
        store(buffer, 0, &[target, source], 0)?;
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
        judging::passes(buffer, (self.from, self.to), self.protocol, transport, place)
    }

    /// Whether a TCP connection begins with it.
    #[inline(always)]
    pub fn begins(&self, buffer: Buffer) -> bool {
        let transport = if self.from.is_v4() { V4_END } else { V6_END };
        self.protocol == IPPROTO_TCP
            && load::<u8>(buffer, transport + 13).is_some_and(|flags| flags & SYN != 0)
    }

    #[inline(always)]
    fn read_v4(buffer: Buffer) -> Option<Self> {
        let headers: Headers<V4Header> = Headers::load(buffer)?;
        let packet = headers.packet;
        if packet.version_and_length != 0x45 {
            return None;
        }
        Some(Self {
            target: headers.target,
            from: Ip16::from_v4_word(packet.source),
            to: Ip16::from_v4_word(packet.target),
            size: size(buffer, u32::from(u16::from_be(packet.length)), packet.protocol, V4_END)?,
            hops: packet.hops,
            protocol: packet.protocol,
            v4: V4Head {
                first: [
                    u16::from_ne_bytes([packet.version_and_length, packet.service]),
                    packet.length,
                    packet.id,
                    packet.fragment,
                ],
                hops_and_protocol: u16::from_ne_bytes([packet.hops, packet.protocol]),
                checksum: packet.checksum,
            },
        })
    }

    #[inline(always)]
    fn read_v6(buffer: Buffer) -> Option<Self> {
        let headers: Headers<V6Header> = Headers::load(buffer)?;
        let packet = headers.packet;
        let (from, to) = (Ip16::from_v6_words(packet.source), Ip16::from_v6_words(packet.target));
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
            hops: packet.hops,
            protocol: packet.next,
            v4: V4Head::default(),
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
                0 => Some(headers.assume_init()),
                _ => None,
            }
        }
    }
}

/// The frame's header and an IPv4 packet's up to its checksum.
#[repr(C)]
struct V4Frame {
    target: HardwareAddress,
    source: HardwareAddress,
    kind: u16,
    head: V4Head,
}

const _: () = assert!(size_of::<V4Frame>() == 26, "up to the checksum");

/// Size on the wire of a packet of `length` bytes, or of the segments that it stands for.
#[inline(always)]
fn size(buffer: Buffer, length: u32, protocol: u8, transport: u32) -> Option<u32> {
    // SAFETY: as in `read`.
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
