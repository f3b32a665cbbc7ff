//! What comes in from outside: connections and datagrams.

use super::arrivals::{Arrival, Found};
use super::{Shared, line};
use crate::join::{self, Admission, Welcome};
use crate::seal::Refused;
use crate::tls::{JOINS, PEERS};
use crate::token::{Applicant, Refusal};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

/// So many connections may be without a proof at a time; further ones are dropped.
const UNPROVEN: usize = 64;
/// So many of them from one address, which must not keep all others out.
const UNPROVEN_OF_ONE: usize = 16;
/// The system is out of something: it is given this long.
const PAUSE: Duration = Duration::from_millis(100);
/// Longer datagrams are cut, and refused for it.
const LONGEST: usize = 2048;

/// Accepts connections.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let unproven = Unproven::default();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection from another node");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(permit) = unproven.let_in(from.ip()) else {
            shared.counters.refused_stream();
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let served = tokio::time::timeout(line::LIMIT, serve(stream, &shared)).await;
            drop(permit);
            let served = served.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
            match served {
                Ok(Some(found)) => drop(shared.arrivals.send(Arrival(found)).await),
                Ok(None) => {}
                Err(error) => {
                    shared.counters.refused_stream();
                    tracing::debug!(%from, %error, "a connection is refused");
                }
            }
        });
    }
}

/// Connections without a proof, by where they come from.
#[derive(Debug, Default, Clone)]
struct Unproven(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One of them, until it is dropped.
struct Permit {
    unproven: Unproven,
    from: IpAddr,
}

impl Unproven {
    fn let_in(&self, from: IpAddr) -> Option<Permit> {
        let from = from.to_canonical();
        let mut all = self.0.lock();
        let here = all.get(&from).copied().unwrap_or_default();
        if here >= UNPROVEN_OF_ONE || all.values().sum::<usize>() >= UNPROVEN {
            return None;
        }
        all.insert(from, here + 1);
        Some(Permit { unproven: self.clone(), from })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut all = self.unproven.0.lock();
        match all.get_mut(&self.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(&self.from)),
        }
    }
}

/// Receives datagrams. What cannot be opened does not reach the loop.
pub(super) async fn receive(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // Refusals of datagrams sent before come back here; they mean nothing.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            Err(error) => {
                tracing::debug!(%error, "cannot receive datagrams of other nodes");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(bytes) = buffer.get_mut(..length) else { continue };
        let opened = shared.seal.lock().open(bytes);
        shared.counters.datagram_in(length, opened.as_ref().map(|_| ()).map_err(|e| *e));
        let found = match opened {
            Ok(bytes) => Found::Datagram { from, bytes },
            Err(Refused::Epoch) => Found::ForeignKey { from },
            Err(_) => continue,
        };
        if shared.arrivals.try_send(Arrival(found)).is_err() {
            shared.counters.dropped();
        }
    }
}

/// Finds out what a connection is for.
async fn serve(stream: TcpStream, shared: &Shared) -> Result<Option<Found>, Error> {
    line::set_up(&stream)?;
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let start = acceptor.await?;
    let speaks = |protocol: &[u8]| {
        let mut offered = start.client_hello().alpn().into_iter().flatten();
        offered.any(|other| other == protocol)
    };
    let (peer, joins) = (speaks(PEERS), speaks(JOINS));
    let tls = shared.tls.read().clone();
    if peer {
        let stream = TlsStream::from(start.into_stream(tls.server).await?);
        let established = line::accept(stream, shared).await?;
        return Ok(Some(Found::Established(Box::new(established))));
    }
    if !joins {
        return Err(Error::new(ErrorKind::InvalidData, "it speaks no protocol of ours"));
    }
    let mut stream = TlsStream::from(start.into_stream(tls.desk).await?);
    let elsewhere: Option<Vec<SocketAddr>> = shared.authorities.read().clone();
    let here = elsewhere.is_none();
    let welcome = Welcome { authorities: elsewhere.unwrap_or_default() };
    join::say(&mut stream, &welcome).await?;
    if here {
        let applicant: Applicant = join::hear(&mut stream).await?;
        join::say(&mut stream, &decide(applicant, shared).await).await?;
    }
    Ok(None)
}

/// Lets the loop decide whether somebody comes in.
async fn decide(applicant: Applicant, shared: &Shared) -> Result<Admission, Refusal> {
    let busy = || Refusal::Unable("it is stopping".to_owned());
    let (reply, answer) = oneshot::channel();
    let found = Found::Applied { applicant, reply };
    shared.arrivals.send(Arrival(found)).await.map_err(|_| busy())?;
    answer.await.map_err(|_| busy())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_keep_others_out() {
        let unproven = Unproven::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let let_in = |from| unproven.let_in(from);
        let mut held: Vec<Permit> = std::iter::from_fn(|| let_in(one)).collect();
        assert_eq!(held.len(), UNPROVEN_OF_ONE);
        assert!(let_in(other).is_some());
        held.pop();
        assert!(let_in(one).is_some(), "there is room again");
        let many = (0..=u8::MAX).map_while(|last| let_in([10, 0, 1, last].into()));
        assert_eq!(many.collect::<Vec<_>>().len() + held.len(), UNPROVEN);
    }
}
