//! Latencies of the last minute, out of histograms that only ever grow.
//!
//! What a histogram held a minute ago is taken off what it holds now. To know that, histograms are
//! noted every minute, and every ten seconds while somebody asks. Only services with new connections
//! are read, and only backends that changed are noted, so an idle node costs a look at its counts.

use super::sight::Seen;
use super::spread;
use mizzen_ebpf_core::bucket::BUCKETS;
use mizzen_kernel::vips::Latencies;
use mizzen_types::time::Mono;
use mizzen_types::vip::VipKey;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How far back an answer looks.
const WINDOW: Duration = Duration::from_secs(60);
/// Between two notes while somebody asks.
const BUSY: Duration = Duration::from_secs(10);
/// Between two notes otherwise.
const QUIET: Duration = Duration::from_secs(60);
/// After so long without a question nobody asks.
const INTEREST: Duration = Duration::from_secs(120);

/// Notes of what histograms held.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    vips: BTreeMap<VipKey, Track>,
    /// When the last notes were taken; none before the first.
    noted_at: Option<Mono>,
    asked_until: Mono,
}

/// What came to histograms in the last minute; nothing of backends without a handshake.
#[derive(Debug, Default)]
pub(crate) struct Minutes(BTreeMap<(VipKey, SocketAddr), Latencies>);

/// Notes of one service.
#[derive(Debug, Default)]
struct Track {
    /// Its handshakes when it was last read.
    established: u64,
    backends: BTreeMap<SocketAddr, VecDeque<Note>>,
}

/// What a histogram held.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    at: Mono,
    /// The buckets that are not empty.
    buckets: Box<[(u32, u64)]>,
    sum: u64,
}

impl Recent {
    /// When notes are to be taken.
    pub fn deadline(&self) -> Mono {
        let Some(noted_at) = self.noted_at else { return Mono(0) };
        noted_at + if noted_at < self.asked_until { BUSY } else { QUIET }
    }

    /// Somebody asks, and may ask again.
    pub fn ask(&mut self, now: Mono) {
        self.asked_until = now + INTEREST;
    }

    /// Takes notes of all services: `vips` are all of them with their handshakes, `read` reads the
    /// histograms of one.
    pub fn note(
        &mut self,
        now: Mono,
        vips: impl Iterator<Item = (VipKey, u64)>,
        mut read: impl FnMut(&VipKey) -> BTreeMap<SocketAddr, Latencies>,
    ) {
        // What is found first may be older than this process.
        let at = if self.noted_at.is_some() { now } else { Mono(0) };
        self.noted_at = Some(now);
        let mut tracks = BTreeMap::new();
        for (vip, established) in vips {
            let track = self.vips.remove(&vip);
            if established == 0 {
                continue;
            }
            let mut track = track.unwrap_or_default();
            if track.established != established {
                track.established = established;
                track.note(at, &read(&vip));
            }
            track.forget(now);
            tracks.insert(vip, track);
        }
        self.vips = tracks;
    }

    /// What came to the histograms of all `vips` in the last minute; `read` reads those of one.
    pub fn minutes<'a>(
        &self,
        vips: impl Iterator<Item = &'a Seen>,
        now: Mono,
        mut read: impl FnMut(&VipKey) -> BTreeMap<SocketAddr, Latencies>,
    ) -> Minutes {
        let mut minutes = BTreeMap::new();
        for seen in vips {
            let key = seen.spec.key;
            if !self.is_recent(&key, seen.established(), now) {
                continue;
            }
            for (backend, present) in read(&key) {
                let minute = self.last_minute(&key, backend, &present, now);
                if spread::samples(&minute) > 0 {
                    minutes.insert((key, backend), minute);
                }
            }
        }
        Minutes(minutes)
    }

    /// Whether a service with so many handshakes may have had some in the last minute.
    fn is_recent(&self, vip: &VipKey, established: u64, now: Mono) -> bool {
        let Some(track) = self.vips.get(vip) else { return established != 0 };
        let mut notes = track.backends.values().filter_map(VecDeque::back);
        track.established != established || notes.any(|note| note.at + WINDOW > now)
    }

    /// What came to a histogram in the last minute; what it holds now is `present`.
    fn last_minute(
        &self,
        vip: &VipKey,
        backend: SocketAddr,
        present: &Latencies,
        now: Mono,
    ) -> Latencies {
        let notes = self.vips.get(vip).and_then(|track| track.backends.get(&backend));
        let mut notes = notes.into_iter().flatten().rev();
        // Without a note of that time it was empty then.
        match notes.find(|note| note.at + WINDOW <= now) {
            Some(then) => then.taken_off(present),
            None => present.clone(),
        }
    }
}

impl Minutes {
    /// Of one backend of a VIP.
    pub fn of(&self, seen: &Seen, backend: SocketAddr) -> Option<&Latencies> {
        self.0.get(&(seen.spec.key, backend))
    }

    /// Of all of them.
    pub fn together(&self) -> Latencies {
        let mut all = Latencies { buckets: vec![0; BUCKETS as usize], sum: 0 };
        for latencies in self.0.values() {
            let buckets = all.buckets.iter_mut().zip(&latencies.buckets);
            buckets.for_each(|(sum, count)| *sum += count);
            all.sum += latencies.sum;
        }
        all
    }

    /// Of this one and no other.
    #[cfg(test)]
    pub fn of_one(seen: &Seen, backend: SocketAddr, minute: Latencies) -> Self {
        Self(BTreeMap::from([((seen.spec.key, backend), minute)]))
    }
}

impl Track {
    fn note(&mut self, at: Mono, present: &BTreeMap<SocketAddr, Latencies>) {
        self.backends.retain(|backend, _| present.contains_key(backend));
        for (backend, latencies) in present {
            let buckets: Box<[_]> = spread::filled(latencies).collect();
            let notes = self.backends.entry(*backend).or_default();
            let last = notes.back();
            if buckets.is_empty() || last.is_some_and(|last| last.buckets == buckets) {
                continue;
            }
            notes.push_back(Note { at, buckets, sum: latencies.sum });
        }
    }

    /// Forgets notes that a later one makes needless.
    fn forget(&mut self, now: Mono) {
        for notes in self.backends.values_mut() {
            while notes.get(1).is_some_and(|second| second.at + WINDOW <= now) {
                notes.pop_front();
            }
        }
    }
}

impl Note {
    /// `present` without what was there then; all of it if the histogram was emptied meanwhile.
    fn taken_off(&self, present: &Latencies) -> Latencies {
        let mut rest = present.clone();
        for (bucket, count) in &self.buckets {
            let Some(now) = rest.buckets.get_mut(*bucket as usize) else { continue };
            let Some(left) = now.checked_sub(*count) else { return present.clone() };
            *now = left;
        }
        rest.sum = present.sum.saturating_sub(self.sum);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::vip_views::spread::{samples, tests::of};
    use mizzen_types::vip::Protocol;

    const VIP: VipKey = VipKey {
        address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(11, 0, 0, 1)),
        port: 80,
        protocol: Protocol::Tcp,
    };

    fn backend() -> SocketAddr {
        "9.0.0.1:80".parse().unwrap()
    }

    fn at(seconds: u64) -> Mono {
        Mono((1_000 + seconds) * 1_000_000_000)
    }

    /// A service with so many samples at that time.
    fn note(recent: &mut Recent, seconds: u64, count: u32) {
        let present = BTreeMap::from([(backend(), of((0..count).map(|_| 500)))]);
        let vips = [(VIP, u64::from(count))].into_iter();
        recent.note(at(seconds), vips, |_| present.clone());
    }

    fn found(recent: &Recent, seconds: u64, count: u32) -> u64 {
        let present = of((0..count).map(|_| 500));
        let rest = recent.last_minute(&VIP, backend(), &present, at(seconds));
        assert_eq!(rest.sum, 500 * samples(&rest));
        samples(&rest)
    }

    #[test]
    fn what_came_in_the_last_minute() {
        let mut recent = Recent::default();
        note(&mut recent, 0, 10);
        assert_eq!(found(&recent, 1, 12), 2, "what the former process saw does not count");
        for step in 1..=12 {
            note(&mut recent, 10 * step, 10 + 5 * step as u32);
        }
        assert_eq!(found(&recent, 120, 70), 30);
        assert_eq!(found(&recent, 125, 71), 31);
        assert_eq!(found(&recent, 300, 71), 1, "noted 180 seconds ago, and one since");
        let notes: usize = recent.vips[&VIP].backends.values().map(VecDeque::len).sum();
        assert_eq!(notes, 7, "older ones are forgotten");
    }

    #[test]
    fn a_new_backend_began_with_nothing() {
        let mut recent = Recent::default();
        recent.note(at(0), [].into_iter(), |_| BTreeMap::new());
        assert_eq!(found(&recent, 5, 3), 3);
        note(&mut recent, 10, 4);
        assert_eq!(found(&recent, 15, 5), 5);
        assert_eq!(found(&recent, 75, 5), 1);
    }

    #[test]
    fn an_emptied_histogram_is_another_one() {
        let mut recent = Recent::default();
        note(&mut recent, 0, 100);
        assert_eq!(found(&recent, 100, 7), 7);
    }

    #[test]
    fn only_what_changed_is_read() {
        let mut recent = Recent::default();
        note(&mut recent, 0, 10);
        recent.note(at(10), [(VIP, 10)].into_iter(), |_| panic!("nothing is new"));
        assert!(!recent.is_recent(&VIP, 10, at(70)));
        assert!(recent.is_recent(&VIP, 11, at(70)));
        recent.note(at(20), [].into_iter(), |_| BTreeMap::new());
        assert!(recent.vips.is_empty(), "a service that is gone is forgotten");
    }

    #[test]
    fn notes_are_taken_oftener_while_somebody_asks() {
        let mut recent = Recent::default();
        assert_eq!(recent.deadline(), Mono(0));
        note(&mut recent, 0, 1);
        assert_eq!(recent.deadline(), at(60));
        recent.ask(at(5));
        assert_eq!(recent.deadline(), at(10));
        note(&mut recent, 130, 1);
        assert_eq!(recent.deadline(), at(190), "nobody asks any more");
    }
}
