//! Single backends of a long run, at a cost that does not depend on how many there are.
//!
//! One that goes leaves its slot behind, which is not admitted any more and names an heir; one that comes gets a slot
//! behind the open ones, and the VIP's element counts one more. Withheld ones in the way are moved to the end: only user
//! space reads them. Once too many are gone or the spare slots are used up, all are written anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mizzen_ebpf_abi::{NO_HISTOGRAM, Row, Slot, VipValue, maps};
use mizzen_ebpf_core::select::point;

use super::change::{blank, take, wait_and_settle};
use super::laid::Laid;
use super::{Slab, vip_request};
use crate::compare::stands_for;
use crate::words::{removal, slot_address, vip_key};
use crate::{BackendWanted, MapError, VipAddress, VipWanted, clock, draft};

impl Slab {
    /// Changes some backends in place. False if that cannot be done, or not with all of them: then the VIP has to be set.
    pub fn change(
        &mut self,
        vip: VipAddress,
        policy: &VipWanted,
        touched: &BTreeMap<SocketAddr, Option<BackendWanted>>,
    ) -> Result<bool, MapError> {
        let Some(value) = self.value(vip)? else { return Ok(false) };
        let Some(mut laid) = self.laid.remove(&vip) else { return Ok(false) };
        let mut is_done = Ok(laid.value == value && policy.is_but_for_backends(&value));
        for (address, now) in touched {
            if !matches!(is_done, Ok(true)) {
                break;
            }
            is_done = self.change_backend(vip, &mut laid, *address, now.as_ref());
        }
        self.laid.insert(vip, laid);
        is_done
    }

    fn change_backend(
        &mut self,
        vip: VipAddress,
        laid: &mut Laid,
        address: SocketAddr,
        now: Option<&BackendWanted>,
    ) -> Result<bool, MapError> {
        let former = laid.find(&self.slots, address);
        match (&former, now) {
            (None, None) => return Ok(true),
            (Some((_, slot)), Some(now)) if stands_for(slot, now) => return Ok(true),
            _ => {}
        }
        let may_go = former.is_none_or(|(position, _)| laid.may_go(position));
        let may_come = now.is_none_or(|now| {
            laid.is_fair_with(&self.slots, now)
                && (vip.socket.is_ipv6() || now.address.is_ipv4())
                && self.has_spare(laid)
        });
        if !may_go || !may_come {
            return Ok(false);
        }
        let was_open = former.is_some_and(|(position, _)| position < laid.value.open);
        let place = match now {
            Some(now) => match self.bring_in(vip, laid, now, former)? {
                Some(position) => Some(position),
                None => return Ok(false),
            },
            None => None,
        };
        laid.note_place(address, place);
        let Some((position, slot)) = former else { return Ok(true) };
        if place != Some(position) {
            self.slots.bury(laid.value.base + position, laid.heir(&self.slots, position));
            laid.note_gone(position);
        }
        if now.is_none() {
            self.retire_backend(vip, removal(laid.value.flags), &slot);
        }
        if was_open && now.is_none_or(|now| !now.is_open()) {
            self.rows.end_ejection(slot.row, laid.value.row);
        }
        Ok(true)
    }

    /// Whether a run has a spare slot. One that got none when it was laid out may find some right behind by now.
    fn has_spare(&mut self, laid: &mut Laid) -> bool {
        if let Some((behind, missing)) = laid.wants_spare() {
            let mut count = self.free_slots.take_behind(behind, missing);
            if count == 0 && self.free_slots.has_resting() {
                wait_and_settle(&mut self.free_slots);
                count = self.free_slots.take_behind(behind, missing);
            }
            laid.add_spare(count);
        }
        laid.has_spare()
    }

    /// Gives a backend a slot: at the end, or if it is open behind the last open one. One that had a `former` position
    /// keeps its row. None if there is no row.
    fn bring_in(
        &mut self,
        vip: VipAddress,
        laid: &mut Laid,
        wanted: &BackendWanted,
        former: Option<(u32, Slot)>,
    ) -> Result<Option<u32>, MapError> {
        let value @ VipValue { base, length, open, .. } = laid.value;
        let now = clock::monotonic();
        let seconds = (now / 1_000_000_000) as u32;
        let open_since =
            former.filter(|(position, _)| *position < open).map(|(_, slot)| slot.since);
        let joined = if self.joins_others(&value, seconds) { now } else { 0 };
        let row = match former {
            Some((_, slot)) => slot.row,
            None => match self.row_for(vip, &value, joined)? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        let slot = draft::slot(wanted, row, value.generation, open_since.unwrap_or(seconds));
        let position = if wanted.is_open() { open } else { length };
        self.slots.ensure(base + length, 1).map_err(vip_request("map", vip, maps::SLOTS))?;
        let before = self.slots.get(base + position).filter(|_| position < length);
        let is_in_the_way = |slot: &Slot| {
            slot.flags & Slot::GONE == 0 && former.is_none_or(|(former, _)| former != position)
        };
        let moved = before.filter(is_in_the_way);
        if let Some(slot) = moved {
            self.slots.set(base + length, slot);
        }
        self.slots.write_behind(base + position, slot);
        let mut next = value;
        next.length += u32::from(position == length || moved.is_some());
        if wanted.is_open() {
            next.open += 1;
            next.within += u32::from(value.within == open);
            next.near += u32::from(value.near == open);
        }
        if let Err(error) = self.vips.put(&vip_key(&vip), &next) {
            if let Some(before) = before {
                self.slots.set(base + position, before);
            }
            if former.is_none() {
                self.histograms
                    .give_back(self.rows.get(row).map_or(NO_HISTOGRAM, |row| row.histogram));
                self.free_rows.give_back(row, 1);
            }
            return Err(vip_request("write", vip, maps::VIPS)(error));
        }
        laid.value = next;
        if let Some(slot) = moved {
            laid.note_place(slot_address(&slot), Some(length));
        }
        if wanted.is_open() && former.is_some() && open_since.is_none() {
            self.rows.set_joined(row, joined);
        }
        Ok(Some(position))
    }

    /// A row for a backend that comes; none if there is none.
    fn row_for(
        &mut self,
        vip: VipAddress,
        value: &VipValue,
        joined: u64,
    ) -> Result<Option<u32>, MapError> {
        let Some(row) = take(&mut self.free_rows, 1) else { return Ok(None) };
        self.rows.ensure(row, 1).map_err(vip_request("map", vip, maps::ROWS))?;
        let (epoch, histogram) = (self.generation(), self.histograms.take());
        self.rows.set(row, Row { epoch, vip_row: value.row, histogram, joined, ..blank() });
        Ok(Some(row))
    }

    /// Whether one that comes lets the others carry the load at first; some of them say enough.
    fn joins_others(&self, value: &VipValue, seconds: u32) -> bool {
        let VipValue { base, open, slow_start, .. } = *value;
        let asked = (0..ASKED).filter_map(|n| self.slots.get(base + point(n << ASKED_SHIFT, open)));
        let there = asked.filter(|slot| slot.flags & Slot::ADMITTED != 0);
        draft::joins_others(there, slow_start, seconds)
    }
}

/// Open backends that are asked whether they are warm, spread evenly over all.
const ASKED: u32 = 1 << (u32::BITS - ASKED_SHIFT);
const ASKED_SHIFT: u32 = 26;
