//! The threads that give queued packets their way.
//!
//! ```text
//!  read many ─▶ choose ─▶ write all entries in one send ─▶ mend those that were refused
//!            ─▶ note what is watched ─▶ give all verdicts in one send
//! ```
//!
//! A packet is always let go: translated where there is a backend, else to be refused by a
//! rule, as it would be if nobody listened here.

use std::io;
use std::sync::Arc;

use mizzen_ebpf_core::select::mix;

use crate::backend::Backend;
use crate::channel::{Channel, Inbox};
use crate::conntrack::{Entry, Source, Stage, Translation, write_delete, write_get, write_insert};
use crate::flows::{Beginning, Key};
use crate::packet::{Flow, Packet};
use crate::routes::Paths;
use crate::shared::{Shared, now};
use crate::uapi::{log, message, queue};
use crate::wire::{Head, Message, Messages, read_be32};
use crate::words::{Decision, Reason, TCP, UDP, VipAddress};

/// Packets that are read at a time.
const BATCH: usize = 64;

/// Bytes of each packet that the kernel hands over: headers, with all their options.
const COPIED: u32 = 160;

/// Packets that may wait in one queue; beyond, they pass.
const WAITING: u32 = 16_384;

/// What may wait in the socket.
const RECEIVE_BYTES: usize = 8 << 20;

/// A thread's conversations and working memory.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    packets: Arc<Channel>,
    conntrack: Channel,
    paths: Paths,
    inbox: Inbox,
    seed: u64,
    flows: Vec<Queued>,
    /// Packets that were only shown.
    shown: Vec<Packet>,
    /// Highest packet number of each queue, in the order of the queues.
    read: Vec<(u16, u32)>,
    requests: Messages,
    refused: u64,
}

/// A packet that waits for its verdict, and what becomes of it.
struct Queued {
    flow: Flow,
    to: Translation,
    backend: Arc<Backend>,
    decision: Decision,
    /// Whether a program on this machine sent it.
    is_own: bool,
    fate: Fate,
}

impl Queued {
    /// Whether an entry that it has can only be an older connection's: TCP here sends no SYN for
    /// one that is established, and asks a second time only if nobody answered in a second.
    fn is_sure_to_begin(&self) -> bool {
        self.is_own && self.flow.protocol == TCP
    }
}

/// What a queued packet is to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its first one.
    Begins,
    /// Another one of a flow that has its entry.
    GoesOn,
    /// One that the kernel gave no entry.
    Refused,
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
        seed: u64,
    ) -> Self {
        Self {
            shared,
            packets,
            conntrack,
            paths,
            inbox: Inbox::new(BATCH),
            seed,
            flows: Vec::with_capacity(BATCH),
            shown: Vec::with_capacity(BATCH),
            read: Vec::new(),
            requests: Messages::default(),
            refused: 0,
        }
    }

    /// Works until the engine ends.
    pub fn run(mut self) {
        while !self.shared.stops() {
            if let Err(error) = self.inbox.read(&self.packets)
                && !is_passing(&error)
            {
                tracing::error!(%error, "the VIP queues are gone; new connections will be refused");
                return;
            }
            self.batch();
        }
    }

    fn batch(&mut self) {
        let now = now();
        self.choose(now);
        self.look(now);
        if let Err(error) = self.write(now) {
            tracing::warn!(%error, "cannot write entries of conntrack");
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
        self.shared.count_glimpses(self.shown.len() as u64);
        let mut flows = self.shared.flows.lock();
        self.shown.drain(..).for_each(|packet| flows.seen(&packet, now));
    }

    /// Writes all entries.
    fn write(&mut self, now: u64) -> io::Result<()> {
        if self.flows.is_empty() {
            return Ok(());
        }
        self.requests.clear();
        for (index, queued) in self.flows.iter().enumerate() {
            write_insert(&mut self.requests, index as u32, &queued.flow, &queued.to);
        }
        let mut taken = Vec::new();
        for answer in self.conntrack.answers(self.requests.bytes())? {
            match answer.error {
                0 => {}
                libc::EEXIST => taken.push(answer.sequence as usize),
                error => self.count_refused(answer.sequence as usize, error),
            }
        }
        if taken.is_empty() { Ok(()) } else { self.mend(&taken, now) }
    }

    /// Replaces entries of ended connections that have the same ports, decides about those of
    /// living ones, and has the kernel choose another port where a port is taken.
    fn mend(&mut self, taken: &[usize], now: u64) -> io::Result<()> {
        let (own, others): (Vec<usize>, Vec<usize>) =
            taken.iter().partition(|index| self.flows[**index].is_sure_to_begin());
        let found = self.entries(&others)?;
        self.requests.clear();
        for index in own {
            self.write_again(index);
        }
        for index in others {
            match found.iter().find(|(number, _)| *number == index) {
                Some((_, entry)) => self.compare(index, entry, now),
                None => self.give_up_port(index),
            }
            self.write_again(index);
        }
        let clashes = self.insert_again()?;
        self.requests.clear();
        for index in clashes {
            self.give_up_port(index);
            self.write_again(index);
        }
        for index in self.insert_again()? {
            self.count_refused(index, libc::EEXIST);
        }
        Ok(())
    }

    /// The entries of flows.
    fn entries(&mut self, indices: &[usize]) -> io::Result<Vec<(usize, Entry)>> {
        let mut found = Vec::new();
        self.requests.clear();
        for index in indices {
            write_get(&mut self.requests, *index as u32, &self.flows[*index].flow);
        }
        if !indices.is_empty() {
            self.conntrack.transact(self.requests.bytes(), |message| {
                found.extend(Entry::read(message).map(|entry| (message.sequence as usize, entry)));
            })?;
        }
        Ok(found)
    }

    /// Adds the requests that replace whatever entry a flow has.
    fn write_again(&mut self, index: usize) {
        if let Some(queued) = self.flows.get(index).filter(|queued| queued.fate == Fate::Begins) {
            write_delete(&mut self.requests, u32::MAX, &queued.flow);
            write_insert(&mut self.requests, index as u32, &queued.flow, &queued.to);
        }
    }

    /// Another flow comes to the backend from the same address and port.
    fn give_up_port(&mut self, index: usize) {
        if let Some(queued) = self.flows.get_mut(index)
            && queued.to.source == Source::Kept
        {
            queued.to.source = Source::AnyPort;
        }
    }

    /// Sends deletions and insertions, and returns the insertions that met another entry.
    fn insert_again(&mut self) -> io::Result<Vec<usize>> {
        let mut clashes = Vec::new();
        if self.requests.is_empty() {
            return Ok(clashes);
        }
        for answer in self.conntrack.answers(self.requests.bytes())? {
            match answer.error {
                0 => {}
                _ if answer.sequence == u32::MAX => {}
                libc::EEXIST => clashes.push(answer.sequence as usize),
                error => self.count_refused(answer.sequence as usize, error),
            }
        }
        Ok(clashes)
    }

    /// Decides whether a packet begins a flow although there is an entry.
    fn compare(&mut self, index: usize, entry: &Entry, now: u64) {
        let shared = Arc::clone(&self.shared);
        let Some(queued) = self.flows.get_mut(index) else { return };
        let Flow { protocol, source, destination } = queued.flow;
        let vip = shared.vip(&VipAddress { socket: destination, protocol });
        let present = vip.as_ref().and_then(|vip| vip.backend(entry.backend));
        match entry.stage {
            Stage::Foreign | Stage::Ending => {}
            // A datagram goes where those before it went, as long as that is a backend.
            Stage::Alive if protocol == UDP => {
                if let Some(backend) = present {
                    queued.fate = Fate::GoesOn;
                    queued.to.backend = backend.address;
                    queued.backend = Arc::clone(backend);
                }
            }
            Stage::Alive => queued.fate = Fate::GoesOn,
            // The client asks again: nobody answered.
            Stage::Asked => {
                let key = Key { protocol, client: source, backend: entry.backend };
                let is_watched = shared.watch().0.has(source.port());
                shared.flows.lock().asked_again(&key, now);
                if let Some(backend) = present.filter(|_| !is_watched) {
                    backend.failed(0, Reason::Only, now, &shared.tuning());
                }
            }
        }
    }

    fn count_refused(&mut self, index: usize, error: i32) {
        self.refused += 1;
        let Some(queued) = self.flows.get_mut(index) else { return };
        queued.fate = Fate::Refused;
        if self.refused.is_power_of_two() {
            let error = io::Error::from_raw_os_error(error);
            let (vip, count) = (queued.flow.destination, self.refused);
            tracing::warn!(%vip, count, %error, "the kernel refuses entries of conntrack");
        }
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
            // With another source, what comes back does not tell whose it is.
            if !watch.has(source.port()) || queued.to.source != Source::Kept {
                continue;
            }
            let key = Key { protocol, client: source, backend: queued.to.backend };
            let Queued { backend, decision, .. } = queued;
            let flows = flows.get_or_insert_with(|| self.shared.flows.lock());
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
