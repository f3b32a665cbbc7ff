//! Counting in rows, with the instructions that other CPUs respect.
//!
//! The target has no compare-and-swap by default, so `core` leaves every read-modify-write
//! out of its atomics; the instructions stand here themselves.

use core::arch::asm;

use mizzen_ebpf_abi::{Origin, Row};

use crate::maps::ROWS;

/// The row of `origin`, unless it has another owner by now.
#[inline(always)]
pub fn row_of(origin: *mut Origin) -> Option<*mut Row> {
    // SAFETY: `origin` is an element of a map that is never freed; fields are plain numbers.
    let (index, epoch) = unsafe { ((*origin).row, (*origin).epoch) };
    row_at(index, epoch)
}

/// The row with this index, unless it has another owner by now.
#[inline(always)]
pub fn row_at(index: u32, epoch: u32) -> Option<*mut Row> {
    let row = ROWS.get_ptr_mut(index)?;
    // SAFETY: `row` is an element of an array map: aligned and never freed.
    let present = unsafe { (&raw const (*row).epoch).read_volatile() };
    (present == epoch).then_some(row)
}

/// Counts a refusal of the VIP whose row this is.
#[inline(always)]
pub fn refused(row: u32) {
    if let Some(row) = ROWS.get_ptr_mut(row) {
        // SAFETY: an element of `ROWS`.
        unsafe { add(&raw mut (*row).refused, 1) };
    }
}

/// The epoch of a row, by which what begins now is counted later only if the row is the same backend's then.
#[inline(always)]
pub fn epoch_of(row: u32) -> u32 {
    // SAFETY: an element of `ROWS`.
    ROWS.get_ptr_mut(row).map_or(0, |row| unsafe { (&raw const (*row).epoch).read_volatile() })
}

/// Adds to a count; a number below zero, as two's complement has it, takes away.
///
/// # Safety
///
/// `count` is an aligned `u64` in a map.
#[inline(always)]
pub unsafe fn add(count: *mut u64, number: u64) {
    // SAFETY: the caller's promise; programs on other CPUs use the same instruction.
    unsafe {
        asm!("lock *(u64 *)({count} + 0) += {number}", count = in(reg) count, number = in(reg) number);
    }
}

/// Adds to a count of 32 bits; `u32::MAX` takes one away.
///
/// # Safety
///
/// `count` is an aligned `u32` in a map.
#[inline(always)]
pub unsafe fn add_small(count: *mut u32, number: u32) {
    // SAFETY: the caller's promise; programs on other CPUs use the same instruction.
    unsafe {
        asm!("lock *(u32 *)({count} + 0) += {number}", count = in(reg) count, number = in(wreg) number);
    }
}

/// Replaces `old` by `new`; returns whether it was `old` and nobody else was faster.
///
/// # Safety
///
/// `place` is an aligned `u64` in a map.
#[inline(always)]
pub unsafe fn replace(place: *mut u64, old: u64, new: u64) -> bool {
    let found: u64;
    // SAFETY: the caller's promise; the instruction compares with and answers in r0.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {new})",
            place = in(reg) place,
            new = in(reg) new,
            inout("r0") old => found,
        );
    }
    found == old
}
