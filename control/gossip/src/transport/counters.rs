//! What went through a transport.

use crate::seal::Refused;
use std::sync::atomic::{AtomicU64, Ordering};

/// What went through so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams received and opened.
    pub datagrams_in: u64,
    /// Bytes of datagrams sent, seals included.
    pub datagram_bytes_out: u64,
    /// Bytes of datagrams received, whatever they were.
    pub datagram_bytes_in: u64,
    /// Datagrams that are none of ours.
    pub garbage: u64,
    /// Datagrams sealed with a key that is not known here.
    pub foreign: u64,
    /// Datagrams that were not sealed with the key that they name.
    pub forged: u64,
    /// Datagrams that came again.
    pub replayed: u64,
    /// Datagrams for which the loop had no time.
    pub dropped: u64,
    /// Messages sent over streams.
    pub messages_out: u64,
    /// Messages received over streams.
    pub messages_in: u64,
    /// Bytes of messages sent.
    pub message_bytes_out: u64,
    /// Bytes of messages received.
    pub message_bytes_in: u64,
    /// Streams opened, by either side.
    pub streams: u64,
    /// Connections that did not become streams: no certificate, a wrong one, garbage.
    pub refused_streams: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    datagrams_out: AtomicU64,
    datagrams_in: AtomicU64,
    datagram_bytes_out: AtomicU64,
    datagram_bytes_in: AtomicU64,
    garbage: AtomicU64,
    foreign: AtomicU64,
    forged: AtomicU64,
    replayed: AtomicU64,
    dropped: AtomicU64,
    messages_out: AtomicU64,
    messages_in: AtomicU64,
    message_bytes_out: AtomicU64,
    message_bytes_in: AtomicU64,
    streams: AtomicU64,
    refused_streams: AtomicU64,
}

impl Counters {
    pub(super) fn datagram_out(&self, bytes: usize) {
        add(&self.datagrams_out, 1);
        add(&self.datagram_bytes_out, bytes);
    }

    pub(super) fn datagram_in(&self, bytes: usize, opened: Result<(), Refused>) {
        add(&self.datagram_bytes_in, bytes);
        let counter = match opened {
            Ok(()) => &self.datagrams_in,
            Err(Refused::Garbage) => &self.garbage,
            Err(Refused::Epoch) => &self.foreign,
            Err(Refused::Forged) => &self.forged,
            Err(Refused::Replayed) => &self.replayed,
        };
        add(counter, 1);
    }

    pub(super) fn dropped(&self) {
        add(&self.dropped, 1);
    }

    pub(super) fn message_out(&self, bytes: usize) {
        add(&self.messages_out, 1);
        add(&self.message_bytes_out, bytes);
    }

    pub(super) fn message_in(&self, bytes: usize) {
        add(&self.messages_in, 1);
        add(&self.message_bytes_in, bytes);
    }

    pub(super) fn stream(&self) {
        add(&self.streams, 1);
    }

    pub(super) fn refused_stream(&self) {
        add(&self.refused_streams, 1);
    }

    pub(super) fn read(&self) -> Traffic {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            datagrams_out: get(&self.datagrams_out),
            datagrams_in: get(&self.datagrams_in),
            datagram_bytes_out: get(&self.datagram_bytes_out),
            datagram_bytes_in: get(&self.datagram_bytes_in),
            garbage: get(&self.garbage),
            foreign: get(&self.foreign),
            forged: get(&self.forged),
            replayed: get(&self.replayed),
            dropped: get(&self.dropped),
            messages_out: get(&self.messages_out),
            messages_in: get(&self.messages_in),
            message_bytes_out: get(&self.message_bytes_out),
            message_bytes_in: get(&self.message_bytes_in),
            streams: get(&self.streams),
            refused_streams: get(&self.refused_streams),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
