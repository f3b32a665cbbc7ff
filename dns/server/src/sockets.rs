//! Listening sockets: bound early, so that a taken port is known before anything starts.
//!
//! The first socket of an address is bound without `SO_REUSEPORT`, whose whole point is
//! that nobody is told of a second server; only then it is opened to our own threads.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        let mut sockets = Self {
            addresses: Vec::with_capacity(listen.len()),
            threads: (0..threads.get()).map(|_| ThreadSockets::default()).collect(),
        };
        for address in listen {
            sockets.bind_one(*address)?;
        }
        Ok(sockets)
    }

    /// The addresses with the ports that were drawn for those given as 0.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn into_threads(self) -> Vec<ThreadSockets> {
        self.threads
    }

    fn bind_one(&mut self, wanted: SocketAddr) -> Result<(), BindError> {
        let (address, udp, tcp) = first_pair(wanted)?;
        let several = self.threads.len() > 1;
        if several {
            reuse_port(&udp, address, Transport::Udp)?;
            reuse_port(&tcp, address, Transport::Tcp)?;
        }
        let mut first = Some((udp, tcp));
        for thread in &mut self.threads {
            let (udp, tcp) = match first.take() {
                Some(pair) => pair,
                None => (
                    bind(address, Transport::Udp, Sharing::Own)?,
                    bind(address, Transport::Tcp, Sharing::Own)?,
                ),
            };
            tcp.listen(TCP_BACKLOG).map_err(|e| failure(address, Transport::Tcp, e))?;
            thread.udp.push(udp.into());
            thread.tcp.push(tcp.into());
        }
        self.addresses.push(address);
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
            // The kernel may give less; that is no reason to fail.
            Transport::Udp => drop(socket.set_recv_buffer_size(UDP_BUFFER)),
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

fn reuse_port(socket: &Socket, address: SocketAddr, transport: Transport) -> Result<(), BindError> {
    socket.set_reuse_port(true).map_err(|error| failure(address, transport, error))
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
}
