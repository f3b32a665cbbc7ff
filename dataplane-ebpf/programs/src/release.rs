//! The end of a socket.
//!
//! TCP connections have ended before; what is left are datagram flows, and connects that
//! found no route and of which nothing else tells.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_TCP_CLOSE;
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::programs::SockContext;
use mizzen_ebpf_abi::stage;

use crate::connect::IPPROTO_UDP;
use crate::sockets;

/// Ends the record that the socket still has.
#[inline(always)]
pub fn observe(ctx: &SockContext) {
    // SAFETY: the context is valid for the whole run.
    let (protocol, state) = unsafe { ((*ctx.sock).protocol, (*ctx.sock).state) };
    // Of a connection that is under way its events tell, to the last.
    if protocol != u32::from(IPPROTO_UDP) && state != BPF_TCP_CLOSE {
        return;
    }
    // SAFETY: the helper takes the context of this program type.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let Some(origin) = sockets::find(cookie) else { return };
    // SAFETY: a record of this socket, which nobody else uses any more.
    let is_open_stream =
        unsafe { (*origin).protocol == IPPROTO_TCP && (*origin).stage != stage::CHOSEN };
    // Its last packets are still under way, and an event will tell.
    if is_open_stream {
        return;
    }
    sockets::count_end(origin);
    sockets::end(origin, cookie, stage::CLOSED);
}

const IPPROTO_TCP: u8 = 6;
