//! The maps, read and written so that no connect ever meets half a change.
//!
//! A change of a VIP writes its new slots and its ring where nobody looks, then replaces
//! the VIP's element, then lets the old ones rest. Only the middle step can be seen, and
//! it is the only one that costs a system call. Single backends of a long run come and go
//! in place.

mod change;
mod in_place;
mod laid;
mod run;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use mizzen_ebpf_abi::{
    ABI_VERSION, Control, DatagramKey, DatagramOrigin, Origin, Owner, Place, Row, Settings, Slot,
    VipKey, VipValue, maps,
};
use zerocopy::FromZeros;

use crate::extents::Extents;
use crate::histograms::Histograms;
use crate::mapped::Mapped;
use crate::table::Table;
use crate::words::{removal, slot_address, vip_address, vip_key};
use crate::{Leaver, LoadError, MapError, VipAddress, VipWanted};

use laid::Laid;
pub use run::Run;

/// The open maps, and which of their elements are free.
#[derive(Debug)]
pub struct Slab {
    vips: Table<VipKey, VipValue>,
    slots: Mapped<Slot>,
    pub rows: Mapped<Row>,
    rings: Mapped<Place>,
    pub owners: Mapped<Owner>,
    pub sockets: Mapped<Origin>,
    pub origins: Table<u64, Origin>,
    settings: Mapped<Settings>,
    control: Mapped<Control>,
    pub histograms: Histograms,
    free_slots: Extents,
    free_rows: Extents,
    free_rings: Extents,
    /// The long runs whose backends can be changed in place: those that were written since the maps were opened.
    laid: BTreeMap<VipAddress, Laid>,
    /// Generations promised to us and not used yet.
    generations: std::ops::Range<u32>,
    /// Backends that left since somebody asked, and whose sockets are to be ended.
    pub leavers: Vec<Leaver>,
}

impl Slab {
    /// Opens the pinned maps and works out from them what is free.
    pub fn open(directory: &Path) -> Result<Self, LoadError> {
        // Programs alone use this one; its shape is checked all the same.
        let (datagrams, capacity) = (maps::DATAGRAMS, maps::DATAGRAMS_CAPACITY);
        Table::<DatagramKey, DatagramOrigin>::open_pinned(directory, datagrams, capacity)?;
        let mut slab = Self {
            vips: Table::open_pinned(directory, maps::VIPS, maps::VIPS_CAPACITY)?,
            slots: Mapped::open_pinned(directory, maps::SLOTS, maps::SLOTS_CAPACITY)?,
            rows: Mapped::open_pinned(directory, maps::ROWS, maps::ROWS_CAPACITY)?,
            rings: Mapped::open_pinned(directory, maps::RINGS, maps::RINGS_CAPACITY)?,
            owners: Mapped::open_pinned(directory, maps::OWNERS, maps::SOCKETS_CAPACITY)?,
            sockets: Mapped::open_pinned(directory, maps::SOCKETS, maps::SOCKETS_CAPACITY)?,
            origins: Table::open_pinned(directory, maps::ORIGINS, maps::ORIGINS_CAPACITY)?,
            settings: Mapped::open_pinned(directory, maps::SETTINGS, 1)?,
            control: Mapped::open_pinned(directory, maps::CONTROL, 1)?,
            histograms: Histograms::open(directory)?,
            free_slots: Extents::new(0),
            free_rows: Extents::new(0),
            free_rings: Extents::new(0),
            laid: BTreeMap::new(),
            generations: 0..0,
            leavers: Vec::new(),
        };
        slab.find_free()?;
        Ok(slab)
    }

    /// Tells the programs what to go by.
    pub fn set(&mut self, settings: Settings) {
        self.settings.set(0, settings);
    }

    /// What the programs go by.
    pub fn settings(&self) -> Settings {
        self.settings.get(0).unwrap_or_else(Settings::new_zeroed)
    }

    /// Which backend each row is about.
    pub fn addresses_by_row(&self) -> BTreeMap<u32, SocketAddr> {
        let runs = self.runs().unwrap_or_default();
        let slots = runs.values().flat_map(|run| &run.slots);
        slots.map(|slot| (slot.row, slot_address(slot))).collect()
    }

    /// Every VIP with its slots.
    pub fn runs(&self) -> Result<BTreeMap<VipAddress, Run>, MapError> {
        let values = self.values()?.into_iter();
        Ok(values.map(|(vip, value)| (vip, self.run(value))).collect())
    }

    /// One VIP with its slots.
    pub fn present(&self, vip: VipAddress) -> Result<Option<Run>, MapError> {
        Ok(self.value(vip)?.map(|value| self.run(value)))
    }

    /// The wish that led to one VIP, its backends in the order of a run.
    pub fn wish(&self, vip: VipAddress) -> Result<Option<VipWanted>, MapError> {
        Ok(self.present(vip)?.map(|run| run.spec()))
    }

    /// Makes each VIP what is wanted. A VIP that cannot be stays what it was, and its error is given back; the
    /// others change all the same.
    pub fn set_vips<'a>(
        &mut self,
        wanted: impl ExactSizeIterator<Item = (VipAddress, &'a VipWanted)>,
    ) -> Vec<(VipAddress, MapError)> {
        let mut errors = Vec::new();
        let mut changes = Vec::new();
        let known = match wanted.len() {
            0..FEW => None,
            _ => self.values().ok(),
        };
        for (vip, wanted) in wanted {
            let present = match &known {
                Some(known) => Ok(known.get(&vip).copied()),
                None => self.value(vip),
            };
            match present.and_then(|present| self.prepare(vip, wanted, present)) {
                Ok(Some(change)) => changes.push(change),
                Ok(None) => {}
                Err(error) => errors.push((vip, error)),
            }
        }
        let written = self.write(&changes);
        for (change, written) in changes.iter().zip(written) {
            match written {
                Ok(()) => self.finish(change),
                Err(error) => {
                    errors.push((change.vip, error));
                    self.give_back(change);
                }
            }
        }
        errors
    }

    /// Removes `vip`, if it exists.
    pub fn remove(&mut self, vip: VipAddress) -> Result<(), MapError> {
        let Some(run) = self.present(vip)? else { return Ok(()) };
        self.vips.delete(&vip_key(&vip)).map_err(vip_request("remove", vip, maps::VIPS))?;
        self.retire(vip, removal(run.value.flags), &run.value, &run.slots);
        self.rows.disown(run.value.row);
        self.free_rows.rest(run.value.row, 1);
        tracing::debug!(%vip, "VIP removed");
        Ok(())
    }

    fn find_free(&mut self) -> Result<(), MapError> {
        let control = self.control.get(0).unwrap_or_default();
        if control.abi == 0 {
            self.free_slots = Extents::new(self.slots.capacity());
            self.free_rows = Extents::new(self.rows.capacity());
            self.free_rings = Extents::new(self.rings.capacity());
        } else {
            // Programs may still read what our predecessor gave up a moment ago.
            let runs = self.runs()?;
            let slots = runs.values().map(|run| (run.value.base, run.value.length));
            self.free_slots = Extents::around(self.slots.capacity(), slots);
            let rows = runs.values().flat_map(Run::rows).map(|row| (row, 1));
            self.free_rows = Extents::around(self.rows.capacity(), rows);
            let rings = runs.values().map(|run| (run.value.ring_base, run.value.ring_length));
            self.free_rings = Extents::around(self.rings.capacity(), rings);
            let rows = runs.values().flat_map(|run| &run.slots).map(|slot| slot.row);
            let histograms = rows.filter_map(|row| self.rows.get(row)).map(|row| row.histogram);
            self.histograms.find_free(histograms);
        }
        self.reserve_generations(control.next_generation);
        Ok(())
    }

    /// The element of every VIP.
    fn values(&self) -> Result<BTreeMap<VipAddress, VipValue>, MapError> {
        let entries = self.vips.entries().map_err(request("list", maps::VIPS))?;
        Ok(entries.into_iter().map(|(key, value)| (vip_address(&key), value)).collect())
    }

    fn value(&self, vip: VipAddress) -> Result<Option<VipValue>, MapError> {
        self.vips.get(&vip_key(&vip)).map_err(vip_request("look up", vip, maps::VIPS))
    }

    fn run(&self, value: VipValue) -> Run {
        Run::of(value, self.slots.range(value.base, value.length))
    }

    /// A number that no VIP, slot or row in the maps has.
    fn generation(&mut self) -> u32 {
        if self.generations.is_empty() {
            self.reserve_generations(self.generations.end);
        }
        let generation = self.generations.start;
        self.generations.start += 1;
        generation
    }

    /// Notes in the maps that the next generations are ours, so that a successor takes others.
    fn reserve_generations(&mut self, next: u32) {
        // Zero is what elements hold that were never written.
        let start = if next > u32::MAX - GENERATIONS_AT_ONCE { 1 } else { next.max(1) };
        let end = start + GENERATIONS_AT_ONCE;
        self.control.set(0, Control { abi: ABI_VERSION, next_generation: end });
        self.generations = start..end;
    }
}

/// VIPs from which on all are listed at once instead of looked up one by one.
const FEW: usize = 16;

/// Generations noted down at a time, to save a write per change.
const GENERATIONS_AT_ONCE: u32 = 4096;

fn request(request: &'static str, map: &'static str) -> impl FnOnce(io::Error) -> MapError {
    move |source| MapError::Request { request, map, source }
}

fn vip_request(
    request: &'static str,
    vip: VipAddress,
    map: &'static str,
) -> impl FnOnce(io::Error) -> MapError {
    move |source| MapError::Vip { request, vip, map, source }
}
