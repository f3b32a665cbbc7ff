//! Flows that arrive: followed, judged, ended.
//!
//! They count in the same rows as the sockets of this node, so a backend that is slow or sick
//! is so for both.
//!
//! ```text
//! SYN ──▶ STARTED ──SYN-ACK──▶ ESTABLISHED ──FIN both ways, RST──▶ CLOSED
//!            └──RST, or the SYN comes again──▶ FAILED, and the SYN goes elsewhere
//!                                                                 the last ACK, RST ──▶ forgotten
//! first datagram ──▶ ESTABLISHED ──silence──▶ CLOSED (the next datagram begins anew)
//! ```

use mizzen_ebpf_abi::{Flow, FlowKey, stage};

use crate::counts::{replace, row_at};
use crate::flow::{SCRATCH, Scratch, behind, turn};
use crate::maps::{FLOWS, settings};
use crate::packet::{IPPROTO_UDP, Packet, flag};
use crate::sockets::now;
use crate::standing::{self, Sample};

/// What a packet of a known flow is to be done with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It belongs to the flow.
    GoOn = 0,
    /// It belongs to the flow, of which nothing has been heard for a while: the route may have changed.
    Route = 1,
    /// It begins another flow.
    Anew = 2,
}

/// Whether there may be something to note about a packet of a known flow: it says how the connection stands, came by
/// another link than those before, or is the first for a while.
#[inline(always)]
pub fn is_news(packet: &Packet, flow: *mut Flow, came: u32, now: u64) -> bool {
    // SAFETY: an element of a map, whose fields are read once each.
    unsafe {
        packet.flags & (flag::SYN | flag::FIN | flag::RST) != 0
            || !is_living((*flow).state)
            || (*flow).came != came
            || now.saturating_sub((*flow).last) > SELDOM
            || packet.key.protocol == IPPROTO_UDP && !has_backend(flow)
    }
}

/// Notes what a packet of a known flow says.
#[inline(always)]
pub fn note(packet: &Packet, flow: *mut Flow, came: u32) -> Course {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return Course::GoOn };
    // SAFETY: nobody else uses this CPU's element meanwhile.
    unsafe { (*scratch).key = packet.key };
    match mizzen_note(flow, came, u32::from(packet.flags)) {
        0 => Course::GoOn,
        1 => Course::Route,
        _ => Course::Anew,
    }
}

/// Nanoseconds between two looks at what seldom changes.
const SELDOM: u64 = 1_000_000_000;
/// Nanoseconds without an answer after which a packet is routed.
const UNANSWERED: u64 = 3_000_000_000;

/// [`note`], as the verifier wants it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_note(flow: *mut Flow, came: u32, flags: u32) -> u32 {
    if flow.is_null() {
        return Course::GoOn as u32;
    }
    let now = now();
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return Course::GoOn as u32 };
    // SAFETY: nobody else uses this CPU's element meanwhile.
    let Scratch { key, other, .. } = unsafe { &mut *scratch };
    // SAFETY: an element of a map, whose fields are plain numbers.
    let (kind, address, port) = unsafe { ((*flow).kind, (*flow).address, (*flow).port) };
    turn(other, key, kind, address, port);
    if is_last(flow, key, flags) {
        forget(key, other);
        return Course::GoOn as u32;
    }
    if take_in(flow, other, kind, key.protocol, flags, now) {
        // Should the backend still answer, nobody must take that for another backend's.
        let _ = FLOWS.remove(&*other);
        return Course::Anew as u32;
    }
    // Of a connection that was reset nothing more comes.
    if is_last(flow, key, flags) {
        forget(key, other);
        return Course::GoOn as u32;
    }
    // SAFETY: elements of a map; the last writer may win.
    unsafe {
        if (*flow).came != came {
            (&raw mut (*flow).came).write_volatile(came);
            if let Some(opposite) = FLOWS.get_ptr_mut(&*other) {
                let way = behind(came, key.source);
                (&raw mut (*opposite).mtu).write_volatile(way.mtu);
                (&raw mut (*opposite).neighbour).write_volatile(way.neighbour);
                (&raw mut (*opposite).leaves).write_volatile(way.link);
            }
        }
        if is_living((*flow).state) && now.saturating_sub((*flow).last) > SELDOM {
            (&raw mut (*flow).last).write_volatile(now);
            let is_answered = || {
                let answers = FLOWS.get_ptr_mut(&*other);
                answers.is_some_and(|answers| now.saturating_sub((*answers).last) < UNANSWERED)
            };
            if kind == Flow::REQUESTS && !is_answered() {
                return Course::Route as u32;
            }
        }
    }
    Course::GoOn as u32
}

/// What a packet says of its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    /// Nothing.
    None,
    /// The handshake is answered.
    Established,
    /// One side sends no more.
    Half(u64),
    /// It is over.
    Over(End),
    /// It is over, and another begins.
    Anew(End),
}

/// Whether the flow is over and this is its last packet.
#[inline(always)]
fn is_last(flow: *mut Flow, key: &FlowKey, flags: u32) -> bool {
    // SAFETY: an element of a map.
    let is_over = !is_living(unsafe { (*flow).state });
    is_over && !has(flags, flag::SYN | flag::FIN) && key.protocol != IPPROTO_UDP
}

/// Forgets a flow. Elements that are used again soon are still in the CPU's cache, and the table has room for those
/// that live. Should the last packet get lost, both ends find out by themselves.
#[inline(always)]
fn forget(key: &FlowKey, other: &FlowKey) {
    let _ = FLOWS.remove(other);
    let _ = FLOWS.remove(key);
}

/// Takes in what a packet of the `kind` says, whose flow has its other direction under the key `other`; whether it
/// begins another flow.
#[inline(always)]
fn take_in(
    known: *mut Flow,
    other: &FlowKey,
    kind: u8,
    protocol: u8,
    flags: u32,
    now: u64,
) -> bool {
    // Looked up only where it is needed: most packets tell of one direction alone.
    let opposite = || FLOWS.get_ptr_mut(other);
    let flow = match kind {
        Flow::ANSWERS if told_by_backend(flags) == News::None => return false,
        Flow::ANSWERS => match opposite() {
            Some(requests) => requests,
            None => return false,
        },
        _ => known,
    };
    let answers = || if kind == Flow::ANSWERS { Some(known) } else { opposite() };
    // SAFETY: an element of a map, whose fields are read once each.
    let mut state = unsafe { (&raw const (*flow).state).read_volatile() };
    let news = match (kind, protocol) {
        (Flow::ANSWERS, _) => told_by_backend(flags),
        (_, IPPROTO_UDP)
            if is_living(state) && has_backend(flow) && !is_over(flow, answers, now) =>
        {
            News::None
        }
        (_, IPPROTO_UDP) => News::Anew(End::Closed),
        _ => told_by_client(flow, state, flags, now),
    };
    let how = match news {
        News::None => return false,
        News::Established => {
            establish(flow, state, now);
            return false;
        }
        News::Half(half) => {
            // SAFETY: an aligned u64 of a map. If the other side is faster this end goes unnoticed, and the
            // flow ends when it has been silent.
            unsafe { replace(&raw mut (*flow).state, state, state | half) };
            state |= half;
            if state & BOTH != BOTH {
                return false;
            }
            End::Closed
        }
        News::Over(how) | News::Anew(how) => how,
    };
    end(flow, answers(), state, how, now);
    matches!(news, News::Anew(_))
}

#[inline(always)]
fn told_by_client(flow: *mut Flow, state: u64, flags: u32, now: u64) -> News {
    if has(flags, flag::SYN) {
        let is_late = (state & Flow::STAGE) as u8 == stage::STARTED && is_late(flow, now);
        return if is_late || !is_living(state) { News::Anew(End::Refused) } else { News::None };
    }
    if has(flags, flag::RST) {
        return News::Over(End::GivenUp);
    }
    if has(flags, flag::FIN) { News::Half(Flow::CLIENT_ENDED) } else { News::None }
}

#[inline(always)]
fn told_by_backend(flags: u32) -> News {
    if has(flags, flag::RST) {
        return News::Over(End::Refused);
    }
    if has(flags, flag::SYN) {
        return News::Established;
    }
    if has(flags, flag::FIN) { News::Half(Flow::BACKEND_ENDED) } else { News::None }
}

#[inline(always)]
fn has(flags: u32, flag: u8) -> bool {
    flags & u32::from(flag) != 0
}

const BOTH: u64 = Flow::CLIENT_ENDED | Flow::BACKEND_ENDED;

/// Whether the handshake goes on or is complete, and the end has not come.
#[inline(always)]
pub fn is_living(state: u64) -> bool {
    let stage = (state & Flow::STAGE) as u8;
    stage == stage::STARTED || stage == stage::ESTABLISHED
}

/// How a flow ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// As it should.
    Closed,
    /// The client wants no more.
    GivenUp,
    /// The backend wants no more, or gives no answer.
    Refused,
}

/// Ends a flow, unless somebody else just did.
#[inline(always)]
fn end(flow: *mut Flow, answers: Option<*mut Flow>, state: u64, how: End, now: u64) {
    let was_open = (state & Flow::STAGE) as u8 == stage::ESTABLISHED;
    let last = if was_open { stage::CLOSED } else { stage::FAILED };
    // SAFETY: an element of a map, its state an aligned u64.
    unsafe {
        let ended = state & !Flow::STAGE | u64::from(last);
        if !is_living(state) || !replace(&raw mut (*flow).state, state, ended) {
            return;
        }
        (&raw mut (*flow).last).write_volatile(now);
        if let Some(answers) = answers {
            (&raw mut (*answers).last).write_volatile(now);
            (&raw mut (*answers).state).write_volatile(ended);
        }
        let Some(row) = row_at((*flow).row, (*flow).epoch) else { return };
        if !was_open {
            standing::given_up(row);
            if how == End::Refused {
                standing::failed(row, (*flow).decision.reason, now);
            }
            return;
        }
        standing::closed(row);
        // That a flow of datagrams fell silent says nothing of the backend.
        if (*flow).established_at != (*flow).chosen_at {
            standing::ended(row, now.saturating_sub((*flow).established_at), 0, now);
        }
    }
}

/// The backend answers the handshake.
#[inline(always)]
fn establish(flow: *mut Flow, state: u64, now: u64) {
    let open = state & !Flow::STAGE | u64::from(stage::ESTABLISHED);
    // SAFETY: an element of a map, its state an aligned u64; the row is one of an array map.
    unsafe {
        if (state & Flow::STAGE) as u8 != stage::STARTED
            || !replace(&raw mut (*flow).state, state, open)
        {
            return;
        }
        (*flow).established_at = now;
        let Some(row) = row_at((*flow).row, (*flow).epoch) else { return };
        standing::succeeded(row, now);
        standing::sample(row, Sample::Handshake, now.saturating_sub((*flow).chosen_at), now);
    }
}

/// A second SYN so soon is a copy of the first, and not one that was missed.
const COPY: u64 = 200_000_000;

#[inline(always)]
fn is_late(flow: *mut Flow, now: u64) -> bool {
    // SAFETY: an element of a map.
    now.saturating_sub(unsafe { (*flow).chosen_at }) > COPY
}

/// Whether nobody has sent a datagram for so long that the flow is over.
#[inline(always)]
fn is_over(flow: *mut Flow, answers: impl Fn() -> Option<*mut Flow>, now: u64) -> bool {
    let idle = settings().idle;
    // SAFETY: elements of a map, whose fields are read once each.
    let is_silent = |flow: *mut Flow| {
        now.saturating_sub(unsafe { (&raw const (*flow).last).read_volatile() }) > idle
    };
    is_silent(flow) && answers().is_none_or(is_silent)
}

/// Whether the backend is still one of the VIP's.
#[inline(always)]
fn has_backend(flow: *mut Flow) -> bool {
    // SAFETY: an element of a map.
    unsafe { row_at((*flow).row, (*flow).epoch).is_some() }
}
