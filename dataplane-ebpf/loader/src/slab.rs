//! The maps, read and written so that no connect ever meets half a change.
//!
//! A change of a VIP writes its new slots where nobody looks, then replaces the
//! VIP's element, then lets the old slots rest. Only the middle step can be seen.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use mizzen_ebpf_abi::{
    ABI_VERSION, Be16, Control, Counters, DatagramKey, DatagramOrigin, Ip16, Origin, Slot, VipKey,
    VipValue, maps,
};

use crate::extents::Extents;
use crate::object::map_pin;
use crate::table::{Plain, Table};
use crate::words::slot_address;
use crate::{Admission, BackendState, BackendWanted, LoadError, MapError, VipAddress, bpf};

/// The open maps, and which of their elements are free.
#[derive(Debug)]
pub struct Slab {
    vips: Table<VipKey, VipValue>,
    slots: Table<u32, Slot>,
    rows: Table<u32, Counters>,
    control: Table<u32, Control>,
    free_slots: Extents,
    free_rows: Extents,
    /// Generations promised to us and not used yet.
    generations: std::ops::Range<u32>,
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
        // Programs alone use these two; their shape is checked all the same.
        table::<u64, Origin>(directory, maps::ORIGINS, maps::ORIGINS_CAPACITY)?;
        table::<DatagramKey, DatagramOrigin>(directory, maps::DATAGRAMS, maps::DATAGRAMS_CAPACITY)?;
        let mut slab = Self {
            vips: table(directory, maps::VIPS, maps::VIPS_CAPACITY)?,
            slots: table(directory, maps::SLOTS, maps::SLOTS_CAPACITY)?,
            rows: table(directory, maps::ROWS, maps::ROWS_CAPACITY)?,
            control: table(directory, maps::CONTROL, 1)?,
            free_slots: Extents::new(0),
            free_rows: Extents::new(0),
            generations: 0..0,
        };
        slab.find_free()?;
        Ok(slab)
    }

    /// Every VIP with its slots.
    pub fn runs(&self) -> Result<BTreeMap<VipAddress, Run>, MapError> {
        let entries = self.vips.entries().map_err(request("list", maps::VIPS))?;
        let mut runs = BTreeMap::new();
        for (key, value) in entries {
            let vip = VipAddress::from_key(&key);
            runs.insert(vip, self.run(vip, value)?);
        }
        Ok(runs)
    }

    /// The counts up to the last row that `runs` refer to, by row.
    pub fn rows(&self, runs: &BTreeMap<VipAddress, Run>) -> Result<Vec<Counters>, MapError> {
        let end = runs.values().flat_map(Run::rows).max().map_or(0, |last| last + 1);
        self.rows.get_range(0, end).map_err(request("read", maps::ROWS))
    }

    /// Makes the backends of `vip` those `wanted`.
    pub fn set(&mut self, vip: VipAddress, wanted: &[BackendWanted]) -> Result<(), MapError> {
        let wanted = in_order(vip, wanted)?;
        let present = self.present(vip)?;
        if present.as_ref().is_some_and(|run| run.is(&wanted)) {
            return Ok(());
        }
        let change = self.prepare(vip, &wanted, present.as_ref())?;
        if let Err(error) = self.write(vip, &change) {
            self.give_back(&change.fresh_rows, change.value.base, change.value.length);
            return Err(error);
        }
        if let Some(run) = present {
            self.retire(&run, &wanted);
        }
        let VipValue { length, generation, .. } = change.value;
        tracing::debug!(%vip, backends = length, generation, "VIP written");
        Ok(())
    }

    /// Removes `vip`, if it exists.
    pub fn remove(&mut self, vip: VipAddress) -> Result<(), MapError> {
        let Some(run) = self.present(vip)? else { return Ok(()) };
        self.vips.delete(&vip.key()).map_err(vip_request("remove", vip, maps::VIPS))?;
        self.retire(&run, &[]);
        self.free_rows.rest(run.value.row, 1);
        tracing::debug!(%vip, "VIP removed");
        Ok(())
    }

    fn find_free(&mut self) -> Result<(), MapError> {
        let control = self.control.get(&0).map_err(request("read", maps::CONTROL))?;
        let control = control.unwrap_or_default();
        if control.abi == 0 {
            self.free_slots = Extents::new(self.slots.capacity());
            self.free_rows = Extents::new(self.rows.capacity());
        } else {
            // Programs may still read what our predecessor gave up a moment ago.
            let runs = self.runs()?;
            let slots = runs.values().map(|run| (run.value.base, run.value.length));
            self.free_slots = Extents::around(self.slots.capacity(), slots);
            let rows = runs.values().flat_map(Run::rows).map(|row| (row, 1));
            self.free_rows = Extents::around(self.rows.capacity(), rows);
        }
        self.reserve_generations(control.next_generation)
    }

    fn present(&self, vip: VipAddress) -> Result<Option<Run>, MapError> {
        let value = self.vips.get(&vip.key()).map_err(vip_request("look up", vip, maps::VIPS))?;
        value.map(|value| self.run(vip, value)).transpose()
    }

    fn run(&self, vip: VipAddress, value: VipValue) -> Result<Run, MapError> {
        let slots = self.slots.get_range(value.base, value.length);
        Ok(Run { value, slots: slots.map_err(vip_request("read", vip, maps::SLOTS))? })
    }

    /// A number that no VIP, slot or row in the maps has.
    fn generation(&mut self) -> Result<u32, MapError> {
        if self.generations.is_empty() {
            self.reserve_generations(self.generations.end)?;
        }
        let generation = self.generations.start;
        self.generations.start += 1;
        Ok(generation)
    }

    /// Notes in the maps that the next generations are ours, so that a successor takes others.
    fn reserve_generations(&mut self, next: u32) -> Result<(), MapError> {
        // Zero is what elements hold that were never written.
        let start = if next > u32::MAX - GENERATIONS_AT_ONCE { 1 } else { next.max(1) };
        let end = start + GENERATIONS_AT_ONCE;
        let control = Control { abi: ABI_VERSION, next_generation: end };
        self.control.put(&0, &control).map_err(request("write", maps::CONTROL))?;
        self.generations = start..end;
        Ok(())
    }

    fn take_rows(&mut self, vip: VipAddress, count: usize) -> Result<Vec<u32>, MapError> {
        let mut rows = Vec::with_capacity(count);
        while rows.len() < count {
            let Some(row) = take(&mut self.free_rows, 1) else {
                self.give_back(&rows, 0, 0);
                return Err(MapError::Full { vip, map: maps::ROWS, wanted: count });
            };
            rows.push(row);
        }
        Ok(rows)
    }

    fn take_slots(&mut self, vip: VipAddress, length: u32) -> Result<u32, MapError> {
        let full = MapError::Full { vip, map: maps::SLOTS, wanted: length as usize };
        take(&mut self.free_slots, length).ok_or(full)
    }

    /// Takes what the change needs and drafts it, but writes nothing.
    fn prepare(
        &mut self,
        vip: VipAddress,
        wanted: &[BackendWanted],
        present: Option<&Run>,
    ) -> Result<Change, MapError> {
        let generation = self.generation()?;
        let kept = present.map(Run::rows_by_address).unwrap_or_default();
        let new_backends =
            wanted.iter().filter(|backend| !kept.contains_key(&backend.address)).count();
        let fresh_rows = self.take_rows(vip, new_backends + usize::from(present.is_none()))?;
        let length = wanted.len() as u32;
        let base = match self.take_slots(vip, length) {
            Ok(base) => base,
            Err(error) => {
                self.give_back(&fresh_rows, 0, 0);
                return Err(error);
            }
        };

        let mut unused = fresh_rows.iter().copied();
        let row = present.map(|run| run.value.row).or_else(|| unused.next()).unwrap_or_default();
        let slots = draft(wanted, &kept, unused, generation);
        let total_weight = slots.last().map_or(0, |slot| slot.cumulative);
        let value = VipValue { base, length, generation, flags: 0, total_weight, row };
        Ok(Change { value, slots, fresh_rows })
    }

    /// Undoes what was taken for a change that nobody has seen.
    fn give_back(&mut self, rows: &[u32], base: u32, length: u32) {
        for row in rows {
            self.free_rows.give_back(*row, 1);
        }
        self.free_slots.give_back(base, length);
    }

    fn write(&self, vip: VipAddress, change: &Change) -> Result<(), MapError> {
        let Change { value, slots, fresh_rows } = change;
        let zero = Counters { epoch: value.generation, ..Counters::default() };
        self.rows.put_all(fresh_rows, &vec![zero; fresh_rows.len()]).map_err(vip_request(
            "write",
            vip,
            maps::ROWS,
        ))?;
        self.slots.put_range(value.base, slots).map_err(vip_request("write", vip, maps::SLOTS))?;
        match self.vips.put(&vip.key(), value) {
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
                Err(MapError::Full { vip, map: maps::VIPS, wanted: 1 })
            }
            written => written.map_err(vip_request("write", vip, maps::VIPS)),
        }
    }

    /// Lets the slots of a run rest that no VIP refers to any more, and the rows of the backends
    /// that are not `wanted`.
    fn retire(&mut self, run: &Run, wanted: &[BackendWanted]) {
        self.free_slots.rest(run.value.base, run.value.length);
        for slot in &run.slots {
            let address = slot_address(slot);
            if wanted.binary_search_by_key(&address, |backend| backend.address).is_err() {
                self.free_rows.rest(slot.row, 1);
            }
        }
    }
}

impl Run {
    /// Every row that the VIP uses: its own and its backends'.
    fn rows(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().map(|slot| slot.row).chain([self.value.row])
    }

    fn rows_by_address(&self) -> BTreeMap<SocketAddr, u32> {
        self.slots.iter().map(|slot| (slot_address(slot), slot.row)).collect()
    }

    fn is(&self, wanted: &[BackendWanted]) -> bool {
        self.slots.len() == wanted.len()
            && self.slots.iter().map(BackendState::from_slot).zip(wanted).all(|(a, b)| a.is(b))
    }
}

/// A new state of a VIP, with all that it needs taken and nothing written.
struct Change {
    value: VipValue,
    slots: Vec<Slot>,
    /// Rows that had no owner before.
    fresh_rows: Vec<u32>,
}

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

/// The backends by address, the way observed runs have them.
fn in_order(vip: VipAddress, wanted: &[BackendWanted]) -> Result<Vec<BackendWanted>, MapError> {
    // More would overflow the sum of the weights.
    if wanted.len() > maps::BACKENDS_CAPACITY {
        return Err(MapError::Full { vip, map: maps::SLOTS, wanted: wanted.len() });
    }
    let is_v4 = |address: SocketAddr| Ip16::from(address.ip()).is_v4();
    let mut backends = Vec::with_capacity(wanted.len());
    for backend in wanted {
        if is_v4(vip.socket) && !is_v4(backend.address) {
            return Err(MapError::Family { vip, backend: backend.address });
        }
        let ip = backend.address.ip().to_canonical();
        backends.push(BackendWanted {
            address: SocketAddr::new(ip, backend.address.port()),
            ..*backend
        });
    }
    backends.sort_unstable_by_key(|backend| backend.address);
    match backends.windows(2).find(|pair| pair[0].address == pair[1].address) {
        Some(pair) => Err(MapError::Duplicate { vip, backend: pair[0].address }),
        None => Ok(backends),
    }
}

/// The new slots. Backends that stay keep their rows, the others take `fresh` ones.
fn draft(
    wanted: &[BackendWanted],
    kept: &BTreeMap<SocketAddr, u32>,
    mut fresh: impl Iterator<Item = u32>,
    generation: u32,
) -> Vec<Slot> {
    let mut cumulative = 0;
    let slot = |backend: &BackendWanted| {
        // At most 2^16 backends of at most 2^16 - 1 each: the sum fits.
        cumulative += backend.effective_weight();
        let row = kept.get(&backend.address).copied().or_else(|| fresh.next());
        Slot {
            address: Ip16::from(backend.address.ip()),
            port: Be16::new(backend.address.port()),
            flags: match backend.admission {
                Admission::Admitted => Slot::ADMITTED,
                Admission::Withheld => 0,
            },
            weight: u32::from(backend.weight),
            cumulative,
            row: row.unwrap_or_default(),
            generation,
        }
    };
    wanted.iter().map(slot).collect()
}

fn table<K: Plain, V: Plain>(
    directory: &Path,
    name: &str,
    capacity: usize,
) -> Result<Table<K, V>, LoadError> {
    let path = map_pin(directory, name);
    let opened = bpf::obj_get(&path).and_then(|map| Table::new(map, capacity));
    match opened {
        Ok(Ok(table)) => Ok(table),
        Ok(Err(shape)) => Err(LoadError::Layout {
            path,
            key: shape.key_size,
            value: shape.value_size,
            entries: shape.max_entries,
        }),
        Err(source) => Err(LoadError::Path { request: "open map", path, source }),
    }
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
