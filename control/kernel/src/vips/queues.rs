//! The balancer's words in those of the queue engine, and back.

use super::{Latencies, Reason, Socket, Stage, Standing, Tuning, VipsError, key};
use mizzen_ebpf_loader as loader;
use mizzen_nfqueue::{
    self as nfqueue, BackendWanted, Connection, Engine, Policy, VipAddress, VipWanted,
};
use mizzen_types::vip::{BackendSpec, Distance, Locality, OnRemoval, Rule, VipKey, VipSpec};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Brings all VIPs into shape, then lets the queues be served.
pub(super) fn reconcile(
    engine: &mut Engine,
    desired: &BTreeMap<VipKey, VipSpec>,
) -> Result<(), VipsError> {
    let observed = engine.observe();
    let differs = |wanted: &VipWanted| {
        let found = observed.get(&wanted.address);
        found.is_none_or(|found| *found != (sorted(&wanted.backends), wanted.policy))
    };
    let all: Vec<VipWanted> = desired.values().map(wanted).filter(differs).collect();
    let is_other =
        |vip: &VipAddress| !key(&loader_address(vip)).is_some_and(|key| desired.contains_key(&key));
    let others: Vec<VipAddress> = observed.into_keys().filter(is_other).collect();
    let set = engine.set_vips(&all).or_else(|_| one_by_one(engine, &all));
    let removed = engine.remove_vips(&others);
    engine.serve()?;
    set?;
    removed?;
    Ok(())
}

/// All that can be set; the first error afterwards.
fn one_by_one(engine: &mut Engine, all: &[VipWanted]) -> Result<(), nfqueue::QueueError> {
    let mut first = Ok(());
    for vip in all {
        first = first.and(engine.set_vip(vip));
    }
    first
}

fn sorted(backends: &[BackendWanted]) -> Vec<BackendWanted> {
    let mut backends = backends.to_vec();
    backends.sort_by_key(|backend| backend.address);
    backends
}

pub(super) fn address(vip: &VipKey) -> VipAddress {
    let socket = SocketAddr::new(vip.address, vip.port);
    VipAddress { socket, protocol: vip.protocol.number() }
}

pub(super) fn wanted(spec: &VipSpec) -> VipWanted {
    let policy = &spec.policy;
    VipWanted {
        address: address(&spec.key),
        backends: spec.backends.iter().map(backend).collect(),
        policy: Policy {
            rule: match policy.rule {
                Rule::Latency => nfqueue::Rule::Latency,
                Rule::LeastConnections => nfqueue::Rule::LeastConnections,
                Rule::Random => nfqueue::Rule::Random,
                Rule::Maglev => nfqueue::Rule::Maglev,
                Rule::Source => nfqueue::Rule::Source,
            },
            prefers_near: policy.locality == Locality::Prefer,
            on_removal: match policy.on_removal {
                OnRemoval::Datagrams => nfqueue::OnRemoval::Datagrams,
                OnRemoval::All => nfqueue::OnRemoval::All,
                OnRemoval::Keep => nfqueue::OnRemoval::Keep,
            },
            slow_start: Duration::from_millis(policy.slow_start.0.into()),
        },
    }
}

fn backend(backend: &BackendSpec) -> BackendWanted {
    BackendWanted {
        address: backend.address,
        weight: backend.weight,
        admitted: backend.admitted,
        distance: match backend.distance {
            Distance::Node => 0,
            Distance::Zone => 1,
            Distance::Far => 2,
        },
    }
}

pub(super) fn standing(engine: &Engine, vip: &VipKey) -> Option<Standing> {
    let (refused, backends) = engine.standing(address(vip))?;
    Some(Standing { refused, backends })
}

pub(super) fn tuning(engine: &Engine) -> Tuning {
    let nfqueue::Tuning { failures, least_left, pause, longest_pause, handshake, short, idle } =
        engine.tuning();
    let time = Duration::from_nanos;
    Tuning {
        failures,
        least_left,
        pause: time(pause),
        longest_pause: time(longest_pause),
        handshake: time(handshake),
        short: time(short),
        idle: time(idle),
    }
}

/// The same in the queue engine's words.
#[must_use]
pub fn queue_tuning(tuning: &Tuning) -> nfqueue::Tuning {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    nfqueue::Tuning {
        failures: tuning.failures,
        least_left: tuning.least_left,
        pause: nanos(tuning.pause),
        longest_pause: nanos(tuning.longest_pause),
        handshake: nanos(tuning.handshake),
        short: nanos(tuning.short),
        idle: nanos(tuning.idle),
    }
}

pub(super) fn latencies(
    engine: &Engine,
    vip: &VipKey,
) -> BTreeMap<SocketAddr, (Latencies, Latencies)> {
    let convert = |found: nfqueue::Latencies| Latencies { buckets: found.buckets, sum: found.sum };
    let found = engine.latencies(address(vip)).into_iter();
    found.map(|(backend, (a, b))| (backend, (convert(a), convert(b)))).collect()
}

/// The watched connections as sockets; which sockets they are, only their machines know.
pub(super) fn sockets(engine: &Engine) -> Vec<Socket> {
    engine.connections().iter().map(socket).collect()
}

fn socket(connection: &Connection) -> Socket {
    let decision = connection.decision;
    let (micros, in_flight) = decision.map_or((0, 0), |decision| decision.load);
    let other = decision.and_then(|decision| decision.other);
    Socket {
        cookie: 0,
        netns: 0,
        vip: loader_address(&connection.vip),
        backend: connection.backend,
        local: Some(connection.client),
        stage: if connection.is_established { Stage::Established } else { Stage::Started },
        is_open: true,
        age: connection.age,
        reason: decision.map_or(Reason::Only, |decision| decision.reason),
        passed_over: decision.is_some_and(|decision| decision.passed_over),
        load: (micros, cut(in_flight)),
        other: other.map(|(address, micros, in_flight)| (address, micros, cut(in_flight))),
    }
}

fn cut(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn loader_address(vip: &VipAddress) -> loader::VipAddress {
    loader::VipAddress { socket: vip.socket, protocol: vip.protocol }
}
