//! The threads that give queued packets their way.
//!
//! ```text
//!  read many ─▶ choose ─▶ write all entries in one send ─▶ mend those that were refused
//!            ─▶ note what is watched ─▶ give all verdicts in one send
//! ```
//!
//! A packet is always let go: translated where there is a backend, else to be refused by a
//! rule, as it would be if nobody listened here.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use mizzen_ebpf_core::select::mix;

use crate::channel::{Channel, Inbox};
use crate::conntrack::{Source, Translation};
use crate::cpu::Home;
use crate::entries::{Entries, Fate, Queued};
use crate::flows::{Beginning, Key, Unwatched};
use crate::pace::Pace;
use crate::packet::{Flow, Packet};
use crate::routes::Paths;
use crate::shared::{Shared, now};
use crate::uapi::{log, message, queue};
use crate::watch::Order;
use crate::wire::{Head, Message, Messages, read_be32};
use crate::words::{UDP, VipAddress};

/// Packets that are read at a time.
const BATCH: usize = 64;

/// Bytes of each packet that the kernel hands over: headers, with all their options.
const COPIED: u32 = 160;

/// Packets that may wait in one queue; beyond, they pass.
const WAITING: u32 = 16_384;

/// What may wait in the socket.
const RECEIVE_BYTES: usize = 8 << 20;

/// Packets that were shown since somebody looked how many are, after which somebody should.
const MANY_GLIMPSES: u64 = 400;

/// How often a thread that is not on its CPU goes there.
const MOVES: u64 = 100_000_000;

/// A thread's conversations and working memory.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    packets: Arc<Channel>,
    entries: Entries,
    paths: Paths,
    inbox: Inbox,
    seed: u64,
    orders: Sender<Order>,
    pace: Pace,
    home: Home,
    /// When it was found elsewhere.
    away: u64,
    flows: Vec<Queued>,
    /// Packets that were only shown.
    shown: Vec<Packet>,
    /// Highest packet number of each queue, in the order of the queues.
    read: Vec<(u16, u32)>,
    requests: Messages,
}

/// Opens a socket and has the kernel queue packets to it.
pub(crate) fn listen(queues: &[u16]) -> Result<Channel, (u16, io::Error)> {
    let first = queues.first().copied().unwrap_or_default();
    let mut channel = Channel::open().map_err(|error| (first, error))?;
    channel.expect_packets(RECEIVE_BYTES).map_err(|error| (first, error))?;
    for number in queues {
        bind(&mut channel, *number).map_err(|error| (*number, error))?;
    }
    Ok(channel)
}

/// Has the kernel show packets of a group on a socket. They come in order with those of its
/// queues: the end of a connection before the beginning of the next with the same ports.
pub(crate) fn watch(channel: &mut Channel, group: u16) -> io::Result<()> {
    let flags = libc::NLM_F_ACK as u16;
    let head = Head { kind: message::LOG_CONFIG, flags, sequence: 1, family: 0, resource: group };
    let mut bind = Messages::default();
    bind.message(head, |m| m.attribute(log::CFG_CMD, &[log::CMD_BIND]));
    channel.order(bind.bytes())?;
    let mut mode = Messages::default();
    mode.message(head, |m| m.attribute(log::CFG_MODE, &[0, 0, 0, 0xff, log::COPY_PACKET, 0]));
    channel.order(mode.bytes())
}

fn bind(channel: &mut Channel, number: u16) -> io::Result<()> {
    let flags = libc::NLM_F_ACK as u16;
    let kind = message::QUEUE_CONFIG;
    let head = Head { kind, flags, sequence: 1, family: 0, resource: number };
    let mut command = Messages::default();
    command.message(head, |m| m.attribute(queue::CFG_CMD, &[queue::CMD_BIND, 0, 0, 0]));
    channel.order(command.bytes())?;
    let mut settings = Messages::default();
    settings.message(head, |m| {
        let mut params = COPIED.to_be_bytes().to_vec();
        params.push(queue::COPY_PACKET);
        m.attribute(queue::CFG_PARAMS, &params);
        m.be32(queue::CFG_QUEUE_MAXLEN, WAITING);
        // Checksums stay for the card to fill in, and who overflows passes.
        m.be32(queue::CFG_MASK, queue::FAIL_OPEN | queue::GSO);
        m.be32(queue::CFG_FLAGS, queue::FAIL_OPEN | queue::GSO);
    });
    channel.order(settings.bytes())
}

/// Has the thread that reads from this socket look up from its work.
pub(crate) fn wake(channel: &Channel, number: u16) -> io::Result<()> {
    let flags = libc::NLM_F_ACK as u16;
    let kind = message::QUEUE_CONFIG;
    let mut nothing = Messages::default();
    nothing.message(Head { kind, flags, sequence: 2, family: 0, resource: number }, |_| {});
    channel.send(nothing.bytes())
}

impl Worker {
    pub fn new(
        shared: Arc<Shared>,
        packets: Arc<Channel>,
        conntrack: Channel,
        paths: Paths,
        home: Home,
        orders: Sender<Order>,
    ) -> Self {
        Self {
            seed: now() ^ home.salt() << 56,
            orders,
            pace: Pace::default(),
            home,
            away: 0,
            shared,
            packets,
            entries: Entries::new(conntrack),
            paths,
            inbox: Inbox::new(BATCH),
            flows: Vec::with_capacity(BATCH),
            shown: Vec::with_capacity(BATCH),
            read: Vec::new(),
            requests: Messages::default(),
        }
    }

    /// Works until the engine ends.
    pub fn run(mut self) {
        while !self.shared.stops() {
            self.pace.wait();
            if let Err(error) = self.inbox.read(&self.packets)
                && !is_passing(&error)
            {
                tracing::error!(%error, "the VIP queues are gone; new connections will be refused");
                return;
            }
            self.batch();
        }
    }

    /// Stays where its packets come from, as far as it may. Somebody may move all threads of
    /// the process from time to time.
    fn go_home(&mut self, now: u64) {
        if self.home.is_here() || now < self.away + MOVES {
            return;
        }
        self.away = now;
        if let Err(error) = self.home.enter() {
            tracing::debug!(%error, "a thread of the VIP queues cannot be where its packets are");
        }
    }

    fn batch(&mut self) {
        let now = now();
        self.go_home(now);
        self.pace.read(self.inbox.len());
        self.choose(now);
        self.look(now);
        if let Err(error) = self.entries.write(&self.shared, &mut self.flows, now) {
            tracing::warn!(error = &error as &dyn Error, "cannot write entries of conntrack");
        }
        self.note();
        if let Err(error) = self.verdicts() {
            tracing::warn!(%error, "cannot give verdicts");
        }
    }

    /// Reads the packets and chooses a backend for each.
    fn choose(&mut self, now: u64) {
        self.flows.clear();
        self.read.clear();
        let shared = Arc::clone(&self.shared);
        let tuning = shared.tuning();
        let vips = shared.vips.read();
        for message in self.inbox.messages() {
            if message.kind == message::LOG_PACKET {
                let shown = message.attributes().find(log::PAYLOAD).and_then(Packet::read);
                self.shown.extend(shown);
                continue;
            }
            let Some((number, queued)) = read(&message) else { continue };
            match self.read.iter_mut().find(|(queue, _)| *queue == message.resource()) {
                Some((_, highest)) => *highest = number,
                None => self.read.push((message.resource(), number)),
            }
            let Some(Packet { flow, .. }) = queued.packet else { continue };
            let address = VipAddress { socket: flow.destination, protocol: flow.protocol };
            let Some(vip) = vips.get(&address) else { continue };
            self.seed = mix(self.seed.wrapping_add(now | 1));
            let Some(chosen) = vip.choose(&flow, self.seed, tuning, now) else {
                vip.count_refusal();
                continue;
            };
            let (client, backend) = (flow.source.ip(), chosen.backend.address);
            let source = self.paths.source(client, queued.came_by, backend.ip(), now);
            let source = source.map_or(Source::Kept, Source::Replaced);
            self.flows.push(Queued {
                flow,
                to: Translation { backend, source },
                backend: Arc::clone(chosen.backend),
                decision: chosen.decision,
                is_own: queued.came_by.is_none(),
                fate: Fate::Begins,
            });
        }
    }

    /// Takes in what was shown.
    fn look(&mut self, now: u64) {
        if self.shown.is_empty() {
            return;
        }
        if self.shared.count_glimpses(self.shown.len() as u64) > MANY_GLIMPSES {
            // If the thread is gone, there will be no fewer.
            let _ = self.orders.send(Order::Adapt);
        }
        let mut flows = self.shared.flows.lock();
        self.shown.drain(..).for_each(|packet| flows.seen(&packet, now));
    }

    /// Counts the flows that begin and remembers those that are watched.
    fn note(&mut self) {
        // Our own work is none of the backend's latency.
        let now = now();
        let (watch, share) = self.shared.watch();
        let mut flows = None;
        for queued in self.flows.drain(..) {
            let Flow { protocol, source, destination: vip } = queued.flow;
            match queued.fate {
                Fate::Begins => queued.backend.chosen(),
                Fate::GoesOn if protocol == UDP => {}
                Fate::GoesOn | Fate::Refused => continue,
            }
            let flows = flows.get_or_insert_with(|| self.shared.flows.lock());
            let key = Key { protocol, client: source, backend: queued.to.backend };
            let Queued { flow, backend, decision, .. } = queued;
            // With another source, what comes back does not tell whose it is.
            if !watch.has(source.port()) || queued.to.source != Source::Kept {
                if protocol != UDP {
                    let reason = decision.reason;
                    flows.begin_unwatched(Unwatched { since: now, flow, backend, reason });
                }
                continue;
            }
            let decision = Some(decision);
            flows.begin(Beginning { key, vip, backend, decision, share }, now);
        }
    }

    /// Lets everything go that was read.
    fn verdicts(&mut self) -> io::Result<()> {
        self.requests.clear();
        for (number, highest) in &self.read {
            let kind = message::QUEUE_VERDICT_BATCH;
            let head = Head { kind, flags: 0, sequence: 0, family: 0, resource: *number };
            let mut verdict = [0; 8];
            verdict[..4].copy_from_slice(&(libc::NF_ACCEPT as u32).to_be_bytes());
            verdict[4..].copy_from_slice(&highest.to_be_bytes());
            self.requests.message(head, |m| m.attribute(queue::VERDICT_HDR, &verdict));
        }
        if self.requests.is_empty() { Ok(()) } else { self.packets.send(self.requests.bytes()) }
    }
}

struct Arrived {
    packet: Option<Packet>,
    /// The link that it came by; `None` if a program here sent it.
    came_by: Option<u32>,
}

/// The packet's number in its queue, and the packet.
fn read(message: &Message<'_>) -> Option<(u32, Arrived)> {
    if message.kind != message::QUEUE_PACKET {
        return None;
    }
    let (mut number, mut packet, mut came_by) = (None, None, None);
    for (kind, value) in message.attributes() {
        match kind {
            queue::PACKET_HDR => number = Some(read_be32(value)),
            queue::IFINDEX_INDEV => came_by = Some(read_be32(value)),
            queue::PAYLOAD => packet = Packet::read(value),
            _ => {}
        }
    }
    Some((number?, Arrived { packet, came_by }))
}

/// Whether reading may go on after an error.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOBUFS | libc::EAGAIN))
}
