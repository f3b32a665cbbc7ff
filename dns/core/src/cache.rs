//! How long answers from elsewhere are kept, and under what.
//!
//! The rules only; the shared map is in `mizzen-dns-server`. An answer is kept for the
//! question that brought it and for no other name that it mentions, so that nothing in it
//! can poison another question.

use crate::relayed::{Asker, Relayed, Worth};
use mizzen_types::time::Mono;
use std::time::Duration;

/// Longest time that anything is kept, in seconds: a day (RFC 8767, 4).
const MAX_POSITIVE: u32 = 86_400;
/// Longest time that "there is nothing" is kept, in seconds (RFC 2308, 5 has 1 to 3 h).
const MAX_NEGATIVE: u32 = 3600;
/// How long an upstream's failure is kept, in seconds (RFC 9520, 3.2 has 1 s to 5 min).
const FAILURE: u32 = 5;
/// How long it is kept that nobody answered, in seconds: the least that RFC 9520 allows,
/// because upstreams that are down are left alone anyway.
const SILENCE: u32 = 1;
/// The last tenth of its life is the time to ask anew for what is popular.
const LAST_PART: u32 = 10;
/// Name, type, class and flags.
const MAX_KEY: usize = 255 + 5;

/// What an answer is kept under: the lower-cased name, type, class, DO and CD.
///
/// Questions with another DO or CD bit get other answers, with or without signatures
/// (RFC 4035, 3.2.1 and 3.2.2).
#[derive(Debug, Clone, Copy)]
pub struct CacheKey {
    bytes: [u8; MAX_KEY],
    length: usize,
}

/// An answer and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    answer: Relayed,
    came: Mono,
    /// In seconds.
    lifetime: u32,
    on_end: OnEnd,
}

/// What may be done with an answer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It can be given to anybody.
    Fresh {
        /// Seconds since it came.
        age: u32,
        /// Whether it is in the last tenth of its life.
        ending: bool,
    },
    /// It can be given if nobody can be asked (RFC 8767).
    Stale,
    /// It must not be given.
    Gone,
}

/// What becomes of an answer whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnEnd {
    Stale,
    Gone,
}

impl CacheKey {
    /// The key of a question; `None` for a name longer than names may be.
    #[must_use]
    pub fn new(asker: &Asker<'_>) -> Option<Self> {
        let mut key = Self { bytes: [0; MAX_KEY], length: asker.name.len() + 5 };
        let (name, tail) = key.bytes.get_mut(..key.length)?.split_at_mut(asker.name.len());
        name.copy_from_slice(asker.name);
        name.make_ascii_lowercase();
        let dnssec_ok = asker.opt.is_some_and(|opt| opt.dnssec_ok);
        let flags = u8::from(dnssec_ok) | u8::from(asker.checking_disabled) << 1;
        let [kind, class] = [asker.kind, asker.class].map(u16::to_be_bytes);
        tail.copy_from_slice(&[kind[0], kind[1], class[0], class[1], flags]);
        Some(key)
    }

    /// The key as it is compared.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The keys of this name and type with every combination of DO and CD.
    pub fn of_any_flags(mut self) -> impl Iterator<Item = Self> {
        (0..4).map(move |flags| {
            if let Some(last) = self.bytes.get_mut(self.length - 1) {
                *last = flags;
            }
            self
        })
    }
}

impl Kept {
    /// Keeps an answer that came now; `None` if it must not be kept.
    #[must_use]
    pub fn new(answer: Relayed, now: Mono) -> Option<Self> {
        let (lifetime, on_end) = match answer.worth() {
            Worth::Positive(seconds) => (seconds.min(MAX_POSITIVE), OnEnd::Stale),
            Worth::Negative(seconds) => (seconds.min(MAX_NEGATIVE), OnEnd::Stale),
            Worth::Nothing if answer.is_good() => (0, OnEnd::Gone),
            Worth::Nothing => (FAILURE, OnEnd::Gone),
        };
        (lifetime > 0).then_some(Self { answer, came: now, lifetime, on_end })
    }

    /// Keeps for a moment that nobody answered.
    #[must_use]
    pub fn silence(answer: Relayed, now: Mono) -> Self {
        Self { answer, came: now, lifetime: SILENCE, on_end: OnEnd::Gone }
    }

    /// The answer.
    #[must_use]
    pub fn answer(&self) -> &Relayed {
        &self.answer
    }

    /// Whether it is an answer, and not the failure to get one.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.on_end == OnEnd::Stale
    }

    /// What may be done with it at `now`.
    ///
    /// * `stale` — how long it may be given after its time is over.
    #[must_use]
    pub fn freshness(&self, now: Mono, stale: Duration) -> Freshness {
        let (age, lifetime) = (now.since(self.came), Duration::from_secs(self.lifetime.into()));
        if age < lifetime {
            let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
            let ending = lifetime - age <= lifetime / LAST_PART;
            return Freshness::Fresh { age: seconds, ending };
        }
        match self.on_end {
            OnEnd::Stale if age < lifetime + stale => Freshness::Stale,
            _ => Freshness::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relayed::Opt;
    use crate::relayed::tests_support::{answer, negative};

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: f64) -> Mono {
        Mono(7_000_000_000) + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn every_age_of_an_answer() {
        let fresh = |age, ending| Freshness::Fresh { age, ending };
        let servfail = || Relayed::bare(2, None);
        #[rustfmt::skip]
        let table = &[
            ("new",                      answer(60),        0.0,      fresh(0, false)),
            ("half",                     answer(60),        30.9,     fresh(30, false)),
            ("last tenth",               answer(60),        54.0,     fresh(54, true)),
            ("its last moment",          answer(60),        59.999,   fresh(59, true)),
            ("over",                     answer(60),        60.0,     Freshness::Stale),
            ("stale to the end",         answer(60),        3659.9,   Freshness::Stale),
            ("too stale",                answer(60),        3660.0,   Freshness::Gone),
            ("a day at most",            answer(1_000_000), 86_399.0, fresh(86_399, true)),
            ("a day is over",            answer(1_000_000), 86_400.0, Freshness::Stale),
            ("nothing, by its minimum",  negative(900, 60), 59.0,     fresh(59, true)),
            ("nothing, over",            negative(900, 60), 60.0,     Freshness::Stale),
            ("nothing, by its TTL",      negative(30, 900), 30.0,     Freshness::Stale),
            ("nothing, an hour at most", negative(90_000, 90_000), 3600.0, Freshness::Stale),
            ("failure",                  servfail(),        4.0,      fresh(4, false)),
            ("failures are not stale",   servfail(),        5.0,      Freshness::Gone),
        ];
        for (what, answer, age, want) in table {
            let kept = Kept::new(answer.clone(), at(0.0)).expect(what);
            assert_eq!(kept.freshness(at(*age), 3600 * SECOND), *want, "{what}");
        }
        let kept = Kept::new(answer(60), at(0.0)).expect("it is kept");
        assert_eq!(kept.freshness(at(60.0), Duration::ZERO), Freshness::Gone, "not wanted");
        let silence = Kept::silence(Relayed::bare(2, None), at(0.0));
        assert_eq!(silence.freshness(at(0.9), SECOND), fresh(0, true));
        assert_eq!(silence.freshness(at(1.0), SECOND), Freshness::Gone);
        assert_eq!(Kept::new(answer(0), at(0.0)), None, "TTL 0");
        assert_eq!(Kept::new(negative(60, 0), at(0.0)), None, "minimum 0");
        assert_eq!(Kept::new(Relayed::bare(0, None), at(0.0)), None, "no word of how long");
    }

    #[test]
    fn keys_differ_in_what_makes_answers_differ() {
        let key = |name: &[u8], kind, dnssec_ok, checking_disabled| {
            let opt = Some(Opt { payload: 1232, dnssec_ok, options: &[] });
            let asker = Asker {
                id: 7,
                name,
                kind,
                class: 1,
                recursion_desired: true,
                checking_disabled,
                room: 512,
                opt,
            };
            CacheKey::new(&asker).map(|key| key.as_bytes().to_vec())
        };
        let usual = key(b"\x03www\x00", 1, false, false);
        assert_eq!(usual, key(b"\x03WwW\x00", 1, false, false), "capitals mean nothing");
        for other in [
            key(b"\x03wwx\x00", 1, false, false),
            key(b"\x03www\x00", 28, false, false),
            key(b"\x03www\x00", 1, true, false),
            key(b"\x03www\x00", 1, false, true),
        ] {
            assert!(other.is_some() && other != usual);
        }
        assert_eq!(key(&[1; 256], 1, false, false), None);
    }
}
