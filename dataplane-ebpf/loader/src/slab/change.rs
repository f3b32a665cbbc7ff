//! One change of a VIP: laid out where nobody looks, swapped in, cleared up after.

use std::thread;
use std::time::Duration;

use mizzen_ebpf_abi::{NO_HISTOGRAM, Row, Slot, VipKey, VipValue, maps};
use zerocopy::FromZeros;

use super::laid::Laid;
use super::{Run, Slab, vip_request};
use crate::compare::Comparison;
use crate::extents::Extents;
use crate::words::{removal, slot_address, vip_key};
use crate::{BackendWanted, Leaver, MapError, Removal, VipAddress, VipWanted, bpf, clock, draft};

/// A new state of a VIP, written but not yet referred to.
pub(super) struct Change {
    pub(super) vip: VipAddress,
    value: VipValue,
    present: Option<VipValue>,
    /// Slots that were taken for the run: some more than it has, if backends can be changed in place.
    capacity: u32,
    is_changeable: bool,
    /// Who stays, who joins, who leaves.
    comparison: Comparison,
    /// Rows that had no owner before.
    fresh_rows: Vec<u32>,
}

impl Slab {
    /// Takes what the change of a `present` VIP needs and writes it where nobody looks; none if nothing differs.
    pub(super) fn prepare(
        &mut self,
        vip: VipAddress,
        wanted: &VipWanted,
        present: Option<VipValue>,
    ) -> Result<Option<Change>, MapError> {
        // More would overflow the sum of the weights.
        if wanted.backends.len() > maps::BACKENDS_CAPACITY {
            let wanted = wanted.backends.len();
            return Err(MapError::Full { vip, map: maps::SLOTS, wanted });
        }
        let ordered = draft::in_order(vip, &wanted.backends)?;
        let former = Run { value: VipValue::default(), slots: Vec::new() };
        let former = present.map_or(former, |value| self.run(value));
        let comparison = Comparison::of(&ordered, &former.slots, former.open());
        if comparison.is_same() && present.is_some_and(|value| wanted.is_but_for_backends(&value)) {
            return Ok(None);
        }
        let value = draft::value(wanted, &ordered, self.generation());
        let is_changeable = draft::is_changeable(wanted, &ordered, &draft::classes(&value));
        let fresh_rows = Vec::new();
        let mut change =
            Change { vip, value, present, capacity: 0, is_changeable, comparison, fresh_rows };
        if let Err(error) = self.take(&mut change, wanted, &former) {
            self.give_back(&change);
            return Err(error);
        }
        self.lay_out(&change, &ordered, &former);
        Ok(Some(change))
    }

    /// Takes slots, rows and places; what was taken before an error is in `change` all the same.
    fn take(
        &mut self,
        change: &mut Change,
        wanted: &VipWanted,
        former: &Run,
    ) -> Result<(), MapError> {
        let vip = change.vip;
        let full = |map, wanted: u32| MapError::Full { vip, map, wanted: wanted as usize };
        let rows = change.comparison.count_new() as u32 + u32::from(change.present.is_none());
        for _ in 0..rows {
            let row = take(&mut self.free_rows, 1).ok_or_else(|| full(maps::ROWS, rows))?;
            change.fresh_rows.push(row);
        }
        change.value.row = match &change.present {
            Some(value) => value.row,
            None => change.fresh_rows.first().copied().unwrap_or_default(),
        };
        let places = draft::ring_length(wanted, change.value.open);
        change.value.ring_base =
            take(&mut self.free_rings, places).ok_or_else(|| full(maps::RINGS, places))?;
        change.value.ring_length = places;
        let length = change.value.length;
        let run = self.take_run(change, former)?.ok_or_else(|| full(maps::SLOTS, length))?;
        (change.value.base, change.capacity) = run;
        let VipValue { base, length, ring_base, ring_length, .. } = change.value;
        self.slots.ensure(base, length).map_err(vip_request("map", vip, maps::SLOTS))?;
        self.rings.ensure(ring_base, ring_length).map_err(vip_request("map", vip, maps::RINGS))?;
        let last = change.fresh_rows.iter().copied().max().unwrap_or_default();
        self.rows.ensure(last, 1).map_err(vip_request("map", vip, maps::ROWS))
    }

    /// Takes the slots of a run, and where there is room some more for backends that come later: the first, and how many.
    fn take_run(
        &mut self,
        change: &mut Change,
        former: &Run,
    ) -> Result<Option<(u32, u32)>, MapError> {
        let length = change.value.length;
        let spare = if change.is_changeable { draft::spare(length) } else { 0 };
        if let Some(base) = take(&mut self.free_slots, length + spare) {
            return Ok(Some((base, length + spare)));
        }
        for laid in self.laid.values_mut() {
            let (first, count) = laid.give_up_spare();
            self.free_slots.give_back(first, count);
        }
        let mut base = take(&mut self.free_slots, length);
        if base.is_none() && self.shorten(change, former)? {
            base = take(&mut self.free_slots, length);
        }
        Ok(base.map(|base| (base, length)))
    }

    /// Makes the run that is to be replaced no longer than the one that replaces it, if some in it are gone: otherwise the
    /// largest VIP could not be written anew. Who was there takes no connections until that is done.
    fn shorten(&mut self, change: &mut Change, former: &Run) -> Result<bool, MapError> {
        let VipValue { base, length, open, near, within, .. } = former.value;
        let rest = change.value.length.max(former.slots.len() as u32);
        if rest >= length {
            return Ok(false);
        }
        let (open, near, within) = (open.min(rest), near.min(rest), within.min(rest));
        let value = VipValue { length: rest, open, near, within, ..former.value };
        let written = self.vips.put(&vip_key(&change.vip), &value);
        written.map_err(vip_request("write", change.vip, maps::VIPS))?;
        self.laid.remove(&change.vip);
        self.free_slots.rest(base + rest, length - rest);
        change.present = Some(value);
        Ok(true)
    }

    /// Writes everything but the VIP's element.
    fn lay_out(&mut self, change: &Change, ordered: &[BackendWanted], former: &Run) {
        let (value, Comparison { head, kept, .. }) = (&change.value, &change.comparison);
        let now = clock::monotonic();
        let seconds = (now / 1_000_000_000) as u32;
        let others = former.slots[..former.open()].iter().copied();
        let joined = if draft::joins_others(others, value.slow_start, seconds) { now } else { 0 };
        let fresh = self.lay_out_rows(change, joined);
        let between = &ordered[*head..*head + kept.len()];
        let slots = draft::slots(between, kept, fresh, value.generation, seconds);
        self.slots.set_range(value.base + *head as u32, slots);
        self.carry_over(former, change);
        draft::spread_draws(ordered, &draft::classes(value), |position, threshold, alias| {
            let index = value.base + position;
            let slot = self.slots.get(index).unwrap_or_default();
            self.slots.set(index, Slot { threshold, alias, ..slot });
        });
        if value.ring_length > 0 {
            let ring = draft::ring(ordered, value.ring_length, value.generation);
            self.rings.set_range(value.ring_base, ring);
        }
    }

    /// Writes the rows of what is new, which `joined` at that time, and returns those of the backends.
    fn lay_out_rows<'a>(
        &mut self,
        change: &'a Change,
        joined: u64,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let (value, Comparison { head, kept, .. }) = (&change.value, &change.comparison);
        let mut fresh = change.fresh_rows.iter().copied();
        if change.present.is_none() {
            let row = Row { epoch: value.generation, histogram: NO_HISTOGRAM, ..blank() };
            self.rows.set(fresh.next().unwrap_or_default(), row);
        }
        for row in fresh.clone() {
            let histogram = self.histograms.take();
            let (epoch, vip_row) = (value.generation, value.row);
            self.rows.set(row, Row { epoch, vip_row, histogram, joined, ..blank() });
        }
        let open = (value.open as usize).saturating_sub(*head);
        for kept in kept.iter().take(open).flatten().filter(|kept| kept.open_since.is_none()) {
            self.rows.set_joined(kept.row, joined);
        }
        fresh
    }

    /// Writes the slots that stay as they are.
    fn carry_over(&self, former: &Run, change: &Change) {
        let VipValue { base, length, generation, .. } = change.value;
        let Comparison { head, tail, .. } = change.comparison;
        let (first, last) = (&former.slots[..head], &former.slots[former.slots.len() - tail..]);
        for (to, slots) in [(base, first), (base + length - tail as u32, last)] {
            let slots = slots.iter().map(|slot| Slot {
                threshold: u32::MAX,
                alias: 0,
                generation,
                ..*slot
            });
            self.slots.set_range(to, slots);
        }
    }

    /// Replaces the elements of the VIPs, all with one call if the kernel takes them.
    pub(super) fn write(&self, changes: &[Change]) -> Vec<Result<(), MapError>> {
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
    pub(super) fn finish(&mut self, change: &Change) {
        let VipValue { length, generation, row, .. } = change.value;
        tracing::debug!(vip = %change.vip, backends = length, generation, "VIP written");
        if change.is_changeable && change.present.is_none() {
            self.laid.insert(change.vip, Laid::new(change.value, change.capacity));
        }
        let Some(former) = change.present else { return };
        // What is wanted now goes for those that leave as well.
        let removal = removal(change.value.flags);
        self.retire(change.vip, removal, &former, &change.comparison.gone);
        if change.is_changeable {
            self.laid.insert(change.vip, Laid::new(change.value, change.capacity));
        }
        // Programs count ejections up and down; those of backends that went, or are withheld and
        // so need none, are taken off here.
        if self.rows.ejected(row) > 0 {
            let VipValue { base, open, .. } = change.value;
            let withheld = self.slots.range(base + open, length - open);
            withheld.for_each(|slot| self.rows.clear_ejection(slot.row));
            let slots = self.slots.range(base, length);
            let ejected = slots.filter(|slot| self.rows.is_ejected(slot.row)).count();
            self.rows.set_ejected(row, ejected as u32);
        }
    }

    /// Undoes what was taken for a change that nobody has seen.
    pub(super) fn give_back(&mut self, change: &Change) {
        for row in &change.fresh_rows {
            let histogram = self.rows.get(*row).filter(|row| row.epoch == change.value.generation);
            if let Some(row) = histogram {
                self.histograms.give_back(row.histogram);
            }
            self.free_rows.give_back(*row, 1);
        }
        self.free_slots.give_back(change.value.base, change.capacity);
        self.free_rings.give_back(change.value.ring_base, change.value.ring_length);
    }

    /// Lets a run rest that no VIP refers to any more, and the rows of those of its backends that are `gone`.
    pub(super) fn retire(
        &mut self,
        vip: VipAddress,
        removal: Removal,
        former: &VipValue,
        gone: &[Slot],
    ) {
        let capacity = self.laid.remove(&vip).map_or(former.length, |laid| laid.capacity());
        self.free_slots.rest(former.base, capacity);
        self.free_rings.rest(former.ring_base, former.ring_length);
        for slot in gone {
            self.retire_backend(vip, removal, slot);
        }
    }

    /// Lets the row of a backend that is gone rest.
    pub(super) fn retire_backend(&mut self, vip: VipAddress, removal: Removal, slot: &Slot) {
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

/// How long to wait where the kernel offers no barrier: no program runs for as long.
const GRACE_WITHOUT_BARRIER: Duration = Duration::from_millis(100);

/// Takes a free run; if only resting ones are left, waits until nobody reads them.
pub(super) fn take(extents: &mut Extents, length: u32) -> Option<u32> {
    if let Some(base) = extents.take(length) {
        return Some(base);
    }
    if !extents.has_resting() {
        return None;
    }
    wait_and_settle(extents);
    extents.take(length)
}

pub(super) fn wait_and_settle(extents: &mut Extents) {
    if let Err(error) = bpf::wait_for_running_programs() {
        tracing::debug!(%error, "no barrier for running programs; waiting instead");
        thread::sleep(GRACE_WITHOUT_BARRIER);
    }
    extents.settle();
}

pub(super) fn blank() -> Row {
    Row::new_zeroed()
}
