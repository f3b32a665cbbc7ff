//! The holder: descriptors in, descriptors out, and nothing in between.
//!
//! Messages on its socket are one byte: `a` with some descriptors adds them to what the
//! connection brings, `c` makes that all that is kept, `t` asks for what is kept, `e` ends
//! the holder. It answers `a` with some descriptors, and `c` when it is done.

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, listen, recvmsg, sendmsg, socket_with,
};
use rustix::process::geteuid;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ADD: u8 = b'a';
const COMPLETE: u8 = b'c';
const TAKE: u8 = b't';
const END: u8 = b'e';
/// Descriptors per message; the kernel takes 253.
const AT_ONCE: usize = 200;
/// Connections that wait for the one that is served.
const BACKLOG: i32 = 8;
/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps descriptors for a daemon that may die.
#[derive(Debug)]
pub struct Holder {
    listener: OwnedFd,
    path: PathBuf,
    kept: Vec<OwnedFd>,
}

/// What a connection left to be done.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl Holder {
    /// Listens at `path`, which nobody but the own user can connect to.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another holder lives there; else that of the kernel.
    pub fn listen(path: &Path) -> io::Result<Self> {
        if dial(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // What a holder that was killed left behind.
        drop(std::fs::remove_file(path));
        let listener = socket()?;
        bind(&listener, &SocketAddrUnix::new(path)?)?;
        listen(&listener, BACKLOG)?;
        Ok(Self { listener, path: path.to_owned(), kept: Vec::new() })
    }

    /// Serves until [`end`] is called. Connections are served one after the other; none
    /// can hold it up for long.
    ///
    /// # Errors
    ///
    /// That of the kernel, if nobody can connect any more.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                // A connection's failure is that of its other end, which hears of it.
                Ok(peer) => {
                    if self.converse(&peer).is_ok_and(|next| next == Next::End) {
                        return Ok(());
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn converse(&mut self, peer: &OwnedFd) -> io::Result<Next> {
        set_patience(peer)?;
        let user = socket_peercred(peer)?.uid;
        if user != geteuid() && !user.is_root() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut brought = Vec::new();
        loop {
            match receive(peer)? {
                Some((ADD, descriptors)) => brought.extend(descriptors),
                Some((COMPLETE, _)) => {
                    self.kept = std::mem::take(&mut brought);
                    send(peer, COMPLETE, &[])?;
                }
                Some((TAKE, _)) => send_all(peer, &self.kept)?,
                Some((END, _)) => {
                    // Who asked may want their ports and this place at once.
                    self.kept.clear();
                    drop(std::fs::remove_file(&self.path));
                    send(peer, COMPLETE, &[])?;
                    return Ok(Next::End);
                }
                Some(_) | None => return Ok(Next::GoOn),
            }
        }
    }
}

/// Leaves descriptors with the holder at `path`, in the place of those that it has.
///
/// # Errors
///
/// That of the kernel, if there is no holder or it does not answer.
pub fn keep(path: &Path, descriptors: &[OwnedFd]) -> io::Result<()> {
    let holder = dial(path)?;
    send_all(&holder, descriptors)?;
    confirmed(&holder)
}

/// Gets copies of the descriptors that the holder at `path` keeps.
///
/// # Errors
///
/// That of the kernel, if there is no holder or it does not answer.
pub fn take(path: &Path) -> io::Result<Vec<OwnedFd>> {
    let holder = dial(path)?;
    send(&holder, TAKE, &[])?;
    let mut taken = Vec::new();
    loop {
        match receive(&holder)? {
            Some((ADD, descriptors)) => taken.extend(descriptors),
            Some((COMPLETE, _)) => return Ok(taken),
            Some(_) | None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Ends the holder at `path`; what it keeps is closed when this returns.
///
/// # Errors
///
/// That of the kernel, if there is no holder or it does not answer.
pub fn end(path: &Path) -> io::Result<()> {
    let holder = dial(path)?;
    send(&holder, END, &[])?;
    confirmed(&holder)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn dial(path: &Path) -> io::Result<OwnedFd> {
    let holder = socket()?;
    set_patience(&holder)?;
    connect(&holder, &SocketAddrUnix::new(path)?)?;
    Ok(holder)
}

fn set_patience(socket: &OwnedFd) -> io::Result<()> {
    set_socket_timeout(socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(set_socket_timeout(socket, Timeout::Send, Some(PATIENCE))?)
}

fn confirmed(holder: &OwnedFd) -> io::Result<()> {
    match receive(holder)? {
        Some((COMPLETE, _)) => Ok(()),
        Some(_) | None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn send_all(socket: &OwnedFd, descriptors: &[OwnedFd]) -> io::Result<()> {
    for some in descriptors.chunks(AT_ONCE) {
        send(socket, ADD, some)?;
    }
    send(socket, COMPLETE, &[])
}

fn send(socket: &OwnedFd, word: u8, descriptors: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(&[word])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message; `None` after the last.
fn receive(socket: &OwnedFd) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let mut word = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut word)];
    let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    Ok(Some((word[0], descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::thread;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let file = format!("mizzen-holder-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(file))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    fn sockets(count: usize) -> Vec<UdpSocket> {
        (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket")).collect()
    }

    fn leave(path: &Path, sockets: Vec<UdpSocket>) {
        let descriptors: Vec<OwnedFd> = sockets.into_iter().map(OwnedFd::from).collect();
        keep(path, &descriptors).expect("they are kept");
    }

    #[test]
    fn what_is_left_is_found_with_all_that_waits_in_it() {
        let place = Place::new("found");
        let holder = Holder::listen(&place.0).expect("it listens");
        let held = thread::spawn(|| holder.run());
        assert!(take(&place.0).expect("nothing yet").is_empty());
        // More than fit into one message.
        let sockets = sockets(300);
        let addresses: Vec<_> = sockets.iter().map(|s| s.local_addr().expect("one")).collect();
        leave(&place.0, sockets);
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for address in &addresses {
            client.send_to(b"question", address).expect("it is sent");
        }
        for _ in 0..2 {
            let taken = take(&place.0).expect("they are there");
            let found: Vec<_> = taken.into_iter().map(UdpSocket::from).collect();
            let there: Vec<_> = found.iter().map(|s| s.local_addr().expect("one")).collect();
            assert_eq!(there, addresses);
        }
        let taken = take(&place.0).expect("they are there");
        for socket in taken.into_iter().map(UdpSocket::from) {
            assert_eq!(socket.recv(&mut [0; 16]).expect("a datagram"), 8);
        }
        end(&place.0).expect("it ends");
        held.join().expect("no panic").expect("it ended well");
        assert!(take(&place.0).is_err() && !place.0.exists());
        UdpSocket::bind(addresses[0]).expect("the ports are free");
    }

    #[test]
    fn what_is_left_takes_the_place_of_what_was_there() {
        let place = Place::new("replaced");
        let holder = Holder::listen(&place.0).expect("it listens");
        let held = thread::spawn(|| holder.run());
        let first = sockets(2);
        let freed = first[0].local_addr().expect("one");
        leave(&place.0, first);
        leave(&place.0, sockets(1));
        assert_eq!(take(&place.0).expect("they are there").len(), 1);
        UdpSocket::bind(freed).expect("the old ones are closed");
        let second = Holder::listen(&place.0).expect_err("one lives there");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        // One that says nothing, and one that says nonsense, hold it up for a moment.
        let silent = dial(&place.0).expect("a connection");
        send(&silent, b'?', &[]).expect("it is sent");
        assert_eq!(take(&place.0).expect("they are there").len(), 1);
        end(&place.0).expect("it ends");
        held.join().expect("no panic").expect("it ended well");
    }

    #[test]
    fn a_holder_that_was_killed_is_followed_by_another() {
        let place = Place::new("killed");
        drop(Holder::listen(&place.0).expect("it listens"));
        assert!(place.0.exists(), "its socket is left behind");
        drop(Holder::listen(&place.0).expect("it listens all the same"));
    }
}
