//! The programs on network links, for traffic that arrives.
//!
//! Links come and go; each pass makes the programs stand on exactly those that are wanted. Kernels from
//! 6.6 on attach by links of their own (tcx), which are pinned and survive the daemon; older ones
//! by filters of the `clsact` queueing discipline, which live as long as the network link.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use mizzen_ebpf_abi::{Ip16, Link, Network, maps};

use crate::LoadError;
use crate::bpf::{self, AttachType};
use crate::clsact::{self, Direction, Filter, Order};
use crate::object::{self, LINK_PREFIX};
use crate::table::Table;

/// A network link by which traffic may arrive. It has to be of the kind of Ethernet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkWanted {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name, for messages.
    pub name: String,
    /// The bridge that it is a port of.
    pub bridge: Option<u32>,
    /// Whether it is a tunnel to other nodes: what begins on this node and leaves by it is translated where it arrives.
    pub is_tunnel: bool,
    /// Largest packet that it takes (bytes).
    pub mtu: u32,
    /// Networks that it, or the bridge, has an address in; whose members are reached without a router. The first of each
    /// family counts.
    pub networks: Vec<(IpAddr, u8)>,
}

/// What one pass over the links changed.
#[derive(Debug, Default)]
pub struct Followed {
    /// Links that the programs now stand on and did not before.
    pub attached: Vec<String>,
    /// How many they no longer stand on, because these are gone or not wanted.
    pub released: usize,
    /// Links that they could not be attached to.
    pub errors: Vec<(String, io::Error)>,
}

/// How programs are attached to network links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// By links of the kernel's own, from Linux 6.6 on.
    Tcx,
    /// By filters.
    Clsact,
}

/// The programs for network links, loaded.
#[derive(Debug)]
pub struct Ingress {
    directory: PathBuf,
    arriving: OwnedFd,
    departing: OwnedFd,
    links: Table<u32, Link>,
    attachment: Attachment,
}

impl Ingress {
    /// Loads the programs and puts them in the place of those that an earlier daemon left on links.
    pub fn open(object: &mut Ebpf, directory: &Path) -> Result<Self, LoadError> {
        let ingress = Self {
            directory: directory.to_owned(),
            arriving: object::load(object, "mizzen_ingress")?,
            departing: object::load(object, "mizzen_egress")?,
            links: Table::open_pinned(directory, maps::LINKS, maps::LINKS_CAPACITY)?,
            attachment: Attachment::Tcx,
        };
        for pin in ingress.pins()? {
            let program = match pin.direction {
                Direction::In => &ingress.arriving,
                Direction::Out => &ingress.departing,
            };
            let updated = bpf::obj_get(&pin.path)
                .and_then(|link| bpf::link_update(link.as_fd(), program.as_fd()));
            if let Err(error) = updated {
                // Its network link is gone; the next pass takes the pin away.
                tracing::debug!(pin = %pin.path.display(), %error, "link not updated");
            }
        }
        Ok(ingress)
    }

    /// How the programs are attached.
    pub fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Attaches by filters from now on.
    pub fn use_clsact(&mut self) {
        self.attachment = Attachment::Clsact;
    }

    /// Makes the programs stand on the links that are wanted and on no others.
    pub fn follow(&mut self, wanted: &[LinkWanted]) -> Result<Followed, LoadError> {
        let mut followed = Followed::default();
        let by_index: BTreeMap<u32, &LinkWanted> = wanted.iter().map(|l| (l.index, l)).collect();
        self.release(&by_index, &mut followed)?;
        for link in by_index.values() {
            match self.attach(link) {
                Ok(true) => followed.attached.push(link.name.clone()),
                Ok(false) => {}
                Err(error) => followed.errors.push((link.name.clone(), error)),
            }
        }
        Ok(followed)
    }

    /// Takes the programs off what is not wanted, and forgets what is gone.
    fn release(
        &self,
        wanted: &BTreeMap<u32, &LinkWanted>,
        followed: &mut Followed,
    ) -> Result<(), LoadError> {
        for pin in self.pins()? {
            let link = bpf::obj_get(&pin.path).map_err(object::failed("open link", &pin.path))?;
            let stands = bpf::link_index(link.as_fd()).unwrap_or(0);
            let is_wanted = wanted
                .get(&pin.index)
                .is_some_and(|link| pin.direction == Direction::In || departs(link));
            if stands == pin.index && is_wanted {
                continue;
            }
            // Already over if its network link is gone.
            let _ = bpf::link_detach(link.as_fd());
            fs::remove_file(&pin.path).map_err(object::failed("remove", &pin.path))?;
        }
        for index in self.attached()? {
            if wanted.contains_key(&index) {
                continue;
            }
            if self.attachment == Attachment::Clsact {
                let _ = clsact::remove(index, filter(&self.directory));
            }
            self.links.delete(&index).map_err(links("remove from"))?;
            followed.released += 1;
        }
        Ok(())
    }

    /// Whether something was attached; the link is known to programs before they run there.
    fn attach(&mut self, wanted: &LinkWanted) -> io::Result<bool> {
        let link = Link {
            flags: if wanted.bridge.is_some() { Link::PORT } else { 0 },
            way_back: wanted.bridge.unwrap_or(wanted.index),
            mtu: wanted.mtu,
            reserved: 0,
            networks: [
                network(&wanted.networks, IpAddr::is_ipv4),
                network(&wanted.networks, IpAddr::is_ipv6),
            ],
        };
        if self.links.get(&wanted.index)? != Some(link) {
            self.links.put(&wanted.index, &link)?;
        }
        // Answers that leave by a port are on their way within the bridge, and those that the node
        // sends there have passed the bridge's own way out.
        let mut attached = false;
        if departs(wanted) {
            attached |= self.attach_one(wanted.index, Direction::Out)?;
        }
        attached |= self.attach_one(wanted.index, Direction::In)?;
        Ok(attached)
    }

    fn attach_one(&mut self, index: u32, direction: Direction) -> io::Result<bool> {
        let (program, attach_type) = match direction {
            Direction::In => (&self.arriving, AttachType::TcxIngress),
            Direction::Out => (&self.departing, AttachType::TcxEgress),
        };
        if self.attachment == Attachment::Clsact {
            return clsact::ensure(index, direction, program.as_fd(), filter(&self.directory));
        }
        let pin = self.pin(index, direction);
        if pin.try_exists()? {
            return Ok(false);
        }
        match bpf::link_create_on(program.as_fd(), index, attach_type) {
            Ok(link) => bpf::obj_pin(link.as_fd(), &pin).map(|()| true),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                self.attachment = Attachment::Clsact;
                self.attach_one(index, direction)
            }
            Err(error) => Err(error),
        }
    }

    fn pin(&self, index: u32, direction: Direction) -> PathBuf {
        self.directory.join(format!("{LINK_PREFIX}{}{index}", direction.prefix()))
    }

    fn attached(&self) -> Result<Vec<u32>, LoadError> {
        let entries = self.links.entries().map_err(links("list"))?;
        Ok(entries.into_iter().map(|(index, _)| index).collect())
    }

    fn pins(&self) -> Result<Vec<Pin>, LoadError> {
        let entries = fs::read_dir(&self.directory);
        let entries = entries.map_err(object::failed("list", &self.directory))?;
        Ok(entries.flatten().filter_map(|entry| Pin::read(&entry.path())).collect())
    }
}

/// Removes the filters of the links that the map in `directory` names. Links of the kernel's own end with their pins.
pub fn teardown(directory: &Path) {
    let links = Table::<u32, Link>::open_pinned(directory, maps::LINKS, maps::LINKS_CAPACITY);
    for (index, _) in links.ok().and_then(|links| links.entries().ok()).unwrap_or_default() {
        // There is none if it is attached by a link, or if the network link is gone.
        let _ = clsact::remove(index, filter(directory));
    }
}

/// Whether answers that leave by it may have to be translated there.
fn departs(link: &LinkWanted) -> bool {
    link.bridge.is_none() && !link.is_tunnel
}

fn filter(directory: &Path) -> Filter<'_> {
    Filter { directory, order: Order::Vips }
}

/// The first of the networks of one family.
fn network(networks: &[(IpAddr, u8)], is_of_family: fn(&IpAddr) -> bool) -> Network {
    let Some((address, length)) = networks.iter().find(|(address, _)| is_of_family(address)) else {
        return Network::NONE;
    };
    // An IPv4 address is the end of a mapped one.
    let length = if address.is_ipv4() { 96 + u32::from(*length) } else { u32::from(*length) };
    let ones = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
    let words = |number: u128| {
        let bytes = number.to_be_bytes();
        Ip16::from_v6_words(std::array::from_fn(|n| {
            u32::from_ne_bytes(std::array::from_fn(|byte| bytes[4 * n + byte]))
        }))
    };
    let whole = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    Network { address: words(whole & ones), mask: words(ones) }
}

/// A pinned link of ours to a network link.
struct Pin {
    path: PathBuf,
    index: u32,
    direction: Direction,
}

impl Pin {
    fn read(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_prefix(LINK_PREFIX)?;
        [Direction::In, Direction::Out].into_iter().find_map(|direction| {
            let index = name.strip_prefix(direction.prefix())?.parse().ok()?;
            Some(Self { path: path.to_owned(), index, direction })
        })
    }
}

fn links(request: &'static str) -> impl FnOnce(io::Error) -> LoadError {
    move |source| crate::MapError::Request { request, map: maps::LINKS, source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_their_members() {
        let at = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let networks = [(at("10.1.2.3"), 20), (at("10.9.0.1"), 24), (at("fd00:1::1"), 64)];
        let v4 = network(&networks, IpAddr::is_ipv4);
        let v6 = network(&networks, IpAddr::is_ipv6);
        for (address, in_v4, in_v6) in [
            ("10.1.15.255", true, false),
            ("10.1.16.0", false, false),
            ("10.9.0.2", false, false),
            ("::ffff:10.1.2.3", true, false),
            ("fd00:1::ffff", false, true),
            ("fd00:1:0:1::1", false, false),
            ("::", false, false),
        ] {
            let address = Ip16::from(at(address));
            assert_eq!((v4.has(address), v6.has(address)), (in_v4, in_v6), "{address:?}");
            assert!(!Network::NONE.has(address) || address == Ip16::UNSPECIFIED);
        }
        assert_eq!(network(&networks[..2], IpAddr::is_ipv6), Network::NONE);
    }
}
