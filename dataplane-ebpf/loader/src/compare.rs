//! Which backends of a run stay, which join and which leave.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mizzen_ebpf_abi::{Ip16, Slot};

use crate::words::{backend, slot_address, slot_flags};
use crate::{BackendWanted, Distance};

/// What a backend had before the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its row.
    pub row: u32,
    /// Since which second it is admitted; none if it is not.
    pub open_since: Option<u32>,
}

/// What a change makes of a run's backends.
///
/// ```text
/// run     ◀── head ──▶│ some stay, some are gone │◀─── tail ───▶
/// wanted  ◀── head ──▶│ some kept, some new      │◀─── tail ───▶
/// ```
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Slots at the beginning of the run that stay as they are, but for draws.
    pub head: usize,
    /// What the wanted backends between head and tail have already, in their order.
    pub kept: Vec<Option<Kept>>,
    /// Slots at the end of the run that stay as they are, but for draws.
    pub tail: usize,
    /// The slots of those that leave.
    pub gone: Vec<Slot>,
}

impl Comparison {
    /// Compares the `wanted` backends with the slots of a run, both in the order of a run. The first `open` slots are open.
    pub fn of(wanted: &[BackendWanted], slots: &[Slot], open: usize) -> Self {
        let alike = |(backend, slot): &(&BackendWanted, &Slot)| stands_for(slot, backend);
        let head = wanted.iter().zip(slots).take_while(alike).count();
        let pairs = wanted[head..].iter().rev().zip(slots[head..].iter().rev());
        let tail = pairs.take_while(alike).count();
        let between = slots[..slots.len() - tail].iter().copied().enumerate().skip(head);
        let between = between.map(|(index, slot)| (slot, index < open));
        let (kept, gone) = find(&wanted[head..wanted.len() - tail], between);
        Self { head, kept, tail, gone }
    }

    /// How many backends are wanted that the run does not have.
    pub fn count_new(&self) -> usize {
        self.kept.iter().filter(|kept| kept.is_none()).count()
    }

    /// Whether all backends stay as they are.
    pub fn is_same(&self) -> bool {
        self.kept.is_empty() && self.gone.is_empty()
    }
}

/// What the `wanted` backends have already, and the slots of none. Each slot comes with whether it is open.
///
/// Both are in the same order, so one pass side by side finds all but those that have become nearer or farther, or were
/// admitted or withheld. Only these are searched for.
fn find(
    wanted: &[BackendWanted],
    slots: impl Iterator<Item = (Slot, bool)>,
) -> (Vec<Option<Kept>>, Vec<Slot>) {
    let mut kept = Vec::with_capacity(wanted.len());
    let mut left = Vec::new();
    for (slot, is_open) in slots {
        let place = order(&backend(&slot));
        while wanted.get(kept.len()).is_some_and(|next| order(next) < place) {
            kept.push(None);
        }
        let found = Kept { row: slot.row, open_since: is_open.then_some(slot.since) };
        if wanted.get(kept.len()).is_some_and(|next| order(next) == place) {
            kept.push(Some(found));
        } else {
            left.push((slot_address(&slot), found, slot));
        }
    }
    kept.resize(wanted.len(), None);
    let gone = find_moved(wanted, &mut kept, left);
    (kept, gone)
}

/// Finds backends that have another place in the order now among the slots that are left over, and returns the others.
fn find_moved(
    wanted: &[BackendWanted],
    kept: &mut [Option<Kept>],
    mut left: Vec<(SocketAddr, Kept, Slot)>,
) -> Vec<Slot> {
    left.sort_unstable_by_key(|(address, ..)| *address);
    let mut stays = vec![false; left.len()];
    for (backend, kept) in wanted.iter().zip(kept).filter(|(_, kept)| kept.is_none()) {
        if let Ok(index) = left.binary_search_by_key(&backend.address, |(address, ..)| *address) {
            *kept = Some(left[index].1);
            stays[index] = true;
        }
    }
    let gone = left.iter().zip(stays).filter(|(_, stays)| !stays);
    gone.map(|((.., slot), _)| *slot).collect()
}

/// Whether a slot says just what is wanted of a backend.
pub fn stands_for(slot: &Slot, backend: &BackendWanted) -> bool {
    let is_there = match backend.address.ip() {
        IpAddr::V4(ip) => slot.address.is_v4() && slot.address.words()[3] == words(ip),
        IpAddr::V6(ip) => slot.address == Ip16::from(IpAddr::V6(ip)),
    };
    is_there
        && slot.port.get() == backend.address.port()
        && slot.weight == u32::from(backend.weight)
        && slot.flags == slot_flags(backend)
}

/// An IPv4 address as [`Ip16`] has it.
fn words(ip: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(ip.octets())
}

/// The order of a run's backends.
pub fn order(backend: &BackendWanted) -> ((bool, Distance), SocketAddr) {
    (class(backend), backend.address)
}

/// The open ones come first, and of these the nearest.
pub fn class(backend: &BackendWanted) -> (bool, Distance) {
    (!backend.is_open(), backend.distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Admission, VipAddress, draft};

    /// Backends by letters: far ones, those in capitals on the node.
    fn named(names: &str) -> Vec<BackendWanted> {
        let backend = |name: char| {
            let address = format!("10.0.0.{}:1", u32::from(name.to_ascii_lowercase()));
            let distance = if name.is_uppercase() { Distance::Node } else { Distance::Far };
            let address = address.parse().expect("an address");
            BackendWanted { distance, ..BackendWanted::new(address) }
        };
        let vip = VipAddress::tcp("11.0.0.1:80".parse().expect("an address"));
        let backends: Vec<BackendWanted> = names.chars().map(backend).collect();
        draft::in_order(vip, &backends).expect("usable").into_owned()
    }

    #[test]
    fn backends_that_stay_keep_what_they_have_wherever_they_move() {
        #[rustfmt::skip]
        let table = [
            //                        before    after     rows of those before; new ones have none
            ("nothing changes",       "abcdef", "abcdef", "012345", ""),
            ("one in another's place", "acegik", "acfgik", "01-345", "2"),
            ("one more",              "abdef",  "abcdef", "01-234", ""),
            ("many fewer",            "abcdef", "af",     "05",     "1234"),
            ("all others",            "abc",    "def",    "---",    "012"),
            ("one comes near",        "abcdef", "Eabcdf", "401235", ""),
            ("one goes far",          "EFabcd", "Fabcde", "123450", ""),
            ("all come near",         "abc",    "ABC",    "012",    ""),
            ("one comes, one goes",   "Eabcd",  "Fabce",  "-1230",  "4"),
            ("the first ones",        "",       "ab",     "--",     ""),
            ("the last ones",         "ab",     "",       "",       "01"),
        ];
        for (name, before, after, want, want_gone) in table {
            let (before, after) = (named(before), named(after));
            let found = compare(&before, before.len(), &after);
            let slots = before.len();
            let mut rows: Vec<String> = (0..found.head).map(|row| row.to_string()).collect();
            rows.extend(
                found
                    .kept
                    .iter()
                    .map(|kept| kept.map_or("-".to_owned(), |kept| kept.row.to_string())),
            );
            rows.extend((slots - found.tail..slots).map(|row| row.to_string()));
            assert_eq!(rows.concat(), want, "{name}");
            let gone: String = found.gone.iter().map(|slot| slot.row.to_string()).collect();
            assert_eq!(gone, want_gone, "{name}");
            assert_eq!(found.count_new(), want.matches('-').count(), "{name}");
            assert_eq!(found.is_same(), name == "nothing changes", "{name}");
        }
    }

    #[test]
    fn only_what_differs_is_between_head_and_tail() {
        let mut after = named("abcdef");
        after[2].weight = 7;
        after[3].admission = Admission::Withheld;
        after.sort_by_key(order);
        let found = compare(&named("abcdef"), 4, &after);
        let kept = |row, open_since| Some(Kept { row, open_since });
        let moved = [kept(2, Some(100)), kept(4, None), kept(5, None), kept(3, Some(100))];
        assert_eq!((found.head, found.tail), (2, 0));
        assert_eq!(found.kept, moved, "only an open backend keeps the time since when it is");
    }

    /// The rows of those before are 0, 1, …
    fn compare(before: &[BackendWanted], open: usize, after: &[BackendWanted]) -> Comparison {
        let new = vec![None; before.len()];
        let slots: Vec<Slot> = draft::slots(before, &new, 0.., 7, 100).collect();
        Comparison::of(after, &slots, open)
    }
}
