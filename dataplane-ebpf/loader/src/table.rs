//! A map as a typed table.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::LoadError;
use crate::bpf::{self, Batch, MapShape};
use crate::object::map_pin;

/// An open map whose keys are `K` and whose values are `V`.
#[derive(Debug)]
pub struct Table<K, V> {
    map: OwnedFd,
    capacity: u32,
    types: PhantomData<fn(K) -> V>,
}

/// What may cross a map: bytes without padding, any of which is valid.
pub trait Plain: FromBytes + IntoBytes + Immutable + Copy {}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Plain for T {}

impl<K: Plain, V: Plain> Table<K, V> {
    /// Opens a pinned map of `capacity` `K` and `V`.
    pub fn open_pinned(directory: &Path, name: &str, capacity: usize) -> Result<Self, LoadError> {
        let path = map_pin(directory, name);
        match bpf::obj_get(&path).and_then(|map| Self::new(map, capacity)) {
            Ok(Ok(table)) => Ok(table),
            Ok(Err(shape)) => Err(LoadError::layout(path, shape)),
            Err(source) => Err(LoadError::Path { request: "open map", path, source }),
        }
    }

    /// Takes an open map, or gives its shape back if it is not one of `capacity` `K` and `V`.
    pub fn new(map: OwnedFd, capacity: usize) -> io::Result<Result<Self, MapShape>> {
        let shape = bpf::map_shape(map.as_fd())?;
        let fits = shape.key_size as usize == size_of::<K>()
            && shape.value_size as usize == size_of::<V>()
            && shape.max_entries as usize == capacity;
        let table = Self { map, capacity: shape.max_entries, types: PhantomData };
        Ok(if fits { Ok(table) } else { Err(shape) })
    }

    /// The same map once more, for another thread.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Self { map: self.map.try_clone()?, ..*self })
    }

    /// Reads one element.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::new_zeroed();
        // SAFETY: the sizes of `K` and `V` are those of the map, compared in `new`.
        let found = unsafe { bpf::lookup(self.map.as_fd(), key.as_bytes(), value.as_mut_bytes()) }?;
        Ok(found.then_some(value))
    }

    /// Writes one element, in the place of the one there was.
    pub fn put(&self, key: &K, value: &V) -> io::Result<()> {
        // SAFETY: as in `get`.
        unsafe { bpf::update(self.map.as_fd(), key.as_bytes(), value.as_bytes()) }
    }

    /// Removes one element, if it exists.
    pub fn delete(&self, key: &K) -> io::Result<()> {
        // SAFETY: as in `get`.
        unsafe { bpf::delete(self.map.as_fd(), key.as_bytes()) }.map(drop)
    }

    /// Writes many elements with one call; keys and values pair up.
    pub fn put_all(&self, keys: &[K], values: &[V]) -> io::Result<()> {
        let count = keys.len().min(values.len());
        if count == 0 {
            return Ok(());
        }
        // SAFETY: the sizes fit as in `get`, and both slices hold at least `count` of them.
        unsafe {
            let (keys, values) = (keys.as_bytes(), values.as_bytes());
            bpf::update_batch(self.map.as_fd(), keys, values, count as u32)
        }
    }

    /// Reads all elements, in no order.
    ///
    /// An element that is replaced meanwhile may be missed or seen twice; there is one writer,
    /// and it does not do both at once.
    pub fn entries(&self) -> io::Result<Vec<(K, V)>> {
        let mut cursor = Cursor::default();
        let mut chunk = FIRST_CHUNK.min(self.capacity);
        let mut entries = Vec::new();
        loop {
            match self.read(&mut cursor, chunk, &mut entries) {
                Ok(Batch::Some(_)) => {}
                Ok(Batch::Last(_)) => return Ok(entries),
                // One bucket of the hash holds more than a chunk.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    chunk = (2 * chunk).min(self.capacity);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read(
        &self,
        cursor: &mut Cursor,
        count: u32,
        entries: &mut Vec<(K, V)>,
    ) -> io::Result<Batch> {
        let mut keys = vec![K::new_zeroed(); count as usize];
        let mut values = vec![V::new_zeroed(); count as usize];
        let mut next = Cursor::default();
        // SAFETY: the buffers hold `count` elements of the map's sizes, and a cursor has room for
        // any key of this crate.
        let batch = unsafe {
            let after = cursor.started.then_some(cursor.position.as_slice());
            let (keys, values) = (keys.as_mut_slice(), values.as_mut_slice());
            let (keys, values) = (keys.as_mut_bytes(), values.as_mut_bytes());
            bpf::lookup_batch(self.map.as_fd(), after, &mut next.position, keys, values, count)
        }?;
        *cursor = Cursor { started: true, ..next };
        let (Batch::Some(read) | Batch::Last(read)) = batch;
        entries.extend(keys.into_iter().zip(values).take(read as usize));
        Ok(batch)
    }
}

/// Elements asked for at a time; a VIP's key and value are 44 bytes.
const FIRST_CHUNK: u32 = 1024;

/// Where a walk through a map stands.
struct Cursor {
    started: bool,
    /// Room for the largest key, [`mizzen_ebpf_abi::DatagramKey`].
    position: [u8; size_of::<mizzen_ebpf_abi::DatagramKey>()],
}

impl Default for Cursor {
    fn default() -> Self {
        Self { started: false, position: [0; size_of::<mizzen_ebpf_abi::DatagramKey>()] }
    }
}
