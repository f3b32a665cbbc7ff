//! The table of translated sockets.
//!
//! Cookies are numbers given out one after another, so a cookie modulo the table's
//! size is a place that hardly ever belongs to somebody else, and neither a lookup
//! nor a change costs more than the memory it touches. Who finds a place taken goes
//! to an LRU hash, and leaves a mark there so that nobody else looks into that hash.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use mizzen_ebpf_abi::maps::SOCKETS_CAPACITY;
use mizzen_ebpf_abi::{Origin, stage};

use crate::counts::{ONE_LESS, add, replace, row_of};
use crate::maps::{ORIGINS, SOCKETS};

/// The record of the living socket `cookie`.
#[inline(always)]
pub fn find(cookie: u64) -> Option<*mut Origin> {
    let place = place(cookie)?;
    // SAFETY: elements of an array map are aligned and never freed.
    let (owner, spilled) = unsafe {
        ((&raw const (*place).owner).read_volatile(), (&raw const (*place).spilled).read_volatile())
    };
    if owner == cookie {
        return Some(place);
    }
    if spilled == 0 {
        return None;
    }
    ORIGINS.get_ptr_mut(cookie)
}

/// Takes a place for the record of the socket `cookie`; what it had before ends.
///
/// Everything but the owner and the mark of spilling is the caller's to write. Without a place the
/// connection works all the same; it shows its backend as its peer and its end is not counted.
#[inline(always)]
pub fn reserve(cookie: u64, now: u64) -> Option<*mut Origin> {
    let place = place(cookie)?;
    // SAFETY: as in `find`.
    let owner = unsafe { (&raw const (*place).owner).read_volatile() };
    if owner == cookie {
        count_end(place);
        return Some(place);
    }
    let is_free = owner == 0 || is_abandoned(place, now);
    // SAFETY: an aligned u64 of a map.
    if is_free && unsafe { replace(&raw mut (*place).owner, owner, cookie) } {
        return Some(place);
    }
    // SAFETY: an element of a map; every writer writes the same.
    unsafe { (&raw mut (*place).spilled).write_volatile(1) };
    if let Some(known) = ORIGINS.get_ptr_mut(cookie) {
        count_end(known);
        return Some(known);
    }
    ORIGINS.insert(cookie, &BLANK, 0).ok()?;
    ORIGINS.get_ptr_mut(cookie)
}

/// Ends the record of a socket; it stays readable until its place is taken again.
#[inline(always)]
pub fn end(origin: *mut Origin, cookie: u64, last: u8) {
    // SAFETY: `origin` is an element of a map and of a socket that is locked or gone.
    unsafe {
        (&raw mut (*origin).stage).write_volatile(last);
        if (*origin).owner == cookie {
            (&raw mut (*origin).owner).write_volatile(0);
            return;
        }
    }
    // Dead records would push those of old and quiet connections out.
    let _ = ORIGINS.remove(cookie);
}

/// Counts the end of what has begun but not ended.
#[inline(always)]
pub fn count_end(origin: *mut Origin) {
    // SAFETY: an element of a map.
    let stage = unsafe { (&raw const (*origin).stage).read_volatile() };
    if stage != stage::STARTED && stage != stage::ESTABLISHED {
        return;
    }
    let Some(row) = row_of(origin) else { return };
    // SAFETY: fields of an element of `ROWS`.
    unsafe {
        add(&raw mut (*row).in_flight, ONE_LESS);
        add(&raw mut (*row).closed, 1);
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// A connect whose route vanished leaves a record that no event ends where sockets are not
/// followed to their release.
#[inline(always)]
fn is_abandoned(place: *mut Origin, now: u64) -> bool {
    // SAFETY: an element of a map; a wrong guess costs a record.
    let (stage, chosen_at) = unsafe { ((*place).stage, (*place).chosen_at) };
    stage == stage::CHOSEN && now.saturating_sub(chosen_at) > ABANDONED
}

const ABANDONED: u64 = 10_000_000_000;

/// What an element of `ORIGINS` begins as; too large for the stack.
///
/// Without the plain name its symbol would have a number that depends on where the sources lie.
#[unsafe(no_mangle)]
static BLANK: Origin = Origin::BLANK;

#[inline(always)]
fn place(cookie: u64) -> Option<*mut Origin> {
    SOCKETS.get_ptr_mut((cookie % SOCKETS_CAPACITY as u64) as u32)
}
