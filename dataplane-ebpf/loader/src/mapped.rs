//! An array map as a piece of this process's memory.
//!
//! A change costs what it writes and no system call. Programs and other CPUs read and
//! write the same memory at any time, so whole elements are only ever written where
//! nobody looks, and single counts through atomics.
//!
//! The array is mapped in windows, each when it is first needed: all pages of a window count
//! as this process's memory, and hardly any node needs all of a map.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use mizzen_ebpf_abi::{Owner, Row, Slot};

use crate::LoadError;
use crate::bpf::{self, MapShape};
use crate::object::map_pin;
use crate::table::Plain;

/// An array of `V`, as far as it was looked at.
#[derive(Debug)]
pub struct Mapped<V> {
    windows: Vec<OnceLock<Window<V>>>,
    capacity: u32,
    map: OwnedFd,
}

impl<V: Plain> Mapped<V> {
    /// Opens a pinned array of `capacity` `V`.
    pub fn open_pinned(directory: &Path, name: &str, capacity: usize) -> Result<Self, LoadError> {
        let path = map_pin(directory, name);
        match bpf::obj_get(&path).and_then(|map| Self::new(map, capacity)) {
            Ok(Ok(array)) => Ok(array),
            Ok(Err(shape)) => Err(LoadError::layout(path, shape)),
            Err(source) => Err(LoadError::Path { request: "map", path, source }),
        }
    }

    /// Takes an open array, or gives its shape back if it is not one of `capacity` `V`.
    fn new(map: OwnedFd, capacity: usize) -> io::Result<Result<Self, MapShape>> {
        const { assert!(size_of::<V>().is_multiple_of(8), "the kernel spaces elements by eight") };
        let shape = bpf::map_shape(map.as_fd())?;
        let fits = shape.key_size == 4
            && shape.value_size as usize == size_of::<V>()
            && shape.max_entries as usize == capacity;
        if !fits {
            return Ok(Err(shape));
        }
        Ok(Ok(Self { windows: closed(capacity), capacity: shape.max_entries, map }))
    }

    /// The same array once more, for another thread.
    pub fn again(&self) -> io::Result<Self> {
        let windows = closed(self.capacity as usize);
        Ok(Self { windows, capacity: self.capacity, map: self.map.try_clone()? })
    }

    /// How many elements there are.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Makes sure that elements from `first` on can be read and written.
    pub fn ensure(&self, first: u32, count: u32) -> io::Result<()> {
        let end = (first as usize + count as usize).div_ceil(WINDOW);
        (first as usize / WINDOW..end).try_for_each(|window| self.window(window).map(drop))
    }

    /// Reads one element; what others change meanwhile may be new in one part and old in another.
    pub fn get(&self, index: u32) -> Option<V> {
        // SAFETY: within a window, aligned by the kernel, and any bytes are a valid `V`.
        self.element(index).map(|element| unsafe { element.read_volatile() })
    }

    /// Reads `count` elements from `first` on, one after the other; fewer where the array ends.
    pub fn range(&self, first: u32, count: u32) -> impl Iterator<Item = V> {
        // SAFETY: as in `get`.
        self.elements(first, count).map(|element| unsafe { element.read_volatile() })
    }

    /// Calls `each` with every element and its index, through a mapping that ends with the call.
    pub fn scan(&self, mut each: impl FnMut(u32, V)) -> io::Result<()> {
        for number in 0..self.windows.len() {
            let window = Window::<V>::map(&self.map, number, self.capacity)?;
            for (index, element) in (number * WINDOW..self.capacity as usize).zip(window.elements())
            {
                // SAFETY: as in `get`.
                each(index as u32, unsafe { element.read_volatile() });
            }
        }
        Ok(())
    }

    /// Writes one element, which nobody else reads or writes; beyond the end it does nothing.
    pub fn set(&self, index: u32, value: V) {
        if let Some(element) = self.element(index) {
            // SAFETY: as in `get`.
            unsafe { element.write_volatile(value) };
        }
    }

    /// Writes elements from `first` on, which nobody else reads or writes; beyond the end it does nothing.
    pub fn set_range(&self, first: u32, values: impl IntoIterator<Item = V>) {
        let mut elements = self.elements(first, u32::MAX);
        for value in values {
            let Some(element) = elements.next() else { return };
            // SAFETY: as in `get`.
            unsafe { element.write_volatile(value) };
        }
    }

    fn element(&self, index: u32) -> Option<*mut V> {
        if index >= self.capacity {
            return None;
        }
        self.open(index as usize / WINDOW)?.element(index as usize % WINDOW)
    }

    /// `count` elements from `first` on. Windows are looked up once each.
    fn elements(&self, first: u32, count: u32) -> impl Iterator<Item = *mut V> {
        let (first, end) =
            (first as usize, first.saturating_add(count).min(self.capacity) as usize);
        let windows = first / WINDOW..end.div_ceil(WINDOW);
        windows.map_while(|number| Some((number * WINDOW, self.open(number)?))).flat_map(
            move |(base, window)| {
                let own = first.max(base)..end.min(base + WINDOW);
                own.filter_map(move |index| window.element(index - base))
            },
        )
    }

    /// The window, if it can be had.
    fn open(&self, number: usize) -> Option<&Window<V>> {
        let failed = |error: &io::Error| {
            tracing::error!(%error, number, "cannot map a part of a VIP map");
        };
        self.window(number).inspect_err(failed).ok()
    }

    fn window(&self, number: usize) -> io::Result<&Window<V>> {
        let place = self.windows.get(number).ok_or(io::ErrorKind::InvalidInput)?;
        if let Some(window) = place.get() {
            return Ok(window);
        }
        let window = Window::map(&self.map, number, self.capacity)?;
        Ok(place.get_or_init(|| window))
    }
}

/// Windows that nobody has looked through.
fn closed<V>(capacity: usize) -> Vec<OnceLock<Window<V>>> {
    (0..capacity.div_ceil(WINDOW)).map(|_| OnceLock::new()).collect()
}

/// Elements of a window. Whatever the size of one, so many of them end at the end of a page.
const WINDOW: usize = 4096;

/// A mapped part of an array.
#[derive(Debug)]
struct Window<V> {
    memory: NonNull<V>,
    length: usize,
}

// SAFETY: the memory belongs to the map and may be used from any thread.
unsafe impl<V: Plain + Send> Send for Window<V> {}
// SAFETY: all access is volatile or atomic; whole elements are written by one owner.
unsafe impl<V: Plain + Sync> Sync for Window<V> {}

impl<V: Plain> Window<V> {
    fn map(map: &OwnedFd, number: usize, capacity: u32) -> io::Result<Self> {
        let length = WINDOW.min((capacity as usize).saturating_sub(number * WINDOW));
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let offset = (number * WINDOW * size_of::<V>()) as libc::off_t;
        let bytes = length * size_of::<V>();
        // SAFETY: a new mapping at a place of the kernel's choice.
        let memory = unsafe {
            libc::mmap(null_mut(), bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), offset)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { memory, length })
    }

    fn element(&self, index: usize) -> Option<*mut V> {
        // SAFETY: the mapping holds `length` elements.
        (index < self.length).then(|| unsafe { self.memory.as_ptr().add(index) })
    }

    fn elements(&self) -> impl Iterator<Item = *mut V> {
        (0..self.length).filter_map(|index| self.element(index))
    }
}

impl<V> Drop for Window<V> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.length * size_of::<V>()) };
    }
}

/// How a flow ends that user space ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// It was open.
    Closed,
    /// Its handshake was never answered.
    Failed,
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
    pub fn end_flow(&self, row: u32, epoch: u32, how: FlowEnd) {
        if let Some(row) = self.element(row) {
            // SAFETY: aligned fields of the mapping, which programs change with atomics.
            unsafe {
                if AtomicU32::from_ptr(&raw mut (*row).epoch).load(Ordering::Acquire) == epoch {
                    let part = match how {
                        FlowEnd::Closed => Row::CONNECTION,
                        FlowEnd::Failed => {
                            let failed = AtomicU64::from_ptr(&raw mut (*row).failed);
                            failed.fetch_add(1, Ordering::AcqRel);
                            Row::CONNECTION + Row::HANDSHAKE
                        }
                    };
                    AtomicU64::from_ptr(&raw mut (*row).load).fetch_sub(part, Ordering::AcqRel);
                }
            }
        }
    }

    /// Takes connections off that nobody will end, and handshakes, which failed; unless the row has another owner.
    pub fn take_load(&self, row: u32, epoch: u32, connections: u64, handshakes: u64) {
        if let Some(row) = self.element(row) {
            // SAFETY: aligned fields of the mapping, which programs change with atomics.
            unsafe {
                if AtomicU32::from_ptr(&raw mut (*row).epoch).load(Ordering::Acquire) == epoch {
                    let failed = AtomicU64::from_ptr(&raw mut (*row).failed);
                    failed.fetch_add(handshakes, Ordering::AcqRel);
                    let part = Row::CONNECTION * connections + Row::HANDSHAKE * handshakes;
                    AtomicU64::from_ptr(&raw mut (*row).load).fetch_sub(part, Ordering::AcqRel);
                }
            }
        }
    }

    /// How many backends of the VIP with this row are ejected.
    pub fn ejected(&self, row: u32) -> u32 {
        // SAFETY: an aligned field of the mapping, which programs change with atomics.
        self.element(row).map_or(0, |row| unsafe {
            AtomicU32::from_ptr(&raw mut (*row).ejected).load(Ordering::Acquire)
        })
    }

    /// Whether the backend of this row is ejected.
    pub fn is_ejected(&self, row: u32) -> bool {
        // SAFETY: an aligned field of the mapping, which programs change with atomics.
        self.element(row).is_some_and(|row| unsafe {
            AtomicU64::from_ptr(&raw mut (*row).ejected_until).load(Ordering::Relaxed) != 0
        })
    }

    /// Lets the backend of this row be ejected no more, and begins to count its failures anew.
    pub fn clear_ejection(&self, row: u32) {
        if let Some(row) = self.element(row) {
            // SAFETY: aligned fields of the mapping, which programs change with atomics.
            unsafe {
                AtomicU32::from_ptr(&raw mut (*row).failures).store(0, Ordering::Relaxed);
                AtomicU64::from_ptr(&raw mut (*row).ejected_until).store(0, Ordering::Release);
            }
        }
    }

    /// Does the same, and takes it off the ejected backends of the VIP with the row `vip`.
    pub fn end_ejection(&self, row: u32, vip: u32) {
        let (Some(row), Some(vip)) = (self.element(row), self.element(vip)) else { return };
        // SAFETY: aligned fields of the mapping, which programs change with atomics; who ends an ejection counts it.
        unsafe {
            AtomicU32::from_ptr(&raw mut (*row).failures).store(0, Ordering::Relaxed);
            let until = AtomicU64::from_ptr(&raw mut (*row).ejected_until);
            if until.swap(0, Ordering::AcqRel) != 0 {
                AtomicU32::from_ptr(&raw mut (*vip).ejected).fetch_sub(1, Ordering::AcqRel);
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

impl Mapped<Slot> {
    /// Writes one behind the open part of a run. A program that was overtaken there finds it whole, or not admitted.
    pub fn write_behind(&self, index: u32, slot: Slot) {
        self.set(index, Slot { flags: 0, ..slot });
        if let Some(element) = self.element(index) {
            // SAFETY: an aligned field of the mapping, which others only read.
            let flags = unsafe { AtomicU16::from_ptr(&raw mut (*element).flags) };
            flags.store(slot.flags, Ordering::Release);
        }
    }

    /// Says that the backend of a slot is gone, which programs may be reading; `heir` is the slot that stands in for it.
    pub fn bury(&self, index: u32, heir: u32) {
        if let Some(slot) = self.element(index) {
            // SAFETY: aligned fields of the mapping, which others only read.
            unsafe {
                AtomicU32::from_ptr(&raw mut (*slot).heir).store(heir, Ordering::Relaxed);
                let flags = AtomicU16::from_ptr(&raw mut (*slot).flags);
                let distance = flags.load(Ordering::Relaxed) & !Slot::ADMITTED;
                flags.store(distance | Slot::GONE, Ordering::Release);
            }
        }
    }
}

impl Mapped<Owner> {
    /// Frees the place of a socket that no longer needs it; false if somebody else has it by now.
    pub fn free(&self, index: u32, owner: u64) -> bool {
        let Some(place) = self.element(index) else { return false };
        // SAFETY: an aligned field of the mapping, which programs change with atomics.
        let cookie = unsafe { AtomicU64::from_ptr(&raw mut (*place).cookie) };
        cookie.compare_exchange(owner, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
