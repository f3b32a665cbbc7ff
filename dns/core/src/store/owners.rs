//! Who brings what: for every owner the names that it says something about.
//!
//! What an owner says stands at the names; here is only where, and a digest of it, so
//! that a name about which it says the same as before need not be looked at.
//!
//! ```text
//! length u32 · number u32 · since u64 · length of the key u16 · key
//! rows: hash of the name u32 · digest u64
//! ```

use super::arena::{Arena, Handle};
use super::table::Table;
use crate::hash::{self, Seed};
use mizzen_types::time::Wall;

/// Bytes in front of the key.
const HEADER: usize = 18;
const ROW: usize = 12;
/// Keeps hashes of owners apart from those of names.
const SALT: u64 = 0x6f77_6e65_7273;

/// Owners by key and by number.
#[derive(Debug, Clone)]
pub(crate) struct Owners {
    seed: Seed,
    table: Table,
    blocks: Arena,
    /// Where each number's block is.
    places: Vec<Handle>,
    /// Numbers that nobody has.
    vacant: Vec<u32>,
    /// Scratch: a block that is written.
    written: Vec<u8>,
}

/// What an owner says about one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    /// Short hash of the name.
    pub(crate) name: u32,
    /// Keyed hash of the name and of all that is said about it.
    pub(crate) digest: u64,
}

/// An owner's block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a>(&'a [u8]);

impl<'a> Owner<'a> {
    fn at(bytes: &'a [u8]) -> Self {
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Self(&bytes[..length as usize])
    }

    pub(crate) fn number(self) -> u32 {
        u32::from_le_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// Since when it brings what it brings, if that is known.
    pub(crate) fn since(self) -> Option<Wall> {
        let bytes = self.0[8..].first_chunk::<8>()?;
        Some(u64::from_le_bytes(*bytes)).filter(|nanos| *nanos > 0).map(Wall)
    }

    pub(crate) fn key(self) -> &'a [u8] {
        let length = u16::from_le_bytes([self.0[16], self.0[17]]);
        &self.0[HEADER..][..usize::from(length)]
    }

    pub(crate) fn rows(self) -> impl ExactSizeIterator<Item = Row> + use<'a> {
        let (rows, _) = self.0[HEADER + self.key().len()..].as_chunks::<ROW>();
        rows.iter().map(|row| {
            let [a, b, c, d, digest @ ..] = *row;
            Row { name: u32::from_le_bytes([a, b, c, d]), digest: u64::from_le_bytes(digest) }
        })
    }
}

impl Owners {
    pub(crate) fn new(seed: Seed) -> Self {
        let (table, blocks) = (Table::new(), Arena::new());
        let (places, vacant, written) = (Vec::new(), Vec::new(), Vec::new());
        Self { seed, table, blocks, places, vacant, written }
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<Owner<'_>> {
        self.place(key).map(|(_, handle)| self.owner(handle))
    }

    /// The owner of this number.
    pub(crate) fn numbered(&self, number: u32) -> Option<Owner<'_>> {
        let handle = self.places.get(number as usize).filter(|handle| **handle != Handle::NONE)?;
        Some(self.owner(*handle))
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number of an owner, a new one if it is new.
    pub(crate) fn number(&mut self, key: &[u8]) -> u32 {
        if let Some(owner) = self.find(key) {
            return owner.number();
        }
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(Handle::NONE);
            self.places.len() as u32 - 1
        });
        self.write(key, number, None, &[]);
        // Without room for 32 GiB of owners it has a number and no block.
        if let Some(handle) = self.blocks.insert(&self.written) {
            self.table.insert(self.hash(key), handle);
            self.places[number as usize] = handle;
        }
        number
    }

    /// Writes down what an owner that has a number brings.
    pub(crate) fn update(&mut self, key: &[u8], since: Option<Wall>, rows: &[Row]) {
        let Some((hash, handle)) = self.place(key) else { return };
        let (number, length) = {
            let owner = self.owner(handle);
            (owner.number(), owner.0.len())
        };
        self.write(key, number, since, rows);
        let Some(moved) = self.blocks.replace(handle, length, &self.written) else { return };
        if moved != handle {
            self.table.update(hash, handle, moved);
            self.places[number as usize] = moved;
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        let Some((hash, handle)) = self.place(key) else { return };
        let (number, length) = {
            let owner = self.owner(handle);
            (owner.number(), owner.0.len())
        };
        self.table.remove(hash, handle);
        self.blocks.remove(handle, length);
        self.places[number as usize] = Handle::NONE;
        self.vacant.push(number);
    }

    fn owner(&self, handle: Handle) -> Owner<'_> {
        Owner::at(self.blocks.bytes(handle))
    }

    fn hash(&self, key: &[u8]) -> u32 {
        hash::short(hash::exact(self.seed, SALT, key))
    }

    fn place(&self, key: &[u8]) -> Option<(u32, Handle)> {
        let hash = self.hash(key);
        let handle = self.table.candidates(hash).find(|at| self.owner(*at).key() == key)?;
        Some((hash, handle))
    }

    /// Keys are cut to 65,535 bytes by whoever makes them.
    fn write(&mut self, key: &[u8], number: u32, since: Option<Wall>, rows: &[Row]) {
        let out = &mut self.written;
        out.clear();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&since.map_or(0, |since| since.0).to_le_bytes());
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(key);
        for row in rows {
            out.extend_from_slice(&row.name.to_le_bytes());
            out.extend_from_slice(&row.digest.to_le_bytes());
        }
        let length = out.len() as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
    }
}
