//! What comes out of the tunnel.

use aya_ebpf::helpers::generated::bpf_redirect_peer;
use mizzen_ebpf_abi::overlay::{Local, counter};
use mizzen_ebpf_abi::policy::place;

use crate::frame::{Frame, Readdressed};
use crate::headers::Buffer;
use crate::{DROP, maps};

/// At our end of a tunnel. Only containers with all of these flags are served.
#[inline(always)]
pub fn arrive(buffer: Buffer, flags: u32) -> Option<i32> {
    // SAFETY: the context is valid for the whole run of the program.
    let (came, kind) = unsafe { ((*buffer).ifindex, (*buffer).pkt_type) };
    maps::generation()?;
    if kind != PACKET_HOST {
        return None;
    }
    let frame = Frame::read(buffer)?;
    let receiver = maps::local(frame.to)?;
    let flags = flags | Local::RECEIVES;
    if receiver.tunnel != came || receiver.flags & flags != flags {
        return None;
    }
    if !maps::is_alive(receiver.link) {
        return None;
    }
    if frame.size > receiver.mtu || frame.hops() <= 1 {
        maps::count(counter::LEFT);
        return None;
    }
    let link = receiver.link;
    if !frame.passes(buffer, place::RECEIVER) {
        return Some(DROP);
    }
    if frame.readdress(buffer, receiver.target, receiver.source)? == Readdressed::Half {
        return Some(DROP);
    }
    maps::count(counter::DELIVERED);
    // SAFETY: the helper only notes where the packet is to go.
    Some(unsafe { bpf_redirect_peer(link, 0) } as i32)
}

const PACKET_HOST: u32 = 0;
