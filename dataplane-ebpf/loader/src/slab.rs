//! The maps, read and written so that no connect ever meets half a change.
//!
//! A change of a VIP writes its new slots and its ring where nobody looks, then replaces
//! the VIP's element, then lets the old ones rest. Only the middle step can be seen, and
//! it is the only one that costs a system call.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use mizzen_ebpf_abi::{
    ABI_VERSION, Control, DatagramKey, DatagramOrigin, NO_HISTOGRAM, Origin, Owner, Place, Row,
    Settings, Slot, VipKey, VipValue, maps,
};

use zerocopy::FromZeros;

use crate::bpf::MapShape;
use crate::extents::Extents;
use crate::histograms::Histograms;
use crate::mapped::Mapped;
use crate::object::map_pin;
use crate::table::{Plain, Table};
use crate::words::{backend, removal, slot_address, vip_address, vip_key};
use crate::{
    BackendWanted, Leaver, LoadError, MapError, Removal, VipAddress, VipWanted, bpf, clock, draft,
};

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
    /// Generations promised to us and not used yet.
    generations: std::ops::Range<u32>,
    /// Backends that left since somebody asked, and whose sockets are to be ended.
    pub leavers: Vec<Leaver>,
}

/// A VIP as the maps have it.
#[derive(Debug)]
pub struct Run {
    pub value: VipValue,
    pub slots: Vec<Slot>,
}

impl Slab {
    /// Opens the pinned maps and works out from them what is free.
    pub fn open(directory: &Path) -> Result<Self, LoadError> {
        // Programs alone use this one; its shape is checked all the same.
        table::<DatagramKey, DatagramOrigin>(directory, maps::DATAGRAMS, maps::DATAGRAMS_CAPACITY)?;
        let mut slab = Self {
            vips: table(directory, maps::VIPS, maps::VIPS_CAPACITY)?,
            slots: mapped(directory, maps::SLOTS, maps::SLOTS_CAPACITY)?,
            rows: mapped(directory, maps::ROWS, maps::ROWS_CAPACITY)?,
            rings: mapped(directory, maps::RINGS, maps::RINGS_CAPACITY)?,
            owners: mapped(directory, maps::OWNERS, maps::SOCKETS_CAPACITY)?,
            sockets: mapped(directory, maps::SOCKETS, maps::SOCKETS_CAPACITY)?,
            origins: table(directory, maps::ORIGINS, maps::ORIGINS_CAPACITY)?,
            settings: mapped(directory, maps::SETTINGS, 1)?,
            control: mapped(directory, maps::CONTROL, 1)?,
            histograms: Histograms::open(directory)?,
            free_slots: Extents::new(0),
            free_rows: Extents::new(0),
            free_rings: Extents::new(0),
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
        let entries = self.vips.entries().map_err(request("list", maps::VIPS))?;
        let run = |(key, value): (VipKey, VipValue)| (vip_address(&key), self.run(value));
        Ok(entries.into_iter().map(run).collect())
    }

    /// One VIP with its slots.
    pub fn present(&self, vip: VipAddress) -> Result<Option<Run>, MapError> {
        let value =
            self.vips.get(&vip_key(&vip)).map_err(vip_request("look up", vip, maps::VIPS))?;
        Ok(value.map(|value| self.run(value)))
    }

    /// Makes each VIP what is wanted. A VIP that cannot be stays what it was, and its error is given back; the
    /// others change all the same.
    pub fn set_vips(&mut self, wanted: &[(VipAddress, VipWanted)]) -> Vec<(VipAddress, MapError)> {
        let mut errors = Vec::new();
        let mut changes = Vec::new();
        let known = match wanted.len() {
            0..FEW => None,
            _ => self.runs().ok(),
        };
        for (vip, wanted) in wanted {
            let present = match &known {
                Some(known) => Ok(known.get(vip).map(|run| self.run(run.value))),
                None => self.present(*vip),
            };
            match present.and_then(|present| self.prepare(*vip, wanted, present)) {
                Ok(Some(change)) => changes.push(change),
                Ok(None) => {}
                Err(error) => errors.push((*vip, error)),
            }
        }
        let written = self.write(&changes);
        for (change, written) in changes.into_iter().zip(written) {
            match written {
                Ok(()) => self.finish(change),
                Err(error) => {
                    errors.push((change.vip, error));
                    self.give_back(&change);
                }
            }
        }
        errors
    }

    /// Removes `vip`, if it exists.
    pub fn remove(&mut self, vip: VipAddress) -> Result<(), MapError> {
        let Some(run) = self.present(vip)? else { return Ok(()) };
        self.vips.delete(&vip_key(&vip)).map_err(vip_request("remove", vip, maps::VIPS))?;
        self.retire(vip, removal(run.value.flags), &run, &[]);
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

    fn run(&self, value: VipValue) -> Run {
        Run { value, slots: self.slots.get_range(value.base, value.length) }
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

    /// Takes what the change needs and writes it where nobody looks; none if nothing differs.
    fn prepare(
        &mut self,
        vip: VipAddress,
        wanted: &VipWanted,
        present: Option<Run>,
    ) -> Result<Option<Change>, MapError> {
        // More would overflow the sum of the weights.
        if wanted.backends.len() > maps::BACKENDS_CAPACITY {
            let wanted = wanted.backends.len();
            return Err(MapError::Full { vip, map: maps::SLOTS, wanted });
        }
        let ordered = draft::in_order(vip, &wanted.backends)?;
        if present.as_ref().is_some_and(|run| run.is(wanted, &ordered)) {
            return Ok(None);
        }
        let value = draft::value(wanted, &ordered, self.generation());
        let run = present.as_ref();
        let kept = run.map(|run| draft::KeptBackends::of(&run.slots, run.value.open));
        let kept = kept.unwrap_or_default();
        let mut change = Change { vip, value, present, kept, fresh_rows: Vec::new() };
        if let Err(error) = self.take(&mut change, wanted, &ordered) {
            self.give_back(&change);
            return Err(error);
        }
        self.lay_out(&change, &ordered);
        Ok(Some(change))
    }

    /// Takes slots, rows and places; what was taken before an error is in `change` all the same.
    fn take(
        &mut self,
        change: &mut Change,
        wanted: &VipWanted,
        ordered: &[BackendWanted],
    ) -> Result<(), MapError> {
        let vip = change.vip;
        let full = |map, wanted: u32| MapError::Full { vip, map, wanted: wanted as usize };
        let is_new = |backend: &&BackendWanted| change.kept.get(backend.address).is_none();
        let new = ordered.iter().filter(is_new).count();
        let rows = new as u32 + u32::from(change.present.is_none());
        for _ in 0..rows {
            let row = take(&mut self.free_rows, 1).ok_or_else(|| full(maps::ROWS, rows))?;
            change.fresh_rows.push(row);
        }
        change.value.row = match &change.present {
            Some(run) => run.value.row,
            None => change.fresh_rows.first().copied().unwrap_or_default(),
        };
        let length = std::mem::take(&mut change.value.length);
        change.value.base =
            take(&mut self.free_slots, length).ok_or_else(|| full(maps::SLOTS, length))?;
        change.value.length = length;
        let places = draft::ring_length(wanted, change.value.open);
        change.value.ring_base =
            take(&mut self.free_rings, places).ok_or_else(|| full(maps::RINGS, places))?;
        change.value.ring_length = places;
        let VipValue { base, length, ring_base, ring_length, .. } = change.value;
        self.slots.ensure(base, length).map_err(vip_request("map", vip, maps::SLOTS))?;
        self.rings.ensure(ring_base, ring_length).map_err(vip_request("map", vip, maps::RINGS))?;
        let last = change.fresh_rows.iter().copied().max().unwrap_or_default();
        self.rows.ensure(last, 1).map_err(vip_request("map", vip, maps::ROWS))
    }

    /// Writes everything but the VIP's element.
    fn lay_out(&mut self, change: &Change, ordered: &[BackendWanted]) {
        let (value, kept) = (&change.value, &change.kept);
        let now = clock::monotonic();
        let seconds = (now / 1_000_000_000) as u32;
        let mut fresh = change.fresh_rows.iter().copied();
        if change.present.is_none() {
            let row = Row { epoch: value.generation, histogram: NO_HISTOGRAM, ..blank() };
            self.rows.set(fresh.next().unwrap_or_default(), row);
        }
        let joined = if draft::joins_others(kept, value.slow_start, seconds) { now } else { 0 };
        for row in fresh.clone() {
            let histogram = self.histograms.take();
            let (epoch, vip_row) = (value.generation, value.row);
            self.rows.set(row, Row { epoch, vip_row, histogram, joined, ..blank() });
        }
        let mut slots = draft::slots(ordered, kept, fresh, value.generation, seconds);
        draft::spread_draws(&mut slots, &draft::classes(value));
        for (slot, index) in slots.into_iter().zip(value.base..) {
            let was_withheld =
                kept.get(slot_address(&slot)).is_some_and(|kept| kept.open_since.is_none());
            if was_withheld && index - value.base < value.open {
                self.rows.set_joined(slot.row, joined);
            }
            self.slots.set(index, slot);
        }
        if value.ring_length > 0 {
            let ring = draft::ring(ordered, value.ring_length, value.generation);
            for (place, index) in ring.into_iter().zip(value.ring_base..) {
                self.rings.set(index, place);
            }
        }
    }

    /// Replaces the elements of the VIPs, all with one call if the kernel takes them.
    fn write(&self, changes: &[Change]) -> Vec<Result<(), MapError>> {
        if changes.len() > 1 {
            let keys: Vec<VipKey> = changes.iter().map(|change| vip_key(&change.vip)).collect();
            let values: Vec<VipValue> = changes.iter().map(|change| change.value).collect();
            if self.vips.put_all(&keys, &values).is_ok() {
                return changes.iter().map(|_| Ok(())).collect();
            }
        }
        // One of them is refused, so each is asked for by itself; writing twice does no harm.
        let write = |change: &Change| match self.vips.put(&vip_key(&change.vip), &change.value) {
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
                Err(MapError::Full { vip: change.vip, map: maps::VIPS, wanted: 1 })
            }
            written => written.map_err(vip_request("write", change.vip, maps::VIPS)),
        };
        changes.iter().map(write).collect()
    }

    /// Gives up what the change replaced, and notes which backends are gone.
    fn finish(&mut self, change: Change) {
        let VipValue { length, generation, row, .. } = change.value;
        tracing::debug!(vip = %change.vip, backends = length, generation, "VIP written");
        let Some(run) = change.present else { return };
        let slots = self.slots.get_range(change.value.base, length);
        let mut rows: Vec<u32> = slots.iter().map(|slot| slot.row).collect();
        rows.sort_unstable();
        // What is wanted now goes for those that leave as well.
        let removal = removal(change.value.flags);
        self.retire(change.vip, removal, &run, &rows);
        // Programs count ejections up and down; those of backends that went are taken off here.
        let is_ejected = |row: &u32| self.rows.get(*row).is_some_and(|row| row.ejected_until != 0);
        self.rows.set_ejected(row, rows.iter().filter(|row| is_ejected(row)).count() as u32);
    }

    /// Undoes what was taken for a change that nobody has seen.
    fn give_back(&mut self, change: &Change) {
        for row in &change.fresh_rows {
            let histogram = self.rows.get(*row).filter(|row| row.epoch == change.value.generation);
            if let Some(row) = histogram {
                self.histograms.give_back(row.histogram);
            }
            self.free_rows.give_back(*row, 1);
        }
        self.free_slots.give_back(change.value.base, change.value.length);
        self.free_rings.give_back(change.value.ring_base, change.value.ring_length);
    }

    /// Lets a run rest that no VIP refers to any more, and the rows that are not among `kept`.
    fn retire(&mut self, vip: VipAddress, removal: Removal, run: &Run, kept: &[u32]) {
        self.free_slots.rest(run.value.base, run.value.length);
        self.free_rings.rest(run.value.ring_base, run.value.ring_length);
        for slot in run.slots.iter().filter(|slot| kept.binary_search(&slot.row).is_err()) {
            if let Some(Row { epoch, histogram, .. }) = self.rows.get(slot.row) {
                let (backend, row) = (slot_address(slot), slot.row);
                let leaver = Leaver { vip, backend, removal, row, epoch };
                self.leavers.extend(Some(leaver).filter(Leaver::ends_sockets));
                self.histograms.retire(histogram);
            }
            self.rows.disown(slot.row);
            self.free_rows.rest(slot.row, 1);
        }
    }
}

impl Run {
    /// Every row that the VIP uses: its own and its backends'.
    fn rows(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().map(|slot| slot.row).chain([self.value.row])
    }

    /// The wish that led to this, its backends in the order of the run.
    pub fn spec(&self) -> VipWanted {
        let backends = self.slots.iter().map(backend).collect();
        VipWanted::from_value(&self.value, backends)
    }

    fn is(&self, wanted: &VipWanted, ordered: &[BackendWanted]) -> bool {
        let spec = self.spec();
        spec.backends == ordered
            && VipWanted { backends: Vec::new(), ..spec }
                == (VipWanted { backends: Vec::new(), ..*wanted })
    }
}

/// A new state of a VIP, written but not yet referred to.
struct Change {
    vip: VipAddress,
    value: VipValue,
    present: Option<Run>,
    /// What the present backends have.
    kept: draft::KeptBackends,
    /// Rows that had no owner before.
    fresh_rows: Vec<u32>,
}

/// VIPs from which on all are listed at once instead of looked up one by one.
const FEW: usize = 16;

/// Generations noted down at a time, to save a write per change.
const GENERATIONS_AT_ONCE: u32 = 4096;

/// How long to wait where the kernel offers no barrier: no program runs for as long.
const GRACE_WITHOUT_BARRIER: Duration = Duration::from_millis(100);

/// Takes a free run; if only resting ones are left, waits until nobody reads them.
fn take(extents: &mut Extents, length: u32) -> Option<u32> {
    if let Some(base) = extents.take(length) {
        return Some(base);
    }
    if !extents.has_resting() {
        return None;
    }
    if let Err(error) = bpf::wait_for_running_programs() {
        tracing::debug!(%error, "no barrier for running programs; waiting instead");
        thread::sleep(GRACE_WITHOUT_BARRIER);
    }
    extents.settle();
    extents.take(length)
}

pub fn table<K: Plain, V: Plain>(
    directory: &Path,
    name: &str,
    capacity: usize,
) -> Result<Table<K, V>, LoadError> {
    let path = map_pin(directory, name);
    let opened = bpf::obj_get(&path).and_then(|map| Table::new(map, capacity));
    match opened {
        Ok(Ok(table)) => Ok(table),
        Ok(Err(shape)) => Err(layout(path, shape)),
        Err(source) => Err(LoadError::Path { request: "open map", path, source }),
    }
}

fn mapped<V: Plain>(directory: &Path, name: &str, capacity: usize) -> Result<Mapped<V>, LoadError> {
    let path = map_pin(directory, name);
    match bpf::obj_get(&path).and_then(|map| Mapped::new(map, capacity)) {
        Ok(Ok(array)) => Ok(array),
        Ok(Err(shape)) => Err(layout(path, shape)),
        Err(source) => Err(LoadError::Path { request: "map", path, source }),
    }
}

fn layout(path: PathBuf, shape: MapShape) -> LoadError {
    LoadError::Layout {
        path,
        key: shape.key_size,
        value: shape.value_size,
        entries: shape.max_entries,
    }
}

fn blank() -> Row {
    Row::new_zeroed()
}

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
