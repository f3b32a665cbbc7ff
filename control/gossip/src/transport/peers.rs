//! With whom there is a stream, and with whom there should be one.

use super::arrivals::Control;
use super::line::{self, Established, Writer};
use super::{Event, Transport, Unsent};
use crate::frame;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a peer does not take may wait up to so many bytes.
const MAX_QUEUED: usize = 16 << 20;
/// The same while its stream is being opened.
const MAX_WAITING: usize = 4 << 20;
/// A stream on which nobody said anything for so long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// One that is to stay hears something this often.
const PING: Duration = Duration::from_secs(60);
/// One that is older is closed: whoever still has a certificate opens the next one.
const OLDEST: Duration = Duration::from_secs(86_400);
/// Two nodes that connect to each other at once notice within this.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Between two attempts to reach a peer, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// One peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) address: Option<SocketAddr>,
    pub(super) line: Option<Line>,
    /// A stream is wanted, whoever ends it.
    pub(super) held: bool,
    /// Not to be tried before.
    pub(super) retry_at: Option<Mono>,
    dialing: Option<u64>,
    pub(super) failures: u32,
    waiting: Vec<Vec<u8>>,
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) serial: u64,
    /// When something was said on it last.
    pub(super) used: Mono,
    /// By which the peer proved who it is.
    pub(super) certificate: CertificateDer<'static>,
    writer: Writer,
    opened: Mono,
    dialed: bool,
}

impl Peer {
    /// Whether a stream is to be opened again.
    pub(super) fn is_wanting(&self) -> bool {
        self.held && self.line.is_none() && self.dialing.is_none()
    }

    fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }

    fn fail(&mut self, now: Mono) {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + pause.min(LONGEST_PAUSE));
    }
}

impl Transport {
    pub(super) fn enqueue(
        &mut self,
        id: &OwnerId,
        word: u8,
        bytes: &[u8],
        now: Mono,
    ) -> Result<(), Unsent> {
        self.shared.counters.message_out(bytes.len());
        let peer = self.peers.entry(id.clone()).or_default();
        let message = frame::frame(word, bytes);
        if let Some(line) = peer.line.as_mut() {
            line.used = now;
            if line.writer.write(message) <= MAX_QUEUED {
                return Ok(());
            }
            self.hang_up(id, "it does not take what it is sent");
            return Err(Unsent::Slow);
        }
        if peer.dialing.is_none() && peer.retry_at.is_some_and(|at| at > now) {
            return Err(Unsent::Unreachable);
        }
        if peer.address.is_none() {
            return Err(Unsent::NoAddress);
        }
        if peer.waiting_bytes() + message.len() > MAX_WAITING {
            return Err(Unsent::Slow);
        }
        peer.waiting.push(message);
        self.dial(id, now);
        Ok(())
    }

    /// Connects to a peer unless that is done already, or was in vain a moment ago.
    pub(super) fn dial(&mut self, id: &OwnerId, now: Mono) {
        let peer = self.peers.entry(id.clone()).or_default();
        let early = peer.retry_at.is_some_and(|at| at > now);
        if *id == self.shared.me || peer.line.is_some() || peer.dialing.is_some() || early {
            return;
        }
        let Some(address) = peer.address else {
            // Held all the same: it is tried when somebody knows where it is.
            peer.retry_at = Some(now + LONGEST_PAUSE);
            return;
        };
        self.serial += 1;
        peer.dialing = Some(self.serial);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(line::dial(id.clone(), address, self.serial, shared));
    }

    /// Opens again what is held.
    pub(super) fn redial(&mut self, now: Mono) {
        let due = |peer: &Peer| peer.is_wanting() && peer.retry_at.is_none_or(|at| at <= now);
        let due: Vec<OwnerId> =
            self.peers.iter().filter(|(_, p)| due(p)).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.dial(&id, now);
        }
    }

    /// A connection stands. Of two to one peer, one stays.
    pub(super) fn take_line(&mut self, established: Established, now: Now) {
        let Established { peer: id, certificate, dial, stream, issued } = established;
        self.learn_from_peer(&issued, now);
        if self.shared.expulsions.read().has(&id) {
            return;
        }
        let own_first = self.shared.me < id;
        let peer = self.peers.entry(id.clone()).or_default();
        if dial.is_some() && dial == peer.dialing {
            peer.dialing = None;
        }
        let dialed = dial.is_some();
        if let Some(line) = &peer.line {
            // Both connected at once: both keep what the smaller name opened. Otherwise the
            // peer knows nothing of the older one any more.
            let at_once = now.mono.since(line.opened) < AT_ONCE && line.dialed != dialed;
            if at_once && dialed != own_first {
                return;
            }
            self.hang_up(&id, "the peer opened another stream");
        }
        self.shared.counters.stream();
        self.serial += 1;
        let serial = self.serial;
        let writer = line::carry(stream, (id.clone(), serial), Arc::clone(&self.shared));
        let peer = self.peers.entry(id.clone()).or_default();
        for message in std::mem::take(&mut peer.waiting) {
            writer.write(message);
        }
        (peer.failures, peer.retry_at) = (0, None);
        let (used, opened) = (now.mono, now.mono);
        peer.line = Some(Line { serial, used, certificate, writer, opened, dialed });
        self.events.push_back(Event::Opened(id));
    }

    pub(super) fn note_failure(&mut self, id: OwnerId, serial: u64, reason: String, now: Mono) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.dialing != Some(serial) {
            return;
        }
        peer.dialing = None;
        if peer.line.is_none() {
            peer.fail(now);
            peer.waiting.clear();
            self.events.push_back(Event::Unreachable { peer: id, reason });
        }
    }

    pub(super) fn note_end(&mut self, id: OwnerId, serial: u64, reason: String, now: Mono) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.line.as_ref().is_none_or(|line| line.serial != serial) {
            return;
        }
        // A stream that ends as soon as it stands is no success.
        peer.fail(now);
        peer.line = None;
        self.events.push_back(Event::Closed { peer: id, reason });
    }

    /// Closes a stream from this side.
    pub(super) fn hang_up(&mut self, id: &OwnerId, reason: &str) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if peer.line.take().is_some() {
            let (peer, reason) = (id.clone(), reason.to_owned());
            self.events.push_back(Event::Closed { peer, reason });
        }
    }

    /// Closes what nobody uses, and uses what is to stay.
    pub(super) fn attend(&mut self, now: Mono) {
        let quiet =
            |peer: &Peer, span| peer.line.as_ref().is_some_and(|line| now.since(line.used) >= span);
        let names = |wanted: &dyn Fn(&Peer) -> bool| -> Vec<OwnerId> {
            self.peers.iter().filter(|(_, p)| wanted(p)).map(|(id, _)| id.clone()).collect()
        };
        let idle = names(&|peer| !peer.held && quiet(peer, IDLE));
        let kept = names(&|peer| peer.held && quiet(peer, PING));
        let old =
            names(&|peer| peer.line.as_ref().is_some_and(|line| now.since(line.opened) >= OLDEST));
        for id in old {
            self.hang_up(&id, "certificates are looked at again");
        }
        for id in idle {
            self.hang_up(&id, "nobody said anything for a while");
        }
        for id in kept {
            let _ = self.enqueue(&id, Control::WORD, &Control::Ping.write(), now);
        }
    }
}
