//! From a VIP to one of its backends, by the steps of `mizzen_ebpf_core::steps`, which are those of the other engine.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mizzen_ebpf_core::ring;
use mizzen_ebpf_core::select::{self, Load, aliases, mix, point, spread};
use mizzen_ebpf_core::steps::{self, CLASSES, Classes, Draw, Field, Part, Terms, Verdict};

use crate::backend::{Backend, Limits, VipRow, Weather};
use crate::packet::Flow;
use crate::words::{
    BackendWanted, Counts, Decision, Distance, Locality, Policy, Reason, Removal, Rule,
};

/// A VIP as the queues see it: never changed, replaced as a whole.
#[derive(Debug)]
pub(crate) struct Vip {
    row: Arc<VipRow>,
    policy: Policy,
    /// Those that are open first, the nearest of them first of all.
    seats: Vec<Seat>,
    /// How many of the seats are open, and how near.
    classes: Classes,
    /// Position of the backend for each place; empty if the rule needs no ring.
    ring: Vec<u32>,
}

#[derive(Debug)]
struct Seat {
    backend: Arc<Backend>,
    wanted: BackendWanted,
    /// Chance that a draw that hits this seat stays here, of 2^32.
    threshold: u32,
    /// Where it goes on to otherwise.
    alias: u32,
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
        let mut known = Known::of(before);
        let is_new = before.is_none_or(|vip| vip.classes.open == 0);
        let joined = if is_new { 0 } else { now };
        let mut ordered = wanted.to_vec();
        ordered.sort_by_key(order);
        let mut backend = |address| match known.find(address) {
            Some(backend) => Arc::clone(backend),
            None => Arc::new(Backend::new(address, &row)),
        };
        let seats = ordered.into_iter();
        let mut seats: Vec<Seat> =
            seats.map(|wanted| Seat::new(wanted, backend(wanted.address))).collect();
        for seat in &seats {
            match seat.wanted.is_open() {
                true => seat.backend.open(joined),
                false => seat.backend.retire(),
            }
        }
        let classes = classes_of(&seats, policy.locality);
        (0..CLASSES).for_each(|class| share(&mut seats, classes.part(class)));
        let ring = ring_of(&seats, policy.rule);
        Self { row, policy, seats, classes, ring }
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
        self.seats.iter().map(|seat| &seat.backend).find(|backend| backend.address == address)
    }

    /// The backends that another state of the VIP does not have.
    pub fn without<'a>(
        &'a self,
        other: Option<&'a Self>,
    ) -> impl Iterator<Item = &'a Arc<Backend>> {
        let mut others = Known::of(other);
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
struct Candidate {
    index: u32,
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
    type Candidate = Candidate;
    type End = Option<Chosen<'a>>;

    fn on_ring(&mut self) -> Option<Candidate> {
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

    fn draw(&mut self, part: Part, bits: u64, taken: Option<Candidate>) -> Candidate {
        let taken = taken.map_or(u32::MAX, |taken| taken.index);
        let seat = |position: u32| {
            self.vip.seats.get(position as usize).map(|seat| (seat.threshold, seat.alias))
        };
        let position = select::draw(part, bits, taken, seat);
        self.at(position, (bits >> 16) as u32)
    }

    fn at(&mut self, index: u32, chance: u32) -> Candidate {
        let Some(seat) = self.vip.seats.get(index as usize) else {
            return Candidate { index, verdict: Verdict::Unreachable, load: Load::default() };
        };
        let verdict = seat.backend.judge(self.weather, chance);
        let load = seat.backend.load(u32::from(seat.wanted.weight), self.weather.now);
        Candidate { index, verdict, load }
    }

    fn verdict(&self, candidate: Candidate) -> Verdict {
        candidate.verdict
    }

    fn second_is_better(&self, first: Candidate, second: Candidate) -> bool {
        select::second_is_better(self.weighed(first.load), self.weighed(second.load))
    }

    fn far_is_better(&self, near: Candidate, far: Candidate) -> bool {
        select::far_is_better(self.weighed(near.load), self.weighed(far.load))
    }

    fn pass_over(&mut self) {
        self.passed_over = true;
    }

    fn settle(&mut self, winner: Candidate, loser: Candidate, reason: Reason) -> Self::End {
        let address = |index: u32| Some(self.vip.seats.get(index as usize)?.wanted.address);
        let other = match winner.index == loser.index {
            true => None,
            false => address(loser.index),
        };
        let decision = Decision {
            reason,
            passed_over: self.passed_over,
            load: (winner.load.micros, winner.load.in_flight),
            other: other.map(|other| (other, loser.load.micros, loser.load.in_flight)),
        };
        let backend = &self.vip.seats.get(winner.index as usize)?.backend;
        Some(Chosen { backend, decision })
    }

    fn give_up(&mut self, _: Verdict) -> Self::End {
        None
    }
}

/// The order of seats: the open ones first, the nearest of them first of all.
fn order(backend: &BackendWanted) -> ((bool, Distance), SocketAddr) {
    ((!backend.is_open(), backend.distance), backend.address)
}

/// The backends of a VIP, to be asked for in an order like their own.
struct Known<'a> {
    seats: &'a [Seat],
    /// Behind the last one that was found.
    next: usize,
}

impl<'a> Known<'a> {
    fn of(vip: Option<&'a Vip>) -> Self {
        Self { seats: vip.map_or(&[], |vip| &vip.seats), next: 0 }
    }

    /// The backend of this address: mostly the next one, or that behind it.
    fn find(&mut self, address: SocketAddr) -> Option<&'a Arc<Backend>> {
        let is_it = |index: &usize| self.seats[*index].wanted.address == address;
        let near = (self.next..self.seats.len()).take(2).find(is_it);
        let index = near.or_else(|| self.search(address))?;
        self.next = index + 1;
        Some(&self.seats[index].backend)
    }

    /// Wherever it is in the order.
    fn search(&self, address: SocketAddr) -> Option<usize> {
        let distances = [Distance::Node, Distance::Zone, Distance::Far];
        let classes = [false, true].into_iter().flat_map(|shut| distances.map(|far| (shut, far)));
        classes.into_iter().find_map(|class| {
            self.seats.binary_search_by_key(&(class, address), |seat| order(&seat.wanted)).ok()
        })
    }
}

impl Seat {
    fn new(wanted: BackendWanted, backend: Arc<Backend>) -> Self {
        Self { backend, wanted, threshold: u32::MAX, alias: 0 }
    }
}

/// Works out the shares of draws from a part of the seats.
fn share(seats: &mut [Seat], part: Part) {
    let range = part.start as usize..(part.start + part.length) as usize;
    let Some(seats) = seats.get_mut(range) else { return };
    let weights: Vec<u32> = seats.iter().map(|seat| seat.wanted.effective_weight()).collect();
    if weights.windows(2).all(|pair| pair[0] == pair[1]) {
        return;
    }
    let (mut small, mut large) = (vec![0; weights.len()], vec![0; weights.len()]);
    let mut left = vec![0; weights.len()];
    let put = |index: usize, threshold, alias| {
        if let Some(seat) = seats.get_mut(index) {
            (seat.threshold, seat.alias) = (threshold, part.start + alias);
        }
    };
    aliases(&weights, &mut small, &mut large, put, &mut left);
}

/// How many seats, of which the open and of those the nearest come first, are open and how near.
fn classes_of(seats: &[Seat], locality: Locality) -> Classes {
    let open = seats.partition_point(|seat| seat.wanted.is_open());
    let within = |distance: Distance| {
        seats[..open].partition_point(|seat| seat.wanted.distance <= distance) as u32
    };
    match locality {
        Locality::Ignore => Classes::alike(open as u32),
        Locality::Prefer => {
            Classes::of(within(Distance::Node), within(Distance::Zone), open as u32)
        }
    }
}

fn ring_of(seats: &[Seat], rule: Rule) -> Vec<u32> {
    if !matches!(rule, Rule::Maglev | Rule::Source) {
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

/// The same number for the same value, over restarts too.
fn number_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
