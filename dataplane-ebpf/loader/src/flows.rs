//! Flows that arrive, as user space looks after them: listed, ended, forgotten.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mizzen_ebpf_abi::{Be16, Flow, FlowKey, Ip16, maps, stage};
use mizzen_ebpf_core::account::Reason;

use crate::leavers::Leaver;
use crate::mapped::FlowEnd;
use crate::recount::Recount;
use crate::slab::Slab;
use crate::sockets::{Stage, reason_from_number};
use crate::table::Table;
use crate::{LoadError, MapError, TCP, VipAddress, clock};

/// A flow from elsewhere to a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivingFlow {
    /// Who asks.
    pub client: SocketAddr,
    /// What it asks for.
    pub vip: VipAddress,
    /// What it gets.
    pub backend: SocketAddr,
    /// How far it has come.
    pub stage: Stage,
    /// Milliseconds since the backend was chosen.
    pub age: u64,
    /// Why this backend.
    pub reason: Reason,
    /// Whether a candidate was passed over because it was ejected, kept waiting or warmed up.
    pub passed_over: bool,
    /// Latency (microseconds) and connections of the backend when it was chosen.
    pub load: (u32, u16),
    /// The candidate that lost, if there was one and its VIP still has it, with its latency and connections.
    pub other: Option<(SocketAddr, u32, u16)>,
}

/// The table of flows.
#[derive(Debug)]
pub struct Flows {
    table: Table<FlowKey, Flow>,
}

impl Flows {
    /// Opens the pinned table.
    pub fn open(directory: &Path) -> Result<Self, LoadError> {
        Ok(Self { table: Table::open_pinned(directory, maps::FLOWS, maps::FLOWS_CAPACITY)? })
    }

    /// Every flow, the living and those that ended a moment ago.
    pub fn all(&self, slab: &Slab) -> Result<Vec<ArrivingFlow>, MapError> {
        let now = clock::monotonic();
        let by_row = slab.addresses_by_row();
        let requests = self.entries()?.into_iter().filter(|(_, flow)| flow.kind == Flow::REQUESTS);
        Ok(requests.map(|(key, flow)| arriving(&key, &flow, &by_row, now)).collect())
    }

    /// Ends what fell silent and forgets what ended; counts what is left.
    pub fn expire(&self, slab: &Slab, recount: &mut Recount) -> Result<(), MapError> {
        let now = clock::monotonic();
        let idle = slab.settings().idle;
        let entries: HashMap<FlowKey, Flow> = self.entries()?.into_iter().collect();
        for (key, flow) in &entries {
            let Some(other) = other_direction(key, flow) else { continue };
            let other = entries.get_key_value(&other);
            let last = other.map_or(flow.last, |(_, other)| other.last.max(flow.last));
            let silent = now.saturating_sub(last);
            if flow.kind == Flow::ANSWERS {
                // Its other half was pushed out, and was counted then or never will be.
                if other.is_none() && silent > nanos(LINGER) {
                    self.delete(key)?;
                }
                continue;
            }
            if silent <= patience(key, flow, idle) {
                recount.see(flow.row, flow.epoch, key.protocol, stage(flow));
                continue;
            }
            self.delete(key)?;
            if let Some((key, _)) = other {
                self.delete(key)?;
            }
            match stage(flow) {
                stage::STARTED => slab.rows.end_flow(flow.row, flow.epoch, FlowEnd::Failed),
                stage::ESTABLISHED => slab.rows.end_flow(flow.row, flow.epoch, FlowEnd::Closed),
                _ => {}
            }
        }
        Ok(())
    }

    /// The same table once more, for another thread.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Self { table: self.table.again()? })
    }

    /// Ends the flows to backends that left; how many each VIP had. Nothing counts for a backend without a VIP.
    pub fn end_of(&self, leavers: &[Leaver]) -> Result<BTreeMap<VipAddress, u64>, MapError> {
        let by_row: BTreeMap<u32, &Leaver> =
            leavers.iter().map(|leaver| (leaver.row, leaver)).collect();
        let mut ended = BTreeMap::new();
        for (key, flow) in self.entries()? {
            let is_theirs =
                |leaver: &&&Leaver| leaver.is_epoch(flow.epoch) && leaver.vip == vip(&key);
            let Some(leaver) = by_row.get(&flow.row).filter(is_theirs) else { continue };
            if flow.kind != Flow::REQUESTS {
                continue;
            }
            self.delete(&key)?;
            if let Some(other) = other_direction(&key, &flow) {
                self.delete(&other)?;
            }
            if matches!(stage(&flow), stage::STARTED | stage::ESTABLISHED) {
                *ended.entry(leaver.vip).or_default() += 1;
            }
        }
        Ok(ended)
    }

    fn entries(&self) -> Result<Vec<(FlowKey, Flow)>, MapError> {
        self.table.entries().map_err(request("list"))
    }

    fn delete(&self, key: &FlowKey) -> Result<(), MapError> {
        self.table.delete(key).map_err(request("remove from"))
    }
}

/// What is left of an ended connection may arrive for so long (TCP's `TIME_WAIT`).
const LINGER: Duration = Duration::from_secs(60);
/// A client gives up a handshake after about two minutes.
const HANDSHAKE: Duration = Duration::from_secs(130);
/// Half of a connection may stay open for so long.
const HALF_OPEN: Duration = Duration::from_secs(600);
/// Nothing need be said on a connection for so long; what comes later is reset.
const CONNECTION: Duration = Duration::from_secs(24 * 3600);

/// Nanoseconds of silence after which a flow is over.
fn patience(key: &FlowKey, flow: &Flow, idle: u64) -> u64 {
    match stage(flow) {
        stage::ESTABLISHED if key.protocol != TCP => idle,
        stage::STARTED => nanos(HANDSHAKE),
        stage::ESTABLISHED if flow.state & !Flow::STAGE != 0 => nanos(HALF_OPEN),
        stage::ESTABLISHED => nanos(CONNECTION),
        _ => nanos(LINGER),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn stage(flow: &Flow) -> u8 {
    (flow.state & Flow::STAGE) as u8
}

fn other_direction(key: &FlowKey, flow: &Flow) -> Option<FlowKey> {
    let turned = FlowKey {
        source: key.target,
        source_port: key.target_port,
        target: key.source,
        target_port: key.source_port,
        ..*key
    };
    match flow.kind {
        Flow::REQUESTS => Some(FlowKey { source: flow.address, source_port: flow.port, ..turned }),
        Flow::ANSWERS => Some(FlowKey { target: flow.address, target_port: flow.port, ..turned }),
        _ => None,
    }
}

fn arriving(
    key: &FlowKey,
    flow: &Flow,
    by_row: &BTreeMap<u32, SocketAddr>,
    now: u64,
) -> ArrivingFlow {
    let decision = &flow.decision;
    let backend = address(flow.address, flow.port);
    let other = by_row.get(&decision.other_row).filter(|other| **other != backend);
    ArrivingFlow {
        client: address(key.source, key.source_port),
        vip: vip(key),
        backend,
        stage: Stage::from_number(stage(flow)),
        age: now.saturating_sub(flow.chosen_at) / 1_000_000,
        reason: reason_from_number(decision.reason),
        passed_over: decision.passed_over != 0,
        load: (decision.micros, decision.in_flight),
        other: other.map(|other| (*other, decision.other_micros, decision.other_in_flight)),
    }
}

fn vip(key: &FlowKey) -> VipAddress {
    VipAddress { socket: address(key.target, key.target_port), protocol: key.protocol }
}

fn address(ip: Ip16, port: Be16) -> SocketAddr {
    SocketAddr::new(ip.into(), port.get())
}

fn request(request: &'static str) -> impl FnOnce(io::Error) -> MapError {
    move |source| MapError::Request { request, map: maps::FLOWS, source }
}
