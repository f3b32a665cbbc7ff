//! Flows that arrive: their keys, and how they begin. What becomes of them stands in `course.rs`.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use mizzen_ebpf_abi::{Be16, Flow, FlowKey, Ip16, Slot, stage};
use mizzen_ebpf_core::select::mix;

use crate::choose::{ATTEMPTS, Chance, Request, Stop, attempt, blank, copy, look_up};
use crate::counts::epoch_of;
use crate::course::is_living;
use crate::endpoint::Reach;
use crate::maps::{FLOWS, LINKS, ROWS, SLOTS};
use crate::packet::{IPPROTO_UDP, Packet};
use crate::sockets::now;
use crate::standing;

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
    /// What is asked of [`attempt`].
    request: Request,
}

/// Whether a packet goes to a VIP, which [`begin`] then knows.
#[inline(always)]
pub fn is_for_vip(packet: &Packet) -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
    let FlowKey { target, target_port, protocol, .. } = packet.key;
    // SAFETY: nobody else uses this CPU's element meanwhile.
    let asked = unsafe { &mut (*scratch).request.asked };
    let vip = &mut asked.vip;
    (vip.address, vip.port, vip.protocol, vip.reserved) = (target, target_port, protocol, 0);
    let Some(value) = look_up(vip) else { return false };
    // SAFETY: a place for a value.
    unsafe { copy(value, &mut asked.value) };
    true
}

/// Makes `other` the key of the packets that go the other way than those with `key`, one end of which is translated to
/// `address` and `port`: the requests' target to the backend, the answers' source to the VIP.
///
/// Field by field, because the stack has no room for another key.
#[inline(always)]
pub fn turn(other: &mut FlowKey, key: &FlowKey, kind: u8, address: Ip16, port: Be16) {
    match kind {
        Flow::REQUESTS => {
            (other.source, other.source_port) = (address, port);
            (other.target, other.target_port) = (key.source, key.source_port);
        }
        _ => {
            (other.source, other.source_port) = (key.target, key.target_port);
            (other.target, other.target_port) = (address, port);
        }
    }
    (other.protocol, other.reserved) = (key.protocol, [0; 3]);
}

/// Chooses a backend for a first packet, of which [`is_for_vip`] has been asked, and which came by the link with number
/// `came`; and remembers it.
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

/// [`begin`], as the verifier wants it: see `choose.rs`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_begin(came: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return NOT_A_VIP };
    // SAFETY: nobody else uses this CPU's element meanwhile.
    let scratch = unsafe { &mut *scratch };
    ask(&scratch.key, &mut scratch.request);
    let slot = match pick(scratch, came) {
        Ok(slot) => slot,
        Err(Stop::NotAVip) => return NOT_A_VIP,
        Err(Stop::NoBackend) => return NO_BACKEND,
    };
    let Scratch { key, flow, .. } = scratch;
    (flow.address, flow.port, flow.kind) = (slot.address, slot.port, Flow::REQUESTS);
    (flow.came, flow.leaves, flow.neighbour) = (came, 0, 0);
    flow.epoch = epoch_of(slot.row);
    if FLOWS.insert(&*key, &*flow, 0).is_err() {
        return NO_BACKEND;
    }
    if let Some(row) = ROWS.get_ptr_mut(slot.row) {
        // SAFETY: an element of an array map: aligned and never freed.
        match key.protocol {
            IPPROTO_UDP => unsafe { standing::begins(row) },
            _ => unsafe { standing::handshake_begins(row, flow.chosen_at) },
        }
    }
    BEGUN
}

/// Finds a backend whose answers can be told from those of all other flows, and remembers them.
#[inline(always)]
fn pick(scratch: &mut Scratch, came: u32) -> Result<&'static Slot, Stop> {
    for _ in 0..ATTEMPTS {
        let Some(slot) = attempt(&mut scratch.request)? else { continue };
        // A client that is its own backend would get packets that seem to come from itself.
        if slot.address != scratch.key.source && mizzen_expect(came) == EXPECTED {
            return Ok(slot);
        }
    }
    Err(Stop::NoBackend)
}

const EXPECTED: u32 = 1;
const TAKEN: u32 = 0;

/// Remembers what becomes of the answers of the backend that was chosen, unless they would be taken for those of
/// another flow.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_expect(came: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return TAKEN };
    // SAFETY: nobody else uses this CPU's element meanwhile.
    let Scratch { key, other, flow, request } = unsafe { &mut *scratch };
    let Some(slot) = SLOTS.get(request.answer.slot) else { return TAKEN };
    turn(other, key, Flow::REQUESTS, slot.address, slot.port);
    begin_at(flow, slot.row, request, key.protocol);
    (flow.address, flow.port, flow.kind) = (key.target, key.target_port, Flow::ANSWERS);
    let back = behind(came, key.source);
    (flow.leaves, flow.mtu, flow.neighbour) = (back.link, back.mtu, back.neighbour);
    let is_remembered = FLOWS.insert(&*other, &*flow, u64::from(BPF_NOEXIST)).is_ok()
        || !is_taken(other, key) && FLOWS.insert(&*other, &*flow, 0).is_ok();
    if is_remembered { EXPECTED } else { TAKEN }
}

/// Asks for a backend for packets with this key, whose VIP has been looked up.
#[inline(always)]
fn ask(key: &FlowKey, request: &mut Request) {
    let Request { asked, answer } = request;
    let reach = if key.target.is_v4() { Reach::V4 } else { Reach::V6 };
    // SAFETY: a place in a map.
    unsafe { blank(answer, Chance::Random, reach) };
    asked.client = number_of(key.source);
    let ports = u64::from(key.source_port.to_network()) << 16;
    asked.connection = mix(asked.client ^ (ports | u64::from(key.target_port.to_network())));
    asked.now = now();
}

/// What both elements of a new flow have in common.
#[inline(always)]
fn begin_at(flow: &mut Flow, row: u32, request: &Request, protocol: u8) {
    let now = request.asked.now;
    let is_datagram = protocol == IPPROTO_UDP;
    let first = if is_datagram { stage::ESTABLISHED } else { stage::STARTED };
    flow.row = row;
    flow.state = u64::from(first);
    flow.epoch = 0;
    flow.decision = request.answer.decision;
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
