//! One UDP socket, when the runtime watches it, and single datagrams sent from it.
//!
//! Whoever watches a socket is told by the kernel of each datagram that left it, of which
//! nobody wants to know, and of each that came. Where datagrams come faster than they are
//! answered the socket is looked at again and again instead, and not watched meanwhile.

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use rustix::net::{SendFlags, sendto};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tracing::debug;

/// Between two looks at a socket that the kernel does not let us watch.
const LOOK: Duration = Duration::from_millis(1);

/// A second descriptor of a socket, with which the runtime watches it.
type Watch = tokio::net::UdpSocket;

/// A socket of one thread.
#[derive(Debug)]
pub(crate) struct Port {
    /// Whoever waits has it, too.
    watch: RefCell<Option<Arc<Watch>>>,
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
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        if wildcard {
            match socket.local_addr()? {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        socket.set_nonblocking(true)?;
        never_in_pieces(&socket);
        let port = Self { watch: RefCell::default(), socket, wildcard };
        port.watch()?;
        Ok(port)
    }

    /// Whether it takes datagrams to any of our addresses.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Waits until there is something to receive; at once if the socket is not watched.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        let watch = self.watch.borrow().clone();
        match watch {
            Some(watch) => watch.readable().await,
            None => Ok(()),
        }
    }

    /// Notes that nothing more is there; what comes from now on wakes.
    pub(crate) async fn drained(&self) {
        let former = self.watch.borrow().clone();
        match former {
            Some(watch) => drop(watch.try_io(Interest::READABLE, would_block)),
            // What came since is found at once.
            None => drop(self.watched().await),
        }
    }

    /// Whether what comes wakes.
    pub(crate) fn is_watched(&self) -> bool {
        self.watch.borrow().is_some()
    }

    /// Notes that more and more is there, unless somebody waits to send.
    pub(crate) fn busy(&self) {
        drop(self.watch.borrow_mut().take_if(|watch| Arc::strong_count(watch) == 1));
    }

    /// Waits until the kernel takes more to send, after it took no more.
    pub(crate) async fn writable(&self) {
        let Some(watch) = self.watched().await else { return };
        drop(watch.try_io(Interest::WRITABLE, would_block));
        // An error of the socket comes up when it is sent from.
        drop(watch.writable().await);
    }

    /// Has the socket watched; none after a moment if the kernel has no room for that.
    async fn watched(&self) -> Option<Arc<Watch>> {
        match self.watch() {
            Ok(watch) => Some(watch),
            Err(error) => {
                debug!(%error, "a socket is not watched");
                tokio::time::sleep(LOOK).await;
                None
            }
        }
    }

    fn watch(&self) -> io::Result<Arc<Watch>> {
        let mut watch = self.watch.borrow_mut();
        if let Some(watch) = &*watch {
            return Ok(Arc::clone(watch));
        }
        let new = Arc::new(Watch::from_std(self.socket.try_clone()?)?);
        Ok(Arc::clone(watch.insert(new)))
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
fn never_in_pieces(socket: &UdpSocket) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_busy_socket_is_watched_again_when_it_is_drained() {
        let port = Port::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(port.socket().local_addr().unwrap()).unwrap();
        let received = || port.socket().recv(&mut [0; 16]);
        for late in [false, true] {
            port.busy();
            assert!(!port.is_watched());
            timeout(LIMIT, port.readable()).await.expect("it is looked at").unwrap();
            // Before it is watched, or after.
            if late {
                port.drained().await;
            }
            client.send(b"question").unwrap();
            if !late {
                port.drained().await;
            }
            assert!(port.is_watched());
            timeout(LIMIT, port.readable()).await.expect("it came").unwrap();
            assert_eq!(received().unwrap(), 8);
            port.drained().await;
        }
        assert_eq!(received().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let idle = timeout(Duration::from_millis(20), port.readable()).await;
        assert!(idle.is_err(), "nothing is there");
    }

    #[tokio::test]
    async fn whoever_waits_to_send_is_woken() {
        let port = Port::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let waiting = port.watch().unwrap();
        port.busy();
        assert!(port.is_watched(), "somebody needs it");
        drop(waiting);
        port.busy();
        timeout(LIMIT, port.writable()).await.expect("there is room");
        assert!(port.is_watched());
    }
}
