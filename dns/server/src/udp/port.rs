//! One UDP socket, and single datagrams sent from it.

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use rustix::net::{SendFlags, sendto};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A socket of one thread.
#[derive(Debug)]
pub(crate) struct Port {
    socket: UdpSocket,
    wildcard: bool,
}

/// The other end of a datagram, and ours if the socket has many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) client: SocketAddr,
    pub(crate) local: Option<Local>,
}

/// The address that was asked, which is the one that replies must come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) address: IpAddr,
    /// The link that it came in by, for addresses that mean something on a link only.
    pub(crate) link: u32,
}

impl Peer {
    /// Nobody who can be answered.
    pub(crate) fn nobody() -> Self {
        Self { client: (Ipv4Addr::UNSPECIFIED, 0).into(), local: None }
    }
}

impl Port {
    /// Watches a socket, in the current runtime.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        if wildcard {
            match socket.local_addr()? {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        socket.set_nonblocking(true)?;
        never_in_pieces(&socket);
        Ok(Self { socket: UdpSocket::from_std(socket)?, wildcard })
    }

    /// Whether it takes datagrams to any of our addresses.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Waits until there is something to receive.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Notes that nothing more is there; what comes from now on wakes.
    pub(crate) fn drained(&self) {
        drop(self.socket.try_io(Interest::READABLE, would_block));
    }

    /// Waits until the kernel takes more to send, after it took no more.
    pub(crate) async fn writable(&self) {
        drop(self.socket.try_io(Interest::WRITABLE, would_block));
        // An error of the socket comes up when it is sent from.
        drop(self.socket.writable().await);
    }

    /// Sends a datagram when there is room for it. What cannot be sent is given up:
    /// clients ask again.
    pub(crate) async fn send(&self, bytes: &[u8], peer: Peer) -> io::Result<()> {
        loop {
            match self.try_send(bytes, peer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Sends a datagram at once.
    pub(crate) fn try_send(&self, bytes: &[u8], peer: Peer) -> io::Result<()> {
        match peer.local {
            None => {
                sendto(self.socket(), bytes, SendFlags::DONTWAIT, &peer.client)?;
            }
            Some(local) => send_from(self.socket.as_raw_fd(), bytes, peer.client, local)?,
        }
        Ok(())
    }
}

/// Replies go whole or not at all (RFC 9715, 3.1): pieces get lost, and can be forged. They
/// fit through any path that IPv6 can take; news of smaller ones is not believed. It also
/// saves the kernel the numbers that pieces are put together by.
fn never_in_pieces(socket: &std::net::UdpSocket) {
    // A kernel that refuses goes on as it did.
    match socket.local_addr() {
        Ok(SocketAddr::V4(_)) => {
            let _ = set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE);
        }
        Ok(SocketAddr::V6(_)) => {
            let _ = set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE);
        }
        Err(_) => {}
    }
}

fn would_block() -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}

fn send_from(socket: i32, bytes: &[u8], client: SocketAddr, local: Local) -> io::Result<()> {
    let to = SockaddrStorage::from(client);
    let flags = MsgFlags::MSG_DONTWAIT;
    let slices = [IoSlice::new(bytes)];
    match local.address {
        IpAddr::V4(v4) => {
            let address = in_addr { s_addr: u32::from_ne_bytes(v4.octets()) };
            let any = in_addr { s_addr: 0 };
            let from = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: any };
            let control = [ControlMessage::Ipv4PacketInfo(&from)];
            sendmsg(socket, &slices, &control, flags, Some(&to))?;
        }
        IpAddr::V6(v6) => {
            let link = if v6.is_unicast_link_local() { local.link } else { 0 };
            let address = in6_addr { s6_addr: v6.octets() };
            let from = in6_pktinfo { ipi6_addr: address, ipi6_ifindex: link };
            let control = [ControlMessage::Ipv6PacketInfo(&from)];
            sendmsg(socket, &slices, &control, flags, Some(&to))?;
        }
    }
    Ok(())
}
