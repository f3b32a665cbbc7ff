//! Connected sockets of one network namespace: listed, and ended (`sock_diag`).
//!
//! Ending a TCP socket resets its connection, ending a UDP socket disconnects it. The
//! program that has it is told `ECONNABORTED`, at once if it waits; if it sends a datagram
//! first, `EDESTADDRREQ`. A socket is ended by its addresses and its cookie together, so
//! none that took its place is hit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use mizzen_net_words::Protocol;
use netlink_packet_core::{DecodeError, NetlinkSerializable};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::Removed;
use crate::connection::Connection;
use crate::error::NetlinkError;

/// A connected socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedSocket {
    /// The kernel's number of it, which no other socket has had since boot.
    pub cookie: u64,
    /// Its transport.
    pub transport: Protocol,
    /// Its own address; an IPv4-mapped one is shown as IPv4.
    pub local: SocketAddr,
    /// Its peer, likewise.
    pub remote: SocketAddr,
    id: SocketId,
    family: u8,
}

/// A conversation about the sockets of one network namespace.
pub struct SocketDiag {
    connection: Connection,
}

impl SocketDiag {
    /// Opens a conversation in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { connection: Connection::open(NETLINK_SOCK_DIAG)? })
    }

    /// The sockets that are connected, or connecting, to `remote`, those with IPv4-mapped addresses included.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel refuses, such as for want of `sock_diag` for this transport.
    pub fn observe_connected(
        &mut self,
        transport: Protocol,
        remote: SocketAddr,
    ) -> Result<Vec<ConnectedSocket>, NetlinkError> {
        let families: &[u8] = match remote.ip().to_canonical() {
            IpAddr::V4(_) => &[AF_INET, AF_INET6],
            IpAddr::V6(_) => &[AF_INET6],
        };
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let mut found = Vec::new();
        for family in families {
            let id = SocketId { remote_port: remote.port().to_be_bytes(), ..SocketId::default() };
            let request = Request { kind: LIST, family: *family, transport, id };
            let sockets = self.connection.dump(request, |payload| read(payload, transport));
            let sockets =
                sockets.map_err(|error| error.to("list", sockets_to(transport, remote)))?;
            found.extend(sockets.into_iter().filter(|socket| socket.remote == remote));
        }
        Ok(found)
    }

    /// Ends a socket, unless it is gone or its addresses belong to another one by now.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel refuses, such as for want of `CONFIG_INET_DIAG_DESTROY`.
    pub fn end(&mut self, socket: &ConnectedSocket) -> Result<Removed, NetlinkError> {
        let ConnectedSocket { transport, family, remote, .. } = *socket;
        let request = Request { kind: END, family, transport, id: socket.id.clone() };
        match self.connection.change(request, 0) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ENOENT) || refusal.is(libc::ESTALE) => {
                Ok(Removed::Absent)
            }
            Err(refusal) => Err(refusal.to("end", sockets_to(transport, remote))),
        }
    }
}

/// The kernel's number of the calling thread's network namespace, which no other has had since boot.
///
/// # Errors
///
/// [`NetlinkError::Open`]; `ENOPROTOOPT` before Linux 5.14.
pub fn netns_cookie() -> Result<u64, NetlinkError> {
    let asked = || -> io::Result<u64> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let mut cookie = 0_u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the option writes a number of eight bytes, for which there is room.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        if answer == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
    };
    asked().map_err(|source| NetlinkError::Open { source })
}

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;

/// `SOCK_DIAG_BY_FAMILY`.
const LIST: u16 = 20;
/// `SOCK_DESTROY`.
const END: u16 = 21;

/// States in which a program still has something to lose: established (a connected UDP socket's as well),
/// SYN sent, and half closed by either side.
const OPEN_STATES: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8;

/// Bytes of the request before the socket's id.
const REQUEST_HEAD: usize = 8;
/// Bytes of an answer before the socket's id.
const ANSWER_HEAD: usize = 4;

/// Addresses, interface and cookie of a socket, as they cross the wire (`inet_diag_sockid`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SocketId {
    local_port: [u8; 2],
    remote_port: [u8; 2],
    local: [u8; 16],
    remote: [u8; 16],
    /// In the order of this machine.
    interface: [u8; 4],
    /// Two words, the lower one first, each in the order of this machine.
    cookie: [u8; 8],
}

impl SocketId {
    const BYTES: usize = 48;

    fn write(&self, bytes: &mut [u8]) {
        let parts: [&[u8]; 6] = [
            &self.local_port,
            &self.remote_port,
            &self.local,
            &self.remote,
            &self.interface,
            &self.cookie,
        ];
        let mut rest = bytes;
        for part in parts {
            let Some((place, behind)) = rest.split_at_mut_checked(part.len()) else { return };
            place.copy_from_slice(part);
            rest = behind;
        }
    }

    /// None if there are too few bytes.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (local_port, rest) = bytes.split_first_chunk()?;
        let (remote_port, rest) = rest.split_first_chunk()?;
        let (local, rest) = rest.split_first_chunk()?;
        let (remote, rest) = rest.split_first_chunk()?;
        let (interface, rest) = rest.split_first_chunk()?;
        let (cookie, _) = rest.split_first_chunk()?;
        Some(Self {
            local_port: *local_port,
            remote_port: *remote_port,
            local: *local,
            remote: *remote,
            interface: *interface,
            cookie: *cookie,
        })
    }

    fn cookie(&self) -> u64 {
        let [a, b, c, d, rest @ ..] = self.cookie;
        let (low, high) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes(rest));
        u64::from(high) << 32 | u64::from(low)
    }
}

/// A list of sockets, or the end of one (`inet_diag_req_v2`).
struct Request {
    kind: u16,
    family: u8,
    transport: Protocol,
    id: SocketId,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        REQUEST_HEAD + SocketId::BYTES
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let protocol = match self.transport {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
        };
        let [a, b, c, d] = OPEN_STATES.to_ne_bytes();
        let head = [self.family, protocol as u8, 0, 0, a, b, c, d];
        if let Some((place, id)) = buffer.split_at_mut_checked(head.len()) {
            place.copy_from_slice(&head);
            self.id.write(id);
        }
    }
}

fn read(payload: &[u8], transport: Protocol) -> Result<ConnectedSocket, DecodeError> {
    let short = || DecodeError::from("a socket of too few bytes");
    let family = *payload.first().ok_or_else(short)?;
    let id = payload.get(ANSWER_HEAD..).and_then(SocketId::read).ok_or_else(short)?;
    let socket = |bytes: [u8; 16], port: [u8; 2]| {
        let [a, b, c, d, ..] = bytes;
        let ip = match family {
            AF_INET => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(),
        };
        SocketAddr::new(ip, u16::from_be_bytes(port))
    };
    let (local, remote) = (socket(id.local, id.local_port), socket(id.remote, id.remote_port));
    Ok(ConnectedSocket { cookie: id.cookie(), transport, local, remote, id, family })
}

fn sockets_to(transport: Protocol, remote: SocketAddr) -> String {
    let transport = match transport {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    format!("{transport} sockets to {remote}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_the_wire() {
        let id = SocketId {
            local_port: [1, 2],
            remote_port: [3, 4],
            local: [5; 16],
            remote: [6; 16],
            interface: [7; 4],
            cookie: 0x1234_5678_9abc_def0_u64.to_le_bytes(),
        };
        let mut bytes = [0; SocketId::BYTES];
        id.write(&mut bytes);
        assert_eq!(SocketId::read(&bytes), Some(id));
        assert_eq!(SocketId::read(&bytes[1..]), None);
    }

    #[test]
    fn an_answer_is_read_with_mapped_addresses_as_ipv4() {
        let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let id = SocketId {
            local_port: 4000_u16.to_be_bytes(),
            remote_port: 80_u16.to_be_bytes(),
            local: address("::ffff:10.0.0.1"),
            remote: address("::ffff:10.0.0.2"),
            ..SocketId::default()
        };
        let mut payload = vec![AF_INET6, 1, 0, 0];
        payload.resize(ANSWER_HEAD + SocketId::BYTES, 0);
        id.write(&mut payload[ANSWER_HEAD..]);
        let socket = read(&payload, Protocol::Tcp).unwrap();
        assert_eq!(socket.local, "10.0.0.1:4000".parse().unwrap());
        assert_eq!(socket.remote, "10.0.0.2:80".parse().unwrap());
        read(&payload[..20], Protocol::Tcp).unwrap_err();
    }
}
