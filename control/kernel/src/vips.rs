//! The balancer's tables, kept as the planner wants them.
//!
//! A change of one service writes that service. A pass over all of them compares
//! with what the maps hold and writes what differs, so a restart, which finds the
//! maps of the former process, writes nothing if nothing changed.

use mizzen_ebpf_loader::{
    self as loader, Admission, BackendWanted, Dataplane, LoadError, MapError, Removal, VipAddress,
    VipWanted,
};
pub use mizzen_ebpf_loader::{Counts, Latencies, Options, Reason, Socket, Stage, Tuning};
use mizzen_types::vip::{
    BackendSpec, Distance, Locality, OnRemoval, Protocol, Rule, VipKey, VipSpec,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What balances.
#[derive(Debug)]
pub enum Vips {
    /// Programs in the kernel.
    Ebpf(Box<Dataplane>),
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
        Dataplane::open(options).map(Box::new).map(Self::Ebpf)
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
        match self {
            Self::Ebpf(dataplane) => dataplane.set_vip(address(&spec.key), &wanted(spec)).map(drop),
            Self::Off => Ok(()),
        }
    }

    /// Removes one service; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`MapError`] if the kernel refuses.
    pub fn remove(&mut self, vip: &VipKey) -> Result<(), MapError> {
        match self {
            Self::Ebpf(dataplane) => dataplane.remove_vip(address(vip)).map(drop),
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
        let all: Vec<(VipAddress, VipWanted)> =
            desired.iter().map(|(vip, spec)| (address(vip), wanted(spec))).collect();
        let mut first = Ok(());
        for vip in dataplane.observe()?.into_keys() {
            if !key(&vip).is_some_and(|key| desired.contains_key(&key)) {
                first = first.and(dataplane.remove_vip(vip).map(drop));
            }
        }
        let refused = dataplane.set_vips(&all).errors.into_iter().next();
        first.and(refused.map_or(Ok(()), |(_, error)| Err(error)))
    }

    /// Times of handshakes and lives of connections, by backend of one service; of those that have histograms.
    ///
    /// # Errors
    ///
    /// [`MapError`] if the kernel refuses.
    pub fn latencies(
        &self,
        vip: &VipKey,
    ) -> Result<BTreeMap<SocketAddr, (Latencies, Latencies)>, MapError> {
        match self {
            Self::Ebpf(dataplane) => dataplane.latencies(address(vip)),
            Self::Off => Ok(BTreeMap::new()),
        }
    }

    /// Connections that were balanced, the open ones and some of those that ended.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        match self {
            Self::Ebpf(dataplane) => dataplane.sockets(),
            Self::Off => Vec::new(),
        }
    }

    /// Ends flows of datagrams that fell silent. To be called once a minute or so.
    pub fn expire_flows(&mut self) {
        if let Self::Ebpf(dataplane) = self {
            dataplane.expire_flows();
        }
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

fn wanted(spec: &VipSpec) -> VipWanted {
    let policy = &spec.policy;
    VipWanted {
        backends: spec.backends.iter().map(backend).collect(),
        rule: match policy.rule {
            Rule::Latency => loader::Rule::Latency,
            Rule::LeastConnections => loader::Rule::LeastConnections,
            Rule::Random => loader::Rule::Random,
            Rule::Maglev => loader::Rule::Maglev,
            Rule::Source => loader::Rule::Source,
        },
        locality: match policy.locality {
            Locality::Prefer => loader::Locality::Prefer,
            Locality::Ignore => loader::Locality::Ignore,
        },
        removal: match policy.on_removal {
            OnRemoval::Datagrams => Removal::EndDatagrams,
            OnRemoval::All => Removal::EndAll,
            OnRemoval::Keep => Removal::Keep,
        },
        slow_start: policy.slow_start.0,
    }
}

fn backend(backend: &BackendSpec) -> BackendWanted {
    BackendWanted {
        address: backend.address,
        weight: backend.weight,
        admission: if backend.admitted { Admission::Admitted } else { Admission::Withheld },
        distance: match backend.distance {
            Distance::Node => loader::Distance::Node,
            Distance::Zone => loader::Distance::Zone,
            Distance::Far => loader::Distance::Far,
        },
    }
}
