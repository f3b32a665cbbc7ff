//! Servers that say who they are and whom they see, and then echo; and their clients.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use crate::namespace::Namespace;
use crate::wait::PATIENCE;

/// A connection, with what the server said about itself and its client.
pub struct Connection {
    /// The connection.
    pub stream: TcpStream,
    /// Port of the backend.
    pub backend: u16,
    /// Whom it saw.
    pub seen: SocketAddr,
}

impl Connection {
    /// Connects and hears what the server says.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from getting there.
    pub fn open(vip: SocketAddr) -> io::Result<Self> {
        Self::greeted(TcpStream::connect_timeout(&vip, PATIENCE)?)
    }

    /// Hears what the server says first.
    ///
    /// # Errors
    ///
    /// Whatever the socket says.
    pub fn greeted(mut stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut hello = [0; GREETING];
        stream.read_exact(&mut hello)?;
        let (backend, seen) = understood(&hello);
        Ok(Self { stream, backend, seen })
    }

    /// Whether the server sends this back.
    pub fn echoes(&mut self, what: &[u8]) -> bool {
        let mut answer = vec![0; what.len()];
        let mut writer = self.stream.try_clone().expect("a descriptor");
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(what));
            self.stream.read_exact(&mut answer).is_ok() && answer == what
        })
    }
}

impl Namespace {
    /// Starts a TCP server that says its port and whom it sees, and then echoes.
    #[must_use]
    pub fn server(&self, ip: &str) -> SocketAddr {
        let ip: IpAddr = ip.parse().expect("an address");
        let listener = self.run(|| TcpListener::bind((ip, 0)).expect("a free port"));
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream, address.port()));
            }
        });
        address
    }

    /// Starts a UDP server that answers each datagram with one as long, which says its port and whom it saw.
    #[must_use]
    pub fn udp_server(&self, ip: &str) -> SocketAddr {
        let ip: IpAddr = ip.parse().expect("an address");
        let socket = self.run(|| UdpSocket::bind((ip, 0)).expect("a free port"));
        let address = socket.local_addr().expect("it is bound");
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let rest = &buffer[GREETING.min(length)..length];
                let answer = [&greeting(address.port(), peer)[..], rest].concat();
                let _ = socket.send_to(&answer, peer);
            }
        });
        address
    }

    /// Connects and hears what the server says about itself and its client.
    ///
    /// # Errors
    ///
    /// As of [`Connection::open`].
    pub fn connect(&self, vip: SocketAddr) -> io::Result<Connection> {
        self.run(|| Connection::open(vip))
    }

    /// A UDP socket connected to `vip`.
    #[must_use]
    pub fn udp(&self, vip: SocketAddr) -> UdpSocket {
        let any = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.run(|| UdpSocket::bind(any).expect("a socket"));
        socket.connect(vip).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket
    }

    /// A UDP socket at `address`, any port.
    #[must_use]
    pub fn udp_at(&self, address: &str) -> UdpSocket {
        let address: IpAddr = address.parse().expect("an address");
        let socket = self.run(|| UdpSocket::bind((address, 0)).expect("a free port"));
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket
    }

    /// Connects so many times and returns how often each backend answered.
    #[must_use]
    pub fn spread(&self, vip: SocketAddr, times: u32) -> BTreeMap<u16, u32> {
        let mut hits = BTreeMap::new();
        self.run(|| {
            for n in 0..times {
                let connection =
                    Connection::open(vip).unwrap_or_else(|error| panic!("{n}: {error}"));
                *hits.entry(connection.backend).or_default() += 1;
            }
        });
        hits
    }
}

/// What a datagram of so many bytes got for an answer: the backend's port, whom it saw, and the length.
///
/// # Errors
///
/// Whatever the socket says.
pub fn ask(socket: &UdpSocket, length: usize) -> io::Result<(u16, SocketAddr, usize)> {
    let mut answer = [0; 65_536];
    socket.send(&vec![7; length])?;
    let length = socket.recv(&mut answer)?;
    let (backend, seen) = understood(&answer[..GREETING]);
    Ok((backend, seen, length))
}

/// Bytes of a greeting.
pub const GREETING: usize = 20;

fn greeting(name: u16, peer: SocketAddr) -> [u8; GREETING] {
    let mut bytes = [0; GREETING];
    let octets = match peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    bytes[..2].copy_from_slice(&name.to_be_bytes());
    bytes[2..18].copy_from_slice(&octets);
    bytes[18..].copy_from_slice(&peer.port().to_be_bytes());
    bytes
}

/// What a greeting says: the server's port, and whom it saw.
#[must_use]
pub fn understood(bytes: &[u8]) -> (u16, SocketAddr) {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[2..18]);
    let ip = IpAddr::from(octets).to_canonical();
    let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    (number(0), SocketAddr::new(ip, number(18)))
}

fn serve(mut stream: TcpStream, name: u16) {
    let Ok(peer) = stream.peer_addr() else { return };
    let _ = stream.write_all(&greeting(name, peer));
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
