//! A netlink socket: requests in one send, answers and packets many to a read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::{Socket, SocketAddr, protocols};
use rustix::net::sockopt;

use crate::wire::{Message, messages};

/// Room for one datagram. The largest that come here are parts of dumps.
const DATAGRAM: usize = 32 * 1024;

/// Room for one queued or logged packet: headers of the packet and what the kernel says about it.
const PACKET: usize = 1024;

/// How often a dump is started again when the kernel says that the set changed meanwhile.
const DUMP_ATTEMPTS: usize = 8;

/// What the kernel said to one of the requests of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Number of the request.
    pub sequence: u32,
    /// The kernel's error number; zero is consent.
    pub error: i32,
}

/// A socket of the netfilter family.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Channel {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(protocols::NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Without them answers are longer, and that is all.
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Lets so many bytes wait for us, whatever the system's limit is, and lose packets
    /// without a word beyond that: they are ones that the kernel then lets pass.
    pub fn expect_packets(&self, bytes: usize) -> io::Result<()> {
        sockopt::set_socket_recv_buffer_size_force(self, bytes)?;
        self.socket.set_no_enobufs(true)
    }

    /// Allows a send of so many bytes, whatever the system's limit is.
    pub fn expect_requests(&self, bytes: libc::c_int) -> io::Result<()> {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE);
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        let value = (&raw const bytes).cast();
        // SAFETY: `value` points to `length` bytes that live on.
        match unsafe { libc::setsockopt(self.socket.as_raw_fd(), level, name, value, length) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(|_| ()),
            }
        }
    }

    /// Sends requests and hands over all that the kernel answers.
    ///
    /// The kernel answers these requests before the send returns, so that nothing has to
    /// be waited for.
    pub fn transact(
        &mut self,
        bytes: &[u8],
        mut answer: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        self.send(bytes)?;
        while self.receive(libc::MSG_DONTWAIT)? {
            messages(&self.buffer).for_each(|message| answer(&message));
        }
        Ok(())
    }

    /// Sends requests and returns what was refused or acknowledged.
    pub fn answers(&mut self, bytes: &[u8]) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        self.transact(bytes, |message| {
            let answer = |error| Answer { sequence: message.sequence, error };
            answers.extend(message.verdict().map(answer));
        })?;
        Ok(answers)
    }

    /// Sends requests of which none may be refused.
    pub fn order(&mut self, bytes: &[u8]) -> io::Result<()> {
        let refused = self.answers(bytes)?.into_iter().find(|answer| answer.error != 0);
        refused.map_or(Ok(()), |answer| Err(io::Error::from_raw_os_error(answer.error)))
    }

    /// Asks for all objects of a kind and hands each over. One that the kernel shows twice,
    /// because the set changed meanwhile, is handed over twice.
    pub fn dump(&mut self, bytes: &[u8], mut object: impl FnMut(&Message<'_>)) -> io::Result<()> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(bytes)?;
            match self.dump_once(&mut object) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                other => return other,
            }
        }
        // On a machine that never rests an almost consistent view is better than none.
        Ok(())
    }

    fn dump_once(&mut self, object: &mut impl FnMut(&Message<'_>)) -> io::Result<()> {
        loop {
            self.receive(0)?;
            for message in messages(&self.buffer) {
                match message.verdict() {
                    Some(0) => return Ok(()),
                    Some(error) => return Err(io::Error::from_raw_os_error(error)),
                    None => object(&message),
                }
            }
        }
    }

    /// Reads one datagram into the buffer; says whether there was one.
    fn receive(&mut self, flags: libc::c_int) -> io::Result<bool> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, flags) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open for as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// Buffers for packets that are read many at a time.
pub(crate) struct Inbox {
    buffers: Vec<[u8; PACKET]>,
    lengths: Vec<usize>,
}

impl Inbox {
    /// Room for `packets` at a time.
    pub fn new(packets: usize) -> Self {
        Self { buffers: vec![[0; PACKET]; packets], lengths: Vec::with_capacity(packets) }
    }

    /// Waits for a packet and takes it with all that came meanwhile, as far as there is room.
    pub fn read(&mut self, channel: &Channel) -> io::Result<()> {
        self.lengths.clear();
        let mut vectors: Vec<libc::iovec> = self
            .buffers
            .iter_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: PACKET })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = vectors.iter_mut().map(header).collect();
        let count = receive_many(channel.as_fd().as_raw_fd(), &mut headers)?;
        let lengths = headers.iter().take(count).map(|header| header.msg_len as usize);
        self.lengths.extend(lengths.map(|length| length.min(PACKET)));
        Ok(())
    }

    /// How many datagrams were read last.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// The messages that were read last.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let datagrams = self.buffers.iter().zip(&self.lengths);
        datagrams.flat_map(|(buffer, length)| messages(&buffer[..*length]))
    }
}

fn header(vector: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeroes is a valid `mmsghdr`: no address, no control data.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header
}

fn receive_many(fd: RawFd, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let count = headers.len() as libc::c_uint;
    let start = headers.as_mut_ptr();
    let no_limit = std::ptr::null_mut();
    // SAFETY: `headers` are `count` valid headers, each with one vector over a buffer that
    // nobody else uses while they live.
    match unsafe { libc::recvmmsg(fd, start, count, libc::MSG_WAITFORONE, no_limit) } {
        count @ 0.. => Ok(count as usize),
        _ => Err(io::Error::last_os_error()),
    }
}
