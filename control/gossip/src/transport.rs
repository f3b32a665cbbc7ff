//! A node's sockets: datagrams, a stream to each peer, and nodes that want to join.
//!
//! [`Transport`] is driven by a loop that it does not own: what its tasks find arrives as
//! [`Arrival`]s, to be handed to [`Transport::handle`]; what that means comes out of
//! [`Transport::poll_event`]. Nothing in it waits, so it can be called from anywhere in the
//! loop.
//!
//! There is one stream between two nodes, opened by whoever has something to say first, and
//! closed when nobody said anything for minutes, unless somebody [holds](Transport::hold) it.
//! Messages of all channels keep their order on it. What a broken stream swallowed is lost,
//! and whoever relies on it hears of the [end](Event::Closed) of every stream.

mod arrivals;
mod counters;
mod event;
mod issuing;
mod line;
mod listener;
mod peers;
#[cfg(test)]
mod tests;

use crate::certificate::{TrustError, is_authority};
use crate::identity::Credentials;
use crate::issued::{Expulsions, Issued};
use crate::seal::Seal;
use crate::tls::Tls;
pub use arrivals::Arrival;
use counters::Counters;
pub use counters::Traffic;
pub use event::{Channel, Event};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now};
use parking_lot::{Mutex, RwLock};
use peers::Peer;
use rustls::pki_types::CertificateDer;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Messages are at most this long, in bytes.
pub const MAX_MESSAGE: usize = crate::frame::MAX_MESSAGE;
/// Arrivals that may wait for the loop; beyond, datagrams are dropped and streams wait.
const ARRIVALS: usize = 1024;
/// Streams are looked through this often.
const ATTEND: Duration = Duration::from_secs(15);

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// Nobody said where the peer is: [`Transport::place`].
    #[error("it is not known where the node is")]
    NoAddress,
    /// It could not be reached a moment ago.
    #[error("the node could not be reached a moment ago")]
    Unreachable,
    /// It does not take what it is sent; its stream is closed.
    #[error("the node does not take what it is sent")]
    Slow,
    /// No message is that long.
    #[error("the message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
}

/// What stood in the way of listening.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address cannot be used.
    #[error("cannot listen on {address} for {protocol} from other nodes")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The node's credentials are of no use.
    #[error("cannot use this node's credentials")]
    Credentials(#[from] TrustError),
}

/// What the tasks of a transport share.
#[derive(Debug)]
struct Shared {
    me: OwnerId,
    tls: RwLock<Tls>,
    seal: Mutex<Seal>,
    /// Nodes with which nobody speaks.
    expulsions: RwLock<Expulsions>,
    /// Where nodes are told to join that come here; `None` if this is where.
    authorities: RwLock<Option<Vec<SocketAddr>>>,
    arrivals: mpsc::Sender<Arrival>,
    counters: Counters,
}

impl Shared {
    fn issued(&self) -> Issued {
        let epochs = self.seal.lock().epochs();
        Issued { epochs, expulsions: self.expulsions.read().clone() }
    }
}

/// A node's sockets.
#[derive(Debug)]
pub struct Transport {
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    listen: SocketAddr,
    peers: BTreeMap<OwnerId, Peer>,
    events: VecDeque<Event>,
    /// Numbers connections.
    serial: u64,
    attend_at: Mono,
    /// Whom a foreign key was heard from lately.
    foreign: BTreeMap<SocketAddr, Mono>,
    /// Those that listen; they end with this.
    _tasks: JoinSet<()>,
}

impl Transport {
    /// Listens on `listen`, for datagrams and for streams. Arrivals come out of the other
    /// end.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    pub async fn bind(
        listen: SocketAddr,
        credentials: &Credentials,
        issued: &Issued,
        now: Now,
    ) -> Result<(Self, mpsc::Receiver<Arrival>), TransportError> {
        let refused =
            |protocol| move |source| TransportError::Bind { address: listen, protocol, source };
        let listener = TcpListener::bind(listen).await.map_err(refused("TCP"))?;
        // Where any port will do, both get the same.
        let listen = listener.local_addr().map_err(refused("TCP"))?;
        let socket = UdpSocket::bind(listen).await.map_err(refused("UDP"))?;
        // Until the runtime has looked at it once, it seems to take nothing.
        socket.writable().await.map_err(refused("UDP"))?;
        let socket = Arc::new(socket);
        let mut seal = Seal::new(credentials.root.clone())?;
        for epoch in &issued.epochs {
            seal.learn(epoch, now)?;
        }
        seal.retire_before(issued.expulsions.first_epoch);
        let (arrivals, receiver) = mpsc::channel(ARRIVALS);
        let shared = Arc::new(Shared {
            me: credentials.node.clone(),
            tls: RwLock::new(Tls::new(credentials)?),
            seal: Mutex::new(seal),
            expulsions: RwLock::new(issued.expulsions.clone()),
            authorities: RwLock::new(elsewhere(credentials)),
            arrivals,
            counters: Counters::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listener::accept(listener, Arc::clone(&shared)));
        tasks.spawn(listener::receive(Arc::clone(&socket), Arc::clone(&shared)));
        let transport = Self {
            shared,
            socket,
            listen,
            peers: BTreeMap::new(),
            events: VecDeque::new(),
            serial: 0,
            attend_at: now.mono + ATTEND,
            foreign: BTreeMap::new(),
            _tasks: tasks,
        };
        Ok((transport, receiver))
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.listen
    }

    /// Sends a datagram, or drops it where the network takes none at the moment.
    pub fn send_datagram(&mut self, to: SocketAddr, bytes: &[u8], now: Now) {
        let sealed = self.shared.seal.lock().seal(bytes, now);
        let Some(sealed) = sealed else { return };
        if self.socket.try_send_to(&sealed, to).is_ok() {
            self.shared.counters.datagram_out(sealed.len());
        }
    }

    /// Says where a peer listens. Streams that are there already are not touched.
    pub fn place(&mut self, peer: &OwnerId, address: SocketAddr) {
        let peer = self.peers.entry(peer.clone()).or_default();
        if peer.address != Some(address) {
            peer.address = Some(address);
            peer.retry_at = None;
        }
    }

    /// A peer is known to be there again: a stream that is wanted is opened at once, however
    /// often that was in vain.
    pub fn welcome(&mut self, peer: &OwnerId, now: Mono) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        (known.failures, known.retry_at) = (0, None);
        if known.is_wanting() {
            self.dial(peer, now);
        }
    }

    /// Sends a message; opens a stream if there is none. A message is lost with its
    /// stream; if there is none to be had, [`Event::Unreachable`] says so.
    ///
    /// # Errors
    ///
    /// [`Unsent`], at once.
    pub fn send(
        &mut self,
        peer: &OwnerId,
        channel: Channel,
        bytes: &[u8],
        now: Mono,
    ) -> Result<(), Unsent> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Unsent::TooLong);
        }
        self.enqueue(peer, channel.word(), bytes, now)
    }

    /// Opens a stream to a peer if there is none.
    pub fn open(&mut self, peer: &OwnerId, now: Mono) {
        self.dial(peer, now);
    }

    /// Wants a stream to a peer that stays: it is opened, kept when nobody says anything,
    /// and opened again whenever it ends, until the peer is [released](Self::release).
    pub fn hold(&mut self, peer: &OwnerId, now: Mono) {
        self.peers.entry(peer.clone()).or_default().held = true;
        self.dial(peer, now);
    }

    /// The opposite of [`hold`](Self::hold); the stream stays as long as it is used.
    pub fn release(&mut self, peer: &OwnerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.held = false;
        }
    }

    /// Closes the stream to a peer. If it is [held](Self::hold), it is opened again.
    pub fn close(&mut self, peer: &OwnerId, reason: &str) {
        self.hang_up(peer, reason);
    }

    /// Closes the stream to a peer, and forgets where that is.
    pub fn forget(&mut self, peer: &OwnerId) {
        self.hang_up(peer, "the node is forgotten");
        self.peers.remove(peer);
    }

    /// Whether there is a stream to a peer.
    #[must_use]
    pub fn is_open(&self, peer: &OwnerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.line.is_some())
    }

    /// Everybody to whom there is a stream, in order.
    pub fn open_peers(&self) -> impl Iterator<Item = &OwnerId> {
        self.peers.iter().filter(|(_, peer)| peer.line.is_some()).map(|(id, _)| id)
    }

    /// Takes in what a task found.
    pub fn handle(&mut self, arrival: Arrival, now: Now) {
        self.take_in(arrival, now);
    }

    /// The time of [`poll_deadline`](Self::poll_deadline) has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.redial(now.mono);
        if self.attend_at <= now.mono {
            self.attend_at = now.mono + ATTEND;
            self.attend(now.mono);
            if self.shared.seal.lock().retire(now) {
                self.events.push_back(Event::Issued);
            }
        }
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        let held = self.peers.values().filter(|peer| peer.is_wanting());
        held.filter_map(|peer| peer.retry_at).chain([self.attend_at]).min()
    }

    /// What went through so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.shared.counters.read()
    }
}

/// Nobody is sent elsewhere by the authority's own node.
fn elsewhere(credentials: &Credentials) -> Option<Vec<SocketAddr>> {
    let der = CertificateDer::from(credentials.certificate.der.as_slice());
    (!is_authority(&der)).then(Vec::new)
}
