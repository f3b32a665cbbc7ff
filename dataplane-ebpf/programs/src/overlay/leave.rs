//! What a container sends.

use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_peer, bpf_skb_change_type};
use mizzen_ebpf_abi::overlay::{Course, Local, Peer, counter};
use mizzen_ebpf_abi::policy::place;

use crate::frame::{Frame, Readdressed};
use crate::headers::Buffer;
use crate::{DROP, maps};

/// At the host's end of a container's pair of links. Only containers with all of these flags are served.
#[inline(always)]
pub fn leave(buffer: Buffer, flags: u32) -> Option<i32> {
    let generation = maps::generation()?;
    let frame = Frame::read(buffer)?;
    // SAFETY: the context is valid for the whole run of the program.
    let link = unsafe { (*buffer).ifindex };
    let course = maps::course(frame.from, frame.to)?;
    // SAFETY: an element of this CPU's own array.
    let known = unsafe { &mut *course };
    let is_known = known.generation == generation
        && known.link == link
        && known.to == frame.to
        && known.from == frame.from
        && known.gateway == frame.target;
    if is_known {
        return match known.flags & flags == flags {
            true => away(buffer, frame, &known.peer),
            false => None,
        };
    }
    let sender = maps::local(frame.from)?;
    // A container speaks for its own addresses only.
    let flags = flags | Local::SENDS;
    if sender.link != link || sender.flags & flags != flags {
        return None;
    }
    if frame.target != sender.source {
        return beside(buffer, &frame, sender, flags & Local::HOOKED);
    }
    let peer = maps::peer(frame.to)?;
    if peer.group != sender.group {
        return None;
    }
    *known = Course {
        from: frame.from,
        to: frame.to,
        link,
        generation,
        flags: sender.flags,
        gateway: frame.target,
        reserved: 0,
        peer: *peer,
    };
    away(buffer, frame, peer)
}

/// To another node: what the container hands to its router.
#[inline(always)]
fn away(buffer: Buffer, frame: Frame, peer: &Peer) -> Option<i32> {
    if frame.size > peer.mtu || frame.hops() <= 1 {
        // The kernel tells the sender.
        maps::count(counter::LEFT);
        return None;
    }
    if peer.flags & Peer::NARROW != 0 && frame.begins(buffer) {
        return None;
    }
    if !frame.passes(buffer, place::SENDER) {
        return Some(DROP);
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
fn beside(buffer: Buffer, frame: &Frame, sender: &Local, flags: u32) -> Option<i32> {
    let receiver = maps::local(frame.to)?;
    let is_beside = receiver.target == frame.target
        && receiver.source == sender.source
        && receiver.group == sender.group
        && receiver.link != sender.link;
    let flags = flags | Local::RECEIVES;
    if !is_beside || receiver.flags & flags != flags || !maps::is_alive(receiver.link) {
        return None;
    }
    if frame.size > receiver.mtu {
        maps::count(counter::LEFT);
        return None;
    }
    // What its link would look at.
    if !frame.passes(buffer, place::RECEIVER) {
        return Some(DROP);
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
