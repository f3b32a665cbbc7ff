//! The end of a socket.
//!
//! Most TCP connections have ended before. What is left are those whose events say nothing new,
//! datagram flows, and connects that found no route and of which nothing else tells.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::programs::SockContext;
use mizzen_ebpf_abi::{Origin, stage};

use crate::connect::IPPROTO_UDP;
use crate::counts::row_of;
use crate::{sockets, standing};

/// Ends the record that the socket still has.
#[inline(always)]
pub fn observe(ctx: &SockContext) {
    // SAFETY: the helper takes the context of this program type.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let Some(origin) = sockets::find(cookie) else { return };
    // SAFETY: a record of this socket, which nobody else uses any more.
    let (protocol, stage, flags) =
        unsafe { ((*origin).protocol, (*origin).stage, (*origin).flags) };
    match stage {
        stage::ESTABLISHED if flags & Origin::ENDS_WITH_SOCKET != 0 => connection_ends(origin),
        _ if protocol == IPPROTO_UDP || stage == stage::CHOSEN => sockets::count_end(origin),
        // Its last packets are still under way, and an event will tell.
        _ => return,
    }
    sockets::end(origin, cookie, stage::CLOSED);
}

/// Counts the end of a connection that nothing else tells of.
#[inline(always)]
fn connection_ends(origin: *mut Origin) {
    let Some(row) = row_of(origin) else { return };
    let now = sockets::now();
    // SAFETY: a record of this socket, and an element of `ROWS`.
    unsafe {
        standing::closed(row);
        standing::ended(row, now - (*origin).established_at, 0, now);
    }
}
