//! The connections that are watched, from their first packet to their last.
//!
//! What is known of one comes from glimpses: its SYN, which we translate; the SYN-ACK,
//! the first FIN or RST, which rules show. What is not seen to the end in time is over.
//!
//! ```text
//!  SYN ──▶ asked ──SYN-ACK──▶ open ──FIN, RST──▶ (closed)
//!            ├──RST, or no answer in time──▶ (failed)
//!  datagram ─▶ flow ──idle time──▶ (over)
//! ```
//!
//! Of connections that are not watched only the SYN is known. While their backend answers others,
//! nothing is asked about them; if it answers nobody, conntrack knows how they stand.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::backend::{Backend, Limits};
use crate::hash::Map;
use crate::packet::{ACK, FIN, Flow, Packet, RST, SYN};
use crate::words::{Connection, ConnectionStage, Decision, Reason, UDP, VipAddress};

/// Time that a handshake may take: then the client's system sends its SYN again.
const HANDSHAKE: u64 = 1_000_000_000;

/// Time in which nobody asks a second time for the same connection.
const AGAIN: u64 = HANDSHAKE / 2;

/// Connections watched at a time; what goes beyond is not watched.
const MOST: usize = 200_000;

/// Connections that ended and are still told of: the last ones.
const MOST_ENDED: usize = 4_096;

/// Time after which an unwatched handshake is doubted, unless the backend has answered others.
const DOUBT: u64 = 250_000_000;

/// Handshakes that are kept in case of doubt; what goes beyond is not.
const MOST_UNWATCHED: usize = 16_384;

/// What distinguishes a flow behind the translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub protocol: u8,
    pub client: SocketAddr,
    pub backend: SocketAddr,
}

/// A flow that begins.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub key: Key,
    pub vip: SocketAddr,
    pub backend: Arc<Backend>,
    /// None if a former process chose.
    pub decision: Option<Decision>,
    /// For how many connections this one stands.
    pub share: u64,
}

/// A handshake that nobody sees.
#[derive(Debug)]
pub(crate) struct Unwatched {
    pub since: u64,
    pub flow: Flow,
    pub backend: Arc<Backend>,
    pub reason: Reason,
}

#[derive(Debug)]
struct Watched {
    vip: SocketAddr,
    backend: Arc<Backend>,
    decision: Option<Decision>,
    share: u64,
    stage: Stage,
    /// When the stage began.
    since: u64,
    /// When it was last known to be there.
    known: u64,
}

/// One that is over.
#[derive(Debug)]
struct Ended {
    key: Key,
    vip: SocketAddr,
    decision: Option<Decision>,
    stage: ConnectionStage,
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Open,
    /// UDP, which has no end that could be seen.
    Flow,
}

/// All flows that are watched.
#[derive(Debug)]
pub(crate) struct Flows {
    watched: Map<Key, Watched>,
    /// The backend of each client (transport, its address) and VIP.
    towards: Map<(u8, SocketAddr, SocketAddr), SocketAddr>,
    /// In the order in which they began.
    unwatched: VecDeque<Unwatched>,
    /// In the order in which they ended.
    ended: VecDeque<Ended>,
    /// Handshakes in the order in which they began.
    asked: VecDeque<(u64, Key)>,
    /// UDP flows in the order in which they were heard of last.
    flows: BTreeSet<(u64, Key)>,
    tuning: Limits,
}

impl Flows {
    pub fn new(tuning: Limits) -> Self {
        Self {
            watched: Map::default(),
            towards: Map::default(),
            unwatched: VecDeque::new(),
            ended: VecDeque::new(),
            asked: VecDeque::new(),
            flows: BTreeSet::new(),
            tuning,
        }
    }

    /// Goes by something else from now on.
    pub fn tune(&mut self, tuning: Limits) {
        self.tuning = tuning;
    }

    /// Takes in the first packet of a flow. One that the backend had under this key is over.
    pub fn begin(&mut self, beginning: Beginning, now: u64) {
        let key = beginning.key;
        if self.goes_on(&beginning, now) {
            return;
        }
        let overtaken =
            |flow: &Watched| flow.stage == Stage::Asked && now.saturating_sub(flow.since) < AGAIN;
        match self.watched.get(&key).is_some_and(overtaken) {
            // Its answer and its end are about to be shown to another thread.
            true => self.lose(&key, now),
            false => self.end(&key, now),
        }
        let stage = match key.protocol {
            UDP => Stage::Flow,
            _ => Stage::Asked,
        };
        self.insert(beginning, stage, now);
    }

    /// Whether this is a flow of datagrams that is known: it has paused.
    fn goes_on(&mut self, beginning: &Beginning, now: u64) -> bool {
        let Beginning { key, vip, backend, .. } = beginning;
        let is_same = |flow: &&mut Watched| {
            flow.stage == Stage::Flow && flow.vip == *vip && Arc::ptr_eq(&flow.backend, backend)
        };
        let Some(flow) = self.watched.get_mut(key).filter(is_same) else { return false };
        self.flows.remove(&(flow.known, *key));
        self.flows.insert((now, *key));
        flow.known = now;
        true
    }

    /// Takes in a handshake of which nothing will be seen.
    pub fn begin_unwatched(&mut self, unwatched: Unwatched) {
        if self.unwatched.len() < MOST_UNWATCHED {
            self.unwatched.push_back(unwatched);
        }
    }

    /// The unwatched handshakes, `most` of them, whose backend has not answered anybody since:
    /// for somebody to look how they stand.
    pub fn doubtful(&mut self, most: usize, now: u64) -> Vec<Unwatched> {
        let mut doubtful = Vec::new();
        let limit = now.saturating_sub(DOUBT);
        while doubtful.len() < most
            && let Some(found) = self.unwatched.pop_front_if(|found| found.since <= limit)
        {
            if !found.backend.answered_since(found.since) {
                doubtful.push(found);
            }
        }
        doubtful
    }

    /// Takes in a connection that a former process began.
    pub fn adopt(&mut self, beginning: Beginning, now: u64) {
        let stage = match beginning.key.protocol {
            UDP => Stage::Flow,
            _ => Stage::Open,
        };
        self.insert(beginning, stage, now);
    }

    fn insert(&mut self, beginning: Beginning, stage: Stage, since: u64) {
        let Beginning { key, vip, backend, decision, share } = beginning;
        if self.watched.len() >= MOST {
            return;
        }
        match stage {
            Stage::Asked => {
                backend.started(share, since);
                self.asked.push_back((since, key));
            }
            Stage::Open => backend.joined(share),
            Stage::Flow => {
                backend.joined(share);
                self.flows.insert((since, key));
            }
        }
        self.towards.insert((key.protocol, key.client, vip), key.backend);
        let flow = Watched { vip, backend, decision, share, stage, since, known: since };
        self.watched.insert(key, flow);
    }

    /// All that are watched, and the last ones that ended.
    pub fn connections(&self, now: u64) -> Vec<Connection> {
        let connection = |key: &Key, vip, stage, since, decision| Connection {
            client: key.client,
            vip: VipAddress { socket: vip, protocol: key.protocol },
            backend: key.backend,
            stage,
            age: now.saturating_sub(since) / 1_000_000,
            decision,
        };
        let watched = self.watched.iter().map(|(key, flow)| {
            let stage = match flow.stage {
                Stage::Asked => ConnectionStage::Started,
                Stage::Open | Stage::Flow => ConnectionStage::Established,
            };
            connection(key, flow.vip, stage, flow.since, flow.decision)
        });
        let ended = self.ended.iter();
        let ended =
            ended.map(|end| connection(&end.key, end.vip, end.stage, end.since, end.decision));
        watched.chain(ended).collect()
    }

    /// Takes in a packet that was shown.
    pub fn seen(&mut self, packet: &Packet, now: u64) {
        let flow = &packet.flow;
        let key = |client, backend| Key { protocol: flow.protocol, client, backend };
        let towards = (flow.protocol, flow.source, flow.destination);
        if packet.flags & RST != 0
            && let Some(backend) = self.towards.get(&towards)
        {
            let there = key(flow.source, *backend);
            // A client resets a handshake when it is answered as an older connection of the
            // same ports, and asks again at once.
            let is_asked = self.watched.get(&there).is_some_and(|flow| flow.stage == Stage::Asked);
            return if is_asked { self.lose(&there, now) } else { self.end(&there, now) };
        }
        let key = key(flow.destination, flow.source);
        let Some(watched) = self.watched.get_mut(&key) else { return };
        if packet.flags & RST != 0 {
            return self.end(&key, now);
        }
        match (watched.stage, packet.flags & (SYN | ACK | FIN)) {
            (Stage::Asked, flags) if flags == SYN | ACK => {
                let nanos = now.saturating_sub(watched.since);
                watched.backend.succeeded(watched.share, nanos, now);
                watched.stage = Stage::Open;
                (watched.since, watched.known) = (now, now);
            }
            (Stage::Open, flags) if flags & FIN != 0 => self.end(&key, now),
            _ => {}
        }
    }

    /// A client asks again: the handshake has failed.
    pub fn asked_again(&mut self, key: &Key, now: u64) {
        if self.watched.get(key).is_some_and(|flow| flow.stage == Stage::Asked) {
            self.end(key, now);
        }
    }

    /// Ends what is over because nothing was seen of it in time.
    pub fn expire(&mut self, now: u64) {
        let handshake = |flows: &mut Self| due(&mut flows.asked, now.saturating_sub(HANDSHAKE));
        while let Some((since, key)) = handshake(self) {
            self.end_asked(&key, since, now);
        }
        let limit = now.saturating_sub(self.tuning.idle);
        while let Some((known, key)) = self.flows.first().copied()
            && known <= limit
        {
            self.flows.remove(&(known, key));
            self.end(&key, now);
        }
    }

    /// Watches only those that fulfil a condition from now on.
    pub fn retain(&mut self, keep: impl Fn(&Key) -> bool, now: u64) {
        let others: Vec<Key> = self.watched.keys().filter(|key| !keep(key)).copied().collect();
        for key in others {
            self.lose(&key, now);
        }
    }

    /// Some flows that nobody has looked after since `before`, for somebody to look whether they still are.
    pub fn older(&self, before: u64, most: usize) -> Vec<Key> {
        let is_old = |flow: &&Watched| flow.stage == Stage::Open && flow.known < before;
        let old = self.watched.iter().filter(|(_, flow)| is_old(flow));
        old.map(|(key, _)| *key).take(most).collect()
    }

    /// An old connection still exists.
    pub fn touch(&mut self, key: &Key, now: u64) {
        if let Some(flow) = self.watched.get_mut(key).filter(|flow| flow.stage == Stage::Open) {
            flow.known = now;
        }
    }

    /// A flow is over, and nobody saw how.
    pub fn lose(&mut self, key: &Key, now: u64) {
        if let Some(flow) = self.take(key) {
            self.release(&flow, now);
        }
    }

    fn end_asked(&mut self, key: &Key, since: u64, now: u64) {
        let is_it = |flow: &Watched| flow.stage == Stage::Asked && flow.since == since;
        if self.watched.get(key).is_some_and(is_it) {
            self.end(key, now);
        }
    }

    fn take(&mut self, key: &Key) -> Option<Watched> {
        let flow = self.watched.remove(key)?;
        let towards = (key.protocol, key.client, flow.vip);
        // A later one of the same ports may go to another backend.
        if self.towards.get(&towards) == Some(&key.backend) {
            self.towards.remove(&towards);
        }
        if flow.stage == Stage::Flow {
            self.flows.remove(&(flow.known, *key));
        }
        Some(flow)
    }

    /// Ends one for good.
    fn end(&mut self, key: &Key, now: u64) {
        let Some(flow) = self.take(key) else { return };
        self.keep_end(key, &flow);
        let Watched { backend, decision, share, stage, since, .. } = flow;
        match stage {
            Stage::Asked => {
                let reason = decision.map_or(Reason::Only, |decision| decision.reason);
                backend.failed(share, reason, now, &self.tuning);
            }
            Stage::Open => {
                backend.closed(share, Some(now.saturating_sub(since)), now, &self.tuning);
            }
            // A flow lasts for as long as we believe that it does.
            Stage::Flow => backend.closed(share, None, now, &self.tuning),
        }
    }

    /// Remembers one that is over, in case somebody asks.
    fn keep_end(&mut self, key: &Key, flow: &Watched) {
        if self.ended.len() == MOST_ENDED {
            self.ended.pop_front();
        }
        let Watched { vip, decision, since, .. } = *flow;
        let stage = match flow.stage {
            Stage::Asked => ConnectionStage::Failed,
            Stage::Open | Stage::Flow => ConnectionStage::Closed,
        };
        self.ended.push_back(Ended { key: *key, vip, decision, stage, since });
    }

    /// Lets one go of which nothing will be seen any more.
    fn release(&self, flow: &Watched, now: u64) {
        if flow.stage == Stage::Asked {
            flow.backend.succeeded_unseen(flow.share);
        }
        flow.backend.closed(flow.share, None, now, &self.tuning);
    }
}

/// The first in a queue if it is from `limit` or before.
fn due(queue: &mut VecDeque<(u64, Key)>, limit: u64) -> Option<(u64, Key)> {
    queue.pop_front_if(|(since, _)| *since <= limit)
}

#[cfg(test)]
mod tests;
