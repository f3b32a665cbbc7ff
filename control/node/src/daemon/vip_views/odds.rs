//! Which backend the next connection would get, and how likely.
//!
//! Of many backends choices are made, by the engines' own steps and the same each time; few are followed through
//! every pair of candidates, with the engines' own comparisons, which has to come to the same.

mod drawn;
mod exact;

use super::sight::{Seen, State};
use mizzen_ebpf_core::select::{Load, far_is_better, second_is_better};
use mizzen_ebpf_core::steps::{CLASSES, Classes, Draw};
use mizzen_kernel::vips::{Counts, Tuning};
use mizzen_types::vip::{BackendSpec, Distance, Locality, Rule};
use std::ops::Range;

/// Up to so many backends are followed through every pair.
const EXACT: usize = 200;
/// Choices for more of them.
const SAMPLES: u32 = 10_000;

/// What the next connection meets.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The admitted backends with their positions in the VIP, the near ones first, in the engine's order.
    pub open: Vec<Candidate>,
    /// How many of them are how far away.
    pub classes: Classes,
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
            .filter(|(_, (spec, _))| spec.is_admitted())
            .map(|(index, (spec, counts))| (index, spec, counts))
            .collect();
        open.sort_by_key(|(_, spec, _)| (spec.distance, spec.address));
        let within =
            |distance| open.partition_point(|(_, spec, _)| spec.distance <= distance) as u32;
        let classes = match seen.spec.policy.locality {
            Locality::Ignore => Classes::alike(open.len() as u32),
            Locality::Prefer => {
                Classes::of(within(Distance::Node), within(Distance::Zone), open.len() as u32)
            }
        };
        let candidate = |(index, spec, counts): (usize, &BackendSpec, Option<&Counts>)| Candidate {
            index,
            load: load(spec, counts),
            verdict: verdict(seen, seen.state(spec, counts, tuning), counts),
        };
        let open = open.into_iter().map(candidate).collect();
        Self { open, classes, rule: seen.spec.policy.rule }
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

    /// How many of them are near: those that go first.
    pub fn near(&self) -> usize {
        self.classes.near as usize
    }

    /// How many are in each class, the nearest first.
    pub fn lengths(&self) -> [usize; CLASSES as usize] {
        std::array::from_fn(|class| self.class(class as u32).len())
    }

    /// Positions of a class, the nearest of which is 0.
    fn class(&self, class: u32) -> Range<usize> {
        let part = self.classes.part(class);
        part.start as usize..(part.start + part.length) as usize
    }

    fn draw(&self) -> Draw {
        match self.rule {
            Rule::Random => Draw::First,
            _ => Draw::CheaperOfTwo,
        }
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
    fn weights(&self, range: Range<usize>) -> Vec<f64> {
        let weight = |position: usize| f64::from(self.open[position].load.weight.max(1));
        let total: f64 = range.clone().map(weight).sum();
        let share =
            |position| if range.contains(&position) { weight(position) / total } else { 0.0 };
        (0..self.open.len()).map(share).collect()
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
}

/// The position itself, or the next one in `range` if it is `taken`.
fn shifted(position: usize, range: Range<usize>, taken: usize) -> usize {
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
        State::In | State::Out(_) | State::Draining(_) => Verdict::Usable,
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

    fn choice(rule: Rule, near: u32, all: &[(Load, Verdict)]) -> Choice {
        choice_within(rule, (near, near), all)
    }

    fn choice_within(rule: Rule, (near, within): (u32, u32), all: &[(Load, Verdict)]) -> Choice {
        let candidate = |(index, (load, verdict)): (usize, &(Load, Verdict))| Candidate {
            index,
            load: *load,
            verdict: *verdict,
        };
        let classes = Classes { near, within, open: all.len() as u32 };
        Choice { open: all.iter().enumerate().map(candidate).collect(), classes, rule }
    }

    /// Name, rule, how many are near, the open ones, the shares.
    type Row<'a> = (&'a str, Rule, u32, &'a [(Load, Verdict)], &'a [f64]);

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
            let classes = [(1, 1), (2, 2), (3, 3), (5, 5), (8, 8), (1, 4), (2, 7), (4, 5), (3, 8)];
            for (near, within) in classes {
                for all in [&mixed[..], &all_shut, &cold, &mixed[..within as usize]] {
                    let choice = choice_within(rule, (near, within), all);
                    let (exact, drawn) = (choice.exact(), choice.sampled(20_000));
                    assert!((exact.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{exact:?}");
                    for (a, b) in exact.iter().zip(&drawn) {
                        assert!(
                            (a - b).abs() < 0.02,
                            "{rule:?} {near} {within}: {exact:?} {drawn:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_zone_goes_before_elsewhere() {
        use Verdict::{Shut, Usable};
        #[rustfmt::skip]
        let table = [
            ("near is idle",      [(IDLE, Usable), (IDLE, Usable), (IDLE, Usable)], [1.0, 0.0, 0.0]),
            ("near is too busy",  [(BUSY, Usable), (IDLE, Usable), (IDLE, Usable)], [0.0, 1.0, 0.0]),
            ("both are too busy", [(BUSY, Usable), (BUSY, Usable), (IDLE, Usable)], [0.0, 0.0, 1.0]),
            ("near is ejected",   [(IDLE, Shut),   (IDLE, Usable), (IDLE, Usable)], [0.0, 1.0, 0.0]),
            ("both are ejected",  [(IDLE, Shut),   (IDLE, Shut),   (IDLE, Usable)], [0.0, 0.0, 1.0]),
        ];
        for (name, all, want) in table {
            let choice = choice_within(Rule::Latency, (1, 2), &all);
            assert_eq!(choice.exact(), want, "{name}");
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
        seen.spec.backends[3].withheld = Some(mizzen_types::vip::Withheld::Unhealthy);
        let choice = Choice::of(&seen, &Tuning::default());
        let order: Vec<usize> = choice.open.iter().map(|candidate| candidate.index).collect();
        assert_eq!((order, choice.lengths()), (vec![2, 0, 1], [1, 0, 2]));
        assert_eq!(choice.open[0].load, Load { micros: 5_300, in_flight: 2, weight: 1 });
        assert_eq!(choice.open[2].verdict, Verdict::Shut);
        assert_eq!(choice.cost(choice.open[0].load), 15_900.0);
        seen.all_admitted = true;
        assert_eq!(Choice::of(&seen, &Tuning::default()).open[2].verdict, Verdict::Usable);
    }
}
