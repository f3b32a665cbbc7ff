//! Who asks for virtual services, and what is asked for.

use mizzen_types::ids::{FrameworkId, OwnerId, TaskId};
use mizzen_types::vip::{PolicyWish, Protocol, Withheld};
use mizzen_types::vip_service::{VipHost, VipServiceId};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Who stands behind a VIP. Where two of them contradict each other the smaller one is
/// heard: a service registered by hand before a task, then the lower id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A service that was registered by hand.
    Service {
        /// Which one.
        service: VipServiceId,
        /// The node that it was registered on.
        owner: OwnerId,
    },
    /// A task with labels.
    Task {
        /// Whose task it is, and its id.
        task: Arc<(FrameworkId, TaskId)>,
        /// The node that it runs on.
        owner: OwnerId,
    },
}

impl Source {
    /// One that comes before all that there are.
    pub(super) fn first() -> Arc<Self> {
        let host = VipHost::Address(Ipv4Addr::UNSPECIFIED.into());
        let service = VipServiceId { host, port: 0, protocol: Protocol::Tcp };
        Arc::new(Self::Service { service, owner: "".into() })
    }

    /// The node whose log speaks of it.
    #[must_use]
    pub fn owner(&self) -> &OwnerId {
        match self {
            Self::Service { owner, .. } | Self::Task { owner, .. } => owner,
        }
    }

    /// The task, if it is one.
    #[must_use]
    pub fn task(&self) -> Option<&Arc<(FrameworkId, TaskId)>> {
        match self {
            Self::Task { task, .. } => Some(task),
            Self::Service { .. } => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { service, .. } => write!(f, "registered service {service}"),
            Self::Task { task, .. } => write!(f, "task {}", task.1),
        }
    }
}

/// What a VIP is called: an address or a name, with port and transport.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceKey {
    pub target: Target,
    pub port: u16,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Address(IpAddr),
    /// `label.framework`, mangled.
    Name(String),
}

/// What one source contributes to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub service: Arc<ServiceKey>,
    pub shares: Vec<(SocketAddr, Share)>,
    pub policy: PolicyWish,
}

/// What one source says of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub weight: u16,
    pub withheld: Option<Withheld>,
}

impl Share {
    /// A weight of 0 is one that takes no new connections.
    pub fn new(weight: u16, withheld: Option<Withheld>) -> Self {
        let no_weight = (weight == 0).then_some(Withheld::NoWeight);
        Self { weight, withheld: withheld.or(no_weight) }
    }
}

/// One standing per service, so that two labels that say the same are one.
pub(super) fn merge(mut standings: Vec<Standing>) -> Vec<Standing> {
    standings.sort_by(|a, b| a.service.cmp(&b.service));
    standings.dedup_by(|later, kept| {
        let same = later.service == kept.service;
        if same {
            kept.shares.append(&mut later.shares);
            kept.policy = kept.policy.or(later.policy);
        }
        same
    });
    for standing in &mut standings {
        standing.shares.sort_by_key(|(address, _)| *address);
        standing.shares.dedup_by_key(|(address, _)| *address);
    }
    standings
}
