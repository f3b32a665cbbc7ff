//! What the authority issues, and this node's own certificate.

use super::{Event, Transport, elsewhere};
use crate::certificate::{Certificate, TrustError};
use crate::identity::Credentials;
use crate::issued::{Expulsions, Issued};
use crate::tls::Tls;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use std::net::SocketAddr;

impl Transport {
    /// What the authority issued.
    #[must_use]
    pub fn issued(&self) -> Issued {
        self.shared.issued()
    }

    /// Takes in what the authority issued, passes on what is new of it, and ends what there
    /// is with nodes that it expels.
    ///
    /// # Errors
    ///
    /// [`TrustError::Signature`] if the authority did not make it.
    pub fn learn(&mut self, issued: &Issued, now: Now) -> Result<(), TrustError> {
        let mut learned = false;
        for epoch in &issued.epochs {
            learned |= self.shared.seal.lock().learn(epoch, now)?;
        }
        let expelled = self.learn_expulsions(&issued.expulsions, now)?;
        if learned || expelled {
            self.tell_issued(now.mono);
            self.events.push_back(Event::Issued);
        }
        Ok(())
    }

    fn learn_expulsions(&mut self, list: &Expulsions, now: Now) -> Result<bool, TrustError> {
        let known = self.shared.expulsions.read().clone();
        let is_news = list.is_news(&known, self.shared.seal.lock().root())?;
        let is_expelled = list.has(&self.shared.me);
        // Without the key that replaces the others, this node would be mute; but one that is
        // expelled gets none.
        if !is_news || !(is_expelled || self.shared.seal.lock().retire_before(list.first_epoch)) {
            return Ok(false);
        }
        *self.shared.expulsions.write() = list.clone();
        for node in list.nodes.keys().filter(|node| !known.has(node)) {
            self.expel(node, list, now.mono);
        }
        Ok(true)
    }

    /// Says where the authority's node listens, for those who want to join by this one.
    pub fn set_authorities(&mut self, addresses: Vec<SocketAddr>) {
        if let Some(known) = self.shared.authorities.write().as_mut() {
            *known = addresses;
        }
    }

    /// Asks the authority's node for this node's next certificate.
    pub fn ask_renewal(&mut self, authority: &OwnerId, public_key: &[u8], now: Mono) {
        self.send_renewal(authority, public_key, now);
    }

    /// Answers [`Event::RenewalAsked`]; an error is told as text.
    pub fn answer_renewal(
        &mut self,
        peer: &OwnerId,
        answer: Result<Certificate, String>,
        now: Mono,
    ) {
        self.send_certificate(peer, answer, now);
    }

    /// Goes on with another certificate; streams stay.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if it is of no use; then all stays as it is.
    pub fn renew(&mut self, credentials: &Credentials) -> Result<(), TrustError> {
        *self.shared.tls.write() = Tls::new(credentials)?;
        *self.shared.authorities.write() = elsewhere(credentials);
        Ok(())
    }
}
