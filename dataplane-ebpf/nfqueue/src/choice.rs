//! From a VIP to one of its backends, as the programs of the other engine choose.
//!
//! ```text
//! ring rules    the place that the hash hits, if it may be used
//! otherwise     draw two by weight among the nearest, take the cheaper, or the one that may be used;
//!               if the rest of the backends is farther away, one of them may still be better
//! neither       the first other that may be used; if there is none, one that was passed over:
//!               looking bad is better than refusing
//! ```

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mizzen_ebpf_core::ring;
use mizzen_ebpf_core::select::{
    LOOKS, Load, aliases, far_is_better, look, mix, point, second_is_better, spread, stays,
};

use crate::backend::{Backend, Limits, Verdict, VipRow, Weather};
use crate::packet::Flow;
use crate::words::{BackendWanted, Counts, Decision, Locality, Policy, Reason, Removal, Rule};

/// A VIP as the queues see it: never changed, replaced as a whole.
#[derive(Debug)]
pub(crate) struct Vip {
    row: Arc<VipRow>,
    policy: Policy,
    /// Those that are open first, the nearest of them first of all.
    seats: Vec<Seat>,
    /// How many of the seats are open.
    open: u32,
    /// How many of those are the nearest; all of them where distance does not matter.
    near: u32,
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
        let known: BTreeMap<SocketAddr, &Arc<Backend>> = before
            .into_iter()
            .flat_map(|vip| &vip.seats)
            .map(|seat| (seat.backend.address, &seat.backend))
            .collect();
        let is_new = before.is_none_or(|vip| vip.open == 0);
        let joined = if is_new { 0 } else { now };
        let backend = |address| match known.get(&address) {
            Some(backend) => Arc::clone(backend),
            None => Arc::new(Backend::new(address, &row, joined)),
        };
        let mut seats: Vec<Seat> =
            wanted.iter().map(|wanted| Seat::new(*wanted, backend(wanted.address))).collect();
        let is_open = |seat: &Seat| seat.wanted.is_open();
        seats.sort_by_key(|seat| (!is_open(seat), seat.wanted.distance, seat.wanted.address));
        let open = seats.iter().filter(|seat| is_open(seat)).count() as u32;
        let near = nearest(&seats[..open as usize], policy);
        let (near_seats, far_seats) = seats[..open as usize].split_at_mut(near as usize);
        share(near_seats, 0);
        share(far_seats, near);
        let ring = ring_of(&seats, policy.rule);
        Self { row, policy, seats, open, near, ring }
    }

    /// What was wanted, sorted by address.
    pub fn wanted(&self) -> (Vec<BackendWanted>, Policy) {
        let mut wanted: Vec<BackendWanted> = self.seats.iter().map(|seat| seat.wanted).collect();
        wanted.sort_by_key(|backend| backend.address);
        (wanted, self.policy)
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

    /// Every backend.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.seats.iter().map(|seat| &seat.backend)
    }

    /// Chooses a backend for a flow; `seed` is chance.
    pub fn choose(&self, flow: &Flow, seed: u64, tuning: Limits, now: u64) -> Option<Chosen<'_>> {
        if self.open == 0 {
            return None;
        }
        let slow_start = u64::try_from(self.policy.slow_start.as_nanos()).unwrap_or(u64::MAX);
        let weather = Weather::of(&self.row, self.open, slow_start, tuning, now);
        self.by_ring(flow, weather).or_else(|| self.by_draw(seed, weather))
    }

    fn by_ring(&self, flow: &Flow, weather: Weather) -> Option<Chosen<'_>> {
        let number = match self.policy.rule {
            Rule::Source => number_of(&flow.source.ip()),
            _ => number_of(flow),
        };
        let place = point(spread(number), self.ring.len() as u32);
        let seat = self.seats.get(*self.ring.get(place as usize)? as usize)?;
        let load = self.load(seat, weather);
        let reason = match seat.backend.judge(weather, 0) {
            Verdict::Usable | Verdict::Warming => Reason::Ring,
            Verdict::Probe => Reason::Probe,
            Verdict::Shut => return None,
        };
        Some(seat.chosen(reason, load, None))
    }

    fn by_draw(&self, seed: u64, weather: Weather) -> Option<Chosen<'_>> {
        let near = 0..self.near;
        let first = self.candidate(&near, mix(seed), None, weather)?;
        let takes_first = self.policy.rule == Rule::Random || self.near == 1;
        if takes_first && first.verdict == Verdict::Usable {
            let reason = if self.near == 1 { Reason::Only } else { Reason::Drawn };
            return self.spill_over(first, seed, weather, self.chosen(first, reason, None));
        }
        let second = self.candidate(&near, mix(seed ^ 1 << 40), Some(first.index), weather)?;
        for probe in [first, second] {
            if probe.verdict == Verdict::Probe {
                return self.chosen(probe, Reason::Probe, None);
            }
        }
        let (winner, chosen) = match (first.verdict, second.verdict) {
            (Verdict::Usable, Verdict::Usable) => self.compare(first, second),
            (Verdict::Usable, _) => (first, self.passing_over(first, Reason::Only)),
            (_, Verdict::Usable) => (second, self.passing_over(second, Reason::Only)),
            _ => return self.others(first, seed, weather),
        };
        self.spill_over(winner, seed, weather, chosen)
    }

    /// The cheaper of two.
    fn compare(&self, first: Candidate, second: Candidate) -> (Candidate, Option<Chosen<'_>>) {
        let (winner, loser, reason) = if second_is_better(first.load, second.load) {
            (second, first, Reason::Cheaper)
        } else if second_is_better(second.load, first.load) {
            (first, second, Reason::Cheaper)
        } else {
            (first, second, Reason::Tie)
        };
        (winner, self.chosen(winner, reason, Some(loser)))
    }

    /// Neither of the first two may be used: takes the first other that may.
    fn others(&self, first: Candidate, seed: u64, weather: Weather) -> Option<Chosen<'_>> {
        let mut resort = first;
        let start = mix(seed ^ 2 << 40);
        for number in 0..LOOKS {
            let index = point(look(start as u32, number), self.open);
            let found = self.judged(index, (start >> 32 >> number) as u32, weather)?;
            match found.verdict {
                Verdict::Usable => return self.passing_over(found, Reason::Only),
                Verdict::Probe => return self.chosen(found, Reason::Probe, None),
                // Of those that are passed over, one that only warms up is the best.
                Verdict::Warming => resort = found,
                Verdict::Shut => {}
            }
        }
        self.passing_over(resort, Reason::LastResort)
    }

    /// Near backends go first, until one that is farther away costs much less.
    fn spill_over<'a>(
        &'a self,
        near: Candidate,
        seed: u64,
        weather: Weather,
        chosen: Option<Chosen<'a>>,
    ) -> Option<Chosen<'a>> {
        if self.near == self.open {
            return chosen;
        }
        let far = self.candidate(&(self.near..self.open), mix(seed ^ 63 << 40), None, weather)?;
        let better = far.verdict == Verdict::Usable && far_is_better(near.load, far.load);
        if better { self.chosen(far, Reason::Spilled, Some(near)) } else { chosen }
    }

    /// Draws one of a part of the seats, but not `taken` again if there are others.
    fn candidate(
        &self,
        part: &Range<u32>,
        bits: u64,
        taken: Option<u32>,
        weather: Weather,
    ) -> Option<Candidate> {
        let mut index = part.start + point(bits as u32, part.end - part.start);
        let hit = self.seats.get(index as usize)?;
        if !stays((bits >> 32) as u32, hit.threshold) {
            index = hit.alias;
        }
        if taken == Some(index) {
            index = if index + 1 < part.end { index + 1 } else { part.start };
        }
        self.judged(index, (bits >> 16) as u32, weather)
    }

    fn judged(&self, index: u32, chance: u32, weather: Weather) -> Option<Candidate> {
        let seat = self.seats.get(index as usize)?;
        let verdict = seat.backend.judge(weather, chance);
        Some(Candidate { index, verdict, load: self.load(seat, weather) })
    }

    /// The load as the rule sees it.
    fn load(&self, seat: &Seat, weather: Weather) -> Load {
        let load = seat.backend.load(u32::from(seat.wanted.weight), weather.now);
        match self.policy.rule {
            Rule::LeastConnections => Load { micros: 0, ..load },
            _ => load,
        }
    }

    fn chosen(
        &self,
        winner: Candidate,
        reason: Reason,
        loser: Option<Candidate>,
    ) -> Option<Chosen<'_>> {
        let other = loser.and_then(|loser| {
            let address = self.seats.get(loser.index as usize)?.wanted.address;
            let distinct = loser.index != winner.index;
            distinct.then_some((address, loser.load.micros, loser.load.in_flight))
        });
        Some(self.seats.get(winner.index as usize)?.chosen(reason, winner.load, other))
    }

    fn passing_over(&self, winner: Candidate, reason: Reason) -> Option<Chosen<'_>> {
        let mut chosen = self.chosen(winner, reason, None)?;
        chosen.decision.passed_over = true;
        Some(chosen)
    }
}

/// A seat that was drawn, and what is thought of it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    index: u32,
    verdict: Verdict,
    load: Load,
}

impl Seat {
    fn new(wanted: BackendWanted, backend: Arc<Backend>) -> Self {
        Self { backend, wanted, threshold: u32::MAX, alias: 0 }
    }

    fn chosen(
        &self,
        reason: Reason,
        load: Load,
        other: Option<(SocketAddr, u32, u32)>,
    ) -> Chosen<'_> {
        let load = (load.micros, load.in_flight);
        let decision = Decision { reason, passed_over: false, load, other };
        Chosen { backend: &self.backend, decision }
    }
}

/// Works out the shares of draws from a part of the seats that begins at `start`.
fn share(seats: &mut [Seat], start: u32) {
    let weights: Vec<u32> = seats.iter().map(|seat| seat.wanted.effective_weight()).collect();
    if weights.windows(2).all(|pair| pair[0] == pair[1]) {
        return;
    }
    let (mut small, mut large) = (vec![0; weights.len()], vec![0; weights.len()]);
    let mut left = vec![0; weights.len()];
    let put = |index: usize, threshold, alias| {
        if let Some(seat) = seats.get_mut(index) {
            (seat.threshold, seat.alias) = (threshold, start + alias);
        }
    };
    aliases(&weights, &mut small, &mut large, put, &mut left);
}

/// How many of the open seats are the nearest.
fn nearest(open: &[Seat], policy: Policy) -> u32 {
    let nearest = open
        .first()
        .filter(|_| policy.locality == Locality::Prefer)
        .map(|seat| seat.wanted.distance);
    let count = match nearest {
        Some(nearest) => open.iter().filter(|seat| seat.wanted.distance == nearest).count(),
        None => open.len(),
    };
    count as u32
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
