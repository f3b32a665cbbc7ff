//! Chances, followed through every pair of candidates.

use std::ops::Range;

use super::{Choice, Verdict, shifted};
use mizzen_ebpf_core::select::{LOOKS, look, point};
use mizzen_ebpf_core::steps::{CLASSES, Draw};

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
        let near = self.class(0);
        let drawn = self.weights(near.clone());
        let mut winners = vec![0.0; self.open.len()];
        let mut neither = vec![0.0; self.open.len()];
        for first in near.clone() {
            let mass = mass * drawn[first];
            if self.open[first].verdict == Verdict::Probe {
                shares[first] += mass;
                continue;
            }
            let usable = self.usable(first);
            let mut alone = 0.0;
            if near.len() == 1 || self.draw() == Draw::First {
                winners[first] += mass * usable;
                alone = usable;
            }
            for second in near.clone() {
                let mass = mass * redrawn(&drawn, near.clone(), first, second);
                if self.open[second].verdict == Verdict::Probe {
                    shares[second] += mass * (1.0 - alone);
                    continue;
                }
                let also = self.usable(second);
                winners[self.cheaper(first, second)] += mass * (usable - alone) * also;
                winners[first] += mass * (usable - alone) * (1.0 - also);
                winners[second] += mass * (1.0 - usable) * also;
                let resort = if self.warms(first) || !self.warms(second) { first } else { second };
                neither[resort] += mass * (1.0 - usable) * (1.0 - also);
            }
        }
        self.exact_others(neither, shares);
        self.exact_spill(&winners, shares);
    }

    /// Neither of two could be used: the first usable one of those that are looked at, or one that was
    /// passed over. `left` has the shares of those that would be that one now.
    fn exact_others(&self, mut left: Vec<f64>, shares: &mut [f64]) {
        for class in 0..CLASSES {
            let looks = self.looks(self.class(class));
            let mass: f64 = left.iter().sum();
            for (share, settled) in shares.iter_mut().zip(&looks.settled) {
                *share += mass * settled;
            }
            let warming: f64 = looks.warming.iter().sum();
            let mut after = vec![0.0; left.len()];
            for (resort, mass) in left.into_iter().enumerate() {
                if self.warms(resort) {
                    after[resort] += mass * (looks.none + warming);
                    continue;
                }
                after[resort] += mass * looks.none;
                for (after, share) in after.iter_mut().zip(&looks.warming) {
                    *after += mass * share;
                }
            }
            left = after;
        }
        for (share, left) in shares.iter_mut().zip(left) {
            *share += left;
        }
    }

    /// What the looks at a class end with.
    fn looks(&self, class: Range<usize>) -> Looks {
        let all = self.open.len();
        let mut looks = Looks { settled: vec![0.0; all], warming: vec![0.0; all], none: 0.0 };
        // Between two neighbours of so many starts all looks hit the same backends.
        let count = class.len() as u32;
        let starts = count * LOOKS;
        if starts == 0 {
            looks.none = 1.0;
        }
        for number in 0..starts {
            let start = ((u64::from(number) * 2 + 1) << 31) / u64::from(starts);
            let (mut alive, mut resort) = (1.0 / f64::from(starts), None);
            for number in 0..LOOKS {
                let position = class.start + point(look(start as u32, number), count) as usize;
                let settles = match self.open[position].verdict {
                    Verdict::Probe => 1.0,
                    _ => self.usable(position),
                };
                looks.settled[position] += alive * settles;
                alive *= 1.0 - settles;
                if self.warms(position) {
                    resort = resort.or(Some(position));
                }
            }
            match resort {
                Some(position) => looks.warming[position] += alive,
                None => looks.none += alive,
            }
        }
        looks
    }

    /// One farther away is taken if it costs much less.
    fn exact_spill(&self, winners: &[f64], shares: &mut [f64]) {
        let drawn: Vec<Vec<f64>> =
            (0..CLASSES).map(|class| self.weights(self.class(class))).collect();
        for (winner, mass) in winners.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
            self.exact_class(1, &drawn, (winner, winner), *mass, shares);
        }
    }

    /// Whether one of this class, or of one behind it, takes the place of the winner; it also has to cost much less
    /// than the one that was drawn before.
    fn exact_class(
        &self,
        class: u32,
        drawn: &[Vec<f64>],
        (winner, nearer): (usize, usize),
        mass: f64,
        shares: &mut [f64],
    ) {
        let Some(chances) = drawn.get(class as usize) else {
            shares[winner] += mass;
            return;
        };
        let mut stays = mass;
        for far in self.class(class) {
            let mass = mass * chances[far] * self.usable(far);
            if mass > 0.0 {
                let is_taken =
                    self.is_worth_the_way(winner, far) && self.is_worth_the_way(nearer, far);
                let winner = if is_taken { far } else { winner };
                self.exact_class(class + 1, drawn, (winner, far), mass, shares);
                stays -= mass;
            }
        }
        self.exact_class(class + 1, drawn, (winner, nearer), stays, shares);
    }

    /// Whether it is one that only warms up, if it may not be used.
    fn warms(&self, position: usize) -> bool {
        matches!(self.open[position].verdict, Verdict::Warming(_))
    }
}

/// What the looks at a class end with: shares of all of them, by position.
struct Looks {
    /// One that is taken.
    settled: Vec<f64>,
    /// None is, and this is the first one that only warms up.
    warming: Vec<f64>,
    /// None is, and none warms up.
    none: f64,
}

/// Chance that a second draw with these `chances` ends at `position`: one that hits `taken` goes on to the next.
fn redrawn(chances: &[f64], range: Range<usize>, taken: usize, position: usize) -> f64 {
    let own = if position == taken { 0.0 } else { chances[position] };
    own + if shifted(taken, range, taken) == position { chances[taken] } else { 0.0 }
}
