//! The balancer's tables, kept as the planner wants them.
//!
//! A change of one service writes that service. A pass over all of them compares
//! with what the maps hold and writes what differs, so a restart, which finds the
//! maps of the former process, writes nothing if nothing changed.

use mizzen_ebpf_loader::{
    Admission, BackendState, BackendWanted, Dataplane, LoadError, MapError, VipAddress,
};
pub use mizzen_ebpf_loader::{Counts, Options};
use mizzen_plan::vip::{Action, difference};
use mizzen_types::vip::{BackendSpec, Distance, Protocol, VipKey, VipSpec};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What balances.
#[derive(Debug)]
pub enum Vips {
    /// Programs in the kernel.
    Ebpf(Dataplane),
    /// Nothing; services are planned and named, and cannot be connected to.
    Off,
}

/// Counts of one backend of one service since it has been there.
pub type BackendCounts = BTreeMap<(VipKey, SocketAddr), Counts>;

impl Vips {
    /// Loads the programs, or takes over those of a former process.
    ///
    /// # Errors
    ///
    /// [`LoadError`] says what the machine or the user lacks.
    pub fn open(options: &Options) -> Result<Self, LoadError> {
        Dataplane::open(options).map(Self::Ebpf)
    }

    /// The engine's name, as the configuration spells it.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        match self {
            Self::Ebpf(_) => "ebpf",
            Self::Off => "off",
        }
    }

    /// Makes or changes one service.
    ///
    /// # Errors
    ///
    /// [`MapError`] if the kernel refuses; the service is then what it was.
    pub fn set(&mut self, spec: &VipSpec) -> Result<(), MapError> {
        let Self::Ebpf(dataplane) = self else { return Ok(()) };
        let wanted: Vec<BackendWanted> = spec.backends.iter().map(wanted).collect();
        dataplane.set_vip(address(&spec.key), &wanted)
    }

    /// Removes one service; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`MapError`] if the kernel refuses.
    pub fn remove(&mut self, vip: &VipKey) -> Result<(), MapError> {
        match self {
            Self::Ebpf(dataplane) => dataplane.remove_vip(address(vip)),
            Self::Off => Ok(()),
        }
    }

    /// Brings all services into shape: what is not `desired` goes, what differs is
    /// written.
    ///
    /// # Errors
    ///
    /// The first [`MapError`], after everything else was tried.
    pub fn reconcile(&mut self, desired: &BTreeMap<VipKey, VipSpec>) -> Result<(), MapError> {
        let Self::Ebpf(dataplane) = self else { return Ok(()) };
        let observed = observe(dataplane)?;
        let mut first = Ok(());
        for action in difference(desired, &observed) {
            let done = match &action {
                Action::Set(spec) => self.set(spec),
                Action::Remove(vip) => self.remove(vip),
            };
            first = first.and(done);
        }
        first
    }

    /// What became of connections, by service and backend.
    ///
    /// # Errors
    ///
    /// [`MapError`] if the kernel refuses.
    pub fn counts(&self) -> Result<BackendCounts, MapError> {
        let Self::Ebpf(dataplane) = self else { return Ok(BTreeMap::new()) };
        let counts = dataplane.counters()?;
        Ok(counts
            .into_iter()
            .filter_map(|((vip, backend), counts)| Some(((key(&vip)?, backend), counts)))
            .collect())
    }
}

/// Removes programs, maps and pins. Nothing there is fine.
///
/// # Errors
///
/// [`LoadError`] with the first pin that would not go.
pub fn teardown(options: &Options) -> Result<(), LoadError> {
    mizzen_ebpf_loader::teardown(options)
}

fn observe(dataplane: &Dataplane) -> Result<BTreeMap<VipKey, Vec<BackendSpec>>, MapError> {
    let observed = dataplane.observe()?;
    Ok(observed
        .into_iter()
        .filter_map(|(vip, backends)| Some((key(&vip)?, backends.iter().map(spec).collect())))
        .collect())
}

fn address(vip: &VipKey) -> VipAddress {
    let socket = SocketAddr::new(vip.address, vip.port);
    VipAddress { socket, protocol: vip.protocol.number() }
}

/// `None` for a transport that no plan asks for, so that it was written by somebody
/// else.
fn key(vip: &VipAddress) -> Option<VipKey> {
    let protocol =
        [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.number() == vip.protocol)?;
    Some(VipKey { address: vip.socket.ip(), port: vip.socket.port(), protocol })
}

fn wanted(backend: &BackendSpec) -> BackendWanted {
    let admission = if backend.admitted { Admission::Admitted } else { Admission::Withheld };
    BackendWanted { address: backend.address, weight: backend.weight, admission }
}

fn spec(backend: &BackendState) -> BackendSpec {
    let admitted = backend.admission == Admission::Admitted;
    let distance = Distance::default();
    BackendSpec { address: backend.address, weight: backend.weight, admitted, distance, task: None }
}
