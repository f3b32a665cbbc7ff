//! Flows that arrive: their keys, and how they begin. What becomes of them stands in `course.rs`.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use mizzen_ebpf_abi::{Be16, Flow, FlowKey, Ip16, Row, VipKey, stage};
use mizzen_ebpf_core::select::mix;

use crate::choose::{Request, Stop, choose};
use crate::connect::{Begun, count_choice};
use crate::counts::add;
use crate::course::is_living;
use crate::endpoint::Reach;
use crate::maps::{FLOWS, LINKS, ROWS};
use crate::packet::{IPPROTO_UDP, Packet};
use crate::sockets::now;

/// What the stack has no room for. Programs on links run one at a time on each CPU.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

#[repr(C)]
pub struct Scratch {
    /// Ends of the packet.
    pub key: FlowKey,
    /// Of the packets that go the other way.
    pub other: FlowKey,
    /// The flow that begins.
    flow: Flow,
    /// What is asked of [`choose`].
    request: Request,
}

/// The VIP that a packet goes to, if it is one.
#[inline(always)]
pub fn vip_of(key: &FlowKey) -> VipKey {
    VipKey { address: key.target, port: key.target_port, protocol: key.protocol, reserved: 0 }
}

/// Key of the packets that go the other way than those with `key`, one end of which is translated to `address` and
/// `port`: the requests' target to the backend, the answers' source to the VIP.
#[inline(always)]
pub fn other_of(key: &FlowKey, kind: u8, address: Ip16, port: Be16) -> FlowKey {
    let is_request = kind == Flow::REQUESTS;
    FlowKey {
        source: if is_request { address } else { key.target },
        target: if is_request { key.source } else { address },
        source_port: if is_request { port } else { key.target_port },
        target_port: if is_request { key.source_port } else { port },
        protocol: key.protocol,
        reserved: [0; 3],
    }
}

/// Chooses a backend for a first packet, which came by the link with number `came`, and remembers it.
#[inline(always)]
pub fn begin(packet: &Packet, came: u32) -> Result<(Ip16, Be16), Stop> {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return Err(Stop::NotAVip) };
    // SAFETY: nobody else uses this CPU's element meanwhile.
    unsafe {
        (*scratch).key = packet.key;
        match mizzen_begin(came) {
            BEGUN => Ok(((*scratch).flow.address, (*scratch).flow.port)),
            NOT_A_VIP => Err(Stop::NotAVip),
            _ => Err(Stop::NoBackend),
        }
    }
}

const BEGUN: u32 = 0;
const NOT_A_VIP: u32 = 1;
const NO_BACKEND: u32 = 2;

/// Backends that are tried before the packet is refused, if their answers could not be told from those of another
/// flow.
const ATTEMPTS: u32 = 3;

/// [`begin`], as the verifier wants it: see `choose.rs`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_begin(came: u32) -> u32 {
    let now = now();
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return NOT_A_VIP };
    // SAFETY: nobody else uses this CPU's element meanwhile.
    let Scratch { key, other, flow, request } = unsafe { &mut *scratch };
    let reach = if key.target.is_v4() { Reach::V4 } else { Reach::V6 };
    let client = number_of(key.source);
    let ports = u64::from(key.source_port.to_network()) << 16;
    let connection = mix(client ^ (ports | u64::from(key.target_port.to_network())));
    *request = Request::new(vip_of(key), reach, connection, client, now);
    for _ in 0..ATTEMPTS {
        let slot = match choose(request) {
            Ok(slot) => slot,
            Err(Stop::NotAVip) => return NOT_A_VIP,
            Err(Stop::NoBackend) => return NO_BACKEND,
        };
        *other = other_of(key, Flow::REQUESTS, slot.address, slot.port);
        // A client that is its own backend would get packets that seem to come from itself.
        if slot.address == key.source || is_taken(other, key) {
            continue;
        }
        begin_at(flow, slot.row, request, key.protocol, now);
        (flow.address, flow.port, flow.kind) = (key.target, key.target_port, Flow::ANSWERS);
        let back = behind(came, key.source);
        (flow.leaves, flow.mtu, flow.neighbour) = (back.link, back.mtu, back.neighbour);
        if FLOWS.insert(&*other, &*flow, 0).is_err() {
            return NO_BACKEND;
        }
        (flow.address, flow.port, flow.kind) = (slot.address, slot.port, Flow::REQUESTS);
        (flow.came, flow.leaves, flow.neighbour) = (came, 0, 0);
        let datagram = key.protocol == IPPROTO_UDP;
        flow.epoch = count_choice(slot.row, if datagram { Begun::Flow } else { Begun::Nothing });
        if FLOWS.insert(&*key, &*flow, 0).is_err() {
            return NO_BACKEND;
        }
        if !datagram && let Some(row) = ROWS.get_ptr_mut(slot.row) {
            // SAFETY: an element of an array map: aligned and never freed.
            unsafe { started(row, now) };
        }
        return BEGUN;
    }
    NO_BACKEND
}

/// A handshake begins.
///
/// # Safety
///
/// `row` is an element of `ROWS`.
#[inline(always)]
unsafe fn started(row: *mut Row, since: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let pending = (*row).started.wrapping_sub((*row).established);
        if pending == (*row).failed {
            (&raw mut (*row).waiting_since).write_volatile(since);
        }
        add(&raw mut (*row).started, 1);
        add(&raw mut (*row).in_flight, 1);
    }
}

/// What both elements of a new flow have in common.
#[inline(always)]
fn begin_at(flow: &mut Flow, row: u32, request: &Request, protocol: u8, now: u64) {
    let is_datagram = protocol == IPPROTO_UDP;
    let first = if is_datagram { stage::ESTABLISHED } else { stage::STARTED };
    flow.row = row;
    flow.state = u64::from(first);
    flow.epoch = 0;
    flow.decision = request.decision;
    flow.chosen_at = now;
    flow.established_at = if is_datagram { now } else { 0 };
    flow.last = now;
    flow.came = 0;
    flow.reserved_too = 0;
}

/// The way to somebody.
pub struct Way {
    /// Link that leads there; zero if none of ours does.
    pub link: u32,
    /// Largest packet that it takes (bytes).
    pub mtu: u32,
    /// Not zero if no router is between.
    pub neighbour: u8,
}

/// The way to `whom`, whose packets come by this link.
#[inline(always)]
pub fn behind(link: u32, whom: Ip16) -> Way {
    // SAFETY: user space replaces whole elements only.
    match unsafe { LINKS.get(link) } {
        Some(link) => {
            let [first, second] = &link.networks;
            let neighbour = u8::from(first.has(whom) || second.has(whom));
            Way { link: link.way_back, mtu: link.mtu, neighbour }
        }
        None => Way { link: 0, mtu: 0, neighbour: 0 },
    }
}

/// Whether answers with this key belong to a living flow to another VIP.
#[inline(always)]
fn is_taken(answers: &FlowKey, key: &FlowKey) -> bool {
    let Some(known) = FLOWS.get_ptr_mut(answers) else { return false };
    // SAFETY: an element of a map; a wrong answer refuses one connection or confuses two.
    unsafe {
        is_living((*known).state)
            && ((*known).address != key.target || (*known).port != key.target_port)
    }
}

/// What `address` is as a number.
#[inline(always)]
fn number_of(address: Ip16) -> u64 {
    let [first, second, third, fourth] = address.words();
    let upper = u64::from(first) << 32 | u64::from(second);
    mix(mix(upper) ^ (u64::from(third) << 32 | u64::from(fourth)))
}
