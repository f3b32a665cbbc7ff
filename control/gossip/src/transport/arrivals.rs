//! What the tasks of a transport find, and what follows from it.

use super::line::Established;
use super::{Channel, Event, Transport};
use crate::certificate::{Certificate, is_of_key};
use crate::issued::{Expulsions, Issued};
use crate::join::Admission;
use crate::text;
use crate::token::{Applicant, Refusal};
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::oneshot;

/// First word of what transports say to each other.
const VERSION: u32 = 1;
/// A foreign key from one address is worth a word this often.
const FOREIGN_AGAIN: Duration = Duration::from_secs(10);
/// So many addresses are remembered for that.
const MAX_FOREIGN: usize = 256;

/// Something that a task found; opaque.
#[derive(Debug)]
pub struct Arrival(pub(super) Found);

#[derive(Debug)]
pub(super) enum Found {
    Datagram { from: SocketAddr, bytes: Vec<u8> },
    ForeignKey { from: SocketAddr },
    Established(Box<Established>),
    DialFailed { peer: OwnerId, serial: u64, reason: String },
    Message { peer: OwnerId, serial: u64, channel: u8, bytes: Vec<u8> },
    Ended { peer: OwnerId, serial: u64, reason: String },
    Applied { applicant: Applicant, reply: oneshot::Sender<Result<Admission, Refusal>> },
}

/// What transports say to each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Control {
    /// First thing on a stream.
    Hello {
        version: u32,
        #[serde(flatten)]
        issued: Issued,
    },
    /// The authority issued something.
    Issued(Issued),
    /// Nothing; the stream is to stay.
    Ping,
    /// Asks for a certificate.
    Renew {
        #[serde(with = "text::bytes")]
        public_key: Vec<u8>,
    },
    /// The certificate, or why there is none.
    Renewed(Result<Certificate, String>),
}

impl Control {
    pub(super) const WORD: u8 = 0;

    pub(super) fn hello(issued: Issued) -> Self {
        Self::Hello { version: VERSION, issued }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Channel {
    pub(super) fn word(self) -> u8 {
        match self {
            Self::Exchange => 1,
            Self::Link => 2,
            Self::Question => 3,
            Self::Clock => 4,
        }
    }

    fn of(word: u8) -> Option<Self> {
        let all = [Self::Exchange, Self::Link, Self::Question, Self::Clock];
        all.into_iter().find(|channel| channel.word() == word)
    }
}

impl Transport {
    pub(super) fn take_in(&mut self, Arrival(found): Arrival, now: Now) {
        match found {
            Found::Datagram { from, bytes } => {
                self.events.push_back(Event::Datagram { from, bytes });
            }
            Found::ForeignKey { from } => self.note_foreign(from, now.mono),
            Found::Established(established) => self.take_line(*established, now),
            Found::DialFailed { peer, serial, reason } => {
                self.note_failure(peer, serial, reason, now.mono);
            }
            Found::Message { peer, serial, channel, bytes } => {
                self.take_message(peer, serial, (channel, bytes), now);
            }
            Found::Ended { peer, serial, reason } => self.note_end(peer, serial, reason, now.mono),
            Found::Applied { applicant, reply } => {
                self.events.push_back(Event::Applied { applicant, reply });
            }
        }
    }

    fn take_message(&mut self, peer: OwnerId, serial: u64, (word, bytes): (u8, Vec<u8>), now: Now) {
        let line = self.peers.get_mut(&peer).and_then(|peer| peer.line.as_mut());
        let Some(line) = line.filter(|line| line.serial == serial) else { return };
        line.used = now.mono;
        self.shared.counters.message_in(bytes.len());
        if word == Control::WORD {
            return self.take_control(peer, &bytes, now);
        }
        // A channel of a later version is nobody's here.
        if let Some(channel) = Channel::of(word) {
            self.events.push_back(Event::Message { peer, channel, bytes });
        }
    }

    fn take_control(&mut self, peer: OwnerId, bytes: &[u8], now: Now) {
        match serde_json::from_slice(bytes) {
            Ok(Control::Issued(issued) | Control::Hello { issued, .. }) => {
                self.learn_from_peer(&issued, now);
            }
            Ok(Control::Renew { public_key }) => self.take_wish(peer, public_key, now.mono),
            Ok(Control::Renewed(Ok(certificate))) => {
                self.events.push_back(Event::Certificate(certificate));
            }
            Ok(Control::Renewed(Err(reason))) => {
                tracing::warn!(%peer, reason, "no new certificate for this node");
            }
            // What a later version says beyond this is not for this one.
            Ok(Control::Ping) | Err(_) => {}
        }
    }

    /// A peer wants a certificate: of the key that it has one of, and of no other.
    fn take_wish(&mut self, peer: OwnerId, public_key: Vec<u8>, now: Mono) {
        let line = self.peers.get(&peer).and_then(|peer| peer.line.as_ref());
        if line.is_some_and(|line| is_of_key(&line.certificate, &public_key)) {
            return self.events.push_back(Event::RenewalAsked { peer, public_key });
        }
        tracing::warn!(%peer, "a node wants a certificate of another key than its own");
        let refusal = "that is not the key of the node's certificate".to_owned();
        self.send_certificate(&peer, Err(refusal), now);
    }

    /// What a peer knows of the authority's.
    pub(super) fn learn_from_peer(&mut self, issued: &Issued, now: Now) {
        if let Err(error) = self.learn(issued, now) {
            tracing::warn!(error = chain(&error), "something that the authority did not issue");
        }
    }

    /// Passes on what the authority issued.
    pub(super) fn tell_issued(&mut self, now: Mono) {
        let message = Control::Issued(self.issued()).write();
        let open: Vec<OwnerId> = self.open_peers().cloned().collect();
        for peer in open {
            // Whose stream breaks hears of it with the next one.
            let _ = self.enqueue(&peer, Control::WORD, &message, now);
        }
    }

    /// Closes the stream to a node that was expelled, after it was told so.
    pub(super) fn expel(&mut self, node: &OwnerId, expulsions: &Expulsions, now: Mono) {
        if self.is_open(node) {
            let told = Issued { epochs: Vec::new(), expulsions: expulsions.clone() };
            let _ = self.enqueue(node, Control::WORD, &Control::Issued(told).write(), now);
        }
        self.forget(node);
        self.events.push_back(Event::Expelled(node.clone()));
    }

    pub(super) fn send_renewal(&mut self, authority: &OwnerId, public_key: &[u8], now: Mono) {
        let message = Control::Renew { public_key: public_key.to_vec() }.write();
        // It is asked for again as long as none has come.
        let _ = self.enqueue(authority, Control::WORD, &message, now);
    }

    pub(super) fn send_certificate(
        &mut self,
        peer: &OwnerId,
        answer: Result<Certificate, String>,
        now: Mono,
    ) {
        let _ = self.enqueue(peer, Control::WORD, &Control::Renewed(answer).write(), now);
    }

    fn note_foreign(&mut self, from: SocketAddr, now: Mono) {
        self.foreign.retain(|_, at| now.since(*at) < FOREIGN_AGAIN);
        if self.foreign.len() < MAX_FOREIGN && !self.foreign.contains_key(&from) {
            self.foreign.insert(from, now);
            self.events.push_back(Event::ForeignKey { from });
        }
    }
}
