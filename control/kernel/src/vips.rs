//! The balancer's tables, kept as the planner wants them.
//!
//! A change of one service writes that service. A pass over all of them compares
//! with what the maps hold and writes what differs, so a restart, which finds the
//! maps of the former process, writes nothing if nothing changed.

mod absent;
mod clients;
mod parts;
mod queues;

pub use absent::{admit_absent, refuse_absent};
pub use clients::udp_clients;
use mizzen_ebpf_loader::{
    self as loader, Admission, ArrivingFlow, BackendWanted, Dataplane, LoadError, MapError,
    Removal, VipAddress, VipWanted,
};
pub use mizzen_ebpf_loader::{
    Counts, Latencies, Leaver, Options, Reason, Socket, SocketTable, Stage, Standing, Tuning,
};
use mizzen_nfqueue::{Engine, OpenError, QueueError};
pub use mizzen_nfqueue::{Masquerade, Options as QueueOptions};
use mizzen_types::vip::{
    BackendSpec, Distance, Locality, OnRemoval, Protocol, Rule, VipKey, VipPolicy, VipSpec,
};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

/// What balances.
#[derive(Debug)]
pub enum Vips {
    /// Programs in the kernel.
    Ebpf(Box<Dataplane>),
    /// Queued first packets and conntrack.
    Queues(Box<Engine>),
    /// Nothing; services are planned and named, and cannot be connected to.
    Off,
}

/// Which engine balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Programs in the kernel.
    Ebpf,
    /// Queued first packets and conntrack.
    Nfqueue,
    /// None.
    Off,
}

impl EngineKind {
    /// Its name, as the configuration spells it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Nfqueue => "nfqueue",
            Self::Off => "off",
        }
    }
}

/// What the balancer could not do.
#[derive(Debug, thiserror::Error)]
pub enum VipsError {
    /// The kernel refused a change of the programs' maps, or to read them.
    #[error(transparent)]
    Maps(#[from] MapError),
    /// The kernel refused a change of the queues' set.
    #[error(transparent)]
    Queues(#[from] QueueError),
    /// Programs of another version stay attached.
    #[error(transparent)]
    Others(#[from] LoadError),
    /// The queues cannot be served.
    #[error(transparent)]
    Serve(#[from] OpenError),
}

impl Vips {
    /// Loads the programs, or takes over those of a former process.
    ///
    /// # Errors
    ///
    /// [`LoadError`] says what the machine or the user lacks.
    pub fn open(options: &Options) -> Result<Self, LoadError> {
        Dataplane::open(options).map(Box::new).map(Self::Ebpf)
    }

    /// Has first packets queued, or takes over what a former process left. They wait until the
    /// first [`Vips::reconcile`].
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what the machine or the user lacks.
    pub fn open_queues(options: &QueueOptions) -> Result<Self, OpenError> {
        Engine::open(options).map(Box::new).map(Self::Queues)
    }

    /// How the engine works on this machine, if there is a choice.
    #[must_use]
    pub fn mechanism(&self) -> Option<&str> {
        match self {
            Self::Queues(engine) => Some(engine.mechanism()),
            Self::Ebpf(_) | Self::Off => None,
        }
    }

    /// Whether programs of this machine can connect to IPv6 VIPs.
    #[must_use]
    pub fn has_ipv6_source(&self) -> bool {
        match self {
            // Their connects are led elsewhere before they have a source.
            Self::Ebpf(_) | Self::Off => true,
            Self::Queues(engine) => engine.has_ipv6_source(),
        }
    }

    /// Which engine it is.
    #[must_use]
    pub fn engine(&self) -> EngineKind {
        match self {
            Self::Ebpf(_) => EngineKind::Ebpf,
            Self::Queues(_) => EngineKind::Nfqueue,
            Self::Off => EngineKind::Off,
        }
    }

    /// Makes or changes one service.
    ///
    /// # Errors
    ///
    /// [`VipsError`] if the kernel refuses; the service is then what it was.
    pub fn set(&mut self, spec: &VipSpec) -> Result<(), VipsError> {
        match self {
            Self::Ebpf(dataplane) => {
                dataplane.set_vip(address(&spec.key), &wanted(spec))?;
            }
            Self::Queues(engine) => engine.set_vip(&queues::wanted(spec))?,
            Self::Off => {}
        }
        Ok(())
    }

    /// Removes one service; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`VipsError`] if the kernel refuses.
    pub fn remove(&mut self, vip: &VipKey) -> Result<(), VipsError> {
        match self {
            Self::Ebpf(dataplane) => {
                dataplane.remove_vip(address(vip))?;
            }
            Self::Queues(engine) => engine.remove_vip(address(vip))?,
            Self::Off => {}
        }
        Ok(())
    }

    /// Brings all services into shape: what is not `desired` goes, what differs is
    /// written. Everything is tried; returns what was refused, and those services are what they were.
    #[must_use]
    pub fn reconcile(&mut self, desired: &BTreeMap<VipKey, VipSpec>) -> Vec<VipsError> {
        let dataplane = match self {
            Self::Ebpf(dataplane) => dataplane,
            Self::Queues(engine) => return queues::reconcile(engine, desired),
            Self::Off => return Vec::new(),
        };
        let observed = match dataplane.observe() {
            Ok(observed) => observed,
            Err(error) => return vec![error.into()],
        };
        let all: Vec<(VipAddress, VipWanted)> =
            desired.iter().map(|(vip, spec)| (address(vip), wanted(spec))).collect();
        let is_other = |vip: &VipAddress| !key(vip).is_some_and(|key| desired.contains_key(&key));
        let mut refused: Vec<VipsError> = Vec::new();
        for vip in observed.into_keys().filter(is_other) {
            refused.extend(dataplane.remove_vip(vip).err().map(VipsError::from));
        }
        let errors = dataplane.set_vips(&all).errors.into_iter();
        refused.extend(errors.map(|(_, error)| VipsError::from(error)));
        // Also if some were refused: an older version would go on translating to the
        // backends of then, those of all VIPs.
        refused.extend(dataplane.retire_other_versions().err().map(VipsError::from));
        refused
    }

    /// Backends that left their service since this was asked last, and whose sockets are to be ended.
    #[must_use]
    pub fn take_leavers(&mut self) -> Vec<Leaver> {
        match self {
            Self::Ebpf(dataplane) => dataplane.take_leavers(),
            // That engine cuts the flows of those that leave by itself.
            Self::Queues(_) | Self::Off => Vec::new(),
        }
    }

    /// The table in which sockets of leavers are found; none if there cannot be any.
    ///
    /// # Errors
    ///
    /// The kernel's, if descriptors run out.
    pub fn socket_table(&self) -> io::Result<Option<SocketTable>> {
        match self {
            Self::Ebpf(dataplane) => dataplane.socket_table().map(Some),
            Self::Queues(_) | Self::Off => Ok(None),
        }
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
            Self::Queues(engine) => Ok(engine.latencies(address(vip))),
            Self::Off => Ok(BTreeMap::new()),
        }
    }

    /// Connections that were balanced, the open ones and some of those that ended: of this node and, where
    /// they can be listed, those that arrived from elsewhere.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        match self {
            Self::Ebpf(dataplane) => {
                let mut sockets = dataplane.sockets();
                let arriving = dataplane.arriving_flows().unwrap_or_default();
                sockets.extend(arriving.iter().map(arrived));
                sockets
            }
            Self::Queues(engine) => queues::sockets(engine),
            Self::Off => Vec::new(),
        }
    }

    /// What became of the connections of one service; none if there is no such service, or nothing that counts.
    ///
    /// # Errors
    ///
    /// [`MapError`] if the kernel refuses.
    pub fn standing(&self, vip: &VipKey) -> Result<Option<Standing>, MapError> {
        match self {
            Self::Ebpf(dataplane) => dataplane.standing(address(vip)),
            Self::Queues(engine) => Ok(queues::standing(engine, vip)),
            Self::Off => Ok(None),
        }
    }

    /// By what backends are judged.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        match self {
            Self::Ebpf(dataplane) => dataplane.tuning(),
            Self::Queues(engine) => engine.tuning(),
            Self::Off => Tuning::default(),
        }
    }

    /// Changes by what backends are judged, from the next connect on.
    pub fn tune(&mut self, tuning: &Tuning) {
        match self {
            Self::Ebpf(dataplane) => dataplane.tune(tuning),
            Self::Queues(engine) => engine.tune(tuning),
            Self::Off => {}
        }
    }

    /// Ends flows of datagrams that fell silent. To be called once a minute or so.
    ///
    /// # Errors
    ///
    /// [`MapError`] if the kernel refuses; the rest is done the next time.
    pub fn expire_flows(&mut self) -> Result<(), MapError> {
        match self {
            Self::Ebpf(dataplane) => dataplane.expire_flows(),
            Self::Queues(_) | Self::Off => Ok(()),
        }
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

/// Removes rules, sets and routes of the queues. Nothing there is fine.
///
/// # Errors
///
/// [`OpenError`] with the first object that would not go.
pub fn teardown_queues(options: &QueueOptions) -> Result<(), OpenError> {
    mizzen_nfqueue::teardown(options)
}

/// A flow from elsewhere as a socket; which socket it is, only its machine knows.
fn arrived(flow: &ArrivingFlow) -> Socket {
    Socket {
        cookie: 0,
        netns: 0,
        vip: flow.vip,
        backend: flow.backend,
        local: Some(flow.client),
        stage: flow.stage,
        is_open: !matches!(flow.stage, Stage::Failed | Stage::Closed),
        age: flow.age,
        reason: flow.reason,
        passed_over: flow.passed_over,
        load: flow.load,
        other: flow.other,
    }
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
    wanted_by(&spec.policy, spec.backends.iter().map(backend).collect())
}

fn wanted_by(policy: &VipPolicy, backends: Vec<BackendWanted>) -> VipWanted {
    VipWanted {
        backends,
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
        // One without weight is withheld; the engines divide by it all the same.
        weight: backend.weight.max(1),
        admission: if backend.is_admitted() { Admission::Admitted } else { Admission::Withheld },
        distance: match backend.distance {
            Distance::Node => loader::Distance::Node,
            Distance::Zone => loader::Distance::Zone,
            Distance::Far => loader::Distance::Far,
        },
    }
}
