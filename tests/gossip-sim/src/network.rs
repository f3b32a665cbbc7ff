//! What lies between nodes: latency, loss, cuts, links of one speed.

use mizzen_types::random::Dice;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;

/// Nanoseconds of virtual time.
pub type Nanos = u64;
/// A millisecond.
pub const MS: Nanos = 1_000_000;
/// A second.
pub const SECOND: Nanos = 1000 * MS;

/// Headers of UDP and IP, and what seals a datagram, in bytes.
const DATAGRAM_EXTRA: u64 = 28 + 32;
/// Headers of TCP and IP, acknowledgement, and what TLS adds to a message, in bytes.
const MESSAGE_EXTRA: u64 = 52 + 52 + 22;
/// A TCP and TLS handshake with certificates on both sides, in bytes.
const HANDSHAKE: u64 = 4000;
/// A connection without messages is closed after this.
const IDLE: Nanos = 600 * SECOND;
/// A lost segment at the end of a message is sent again after this.
const RETRANSMIT: Nanos = 200 * MS;

/// What happens to a node.
#[derive(Debug)]
pub enum Event {
    /// A datagram arrives.
    Datagram {
        /// Where it comes from.
        from: SocketAddr,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// A message arrives.
    Message {
        /// Which node sent it.
        from: usize,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// Its time has come.
    Wake,
}

struct Entry {
    at: Nanos,
    serial: u64,
    node: usize,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.serial) == (other.at, other.serial)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// The network and its time.
pub struct Network {
    /// Virtual time.
    pub now: Nanos,
    /// A datagram is lost with this probability, and a message delayed.
    pub loss: f64,
    /// Bits a second of each node's link; messages queue for it.
    pub speed: u64,
    /// Bytes that nodes sent, with all headers.
    pub sent: u64,
    /// Those of them that were datagrams.
    pub sent_datagrams: u64,
    dice: Dice,
    queue: BinaryHeap<Reverse<Entry>>,
    serial: u64,
    /// Loss from one group of nodes to another, beside the general one.
    links: HashMap<(u8, u8), f64>,
    groups: Vec<u8>,
    /// When each pair's connection carried something last, and until when it is busy.
    streams: HashMap<(usize, usize), Nanos>,
    free_at: Vec<Nanos>,
}

impl Network {
    /// A network for `nodes` nodes, all in group 0.
    #[must_use]
    pub fn new(nodes: usize, loss: f64, seed: u64) -> Self {
        Self {
            now: 0,
            loss,
            speed: 1_000_000_000,
            sent: 0,
            sent_datagrams: 0,
            dice: Dice::new(seed),
            queue: BinaryHeap::new(),
            serial: 0,
            links: HashMap::new(),
            groups: vec![0; nodes],
            streams: HashMap::new(),
            free_at: vec![0; nodes],
        }
    }

    /// One more node.
    pub fn add(&mut self) {
        self.groups.push(0);
        self.free_at.push(0);
    }

    /// Puts a node into a group.
    pub fn group(&mut self, node: usize, group: u8) {
        self.groups[node] = group;
    }

    /// What goes from one group to another is lost with this probability as well. 1 cuts.
    pub fn set_loss(&mut self, from: u8, to: u8, loss: f64) {
        self.links.insert((from, to), loss);
    }

    /// Cuts two groups from each other, or joins them again.
    pub fn cut(&mut self, a: u8, b: u8, loss: f64) {
        self.set_loss(a, b, loss);
        self.set_loss(b, a, loss);
    }

    /// Sends a datagram.
    pub fn datagram(&mut self, from: usize, address: SocketAddr, to: usize, bytes: Vec<u8>) {
        let length = bytes.len() as u64 + DATAGRAM_EXTRA;
        self.sent += length;
        self.sent_datagrams += length;
        if self.is_lost(from, to) {
            return;
        }
        let at = self.now + self.latency();
        self.push(at, to, Event::Datagram { from: address, bytes });
    }

    /// Sends a message over the stream between two nodes, which is opened if need be.
    pub fn message(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        if self.loss_between(from, to) >= 1.0 || self.loss_between(to, from) >= 1.0 {
            return;
        }
        let length = bytes.len() as u64 + MESSAGE_EXTRA;
        let mut at = self.now;
        let pair = (from.min(to), from.max(to));
        let last = self.streams.get(&pair).copied();
        if last.is_none_or(|last| last + IDLE < at) {
            self.sent += HANDSHAKE;
            at += 4 * self.latency();
        }
        self.sent += length;
        let free = self.free_at[from].max(at) + length * 8 * SECOND / self.speed;
        self.free_at[from] = free;
        at = free + self.latency();
        if self.draw() < self.loss_between(from, to).max(self.loss) {
            at += RETRANSMIT;
        }
        // A stream keeps the order of what goes through it.
        let at = at.max(last.unwrap_or(0));
        self.streams.insert(pair, at);
        self.push(at, to, Event::Message { from, bytes });
    }

    /// Wakes a node.
    pub fn wake(&mut self, node: usize, at: Nanos) {
        self.push(at, node, Event::Wake);
    }

    /// The next event until `end`, when the time is `end`.
    pub fn next(&mut self, end: Nanos) -> Option<(usize, Event)> {
        match self.queue.peek() {
            Some(Reverse(entry)) if entry.at <= end => {}
            _ => {
                self.now = end;
                return None;
            }
        }
        let Reverse(entry) = self.queue.pop()?;
        self.now = entry.at.max(self.now);
        Some((entry.node, entry.event))
    }

    fn push(&mut self, at: Nanos, node: usize, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse(Entry { at, serial: self.serial, node, event }));
    }

    /// 0.3 to 1 ms.
    fn latency(&mut self) -> Nanos {
        300_000 + self.dice.below(700_000) as u64
    }

    fn draw(&mut self) -> f64 {
        (self.dice.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        let lost = self.draw() < self.loss;
        lost || self.draw() < self.loss_between(from, to)
    }

    fn loss_between(&self, from: usize, to: usize) -> f64 {
        if self.links.is_empty() {
            return 0.0;
        }
        self.links.get(&(self.groups[from], self.groups[to])).copied().unwrap_or(0.0)
    }
}
