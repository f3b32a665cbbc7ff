//! Which backend the next connection would get, and how likely.
//!
//! The same steps as the engines take, over all backends at once: few are followed through every pair of
//! candidates, many by draws that are the same each time. Both use the engines' own comparisons, so nothing
//! about costs is said twice.

use super::sight::{Seen, State, is_open};
use mizzen_ebpf_core::select::{DRAWS, Load, far_is_better, mix, second_is_better};
use mizzen_kernel::vips::{Counts, Tuning};
use mizzen_types::vip::{BackendSpec, Distance, Locality, Rule};

/// Up to so many backends are followed through every pair.
const EXACT: usize = 200;
/// Draws for more of them.
const SAMPLES: u32 = 10_000;

/// What the next connection meets.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The admitted backends with their positions in the VIP, the near ones first, in the engine's order.
    pub open: Vec<Candidate>,
    /// How many of them are near.
    pub near: usize,
    /// What decides.
    pub rule: Rule,
}

/// One backend that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Position among the VIP's backends.
    pub index: usize,
    /// What it would cost.
    pub load: Load,
    /// What is thought of it.
    pub verdict: Verdict,
}

/// Whether a candidate may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may.
    Usable,
    /// In so many of 256 cases.
    Warming(u32),
    /// The first that draws it tries it.
    Probe,
    /// It may not.
    Shut,
}

/// How a probability was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Through every pair.
    Exact,
    /// By so many draws.
    Sampled(u32),
}

impl Choice {
    /// Works out what the next connection to `seen` meets.
    pub fn of(seen: &Seen, tuning: &Tuning) -> Self {
        let mut open: Vec<(usize, &BackendSpec, Option<&Counts>)> = seen
            .backends()
            .enumerate()
            .filter(|(_, (spec, _))| is_open(spec))
            .map(|(index, (spec, counts))| (index, spec, counts))
            .collect();
        open.sort_by_key(|(_, spec, _)| (spec.distance, spec.address));
        let within = |distance| open.partition_point(|(_, spec, _)| spec.distance <= distance);
        let near = match (seen.spec.policy.locality, within(Distance::Node), within(Distance::Zone))
        {
            (Locality::Ignore, ..) | (_, 0, 0) => open.len(),
            (Locality::Prefer, 0, zone) => zone,
            (Locality::Prefer, node, _) => node,
        };
        let candidate = |(index, spec, counts): (usize, &BackendSpec, Option<&Counts>)| Candidate {
            index,
            load: load(spec, counts),
            verdict: verdict(seen, seen.state(spec, counts, tuning), counts),
        };
        let open = open.into_iter().map(candidate).collect();
        Self { open, near, rule: seen.spec.policy.rule }
    }

    /// The share of the next connection that each of `open` gets. They add up to 1 unless there are none.
    pub fn odds(&self) -> (Vec<f64>, Method) {
        match self.open.len() {
            0..=EXACT => (self.exact(), Method::Exact),
            _ => (self.sampled(SAMPLES), Method::Sampled(SAMPLES)),
        }
    }

    /// What a candidate costs under this rule, in microseconds.
    pub fn cost(&self, load: Load) -> f64 {
        self.weighed(load).cost() as f64 / 256.0
    }

    fn weighed(&self, load: Load) -> Load {
        match self.rule {
            Rule::LeastConnections => Load { micros: 0, ..load },
            _ => load,
        }
    }

    fn has_ring(&self) -> bool {
        matches!(self.rule, Rule::Maglev | Rule::Source)
    }

    /// Shares of a draw by weight among `range`, and zero for all others.
    fn weights(&self, range: std::ops::Range<usize>) -> Vec<f64> {
        let weight = |position: usize| f64::from(self.open[position].load.weight.max(1));
        let total: f64 = range.clone().map(weight).sum();
        let share =
            |position| if range.contains(&position) { weight(position) / total } else { 0.0 };
        (0..self.open.len()).map(share).collect()
    }

    fn exact(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.open.len()];
        if self.open.is_empty() {
            return shares;
        }
        let mut left = 1.0;
        if self.has_ring() {
            for (position, share) in self.weights(0..self.open.len()).into_iter().enumerate() {
                if self.open[position].verdict != Verdict::Shut {
                    shares[position] += share;
                    left -= share;
                }
            }
        }
        self.exact_draw(left, &mut shares);
        shares
    }

    /// The draw of two near ones, of which `mass` of all connections comes.
    fn exact_draw(&self, mass: f64, shares: &mut [f64]) {
        let drawn = self.weights(0..self.near);
        let mut winners = vec![0.0; self.open.len()];
        for first in 0..self.near {
            let mass = mass * drawn[first];
            if self.open[first].verdict == Verdict::Probe {
                shares[first] += mass;
                continue;
            }
            let usable = self.usable(first);
            let mut alone = 0.0;
            if self.near == 1 || self.rule == Rule::Random {
                winners[first] += mass * usable;
                alone = usable;
            }
            let mut neither = 0.0;
            for second in 0..self.near {
                let mass = mass * redrawn(&drawn, 0..self.near, first, second);
                if self.open[second].verdict == Verdict::Probe {
                    shares[second] += mass * (1.0 - alone);
                    continue;
                }
                let also = self.usable(second);
                winners[self.cheaper(first, second)] += mass * (usable - alone) * also;
                winners[first] += mass * (usable - alone) * (1.0 - also);
                winners[second] += mass * (1.0 - usable) * also;
                neither += mass * (1.0 - usable) * (1.0 - also);
            }
            self.exact_others(first, neither, shares);
        }
        self.exact_spill(&winners, shares);
    }

    /// Neither of two could be used: the first other one of all, or one that was passed over.
    fn exact_others(&self, first: usize, mass: f64, shares: &mut [f64]) {
        if mass <= 0.0 {
            return;
        }
        let all = self.everywhere();
        let attempt = |position| redrawn(&all, 0..self.open.len(), first, position);
        let settles = |position: usize| match self.open[position].verdict {
            Verdict::Probe => 1.0,
            _ => self.usable(position),
        };
        let positions = 0..self.open.len();
        let hit: f64 = positions.clone().map(|p| attempt(p) * settles(p)).sum();
        let warming = |p: usize| match self.open[p].verdict {
            Verdict::Warming(_) => attempt(p) * (1.0 - settles(p)),
            _ => 0.0,
        };
        let warm: f64 = positions.clone().map(warming).sum();
        let draws = i32::try_from(DRAWS).unwrap_or(i32::MAX);
        let missed = (1.0 - hit).max(0.0).powi(draws);
        let cold = (1.0 - hit - warm).max(0.0).powi(draws);
        for position in positions {
            if hit > 0.0 {
                shares[position] +=
                    mass * (1.0 - missed) * attempt(position) * settles(position) / hit;
            }
            if warm > 0.0 {
                shares[position] += mass * (missed - cold) * warming(position) / warm;
            }
        }
        shares[first] += mass * cold;
    }

    /// One farther away is taken if it costs much less.
    fn exact_spill(&self, winners: &[f64], shares: &mut [f64]) {
        let far = self.weights(self.near..self.open.len());
        for (winner, mass) in winners.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
            let mut stays = 1.0;
            for position in self.near..self.open.len() {
                if self.is_worth_the_way(winner, position) {
                    let share = far[position] * self.usable(position);
                    shares[position] += mass * share;
                    stays -= share;
                }
            }
            shares[winner] += mass * stays;
        }
    }

    /// Chances of a draw among all: each part is hit in proportion to its size.
    fn everywhere(&self) -> Vec<f64> {
        let (near, all) = (self.near as f64, self.open.len() as f64);
        let mut chances = self.weights(0..self.near);
        let far = self.weights(self.near..self.open.len());
        for (position, chance) in chances.iter_mut().enumerate() {
            *chance = *chance * near / all;
            if position >= self.near {
                *chance = far[position] * (all - near) / all;
            }
        }
        chances
    }

    fn usable(&self, position: usize) -> f64 {
        match self.open[position].verdict {
            Verdict::Usable => 1.0,
            Verdict::Warming(share) => f64::from(share) / 256.0,
            Verdict::Probe | Verdict::Shut => 0.0,
        }
    }

    fn cheaper(&self, first: usize, second: usize) -> usize {
        let (a, b) = (self.weighed(self.open[first].load), self.weighed(self.open[second].load));
        if second_is_better(a, b) { second } else { first }
    }

    fn is_worth_the_way(&self, near: usize, far: usize) -> bool {
        far_is_better(self.weighed(self.open[near].load), self.weighed(self.open[far].load))
    }

    fn sampled(&self, draws: u32) -> Vec<f64> {
        let mut chance = Chance { state: 0, ..Chance::new(self) };
        let mut hits = vec![0_u32; self.open.len()];
        for _ in 0..draws {
            hits[self.one(&mut chance)] += 1;
        }
        hits.into_iter().map(|hits| f64::from(hits) / f64::from(draws)).collect()
    }

    /// One choice, as the engines make it.
    fn one(&self, chance: &mut Chance) -> usize {
        if self.has_ring() {
            let place = chance.draw(0..self.open.len());
            if self.open[place].verdict != Verdict::Shut {
                return place;
            }
        }
        let near = 0..self.near;
        let first = chance.draw(near.clone());
        let usable = chance.admits(self.open[first].verdict);
        match self.open[first].verdict {
            Verdict::Probe => return first,
            _ if usable && (self.near == 1 || self.rule == Rule::Random) => {
                return self.spilled(first, chance);
            }
            _ => {}
        }
        let second = shifted(chance.draw(near.clone()), near, first);
        if self.open[second].verdict == Verdict::Probe {
            return second;
        }
        match (usable, chance.admits(self.open[second].verdict)) {
            (true, true) => self.spilled(self.cheaper(first, second), chance),
            (true, false) => self.spilled(first, chance),
            (false, true) => self.spilled(second, chance),
            (false, false) => self.other(first, chance),
        }
    }

    fn spilled(&self, winner: usize, chance: &mut Chance) -> usize {
        if self.near == self.open.len() {
            return winner;
        }
        let far = chance.draw(self.near..self.open.len());
        let takes = chance.admits(self.open[far].verdict) && self.is_worth_the_way(winner, far);
        if takes { far } else { winner }
    }

    fn other(&self, first: usize, chance: &mut Chance) -> usize {
        let all = 0..self.open.len();
        let mut resort = first;
        for _ in 0..DRAWS {
            let is_near = chance.below(self.open.len() as f64) < self.near as f64;
            let part = if is_near { 0..self.near } else { self.near..self.open.len() };
            let found = shifted(chance.draw(part), all.clone(), first);
            match self.open[found].verdict {
                Verdict::Probe => return found,
                verdict if chance.admits(verdict) => return found,
                Verdict::Warming(_) => resort = found,
                _ => {}
            }
        }
        resort
    }
}

/// Draws that are the same each time.
struct Chance {
    state: u64,
    /// Weights of all before each position, and of all.
    sums: Vec<f64>,
}

impl Chance {
    fn new(choice: &Choice) -> Self {
        let mut sum = 0.0;
        let mut sums = vec![0.0];
        for candidate in &choice.open {
            sum += f64::from(candidate.load.weight.max(1));
            sums.push(sum);
        }
        Self { state: 0, sums }
    }

    fn below(&mut self, limit: f64) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state) as f64 / (u64::MAX as f64) * limit
    }

    /// A position of `range` by weight.
    fn draw(&mut self, range: std::ops::Range<usize>) -> usize {
        let (least, most) = (self.sums[range.start], self.sums[range.end]);
        let point = least + self.below(most - least);
        let position = self.sums.partition_point(|sum| *sum <= point).saturating_sub(1);
        position.clamp(range.start, range.end.saturating_sub(1))
    }

    fn admits(&mut self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Usable => true,
            Verdict::Warming(share) => self.below(256.0) < f64::from(share),
            Verdict::Probe | Verdict::Shut => false,
        }
    }
}

/// Chance that a second draw with these `chances` ends at `position`: one that hits `taken` goes on to the next.
fn redrawn(chances: &[f64], range: std::ops::Range<usize>, taken: usize, position: usize) -> f64 {
    let own = if position == taken { 0.0 } else { chances[position] };
    own + if shifted(taken, range, taken) == position { chances[taken] } else { 0.0 }
}

/// The position itself, or the next one in `range` if it is `taken`.
fn shifted(position: usize, range: std::ops::Range<usize>, taken: usize) -> usize {
    match position {
        position if position != taken => position,
        last if last + 1 >= range.end => range.start,
        position => position + 1,
    }
}

/// What a backend would cost the next connection.
pub(crate) fn load(spec: &BackendSpec, counts: Option<&Counts>) -> Load {
    let counts = counts.copied().unwrap_or_default();
    Load {
        micros: counts.connect_micros.saturating_add(counts.duration_micros),
        in_flight: u32::try_from(counts.in_flight).unwrap_or(u32::MAX),
        weight: spec.weight.into(),
    }
}

fn verdict(seen: &Seen, state: State, counts: Option<&Counts>) -> Verdict {
    match state {
        State::Warming { share } => Verdict::Warming(share),
        State::In | State::Out | State::Draining => Verdict::Usable,
        _ if seen.all_admitted => {
            let slow_start = u64::from(seen.spec.policy.slow_start.0);
            let joined = counts.and_then(|counts| counts.joined_for).filter(|_| slow_start != 0);
            match joined.map(|age| mizzen_ebpf_core::eject::warmth(age, slow_start)) {
                Some(share) if share < 256 => Verdict::Warming(share),
                _ => Verdict::Usable,
            }
        }
        State::HalfOpen => Verdict::Probe,
        State::Ejected { .. } | State::Waiting => Verdict::Shut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::vip_views::sight::tests::vip;

    const IDLE: Load = Load { micros: 0, in_flight: 0, weight: 1 };
    const BUSY: Load = Load { micros: 0, in_flight: 9, weight: 1 };
    const SLOW: Load = Load { micros: 50_000, in_flight: 0, weight: 1 };
    const HEAVY: Load = Load { micros: 0, in_flight: 0, weight: 3 };

    fn choice(rule: Rule, near: usize, all: &[(Load, Verdict)]) -> Choice {
        let candidate = |(index, (load, verdict)): (usize, &(Load, Verdict))| Candidate {
            index,
            load: *load,
            verdict: *verdict,
        };
        Choice { open: all.iter().enumerate().map(candidate).collect(), near, rule }
    }

    /// Name, rule, how many are near, the open ones, the shares.
    type Row<'a> = (&'a str, Rule, usize, &'a [(Load, Verdict)], &'a [f64]);

    #[test]
    fn shares_of_the_next_connection() {
        use Verdict::{Probe, Shut, Usable, Warming};
        let (latency, random) = (Rule::Latency, Rule::Random);
        #[rustfmt::skip]
        let table: &[Row<'_>] = &[
            ("nobody",              latency, 0, &[],                                            &[]),
            ("one",                 latency, 1, &[(IDLE, Usable)],                              &[1.0]),
            ("two alike",           latency, 2, &[(IDLE, Usable), (IDLE, Usable)],              &[0.5, 0.5]),
            ("by weight",           latency, 2, &[(IDLE, Usable), (HEAVY, Usable)],             &[0.25, 0.75]),
            ("the idle one",        latency, 2, &[(BUSY, Usable), (IDLE, Usable)],              &[0.0, 1.0]),
            ("the fast one",        latency, 2, &[(IDLE, Usable), (SLOW, Usable)],              &[1.0, 0.0]),
            ("slow does not count", Rule::LeastConnections, 2, &[(IDLE, Usable), (SLOW, Usable)], &[0.5, 0.5]),
            ("of three, the slow one is never taken", latency, 3,
                &[(IDLE, Usable), (IDLE, Usable), (SLOW, Usable)], &[5.0 / 9.0, 4.0 / 9.0, 0.0]),
            ("one is ejected",      latency, 2, &[(IDLE, Usable), (IDLE, Shut)],                &[1.0, 0.0]),
            ("one is tried",        latency, 2, &[(IDLE, Usable), (IDLE, Probe)],               &[0.0, 1.0]),
            ("half warm",           latency, 2, &[(IDLE, Usable), (IDLE, Warming(128))],        &[0.75, 0.25]),
            ("all are ejected",     latency, 2, &[(IDLE, Shut), (IDLE, Shut)],                  &[0.5, 0.5]),
            ("near goes first",     latency, 1, &[(IDLE, Usable), (IDLE, Usable)],              &[1.0, 0.0]),
            ("near is too busy",    latency, 1, &[(BUSY, Usable), (IDLE, Usable)],              &[0.0, 1.0]),
            ("near is ejected",     latency, 1, &[(IDLE, Shut), (IDLE, Usable)],                &[0.0, 1.0]),
            ("random",              random,  2, &[(BUSY, Usable), (HEAVY, Usable)],             &[0.25, 0.75]),
            ("a ring",     Rule::Maglev, 2, &[(BUSY, Usable), (HEAVY, Usable)],                 &[0.25, 0.75]),
            ("a broken ring", Rule::Source, 2, &[(IDLE, Shut), (HEAVY, Usable)],                &[0.0, 1.0]),
        ];
        for (name, rule, near, all, want) in table {
            let (found, method) = choice(*rule, *near, all).odds();
            assert_eq!((found.len(), method), (want.len(), Method::Exact), "{name}");
            for (found, want) in found.iter().zip(*want) {
                assert!((found - want).abs() < 5e-3, "{name}: {found} for {want}");
            }
        }
    }

    #[test]
    fn drawn_and_worked_out_shares_are_the_same() {
        use Verdict::{Probe, Shut, Usable, Warming};
        let mixed = [
            (BUSY, Usable),
            (HEAVY, Shut),
            (SLOW, Usable),
            (IDLE, Warming(60)),
            (HEAVY, Usable),
            (IDLE, Shut),
            (IDLE, Probe),
            (BUSY, Warming(200)),
        ];
        let all_shut: Vec<_> = mixed.iter().map(|(load, _)| (*load, Shut)).collect();
        let cold: Vec<_> = mixed.iter().map(|(load, _)| (*load, Warming(26))).collect();
        for rule in Rule::ALL {
            for near in [1, 2, 3, 5, 8] {
                for all in [&mixed[..], &all_shut, &cold, &mixed[..near]] {
                    let choice = choice(rule, near, all);
                    let (exact, drawn) = (choice.exact(), choice.sampled(20_000));
                    assert!((exact.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{exact:?}");
                    for (a, b) in exact.iter().zip(&drawn) {
                        assert!((a - b).abs() < 0.02, "{rule:?} {near}: {exact:?} {drawn:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn very_many_are_drawn() {
        let (shares, method) = choice(Rule::Latency, 300, &[(IDLE, Verdict::Usable); 300]).odds();
        assert_eq!(method, Method::Sampled(SAMPLES));
        assert!(shares.iter().all(|share| *share < 0.02));
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_vip_as_the_next_connection_meets_it() {
        let ejected = Counts { ejected_for: Some(9), ..Counts::default() };
        let loaded = Counts {
            connect_micros: 300,
            duration_micros: 5_000,
            in_flight: 2,
            ..Counts::default()
        };
        let mut seen = vip(vec![Counts::default(), ejected, loaded, loaded]);
        seen.spec.backends[2].distance = Distance::Zone;
        seen.spec.backends[3].admitted = false;
        let choice = Choice::of(&seen, &Tuning::default());
        let order: Vec<usize> = choice.open.iter().map(|candidate| candidate.index).collect();
        assert_eq!((order, choice.near), (vec![2, 0, 1], 1));
        assert_eq!(choice.open[0].load, Load { micros: 5_300, in_flight: 2, weight: 1 });
        assert_eq!(choice.open[2].verdict, Verdict::Shut);
        assert_eq!(choice.cost(choice.open[0].load), 15_900.0);
        seen.all_admitted = true;
        assert_eq!(Choice::of(&seen, &Tuning::default()).open[2].verdict, Verdict::Usable);
    }
}
