//! Variants of the same work in turns, so that what disturbs one disturbs all.

use crate::generator::{Block, Generator, Seat, Targets, Work};
use crate::sandbox;
use anyhow::Result;

/// Rounds of each set before those that count.
const WARM_UP: u32 = 2;

/// One way to do the work.
pub(crate) struct Variant {
    name: &'static str,
    generator: Generator,
    targets: Targets,
}

impl Variant {
    /// Connections from `seat` to `targets`.
    pub(crate) fn new(
        name: &'static str,
        seat: Seat<'_>,
        targets: impl Into<Targets>,
    ) -> Result<Self> {
        let generator = Generator::start(seat, sandbox::core())?;
        Ok(Self { name, generator, targets: targets.into() })
    }

    fn block(&mut self, plan: Plan) -> Result<Block> {
        self.generator.block(plan.work, &self.targets, plan.count)
    }
}

/// What is done in each turn, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub work: Work,
    /// Repetitions in a block.
    pub count: u32,
    /// Rounds of one set of generators.
    pub rounds: u32,
    /// How often the generators are started anew: one process is faster than another
    /// by a percent for as long as it lives, by where its memory is.
    pub sets: u32,
}

/// What one variant took.
#[derive(Debug)]
pub(crate) struct Series {
    pub name: &'static str,
    /// Microseconds of one repetition, block by block.
    pub figures: Vec<f64>,
    /// Of all repetitions.
    pub failures: u64,
}

/// Runs all variants that `start` starts, a block of each in every round.
pub(crate) fn run(start: impl Fn() -> Result<Vec<Variant>>, plan: Plan) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = Vec::new();
    for _ in 0..plan.sets {
        let mut variants = start()?;
        if all.is_empty() {
            let empty = |name| Series { name, figures: Vec::new(), failures: 0 };
            all = variants.iter().map(|variant| empty(variant.name)).collect();
        }
        for round in 0..WARM_UP + plan.rounds {
            for index in turn(variants.len(), round) {
                let block = variants[index].block(plan)?;
                all[index].failures += block.failures;
                if round >= WARM_UP {
                    let each = block.time.as_secs_f64() * 1e6 / f64::from(plan.count);
                    all[index].figures.push(each);
                }
            }
        }
    }
    Ok(all)
}

/// Order of the variants in a round: another one begins each time, and every other
/// round goes backwards, so that none of them comes first more often, or always
/// after the same one.
pub(crate) fn turn(variants: usize, round: u32) -> Vec<usize> {
    let first = round as usize / 2;
    let order = (0..variants).map(|place| (first + place) % variants);
    if round.is_multiple_of(2) { order.collect() } else { order.rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns() {
        assert_eq!(turn(3, 0), [0, 1, 2]);
        assert_eq!(turn(3, 1), [2, 1, 0]);
        assert_eq!(turn(3, 2), [1, 2, 0]);
        assert_eq!(turn(3, 3), [0, 2, 1]);
        for place in 0..3 {
            let mut there: Vec<usize> = (0..6).map(|round| turn(3, round)[place]).collect();
            there.sort_unstable();
            assert_eq!(there, [0, 0, 1, 1, 2, 2], "place {place}");
        }
    }
}
