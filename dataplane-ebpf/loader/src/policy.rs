//! Network policy in the kernel, as one value.
//!
//! ```text
//! Policy::open ──▶ <pin_dir>/policy_v1/map_POLICY_CLASSES …, link_connect4 …
//!         follow ──▶ maps, as differences, programs on links and at connects     policy/{maps,links,sockets}.rs
//!         meter, refusals ◀── POLICY_COUNTS, POLICY_EVENTS            policy/meter.rs
//! ```
//!
//! Maps and programs stay while no daemon runs, so nothing that is refused passes for want of one. The overlay's
//! fast path uses the same maps; whoever is opened first makes them.

mod links;
mod maps;
mod meter;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use aya::EbpfLoader;
use mizzen_ebpf_abi::policy::POLICY_ABI_VERSION;
use mizzen_ebpf_abi::policy::maps::{ALL, CLASSES};
use mizzen_ebpf_core::policy::PolicyWanted;

use crate::{LoadError, object, probe, versions};

use links::Links;
use maps::Maps;
pub use meter::{PolicyCounts, PolicyMeter, PolicyPlace, Refusal, Refusals};
use sockets::Sockets;

/// The compiled programs, as committed beside their checksum.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../prebuilt/policy.bpf.o");

/// What there is on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyHere {
    /// Containers' addresses, with the host's end of each one's pair of links (the kernel's number of it).
    pub containers: BTreeMap<IpAddr, u32>,
    /// Tunnels to other nodes (the kernel's numbers).
    pub tunnels: BTreeSet<u32>,
    /// By [`namespace_cookie`](crate::namespace_cookie): whose sockets are refused at once. Those of others are refused on their way.
    pub speakers: BTreeMap<u64, SpeakerWanted>,
}

/// The addresses that the sockets of a network namespace speak from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeakerWanted {
    /// The one IPv4 address.
    pub v4: Option<IpAddr>,
    /// The one IPv6 address.
    pub v6: Option<IpAddr>,
}

/// What one pass changed.
#[derive(Debug, Default)]
pub struct PolicyChanged {
    /// Networks whose class was written or removed.
    pub classes: usize,
    /// Rulings that were written or removed.
    pub rulings: usize,
    /// Links, by number, that could not be attached to: what passes there is **not** judged there.
    pub errors: Vec<(u32, io::Error)>,
}

/// The programs and maps of policies. There must be one writer, so this is not `Clone`.
#[derive(Debug)]
pub struct Policy {
    directory: PathBuf,
    maps: Maps,
    links: Links,
    sockets: Sockets,
}

impl Policy {
    /// Loads the programs, and takes over the maps that an earlier daemon left. `pin_dir` is on a BPF file system;
    /// sockets of processes below `cgroup` are refused when they connect, if `speakers` name them.
    ///
    /// # Errors
    ///
    /// [`LoadError`] with whatever is missing; what was there before goes on.
    pub fn open(pin_dir: &Path, cgroup: Option<&Path>) -> Result<Self, LoadError> {
        probe::probe_machine(pin_dir)?;
        let directory = pin_dir.join(version());
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        pin_maps(&mut loader, pin_dir)?;
        let mut object = loader.load(OBJECT).map_err(|source| LoadError::Object {
            directory: directory.clone(),
            source: Box::new(source),
        })?;
        let maps = Maps::open(&directory)?;
        let links = Links::load(&mut object, pin_dir, &directory)?;
        let sockets = Sockets::load(&mut object, &directory, cgroup)?;
        retire_others(pin_dir)?;
        Ok(Self { directory, maps, links, sockets })
    }

    /// Makes policies what is `wanted`, among what is `here`, in the calling thread's namespace.
    ///
    /// What is allowed before and after is allowed all the time, if no number of a class changes its meaning.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if a map cannot be read or written; links that cannot be attached to are told in the answer.
    pub fn follow(
        &mut self,
        wanted: &PolicyWanted,
        here: &PolicyHere,
    ) -> Result<PolicyChanged, LoadError> {
        let plan = maps::Plan::new(wanted, here);
        let mut changed = PolicyChanged::default();
        self.maps.add(&plan, &mut changed)?;
        self.links.attach(&plan.stands, &mut changed.errors)?;
        match plan.has_speakers() {
            true => self.sockets.attach()?,
            false => self.sockets.detach()?,
        }
        self.maps.remove(&plan, &mut changed)?;
        self.links.detach(&plan.stands)?;
        Ok(changed)
    }

    /// Has the next pass look at every map and link again, even if nothing changed.
    pub fn recheck(&mut self) {
        self.maps.forget();
        self.links.forget();
    }

    /// What reads the counts beside this value, for instance from another thread.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if descriptors run out.
    pub fn meter(&self) -> Result<PolicyMeter, LoadError> {
        PolicyMeter::open(&self.directory)
    }

    /// What tells of refusals. Each is told to one reader only.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the ring cannot be mapped.
    pub fn refusals(&self) -> Result<Refusals, LoadError> {
        Refusals::open(&self.directory)
    }
}

/// Whether the maps of this version are there, as an earlier daemon, or the fast path, made them since the machine started.
#[must_use]
pub fn is_policy_pinned(pin_dir: &Path) -> bool {
    object::map_pin(&pin_dir.join(version()), CLASSES).exists()
}

/// Ends policies: takes the programs off every link that the maps name and removes the maps, of any version. Not an
/// error if nothing is there. To be called in the namespace of these links.
///
/// # Errors
///
/// [`LoadError::Path`] with the first pin that could not be removed.
pub fn teardown_policy(pin_dir: &Path) -> Result<(), LoadError> {
    for directory in versions::directories(pin_dir, PREFIX)? {
        links::teardown(pin_dir, &directory);
        sockets::teardown(&directory)?;
        versions::remove(&directory)?;
    }
    Ok(())
}

/// Has an object use the maps of policies, which are made if they are not there.
pub fn pin_maps(loader: &mut EbpfLoader<'_>, pin_dir: &Path) -> Result<(), LoadError> {
    let directory = pin_dir.join(version());
    fs::create_dir_all(&directory).map_err(object::failed("create", &directory))?;
    for name in ALL {
        loader.map_pin_path(name, object::map_pin(&directory, name));
    }
    Ok(())
}

/// Removes what other versions left; their programs on links were replaced, or are with the next pass.
fn retire_others(pin_dir: &Path) -> Result<(), LoadError> {
    let mut others = versions::directories(pin_dir, PREFIX)?;
    others.retain(|directory| !directory.ends_with(version()));
    others.iter().try_for_each(|directory| versions::remove(directory))
}

/// The beginning of names of directories of these pins.
const PREFIX: &str = "policy_v";

fn version() -> String {
    format!("{PREFIX}{POLICY_ABI_VERSION}")
}
