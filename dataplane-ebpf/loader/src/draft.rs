//! A VIP's run of slots and its ring, worked out before anything is written.
//!
//! ```text
//! open, on this node │ open, in its zone │ open, elsewhere │ withheld or without weight
//! ◀───── near ──────▶│                   │                 │     (near is the next class if none is on the node)
//! ◀─────────────── within ──────────────▶│                 │
//! ◀───────────────────────── open ────────────────────────▶│
//! ```

use std::borrow::Cow;
use std::net::SocketAddr;

use mizzen_ebpf_abi::{Be16, Ip16, Place, Slot, VipValue};
use mizzen_ebpf_core::ring::{self, Seat};
use mizzen_ebpf_core::select::{self, mix};
use mizzen_ebpf_core::steps::{CLASSES, Classes, Part};

use crate::compare::{Kept, class};
use crate::words::slot_flags;
use crate::{BackendWanted, Distance, Locality, MapError, VipAddress, VipWanted};

/// The backends in the order of a run; refused if they cannot be what `vip` has.
pub fn in_order(
    vip: VipAddress,
    wanted: &[BackendWanted],
) -> Result<Cow<'_, [BackendWanted]>, MapError> {
    if is_in_order(vip, wanted) {
        return Ok(Cow::Borrowed(wanted));
    }
    let is_v4 = |address: SocketAddr| Ip16::from(address.ip()).is_v4();
    if is_v4(vip.socket)
        && let Some(other) = wanted.iter().find(|backend| !is_v4(backend.address))
    {
        return Err(MapError::Family { vip, backend: other.address });
    }
    let mut backends: Vec<BackendWanted> = wanted.iter().map(plain).collect();
    backends.sort_unstable_by_key(|backend| backend.address);
    if let Some(pair) = backends.windows(2).find(|pair| pair[0].address == pair[1].address) {
        return Err(MapError::Duplicate { vip, backend: pair[0].address });
    }
    backends.sort_by_key(class);
    Ok(Cow::Owned(backends))
}

/// Whether these backends of an IPv4 VIP are sorted by address and all of one class, as they mostly are.
fn is_in_order(vip: VipAddress, wanted: &[BackendWanted]) -> bool {
    vip.socket.is_ipv4()
        && wanted.iter().all(|backend| backend.address.is_ipv4())
        && wanted
            .windows(2)
            .all(|pair| class(&pair[0]) == class(&pair[1]) && pair[0].address < pair[1].address)
}

/// An IPv4 address in IPv6 clothes is an IPv4 address.
fn plain(backend: &BackendWanted) -> BackendWanted {
    let ip = backend.address.ip().to_canonical();
    BackendWanted { address: SocketAddr::new(ip, backend.address.port()), ..*backend }
}

/// The slots of a run, for backends and what each has already. Those that stay keep their rows, the
/// others take `fresh` ones. Draws hit all alike.
pub fn slots(
    ordered: &[BackendWanted],
    kept: &[Option<Kept>],
    mut fresh: impl Iterator<Item = u32>,
    generation: u32,
    now_seconds: u32,
) -> impl Iterator<Item = Slot> {
    ordered.iter().zip(kept).map(move |(backend, kept)| {
        let row = kept.map(|kept| kept.row).or_else(|| fresh.next()).unwrap_or_default();
        let since = kept.and_then(|kept| kept.open_since).unwrap_or(now_seconds);
        slot(backend, row, generation, since)
    })
}

/// The slot of one, which draws stay with.
pub fn slot(backend: &BackendWanted, row: u32, generation: u32, since: u32) -> Slot {
    Slot {
        address: Ip16::from(backend.address.ip()),
        port: Be16::new(backend.address.port()),
        flags: slot_flags(backend),
        weight: u32::from(backend.weight),
        threshold: u32::MAX,
        alias: 0,
        row,
        generation,
        since,
        heir: 0,
    }
}

/// Backends from which on single ones of a VIP are changed in place.
pub const LONG: u32 = 1024;

/// Whether single backends of such a run can be changed in place: what draws hit follows from nothing but their number.
pub fn is_changeable(wanted: &VipWanted, ordered: &[BackendWanted], classes: &Classes) -> bool {
    let mut parts = (0..CLASSES).map(|class| part(ordered, classes.part(class)));
    ordered.len() >= LONG as usize && !wanted.needs_ring() && parts.all(have_equal_weights)
}

/// Slots behind a run of so many that backends which come later may have.
pub fn spare(length: u32) -> u32 {
    length / SHARE
}

/// One of so many slots may be that of a backend that is gone, or came later, before all are written anew.
pub const SHARE: u32 = 16;

/// Lets draws among the open slots of a class hit each by its weight: calls `put` with position, threshold and alias of
/// those that draws do not always stay with.
pub fn spread_draws(
    ordered: &[BackendWanted],
    classes: &Classes,
    mut put: impl FnMut(u32, u32, u32),
) {
    for class in (0..CLASSES).map(|class| classes.part(class)) {
        let backends = part(ordered, class);
        if have_equal_weights(backends) {
            continue;
        }
        let weights: Vec<u32> = backends.iter().map(|backend| u32::from(backend.weight)).collect();
        let (mut small, mut large) = (vec![0; weights.len()], vec![0; weights.len()]);
        let mut left = vec![0; weights.len()];
        let put = |index: usize, threshold: u32, alias: u32| {
            put(class.start + index as u32, threshold, class.start + alias);
        };
        select::aliases(&weights, &mut small, &mut large, put, &mut left);
    }
}

fn part(ordered: &[BackendWanted], part: Part) -> &[BackendWanted] {
    let range = part.start as usize..(part.start + part.length) as usize;
    ordered.get(range).unwrap_or_default()
}

fn have_equal_weights(backends: &[BackendWanted]) -> bool {
    backends.windows(2).all(|pair| pair[0].weight == pair[1].weight)
}

/// The value of the VIP, but for the places of its run, ring and row.
pub fn value(wanted: &VipWanted, ordered: &[BackendWanted], generation: u32) -> VipValue {
    let open = &ordered[..ordered.partition_point(BackendWanted::is_open)];
    let within = |distance| open.partition_point(|backend| backend.distance <= distance) as u32;
    let Classes { near, within, open } = match wanted.locality {
        Locality::Ignore => Classes::alike(open.len() as u32),
        Locality::Prefer => {
            Classes::of(within(Distance::Node), within(Distance::Zone), open.len() as u32)
        }
    };
    VipValue {
        length: ordered.len() as u32,
        generation,
        open,
        near,
        within,
        rule: wanted.rule_number(),
        flags: wanted.flags(),
        slow_start: wanted.slow_start,
        ..VipValue::default()
    }
}

/// How far away the open backends of a VIP are.
pub fn classes(value: &VipValue) -> Classes {
    let VipValue { near, within, open, .. } = *value;
    Classes { near, within, open }
}

/// Places that the ring of a VIP needs; none if its rule needs no ring.
pub fn ring_length(wanted: &VipWanted, open: u32) -> u32 {
    if wanted.needs_ring() && open > 0 { ring::size(open as usize) } else { 0 }
}

/// The ring of a run's open slots.
pub fn ring(ordered: &[BackendWanted], length: u32, generation: u32) -> Vec<Place> {
    let open = ordered.iter().take_while(|backend| backend.is_open());
    // In the order of addresses, so that every node builds the same ring from the same backends.
    let mut seats: Vec<(SocketAddr, u32, Seat)> = open
        .zip(0..)
        .map(|(backend, index)| {
            let seat = Seat { hash: hash(backend.address), weight: u32::from(backend.weight) };
            (backend.address, index, seat)
        })
        .collect();
    seats.sort_unstable_by_key(|(address, ..)| *address);
    let bare: Vec<Seat> = seats.iter().map(|(.., seat)| *seat).collect();
    let mut table = vec![0; length as usize];
    ring::fill(&bare, &mut vec![0; bare.len()], &mut table);
    let index = |seat: u32| seats.get(seat as usize).map_or(0, |(_, index, _)| *index);
    table.into_iter().map(|seat| Place { index: index(seat), generation }).collect()
}

/// A number that depends on nothing but the address and port.
fn hash(address: SocketAddr) -> u64 {
    let words = Ip16::from(address.ip()).words();
    let port = u64::from(address.port());
    words.into_iter().fold(mix(port ^ 0x6d69_7a7a_656e), |hash, word| mix(hash ^ u64::from(word)))
}

/// Whether a backend that joins a run of such open slots lets the others carry the load at first.
pub fn joins_others(
    mut open: impl Iterator<Item = Slot>,
    slow_start: u32,
    now_seconds: u32,
) -> bool {
    let long_enough = slow_start.div_ceil(1000);
    slow_start > 0 && open.any(|slot| now_seconds.saturating_sub(slot.since) >= long_enough)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Admission;
    use crate::words::slot_address;

    fn backend(address: &str, weight: u16, distance: Distance) -> BackendWanted {
        let address = address.parse().expect("an address");
        BackendWanted { weight, distance, ..BackendWanted::new(address) }
    }

    fn vip() -> VipAddress {
        VipAddress::tcp("11.0.0.1:80".parse().expect("an address"))
    }

    #[test]
    fn the_nearest_come_first_and_the_withheld_last() {
        let mut withheld = backend("10.0.0.1:1", 1, Distance::Node);
        withheld.admission = Admission::Withheld;
        let wanted = VipWanted::from(vec![
            withheld,
            backend("10.0.0.2:1", 1, Distance::Far),
            backend("10.0.0.3:1", 1, Distance::Node),
            backend("10.0.0.4:1", 0, Distance::Node),
            backend("10.0.0.5:1", 2, Distance::Zone),
        ]);
        let ordered = in_order(vip(), &wanted.backends).expect("usable");
        let value = value(&wanted, &ordered, 7);
        assert_eq!((value.near, value.within, value.open, value.length), (1, 2, 3, 5));
        let order: Vec<u16> = slots(&ordered, &[None; 5], 10.., 7, 100)
            .map(|slot| u16::from(slot_address(&slot).to_string().as_bytes()[7] - b'0'))
            .collect();
        assert_eq!(order, [3, 5, 2, 1, 4]);
    }

    #[test]
    fn draws_stay_among_the_near_or_among_the_others() {
        let wanted = VipWanted::from(vec![
            backend("10.0.0.1:1", 3, Distance::Node),
            backend("10.0.0.2:1", 1, Distance::Node),
            backend("10.0.0.3:1", 1, Distance::Far),
            backend("10.0.0.4:1", 3, Distance::Far),
        ]);
        let ordered = in_order(vip(), &wanted.backends).expect("usable");
        let half = 1 << 31;
        let mut draws = [(u32::MAX, 0); 4];
        let put = |position: u32, threshold, alias| draws[position as usize] = (threshold, alias);
        spread_draws(&ordered, &Classes::of(2, 2, 4), put);
        assert_eq!(draws, [(u32::MAX, 0), (half, 0), (half, 3), (u32::MAX, 3)]);
    }

    #[test]
    fn a_backend_warms_up_only_beside_warm_ones() {
        let since = |since| vec![Slot { since, ..Slot::default() }];
        #[rustfmt::skip]
        let table = [
            ("a new VIP",            vec![],     10_000, false),
            ("the other is as new",  since(95),  10_000, false),
            ("the other is warm",    since(90),  10_000, true),
            ("slow start is off",    since(90),       0, false),
        ];
        for (name, open, slow_start, want) in table {
            assert_eq!(joins_others(open.into_iter(), slow_start, 100), want, "{name}");
        }
    }

    #[test]
    fn every_node_builds_the_same_ring() {
        let far = |n: u8| backend(&format!("10.0.0.{n}:80"), 1, Distance::Far);
        let near = |n: u8| backend(&format!("10.0.0.{n}:80"), 1, Distance::Node);
        let by_address = |wanted: &[BackendWanted]| -> Vec<SocketAddr> {
            let ordered = in_order(vip(), wanted).expect("usable");
            let ring = ring(&ordered, 251, 1);
            ring.iter().map(|place| ordered[place.index as usize].address).collect()
        };
        assert_eq!(by_address(&[far(1), far(2), far(3)]), by_address(&[far(1), near(3), far(2)]));
    }
}
