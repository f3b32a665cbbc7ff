//! How connections to backends begin and end.
//!
//! A connect is counted as started here and not when its backend was chosen:
//! between the two the route lookup may fail, and no event would follow.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE,
    BPF_TCP_ESTABLISHED, BPF_TCP_SYN_RECV, BPF_TCP_SYN_SENT,
};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::programs::SockOpsContext;
use mizzen_ebpf_abi::{Be16, Ip16, Origin};

use crate::maps::{Count, ORIGINS, count};

/// Counts an event of a translated socket; all others return at once.
#[inline(always)]
pub fn observe(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => started(ctx),
        BPF_SOCK_OPS_STATE_CB => changed(ctx, ctx.arg(0), ctx.arg(1)),
        _ => {}
    }
}

/// A SYN is about to leave.
#[inline(always)]
fn started(ctx: &SockOpsContext) {
    let Some(origin) = origin(ctx) else { return };
    // The record may be left from a connect that found no route.
    if origin.backend_port != remote_port(ctx) || origin.backend != remote_address(ctx) {
        return;
    }
    // Only translated sockets ask for more events, so all others pay for this one alone.
    if ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32).is_ok() {
        count(origin, Count::Started);
    }
}

#[inline(always)]
fn changed(ctx: &SockOpsContext, old: u32, new: u32) {
    let opening = old == BPF_TCP_SYN_SENT || old == BPF_TCP_SYN_RECV;
    let what = match new {
        BPF_TCP_ESTABLISHED => Count::Established,
        BPF_TCP_CLOSE if opening => Count::Failed,
        BPF_TCP_CLOSE => Count::Closed,
        _ => return,
    };
    let Some(origin) = origin(ctx) else { return };
    count(origin, what);
    if new == BPF_TCP_CLOSE {
        // Dead records would push those of old and quiet connections out.
        let _ = ORIGINS.remove(cookie(ctx));
    }
}

#[inline(always)]
fn origin(ctx: &SockOpsContext) -> Option<&Origin> {
    // SAFETY: the record is of this socket, which is locked while this runs. Should it be evicted
    // meanwhile, one event is counted for another backend.
    unsafe { ORIGINS.get(cookie(ctx)) }
}

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
    // SAFETY: the context is valid for the whole run; the verifier wants whole 32-bit reads, and
    // volatile ones are not merged.
    unsafe {
        let words = (&raw const (*ctx.ops).remote_ip6).cast::<u32>();
        Ip16::from_v6_words([
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ])
    }
}

const AF_INET: u32 = 2;
