//! From a VIP to one of its backends, by the steps of `mizzen_ebpf_core::steps`, which are those of the other engine.

mod seats;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mizzen_ebpf_core::select::{self, Load, point, spread};
use mizzen_ebpf_core::steps::{self, Classes, Draw, Field, Part, Terms, Verdict};

use crate::backend::{Backend, Limits, VipRow, Weather};
use crate::packet::Flow;
use crate::words::{BackendWanted, Counts, Decision, Policy, Reason, Removal, Rule};
use seats::{Known, Seat, Seats, Slot};

/// Backends that are something else now, each by its address; without anything if it is gone.
pub(crate) type Touched = BTreeMap<SocketAddr, Option<BackendWanted>>;

/// Backends that are changed one by one; if there are more, the VIP is made anew.
const FEW: usize = 16;

/// A VIP as the queues see it: never changed, replaced as a whole.
#[derive(Debug)]
pub(crate) struct Vip {
    row: Arc<VipRow>,
    policy: Policy,
    /// Those that are open first, the nearest of them first of all.
    seats: Seats,
    /// How many of the seats are open, and how near.
    classes: Classes,
    /// One for each open seat; empty if within each class all weights are the same.
    slots: Vec<Slot>,
    /// Position of the backend for each place; empty if the rule needs no ring.
    ring: Vec<u32>,
}

/// A backend that was chosen, and why.
#[derive(Debug)]
pub(crate) struct Chosen<'a> {
    pub backend: &'a Arc<Backend>,
    pub decision: Decision,
}

impl Vip {
    /// Makes a VIP in the place of `before`: backends that stay keep what is known of them.
    pub fn new(wanted: &[BackendWanted], policy: Policy, before: Option<&Self>, now: u64) -> Self {
        let row = before.map(|vip| Arc::clone(&vip.row)).unwrap_or_default();
        let mut known = before.map(|vip| Known::of(&vip.seats));
        let mut backend = |address| {
            let known = known.as_mut().and_then(|known| known.find(address));
            known.map_or_else(|| Arc::new(Backend::new(address, &row)), Arc::clone)
        };
        let mut ordered = wanted.to_vec();
        ordered.sort_by_key(seats::order);
        let seats = ordered.into_iter();
        let seats = seats.map(|wanted| Seat { backend: backend(wanted.address), wanted });
        let seats: Seats = seats.collect();
        let joined = joined(before, now);
        seats.iter().for_each(|seat| seat.settle(joined));
        let classes = seats::classes_of(&seats, policy.locality);
        let slots = seats::slots_of(&seats, classes);
        let ring = seats::ring_of(&seats, policy.rule);
        Self { row, policy, seats, classes, slots, ring }
    }

    /// The same VIP with a few backends as they are now, at the price of these alone. None if there is more to it:
    /// another policy, a ring, weights that differ.
    pub fn changed(&self, policy: Policy, touched: &Touched, now: u64) -> Option<Self> {
        let is_plain = self.slots.is_empty() && !seats::needs_ring(policy.rule);
        if policy != self.policy || !is_plain || touched.len() > FEW {
            return None;
        }
        let mut seats = self.seats.clone();
        for (address, wanted) in touched {
            let position = seats::position(&seats, *address);
            let former = position.map(|position| seats.remove(position).backend);
            let Some(wanted) = *wanted else { continue };
            let wanted = BackendWanted { address: *address, ..wanted };
            let position = seats::place(&seats, &wanted);
            if !seats::has_weight_of_class(&seats, position, &wanted, policy.locality) {
                return None;
            }
            let backend = former.unwrap_or_else(|| Arc::new(Backend::new(*address, &self.row)));
            seats.insert(position, Seat { backend, wanted });
        }
        let joined = joined(Some(self), now);
        for address in touched.keys() {
            if let Some(seat) = seats::find(&seats, *address) {
                seat.settle(joined);
            }
        }
        let row = Arc::clone(&self.row);
        let classes = seats::classes_of(&seats, policy.locality);
        Some(Self { row, policy, seats, classes, slots: Vec::new(), ring: Vec::new() })
    }

    /// What was wanted, sorted by address.
    pub fn wanted(&self) -> (Vec<BackendWanted>, Policy) {
        let (mut wanted, policy) = self.wish();
        wanted.sort_by_key(|backend| backend.address);
        (wanted, policy)
    }

    /// What was wanted, in the order of the seats.
    pub fn wish(&self) -> (Vec<BackendWanted>, Policy) {
        (self.seats.iter().map(|seat| seat.wanted).collect(), self.policy)
    }

    /// What happened to each backend, and how it stands at `now`.
    pub fn counts(&self, now: u64) -> impl Iterator<Item = (SocketAddr, Counts)> {
        self.seats.iter().map(move |seat| (seat.wanted.address, seat.backend.counts(now)))
    }

    pub fn removal(&self) -> Removal {
        self.policy.removal
    }

    pub fn refused(&self) -> u64 {
        self.row.refused.load(Relaxed)
    }

    pub fn count_refusal(&self) {
        self.row.refused.fetch_add(1, Relaxed);
    }

    /// The backend of this address.
    pub fn backend(&self, address: SocketAddr) -> Option<&Arc<Backend>> {
        seats::find(&self.seats, address).map(|seat| &seat.backend)
    }

    /// The backends that another state of the VIP does not have.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Arc<Backend>> {
        let mut others = Known::of(&other.seats);
        self.backends().filter(move |backend| others.find(backend.address).is_none())
    }

    /// Every backend.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.seats.iter().map(|seat| &seat.backend)
    }

    /// Chooses a backend for a flow; `seed` is chance.
    pub fn choose(&self, flow: &Flow, seed: u64, tuning: Limits, now: u64) -> Option<Chosen<'_>> {
        if self.classes.open == 0 {
            return None;
        }
        let slow_start = u64::try_from(self.policy.slow_start.as_nanos()).unwrap_or(u64::MAX);
        let weather = Weather::of(&self.row, self.classes.open, slow_start, tuning, now);
        let draw = match self.policy.rule {
            Rule::Random => Draw::First,
            _ => Draw::CheaperOfTwo,
        };
        let terms = Terms { classes: self.classes, draw, seed };
        steps::choose(&mut Sight { vip: self, flow, weather, passed_over: false }, &terms)
    }
}

/// A VIP's backends, as one choice sees them.
struct Sight<'a, 'f> {
    vip: &'a Vip,
    flow: &'f Flow,
    weather: Weather,
    passed_over: bool,
}

/// A seat that was drawn, and what is thought of it.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    index: u32,
    seat: Option<&'a Seat>,
    verdict: Verdict,
    load: Load,
}

impl Sight<'_, '_> {
    /// The load as the rule sees it.
    fn weighed(&self, load: Load) -> Load {
        match self.vip.policy.rule {
            Rule::LeastConnections => Load { micros: 0, ..load },
            _ => load,
        }
    }
}

impl<'a> Field for Sight<'a, '_> {
    type Candidate = Candidate<'a>;
    type End = Option<Chosen<'a>>;

    fn on_ring(&mut self) -> Option<Self::Candidate> {
        if self.vip.ring.is_empty() {
            return None;
        }
        let number = match self.vip.policy.rule {
            Rule::Source => number_of(&self.flow.source.ip()),
            _ => number_of(self.flow),
        };
        let place = point(spread(number), self.vip.ring.len() as u32);
        let position = *self.vip.ring.get(place as usize)?;
        Some(self.at(position, 0))
    }

    fn draw(&mut self, part: Part, bits: u64, taken: Option<Self::Candidate>) -> Self::Candidate {
        let taken = taken.map_or(u32::MAX, |taken| taken.index);
        let slot = |position: u32| self.vip.slots.get(position as usize).copied();
        let position = select::draw(part, bits, taken, slot);
        self.at(position, (bits >> 16) as u32)
    }

    fn at(&mut self, index: u32, chance: u32) -> Self::Candidate {
        let seat = self.vip.seats.get(index as usize);
        let (verdict, load) = match seat {
            Some(Seat { backend, wanted }) => (
                backend.judge(self.weather, chance),
                backend.load(u32::from(wanted.weight), self.weather.now),
            ),
            None => (Verdict::Unreachable, Load::default()),
        };
        Candidate { index, seat, verdict, load }
    }

    fn verdict(&self, candidate: Self::Candidate) -> Verdict {
        candidate.verdict
    }

    fn second_is_better(&self, first: Self::Candidate, second: Self::Candidate) -> bool {
        select::second_is_better(self.weighed(first.load), self.weighed(second.load))
    }

    fn far_is_better(&self, near: Self::Candidate, far: Self::Candidate) -> bool {
        select::far_is_better(self.weighed(near.load), self.weighed(far.load))
    }

    fn pass_over(&mut self) {
        self.passed_over = true;
    }

    fn settle(
        &mut self,
        winner: Self::Candidate,
        loser: Self::Candidate,
        reason: Reason,
    ) -> Self::End {
        let other = loser.seat.filter(|_| loser.index != winner.index);
        let decision = Decision {
            reason,
            passed_over: self.passed_over,
            load: (winner.load.micros, winner.load.in_flight),
            other: other.map(|seat| (seat.wanted.address, loser.load.micros, loser.load.in_flight)),
        };
        Some(Chosen { backend: &winner.seat?.backend, decision })
    }

    fn give_up(&mut self, _: Verdict) -> Self::End {
        None
    }
}

/// When backends joined that are open from `now` on; those of a VIP that had none need not warm up.
fn joined(before: Option<&Vip>, now: u64) -> u64 {
    let is_new = before.is_none_or(|vip| vip.classes.open == 0);
    if is_new { 0 } else { now }
}

/// The same number for the same value, over restarts too.
fn number_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
