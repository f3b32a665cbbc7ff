//! Maps made what they are to be, by what differs.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use mizzen_ebpf_abi::overlay::Prefix;

use crate::LoadError;
use crate::table::{Plain, Table};

/// Which half of the differences is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Elements that are not wanted.
    Removals,
    /// Elements that are missing, or others.
    Additions,
}

/// Applies one half of what a map differs in, and returns it.
pub fn apply<K: Plain + Ord, V: Plain + PartialEq>(
    table: &Table<K, V>,
    map: &'static str,
    wanted: &BTreeMap<K, V>,
    part: Part,
) -> Result<Vec<(K, V)>, LoadError> {
    let present = table.entries().map_err(failed("list", map))?.into_iter().collect();
    change(table, map, (&present, wanted), part)
}

/// A map whose contents are remembered by its one writer, as there are too many of them to read in each pass.
#[derive(Debug)]
pub struct Mirror<K, V> {
    name: &'static str,
    table: Table<K, V>,
    /// Not known before the first pass, and after a failure.
    present: Option<BTreeMap<K, V>>,
}

impl<K: Plain + Ord, V: Plain + PartialEq> Mirror<K, V> {
    /// Opens the pinned map.
    pub fn open(directory: &Path, name: &'static str, capacity: usize) -> Result<Self, LoadError> {
        Ok(Self { name, table: Table::open_pinned(directory, name, capacity)?, present: None })
    }

    /// Applies one half of what differs, and returns it.
    pub fn apply(&mut self, wanted: &BTreeMap<K, V>, part: Part) -> Result<Vec<(K, V)>, LoadError> {
        let mut present = self.take()?;
        let changed = change(&self.table, self.name, (&present, wanted), part)?;
        for (key, value) in &changed {
            match part {
                Part::Removals => drop(present.remove(key)),
                Part::Additions => drop(present.insert(*key, *value)),
            }
        }
        self.present = Some(present);
        Ok(changed)
    }

    /// Has the next pass read the map again.
    pub fn forget(&mut self) {
        self.present = None;
    }

    fn take(&mut self) -> Result<BTreeMap<K, V>, LoadError> {
        match self.present.take() {
            Some(present) => Ok(present),
            None => {
                let entries = self.table.entries().map_err(failed("list", self.name))?;
                Ok(entries.into_iter().collect())
            }
        }
    }
}

/// The key of a network; an IPv4 address is the end of a mapped one.
pub fn prefix((address, length): (IpAddr, u8)) -> Prefix {
    let mapped = if address.is_ipv4() { 96 } else { 0 };
    Prefix { length: mapped + u32::from(length), address: address.into() }
}

/// An error about a map of the overlay.
pub fn failed(request: &'static str, map: &'static str) -> impl FnOnce(io::Error) -> LoadError {
    move |source| LoadError::Overlay { request, map, source }
}

fn change<K: Plain + Ord, V: Plain + PartialEq>(
    table: &Table<K, V>,
    map: &'static str,
    (present, wanted): (&BTreeMap<K, V>, &BTreeMap<K, V>),
    part: Part,
) -> Result<Vec<(K, V)>, LoadError> {
    let whole = |(key, value): (&K, &V)| (*key, *value);
    if part == Part::Removals {
        let unwanted = |(key, _): &(&K, &V)| !wanted.contains_key(*key);
        let removed: Vec<(K, V)> = present.iter().filter(unwanted).map(whole).collect();
        for (key, _) in &removed {
            table.delete(key).map_err(failed("remove from", map))?;
        }
        return Ok(removed);
    }
    let differs = |(key, value): &(&K, &V)| present.get(*key) != Some(*value);
    let (keys, values): (Vec<K>, Vec<V>) = wanted.iter().filter(differs).map(whole).unzip();
    table.put_all(&keys, &values).map_err(failed("write to", map))?;
    Ok(keys.into_iter().zip(values).collect())
}
