//! Packets on links: client → VIP becomes client → backend, and back.
//!
//! The client's address stays what it is, so answers have to come back through this node.
//!
//! The kernel routes the first packet of a flow: its firewall, its masquerading and its routes
//! apply. Links tell the rest. Where the client's packets come in, answers go out; where the
//! backend's answers come in, requests go out, and from then on packets pass from link to link
//! without routing. What cannot take that way is routed as well: a packet too large for it,
//! one at the end of its life (the kernel tells its sender), backends on this node itself or
//! behind a link that is not ours, and now and then a packet that nobody answers, because the
//! route may have changed.

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_redirect_neigh};
use mizzen_ebpf_abi::{Be16, Flow, Ip16, Link};

use crate::choose::Stop;
use crate::course::{self, Course};
use crate::flow;
use crate::icmp::{self, Way};
use crate::maps::{FLOWS, LINKS};
use crate::packet::{Buffer, Hop, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_UDP, Packet, Side, flag};
use crate::refuse;

/// The packet goes on as if there were no program.
pub const NEXT: i32 = -1;
/// The packet is dropped.
pub const DROP: i32 = 2;

/// What happens to a packet that comes in by a link of ours.
#[inline(always)]
pub fn arrive(buffer: Buffer) -> i32 {
    if !concerns_us(buffer) {
        return NEXT;
    }
    let Some(packet) = Packet::read(buffer) else { return NEXT };
    if is_icmp(&packet) {
        return icmp::verdict(buffer, Way::In);
    }
    // SAFETY: the context is valid for the whole run of the program.
    let came = unsafe { (*buffer).ifindex };
    if let Some(flow) = FLOWS.get_ptr_mut(packet.key) {
        let now = now();
        // SAFETY: an element of a map.
        if unsafe { (*flow).kind } == Flow::ANSWERS {
            return answer(buffer, &packet, flow, came, now).unwrap_or(NEXT);
        }
        let exit = Exit::read(flow);
        let course = match course::is_news(&packet, flow, came, now) {
            true => course::note(&packet, flow, came),
            false => Course::GoOn,
        };
        if course != Course::Anew {
            return request(buffer, &packet, &exit, course).unwrap_or(DROP);
        }
    }
    first(buffer, &packet, came).unwrap_or(DROP)
}

/// What happens to a packet that leaves by a link of ours.
#[inline(always)]
pub fn depart(buffer: Buffer) -> i32 {
    // SAFETY: the context is valid for the whole run of the program, which may write this field.
    unsafe {
        if (*buffer).tc_index == DONE {
            (&raw mut (*buffer).tc_index).write_volatile(0);
            return NEXT;
        }
    }
    let Some(packet) = Packet::read(buffer) else { return NEXT };
    if is_icmp(&packet) {
        return icmp::verdict(buffer, Way::Out);
    }
    let Some(flow) = FLOWS.get_ptr_mut(packet.key) else { return NEXT };
    // SAFETY: an element of a map.
    if unsafe { (*flow).kind } != Flow::ANSWERS {
        return NEXT;
    }
    // None of our links brought it, or it would have been translated there.
    answer(buffer, &packet, flow, 0, now()).unwrap_or(NEXT)
}

/// Passes a packet on by a link, without routing: to a `neighbour` there, or to whom the routes name on that link.
#[inline(always)]
pub fn pass_on(buffer: Buffer, link: u32, neighbour: Option<Ip16>) -> i32 {
    let mut next: [u32; 5];
    let (next, length) = match neighbour {
        None => (core::ptr::null_mut(), 0),
        Some(address) => {
            let [first, second, third, fourth] = address.words();
            next = match address.is_v4() {
                true => [AF_INET, fourth, 0, 0, 0],
                false => [AF_INET6, first, second, third, fourth],
            };
            (next.as_mut_ptr().cast(), size_of_val(&next) as i32)
        }
    };
    // SAFETY: the program may write this field. What is next is a `bpf_redir_neigh`: a family and an address.
    unsafe {
        (&raw mut (*buffer).tc_index).write_volatile(DONE);
        bpf_redirect_neigh(link, next, length, 0) as i32
    }
}

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// Says to the program at the way out that nothing is left to do.
const DONE: u32 = 0x6d7a;

/// Nanoseconds for which late packets of an ended flow are translated: TCP's `TIME_WAIT`.
const LINGER: u64 = 60_000_000_000;

/// A link sees packets for others if somebody listens in, and a bridge's port always does.
#[inline(always)]
fn concerns_us(buffer: Buffer) -> bool {
    // SAFETY: the context is valid for the whole run of the program.
    let (kind, link) = unsafe { ((*buffer).pkt_type, (*buffer).ifindex) };
    match kind {
        PACKET_HOST => true,
        // SAFETY: read at once.
        PACKET_OTHERHOST => {
            unsafe { LINKS.get(link) }.is_some_and(|link| link.flags & Link::PORT != 0)
        }
        _ => false,
    }
}

const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;

#[inline(always)]
fn is_icmp(packet: &Packet) -> bool {
    packet.key.protocol == IPPROTO_ICMP || packet.key.protocol == IPPROTO_ICMPV6
}

/// A packet that belongs to no flow.
#[inline(always)]
fn first(buffer: Buffer, packet: &Packet, came: u32) -> Option<i32> {
    if !flow::is_for_vip(packet) {
        return Some(NEXT);
    }
    let begins = packet.flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN;
    if packet.key.protocol != IPPROTO_UDP && !begins {
        return Some(refuse::refuse(buffer));
    }
    match flow::begin(packet, came) {
        Ok((address, port)) => {
            packet.change(buffer, Side::Target, address, port, Hop::Leave)?;
            Some(NEXT)
        }
        Err(Stop::NotAVip) => Some(NEXT),
        Err(Stop::NoBackend) => Some(refuse::refuse(buffer)),
    }
}

/// Where packets of one direction of a flow go. Read before anything is noted, as the last packet is forgotten with
/// its flow.
struct Exit {
    address: Ip16,
    port: Be16,
    is_neighbour: bool,
    link: u32,
    mtu: u32,
}

impl Exit {
    #[inline(always)]
    fn read(flow: *mut Flow) -> Self {
        // SAFETY: an element of a map, whose fields are plain numbers that others change as well.
        unsafe {
            Self {
                address: (*flow).address,
                port: (*flow).port,
                is_neighbour: (*flow).neighbour != 0,
                link: (*flow).leaves,
                mtu: (*flow).mtu,
            }
        }
    }
}

/// A packet of a known flow, from its client.
#[inline(always)]
fn request(buffer: Buffer, packet: &Packet, exit: &Exit, course: Course) -> Option<i32> {
    let Exit { address, port, link, .. } = *exit;
    if link != 0 && course == Course::GoOn && packet.size <= exit.mtu && packet.hops > 1 {
        packet.change(buffer, Side::Target, address, port, Hop::Count)?;
        return Some(pass_on(buffer, link, exit.is_neighbour.then_some(address)));
    }
    packet.change(buffer, Side::Target, address, port, Hop::Leave)?;
    Some(NEXT)
}

/// A packet from a backend, which came by a link of ours or (zero) is about to leave by one.
#[inline(always)]
fn answer(buffer: Buffer, packet: &Packet, flow: *mut Flow, came: u32, now: u64) -> Option<i32> {
    let Exit { address, port, is_neighbour, link, mtu } = Exit::read(flow);
    // SAFETY: an element of a map.
    let is_late =
        unsafe { !course::is_living((*flow).state) && now.saturating_sub((*flow).last) > LINGER };
    if is_late {
        return None;
    }
    if course::is_news(packet, flow, came, now) {
        course::note(packet, flow, came);
    }
    if came == 0 || link == 0 {
        packet.change(buffer, Side::Source, address, port, Hop::Leave)?;
        return Some(NEXT);
    }
    if packet.size > mtu || packet.hops <= 1 {
        // The kernel tells the backend, under the addresses that the backend knows.
        return None;
    }
    packet.change(buffer, Side::Source, address, port, Hop::Count)?;
    Some(pass_on(buffer, link, is_neighbour.then_some(packet.key.target)))
}

/// Nanoseconds of `CLOCK_MONOTONIC` as of the last tick, which costs a packet next to nothing.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_coarse_ns() }
}
