//! Where the overlay's programs stand on a network link.
//!
//! ```text
//! first (tcx)    the overlay's, for containers whose VIPs are translated at their sockets
//! then           those of VIPs, by links of the kernel's own or by filters
//! last (clsact)  the overlay's, for all
//! ```
//!
//! None of it is pinned but the first programs themselves, by which their successors find their
//! places. Kernels before 6.6 have no first place, and everything takes the last.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;

use crate::bpf::Place;
use crate::clsact::{self, Direction, Filter, Order};
use crate::{LoadError, bpf, object};

/// What a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Our end of a tunnel.
    Tunnel,
    /// The host's end of a container's pair.
    Container,
}

/// The programs, loaded.
#[derive(Debug)]
pub struct Programs {
    pin_dir: PathBuf,
    tunnel: Pair,
    container: Pair,
    /// Whether the new ones are pinned.
    are_kept: bool,
}

/// The programs of one kind of link.
#[derive(Debug)]
struct Pair {
    first: OwnedFd,
    /// That of an earlier daemon.
    former: Option<OwnedFd>,
    last: OwnedFd,
}

impl Programs {
    /// Loads them.
    pub fn load(object: &mut Ebpf, pin_dir: &Path) -> Result<Self, LoadError> {
        let mut pair = |stand: Stand, first, last| {
            Ok::<_, LoadError>(Pair {
                first: object::load(object, first)?,
                former: bpf::obj_get(&stand.pin(pin_dir)).ok(),
                last: object::load(object, last)?,
            })
        };
        Ok(Self {
            tunnel: pair(Stand::Tunnel, "mizzen_arrive_first", "mizzen_arrive")?,
            container: pair(Stand::Container, "mizzen_leave_first", "mizzen_leave")?,
            pin_dir: pin_dir.to_owned(),
            are_kept: false,
        })
    }

    /// Puts the programs on a link, in the place of those that an earlier daemon left there.
    pub fn attach(&self, index: u32, stand: Stand) -> io::Result<()> {
        let pair = self.pair(stand);
        let filter = filter(&self.pin_dir);
        clsact::ensure(index, Direction::In, pair.last.as_fd(), filter)?;
        let former = pair.former.as_ref().map(|former| Place::Of(former.as_fd()));
        let replaced = former.map(|place| bpf::attach_first(pair.first.as_fd(), index, place));
        if matches!(replaced, Some(Ok(()))) {
            return Ok(());
        }
        match bpf::attach_first(pair.first.as_fd(), index, Place::First) {
            // It stands there already, or this kernel has no such place.
            Err(error)
                if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::InvalidInput) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Takes the programs off a link. Not an error if it is gone.
    pub fn detach(&self, index: u32) {
        for pair in [&self.tunnel, &self.container] {
            let _ = bpf::detach_first(pair.first.as_fd(), index);
        }
        let _ = clsact::remove(index, filter(&self.pin_dir));
    }

    /// Lets a later daemon find the programs that stand on links now.
    pub fn keep(&mut self) -> Result<(), LoadError> {
        if self.are_kept {
            return Ok(());
        }
        for stand in [Stand::Tunnel, Stand::Container] {
            let pin = stand.pin(&self.pin_dir);
            remove(&pin)?;
            let first = self.pair(stand).first.as_fd();
            bpf::obj_pin(first, &pin).map_err(object::failed("pin", &pin))?;
        }
        self.are_kept = true;
        Ok(())
    }

    fn pair(&self, stand: Stand) -> &Pair {
        match stand {
            Stand::Tunnel => &self.tunnel,
            Stand::Container => &self.container,
        }
    }
}

/// Takes all programs off these links, and removes the pins.
pub fn teardown(pin_dir: &Path, links: &BTreeSet<u32>) -> Result<(), LoadError> {
    for stand in [Stand::Tunnel, Stand::Container] {
        let pin = stand.pin(pin_dir);
        if let Ok(program) = bpf::obj_get(&pin) {
            for link in links {
                // It stands on links of one kind only, and some are gone.
                let _ = bpf::detach_first(program.as_fd(), *link);
            }
        }
        remove(&pin)?;
    }
    for link in links {
        let _ = clsact::remove(*link, filter(pin_dir));
    }
    Ok(())
}

impl Stand {
    fn pin(self, pin_dir: &Path) -> PathBuf {
        pin_dir.join(match self {
            Self::Tunnel => "overlay_tunnel_first",
            Self::Container => "overlay_container_first",
        })
    }
}

fn filter(pin_dir: &Path) -> Filter<'_> {
    Filter { directory: pin_dir, order: Order::Overlay }
}

fn remove(pin: &Path) -> Result<(), LoadError> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(object::failed("remove", pin)),
    }
}
