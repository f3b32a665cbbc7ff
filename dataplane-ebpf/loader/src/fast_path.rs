//! The overlay's fast path in the kernel, as one value.
//!
//! ```text
//! FastPath::open ──▶ <pin_dir>/overlay_v1/map_PEERS …
//!           follow ──▶ programs on tunnels and on containers' links, then the maps, as differences
//!           counts ◀── COUNTS
//! ```
//!
//! The programs are attached to the network links themselves, not by pinned links: they go with the
//! container's link, whoever removes it. Each stands there twice ([`places`](crate::places)). The maps are
//! the truth; a restarted daemon takes them over, and puts its own programs in the place of the old ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::{Ebpf, EbpfLoader};
use mizzen_ebpf_abi::Ip16;
use mizzen_ebpf_abi::overlay::maps::{
    ALIVE, ALIVE_CAPACITY, ALL, COUNTS, COUNTS_CAPACITY, LOCALS, LOCALS_CAPACITY, PEERS,
    PEERS_CAPACITY, SWITCH,
};
use mizzen_ebpf_abi::overlay::{Local, OVERLAY_ABI_VERSION, Peer, Prefix, Switch, counter};
pub use mizzen_ebpf_core::paths::{ContainerWanted, FastPathWanted, PeerWanted};

use crate::differences::{Part, apply, failed, prefix};
use crate::places::{Programs, Stand};
use crate::policy::teardown_policy;
use crate::table::Table;
use crate::{LoadError, bpf, object, places, policy, probe, versions};

/// The compiled programs, as committed beside their checksum.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../prebuilt/overlay.bpf.o");

/// What one pass changed.
#[derive(Debug, Default)]
pub struct FastPathChanged {
    /// Networks of peers that were written or removed.
    pub peers: usize,
    /// Addresses of containers that were written or removed.
    pub containers: usize,
    /// Links, by number, that could not be attached to; what leads over them takes the ordinary path.
    pub errors: Vec<(u32, io::Error)>,
}

/// What the programs counted, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastPathCounts {
    /// From a container straight into a tunnel.
    pub sent: u64,
    /// From a tunnel straight into a container.
    pub delivered: u64,
    /// From a container straight into one beside it.
    pub beside: u64,
    /// Left to the ordinary path for their size or age.
    pub left: u64,
}

/// Reads the counts of the programs.
#[derive(Debug)]
pub struct FastPathMeter {
    counts: OwnedFd,
}

/// The programs and maps of the fast path. There must be one writer, so this is not `Clone`.
#[derive(Debug)]
pub struct FastPath {
    pin_dir: PathBuf,
    programs: Programs,
    maps: Maps,
    meter: FastPathMeter,
    /// Links that the programs of this process stand on.
    attached: BTreeSet<u32>,
}

impl FastPath {
    /// Loads the programs, and takes over the maps that an earlier daemon left. `pin_dir` is on a BPF file system.
    ///
    /// # Errors
    ///
    /// [`LoadError`] with whatever is missing; what was there before goes on.
    pub fn open(pin_dir: &Path) -> Result<Self, LoadError> {
        probe::probe_machine(pin_dir)?;
        let directory = pin_dir.join(version());
        let mut object = create_maps(pin_dir, &directory)?;
        let counts = object::map_pin(&directory, COUNTS);
        Ok(Self {
            pin_dir: pin_dir.to_owned(),
            programs: Programs::load(&mut object, pin_dir)?,
            maps: Maps::open(&directory)?,
            meter: FastPathMeter {
                counts: bpf::obj_get(&counts).map_err(object::failed("open map", &counts))?,
            },
            attached: BTreeSet::new(),
        })
    }

    /// Makes exactly what is `wanted` take the fast path, among the links of the calling thread's namespace.
    ///
    /// A container's address is known last and forgotten first, so no packet is handed to a link that is not
    /// prepared for its answer.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if a map cannot be read or written; links that cannot be attached to are told in the answer.
    pub fn follow(&mut self, wanted: &FastPathWanted) -> Result<FastPathChanged, LoadError> {
        let mut changed = FastPathChanged::default();
        let is_on = !wanted.containers.is_empty();
        if !is_on {
            self.maps.switch(false)?;
        }
        let links = links(wanted);
        self.attach(&links, &mut changed);
        let peers = wanted.peers.iter().map(|(net, peer)| (prefix(*net), self::peer(peer)));
        // A container whose link cannot be attached to could be sent to but not answer.
        let is_attached = |container: &ContainerWanted| {
            self.attached.contains(&container.link) && self.attached.contains(&container.tunnel)
        };
        let containers: BTreeMap<Ip16, Local> = wanted
            .containers
            .iter()
            .filter(|(_, container)| is_attached(container))
            .map(|(address, container)| ((*address).into(), local(container)))
            .collect();
        let forgotten = apply(&self.maps.locals, LOCALS, &containers, Part::Removals)?;
        changed.peers = self.maps.set_peers(peers)?;
        self.maps.set_alive(&containers, &forgotten)?;
        let written = apply(&self.maps.locals, LOCALS, &containers, Part::Additions)?;
        changed.containers = forgotten.len() + written.len();
        if is_on {
            // Whatever a program has found out before counts no more.
            self.maps.switch(true)?;
        }
        self.detach(&links);
        self.programs.keep()?;
        self.retire_others()?;
        Ok(changed)
    }

    /// Has the next pass look at every link again, even if nothing changed.
    pub fn recheck(&mut self) {
        self.attached.clear();
    }

    /// Reads what the programs counted since the maps were made.
    ///
    /// # Errors
    ///
    /// [`LoadError::Overlay`] if the kernel refuses.
    pub fn counts(&self) -> Result<FastPathCounts, LoadError> {
        self.meter.counts()
    }

    /// What reads the counts beside this value, for instance from another thread.
    ///
    /// # Errors
    ///
    /// [`LoadError::Overlay`] if descriptors run out.
    pub fn meter(&self) -> Result<FastPathMeter, LoadError> {
        let counts = self.meter.counts.try_clone().map_err(failed("open", COUNTS))?;
        Ok(FastPathMeter { counts })
    }

    fn attach(&mut self, links: &BTreeMap<u32, Stand>, changed: &mut FastPathChanged) {
        for (index, stand) in links {
            if self.attached.contains(index) {
                continue;
            }
            match self.programs.attach(*index, *stand) {
                Ok(()) => drop(self.attached.insert(*index)),
                Err(error) => changed.errors.push((*index, error)),
            }
        }
    }

    fn detach(&mut self, links: &BTreeMap<u32, Stand>) {
        let programs = &self.programs;
        self.attached.retain(|index| {
            let is_wanted = links.contains_key(index);
            if !is_wanted {
                programs.detach(*index);
            }
            is_wanted
        });
    }

    /// Removes the maps of other versions: no program uses them any more.
    fn retire_others(&self) -> Result<(), LoadError> {
        let mut others = versions::directories(&self.pin_dir, PREFIX)?;
        others.retain(|directory| !directory.ends_with(version()));
        others.iter().try_for_each(|directory| versions::remove(directory))
    }
}

impl FastPathMeter {
    /// Reads what the programs counted since the maps were made.
    ///
    /// # Errors
    ///
    /// [`LoadError::Overlay`] if the kernel refuses.
    pub fn counts(&self) -> Result<FastPathCounts, LoadError> {
        let read = |index: u32| self.count(index).map_err(failed("read", COUNTS));
        Ok(FastPathCounts {
            sent: read(counter::SENT)?,
            delivered: read(counter::DELIVERED)?,
            beside: read(counter::BESIDE)?,
            left: read(counter::LEFT)?,
        })
    }

    fn count(&self, index: u32) -> io::Result<u64> {
        let mut values = vec![0; bpf::possible_cpus()? * size_of::<u64>()];
        // SAFETY: the map's keys are numbers, and it has one value of eight bytes for each CPU.
        unsafe { bpf::lookup(self.counts.as_fd(), &index.to_ne_bytes(), &mut values) }?;
        let (values, _) = values.as_chunks();
        Ok(values.iter().map(|value| u64::from_ne_bytes(*value)).sum())
    }
}

/// Takes the programs off every link that the maps name and removes the maps, of any version, and those of policies with
/// them. Not an error if nothing is there. To be called in the namespace of these links.
///
/// # Errors
///
/// [`LoadError::Path`] with the first pin that could not be removed.
pub fn teardown_fast_path(pin_dir: &Path) -> Result<(), LoadError> {
    for directory in versions::directories(pin_dir, PREFIX)? {
        let maps = Maps::open(&directory);
        let links = maps.and_then(|maps| maps.links()).unwrap_or_default();
        places::teardown(pin_dir, &links)?;
        versions::remove(&directory)?;
    }
    // The programs of the fast path use these maps too, and may have made them.
    teardown_policy(pin_dir)
}

/// Links that programs have to stand on.
fn links(wanted: &FastPathWanted) -> BTreeMap<u32, Stand> {
    let tunnels = wanted.containers.values().map(|container| (container.tunnel, Stand::Tunnel));
    let containers = wanted.containers.values().map(|container| (container.link, Stand::Container));
    containers.chain(tunnels).collect()
}

/// The maps that are written.
#[derive(Debug)]
struct Maps {
    peers: Table<Prefix, Peer>,
    locals: Table<Ip16, Local>,
    /// The kernel's `bpf_devmap_val`: a link and a program, of which there is none.
    alive: Table<u32, [u32; 2]>,
    switch: Table<u32, Switch>,
}

impl Maps {
    fn open(directory: &Path) -> Result<Self, LoadError> {
        Ok(Self {
            peers: Table::open_pinned(directory, PEERS, PEERS_CAPACITY)?,
            locals: Table::open_pinned(directory, LOCALS, LOCALS_CAPACITY)?,
            alive: Table::open_pinned(directory, ALIVE, ALIVE_CAPACITY)?,
            switch: Table::open_pinned(directory, SWITCH, 1)?,
        })
    }

    fn switch(&self, is_on: bool) -> Result<(), LoadError> {
        let present = self.switch.get(&0).map_err(failed("read", SWITCH))?.unwrap_or_default();
        let switch =
            Switch { on: u32::from(is_on), generation: present.generation.wrapping_add(1).max(1) };
        self.switch.put(&0, &switch).map_err(failed("write to", SWITCH))
    }

    /// Returns how many differed.
    fn set_peers(&self, wanted: impl Iterator<Item = (Prefix, Peer)>) -> Result<usize, LoadError> {
        let wanted: BTreeMap<Prefix, Peer> = wanted.collect();
        let written = apply(&self.peers, PEERS, &wanted, Part::Additions)?.len();
        // A network that was cut in two has its parts by now.
        Ok(written + apply(&self.peers, PEERS, &wanted, Part::Removals)?.len())
    }

    fn set_alive(
        &self,
        containers: &BTreeMap<Ip16, Local>,
        forgotten: &[(Ip16, Local)],
    ) -> Result<(), LoadError> {
        let links: BTreeSet<u32> = containers.values().map(|container| container.link).collect();
        for (_, container) in forgotten {
            if !links.contains(&container.link) {
                // The kernel has done it if the link is gone.
                self.alive.delete(&container.link).map_err(failed("remove from", ALIVE))?;
            }
        }
        for link in &links {
            if self.alive.get(link).map_err(failed("read", ALIVE))?.is_none() {
                match self.alive.put(link, &[*link, 0]) {
                    // It went meanwhile; the next pass knows.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                    other => other.map_err(failed("write to", ALIVE))?,
                }
            }
        }
        Ok(())
    }

    fn links(&self) -> Result<BTreeSet<u32>, LoadError> {
        let locals = self.locals.entries().map_err(failed("list", LOCALS))?;
        Ok(locals.iter().flat_map(|(_, local)| [local.link, local.tunnel]).collect())
    }
}

/// A peer as programs read it.
fn peer(wanted: &PeerWanted) -> Peer {
    Peer {
        tunnel: wanted.tunnel,
        mtu: wanted.mtu,
        group: wanted.group,
        flags: if wanted.is_narrow { Peer::NARROW } else { 0 },
        target: wanted.target.into(),
        source: wanted.source.into(),
    }
}

/// A container as programs read it.
fn local(wanted: &ContainerWanted) -> Local {
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    Local {
        link: wanted.link,
        tunnel: wanted.tunnel,
        mtu: wanted.mtu,
        group: wanted.group,
        flags: flag(wanted.sends, Local::SENDS)
            | flag(wanted.receives, Local::RECEIVES)
            | flag(wanted.hooked, Local::HOOKED),
        target: wanted.target.into(),
        source: wanted.source.into(),
    }
}

/// The beginning of names of directories of this object's pins.
const PREFIX: &str = "overlay_v";

fn version() -> String {
    format!("{PREFIX}{OVERLAY_ABI_VERSION}")
}

fn create_maps(pin_dir: &Path, directory: &Path) -> Result<Ebpf, LoadError> {
    fs::create_dir_all(directory).map_err(object::failed("create", directory))?;
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    policy::pin_maps(&mut loader, pin_dir)?;
    for name in ALL {
        loader.map_pin_path(name, object::map_pin(directory, name));
    }
    loader.load(OBJECT).map_err(|source| LoadError::Object {
        directory: directory.to_owned(),
        source: Box::new(source),
    })
}

const _: () = assert!(COUNTS_CAPACITY > counter::LEFT as usize, "a place for every counter");
