//! How quickly news gets around, and what it costs.

use crate::cluster::{Cluster, Seen};
use crate::network::{MS, Nanos, SECOND};
use mizzen_membership::swim::State;
use mizzen_types::fact::{Fact, Key};
use std::collections::{BTreeMap, BTreeSet};

/// How long something took, over several times: half of the nodes, nine tenths, all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// Until half of the nodes knew.
    pub half: Nanos,
    /// Until nine tenths knew.
    pub most: Nanos,
    /// Until all knew.
    pub all: Nanos,
}

/// Several spreads.
#[derive(Debug, Clone, Default)]
pub struct Spreads {
    spreads: Vec<Spread>,
    /// How often not all came to know in time.
    pub incomplete: usize,
}

impl Spreads {
    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[Spread] {
        &self.spreads
    }

    /// The median of each.
    #[must_use]
    pub fn median(&self) -> Spread {
        self.each(|sorted| sorted.get(sorted.len() / 2).copied().unwrap_or(Nanos::MAX))
    }

    /// The worst of each.
    #[must_use]
    pub fn worst(&self) -> Spread {
        self.each(|sorted| sorted.last().copied().unwrap_or(Nanos::MAX))
    }

    fn each(&self, pick: impl Fn(&[Nanos]) -> Nanos) -> Spread {
        let of = |part: fn(&Spread) -> Nanos| {
            let mut sorted: Vec<Nanos> = self.spreads.iter().map(part).collect();
            sorted.sort_unstable();
            pick(&sorted)
        };
        Spread { half: of(|s| s.half), most: of(|s| s.most), all: of(|s| s.all) }
    }

    /// Adds the times at which nodes came to know, of `of` nodes.
    fn add(&mut self, mut times: Vec<Nanos>, of: usize) {
        times.sort_unstable();
        let at = |part: usize| times.get(part.saturating_sub(1)).copied().unwrap_or(Nanos::MAX);
        if times.len() < of {
            self.incomplete += 1;
        }
        self.spreads.push(Spread {
            half: at(of.div_ceil(2)),
            most: at((of * 9).div_ceil(10)),
            all: at(of),
        });
    }
}

/// What was seen of nodes that died.
#[derive(Debug, Clone, Default)]
pub struct Deaths {
    /// Until they got no new connections.
    pub suspect: Spreads,
    /// Until they counted as dead.
    pub dead: Spreads,
    /// Live nodes that somebody took for dead.
    pub wrong: usize,
}

/// Kills `count` nodes one after another.
pub fn deaths(cluster: &mut Cluster, count: usize) -> Deaths {
    let mut deaths = Deaths::default();
    for _ in 0..count {
        // Not in step with anybody's timers.
        let wait = 4 * SECOND + cluster.dice.below(1000) as u64 * MS;
        cluster.run(wait);
        cluster.seen.clear();
        let alive: Vec<usize> = cluster.alive().collect();
        let victim = alive[cluster.dice.below(alive.len())];
        cluster.kill(victim);
        let start = cluster.network.now;
        cluster.run(8 * SECOND);
        let (mut suspect, mut dead) = (BTreeMap::new(), BTreeMap::new());
        for (at, seen) in cluster.seen.drain(..) {
            let Seen::State(who, about, state) = seen else { continue };
            match (about == victim, state) {
                (true, State::Suspect) => drop(suspect.entry(who).or_insert(at - start)),
                (true, State::Dead) => {
                    dead.entry(who).or_insert(at - start);
                    suspect.entry(who).or_insert(at - start);
                }
                (false, State::Dead) => deaths.wrong += 1,
                _ => {}
            }
        }
        deaths.suspect.add(suspect.into_values().collect(), alive.len() - 1);
        deaths.dead.add(dead.into_values().collect(), alive.len() - 1);
    }
    deaths
}

/// What was seen while nothing happened.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quiet {
    /// Live nodes that were taken for dead.
    pub deaths: usize,
    /// Live nodes that were suspected by somebody.
    pub suspicions: usize,
    /// Bytes a second that each node sent, headers and all.
    pub bytes: f64,
    /// Those of them that were messages over streams.
    pub stream_bytes: f64,
}

/// Lets time pass in which nothing happens.
pub fn quiet(cluster: &mut Cluster, span: Nanos) -> Quiet {
    cluster.seen.clear();
    let (sent, datagrams) = (cluster.network.sent, cluster.network.sent_datagrams);
    let (mut dead, mut suspected) = (BTreeSet::new(), BTreeSet::new());
    let end = cluster.network.now + span;
    while cluster.network.now < end {
        cluster.run((10 * SECOND).min(end - cluster.network.now));
        for (at, seen) in cluster.seen.drain(..) {
            let Seen::State(_, about, state) = seen else { continue };
            let about = (about, at / (10 * SECOND));
            match state {
                State::Dead => dead.insert(about),
                State::Suspect => suspected.insert(about),
                State::Alive | State::Left => false,
            };
        }
    }
    let nodes = cluster.alive().count() as f64 * (span as f64 / SECOND as f64);
    let sent = cluster.network.sent - sent;
    let datagrams = cluster.network.sent_datagrams - datagrams;
    Quiet {
        deaths: dead.len(),
        suspicions: suspected.len(),
        bytes: sent as f64 / nodes,
        stream_bytes: (sent - datagrams) as f64 / nodes,
    }
}

/// Gives some nodes logs with one fact each, and lets everybody hear of them.
pub fn speak(cluster: &mut Cluster, owners: usize) {
    for node in 0..owners.min(cluster.nodes.len()) {
        cluster.say(node, Key::VipClaim("first".to_owned()), Some(&claim(0)));
    }
    cluster.run(90 * SECOND);
    cluster.seen.clear();
}

/// Lets owners say something `count` times, one after another.
pub fn changes(cluster: &mut Cluster, owners: usize, count: usize) -> Spreads {
    let mut spreads = Spreads::default();
    for number in 0..count {
        let wait = SECOND + cluster.dice.below(1000) as u64 * MS;
        cluster.run(wait);
        let speakers: Vec<usize> = cluster.alive().filter(|node| *node < owners).collect();
        let node = speakers[cluster.dice.below(speakers.len())];
        let of = cluster.alive().count() - 1;
        cluster.seen.clear();
        let start = cluster.network.now;
        cluster.say(node, Key::VipClaim("changing".to_owned()), Some(&claim(number)));
        cluster.run(5 * SECOND);
        let mut heard = BTreeMap::new();
        for (at, seen) in cluster.seen.drain(..) {
            if let Seen::Log(who, owner, _) = seen
                && owner == node
            {
                heard.entry(who).or_insert(at - start);
            }
        }
        spreads.add(heard.into_values().collect(), of);
    }
    spreads
}

fn claim(number: usize) -> Fact {
    Fact::VipClaim([11, 0, (number >> 8) as u8, number as u8].into())
}
