//! Translated sockets, for people who ask what became of a connection.

use std::io;
use std::net::SocketAddr;

use mizzen_ebpf_abi::{Be16, Ip16, Origin, Owner, maps, reason, stage};
use mizzen_ebpf_core::account::Reason;

use crate::mapped::{FlowEnd, Mapped};
use crate::recount::Recount;
use crate::slab::Slab;
use crate::{MapError, VipAddress, clock};

/// A socket that was sent to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The kernel's number of it, which no other socket has had since boot.
    pub cookie: u64,
    /// The kernel's number of its network namespace.
    pub netns: u64,
    /// What it asked for.
    pub vip: VipAddress,
    /// What it got.
    pub backend: SocketAddr,
    /// Its own address, once a packet has left.
    pub local: Option<SocketAddr>,
    /// How far it has come.
    pub stage: Stage,
    /// Whether it is still open.
    pub is_open: bool,
    /// Milliseconds since the backend was chosen, or since the last datagram.
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

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A backend was chosen; no packet has left.
    Chosen,
    /// The first packet has left.
    Started,
    /// The handshake is complete.
    Established,
    /// The handshake failed.
    Failed,
    /// It is over.
    Closed,
}

impl Stage {
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            stage::CHOSEN => Self::Chosen,
            stage::STARTED => Self::Started,
            stage::ESTABLISHED => Self::Established,
            stage::FAILED => Self::Failed,
            _ => Self::Closed,
        }
    }
}

/// The reason that a program noted.
pub(crate) fn reason_from_number(number: u8) -> Reason {
    match number {
        reason::CHEAPER => Reason::Cheaper,
        reason::TIE => Reason::Tie,
        reason::DRAWN => Reason::Drawn,
        reason::RING => Reason::Ring,
        reason::SPILLED => Reason::Spilled,
        reason::PROBE => Reason::Probe,
        reason::LAST_RESORT => Reason::LastResort,
        _ => Reason::Only,
    }
}

/// Every socket that has a place in the table.
pub fn all(slab: &Slab) -> Vec<Socket> {
    let now = clock::monotonic();
    let by_row = slab.addresses_by_row();
    let mut sockets = Vec::new();
    each(slab, |_, owner, origin| {
        if origin.cookie != 0 {
            let other = by_row.get(&origin.decision.other_row).copied();
            let is_open = owner.cookie == origin.cookie;
            sockets.push(Socket { is_open, ..socket(&origin, other, now) });
        }
    });
    sockets
}

/// Frees the places of flows without a connected socket that fell silent; counts what is left.
pub fn expire(slab: &Slab, recount: &mut Recount) -> Result<(), MapError> {
    let now = clock::monotonic();
    let idle = slab.settings().idle;
    let mut has_spilled = false;
    each(slab, |index, owner, origin| {
        let is_flow = owner.cookie != 0 && origin.flags & Origin::UNCONNECTED != 0;
        if is_flow
            && now.saturating_sub(origin.chosen_at) > idle
            && slab.owners.free(index, owner.cookie)
        {
            slab.rows.end_flow(origin.row, origin.epoch, FlowEnd::Closed);
        } else if owner.cookie != 0 && owner.cookie == origin.cookie {
            recount.see(origin.row, origin.epoch, origin.protocol, origin.stage);
        }
        has_spilled |= owner.spilled != 0;
    });
    if has_spilled {
        let failed = |source| MapError::Request { request: "list", map: maps::ORIGINS, source };
        for (_, origin) in slab.origins.entries().map_err(failed)? {
            recount.see(origin.row, origin.epoch, origin.protocol, origin.stage);
        }
    }
    Ok(())
}

fn each(slab: &Slab, each: impl FnMut(u32, Owner, Origin)) {
    if let Err(error) = places(&slab.owners, &slab.sockets, each) {
        tracing::warn!(%error, "cannot read the table of translated sockets");
    }
}

/// Calls `each` with every place of the table: its number, who has it, and what is in it.
pub fn places(
    owners: &Mapped<Owner>,
    sockets: &Mapped<Origin>,
    mut each: impl FnMut(u32, Owner, Origin),
) -> io::Result<()> {
    let mut all = Vec::with_capacity(owners.capacity() as usize);
    owners.scan(|_, owner| all.push(owner))?;
    sockets.scan(|index, origin| {
        each(index, all.get(index as usize).copied().unwrap_or_default(), origin);
    })
}

/// What a record says; that of an open socket.
pub fn socket(origin: &Origin, other: Option<SocketAddr>, now: u64) -> Socket {
    let decision = &origin.decision;
    let backend = address(origin.backend, origin.backend_port);
    let vip =
        VipAddress { socket: address(origin.vip, origin.vip_port), protocol: origin.protocol };
    let local = (origin.local_port.get() != 0).then(|| address(origin.local, origin.local_port));
    let load = (decision.other_micros, decision.other_in_flight);
    Socket {
        cookie: origin.cookie,
        netns: origin.netns,
        vip,
        backend,
        local,
        stage: Stage::from_number(origin.stage),
        is_open: true,
        age: now.saturating_sub(origin.chosen_at) / 1_000_000,
        reason: reason_from_number(decision.reason),
        passed_over: decision.passed_over != 0,
        load: (decision.micros, decision.in_flight),
        other: other.filter(|other| *other != backend).map(|other| (other, load.0, load.1)),
    }
}

fn address(ip: Ip16, port: Be16) -> SocketAddr {
    SocketAddr::new(ip.into(), port.get())
}
