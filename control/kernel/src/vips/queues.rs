//! The balancer's words in those of the queue engine, and back.

use super::{Reason, Socket, Stage, Standing, VipsError, address, key};
use mizzen_ebpf_loader as loader;
use mizzen_nfqueue::{
    BackendWanted, Connection, ConnectionStage, Engine, Policy, VipAddress, VipWanted,
};
use mizzen_types::vip::{VipKey, VipSpec};
use std::collections::BTreeMap;
use std::time::Duration;

/// Brings all VIPs into shape, then lets the queues be served.
pub(super) fn reconcile(
    engine: &mut Engine,
    desired: &BTreeMap<VipKey, VipSpec>,
) -> Vec<VipsError> {
    let observed = engine.observe();
    let differs = |wanted: &VipWanted| {
        let found = observed.get(&wanted.address);
        found.is_none_or(|found| *found != (sorted(&wanted.backends), wanted.policy))
    };
    let all: Vec<VipWanted> = desired.values().map(wanted).filter(differs).collect();
    let is_other = |vip: &VipAddress| !key(vip).is_some_and(|key| desired.contains_key(&key));
    let others: Vec<VipAddress> = observed.into_keys().filter(is_other).collect();
    let mut refused = match engine.set_vips(&all) {
        Ok(()) => Vec::new(),
        Err(_) => one_by_one(engine, &all),
    };
    refused.extend(engine.remove_vips(&others).err().map(VipsError::from));
    refused.extend(engine.serve().err().map(VipsError::from));
    refused
}

/// Sets all that can be set; returns why the others cannot.
fn one_by_one(engine: &mut Engine, all: &[VipWanted]) -> Vec<VipsError> {
    all.iter().filter_map(|vip| engine.set_vip(vip).err()).map(VipsError::from).collect()
}

fn sorted(backends: &[BackendWanted]) -> Vec<BackendWanted> {
    let mut backends = backends.to_vec();
    backends.sort_by_key(|backend| backend.address);
    backends
}

pub(super) fn wanted(spec: &VipSpec) -> VipWanted {
    in_words(address(&spec.key), super::wanted(spec))
}

pub(super) fn in_words(address: VipAddress, wanted: loader::VipWanted) -> VipWanted {
    VipWanted { address, policy: policy(&wanted), backends: wanted.backends }
}

pub(super) fn policy(wanted: &loader::VipWanted) -> Policy {
    let loader::VipWanted { rule, locality, removal, slow_start, .. } = *wanted;
    let slow_start = Duration::from_millis(slow_start.into());
    Policy { rule, locality, removal, slow_start }
}

pub(super) fn standing(engine: &Engine, vip: &VipKey) -> Option<Standing> {
    let (refused, backends) = engine.standing(address(vip))?;
    Some(Standing { refused, backends })
}

/// The known connections as sockets; which sockets they are, only their machines know.
pub(super) fn sockets(engine: &Engine) -> Vec<Socket> {
    engine.connections().iter().map(socket).collect()
}

fn socket(connection: &Connection) -> Socket {
    let decision = connection.decision;
    let (micros, in_flight) = decision.map_or((0, 0), |decision| decision.load);
    let other = decision.and_then(|decision| decision.other);
    let stage = match connection.stage {
        ConnectionStage::Started => Stage::Started,
        ConnectionStage::Established => Stage::Established,
        ConnectionStage::Failed => Stage::Failed,
        ConnectionStage::Closed => Stage::Closed,
    };
    Socket {
        cookie: 0,
        netns: 0,
        vip: connection.vip,
        backend: connection.backend,
        local: Some(connection.client),
        stage,
        is_open: matches!(stage, Stage::Started | Stage::Established),
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
