//! The table of translated sockets.
//!
//! Cookies are numbers given out one after another, so a cookie modulo the table's
//! size is a place that hardly ever belongs to somebody else, and neither a lookup
//! nor a change costs more than the memory it touches. Who finds a place taken goes
//! to an LRU hash, and leaves a mark there so that nobody else looks into that hash.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use mizzen_ebpf_abi::maps::SOCKETS_CAPACITY;
use mizzen_ebpf_abi::{Origin, Owner, stage};

use crate::connect::IPPROTO_UDP;
use crate::counts::{add, replace, row_of};
use crate::maps::{ORIGINS, OWNERS, SOCKETS};
use crate::standing;

/// The record of the living socket `cookie`.
#[inline(always)]
pub fn find(cookie: u64) -> Option<*mut Origin> {
    let owner = owner(cookie)?;
    // SAFETY: elements of an array map are aligned and never freed.
    let (owner, spilled) = unsafe {
        (
            (&raw const (*owner).cookie).read_volatile(),
            (&raw const (*owner).spilled).read_volatile(),
        )
    };
    if owner == cookie {
        return SOCKETS.get_ptr_mut(place(cookie));
    }
    if spilled == 0 {
        return None;
    }
    ORIGINS.get_ptr_mut(cookie)
}

/// What is known of a connect of which nothing has left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// It failed.
    Failed,
    /// Perhaps it was given up, or left by a way that no event tells of.
    Unknown,
}

/// Takes a place for the record of the socket `cookie`; what it had before ends.
///
/// Everything in it is the caller's to write. Without a place the connection works all the same; it shows its backend as
/// its peer and its end is not counted.
#[inline(always)]
pub fn reserve(cookie: u64, now: u64) -> Option<*mut Origin> {
    let owner = owner(cookie)?;
    let origin = SOCKETS.get_ptr_mut(place(cookie))?;
    // SAFETY: as in `find`.
    let present = unsafe { (&raw const (*owner).cookie).read_volatile() };
    if present == cookie {
        // A socket connects once more only if that has failed.
        count_end(origin, Unsent::Failed);
        return Some(origin);
    }
    let is_abandoned = present != 0 && is_abandoned(origin, now);
    // SAFETY: an aligned u64 of a map.
    if (present == 0 || is_abandoned)
        && unsafe { replace(&raw mut (*owner).cookie, present, cookie) }
    {
        if is_abandoned {
            count_end(origin, Unsent::Unknown);
        }
        return Some(origin);
    }
    // SAFETY: an element of a map; every writer writes the same.
    unsafe { (&raw mut (*owner).spilled).write_volatile(1) };
    if let Some(known) = ORIGINS.get_ptr_mut(cookie) {
        count_end(known, Unsent::Failed);
        return Some(known);
    }
    ORIGINS.insert(cookie, &BLANK, 0).ok()?;
    ORIGINS.get_ptr_mut(cookie)
}

/// Ends the record of a socket; it stays readable until its place is taken again.
#[inline(always)]
pub fn end(origin: *mut Origin, cookie: u64, last: u8) {
    // SAFETY: `origin` is an element of a map and of a socket that is locked or gone.
    unsafe { (&raw mut (*origin).stage).write_volatile(last) };
    let Some(owner) = owner(cookie) else { return };
    // SAFETY: as in `find`.
    unsafe {
        if (&raw const (*owner).cookie).read_volatile() == cookie {
            (&raw mut (*owner).cookie).write_volatile(0);
            return;
        }
    }
    // Dead records would push those of old and quiet connections out.
    let _ = ORIGINS.remove(cookie);
}

/// Counts the end of what was chosen and has not ended; `unsent` is what became of a connect, if nothing has left.
#[inline(always)]
pub fn count_end(origin: *mut Origin, unsent: Unsent) {
    // SAFETY: an element of a map.
    let (stage, protocol) =
        unsafe { ((&raw const (*origin).stage).read_volatile(), (*origin).protocol) };
    if stage != stage::CHOSEN && stage != stage::STARTED && stage != stage::ESTABLISHED {
        return;
    }
    if stage == stage::CHOSEN && unsent == Unsent::Failed {
        return standing::unreachable(origin);
    }
    let Some(row) = row_of(origin) else { return };
    // SAFETY: an element of `ROWS`.
    unsafe {
        match stage {
            stage::CHOSEN => add(&raw mut (*row).unstarted, 1),
            stage::STARTED if protocol != IPPROTO_UDP => standing::given_up(row),
            _ => standing::closed(row),
        }
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
fn owner(cookie: u64) -> Option<*mut Owner> {
    OWNERS.get_ptr_mut(place(cookie))
}

#[inline(always)]
fn place(cookie: u64) -> u32 {
    (cookie % SOCKETS_CAPACITY as u64) as u32
}
