//! Chances, by choices that are the same each time.

use std::ops::Range;

use super::{Choice, Verdict, shifted};
use mizzen_ebpf_core::account::Reason;
use mizzen_ebpf_core::select::mix;
use mizzen_ebpf_core::steps::{self, Field, Part, Terms};

impl Choice {
    /// The share of so many choices that each of the open backends gets.
    pub(super) fn sampled(&self, choices: u32) -> Vec<f64> {
        let mut hits = vec![0_u32; self.open.len()];
        let mut draws = Draws::new(self);
        for number in 0..choices {
            draws.seed = mix(u64::from(number) + 1);
            let terms = Terms { classes: self.classes, draw: self.draw(), seed: draws.seed };
            let chosen = steps::choose(&mut draws, &terms);
            if let Some(hits) = chosen.and_then(|chosen| hits.get_mut(chosen)) {
                *hits += 1;
            }
        }
        hits.into_iter().map(|hits| f64::from(hits) / f64::from(choices)).collect()
    }
}

/// The open backends, as the engines' steps see them.
struct Draws<'a> {
    choice: &'a Choice,
    /// Weights of all before each position, and of all.
    sums: Vec<f64>,
    seed: u64,
    /// Chance of the last look.
    looked: u64,
}

impl<'a> Draws<'a> {
    fn new(choice: &'a Choice) -> Self {
        let mut sum = 0.0;
        let mut sums = vec![0.0];
        for candidate in &choice.open {
            sum += f64::from(candidate.load.weight.max(1));
            sums.push(sum);
        }
        Self { choice, sums, seed: 0, looked: 0 }
    }

    /// A position of `range` by weight.
    fn position(&self, range: &Range<usize>, bits: u32) -> usize {
        let (least, most) = (self.sums[range.start], self.sums[range.end]);
        let point = least + f64::from(bits) / (f64::from(u32::MAX) + 1.0) * (most - least);
        let position = self.sums.partition_point(|sum| *sum <= point).saturating_sub(1);
        position.clamp(range.start, range.end.saturating_sub(1))
    }

    fn judged(&self, position: usize, chance: u32) -> (usize, steps::Verdict) {
        let verdict = match self.choice.open[position].verdict {
            Verdict::Usable => steps::Verdict::Usable,
            Verdict::Warming(share) if chance & 0xff < share => steps::Verdict::Usable,
            Verdict::Warming(_) => steps::Verdict::Warming,
            Verdict::Probe => steps::Verdict::Probe,
            Verdict::Shut => steps::Verdict::Shut,
        };
        (position, verdict)
    }
}

impl Field for Draws<'_> {
    type Candidate = (usize, steps::Verdict);
    type End = Option<usize>;

    fn on_ring(&mut self) -> Option<Self::Candidate> {
        if !self.choice.has_ring() {
            return None;
        }
        let place = self.position(&(0..self.choice.open.len()), mix(!self.seed) as u32);
        Some(self.judged(place, 0))
    }

    fn draw(&mut self, part: Part, bits: u64, taken: Option<Self::Candidate>) -> Self::Candidate {
        let range = part.start as usize..(part.start + part.length) as usize;
        let position = self.position(&range, (bits >> 32) as u32);
        let position = match taken {
            Some((taken, _)) => shifted(position, range, taken),
            None => position,
        };
        self.judged(position, (bits >> 16) as u32)
    }

    /// Whether one that warms up lets a connection pass is up to each look by itself, as in the exact chances: in the
    /// engines the looks of one choice have bits in common.
    fn at(&mut self, position: u32, _: u32) -> Self::Candidate {
        self.looked = mix(self.looked.wrapping_add(1));
        self.judged(position as usize, self.looked as u32)
    }

    fn verdict(&self, candidate: Self::Candidate) -> steps::Verdict {
        candidate.1
    }

    fn second_is_better(&self, first: Self::Candidate, second: Self::Candidate) -> bool {
        self.choice.cheaper(first.0, second.0) == second.0
    }

    fn far_is_better(&self, near: Self::Candidate, far: Self::Candidate) -> bool {
        self.choice.is_worth_the_way(near.0, far.0)
    }

    fn pass_over(&mut self) {}

    fn settle(&mut self, winner: Self::Candidate, _: Self::Candidate, _: Reason) -> Self::End {
        Some(winner.0)
    }

    fn give_up(&mut self, _: steps::Verdict) -> Self::End {
        None
    }
}
