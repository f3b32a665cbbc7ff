//! Network policy beside the fast path: entry points only.
//!
//! ```text
//! sender      what a container sends and no program sent straight on     link.rs
//! tunnel      what comes out of a tunnel, likewise
//! receiver    what a container is about to get
//! connect4/6  a socket that connects: refused at once                    socket.rs
//! ```
//!
//! An object of its own, because policies count where the fast path is switched off or missing as well.
//! What is decided is in `judging`, which the fast path shares together with the maps.

#![no_std]
#![no_main]

#[path = "../headers.rs"]
mod headers;
#[path = "../judging/mod.rs"]
mod judging;
mod link;
mod socket;

use aya_ebpf::macros::{cgroup_sock_addr, classifier};
use aya_ebpf::programs::{SockAddrContext, TcContext};
use mizzen_ebpf_abi::policy::place;

/// Looks at what a container sends.
#[classifier]
fn mizzen_sender(ctx: TcContext) -> i32 {
    link::pass_on(ctx.skb.skb, place::SENDER)
}

/// Looks at what comes out of a tunnel.
#[classifier]
fn mizzen_tunnel(ctx: TcContext) -> i32 {
    link::pass_on(ctx.skb.skb, place::TUNNEL)
}

/// Looks at what a container is about to get.
#[classifier]
fn mizzen_receiver(ctx: TcContext) -> i32 {
    link::deliver(ctx.skb.skb)
}

/// Refuses IPv4 connects that would be refused on their way.
#[cgroup_sock_addr(connect4)]
fn mizzen_policy_connect4(ctx: SockAddrContext) -> i32 {
    socket::connect_v4(&ctx)
}

/// Refuses IPv6 connects, those to IPv4-mapped addresses included.
#[cgroup_sock_addr(connect6)]
fn mizzen_policy_connect6(ctx: SockAddrContext) -> i32 {
    socket::connect_v6(&ctx)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

/// Nothing here panics; the verifier would refuse the object if this were reachable.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
