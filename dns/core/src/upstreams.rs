//! Whom of several upstreams to ask, and what their answers teach.
//!
//! ```text
//!         answered                    three failures in a row
//!   ┌──────────────── Up ──────────────────────▶ Down ───┐ pause over: one question probes
//!   └────▶            ▲                           ▲      │
//!                     └──────── answered ─────────┴──────┘ failed: the pause doubles
//! ```
//!
//! Two are asked at once: the one that answered fastest so far, and one other in turn, so
//! that all are measured and one that comes back is found. While an upstream is down it is
//! asked no more than once per pause, beside one that works if there is any.

use mizzen_types::time::Mono;
use std::time::Duration;

/// How many are asked at once.
const AT_ONCE: usize = 2;
/// Failures in a row that take an upstream for down.
const FAILURES_TO_DOWN: u32 = 3;
/// Useless answers in a row that put an upstream behind the others.
const EXCUSES_TO_AIL: u32 = 3;
/// The first pause of an upstream that is down.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest: nobody waits longer for an upstream that is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Part of the average that a new latency makes up.
const WEIGHT: u32 = 8;

/// What is known of upstreams, numbered from 0.
#[derive(Debug, Clone)]
pub struct Upstreams {
    standings: Vec<Standing>,
    /// How many questions one may have at once.
    limit: u32,
    turn: usize,
}

/// What is known of one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Smoothed time to an answer; `None` until the first one.
    pub latency: Option<Duration>,
    /// Failures since the last answer.
    pub failures: u32,
    /// Useless answers since the last good one.
    pub excuses: u32,
    /// Questions that wait for it.
    pub in_flight: u32,
    /// Whether it is asked.
    pub state: UpstreamState,
}

/// Whether an upstream is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamState {
    /// It is.
    #[default]
    Up,
    /// Not before a time, and then by one question.
    Down {
        /// When it may be asked again.
        until: Mono,
        /// How long it was left alone before that.
        pause: Duration,
    },
}

/// How a question to an upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// An answer came.
    Answered {
        /// After this time.
        after: Duration,
    },
    /// A message came that helps nobody, for example SERVFAIL.
    Excused {
        /// After this time.
        after: Duration,
    },
    /// Nothing came, or nothing that could be read.
    Failed,
    /// Nobody waits any more.
    Dropped,
}

/// Whom to ask now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// These, one or two.
    Ask(Vec<usize>),
    /// None: all are down.
    AllDown,
    /// None: those that are not down have as many questions as they may.
    AllBusy,
}

impl Upstreams {
    /// Knows nothing of `count` upstreams yet.
    ///
    /// * `limit` — how many questions one may have at once.
    #[must_use]
    pub fn new(count: usize, limit: u32) -> Self {
        Self { standings: vec![Standing::default(); count], limit, turn: 0 }
    }

    /// What is known of each.
    #[must_use]
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// Chooses among `candidates`, the preferred ones first, and counts the question for
    /// each that is chosen; [`Self::ended`] must follow for each.
    ///
    /// * `tried` — those that this question was sent to already; they are asked again
    ///   only if there are no others, because a packet may have been lost.
    pub fn choose(&mut self, candidates: &[usize], tried: &[usize], now: Mono) -> Choice {
        let (mut ready, mut due, mut busy) = (Vec::new(), Vec::new(), false);
        for &number in candidates {
            let Some(standing) = self.standings.get(number) else { continue };
            match standing.state {
                UpstreamState::Up if standing.in_flight >= self.limit => busy = true,
                UpstreamState::Up => ready.push(number),
                UpstreamState::Down { until, .. } if until <= now => due.push(number),
                UpstreamState::Down { .. } => {}
            }
        }
        let others: Vec<usize> =
            ready.iter().copied().filter(|number| !tried.contains(number)).collect();
        let others = if others.is_empty() && due.is_empty() { ready } else { others };
        let chosen = self.pick(&others, &due);
        if chosen.is_empty() {
            return if busy { Choice::AllBusy } else { Choice::AllDown };
        }
        for &number in &chosen {
            self.start(number, now);
        }
        Choice::Ask(chosen)
    }

    /// A question to an upstream ended.
    pub fn ended(&mut self, number: usize, how: Ended, now: Mono) {
        let Some(standing) = self.standings.get_mut(number) else { return };
        standing.in_flight = standing.in_flight.saturating_sub(1);
        match how {
            Ended::Answered { after } => {
                standing.measure(after);
                standing.excuses = 0;
            }
            Ended::Excused { after } => {
                standing.measure(after);
                standing.excuses = standing.excuses.saturating_add(1);
            }
            Ended::Failed => standing.fail(now),
            Ended::Dropped => {}
        }
    }

    /// The fastest of those that are ready, and one other: one that is due for a probe,
    /// else the next in turn.
    fn pick(&mut self, ready: &[usize], due: &[usize]) -> Vec<usize> {
        let rank = |number: &usize| self.standings.get(*number).map(Standing::rank);
        // Equal ones keep the configured order.
        let Some(best) = ready.iter().copied().min_by_key(rank) else {
            return due.iter().copied().take(AT_ONCE).collect();
        };
        let others: Vec<usize> = ready.iter().copied().filter(|other| *other != best).collect();
        self.turn = self.turn.wrapping_add(1);
        let in_turn = self.turn.checked_rem(others.len()).and_then(|turn| others.get(turn));
        // Until an upstream was heard of, the configured order says which is preferred.
        let unknown = others.iter().find(|other| {
            self.standings.get(**other).is_some_and(|standing| standing.latency.is_none())
        });
        let second = due.first().or(unknown).or(in_turn);
        std::iter::once(best).chain(second.copied()).collect()
    }

    fn start(&mut self, number: usize, now: Mono) {
        let Some(standing) = self.standings.get_mut(number) else { return };
        standing.in_flight = standing.in_flight.saturating_add(1);
        if let UpstreamState::Down { until, pause } = &mut standing.state {
            // Whatever becomes of this probe, the next one is a pause away.
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            *until = now + *pause;
        }
    }
}

impl Standing {
    /// The smaller the better.
    fn rank(&self) -> (bool, Duration) {
        let ails = self.failures > 0 || self.excuses >= EXCUSES_TO_AIL;
        (ails, self.latency.unwrap_or_default())
    }

    fn measure(&mut self, after: Duration) {
        let average = self.latency.map(|old| old - old / WEIGHT + after / WEIGHT);
        self.latency = Some(average.unwrap_or(after));
        (self.failures, self.state) = (0, UpstreamState::Up);
    }

    fn fail(&mut self, now: Mono) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_TO_DOWN && self.state == UpstreamState::Up {
            self.state = UpstreamState::Down { until: now + FIRST_PAUSE, pause: FIRST_PAUSE };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LIMIT: u32 = 4;

    fn at(milliseconds: u32) -> Mono {
        Mono(1) + MS * milliseconds
    }

    fn answered(milliseconds: u32) -> Ended {
        Ended::Answered { after: MS * milliseconds }
    }

    fn ask(numbers: &[usize]) -> Choice {
        Choice::Ask(numbers.to_vec())
    }

    /// What happens to upstreams, one after the other.
    enum Step {
        /// Choose among all at this time, and expect this.
        Choose(u32, Choice),
        /// Choose although these were tried.
        Again(u32, &'static [usize], Choice),
        /// It ended at this time.
        End(u32, usize, Ended),
    }
    use Step::{Again, Choose, End};

    #[test]
    fn lives_of_upstreams() {
        use Ended::Failed;
        let excuse = Ended::Excused { after: MS };
        #[rustfmt::skip]
        let table: Vec<(&str, usize, Vec<Step>)> = vec![
            ("one alone is asked again and again", 1, vec![
                Choose(0, ask(&[0])), End(5, 0, answered(5)), Choose(9, ask(&[0])),
                Again(9, &[0], ask(&[0])),
            ]),
            ("the fastest is asked, and all others in turn", 3, vec![
                Choose(0, ask(&[0, 1])), End(20, 0, answered(20)), End(30, 1, answered(30)),
                Choose(40, ask(&[2, 0])), End(45, 2, answered(5)), End(60, 0, answered(20)),
                Choose(70, ask(&[2, 1])), End(71, 2, answered(5)), End(80, 1, answered(30)),
                Choose(90, ask(&[2, 0])),
            ]),
            ("one that failed once is behind, one that answers is back", 2, vec![
                Choose(0, ask(&[0, 1])), End(5, 0, answered(5)), End(9, 1, answered(9)),
                Choose(10, ask(&[0, 1])), End(15, 0, Failed), End(19, 1, answered(9)),
                Choose(20, ask(&[1, 0])), End(25, 0, answered(5)), End(29, 1, answered(9)),
                Choose(30, ask(&[0, 1])),
            ]),
            ("a second round asks others first", 3, vec![
                Choose(0, ask(&[0, 1])), Again(9, &[0, 1], ask(&[2])),
                Again(20, &[0, 1, 2], ask(&[0, 1])),
            ]),
            ("down after three failures, probed after growing pauses, back at once", 1, vec![
                Choose(0, ask(&[0])), Choose(0, ask(&[0])), Choose(0, ask(&[0])),
                End(100, 0, Failed), End(100, 0, Failed), End(100, 0, Failed),
                Choose(101, Choice::AllDown), Choose(1099, Choice::AllDown),
                Choose(1100, ask(&[0])), Choose(1100, Choice::AllDown),
                End(1200, 0, Failed), Choose(3099, Choice::AllDown),
                Choose(3100, ask(&[0])), End(3200, 0, Failed), Choose(7099, Choice::AllDown),
                Choose(7100, ask(&[0])), End(7200, 0, Failed),
                Choose(15_100, ask(&[0])), End(15_101, 0, Failed), Choose(23_099, Choice::AllDown),
                Choose(23_100, ask(&[0])), End(23_101, 0, answered(1)), Choose(23_101, ask(&[0])),
            ]),
            ("a probe goes beside one that works", 2, vec![
                Choose(0, ask(&[0, 1])), End(1, 0, answered(1)), End(9, 1, Failed),
                Choose(10, ask(&[0, 1])), End(11, 0, answered(1)), End(19, 1, Failed),
                Choose(20, ask(&[0, 1])), End(21, 0, answered(1)), End(29, 1, Failed),
                Choose(30, ask(&[0])), End(31, 0, answered(1)),
                Choose(1029, ask(&[0, 1])), Choose(1030, ask(&[0])),
            ]),
            ("excuses put behind, and do not take down", 2, vec![
                Choose(0, ask(&[0, 1])), End(1, 0, excuse), End(9, 1, answered(9)),
                Choose(10, ask(&[0, 1])), End(11, 0, excuse), End(19, 1, answered(9)),
                Choose(20, ask(&[0, 1])), End(21, 0, excuse), End(29, 1, answered(9)),
                Choose(30, ask(&[1, 0])),
            ]),
            ("as many questions as one may have", 1, vec![
                Choose(0, ask(&[0])), Choose(0, ask(&[0])), Choose(0, ask(&[0])),
                Choose(0, ask(&[0])), Choose(0, Choice::AllBusy),
                End(1, 0, Ended::Dropped), Choose(1, ask(&[0])),
            ]),
            ("nobody", 0, vec![Choose(0, Choice::AllDown)]),
        ];
        for (what, count, steps) in table {
            let mut upstreams = Upstreams::new(count, LIMIT);
            let all: Vec<usize> = (0..count).collect();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Choose(time, want) => {
                        assert_eq!(upstreams.choose(&all, &[], at(time)), want, "{what}: {number}");
                    }
                    Again(time, tried, want) => {
                        let got = upstreams.choose(&all, tried, at(time));
                        assert_eq!(got, want, "{what}: {number}");
                    }
                    End(time, who, how) => upstreams.ended(who, how, at(time)),
                }
            }
        }
    }

    #[test]
    fn latency_is_smoothed() {
        let mut upstreams = Upstreams::new(1, LIMIT);
        for (after, want) in [(80, 80), (160, 90), (90, 90)] {
            assert_eq!(upstreams.choose(&[0], &[], at(0)), ask(&[0]));
            upstreams.ended(0, answered(after), at(0));
            assert_eq!(upstreams.standings()[0].latency, Some(MS * want));
        }
    }
}
