//! The VIP programs: entry points only, one line each.
//!
//! ```text
//! connect4/6      VIP → backend, and remember it          connect.rs
//! sendmsg4/6      the same for datagrams without connect  datagram.rs
//! recvmsg4/6      backend → VIP in what a program is shown
//! getpeername4/6  likewise                                peername.rs
//! sock_ops        how connections begin and end           sockops.rs
//! sock_release    the end of sockets of which else nothing tells   release.rs
//! ingress         packets that arrive: client → backend, backend → client   tc.rs
//! egress          the same for answers that begin on this node
//! ```
//!
//! The first six run for every process below one cgroup, whichever its network namespace,
//! the others for every packet of some links. All keep running while the daemon is away.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch, optimize_attribute)]

mod candidate;
mod choose;
mod connect;
mod counts;
mod course;
mod datagram;
mod endpoint;
mod flow;
mod headers;
mod icmp;
mod maps;
mod packet;
mod peername;
mod refuse;
mod release;
mod sockets;
mod sockops;
mod standing;
mod tc;

use aya_ebpf::helpers::bpf_set_retval;
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, classifier, sock_ops};
use aya_ebpf::programs::{SockAddrContext, SockContext, SockOpsContext, TcContext};

use choose::Stop;
use endpoint::{V4, V6};

/// Sends an IPv4 connect to a VIP on to a backend.
#[cgroup_sock_addr(connect4)]
fn mizzen_connect4(ctx: SockAddrContext) -> i32 {
    verdict(connect::translate(&V4(&ctx)))
}

/// Sends an IPv6 connect to a VIP on to a backend, IPv4-mapped addresses included.
#[cgroup_sock_addr(connect6)]
fn mizzen_connect6(ctx: SockAddrContext) -> i32 {
    verdict(connect::translate(&V6(&ctx)))
}

/// Sends an IPv4 datagram for a VIP on to a backend.
#[cgroup_sock_addr(sendmsg4)]
fn mizzen_sendmsg4(ctx: SockAddrContext) -> i32 {
    verdict(datagram::translate(&V4(&ctx)))
}

/// Sends an IPv6 datagram for a VIP on to a backend.
#[cgroup_sock_addr(sendmsg6)]
fn mizzen_sendmsg6(ctx: SockAddrContext) -> i32 {
    verdict(datagram::translate(&V6(&ctx)))
}

/// Shows the VIP as the source of a backend's IPv4 answer.
#[cgroup_sock_addr(recvmsg4)]
fn mizzen_recvmsg4(ctx: SockAddrContext) -> i32 {
    datagram::restore(&V4(&ctx));
    ALLOW
}

/// Shows the VIP as the source of a backend's answer on an IPv6 socket.
#[cgroup_sock_addr(recvmsg6)]
fn mizzen_recvmsg6(ctx: SockAddrContext) -> i32 {
    datagram::restore(&V6(&ctx));
    ALLOW
}

/// Shows the VIP as the peer of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
fn mizzen_getpeername4(ctx: SockAddrContext) -> i32 {
    peername::restore(&V4(&ctx));
    ALLOW
}

/// Shows the VIP as the peer of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
fn mizzen_getpeername6(ctx: SockAddrContext) -> i32 {
    peername::restore(&V6(&ctx));
    ALLOW
}

/// Counts how the connections of translated sockets begin and end.
#[sock_ops]
fn mizzen_sockops(ctx: SockOpsContext) -> u32 {
    sockops::observe(&ctx);
    0
}

/// Ends the records of sockets that are closed.
#[cgroup_sock(sock_release)]
fn mizzen_release(ctx: SockContext) -> i32 {
    release::observe(&ctx);
    ALLOW
}

/// Sends what arrives for a VIP on to a backend, and its answers back.
#[classifier]
fn mizzen_ingress(ctx: TcContext) -> i32 {
    tc::arrive(ctx.skb.skb)
}

/// Shows the VIP as the source of answers that no link of ours brought in.
#[classifier]
fn mizzen_egress(ctx: TcContext) -> i32 {
    tc::depart(ctx.skb.skb)
}

const ALLOW: i32 = 1;
/// The system call fails at once.
const REFUSE: i32 = 0;

/// Whether the kernel lets programs say with which error a call fails; the loader knows.
#[unsafe(no_mangle)]
static CAN_SET_ERROR: u8 = 0;

#[inline(always)]
fn verdict(result: Result<(), Stop>) -> i32 {
    match result {
        Ok(()) | Err(Stop::NotAVip) => ALLOW,
        Err(Stop::NoBackend) => refuse(),
    }
}

/// Fails the call as if nobody listened; with `EPERM` where the kernel knows nothing else.
#[inline(always)]
fn refuse() -> i32 {
    // SAFETY: a constant of the loaded object, of which the compiler must not guess the value.
    if unsafe { (&raw const CAN_SET_ERROR).read_volatile() } != 0 {
        // SAFETY: the helper has no precondition.
        unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    REFUSE
}

const ECONNREFUSED: i32 = 111;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

/// Nothing here panics; the verifier would refuse the object if this were reachable.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
