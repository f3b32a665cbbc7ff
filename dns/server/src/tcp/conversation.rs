//! One connection: messages in, replies out, in the order in which they become ready.
//!
//! What a client can make the server keep is bounded everywhere: one incomplete message,
//! a number of questions that are being answered, and the replies that it has not read.
//! At each bound, reading stops, and TCP makes the client wait.

use super::TcpLimits;
use super::connections::Place;
use crate::handler::Outcome;
use crate::metrics::Road;
use crate::sockets::Transport;
use crate::thread::Thread;
use crate::transfer::{Piece, Transfer};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hickory_server::net::xfer::Protocol;
use mizzen_dns_core::PlainAnswer;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::sleep_until;

/// Replies that are written but not sent, in bytes: at this mark, no more are made.
const HIGH_WATER: usize = 64 * 1024;
/// Room that is made before reading.
const READ: usize = 4096;
/// Bytes of a message's length.
const LENGTH: usize = 2;

type Answering<'a> = Pin<Box<dyn Future<Output = (Outcome, Instant)> + 'a>>;

/// How a connection came to its end.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client had said all and got all.
    Finished,
    /// It was silent, did not read, or took too long for a message.
    TimedOut,
    /// Another connection needed the place.
    CrowdedOut,
    /// It sent what is no question.
    Nonsense,
}

/// Answers one client until it leaves, is silent for too long or talks nonsense.
pub(crate) async fn hold(
    mut stream: TcpStream,
    client: SocketAddr,
    thread: &Thread,
    limits: TcpLimits,
    place: &Place,
) -> io::Result<Ended> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let mut talk = Conversation::new(client, thread, limits);
    loop {
        talk.take_messages();
        let reads_on = talk.take_from_transfers();
        if talk.over() {
            let nonsense = talk.nonsense;
            return Ok(if nonsense { Ended::Nonsense } else { Ended::Finished });
        }
        place.set_idle(talk.is_idle());
        let may_read = talk.may_read();
        if may_read {
            talk.incoming.reserve(READ);
        }
        let (deadline, answering, sending) =
            (talk.deadline(), !talk.answering.is_empty(), talk.unsent() > 0);
        let Conversation { incoming, answering: futures, outgoing, sent, .. } = &mut talk;
        tokio::select! {
            () = place.has_to_go() => return Ok(Ended::CrowdedOut),
            Some((outcome, begin)) = futures.next(), if answering => talk.answered(outcome, begin),
            written = writer.write(outgoing.get(*sent..).unwrap_or_default()), if sending => {
                talk.written(written?);
            }
            read = reader.read_buf(incoming), if may_read => talk.read(read?),
            () = yield_now(), if reads_on => {}
            () = sleep_until(deadline.into()) => return Ok(Ended::TimedOut),
        }
    }
}

/// Where a connection stands.
struct Conversation<'a> {
    client: SocketAddr,
    thread: &'a Thread,
    limits: TcpLimits,
    /// What has arrived and is not taken: less than a message, or more than is answered
    /// at once.
    incoming: Vec<u8>,
    /// When the first byte of an incomplete message had arrived.
    incomplete_since: Option<Instant>,
    answering: FuturesUnordered<Answering<'a>>,
    /// Zones that are sent, one after the other.
    transfers: VecDeque<Box<Transfer>>,
    outgoing: Vec<u8>,
    /// How much of it the kernel has.
    sent: usize,
    /// Whether the client may say more.
    listening: bool,
    nonsense: bool,
    last_moved: Instant,
}

impl<'a> Conversation<'a> {
    fn new(client: SocketAddr, thread: &'a Thread, limits: TcpLimits) -> Self {
        Self {
            client,
            thread,
            limits,
            incoming: Vec::new(),
            incomplete_since: None,
            answering: FuturesUnordered::new(),
            transfers: VecDeque::new(),
            outgoing: Vec::new(),
            sent: 0,
            listening: true,
            nonsense: false,
            last_moved: Instant::now(),
        }
    }

    /// Begins to answer what has arrived, as far as there is room for answers.
    fn take_messages(&mut self) {
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = &incoming[..];
        while self.has_room()
            && let Some((message, tail)) = split_message(rest)
        {
            self.take(message);
            rest = tail;
        }
        let (taken, left) = (incoming.len() - rest.len(), rest.len());
        self.incoming = incoming;
        self.incoming.drain(..taken);
        match self.incomplete_since {
            _ if left == 0 => self.incomplete_since = None,
            Some(_) if taken == 0 => {}
            _ => self.incomplete_since = Some(Instant::now()),
        }
    }

    fn take(&mut self, message: &[u8]) {
        let begin = Instant::now();
        if self.answer_plain(message) {
            self.thread.counters.took(Road::Short, 1, begin.elapsed());
            return;
        }
        let (thread, client, message) = (self.thread, self.client, message.to_vec());
        self.answering.push(Box::pin(async move {
            (thread.handler.take(message, client, Protocol::Tcp).await, begin)
        }));
    }

    /// The short road, for one message.
    fn answer_plain(&mut self, message: &[u8]) -> bool {
        let Some(question) = self.thread.plain(message) else { return false };
        let mut answer = [PlainAnswer::NotPlain];
        let begin = self.outgoing.len();
        self.outgoing.resize(begin + LENGTH + usize::from(u16::MAX), 0);
        let room = self.outgoing.get_mut(begin + LENGTH..).unwrap_or_default();
        let question = question.by_tcp();
        self.thread.answer_plain(&[question], Transport::Tcp, &mut [&mut *room], &mut answer);
        let length = match answer {
            [PlainAnswer::Done { length, .. }] => Some(length),
            [PlainAnswer::NotPlain] => None,
            [PlainAnswer::Forward] => {
                let (tcp, client) = (Transport::Tcp, self.client.ip());
                self.thread.answer_from_cache(&question, tcp, client, room)
            }
        };
        let Some(length) = length.and_then(|length| u16::try_from(length).ok()) else {
            self.outgoing.truncate(begin);
            return false;
        };
        self.outgoing.truncate(begin + LENGTH + usize::from(length));
        if let Some(place) = self.outgoing.get_mut(begin..begin + LENGTH) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        true
    }

    fn answered(&mut self, outcome: Outcome, begin: Instant) {
        let counters = &self.thread.counters;
        self.last_moved = Instant::now();
        match outcome {
            Outcome::Reply(bytes, tally) => {
                counters.answered(Transport::Tcp, Road::Full, tally);
                counters.took(Road::Full, 1, begin.elapsed());
                self.push(&bytes);
            }
            Outcome::Transfer(transfer, tally) => {
                counters.answered(Transport::Tcp, Road::Full, tally);
                counters.transfers.add(1);
                self.transfers.push_back(transfer);
            }
            Outcome::Nothing => {
                counters.ignored.add(1);
                (self.nonsense, self.listening) = (true, false);
                self.incoming.clear();
            }
        }
    }

    /// Makes the next messages of a transfer, as many as the client reads; returns
    /// whether it goes on without the client.
    fn take_from_transfers(&mut self) -> bool {
        while self.unsent() < HIGH_WATER
            && let Some(transfer) = self.transfers.front_mut()
        {
            match transfer.next_piece(&self.thread.handler.zones) {
                Piece::Message(message) => self.push(&message),
                Piece::NotYet => return true,
                Piece::Over => drop(self.transfers.pop_front()),
            }
        }
        false
    }

    /// Adds a reply behind its length, so that one segment carries a short one.
    fn push(&mut self, message: &[u8]) {
        let Ok(length) = u16::try_from(message.len()) else { return };
        self.outgoing.extend_from_slice(&length.to_be_bytes());
        self.outgoing.extend_from_slice(message);
    }

    fn read(&mut self, bytes: usize) {
        // A client that has said all may still wait for answers.
        self.listening &= bytes > 0;
        if self.incomplete_since.is_none() {
            self.last_moved = Instant::now();
        }
    }

    fn written(&mut self, bytes: usize) {
        self.sent += bytes;
        self.last_moved = Instant::now();
        if self.sent >= self.outgoing.len() {
            self.outgoing.clear();
            self.outgoing.shrink_to(HIGH_WATER);
            self.sent = 0;
        }
    }

    fn unsent(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    fn has_room(&self) -> bool {
        self.transfers.is_empty()
            && self.answering.len() < self.limits.in_flight
            && self.unsent() < HIGH_WATER
    }

    fn may_read(&self) -> bool {
        self.listening && self.has_room() && split_message(&self.incoming).is_none()
    }

    fn waits_for_client(&self) -> bool {
        self.answering.is_empty() && self.unsent() == 0 && self.transfers.is_empty()
    }

    /// Whether it could end without anybody missing an answer.
    fn is_idle(&self) -> bool {
        self.waits_for_client()
    }

    fn over(&self) -> bool {
        !self.listening && self.waits_for_client() && split_message(&self.incoming).is_none()
    }

    /// When the client's patience with us, or ours with it, is over.
    fn deadline(&self) -> Instant {
        let message = self.incomplete_since.filter(|_| self.may_read());
        let message = message.map(|since| since + self.limits.message);
        // While answers are made, their own time-outs hold.
        let waits_for_answers = !self.answering.is_empty() && self.unsent() == 0;
        let base = if waits_for_answers { Instant::now() } else { self.last_moved };
        let idle = base + self.limits.idle;
        message.map_or(idle, |message| message.min(idle))
    }
}

/// The first message and what follows it; `None` if it is not complete.
fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_parted_by_their_lengths() {
        type Row = (&'static [u8], Option<(&'static [u8], &'static [u8])>);
        #[rustfmt::skip]
        let table: &[Row] = &[
            (&[], None),
            (&[0], None),
            (&[0, 2, 7], None),
            (&[0, 2, 7, 8], Some((&[7, 8], &[]))),
            (&[0, 1, 7, 0, 9], Some((&[7], &[0, 9]))),
            (&[0, 0, 5], Some((&[], &[5]))),
        ];
        for (bytes, want) in table {
            assert_eq!(split_message(bytes), *want, "{bytes:?}");
        }
    }
}
