//! Datagrams by the batch: one system call takes many in, one sends many out. All
//! buffers are made once.

use super::port::{Peer, Port};
use nix::cmsg_space;
use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg,
};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

/// Datagrams per system call.
pub(crate) const BATCH: usize = 32;
/// Room for a question, in bytes. With a name of 255 bytes and a padded OPT record it
/// has half of it; what is longer is no question of anybody's. No multiple of a page, or
/// the first lines of all buffers would compete for the same places in the cache.
const QUESTION: usize = 1664;
/// Room for a reply: [`crate::reply::UDP_PAYLOAD`] and, for the same reason, some more.
const REPLY: usize = 1344;

/// Datagrams that were received.
pub(crate) struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    bytes: Box<[u8]>,
    received: Vec<Received>,
    /// Whether the kernel tells to which of our addresses a datagram was sent.
    wildcard: bool,
}

/// Where one datagram lies, and whose it is.
#[derive(Debug, Clone, Copy)]
struct Received {
    length: usize,
    peer: Peer,
}

/// Replies that are to be sent.
pub(crate) struct Outbox {
    buffers: Box<[[u8; REPLY]]>,
    entries: Vec<Entry>,
    /// How many of the entries have been sent.
    sent: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    buffer: usize,
    length: usize,
    peer: Peer,
}

impl Inbox {
    pub(crate) fn new(wildcard: bool) -> Self {
        Self {
            headers: headers(wildcard),
            bytes: vec![0; BATCH * QUESTION].into(),
            received: Vec::with_capacity(BATCH),
            wildcard,
        }
    }

    /// Takes what has arrived, and returns how much; does not wait.
    pub(crate) fn receive(&mut self, port: &Port) -> io::Result<usize> {
        self.received.clear();
        let mut chunks = self.bytes.chunks_exact_mut(QUESTION);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let socket = port.socket().as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let results = recvmmsg(socket, &mut self.headers, slices.iter_mut(), flags, None)?;
        let mut untold = false;
        for message in results {
            let Some(client) = message.address.as_ref().and_then(address_of) else {
                // Nobody to answer; its place must be kept.
                self.received.push(Received { length: 0, peer: Peer::nobody() });
                continue;
            };
            let local = if self.wildcard { asked_address(&message) } else { None };
            untold |= self.wildcard && local.is_none();
            self.received.push(Received { length: message.bytes, peer: Peer { client, local } });
        }
        if untold {
            // The headers keep how much the kernel wrote last, as the room for the next.
            self.headers = headers(self.wildcard);
        }
        Ok(self.received.len())
    }

    /// What was received last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Peer)> {
        let chunks = self.bytes.chunks_exact(QUESTION);
        self.received.iter().zip(chunks).map(|(received, chunk)| {
            (chunk.get(..received.length).unwrap_or_default(), received.peer)
        })
    }
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            buffers: vec![[0; REPLY]; BATCH].into(),
            entries: Vec::with_capacity(BATCH),
            sent: 0,
        }
    }

    /// Where replies are written, one per question.
    pub(crate) fn buffers(&mut self) -> &mut [[u8; REPLY]] {
        &mut self.buffers
    }

    /// The reply in a buffer is ready.
    pub(crate) fn push(&mut self, buffer: usize, length: usize, peer: Peer) {
        self.entries.push(Entry { buffer, length, peer });
    }

    /// Sends all that is ready; waits if the kernel has no room.
    pub(crate) async fn flush(&mut self, port: &Port) {
        while self.sent < self.entries.len() {
            match self.send_some(port) {
                Ok(sent) => self.sent += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => port.writable().await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What cannot be sent, for want of a route for example, is left out.
                Err(_) => self.sent += 1,
            }
        }
        self.entries.clear();
        self.sent = 0;
    }

    fn send_some(&self, port: &Port) -> io::Result<usize> {
        let entries = self.entries.get(self.sent..).unwrap_or_default();
        if let Some(first) = entries.first()
            && first.peer.local.is_some()
        {
            // A source address goes with one message only, by a call of its own.
            return port.try_send(self.bytes(first), first.peer).map(|()| 1);
        }
        let entry = |at: usize| entries.get(at).copied();
        let nobody = || SocketAddrAny::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let addresses: [SocketAddrAny; BATCH] = std::array::from_fn(|at| {
            entry(at).map_or_else(nobody, |entry| SocketAddrAny::from(entry.peer.client))
        });
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|at| {
            [IoSlice::new(entry(at).map_or(&[], |entry| self.bytes(&entry)))]
        });
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BATCH] = Default::default();
        let parts = addresses.iter().zip(&slices).zip(&mut controls).take(entries.len());
        let mut headers: Vec<MMsgHdr<'_>> = parts
            .map(|((address, slice), control)| MMsgHdr::new_with_addr(address, slice, control))
            .collect();
        Ok(sendmmsg(port.socket(), &mut headers, SendFlags::DONTWAIT)?)
    }

    fn bytes(&self, entry: &Entry) -> &[u8] {
        self.buffers.get(entry.buffer).and_then(|all| all.get(..entry.length)).unwrap_or_default()
    }
}

fn headers(wildcard: bool) -> MultiHeaders<SockaddrStorage> {
    let room = wildcard.then(|| cmsg_space!(in6_pktinfo));
    MultiHeaders::preallocate(BATCH, room)
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}

/// Which of our addresses a datagram was sent to.
fn asked_address(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<super::port::Local> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(in_pktinfo { ipi_spec_dst, .. }) => {
            let address = Ipv4Addr::from(ipi_spec_dst.s_addr.to_ne_bytes());
            Some(super::port::Local { address: address.into(), link: 0 })
        }
        ControlMessageOwned::Ipv6PacketInfo(in6_pktinfo { ipi6_addr, ipi6_ifindex }) => {
            let address = Ipv6Addr::from(ipi6_addr.s6_addr);
            Some(super::port::Local { address: address.into(), link: ipi6_ifindex })
        }
        _ => None,
    })
}
