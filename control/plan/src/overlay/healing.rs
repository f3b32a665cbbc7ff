//! When what somebody else removed is put back.
//!
//! A link that was deleted by hand, routes that a network manager flushed: they are put back
//! at once. Who takes them away again and again means it, or is another program that thinks
//! they are its own; then the pauses grow, and people are told.

use mizzen_types::time::Mono;
use std::time::Duration;

/// Repairs within this time belong together.
const TOGETHER: Duration = Duration::from_secs(60);
/// So many of them are no accident.
const PATIENCE: u32 = 5;
/// The first pause after that; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How often something had to be put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healing {
    /// Repairs in a row, each soon after the one before.
    repairs: u32,
    last: Option<Mono>,
    /// Until when nothing is put back.
    paused_until: Option<Mono>,
    pause: Duration,
}

impl Healing {
    /// Whether things may be put back now.
    #[must_use]
    pub fn may_repair(&self, now: Mono) -> bool {
        self.paused_until.is_none_or(|until| until <= now)
    }

    /// When they may be, if they may not be now.
    #[must_use]
    pub fn deadline(&self, now: Mono) -> Option<Mono> {
        self.paused_until.filter(|until| *until > now)
    }

    /// Something had to be put back that nobody here took away.
    pub fn repaired(&mut self, now: Mono) {
        let calm = TOGETHER.max(self.pause * 2);
        let again = self.last.is_some_and(|last| now.since(last) < calm);
        if !again {
            *self = Self::default();
        }
        self.repairs += 1;
        self.last = Some(now);
        if self.repairs > PATIENCE {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.paused_until = Some(now + self.pause);
        }
    }

    /// Nothing was missing: whoever it was may have stopped.
    pub fn found_well(&mut self, now: Mono) {
        let calm = TOGETHER.max(self.pause * 2);
        if self.last.is_some_and(|last| now.since(last) >= calm) {
            *self = Self::default();
        }
    }

    /// What people are told while somebody is at it.
    #[must_use]
    pub fn problem(&self, now: Mono) -> Option<String> {
        let until = self.deadline(now)?;
        let (times, seconds) = (self.repairs, until.since(now).as_secs());
        Some(format!(
            "somebody removes links, routes, rules or published ports of this node again and again: put back {times} times; they stay away for {seconds} s from now on"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn an_accident_is_repaired_at_once() {
        let mut healing = Healing::default();
        for hour in 0..20 {
            assert!(healing.may_repair(at(hour * 3600)));
            healing.repaired(at(hour * 3600));
        }
        assert_eq!(healing.problem(at(20 * 3600)), None);
    }

    #[test]
    fn a_fight_is_given_up_in_growing_pauses() {
        let mut healing = Healing::default();
        let (mut now, mut repairs) = (0, 0);
        while now < 7200 {
            if healing.may_repair(at(now)) {
                healing.repaired(at(now));
                repairs += 1;
            }
            now += 1;
        }
        assert!((15..=30).contains(&repairs), "{repairs}");
        let until = healing.deadline(at(now)).unwrap();
        assert!(until.since(at(now)) <= LONGEST_PAUSE);
        assert!(healing.problem(at(now)).unwrap().contains("again and again"));
        healing.found_well(at(now + 600));
        assert!(!healing.may_repair(at(now)), "it was quiet for a short time only");
        healing.found_well(at(now + 2000));
        assert!(healing.may_repair(at(now)));
    }
}
