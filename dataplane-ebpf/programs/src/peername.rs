//! `getpeername()` of a translated socket.

use mizzen_ebpf_abi::Origin;

use crate::endpoint::Endpoint;
use crate::sockets;

/// Shows the VIP in place of the backend; returns whether it did.
#[inline(always)]
pub fn restore<E: Endpoint>(end: &E) -> bool {
    let Some(origin) = sockets::find(end.cookie()) else { return false };
    // A socket may have been connected anew to something that is no VIP.
    if !leads_to(origin, end) {
        return false;
    }
    // SAFETY: the record is of this socket, whose calls the kernel runs one after another. Should
    // it be evicted meanwhile, the comparison above fails or a wrong name is shown once.
    unsafe { end.set((*origin).vip, (*origin).vip_port) };
    true
}

#[inline(always)]
fn leads_to<E: Endpoint>(origin: *mut Origin, end: &E) -> bool {
    // SAFETY: as in `restore`.
    unsafe { (*origin).backend_port == end.port() && (*origin).backend == end.address() }
}
