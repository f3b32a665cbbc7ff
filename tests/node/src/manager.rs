//! A service manager like systemd as far as a daemon's descriptors are concerned
//! (sd_notify(3), sd_listen_fds(3)): it keeps those that the daemon leaves with it and
//! passes them to the next start.

use crate::node::{Node, Place};
use crate::{SOON, eventually, lab};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The first descriptor that is passed.
const FIRST: usize = 3;
/// Copies of what is kept have numbers from here on while a daemon is started, clear of
/// the numbers under which it gets them.
const ASIDE: RawFd = 200;
/// Descriptors in one message; systemd takes as many.
const MOST: usize = 253;
/// Our own notice, behind all others.
const BARRIER: &str = "BARRIER=1";

/// It runs as long as the test.
#[derive(Debug)]
pub struct Manager {
    socket: PathBuf,
    store: Arc<Mutex<Store>>,
}

/// What a daemon left.
#[derive(Debug, Default)]
struct Store {
    /// Oldest first.
    kept: Vec<(String, OwnedFd)>,
    /// How many barriers have come by.
    barriers: u64,
}

impl Manager {
    /// Listens for what a daemon says.
    ///
    /// # Panics
    ///
    /// If the lab has no room for its socket.
    #[must_use]
    pub fn start() -> Self {
        let (socket, store) = (lab::scratch("manager"), Arc::new(Mutex::new(Store::default())));
        let notices = UnixDatagram::bind(&socket).expect("a socket for notices");
        let heard = Arc::clone(&store);
        std::thread::spawn(move || {
            while let Some((text, descriptors)) = receive(&notices) {
                heard.lock().expect("nobody panicked").take(&text, descriptors);
            }
        });
        Self { socket, store }
    }

    /// How many descriptors of each name are kept, after all that was said so far.
    ///
    /// # Panics
    ///
    /// If another thread did.
    #[must_use]
    pub fn kept(&self) -> BTreeMap<String, usize> {
        self.hear_all();
        let store = self.store.lock().expect("nobody panicked");
        store.kept.iter().fold(BTreeMap::new(), |mut counts, (name, _)| {
            *counts.entry(name.clone()).or_default() += 1;
            counts
        })
    }

    /// Starts a daemon with all that is kept, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If the kernel has no more descriptors.
    #[must_use]
    pub fn run(&self, place: &Place) -> Node {
        let (names, copies) = self.copies();
        // A shell, for the numbers that a process is born with are beyond `Command`. It needs
        // numbers of its own while it closes some, so that comes after.
        let places = (FIRST..).zip(&copies).map(|(at, copy)| format!("{at}<&{}", copy.as_raw_fd()));
        let closed = copies.iter().map(|copy| format!("{}<&-", copy.as_raw_fd()));
        let script = format!(
            "exec {}\nexec {}\nexport NOTIFY_SOCKET='{}' LISTEN_FDS={} LISTEN_FDNAMES='{}'\n\
             export LISTEN_PID=$$ SYSTEMD_EXEC_PID=$$\nexec \"$@\"",
            places.collect::<Vec<_>>().join(" "),
            closed.collect::<Vec<_>>().join(" "),
            self.socket.display(),
            names.len(),
            names.join(":"),
        );
        let mut node = place.clone().through(&["bash", "-c", &script, "bash"]).spawn();
        drop(copies);
        node.wait_ready();
        node
    }

    /// Waits until all notices are taken that were sent before.
    fn hear_all(&self) {
        let passed = || self.store.lock().expect("nobody panicked").barriers;
        let before = passed();
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.send_to(BARRIER.as_bytes(), &self.socket).expect("our own socket");
        eventually("all notices are taken", SOON, || (passed() > before).then_some(()));
    }

    /// Copies that a child gets, with their names.
    fn copies(&self) -> (Vec<String>, Vec<OwnedFd>) {
        self.hear_all();
        let store = self.store.lock().expect("nobody panicked");
        let copy = |(name, kept): &(String, OwnedFd)| {
            let copy = fcntl_dupfd_cloexec(kept, ASIDE).expect("a descriptor");
            fcntl_setfd(&copy, FdFlags::empty()).expect("our own descriptor");
            (name.clone(), copy)
        };
        store.kept.iter().map(copy).unzip()
    }
}

impl Store {
    /// Takes what a notice says about descriptors.
    fn take(&mut self, text: &str, descriptors: Vec<OwnedFd>) {
        let has = |line: &str| text.lines().any(|other| other == line);
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        if has("FDSTOREREMOVE=1") {
            self.kept.retain(|(other, _)| other != name);
        }
        // Those of a daemon bring a descriptor that it waits for.
        self.barriers += u64::from(has(BARRIER) && descriptors.is_empty());
        if has("FDSTORE=1") {
            self.kept.extend(descriptors.into_iter().map(|kept| (name.to_owned(), kept)));
        }
    }
}

/// The next notice; none if there is no socket any more.
fn receive(notices: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg(notices, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(some) => Some(some),
        _ => None,
    });
    let descriptors = rights.flatten().collect();
    let text = String::from_utf8_lossy(buffer.get(..received.bytes)?).into_owned();
    Some((text, descriptors))
}
