//! Chances, followed through every pair of candidates.

use super::{Choice, Verdict, shifted};
use mizzen_ebpf_core::select::{LOOKS, look, point};
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
        let mut neither = vec![0.0; self.open.len()];
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
                neither[first] += mass * (1.0 - usable) * (1.0 - also);
            }
        }
        self.exact_others(&neither, shares);
        self.exact_spill(&winners, shares);
    }

    /// Neither of two could be used: the first usable one of those that are looked at, or one that was
    /// passed over.
    fn exact_others(&self, neither: &[f64], shares: &mut [f64]) {
        let mass: f64 = neither.iter().sum();
        if mass <= 0.0 {
            return;
        }
        // Between two neighbours of so many starts all looks hit the same backends.
        let count = self.open.len() as u32;
        let starts = count * LOOKS;
        let share = 1.0 / f64::from(starts);
        let mut left = 0.0;
        for number in 0..starts {
            let start = ((u64::from(number) * 2 + 1) << 31) / u64::from(starts);
            let (mut alive, mut resort) = (share, None);
            for number in 0..LOOKS {
                let position = point(look(start as u32, number), count) as usize;
                let settles = self.settles(position);
                shares[position] += mass * alive * settles;
                alive *= 1.0 - settles;
                if matches!(self.open[position].verdict, Verdict::Warming(_)) {
                    resort = Some(position);
                }
            }
            match resort {
                Some(position) => shares[position] += mass * alive,
                None => left += alive,
            }
        }
        for (share, mass) in shares.iter_mut().zip(neither) {
            *share += mass * left;
        }
    }

    fn settles(&self, position: usize) -> f64 {
        match self.open[position].verdict {
            Verdict::Probe => 1.0,
            _ => self.usable(position),
        }
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
}

/// Chance that a second draw with these `chances` ends at `position`: one that hits `taken` goes on to the next.
fn redrawn(chances: &[f64], range: std::ops::Range<usize>, taken: usize, position: usize) -> f64 {
    let own = if position == taken { 0.0 } else { chances[position] };
    own + if shifted(taken, range, taken) == position { chances[taken] } else { 0.0 }
}
