//! The VIP dataplane in the kernel, as one value.
//!
//! ```text
//! Dataplane::open ──▶ programs attached to a cgroup, maps and links pinned
//!           set_vip ──▶ SLOTS (new run) ─▶ VIPS (swap) ─▶ old run rests
//!           observe ◀── VIPS, SLOTS          counters ◀── ROWS
//! ```
//!
//! The maps are the truth: nothing about a VIP is remembered here, and a restarted
//! daemon learns everything from them. Dropping a [`Dataplane`] leaves translation
//! running; [`teardown`] ends it.

mod bpf;
mod error;
mod extents;
mod object;
mod probe;
mod slab;
mod table;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;

use slab::Slab;

pub use error::{LoadError, MapError};
pub use probe::{ProbeError, probe};
pub use words::{Admission, BackendState, BackendWanted, Counts, TCP, UDP, VipAddress};

/// Where the dataplane lives.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory on a BPF file system that is ours alone; pins lie below it in `v<ABI version>`.
    pub pin_dir: PathBuf,
    /// Directory of the cgroup (v2) whose processes see VIPs, in whatever network namespace.
    pub cgroup: PathBuf,
}

/// The loaded dataplane. There must be one writer, so this is not `Clone`.
#[derive(Debug)]
pub struct Dataplane {
    slab: Slab,
}

impl Dataplane {
    /// Loads the programs and attaches them, in the place of those that an earlier daemon left.
    ///
    /// Maps that an earlier daemon left are taken over with all they hold. There is no moment at
    /// which connects are not translated.
    ///
    /// # Errors
    ///
    /// [`LoadError`] with whatever is missing; what was there before goes on.
    pub fn open(options: &Options) -> Result<Self, LoadError> {
        probe(options)?;
        let directory = object::pin_directory(options);
        let mut object = object::create_maps(&directory)?;
        let slab = Slab::open(&directory)?;
        object::attach(&mut object, &directory, &options.cgroup)?;
        let cgroup = options.cgroup.display();
        tracing::info!(pins = %directory.display(), %cgroup, "VIP programs attached");
        Ok(Self { slab })
    }

    /// Reads from the maps which VIPs there are and which backends they have, by address.
    ///
    /// # Errors
    ///
    /// [`MapError::Request`] or [`MapError::Vip`] if the kernel refuses.
    pub fn observe(&self) -> Result<BTreeMap<VipAddress, Vec<BackendState>>, MapError> {
        let runs = self.slab.runs()?;
        Ok(runs
            .into_iter()
            .map(|(vip, run)| (vip, run.slots.iter().map(BackendState::from_slot).collect()))
            .collect())
    }

    /// Makes the backends of `vip` exactly those `wanted`; with none, every connect is refused.
    ///
    /// A connect meets the old backends or the new ones, never a mixture. A backend that stays
    /// keeps its id and its counts. Nothing is written if nothing differs.
    ///
    /// # Errors
    ///
    /// [`MapError`]; the VIP then is what it was.
    pub fn set_vip(&mut self, vip: VipAddress, wanted: &[BackendWanted]) -> Result<(), MapError> {
        self.slab.set(vip, wanted)
    }

    /// Stops translating `vip`; connections that exist go on. Not an error if there is none.
    ///
    /// # Errors
    ///
    /// [`MapError::Vip`] if the kernel refuses.
    pub fn remove_vip(&mut self, vip: VipAddress) -> Result<(), MapError> {
        self.slab.remove(vip)
    }

    /// Reads the counts of every backend of every VIP.
    ///
    /// # Errors
    ///
    /// [`MapError::Request`] or [`MapError::Vip`] if the kernel refuses.
    pub fn counters(
        &self,
    ) -> Result<BTreeMap<(VipAddress, std::net::SocketAddr), Counts>, MapError> {
        let runs = self.slab.runs()?;
        let rows = self.slab.rows(&runs)?;
        let mut counts = BTreeMap::new();
        for (vip, run) in &runs {
            for slot in &run.slots {
                let row = rows.get(slot.row as usize);
                counts.insert(
                    (*vip, words::slot_address(slot)),
                    row.map(Counts::from).unwrap_or_default(),
                );
            }
        }
        Ok(counts)
    }

    /// Reads how many connects and datagrams each VIP refused for want of an admitted backend.
    ///
    /// # Errors
    ///
    /// [`MapError::Request`] or [`MapError::Vip`] if the kernel refuses.
    pub fn refusals(&self) -> Result<BTreeMap<VipAddress, u64>, MapError> {
        let runs = self.slab.runs()?;
        let rows = self.slab.rows(&runs)?;
        Ok(runs
            .iter()
            .map(|(vip, run)| (*vip, rows.get(run.value.row as usize).map_or(0, |row| row.refused)))
            .collect())
    }
}

/// Ends translation and removes every pin, of any ABI version. Connections that exist go on.
///
/// Not an error if nothing is there. No [`Dataplane`] on the same directory may be in use.
///
/// # Errors
///
/// [`LoadError::Teardown`] with the first pin that could not be removed, after trying all.
pub fn teardown(options: &Options) -> Result<(), LoadError> {
    object::teardown(options)?;
    tracing::info!(pins = %options.pin_dir.display(), "VIP programs removed");
    Ok(())
}
