//! The end of a socket.
//!
//! Most TCP connections have ended before. What is left are those whose events say nothing new,
//! datagram flows, and connects that found no route and of which nothing else tells.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_TCP_CLOSE;
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::programs::SockContext;
use mizzen_ebpf_abi::{Origin, stage};

use crate::connect::IPPROTO_UDP;
use crate::counts::row_of;
use crate::sockets::{self, Unsent};
use crate::standing;

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
        stage::CHOSEN => {
            let unsent = unsent(ctx);
            sockets::count_end(origin, unsent);
            if unsent == Unsent::Failed {
                return sockets::end(origin, cookie, stage::FAILED);
            }
        }
        _ if protocol == IPPROTO_UDP => sockets::count_end(origin, Unsent::Unknown),
        // Its last packets are still under way, and an event will tell.
        _ => return,
    }
    sockets::end(origin, cookie, stage::CLOSED);
}

/// What became of the connect of a socket of which no packet is known to have left.
#[inline(always)]
fn unsent(ctx: &SockContext) -> Unsent {
    // SAFETY: the context is valid for the whole run; the verifier wants whole 32-bit reads.
    let (protocol, state) = unsafe {
        (
            (&raw const (*ctx.sock).protocol).read_volatile(),
            (&raw const (*ctx.sock).state).read_volatile(),
        )
    };
    // The connections of a multipath socket are other sockets, and data that is to go with the SYN may never have been
    // sent.
    match (protocol, state) {
        (IPPROTO_TCP, BPF_TCP_CLOSE) => Unsent::Failed,
        _ => Unsent::Unknown,
    }
}

const IPPROTO_TCP: u32 = 6;

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
