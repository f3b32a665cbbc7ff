//! Chances, by draws that are the same each time.

use super::{Choice, Verdict, shifted};
use mizzen_ebpf_core::select::{LOOKS, look, mix, point};
use mizzen_types::vip::Rule;

impl Choice {
    /// The share of so many draws that each of the open backends gets.
    pub(super) fn sampled(&self, draws: u32) -> Vec<f64> {
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
        let start = chance.bits() as u32;
        let mut resort = first;
        for number in 0..LOOKS {
            let found = point(look(start, number), self.open.len() as u32) as usize;
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

    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    fn below(&mut self, limit: f64) -> f64 {
        self.bits() as f64 / (u64::MAX as f64) * limit
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
