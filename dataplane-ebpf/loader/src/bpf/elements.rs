//! Elements of maps as plain bytes, one by one and in batches.

use std::io;
use std::os::fd::BorrowedFd;

use super::{bpf, raw};

/// Reads one element; false if there is none.
///
/// # Safety
///
/// `key` and `value` are as long as the map's keys and values.
pub unsafe fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = ElementAttr::new(map, key, value.as_mut_ptr() as u64);
    // SAFETY: the structure is that of the command; the buffers are long enough (caller).
    unsafe { found(bpf(MAP_LOOKUP_ELEM, &mut attr)) }
}

/// Writes one element, whether or not it exists.
///
/// # Safety
///
/// As for [`lookup`].
pub unsafe fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attr = ElementAttr::new(map, key, value.as_ptr() as u64);
    // SAFETY: the structure is that of the command; the buffers are long enough (caller).
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Removes one element; false if there was none.
///
/// # Safety
///
/// `key` is as long as the map's keys.
pub unsafe fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    let mut attr = ElementAttr::new(map, key, 0);
    // SAFETY: the structure is that of the command; the buffer is long enough (caller).
    unsafe { found(bpf(MAP_DELETE_ELEM, &mut attr)) }
}

/// Writes `count` elements.
///
/// # Safety
///
/// `keys` and `values` hold `count` keys and values of the map's sizes.
pub unsafe fn update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: u32,
) -> io::Result<()> {
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map: raw(map),
        ..BatchAttr::default()
    };
    // SAFETY: the structure is that of the command; the buffers are long enough (caller).
    unsafe { bpf(MAP_UPDATE_BATCH, &mut attr) }.map(drop)
}

/// What one [`lookup_batch`] read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// So many elements, and there may be more.
    Some(u32),
    /// So many elements, and these were the last.
    Last(u32),
}

/// Reads up to `count` elements after `after` (from the beginning if there is none) and leaves in
/// `next` where to go on: the last key of an array, a position of the kernel's own in a hash.
///
/// # Safety
///
/// `keys` and `values` have room for `count` keys and values of the map's sizes, `after` and
/// `next` for one key and at least four bytes.
pub unsafe fn lookup_batch(
    map: BorrowedFd<'_>,
    after: Option<&[u8]>,
    next: &mut [u8],
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<Batch> {
    let mut attr = BatchAttr {
        in_batch: after.map_or(0, |after| after.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map: raw(map),
        ..BatchAttr::default()
    };
    // SAFETY: the structure is that of the command; the buffers are long enough (caller).
    match unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) } {
        Ok(_) => Ok(Batch::Some(attr.count)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Batch::Last(attr.count)),
        Err(error) => Err(error),
    }
}

#[repr(C)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElementAttr {
    fn new(map: BorrowedFd<'_>, key: &[u8], value: u64) -> Self {
        Self { map: raw(map), padding: 0, key: key.as_ptr() as u64, value, flags: 0 }
    }
}

#[derive(Default)]
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

fn found(result: io::Result<libc::c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const MAP_LOOKUP_BATCH: u32 = 24;
const MAP_UPDATE_BATCH: u32 = 26;
