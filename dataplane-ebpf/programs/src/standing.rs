//! What handshakes and connections teach about a backend.
//!
//! Averages are read, moved and written without a lock: two CPUs at once lose one
//! sample, and a word is never torn.

use mizzen_ebpf_abi::{Origin, Row, reason};
use mizzen_ebpf_core::bucket::bucket;
use mizzen_ebpf_core::eject::pause;
use mizzen_ebpf_core::ewma::{Average, micros, ticks};

use crate::counts::{add, add_small, replace, row_at};
use crate::maps::{HISTOGRAMS, ROWS, settings};
use crate::sockets::now;

/// What was timed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// From the choice to the end of the handshake.
    Handshake,
    /// From there to the end of the connection.
    Connection,
}

/// A flow of datagrams begins.
///
/// # Safety
///
/// `row` is an element of `ROWS`.
#[inline(always)]
pub unsafe fn begins(row: *mut Row) {
    // SAFETY: the caller's promise.
    unsafe {
        add(&raw mut (*row).load, Row::CONNECTION);
        add(&raw mut (*row).started, 1);
    }
}

/// A connection begins with its handshake, whose backend was chosen at `since`.
///
/// # Safety
///
/// `row` is an element of `ROWS`.
#[inline(always)]
pub unsafe fn handshake_begins(row: *mut Row, since: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if Row::handshakes((&raw const (*row).load).read_volatile()) == 0 {
            wait_since(row, since);
        }
        add(&raw mut (*row).load, Row::CONNECTION + Row::HANDSHAKE);
        add(&raw mut (*row).started, 1);
    }
}

/// A handshake failed, or nobody waits for it any more.
///
/// # Safety
///
/// As for [`begins`].
#[inline(always)]
pub unsafe fn given_up(row: *mut Row) {
    // SAFETY: the caller's promise.
    unsafe {
        add(&raw mut (*row).failed, 1);
        add(&raw mut (*row).load, 0_u64.wrapping_sub(Row::CONNECTION + Row::HANDSHAKE));
    }
}

/// A connection or a flow of datagrams ended.
///
/// # Safety
///
/// As for [`begins`].
#[inline(always)]
pub unsafe fn closed(row: *mut Row) {
    // SAFETY: the caller's promise.
    unsafe { add(&raw mut (*row).load, 0_u64.wrapping_sub(Row::CONNECTION)) };
}

/// Takes in a time in nanoseconds; whether it says more than others just did.
///
/// # Safety
///
/// As for [`begins`].
#[inline(always)]
pub unsafe fn sample(row: *mut Row, what: Sample, nanos: u64, now: u64) -> bool {
    let micros = micros(nanos);
    // SAFETY: the caller's promise.
    unsafe {
        let (average, offset) = match what {
            Sample::Handshake => (&raw mut (*row).connect, 0),
            Sample::Connection => (&raw mut (*row).duration, 1),
        };
        let is_news = move_average(average, micros, now);
        count((*row).histogram.saturating_add(offset), micros);
        is_news
    }
}

/// Takes in the end of a connection that lasted `nanos` and whose packets took `srtt` microseconds.
///
/// # Safety
///
/// As for [`sample`].
#[inline(always)]
pub unsafe fn ended(row: *mut Row, nanos: u64, srtt: u32, now: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if srtt != 0 {
            move_average(&raw mut (*row).connect, srtt, now);
        }
        if nanos <= settings().short {
            sample(row, Sample::Connection, nanos, now);
        } else {
            // A long life says nothing about the speed of its backend.
            count((*row).histogram.saturating_add(1), micros(nanos));
        }
    }
}

/// A handshake completed: the backend lives, whatever was thought of it.
///
/// # Safety
///
/// As for [`sample`].
#[inline(always)]
pub unsafe fn succeeded(row: *mut Row, now: u64) {
    // SAFETY: the caller's promise; plain stores where the last one may win.
    unsafe {
        add(&raw mut (*row).load, 0_u64.wrapping_sub(Row::HANDSHAKE));
        wait_since(row, now);
        if (&raw const (*row).failures).read_volatile() != 0 {
            (&raw mut (*row).failures).write_volatile(0);
        }
        let until = (&raw const (*row).ejected_until).read_volatile();
        if until != 0 && replace(&raw mut (*row).ejected_until, until, 0) {
            (&raw mut (*row).joined).write_volatile(now);
            count_ejected(row, u32::MAX);
        }
    }
}

/// A connect failed before its handshake began: nothing leads to the backend.
///
/// Only if it was one of this node's own: containers have routes and policies of their own, and what they lack says
/// nothing to others.
#[inline(always)]
pub fn unreachable(origin: *mut Origin) {
    // SAFETY: an element of a map, whose fields are read once each.
    unsafe {
        let Origin { row, epoch, netns, decision, .. } = &*origin;
        mizzen_unreachable(*row, *epoch, u32::from(decision.reason), *netns);
    }
}

/// [`unreachable`], as the verifier wants it: see `choose.rs`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_unreachable(row: u32, epoch: u32, reason: u32, netns: u64) -> u32 {
    let Some(row) = row_at(row, epoch) else { return 0 };
    // SAFETY: an element of `ROWS`.
    unsafe {
        if netns != settings().netns {
            add(&raw mut (*row).unstarted, 1);
            return 0;
        }
        add(&raw mut (*row).started, 1);
        add(&raw mut (*row).failed, 1);
        failed(row, reason as u8, now());
    }
    1
}

/// A handshake failed, or is late: the backend, which was chosen for this `reason`, is ejected if it was one too many.
///
/// # Safety
///
/// As for [`sample`].
#[inline(always)]
pub unsafe fn failed(row: *mut Row, reason: u8, now: u64) {
    let settings = settings();
    // SAFETY: the caller's promise.
    unsafe {
        add_small(&raw mut (*row).failures, 1);
        let failures = (&raw const (*row).failures).read_volatile();
        let until = (&raw const (*row).ejected_until).read_volatile();
        let is_new = until == 0;
        let counts = if is_new {
            settings.failures != 0 && failures >= settings.failures
        } else {
            // Late news of connects from before the ejection say nothing new.
            reason == reason::PROBE
        };
        if !counts {
            return;
        }
        let came_back = (&raw const (*row).joined).read_volatile();
        let level = match (&raw const (*row).level).read_volatile() {
            // It behaved for a long time.
            _ if is_new && now.saturating_sub(came_back) > settings.longest_pause => 0,
            level => level,
        };
        let end = now + pause(level, settings.pause, settings.longest_pause);
        if replace(&raw mut (*row).ejected_until, until, end) {
            (&raw mut (*row).level).write_volatile(level + 1);
            add(&raw mut (*row).ejections, 1);
            if is_new {
                count_ejected(row, 1);
            }
        }
    }
}

/// Nobody has waited for an answer since before `since`. Noted only if it makes a difference: on a busy backend the line
/// would go from CPU to CPU for it twice in every connection.
///
/// # Safety
///
/// As for [`begins`].
#[inline(always)]
unsafe fn wait_since(row: *mut Row, since: u64) {
    // SAFETY: the caller's promise; the last one may win.
    unsafe {
        let noted = (&raw const (*row).waiting_since).read_volatile();
        if since.saturating_sub(noted) > settings().handshake >> WAITING_SHIFT {
            (&raw mut (*row).waiting_since).write_volatile(since);
        }
    }
}

/// Waiting is known to a sixteenth of what is too long.
const WAITING_SHIFT: u32 = 4;

/// # Safety
///
/// As for [`sample`].
#[inline(always)]
unsafe fn count_ejected(row: *mut Row, change: u32) {
    // SAFETY: the caller's promise.
    if let Some(vip) = ROWS.get_ptr_mut(unsafe { (*row).vip_row }) {
        // SAFETY: another element of `ROWS`.
        unsafe { add_small(&raw mut (*vip).ejected, change) };
    }
}

/// # Safety
///
/// `average` is an aligned `u64` in a map.
#[inline(always)]
unsafe fn move_average(average: *mut u64, micros: u32, now: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let (before, now) = (Average::unpack(average.read_volatile()), ticks(now));
        let is_news = !before.knows(micros, now);
        if is_news {
            average.write_volatile(before.step(micros, now).pack());
        }
        is_news
    }
}

/// Counts a latency in this CPU's part of a histogram, if there is one.
#[inline(always)]
fn count(histogram: u32, micros: u32) {
    let Some(histogram) = HISTOGRAMS.get_ptr_mut(histogram) else { return };
    let index = bucket(micros) as usize;
    // SAFETY: an element of a per-CPU array; the index is below the number of buckets. A program
    // that interrupts this one may lose a count.
    unsafe {
        (*histogram).sum += u64::from(micros);
        if index < (*histogram).buckets.len() {
            (*(&raw mut (*histogram).buckets).cast::<u32>().add(index)) += 1;
        }
    }
}
