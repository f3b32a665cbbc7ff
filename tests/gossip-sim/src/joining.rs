//! A node that knows nothing joins a cluster with many backends.

use crate::keys::{QuickKeys, RealKeys};
use crate::network::{Event, Nanos, Network, SECOND};
use mizzen_membership::exchange::Keys;
use mizzen_membership::identity::Identity;
use mizzen_membership::membership::{Effect, Membership, Settings};
use mizzen_membership::view::View;
use mizzen_types::fact::{Fact, Health, Key, PortFact, Reach, TaskFact, TaskPhase};
use mizzen_types::ids::OwnerId;
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now, Wall};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What a join took.
#[derive(Debug, Clone, Copy)]
pub struct Join {
    /// Backends in the joiner's view afterwards.
    pub backends: usize,
    /// Virtual time until it knew all, computing not included.
    pub network: Nanos,
    /// Time that this machine needed for the joiner's part: checking, applying, its view.
    pub joiner: Duration,
    /// The same of the node that it joined by.
    pub server: Duration,
    /// Bytes to the joiner.
    pub bytes: u64,
}

/// Whether signatures cost what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// Hashes.
    Quick,
    /// Ed25519.
    Real,
}

struct Party {
    membership: Membership,
    view: View,
    id: OwnerId,
    busy: Duration,
}

impl Party {
    fn new(index: u64, signatures: Signatures) -> Self {
        let id = OwnerId::new(Dice::new(index + 1).uuid());
        let address = SocketAddr::from(([10, 1, (index >> 8) as u8, index as u8], 62501));
        let keys: Box<dyn Keys> = match signatures {
            Signatures::Quick => Box::new(QuickKeys(id.clone())),
            Signatures::Real => Box::new(RealKeys::new(&id, index)),
        };
        let settings = Settings::new(Identity::new(id.clone(), address, 1), index);
        let membership = Membership::new(settings, keys, Now::default());
        Self { membership, view: View::default(), id, busy: Duration::ZERO }
    }

    fn take(&mut self, from: &OwnerId, bytes: &[u8], now: Now) -> Vec<(OwnerId, Vec<u8>)> {
        let start = Instant::now();
        self.membership.handle_message(from, bytes, now);
        let sends = self.drain(now);
        self.busy += start.elapsed();
        sends
    }

    fn drain(&mut self, now: Now) -> Vec<(OwnerId, Vec<u8>)> {
        let mut sends = Vec::new();
        while let Some(effect) = self.membership.poll_effect() {
            match effect {
                Effect::Message { to, bytes } => sends.push((to, bytes)),
                Effect::Learned(learned) => drop(self.view.learn(learned, now)),
                _ => {}
            }
        }
        sends
    }
}

/// `owners` nodes with `each` backends are known to one node, by which another one joins.
#[must_use]
pub fn join(owners: u64, each: u64, signatures: Signatures) -> Join {
    let mut server = Party::new(1 << 20, signatures);
    for owner in 0..owners {
        let mut party = Party::new(owner, signatures);
        speak(&mut party, owner, each);
        acquaint(&mut server, &mut party);
    }
    server.busy = Duration::ZERO;
    over_the_network(server, Party::new((1 << 20) + 1, signatures))
}

/// A task as a cluster with Marathon has them.
#[must_use]
pub fn backend(owner: u64, number: u64) -> (Key, Fact) {
    let mut dice = Dice::new((owner << 32) | number);
    let master = Dice::new(42).uuid();
    let (framework_id, name) = (format!("{master}-0000"), format!("app-{}", number % 97));
    let task_id = format!("{name}.{}", dice.uuid());
    let port = 31_000 + (number % 1000) as u16;
    let fact = TaskFact {
        task_id: task_id.clone().into(),
        framework_id: framework_id.clone().into(),
        framework_name: "marathon".to_owned(),
        agent_id: format!("{master}-S{owner}").into(),
        container_id: dice.uuid().into(),
        name: name.clone(),
        discovery_name: None,
        phase: TaskPhase::Running,
        health: Health::Healthy,
        host_address: [10, 1, (owner >> 8) as u8, owner as u8].into(),
        container_addresses: vec![[9, (owner >> 8) as u8, owner as u8, number as u8].into()],
        container_reach: Reach::Cluster,
        host_ports: vec![port],
        ports: vec![PortFact {
            number: 80,
            host_port: Some(port),
            name: Some("http".to_owned()),
            protocol: "tcp".to_owned(),
            labels: BTreeMap::from([("VIP_0".to_owned(), format!("/{name}:80"))]),
        }],
        labels: BTreeMap::new(),
        launched: Wall(1_800_000_000 * SECOND + number),
    };
    (Key::Task(framework_id.into(), task_id.into()), Fact::Task(Box::new(fact)))
}

fn speak(party: &mut Party, owner: u64, each: u64) {
    let now = Now::default();
    party.membership.open(&party.id, 1);
    for number in 0..each {
        let (key, fact) = backend(owner, number);
        let said = party.membership.say(&party.id, key, Some(&fact), now);
        assert!(said.is_ok(), "{said:?}");
    }
    party.membership.publish(now);
    party.membership.handle_timeout(now);
    party.drain(now);
}

/// Lets `server` learn what `party` says.
fn acquaint(server: &mut Party, party: &mut Party) {
    let now = Now::default();
    server.membership.join(&party.id, now);
    let mut asking = server.drain(now);
    while !asking.is_empty() {
        let mut told = Vec::new();
        for (to, bytes) in asking.drain(..) {
            if to == party.id {
                told.extend(party.take(&server.id, &bytes, now));
            }
        }
        for (to, bytes) in told {
            if to == server.id {
                asking.extend(server.take(&party.id, &bytes, now));
            }
        }
    }
}

fn over_the_network(mut server: Party, mut joiner: Party) -> Join {
    let mut network = Network::new(2, 0.0, 7);
    let mut last = 0;
    joiner.membership.join(&server.id, Now::default());
    let mut sends = joiner.drain(Now::default());
    let (mut at, mut bytes_in) = (1, 0);
    loop {
        for (to, bytes) in sends.drain(..) {
            let to = usize::from(to == joiner.id);
            bytes_in += if to == 1 { bytes.len() as u64 } else { 0 };
            network.message(at, to, bytes);
        }
        let Some((node, Event::Message { bytes, .. })) = network.next(60 * SECOND) else { break };
        last = network.now;
        let now = Now { mono: Mono(network.now), wall: Wall(network.now) };
        at = node;
        sends = match node {
            0 => server.take(&joiner.id, &bytes, now),
            _ => joiner.take(&server.id, &bytes, now),
        };
    }
    let backends = joiner.view.facts().count();
    let (joiner, server) = (joiner.busy, server.busy);
    Join { backends, network: last, joiner, server, bytes: bytes_in }
}
