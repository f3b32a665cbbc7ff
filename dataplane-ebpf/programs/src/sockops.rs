//! How connections to backends begin and end, and what that says about the backends.
//!
//! A connect is counted as started here and not when its backend was chosen:
//! between the two the route lookup may fail, and no event would follow.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_RETRANS_CB, BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED,
    BPF_TCP_LAST_ACK,
};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::programs::SockOpsContext;
use mizzen_ebpf_abi::{Be16, Ip16, Origin, Row, reason, stage};

use crate::counts::row_of;
use crate::sockets;
use crate::standing::{self, Sample};

/// Takes in an event of a translated socket; all others return at once.
#[inline(always)]
pub fn observe(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => started(ctx),
        BPF_SOCK_OPS_STATE_CB => match ctx.arg(1) {
            BPF_TCP_ESTABLISHED => established(ctx),
            BPF_TCP_CLOSE | BPF_TCP_LAST_ACK => closed(ctx),
            _ => {}
        },
        BPF_SOCK_OPS_RETRANS_CB => retransmitted(ctx),
        _ => {}
    }
}

/// A SYN is about to leave.
#[inline(always)]
fn started(ctx: &SockOpsContext) {
    let Some(origin) = sockets::find(cookie(ctx)) else { return };
    // SAFETY: the record is of this socket, which is locked while this runs.
    unsafe {
        // The record may be left from a connect that found no route.
        if (*origin).backend_port != remote_port(ctx) || (*origin).backend != remote_address(ctx) {
            return;
        }
        // Only translated sockets ask for more events, so all others pay for this one alone.
        if ctx.set_cb_flags(EVENTS as i32).is_err() {
            return;
        }
        (*origin).stage = stage::STARTED;
        (*origin).local = local_address(ctx);
        (*origin).local_port = Be16::new(ctx.local_port() as u16);
        if let Some(row) = row_of(origin) {
            standing::handshake_begins(row, (*origin).chosen_at);
        }
    }
}

#[inline(always)]
fn established(ctx: &SockOpsContext) {
    let Some((origin, row)) = followed(ctx) else { return };
    let now = sockets::now();
    // SAFETY: the record is of this socket, which is locked; the row is an element of a map.
    unsafe {
        (*origin).stage = stage::ESTABLISHED;
        (*origin).established_at = now;
        let Some(row) = row else { return };
        standing::succeeded(row, now);
        let is_news = standing::sample(row, Sample::Handshake, now - (*origin).chosen_at, now);
        // Each further event costs as much as this one, and the round trip at the end will say
        // nothing new either.
        if !is_news && ctx.set_cb_flags(0).is_ok() {
            (*origin).flags |= Origin::ENDS_WITH_SOCKET;
        }
    }
}

/// A SYN was sent again: its backend may be gone, and the client will not know for minutes.
#[inline(always)]
fn retransmitted(ctx: &SockOpsContext) {
    let Some((origin, row)) = followed(ctx) else { return };
    // SAFETY: as in `established`.
    unsafe {
        if (*origin).stage == stage::STARTED
            && let Some(row) = row
        {
            blame(origin, row, sockets::now());
        }
    }
}

/// Both sides have ended it, or it is gone: nothing more is asked for.
#[inline(always)]
fn closed(ctx: &SockOpsContext) {
    let _ = ctx.set_cb_flags(0);
    let Some((origin, row)) = followed(ctx) else { return };
    // SAFETY: as in `established`.
    unsafe {
        let was_open = (*origin).stage == stage::ESTABLISHED;
        if let Some(row) = row {
            let now = sockets::now();
            if was_open {
                standing::closed(row);
                standing::ended(row, now - (*origin).established_at, srtt(ctx), now);
            } else {
                standing::given_up(row);
                blame(origin, row, now);
            }
        }
        let last = if was_open { stage::CLOSED } else { stage::FAILED };
        sockets::end(origin, cookie(ctx), last);
    }
}

/// Counts a failure against the backend. A probe counts once, however often its SYN was sent: each of them would make
/// the pause twice as long.
///
/// # Safety
///
/// The record is of a socket that is locked while this runs; the row is an element of a map.
#[inline(always)]
unsafe fn blame(origin: *mut Origin, row: *mut Row, now: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let reason = (*origin).decision.reason;
        if reason == reason::PROBE {
            if (*origin).flags & Origin::BLAMED != 0 {
                return;
            }
            (*origin).flags |= Origin::BLAMED;
        }
        standing::failed(row, reason, now);
    }
}

/// The record of a socket whose SYN has left, and the row that counts it.
#[inline(always)]
fn followed(ctx: &SockOpsContext) -> Option<(*mut Origin, Option<*mut Row>)> {
    let origin = sockets::find(cookie(ctx))?;
    // SAFETY: the record is of this socket, which is locked while this runs.
    let stage = unsafe { (*origin).stage };
    if stage != stage::STARTED && stage != stage::ESTABLISHED {
        return None;
    }
    Some((origin, row_of(origin)))
}

/// The kernel's smoothed round trip in microseconds; it keeps eighths.
#[inline(always)]
fn srtt(ctx: &SockOpsContext) -> u32 {
    // SAFETY: the context is valid for the whole run.
    unsafe { (&raw const (*ctx.ops).srtt_us).read_volatile() >> 3 }
}

const EVENTS: u32 = BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG;

#[inline(always)]
fn cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the helper takes the context of this program type.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// The port is in network order, in the upper half of the word as the CPU sees it.
#[inline(always)]
fn remote_port(ctx: &SockOpsContext) -> Be16 {
    Be16::new(u32::from_be(ctx.remote_port()) as u16)
}

#[inline(always)]
fn remote_address(ctx: &SockOpsContext) -> Ip16 {
    if ctx.family() == AF_INET {
        return Ip16::from_v4_word(ctx.remote_ip4());
    }
    // SAFETY: the context is valid for the whole run.
    unsafe { address((&raw const (*ctx.ops).remote_ip6).cast()) }
}

#[inline(always)]
fn local_address(ctx: &SockOpsContext) -> Ip16 {
    if ctx.family() == AF_INET {
        return Ip16::from_v4_word(ctx.local_ip4());
    }
    // SAFETY: as above.
    unsafe { address((&raw const (*ctx.ops).local_ip6).cast()) }
}

/// # Safety
///
/// `words` are the four words of an address in the context. The verifier wants whole 32-bit reads,
/// and volatile ones are not merged.
#[inline(always)]
unsafe fn address(words: *const u32) -> Ip16 {
    // SAFETY: the caller's promise.
    unsafe {
        Ip16::from_v6_words([
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ])
    }
}

const AF_INET: u32 = 2;
