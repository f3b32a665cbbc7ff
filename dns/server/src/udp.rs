//! UDP: batches of datagrams, most of them answered before the next one is looked at.
//!
//! Every batch takes the short road together. What is left over becomes a task each, as
//! many as there is room for ([`crate::fair`]): a client that has its share already is
//! told to come by TCP, where it can wait its turn. Only one that really has the address
//! it claims can do that, and the reply is no larger than the question.

mod batch;
mod port;

use crate::fair::Place;
use crate::handler::Outcome;
use crate::metrics::Road;
use crate::sockets::Transport;
use crate::thread::Thread;
use batch::{BATCH, Inbox, Outbox};
use hickory_server::net::xfer::Protocol;
use mizzen_dns_core::{Outline, PlainAnswer, PlainQuestion};
use port::Peer;
pub(crate) use port::Port;
use std::io;
use std::rc::Rc;
use std::time::Instant;
use tokio::task::{spawn_local, yield_now};
use tracing::debug;

/// Full batches in a row after which other tasks have their turn.
const BATCHES_IN_A_ROW: u32 = 8;
/// So many datagrams at once let expect more at once: looking again is cheaper than
/// being woken.
const BUSY: usize = 4;

/// Answers datagrams for ever. Runs in a [`tokio::task::LocalSet`].
pub(crate) async fn serve(port: Rc<Port>, thread: Rc<Thread>) {
    let mut desk = Desk::new(port, thread);
    let mut in_a_row = 0;
    loop {
        let port = Rc::clone(&desk.port);
        if port.readable().await.is_err() {
            return;
        }
        match desk.inbox.receive(&port) {
            Ok(count) => {
                desk.answer().await;
                in_a_row += 1;
                // The kernel had no more; what came since wakes us. Where nobody is woken, the
                // next look shows it.
                let is_over = count < BUSY && port.is_watched();
                if is_over {
                    port.drained().await;
                } else if in_a_row >= BATCHES_IN_A_ROW {
                    port.busy();
                }
                if is_over || in_a_row >= BATCHES_IN_A_ROW {
                    in_a_row = 0;
                    yield_now().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    debug!(%error, "no datagram received");
                }
                in_a_row = 0;
                port.drained().await;
            }
        }
    }
}

/// One socket with its buffers.
struct Desk {
    port: Rc<Port>,
    thread: Rc<Thread>,
    inbox: Inbox,
    outbox: Outbox,
    /// What goes on by the full road: as it was sent, and by whom.
    waiting: Vec<(Vec<u8>, Peer, Place)>,
}

impl Desk {
    fn new(port: Rc<Port>, thread: Rc<Thread>) -> Self {
        let inbox = Inbox::new(port.is_wildcard());
        Self { port, thread, inbox, outbox: Outbox::new(), waiting: Vec::new() }
    }

    /// Answers the batch that was received.
    async fn answer(&mut self) {
        let begin = Instant::now();
        let short = self.answer_plain();
        self.outbox.flush(&self.port).await;
        if short > 0 {
            self.thread.counters.took(Road::Short, short, begin.elapsed());
        }
        for (message, peer, place) in self.waiting.drain(..) {
            let (port, thread) = (Rc::clone(&self.port), Rc::clone(&self.thread));
            spawn_local(answer_fully(port, thread, message, peer, place));
        }
    }

    /// Writes the replies to all plain questions, and finds out what waits; returns how
    /// many were plain.
    fn answer_plain(&mut self) -> u64 {
        let Self { thread, inbox, outbox, waiting, .. } = self;
        let mut questions: Vec<PlainQuestion<'_>> = Vec::with_capacity(BATCH);
        let mut asked: Vec<(&[u8], Peer)> = Vec::with_capacity(BATCH);
        let mut crowded_out: Vec<(Outline<'_>, Peer)> = Vec::new();
        for (message, peer) in inbox.iter() {
            if let Some(question) = thread.plain(message) {
                questions.push(question);
                asked.push((message, peer));
            } else if !enter(thread, waiting, message, peer) {
                crowded_out.extend(Outline::parse(message).map(|outline| (outline, peer)));
            }
        }
        let mut answers = [PlainAnswer::NotPlain; BATCH];
        thread.answer_plain(&questions, Transport::Udp, outbox.buffers(), &mut answers);
        let mut done = 0;
        let asked = questions.iter().zip(asked).zip(answers);
        for (at, ((question, (message, peer)), answer)) in asked.enumerate() {
            let Some(buffer) = outbox.buffers().get_mut(at) else { break };
            let length = match answer {
                PlainAnswer::Done { length, .. } => Some(length),
                PlainAnswer::NotPlain => None,
                PlainAnswer::Forward => {
                    let (udp, client) = (Transport::Udp, peer.client.ip());
                    thread.answer_from_cache(question, udp, client, buffer)
                }
            };
            done += u64::from(length.is_some());
            let length = length.or_else(|| match enter(thread, waiting, message, peer) {
                true => None,
                false => come_by_tcp(&question.into(), buffer),
            });
            if let Some(length) = length {
                outbox.push(at, length, peer);
            }
        }
        for (at, (outline, peer)) in (questions.len()..).zip(crowded_out) {
            let Some(buffer) = outbox.buffers().get_mut(at) else { break };
            if let Some(length) = come_by_tcp(&outline, buffer) {
                outbox.push(at, length, peer);
            }
        }
        done
    }
}

/// Lets a message wait for the full road; false if there is no room for its client.
fn enter(
    thread: &Thread,
    waiting: &mut Vec<(Vec<u8>, Peer, Place)>,
    message: &[u8],
    peer: Peer,
) -> bool {
    match thread.room.enter(peer.client.ip().into()) {
        Some(place) => {
            waiting.push((message.to_vec(), peer, place));
            true
        }
        None => {
            thread.counters.crowded_out.add(1);
            false
        }
    }
}

async fn answer_fully(
    port: Rc<Port>,
    thread: Rc<Thread>,
    message: Vec<u8>,
    peer: Peer,
    place: Place,
) {
    let begin = Instant::now();
    match thread.handler.take(message, peer.client, Protocol::Udp).await {
        Outcome::Reply(bytes, tally) => {
            thread.counters.answered(Transport::Udp, Road::Full, tally);
            if let Err(error) = port.send(&bytes, peer).await {
                debug!(client = %peer.client, %error, "reply not sent");
            }
            thread.counters.took(Road::Full, 1, begin.elapsed());
        }
        // Zones are not transferred by UDP.
        Outcome::Transfer(..) | Outcome::Nothing => thread.counters.ignored.add(1),
    }
    drop(place);
}

/// Writes an empty reply with the TC bit; returns its length.
fn come_by_tcp(question: &Outline<'_>, buffer: &mut [u8]) -> Option<usize> {
    const RESPONSE: u16 = 0x8000;
    const TRUNCATED: u16 = 0x0200;
    /// Root, OPT, 1,232 bytes, version 0, no flags, no options.
    const OPT: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];
    let [id, flags] = [question.id, question.flags | RESPONSE | TRUNCATED].map(u16::to_be_bytes);
    let opt = if question.edns { &OPT[..] } else { &[] };
    let counts = [0, 1, 0, 0, 0, 0, 0, u8::from(question.edns)];
    let mut length = 0;
    for part in [&id[..], &flags, &counts, question.section, opt] {
        buffer.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    Some(length)
}
