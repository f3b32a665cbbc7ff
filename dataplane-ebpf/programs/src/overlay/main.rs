//! The overlay's fast path: entry points only.
//!
//! ```text
//! leave    what a container sends: into the tunnel to its peer's node, or into a container beside it   leave.rs
//! arrive   what comes out of the tunnel: into the container                                            arrive.rs
//! ```
//!
//! An object of its own beside that of the VIPs, with maps and a version of its own. What the programs
//! do not know they pass on: then the bridge, the routes and the tunnel's forwarding table do the work,
//! which is the ordinary path. Each program is there twice: before the programs of VIPs, for containers
//! whose VIPs are translated at their sockets, and behind them, for all.

#![no_std]
#![no_main]

mod arrive;
mod frame;
#[path = "../headers.rs"]
mod headers;
#[path = "../judging/mod.rs"]
mod judging;
mod leave;
mod maps;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use mizzen_ebpf_abi::overlay::Local;

/// Sends a container's packets straight to where they go.
#[classifier]
fn mizzen_leave(ctx: TcContext) -> i32 {
    leave::leave(ctx.skb.skb, 0).unwrap_or(NEXT)
}

/// The same before the programs of VIPs.
#[classifier]
fn mizzen_leave_first(ctx: TcContext) -> i32 {
    leave::leave(ctx.skb.skb, Local::HOOKED).unwrap_or(NEXT)
}

/// Hands packets from the tunnel straight to their container.
#[classifier]
fn mizzen_arrive(ctx: TcContext) -> i32 {
    arrive::arrive(ctx.skb.skb, 0).unwrap_or(NEXT)
}

/// The same before the programs of VIPs.
#[classifier]
fn mizzen_arrive_first(ctx: TcContext) -> i32 {
    arrive::arrive(ctx.skb.skb, Local::HOOKED).unwrap_or(NEXT)
}

/// The packet goes on as if there were no program.
const NEXT: i32 = -1;
/// The packet is dropped.
const DROP: i32 = 2;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

/// Nothing here panics; the verifier would refuse the object if this were reachable.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
