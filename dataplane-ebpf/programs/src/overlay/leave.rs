//! What a container sends.

use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_peer, bpf_skb_change_type};
use mizzen_ebpf_abi::overlay::{Local, counter};

use crate::frame::{Frame, Readdressed};
use crate::headers::Buffer;
use crate::{DROP, maps};

/// At the host's end of a container's pair of links.
#[inline(always)]
pub fn leave(buffer: Buffer) -> Option<i32> {
    if !maps::is_on() {
        return None;
    }
    let frame = Frame::read(buffer)?;
    let sender = maps::local(frame.from)?;
    // SAFETY: the context is valid for the whole run of the program.
    let came = unsafe { (*buffer).ifindex };
    // A container speaks for its own addresses only.
    if sender.link != came || sender.flags & Local::SENDS == 0 {
        return None;
    }
    match frame.target == sender.source {
        true => away(buffer, frame, sender),
        false => beside(buffer, &frame, sender),
    }
}

/// To another node: what the container hands to its router.
#[inline(always)]
fn away(buffer: Buffer, frame: Frame, sender: &Local) -> Option<i32> {
    let peer = maps::peer(frame.to)?;
    if peer.tunnel != sender.tunnel {
        return None;
    }
    if frame.size > peer.mtu || frame.hops <= 1 {
        // The kernel tells the sender.
        maps::count(counter::LEFT);
        return None;
    }
    let tunnel = peer.tunnel;
    if frame.readdress(buffer, peer.target, peer.source)? == Readdressed::Half {
        return Some(DROP);
    }
    maps::count(counter::SENT);
    // SAFETY: the helper only notes where the packet is to go.
    Some(unsafe { bpf_redirect(tunnel, 0) } as i32)
}

/// To a container at the same bridge, which no router stands between.
#[inline(always)]
fn beside(buffer: Buffer, frame: &Frame, sender: &Local) -> Option<i32> {
    let receiver = maps::local(frame.to)?;
    let is_beside = receiver.target == frame.target
        && receiver.source == sender.source
        && receiver.tunnel == sender.tunnel
        && receiver.link != sender.link;
    if !is_beside || receiver.flags & Local::RECEIVES == 0 || !maps::is_alive(receiver.link) {
        return None;
    }
    if frame.size > receiver.mtu {
        maps::count(counter::LEFT);
        return None;
    }
    // SAFETY: the context is valid. On the host's end the packet is one for others.
    if unsafe { bpf_skb_change_type(buffer, PACKET_HOST) } != 0 {
        return None;
    }
    maps::count(counter::BESIDE);
    // SAFETY: as in `away`.
    Some(unsafe { bpf_redirect_peer(receiver.link, 0) } as i32)
}

const PACKET_HOST: u32 = 0;
