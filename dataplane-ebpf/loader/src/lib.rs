//! The VIP dataplane in the kernel, as one value, and beside it the overlay's fast path ([`FastPath`]) and network
//! policy ([`Policy`]).
//!
//! ```text
//! Dataplane::open ──▶ programs attached to a cgroup, maps and links pinned
//!           set_vips ──▶ SLOTS, RINGS (new run) ─▶ VIPS (swap) ─▶ old run rests
//!           observe ◀── VIPS, SLOTS     counters ◀── ROWS     latencies ◀── HISTOGRAMS
//!           sockets ◀── SOCKETS     arriving ◀── FLOWS
//!           follow_links ──▶ programs attached to network links
//! ```
//!
//! The maps are the truth: nothing about a VIP is remembered here but where in a long run its
//! backends are, and a restarted daemon learns everything from them. Dropping a [`Dataplane`] leaves translation
//! running; [`teardown`] ends it.

mod bpf;
mod clock;
mod clsact;
mod compare;
mod differences;
mod draft;
mod error;
mod extents;
mod fast_path;
mod features;
mod flows;
mod histograms;
mod ingress;
mod leavers;
mod mapped;
mod namespace;
mod object;
mod places;
mod policy;
mod probe;
mod recount;
mod slab;
mod sockets;
mod standing;
mod table;
mod versions;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use flows::Flows;
use ingress::Ingress;
use recount::{Recount, Suspicions};
use slab::Slab;

pub use error::{LoadError, MapError};
pub use fast_path::{
    ContainerWanted, FastPath, FastPathChanged, FastPathCounts, FastPathMeter, FastPathWanted,
    PeerWanted, teardown_fast_path,
};
pub use features::probe_bpf_feature;
pub use flows::ArrivingFlow;
pub use ingress::{Attachment, Followed, LinkWanted};
pub use leavers::{Leaver, SocketTable};
pub use mizzen_ebpf_abi::policy::JUDGED_MARK;
pub use mizzen_ebpf_core::account::{Counts, Reason};
pub use mizzen_ebpf_core::words::{
    Admission, BackendWanted, Distance, Latencies, Locality, Removal, Rule, TCP, Tuning, UDP,
    VipAddress,
};
pub use namespace::namespace_cookie;
pub use policy::{
    Policy, PolicyChanged, PolicyCounts, PolicyHere, PolicyMeter, PolicyPlace, Refusal, Refusals,
    SpeakerWanted, is_policy_pinned, teardown_policy,
};
pub use probe::{ProbeError, probe, probe_pins};
pub use sockets::{Socket, Stage};
pub use standing::Standing;
pub use words::{VipState, VipWanted};

/// What one [`Dataplane::set_vips`] could not do.
#[derive(Debug, Default)]
pub struct Changed {
    /// VIPs that could not be what was wanted, and are what they were.
    pub errors: Vec<(VipAddress, MapError)>,
}

/// Where the dataplane lives.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory on a BPF file system that is ours alone; pins lie below it in `v<ABI version>`.
    pub pin_dir: PathBuf,
    /// Directory of the cgroup (v2) whose processes see VIPs, in whatever network namespace.
    pub cgroup: PathBuf,
    /// By what the programs judge backends.
    pub tuning: Tuning,
}

/// The loaded dataplane. There must be one writer, so this is not `Clone`.
#[derive(Debug)]
pub struct Dataplane {
    slab: Slab,
    flows: Flows,
    /// Missing where the kernel takes the other programs and not these.
    ingress: Result<Ingress, Arc<LoadError>>,
    suspicions: Suspicions,
    pin_dir: PathBuf,
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
        let mut slab = Slab::open(&directory)?;
        slab.set(words::settings(&options.tuning, namespace::own_cookie().unwrap_or_default()));
        object::attach(&mut object, &directory, &options.cgroup)?;
        let flows = Flows::open(&directory)?;
        let ingress = Ingress::open(&mut object, &directory).map_err(Arc::new);
        let cgroup = options.cgroup.display();
        tracing::info!(pins = %directory.display(), %cgroup, "VIP programs attached");
        let (suspicions, pin_dir) = (Suspicions::default(), options.pin_dir.clone());
        Ok(Self { slab, flows, ingress, suspicions, pin_dir })
    }

    /// Makes the programs for traffic that arrives stand on these network links of the calling thread's namespace, and
    /// on no others. They go on while no daemon runs.
    ///
    /// # Errors
    ///
    /// [`LoadError::Arriving`] if the kernel takes none of these programs; others if pins cannot be used. Links that
    /// cannot be attached to are told in the answer, and the others are done.
    pub fn follow_links(&mut self, wanted: &[LinkWanted]) -> Result<Followed, LoadError> {
        match &mut self.ingress {
            Ok(ingress) => ingress.follow(wanted),
            Err(_) if wanted.is_empty() => Ok(Followed::default()),
            Err(source) => Err(LoadError::Arriving { source: Arc::clone(source) }),
        }
    }

    /// How programs are attached to network links; nothing if the kernel takes none.
    #[must_use]
    pub fn attachment(&self) -> Option<Attachment> {
        self.ingress.as_ref().ok().map(Ingress::attachment)
    }

    /// Attaches to network links by filters from now on, as is done by itself on kernels before 6.6.
    pub fn use_clsact(&mut self) {
        if let Ok(ingress) = &mut self.ingress {
            ingress.use_clsact();
        }
    }

    /// Reads from the maps which VIPs there are and what they are like.
    ///
    /// # Errors
    ///
    /// [`MapError::Request`] if the kernel refuses.
    pub fn observe(&self) -> Result<BTreeMap<VipAddress, VipState>, MapError> {
        let runs = self.slab.runs()?;
        let state = |run: &slab::Run| {
            let spec = run.spec();
            let mut pairs: Vec<(BackendWanted, u32)> =
                spec.backends.iter().copied().zip(run.slots.iter().map(|slot| slot.row)).collect();
            pairs.sort_unstable_by_key(|(backend, _)| backend.address);
            let (backends, ids) = pairs.into_iter().unzip();
            VipState { spec: VipWanted { backends, ..spec }, ids }
        };
        Ok(runs.iter().map(|(vip, run)| (*vip, state(run))).collect())
    }

    /// Makes `vip` exactly what is `wanted`; without admitted backends, every connect is refused.
    ///
    /// A connect meets the old backends or the new ones, never a mixture. A backend that stays
    /// keeps its id, its counts and its standing. Nothing is written if nothing differs.
    ///
    /// # Errors
    ///
    /// [`MapError`]; the VIP then is what it was.
    pub fn set_vip(&mut self, vip: VipAddress, wanted: &VipWanted) -> Result<(), MapError> {
        let errors = self.slab.set_vips([(vip, wanted)].into_iter());
        errors.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Reads what a VIP is, in the words of [`Dataplane::set_vip`]: its open backends first, of those the nearest, in the
    /// order of addresses among equals. None if there is no such VIP.
    ///
    /// # Errors
    ///
    /// [`MapError::Vip`] if the kernel refuses.
    pub fn wish(&self, vip: VipAddress) -> Result<Option<VipWanted>, MapError> {
        self.slab.wish(vip)
    }

    /// Changes some backends of `vip`, each by its address: what it is from now on, nothing if it leaves. Of `policy`
    /// everything but the backends counts. False if the VIP has to be set as a whole; some may have changed by then.
    ///
    /// That costs the same however many backends there are. A connect may meet some of the changes before others, each
    /// of them whole.
    ///
    /// # Errors
    ///
    /// [`MapError`]; some of it may be done then.
    pub fn change_vip(
        &mut self,
        vip: VipAddress,
        policy: &VipWanted,
        touched: &BTreeMap<SocketAddr, Option<BackendWanted>>,
    ) -> Result<bool, MapError> {
        self.slab.change(vip, policy, touched)
    }

    /// Does [`Dataplane::set_vip`] for many at once. One that fails keeps no other from changing.
    pub fn set_vips(&mut self, wanted: &[(VipAddress, VipWanted)]) -> Changed {
        let wanted = wanted.iter().map(|(vip, wanted)| (*vip, wanted));
        Changed { errors: self.slab.set_vips(wanted) }
    }

    /// Stops translating `vip`; connections that exist go on. Not an error if there is none.
    ///
    /// # Errors
    ///
    /// [`MapError::Vip`] if the kernel refuses.
    pub fn remove_vip(&mut self, vip: VipAddress) -> Result<(), MapError> {
        self.slab.remove(vip)
    }

    /// Ends the translation by programs of other ABI versions, and removes their pins. To be called once every VIP
    /// is set; until then they go on translating beside the new ones. Returns how many versions there were.
    ///
    /// Connections that they translated go on; their peers are shown as backends from then on.
    ///
    /// # Errors
    ///
    /// [`LoadError`] with the first pin that could not be removed, after trying all.
    pub fn retire_other_versions(&self) -> Result<usize, LoadError> {
        let versions = object::retire_others(&self.pin_dir)?;
        if versions > 0 {
            tracing::info!(versions, "VIP programs of other versions removed");
        }
        Ok(versions)
    }

    /// Tells the programs by what to judge backends, from the next connect on.
    pub fn tune(&mut self, tuning: &Tuning) {
        self.slab.set(words::settings(tuning, self.slab.settings().netns));
    }

    /// By what the programs judge backends.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        words::tuning(&self.slab.settings())
    }

    /// Reads the counts of every backend of every VIP.
    ///
    /// # Errors
    ///
    /// [`MapError::Request`] if the kernel refuses.
    pub fn counters(&self) -> Result<BTreeMap<(VipAddress, SocketAddr), Counts>, MapError> {
        let now = clock::monotonic();
        let mut counts = BTreeMap::new();
        for (vip, run) in self.slab.runs()? {
            for slot in &run.slots {
                let row = self.slab.rows.get(slot.row);
                let row = row.map(|row| words::counts_at(&row, now)).unwrap_or_default();
                counts.insert((vip, words::slot_address(slot)), row);
            }
        }
        Ok(counts)
    }

    /// Reads the latencies of every backend of a VIP that has histograms: handshakes, connections.
    ///
    /// # Errors
    ///
    /// [`MapError`] if the kernel refuses.
    pub fn latencies(
        &self,
        vip: VipAddress,
    ) -> Result<BTreeMap<SocketAddr, (Latencies, Latencies)>, MapError> {
        let mut latencies = BTreeMap::new();
        for slot in self.slab.present(vip)?.map(|run| run.slots).unwrap_or_default() {
            let Some(row) = self.slab.rows.get(slot.row) else { continue };
            let read = self.slab.histograms.read(row.histogram);
            let read = read.map_err(|source| MapError::Vip {
                request: "read",
                vip,
                map: mizzen_ebpf_abi::maps::HISTOGRAMS,
                source,
            })?;
            if let Some(pair) = read {
                latencies.insert(words::slot_address(&slot), pair);
            }
        }
        Ok(latencies)
    }

    /// Reads every socket that was translated and is not forgotten yet, the open ones and some of those that ended.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        sockets::all(&self.slab)
    }

    /// Reads every flow that arrived from elsewhere and is not forgotten yet.
    ///
    /// # Errors
    ///
    /// [`MapError::Request`] if the kernel refuses.
    pub fn arriving_flows(&self) -> Result<Vec<ArrivingFlow>, MapError> {
        self.flows.all(&self.slab)
    }

    /// Backends that left their VIP since this was asked last, and whose sockets are to be ended now.
    #[must_use]
    pub fn take_leavers(&mut self) -> Vec<Leaver> {
        std::mem::take(&mut self.slab.leavers)
    }

    /// The tables of translated sockets and flows, for a thread of its own to look for those of backends that left.
    ///
    /// # Errors
    ///
    /// The kernel's, if descriptors run out.
    pub fn socket_table(&self) -> io::Result<SocketTable> {
        let Slab { owners, sockets, rows, origins, .. } = &self.slab;
        let (owners, sockets, rows) = (owners.again()?, sockets.again()?, rows.again()?);
        let (spilled, flows) = (origins.again()?, self.flows.again()?);
        Ok(SocketTable { owners, sockets, rows, spilled, flows })
    }

    /// Frees what unconnected datagram sockets and arriving flows that fell silent still hold, and takes off the backends'
    /// loads what nobody else will: connections whose records were pushed out of a full table. To be called now and then.
    ///
    /// # Errors
    ///
    /// [`MapError::Request`] if the kernel refuses; the rest is done the next time.
    pub fn expire_flows(&mut self) -> Result<(), MapError> {
        let mut recount = Recount::begin(&self.slab)?;
        sockets::expire(&self.slab, &mut recount)?;
        self.flows.expire(&self.slab, &mut recount)?;
        let taken = recount.finish(&self.slab, &mut self.suspicions);
        if taken > 0 {
            tracing::info!(connections = taken, "took lost connections off their backends");
        }
        Ok(())
    }

    /// Reads how many connects and datagrams each VIP refused for want of an admitted backend.
    ///
    /// # Errors
    ///
    /// [`MapError::Request`] if the kernel refuses.
    pub fn refusals(&self) -> Result<BTreeMap<VipAddress, u64>, MapError> {
        let refused = |row| self.slab.rows.get(row).map_or(0, |row| row.refused);
        Ok(self.slab.runs()?.iter().map(|(vip, run)| (*vip, refused(run.value.row))).collect())
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
    if object::teardown(options)? {
        tracing::info!(pins = %options.pin_dir.display(), "VIP programs removed");
    }
    Ok(())
}
