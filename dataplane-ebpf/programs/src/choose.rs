//! From a VIP to one of its backends.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use mizzen_ebpf_abi::{Ip16, Slot, VipKey, VipValue};
use mizzen_ebpf_core::select::{DRAWS, SEARCH_STEPS, Search, point, spread};

use crate::endpoint::Reach;
use crate::maps::{SLOTS, VIPS, count_refusal};

/// Why a call is not translated.
#[derive(Clone, Copy)]
pub enum Stop {
    /// The call does not concern us.
    NotAVip,
    /// It does, and there is nobody to send it to.
    NoBackend,
}

/// Where the bits of a draw come from.
#[derive(Clone, Copy)]
pub enum Draw {
    /// Another backend each time.
    Random,
    /// The same backend for the same number, as long as the VIP stays as it is.
    Sticky(u64),
}

/// Draws a backend of the VIP `key`, and counts the refusal if there is none.
#[inline(always)]
pub fn choose(key: &VipKey, reach: Reach, draw: Draw) -> Result<Slot, Stop> {
    let mut vip = look_up(key)?;
    for attempt in 0..DRAWS {
        if vip.total_weight == 0 {
            break;
        }
        let slot = read(&vip, point(bits(draw, attempt), vip.total_weight));
        match slot {
            Some(slot) if slot.generation != vip.generation => vip = look_up(key)?,
            Some(slot) if usable(&slot, reach) => return Ok(slot),
            _ => {}
        }
    }
    count_refusal(vip.row);
    Err(Stop::NoBackend)
}

#[inline(always)]
fn look_up(key: &VipKey) -> Result<VipValue, Stop> {
    // SAFETY: the value is copied at once. If user space replaces it meanwhile, the copy may mix
    // two versions; then the generation of the slot it leads to differs and the draw is repeated.
    unsafe { VIPS.get(key) }.copied().ok_or(Stop::NotAVip)
}

#[inline(always)]
fn bits(draw: Draw, attempt: u32) -> u32 {
    match draw {
        // SAFETY: the helper has no precondition.
        Draw::Random => unsafe { bpf_get_prandom_u32() },
        Draw::Sticky(number) => spread(number ^ u64::from(attempt) << 56),
    }
}

/// The slot of the run that `point` hits.
#[inline(always)]
fn read(vip: &VipValue, point: u32) -> Option<Slot> {
    let mut search = Search::new(vip.length);
    for _ in 0..SEARCH_STEPS {
        let Some(index) = search.next() else { break };
        let cumulative = SLOTS.get(vip.base.wrapping_add(index))?.cumulative;
        search = search.narrow(index, cumulative, point);
    }
    SLOTS.get(vip.base.wrapping_add(search.found())).copied()
}

#[inline(always)]
fn usable(slot: &Slot, reach: Reach) -> bool {
    slot.flags & Slot::ADMITTED != 0 && reaches(reach, slot.address)
}

#[inline(always)]
fn reaches(reach: Reach, address: Ip16) -> bool {
    match reach {
        Reach::V4 => address.is_v4(),
        Reach::V6 => !address.is_v4(),
        Reach::Both => true,
    }
}
