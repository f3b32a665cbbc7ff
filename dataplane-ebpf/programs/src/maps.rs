//! The maps, and the two ways in which programs touch their counts.

use core::arch::asm;

use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap};
use aya_ebpf::macros::btf_map;
use mizzen_ebpf_abi::maps::{
    DATAGRAMS_CAPACITY, ORIGINS_CAPACITY, ROWS_CAPACITY, SLOTS_CAPACITY, VIPS_CAPACITY,
};
use mizzen_ebpf_abi::{
    Control, Counters, DatagramKey, DatagramOrigin, Origin, Slot, VipKey, VipValue,
};

/// Where each VIP's backends lie.
#[btf_map]
pub static VIPS: HashMap<VipKey, VipValue, VIPS_CAPACITY> = HashMap::new();

/// The backends of all VIPs.
#[btf_map]
pub static SLOTS: Array<Slot, SLOTS_CAPACITY> = Array::new();

/// Counts of each backend and each VIP.
#[btf_map]
pub static ROWS: Array<Counters, ROWS_CAPACITY> = Array::new();

/// What a connected socket had asked for, by its cookie.
#[btf_map]
pub static ORIGINS: LruHashMap<u64, Origin, ORIGINS_CAPACITY> = LruHashMap::new();

/// What an unconnected UDP socket had asked for, by its cookie and the backend.
#[btf_map]
pub static DATAGRAMS: LruHashMap<DatagramKey, DatagramOrigin, DATAGRAMS_CAPACITY> =
    LruHashMap::new();

/// User space's memory; no program reads it.
#[btf_map]
pub static CONTROL: Array<Control, 1> = Array::new();

/// One of the counts that every owner of a row has.
#[derive(Clone, Copy)]
pub enum Count {
    /// See [`Counters::started`].
    Started,
    /// See [`Counters::established`].
    Established,
    /// See [`Counters::failed`].
    Failed,
    /// See [`Counters::closed`].
    Closed,
    /// See [`Counters::refused`].
    Refused,
}

/// Counts a choice and returns the epoch of the row, for later calls of [`count`].
#[inline(always)]
pub fn count_choice(row: u32) -> u32 {
    let Some(counters) = ROWS.get_ptr_mut(row) else { return 0 };
    // SAFETY: the pointer is an element of an array map: aligned, never freed, and its
    // counts are written by programs through atomics only.
    unsafe {
        add_one(&raw mut (*counters).chosen);
        (&raw const (*counters).epoch).read_volatile()
    }
}

/// Counts one event of a VIP itself.
#[inline(always)]
pub fn count_refusal(row: u32) {
    let Some(counters) = ROWS.get_ptr_mut(row) else { return };
    // SAFETY: as in `count_choice`.
    unsafe { add_one(counter(counters, Count::Refused)) };
}

/// Counts one event of a connection, unless the row has a new owner by now.
#[inline(always)]
pub fn count(origin: &Origin, what: Count) {
    let Some(counters) = ROWS.get_ptr_mut(origin.row) else { return };
    // SAFETY: as in `count_choice`.
    unsafe {
        if (&raw const (*counters).epoch).read_volatile() == origin.epoch {
            add_one(counter(counters, what));
        }
    }
}

/// # Safety
///
/// `counters` points into `ROWS`.
#[inline(always)]
unsafe fn counter(counters: *mut Counters, what: Count) -> *mut u64 {
    // SAFETY: field addresses of a valid element.
    unsafe {
        match what {
            Count::Started => &raw mut (*counters).started,
            Count::Established => &raw mut (*counters).established,
            Count::Failed => &raw mut (*counters).failed,
            Count::Closed => &raw mut (*counters).closed,
            Count::Refused => &raw mut (*counters).refused,
        }
    }
}

/// # Safety
///
/// `counter` is an aligned `u64` in a map.
#[inline(always)]
unsafe fn add_one(counter: *mut u64) {
    // The instruction itself, because the target has no compare-and-swap by default and `core`
    // therefore leaves out every read-modify-write of its atomics.
    // SAFETY: the caller's promise; programs on other CPUs use the same instruction.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1_u64);
    }
}
