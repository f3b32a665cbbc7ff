//! The backends of a VIP in their order, and what is worked out from all of them.

use std::net::SocketAddr;
use std::sync::Arc;

use mizzen_ebpf_core::ring;
use mizzen_ebpf_core::select::{aliases, mix};
use mizzen_ebpf_core::steps::{CLASSES, Classes, Part};

use super::number_of;
use crate::backend::Backend;
use crate::runs::{Iter, Runs};
use crate::words::{BackendWanted, Distance, Locality, Rule};

/// In [`order`].
pub(super) type Seats = Runs<Seat>;

#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub backend: Arc<Backend>,
    pub wanted: BackendWanted,
}

/// Chance that a draw that hits this position stays there, of 2^32, and where it goes on to otherwise.
pub(super) type Slot = (u32, u32);

impl Seat {
    /// Tells the backend whether it is to get connects, and from when on if it got none.
    pub fn settle(&self, joined: u64) {
        match self.wanted.is_open() {
            true => self.backend.open(joined),
            false => self.backend.retire(),
        }
    }
}

/// The order of seats: the open ones first, the nearest of them first of all.
pub(super) fn order(backend: &BackendWanted) -> ((bool, Distance), SocketAddr) {
    ((!backend.is_open(), backend.distance), backend.address)
}

/// Where a backend is to be inserted.
pub(super) fn place(seats: &Seats, backend: &BackendWanted) -> usize {
    seats.partition_point(|seat| order(&seat.wanted) < order(backend))
}

/// Where the backend of this address is.
pub(super) fn position(seats: &Seats, address: SocketAddr) -> Option<usize> {
    let distances = [Distance::Node, Distance::Zone, Distance::Far];
    let classes = [false, true].into_iter().flat_map(|shut| distances.map(|far| (shut, far)));
    classes.into_iter().find_map(|class| {
        let position = seats.partition_point(|seat| order(&seat.wanted) < (class, address));
        seats.get(position).is_some_and(|seat| seat.wanted.address == address).then_some(position)
    })
}

/// The seat of this address.
pub(super) fn find(seats: &Seats, address: SocketAddr) -> Option<&Seat> {
    seats.get(position(seats, address)?)
}

/// The backends of a VIP, to be asked for in an order like their own.
pub(super) struct Known<'a> {
    seats: &'a Seats,
    /// Those behind the last one that was found.
    rest: Iter<'a, Seat>,
}

impl<'a> Known<'a> {
    pub fn of(seats: &'a Seats) -> Self {
        Self { seats, rest: seats.iter() }
    }

    /// The backend of this address: mostly the next one, or that behind it.
    pub fn find(&mut self, address: SocketAddr) -> Option<&'a Arc<Backend>> {
        let is_it = |seat: &&Seat| seat.wanted.address == address;
        let mut rest = self.rest.clone();
        let mut found = rest.by_ref().take(2).find(is_it);
        if found.is_none() {
            rest = self.seats.iter_from(position(self.seats, address)?);
            found = rest.next();
        }
        self.rest = rest;
        found.map(|seat| &seat.backend)
    }
}

/// Whether a backend that comes to this position has the weight that its class has, which is the same for all of it.
pub(super) fn has_weight_of_class(
    seats: &Seats,
    position: usize,
    backend: &BackendWanted,
    locality: Locality,
) -> bool {
    let is_of_class = |other: &BackendWanted| {
        other.is_open() && (locality == Locality::Ignore || other.distance == backend.distance)
    };
    let beside = [position.checked_sub(1), Some(position)].into_iter().flatten();
    let mut beside = beside.filter_map(|position| seats.get(position)).map(|seat| &seat.wanted);
    !backend.is_open() || beside.all(|other| !is_of_class(other) || other.weight == backend.weight)
}

/// How many seats are open and how near.
pub(super) fn classes_of(seats: &Seats, locality: Locality) -> Classes {
    let open = seats.partition_point(|seat| seat.wanted.is_open()) as u32;
    let within = |distance: Distance| {
        let is_within = |seat: &BackendWanted| seat.is_open() && seat.distance <= distance;
        seats.partition_point(|seat| is_within(&seat.wanted)) as u32
    };
    match locality {
        Locality::Ignore => Classes::alike(open),
        Locality::Prefer => Classes::of(within(Distance::Node), within(Distance::Zone), open),
    }
}

/// For draws by weight; empty if all stay where they are.
pub(super) fn slots_of(seats: &Seats, classes: Classes) -> Vec<Slot> {
    let open = seats.iter().take(classes.open as usize);
    let weights: Vec<u32> = open.map(|seat| seat.wanted.effective_weight()).collect();
    let mut slots = Vec::new();
    for part in (0..CLASSES).map(|class| classes.part(class)) {
        let range = part.start as usize..(part.start + part.length) as usize;
        let Some(of_part) = weights.get(range.clone()) else { continue };
        if of_part.windows(2).any(|pair| pair[0] != pair[1]) {
            slots.resize(weights.len(), (u32::MAX, 0));
            share(of_part, &mut slots[range], part);
        }
    }
    slots
}

/// Works out the shares of draws from a part of the seats.
fn share(weights: &[u32], slots: &mut [Slot], part: Part) {
    let (mut small, mut large) = (vec![0; weights.len()], vec![0; weights.len()]);
    let mut left = vec![0; weights.len()];
    let put = |index: usize, threshold, alias| slots[index] = (threshold, part.start + alias);
    aliases(weights, &mut small, &mut large, put, &mut left);
}

/// Whether the rule hashes to a place.
pub(super) fn needs_ring(rule: Rule) -> bool {
    matches!(rule, Rule::Maglev | Rule::Source)
}

pub(super) fn ring_of(seats: &Seats, rule: Rule) -> Vec<u32> {
    if !needs_ring(rule) {
        return Vec::new();
    }
    let seat = |seat: &Seat| ring::Seat {
        hash: mix(number_of(&seat.wanted.address)),
        weight: seat.wanted.effective_weight(),
    };
    let seats: Vec<ring::Seat> = seats.iter().map(seat).collect();
    if seats.iter().all(|seat| seat.weight == 0) {
        return Vec::new();
    }
    let mut table = vec![ring::EMPTY; ring::size(seats.len()) as usize];
    ring::fill(&seats, &mut vec![0; seats.len()], &mut table);
    table
}
