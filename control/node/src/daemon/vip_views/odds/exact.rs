//! Chances, followed through every pair of candidates.

use super::{Choice, Verdict, shifted};
use mizzen_ebpf_core::select::DRAWS;
use mizzen_types::vip::Rule;

impl Choice {
    /// The share of the next connection that each of the open backends gets.
    pub(super) fn exact(&self) -> Vec<f64> {
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
}

/// Chance that a second draw with these `chances` ends at `position`: one that hits `taken` goes on to the next.
fn redrawn(chances: &[f64], range: std::ops::Range<usize>, taken: usize, position: usize) -> f64 {
    let own = if position == taken { 0.0 } else { chances[position] };
    own + if shifted(taken, range, taken) == position { chances[taken] } else { 0.0 }
}
