//! An array map as a piece of this process's memory.
//!
//! A change costs what it writes and no system call. Programs and other CPUs read and
//! write the same memory at any time, so whole elements are only ever written where
//! nobody looks, and single counts through atomics.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use mizzen_ebpf_abi::{Origin, Row};

use crate::bpf::{self, MapShape};
use crate::table::Plain;

/// A mapped array of `V`.
#[derive(Debug)]
pub struct Mapped<V> {
    memory: NonNull<V>,
    capacity: u32,
    /// Keeps the map alive even if its pin is removed.
    _map: OwnedFd,
    types: PhantomData<V>,
}

// SAFETY: the memory belongs to the map and may be used from any thread; there is one owner.
unsafe impl<V: Plain + Send> Send for Mapped<V> {}

impl<V: Plain> Mapped<V> {
    /// Maps an open array, or gives its shape back if it is not one of `capacity` `V`.
    pub fn new(map: OwnedFd, capacity: usize) -> io::Result<Result<Self, MapShape>> {
        const { assert!(size_of::<V>().is_multiple_of(8), "the kernel spaces elements by eight") };
        let shape = bpf::map_shape(map.as_fd())?;
        let fits = shape.key_size == 4
            && shape.value_size as usize == size_of::<V>()
            && shape.max_entries as usize == capacity;
        if !fits {
            return Ok(Err(shape));
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let length = capacity * size_of::<V>();
        // SAFETY: a new mapping at a place of the kernel's choice.
        let memory = unsafe {
            libc::mmap(null_mut(), length, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Ok(Self { memory, capacity: shape.max_entries, _map: map, types: PhantomData }))
    }

    /// How many elements there are.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Reads one element; what others change meanwhile may be new in one part and old in another.
    pub fn get(&self, index: u32) -> Option<V> {
        // SAFETY: within the mapping, aligned by the kernel, and any bytes are a valid `V`.
        self.element(index).map(|element| unsafe { element.read_volatile() })
    }

    /// Reads `count` elements from `first` on; fewer where the array ends.
    pub fn get_range(&self, first: u32, count: u32) -> Vec<V> {
        (first..first.saturating_add(count)).map_while(|index| self.get(index)).collect()
    }

    /// Writes one element, of which nobody else reads or writes; beyond the end it does nothing.
    pub fn set(&self, index: u32, value: V) {
        if let Some(element) = self.element(index) {
            // SAFETY: as in `get`.
            unsafe { element.write_volatile(value) };
        }
    }

    fn element(&self, index: u32) -> Option<*mut V> {
        // SAFETY: the mapping holds `capacity` elements.
        (index < self.capacity).then(|| unsafe { self.memory.as_ptr().add(index as usize) })
    }
}

impl Mapped<Row> {
    /// Says that a row has no owner, so that nothing more is counted there.
    pub fn disown(&self, row: u32) {
        if let Some(row) = self.element(row) {
            // SAFETY: an aligned field of the mapping, which others only read.
            unsafe { AtomicU32::from_ptr(&raw mut (*row).epoch) }.store(0, Ordering::Release);
        }
    }

    /// Counts the end of a flow, unless the row has another owner by now.
    pub fn end_flow(&self, row: u32, epoch: u32) {
        if let Some(row) = self.element(row) {
            // SAFETY: aligned fields of the mapping, which programs change with atomics.
            unsafe {
                if AtomicU32::from_ptr(&raw mut (*row).epoch).load(Ordering::Acquire) == epoch {
                    AtomicU64::from_ptr(&raw mut (*row).in_flight).fetch_sub(1, Ordering::AcqRel);
                    AtomicU64::from_ptr(&raw mut (*row).closed).fetch_add(1, Ordering::AcqRel);
                }
            }
        }
    }

    /// Sets how many backends of the VIP with this row are ejected.
    pub fn set_ejected(&self, row: u32, ejected: u32) {
        if let Some(row) = self.element(row) {
            // SAFETY: an aligned field of the mapping, which programs change with atomics.
            let count = unsafe { AtomicU32::from_ptr(&raw mut (*row).ejected) };
            count.store(ejected, Ordering::Release);
        }
    }

    /// Sets when a backend joined (nanoseconds of `CLOCK_MONOTONIC`; zero if it need not warm up).
    pub fn set_joined(&self, row: u32, joined: u64) {
        if let Some(row) = self.element(row) {
            // SAFETY: as in `set_ejected`.
            let time = unsafe { AtomicU64::from_ptr(&raw mut (*row).joined) };
            time.store(joined, Ordering::Release);
        }
    }
}

impl Mapped<Origin> {
    /// Frees the place of a socket that no longer needs it; false if somebody else has it by now.
    pub fn free(&self, index: u32, owner: u64) -> bool {
        let Some(place) = self.element(index) else { return false };
        // SAFETY: an aligned field of the mapping, which programs change with atomics.
        let cookie = unsafe { AtomicU64::from_ptr(&raw mut (*place).owner) };
        cookie.compare_exchange(owner, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl<V> Drop for Mapped<V> {
    fn drop(&mut self) {
        let length = self.capacity as usize * size_of::<V>();
        // SAFETY: the mapping was made by `new` and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), length) };
    }
}
