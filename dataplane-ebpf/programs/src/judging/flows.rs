//! Flows that were allowed: datagrams, so that answers pass, and TCP connections between overlays, which
//! the ordinary path passes on only if it is told of each packet.

use mizzen_ebpf_abi::policy::{Flow, FlowKey};

use super::facts::Facts;
use super::maps::POLICY_FLOWS;
use crate::headers::IPPROTO_TCP;

/// How a packet stands to the flows that are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is of a flow that is allowed.
    Allowed,
    /// It is of one that was allowed before policies or addresses changed.
    Before,
    /// It is of none.
    No,
}

/// Looks for the flow that these facts begin, and takes note of the packet.
#[inline(always)]
pub fn find(facts: &Facts, generation: u32, now: u64) -> Known {
    let Some(flow) = POLICY_FLOWS.get_ptr_mut(key(facts)) else { return Known::No };
    // SAFETY: an element of the map, whose fields are plain numbers that other CPUs write as well.
    unsafe {
        let is_stream = facts.protocol == IPPROTO_TCP;
        if !is_stream && now.saturating_sub((*flow).last) > SILENCE {
            return Known::No;
        }
        // Not for each packet: the line would go from CPU to CPU.
        if now.saturating_sub((*flow).last) > TOUCH {
            (&raw mut (*flow).last).write_volatile(now);
        }
        // A connection that was allowed stays so.
        match is_stream || (*flow).generation == generation {
            true => Known::Allowed,
            false => Known::Before,
        }
    }
}

/// Remembers the flow that these facts begin.
#[inline(always)]
pub fn remember(facts: &Facts, generation: u32, now: u64) {
    // Without it answers are judged like questions.
    let _ = POLICY_FLOWS.insert(key(facts), Flow { last: now, generation, reserved: 0 }, 0);
}

/// Forgets it.
#[inline(always)]
pub fn forget(facts: &Facts) {
    let _ = POLICY_FLOWS.remove(key(facts));
}

#[inline(always)]
fn key(facts: &Facts) -> FlowKey {
    FlowKey {
        from: facts.from,
        to: facts.to,
        from_port: facts.from_port,
        to_port: facts.to_port,
        protocol: u32::from(facts.protocol),
    }
}

/// Nanoseconds after which a silent flow is over.
const SILENCE: u64 = 60_000_000_000;
/// How exactly the last packet is known, in nanoseconds.
const TOUCH: u64 = 1_000_000_000;
