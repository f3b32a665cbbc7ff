//! Network policy: who may begin to talk to whom. Shared by the programs of the overlay's fast path and by those
//! that stand on the ordinary path.
//!
//! ```text
//! facts.rs    a packet, as far as policies care
//! look.rs     packet → verdict
//! flows.rs    datagrams that were allowed, and connections between overlays
//! report.rs   counts and events
//! ```
//!
//! Of a TCP connection only the beginning is judged. Datagrams are judged by flow, and answers pass.

#![allow(dead_code, reason = "not every object uses all of it")]

mod facts;
mod flows;
mod look;
pub mod maps;
mod report;

use mizzen_ebpf_abi::policy::{Switch, place};
use mizzen_ebpf_abi::{Be16, Ip16};
use mizzen_ebpf_core::policy::{Overlays, Verdict, judge};

use crate::headers::{Buffer, IPPROTO_TCP, load};

#[allow(unused_imports, reason = "the fast path passes on without a mark")]
pub use look::{JUDGED, REFUSED, mizzen_look};

/// Whether a packet of the fast path may go on. `transport` is where its transport's header begins.
#[inline(always)]
pub fn passes(buffer: Buffer, ends: (Ip16, Ip16), protocol: u8, transport: u32, place: u8) -> bool {
    if maps::switch().is_none() {
        return true;
    }
    if protocol == IPPROTO_TCP
        && load::<u8>(buffer, transport + 13).is_some_and(|flags| flags & (SYN | ACK) != SYN)
    {
        return true;
    }
    let (here, other) = match place {
        place::RECEIVER => (ends.1, ends.0),
        _ => (ends.0, ends.1),
    };
    if maps::is_at_ease(here) && !maps::concerns(other) {
        return true;
    }
    mizzen_look(buffer, u32::from(place)) != REFUSED
}

/// Whether a socket may connect, as far as this node knows already.
#[inline(always)]
pub fn connects(from: Ip16, to: Ip16, protocol: u8, port: Be16) -> bool {
    let Some(switch) = maps::switch() else { return true };
    let facts = facts::Facts::of_socket(from, to, protocol, port);
    let (sender, receiver) = (maps::class(from), maps::class(to));
    let ruling = maps::ruling(&sender, &receiver, protocol, port);
    let judgement = judge(&sender, &receiver, overlays(switch), ruling);
    if judgement.verdict != Verdict::Refuse {
        return true;
    }
    report::report(&facts, &sender, &receiver, judgement, place::SOCKET);
    false
}

#[inline(always)]
fn overlays(switch: &Switch) -> Overlays {
    match switch.flags & Switch::TOGETHER {
        0 => Overlays::Apart,
        _ => Overlays::Together,
    }
}

/// Flags of TCP.
const SYN: u8 = 2;
const ACK: u8 = 16;
