//! What a transport tells its loop.

#[cfg(doc)]
use super::Transport;
use crate::certificate::Certificate;
use crate::join::Admission;
use crate::token::{Applicant, Refusal};
use mizzen_types::ids::OwnerId;
use std::net::SocketAddr;
use tokio::sync::oneshot;

/// Whose messages they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// Owner logs and members: `Membership`'s.
    Exchange,
    /// Between agents and masters.
    Link,
    /// Questions of people that another node can answer, and their answers.
    Question,
    /// What time it is.
    Clock,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A datagram of a node of the cluster. Which one it is from, its contents say.
    Datagram {
        /// Where it came from.
        from: SocketAddr,
        /// What was sealed in it.
        bytes: Vec<u8>,
    },
    /// There is a stream to a peer now.
    Opened(OwnerId),
    /// A peer said something over its stream.
    Message {
        /// Who, by its certificate.
        peer: OwnerId,
        /// To whom here.
        channel: Channel,
        /// What.
        bytes: Vec<u8>,
    },
    /// The stream to a peer is gone, and maybe what was sent last.
    Closed {
        /// To whom.
        peer: OwnerId,
        /// Why, for people.
        reason: String,
    },
    /// No stream to a peer could be opened. What waited for it is lost.
    Unreachable {
        /// Whom.
        peer: OwnerId,
        /// Why, for people.
        reason: String,
    },
    /// Somebody seals with a key that is not known here: a peer may have a newer one, or
    /// lack this one. Opening a stream to it settles that.
    ForeignKey {
        /// Who it seems to be.
        from: SocketAddr,
    },
    /// The authority issued something, or something of it ended: [`Transport::issued`] is to
    /// be kept.
    Issued,
    /// A node was expelled, maybe this one. There is no stream to it any more.
    Expelled(OwnerId),
    /// A node wants to join. Comes to the authority's node only.
    Applied {
        /// Who.
        applicant: Applicant,
        /// Takes the answer.
        reply: oneshot::Sender<Result<Admission, Refusal>>,
    },
    /// A peer asks for another certificate of its key: [`Transport::answer_renewal`].
    RenewalAsked {
        /// Who.
        peer: OwnerId,
        /// Its key, which is that of the certificate on its stream.
        public_key: Vec<u8>,
    },
    /// This node's next certificate, not checked yet: [`Transport::renew`].
    Certificate(Certificate),
}
