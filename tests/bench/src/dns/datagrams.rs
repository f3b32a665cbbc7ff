//! Many datagrams a system call, so that a generator and a null responder cost little
//! beside what is measured.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Datagrams a system call.
pub(super) const BATCH: usize = 32;
/// Room for one, in bytes.
const ROOM: usize = 1500;
/// What the kernel is to hold of either direction, in bytes.
const BUFFER: usize = 4 << 20;

/// Datagrams that came, or that are to go.
pub(super) struct Batch {
    /// Each direction has its own: sending leaves pointers in them that receiving
    /// would write through.
    incoming: MultiHeaders<SockaddrIn>,
    outgoing: MultiHeaders<SockaddrIn>,
    buffers: Box<[[u8; ROOM]; BATCH]>,
    lengths: [usize; BATCH],
    addresses: [Option<SockaddrIn>; BATCH],
    count: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            incoming: MultiHeaders::preallocate(BATCH, None),
            outgoing: MultiHeaders::preallocate(BATCH, None),
            buffers: Box::new([[0; ROOM]; BATCH]),
            lengths: [0; BATCH],
            addresses: [None; BATCH],
            count: 0,
        }
    }

    /// How many it holds.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The datagrams.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.buffers.iter().zip(&self.lengths).take(self.count).map(|(buffer, n)| &buffer[..*n])
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// Adds one that goes where the socket is connected to; there must be room.
    pub(super) fn push(&mut self, datagram: &[u8]) {
        self.buffers[self.count][..datagram.len()].copy_from_slice(datagram);
        self.lengths[self.count] = datagram.len();
        self.addresses[self.count] = None;
        self.count += 1;
    }

    /// Makes a reply of each datagram, in its place: `reply` gets the room and how much
    /// of it is the request, and says how much is the reply.
    pub(super) fn answer(&mut self, reply: impl Fn(&mut [u8], usize) -> usize) {
        let all = self.buffers.iter_mut().zip(&mut self.lengths).take(self.count);
        all.for_each(|(buffer, length)| *length = reply(buffer, *length));
    }

    /// Takes what has come; with `WAIT` it waits for the first one.
    pub(super) fn receive<const WAIT: bool>(&mut self, socket: &UdpSocket) -> Result<()> {
        let flags = if WAIT { MsgFlags::MSG_WAITFORONE } else { MsgFlags::MSG_DONTWAIT };
        let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        self.count = 0;
        match recvmmsg(socket.as_raw_fd(), &mut self.incoming, &mut slices, flags, None) {
            Ok(received) => {
                for message in received {
                    self.lengths[self.count] = message.bytes;
                    self.addresses[self.count] = message.address;
                    self.count += 1;
                }
                Ok(())
            }
            // Refused: one that was sent before somebody listened.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => Ok(()),
            Err(error) => Err(error).context("cannot receive"),
        }
    }

    /// Sends them all; what the kernel does not take is lost, as it may be.
    pub(super) fn send(&mut self, socket: &UdpSocket) {
        let mut from = 0;
        while from < self.count {
            let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|index| {
                let index = (from + index).min(BATCH - 1);
                [IoSlice::new(&self.buffers[index][..self.lengths[index]])]
            });
            let sent = sendmmsg(
                socket.as_raw_fd(),
                &mut self.outgoing,
                &slices[..self.count - from],
                &self.addresses[from..self.count],
                [],
                MsgFlags::empty(),
            );
            from += sent.map_or(1, |sent| sent.count().max(1));
        }
    }
}

/// A socket whose buffers hold as much as a burst.
pub(super) fn socket(address: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).with_context(|| format!("cannot listen at {address}"))?;
    // More than an unprivileged process may ask for.
    let wide = |done: rustix::io::Result<()>| done.context("cannot widen a socket's buffers");
    wide(rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER))?;
    wide(rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, BUFFER))
        .or_else(|_| wide(rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER)))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_goes_there_and_back() {
        let server = socket("127.0.0.1:0").unwrap();
        let client = socket("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let (mut here, mut there) = (Batch::new(), Batch::new());
        (0..3_u8).for_each(|number| here.push(&[number, 7]));
        here.send(&client);
        there.receive::<true>(&server).unwrap();
        assert_eq!(there.iter().collect::<Vec<_>>(), [[0, 7], [1, 7], [2, 7]]);
        there.answer(|room, length| {
            room[length] = 9;
            length + 1
        });
        there.send(&server);
        here.receive::<true>(&client).unwrap();
        assert_eq!(here.iter().collect::<Vec<_>>(), [[0, 7, 9], [1, 7, 9], [2, 7, 9]]);
    }
}
