//! Listening sockets: bound early, so that a taken port is known before anything starts.
//!
//! The first socket of an address is bound without `SO_REUSEPORT`, whose whole point is
//! that nobody is told of a second server; only then it is opened to our own threads.
//!
//! Sockets outlive the process that bound them if somebody else has their descriptors
//! ([`crate::handover`]): what clients send meanwhile waits in them. A successor serves
//! every one of them, whatever its number of threads: the kernel goes on spreading
//! clients over all sockets that anybody holds.

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;

/// Receive buffer of a UDP socket, in bytes: a burst of some thousand questions.
const UDP_BUFFER: usize = 1 << 20;
/// Connections that wait to be accepted.
const TCP_BACKLOG: i32 = 128;
/// How often a port is drawn that is free for UDP and for TCP.
const DRAWS: usize = 16;

/// UDP and TCP sockets of all addresses, one of each per thread.
#[derive(Debug)]
pub struct Sockets {
    addresses: Vec<SocketAddr>,
    threads: Vec<ThreadSockets>,
}

/// What one thread serves.
#[derive(Debug, Default)]
pub(crate) struct ThreadSockets {
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: Vec<TcpListener>,
}

/// How a socket talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket has it.
    #[error("cannot listen on {address} ({transport}): address in use by another program")]
    InUse {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        transport: Transport,
    },
    /// It is not one of this machine.
    #[error("cannot listen on {address} ({transport}): no interface has this address")]
    NotHere {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        transport: Transport,
    },
    /// Ports below 1024 are protected.
    #[error("cannot listen on {address} ({transport}): needs root or CAP_NET_BIND_SERVICE")]
    Denied {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        transport: Transport,
    },
    /// Anything else that the kernel says.
    #[error("cannot listen on {address} ({transport})")]
    Other {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        transport: Transport,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl Sockets {
    /// Binds every address for UDP and TCP, in the network namespace of the caller.
    ///
    /// * `threads` — how many threads will share them.
    ///
    /// # Errors
    ///
    /// [`BindError`] for the first address that cannot be had; the others are let go.
    pub fn bind(listen: &[SocketAddr], threads: NonZeroUsize) -> Result<Self, BindError> {
        Self::take_over(Vec::new(), listen, threads)
    }

    /// Goes on with the sockets of a predecessor, and binds what they leave out.
    ///
    /// * `held` — its descriptors; those that listen elsewhere are closed.
    /// * `threads` — how many threads will share them.
    ///
    /// # Errors
    ///
    /// [`BindError`] for the first address that cannot be had; the others are let go.
    pub fn take_over(
        held: Vec<OwnedFd>,
        listen: &[SocketAddr],
        threads: NonZeroUsize,
    ) -> Result<Self, BindError> {
        let mut sockets = Self {
            addresses: Vec::with_capacity(listen.len()),
            threads: (0..threads.get()).map(|_| ThreadSockets::default()).collect(),
        };
        let mut held = by_address(held);
        // What is not wanted any more may be in the way of what is bound now.
        held.retain(|(address, _), _| listen.contains(address));
        for address in listen {
            let mut of = |transport| held.remove(&(*address, transport)).unwrap_or_default();
            let (udp, tcp) = (of(Transport::Udp), of(Transport::Tcp));
            sockets.add(*address, udp, tcp)?;
        }
        Ok(sockets)
    }

    /// Whether a predecessor listened elsewhere, so that whoever keeps its sockets may be in
    /// the way of what is to be bound.
    ///
    /// * `held` — its descriptors.
    #[must_use]
    pub fn any_elsewhere(held: &[OwnedFd], listen: &[SocketAddr]) -> bool {
        let address = |held: &OwnedFd| -> Option<SocketAddr> {
            SockRef::from(held).local_addr().ok()?.as_socket()
        };
        held.iter().filter_map(address).any(|address| !listen.contains(&address))
    }

    /// Second descriptors of all sockets, for whoever keeps them while the daemon is
    /// away.
    ///
    /// # Errors
    ///
    /// That of the kernel, if there are no more descriptors.
    pub fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        let mut descriptors = Vec::new();
        for thread in &self.threads {
            for socket in &thread.udp {
                descriptors.push(socket.try_clone()?.into());
            }
            for listener in &thread.tcp {
                descriptors.push(listener.try_clone()?.into());
            }
        }
        Ok(descriptors)
    }

    /// The addresses with the ports that were drawn for those given as 0.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn into_threads(self) -> Vec<ThreadSockets> {
        self.threads
    }

    /// Gives each thread its sockets of one address.
    fn add(
        &mut self,
        wanted: SocketAddr,
        mut udp: Vec<Socket>,
        mut tcp: Vec<Socket>,
    ) -> Result<(), BindError> {
        let mut address = wanted;
        if udp.is_empty() && tcp.is_empty() {
            let (drawn, first_udp, first_tcp) = first_pair(wanted)?;
            address = drawn;
            udp.push(first_udp);
            tcp.push(first_tcp);
        }
        self.share_out(address, Transport::Udp, udp)?;
        self.share_out(address, Transport::Tcp, tcp)?;
        self.addresses.push(address);
        Ok(())
    }

    /// Gives every thread at least one of the sockets and binds those that are missing.
    fn share_out(
        &mut self,
        address: SocketAddr,
        transport: Transport,
        mut sockets: Vec<Socket>,
    ) -> Result<(), BindError> {
        let failed = |error| failure(address, transport, error);
        if sockets.is_empty() {
            sockets.push(bind(address, transport, Sharing::Nobody)?);
        }
        if sockets.len() < self.threads.len() {
            for socket in &sockets {
                socket.set_reuse_port(true).map_err(failed)?;
            }
        }
        while sockets.len() < self.threads.len() {
            sockets.push(bind(address, transport, Sharing::Own)?);
        }
        let threads = self.threads.len();
        for (number, socket) in sockets.into_iter().enumerate() {
            let Some(thread) = self.threads.get_mut(number % threads) else { continue };
            match transport {
                Transport::Udp => thread.udp.push(socket.into()),
                Transport::Tcp => {
                    socket.listen(TCP_BACKLOG).map_err(failed)?;
                    thread.tcp.push(socket.into());
                }
            }
        }
        Ok(())
    }
}

/// With whom a port may be shared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Nobody.
    Nobody,
    /// Other sockets of ours.
    Own,
}

/// One socket of each kind on one port, which is drawn if `wanted` has none.
fn first_pair(wanted: SocketAddr) -> Result<(SocketAddr, Socket, Socket), BindError> {
    let mut draws = if wanted.port() == 0 { DRAWS } else { 1 };
    loop {
        draws -= 1;
        let udp = bind(wanted, Transport::Udp, Sharing::Nobody)?;
        let bound = udp.local_addr().map_err(|e| failure(wanted, Transport::Udp, e))?;
        let address = bound.as_socket().unwrap_or(wanted);
        match bind(address, Transport::Tcp, Sharing::Nobody) {
            Ok(tcp) => return Ok((address, udp, tcp)),
            Err(BindError::InUse { .. }) if draws > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn bind(address: SocketAddr, transport: Transport, sharing: Sharing) -> Result<Socket, BindError> {
    let (kind, protocol) = match transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
    };
    let make = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        match transport {
            Transport::Udp => enlarge_buffer(&socket),
            // Connections of a former process may linger; a listener is refused all the same.
            Transport::Tcp => socket.set_reuse_address(true)?,
        }
        if sharing == Sharing::Own {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&SockAddr::from(address))?;
        Ok(socket)
    };
    make().map_err(|error| failure(address, transport, error))
}

/// Makes room for a burst, beyond what the machine allows everybody if we may. The
/// kernel may give less; that is no reason to fail.
fn enlarge_buffer(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &UDP_BUFFER).is_err() {
        drop(socket.set_recv_buffer_size(UDP_BUFFER));
    }
}

/// What a predecessor left, by where it listens; what is no socket of ours is closed.
fn by_address(held: Vec<OwnedFd>) -> BTreeMap<(SocketAddr, Transport), Vec<Socket>> {
    let mut sockets: BTreeMap<_, Vec<Socket>> = BTreeMap::new();
    for socket in held.into_iter().map(Socket::from) {
        let transport = match socket.r#type() {
            Ok(Type::DGRAM) => Transport::Udp,
            Ok(Type::STREAM) => Transport::Tcp,
            _ => continue,
        };
        let address = socket.local_addr().ok().and_then(|address| address.as_socket());
        if let Some(address) = address
            && socket.set_nonblocking(true).is_ok()
        {
            sockets.entry((address, transport)).or_default().push(socket);
        }
    }
    sockets
}

fn failure(address: SocketAddr, transport: Transport, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address, transport },
        io::ErrorKind::AddrNotAvailable => BindError::NotHere { address, transport },
        io::ErrorKind::PermissionDenied => BindError::Denied { address, transport },
        _ => BindError::Other { address, transport, source },
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

impl Transport {
    /// As metrics label it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroUsize = NonZeroUsize::MIN;
    const TWO: NonZeroUsize = ONE.saturating_add(1);

    fn local(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn a_taken_port_is_named_with_its_reason() {
        let held = TcpListener::bind(local(0)).expect("a port");
        let address = held.local_addr().expect("its address");
        let error = Sockets::bind(&[address], ONE).expect_err("it is taken");
        let want = format!("cannot listen on {address} (TCP): address in use by another program");
        assert_eq!(error.to_string(), want);

        let held = UdpSocket::bind(local(0)).expect("a port");
        let address = held.local_addr().expect("its address");
        let error = Sockets::bind(&[address], TWO).expect_err("it is taken");
        assert!(error.to_string().contains("(UDP): address in use"), "{error}");

        let error = Sockets::bind(&[([192, 0, 2, 1], 0).into()], ONE).expect_err("not ours");
        assert!(error.to_string().ends_with("no interface has this address"), "{error}");
    }

    #[test]
    fn a_second_server_is_refused_however_many_threads_it_has() {
        for (first, second) in [(ONE, ONE), (ONE, TWO), (TWO, ONE), (TWO, TWO)] {
            let sockets = Sockets::bind(&[local(0)], first).expect("a port");
            assert_eq!(sockets.threads.len(), first.get());
            let error = Sockets::bind(sockets.addresses(), second).expect_err("it is taken");
            assert!(matches!(error, BindError::InUse { .. }), "{first} then {second}: {error}");
        }
    }

    #[test]
    fn what_waits_in_a_socket_is_there_for_the_successor() {
        for (before, after) in [(ONE, ONE), (ONE, TWO), (TWO, ONE), (TWO, TWO)] {
            let sockets = Sockets::bind(&[local(0)], before).expect("a port");
            let listen = sockets.addresses().to_vec();
            let held = sockets.descriptors().expect("descriptors");
            drop(sockets);
            let clients: Vec<UdpSocket> = (0..16)
                .map(|_| {
                    let client = UdpSocket::bind(local(0)).expect("a socket");
                    client.send_to(b"question", listen[0]).expect("it is sent");
                    client
                })
                .collect();
            let connection = std::net::TcpStream::connect(listen[0]).expect("it waits");
            let heir = Sockets::take_over(held, &listen, after).expect("they are there");
            assert_eq!(heir.addresses(), listen);
            assert!(heir.threads.iter().all(|t| !t.udp.is_empty() && !t.tcp.is_empty()));
            let mut received = 0;
            for socket in heir.threads.iter().flat_map(|thread| &thread.udp) {
                while socket.recv(&mut [0; 16]).is_ok() {
                    received += 1;
                }
            }
            assert_eq!(received, clients.len(), "{before} then {after}");
            let listeners = heir.threads.iter().flat_map(|thread| &thread.tcp);
            assert_eq!(listeners.filter(|l| l.accept().is_ok()).count(), 1);
            drop(connection);
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_closed() {
        let sockets = Sockets::bind(&[local(0), local(0)], ONE).expect("ports");
        let (first, second) = (sockets.addresses()[0], sockets.addresses()[1]);
        let mut held = sockets.descriptors().expect("descriptors");
        held.push(std::fs::File::open("/dev/null").expect("a file").into());
        drop(sockets);
        let heir = Sockets::take_over(held, &[second], ONE).expect("it is there");
        assert_eq!(heir.addresses(), [second]);
        Sockets::bind(&[first], ONE).expect("the other one is free");
    }

    #[test]
    fn what_is_not_wanted_any_more_is_in_nobody_s_way() {
        let sockets = Sockets::bind(&[local(0)], TWO).expect("a port");
        let everywhere = SocketAddr::from(([0, 0, 0, 0], sockets.addresses()[0].port()));
        let held = sockets.descriptors().expect("descriptors");
        assert!(!Sockets::any_elsewhere(&held, sockets.addresses()));
        assert!(Sockets::any_elsewhere(&held, &[everywhere]));
        drop(sockets);
        let heir = Sockets::take_over(held, &[everywhere], ONE).expect("it is free");
        assert_eq!(heir.addresses(), [everywhere]);
    }
}
