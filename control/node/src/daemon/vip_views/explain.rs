//! Why a VIP's connections go where they go, in words and as a document.

use super::odds::{Candidate, Choice, Method, Verdict};
use super::sight::{Seen, Sight};
use super::table::add_state;
use super::words;
use mizzen_ebpf_core::select::Load;
use mizzen_ebpf_core::steps::Classes;
use mizzen_kernel::vips::{Reason, Socket, Stage};
use mizzen_types::vip::VipKey;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Backends that a document about a VIP lists; the likeliest first if there are more.
const LISTED: usize = 1_000;

/// What would be chosen for the next connection to a VIP.
pub(crate) fn vip(seen: &Seen, sight: &Sight) -> Value {
    let choice = Choice::of(seen, &sight.tuning);
    let (shares, method) = choice.odds();
    let policy = &seen.spec.policy;
    let mut document = json!({
        "vip": seen.socket(),
        "protocol": seen.spec.key.protocol,
        "name": seen.name(),
        "rule": policy.rule,
        "locality": policy.locality,
        "slow_start": policy.slow_start.to_string(),
        "near": choice.near(),
        "open": choice.open.len(),
        "all_admitted": seen.all_admitted,
        "method": match method {
            Method::Exact => json!("exact"),
            Method::Sampled(draws) => json!({ "draws": draws }),
        },
        "words": words::vip(seen, &choice, method),
    });
    if let Some(refused) = seen.refused {
        document["refused"] = json!(refused);
    }
    let mut rows: Vec<(f64, Value)> = (0..seen.spec.backends.len())
        .map(|index| backend(seen, sight, &choice, &shares, index))
        .collect();
    if rows.len() > LISTED {
        rows.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        document["left_out"] = json!(rows.len() - LISTED);
    }
    document["backends"] = rows.into_iter().take(LISTED).map(|(_, row)| row).collect();
    document
}

/// One backend: its share of the next connection, and what it was worked out from.
fn backend(
    seen: &Seen,
    sight: &Sight,
    choice: &Choice,
    shares: &[f64],
    index: usize,
) -> (f64, Value) {
    let (spec, counts) = (&seen.spec.backends[index], seen.counts[index].as_ref());
    let place = choice.open.iter().position(|candidate| candidate.index == index);
    let share = place.and_then(|place| shares.get(place)).copied().unwrap_or(0.0);
    let state = seen.state(spec, counts, &sight.tuning);
    let mut row = json!({
        "address": spec.address,
        "task": spec.task.as_ref().map(|task| &task.1),
        "weight": spec.weight,
        "distance": spec.distance,
        "near": place.map(|place| place < choice.near()),
        "state": state.word(),
        "probability": share,
    });
    let Some(object) = row.as_object_mut() else { return (share, row) };
    add_state(object, state);
    if let Some(counts) = counts {
        object.insert("in_flight".into(), json!(counts.in_flight));
        object.insert("failures_in_a_row".into(), json!(counts.failures_in_a_row));
        object.insert("ejections".into(), json!(counts.ejections));
        let cost = choice.cost(super::odds::load(spec, Some(counts)));
        object.insert("cost_ms".into(), json!(cost / 1e3));
        let known = |micros: u32| (micros != 0).then(|| f64::from(micros) / 1e3);
        object.insert("handshake_ms".into(), json!(known(counts.connect_micros)));
        object.insert("connection_ms".into(), json!(known(counts.duration_micros)));
    }
    (share, row)
}

/// Why a connection went where it went.
pub(crate) fn connection(socket: &Socket, sight: &Sight) -> Value {
    let seen = find(sight, socket);
    let weight = |address: SocketAddr| {
        let backends = seen.map(|seen| seen.spec.backends.iter()).into_iter().flatten();
        let found = backends.clone().find(|backend| backend.address == address);
        found.map_or(1, |backend| backend.weight.into())
    };
    let (micros, in_flight) = socket.load;
    let chosen = (socket.backend, load(micros, in_flight, weight(socket.backend)));
    let other =
        socket.other.map(|(at, micros, in_flight)| (at, load(micros, in_flight, weight(at))));
    let rule = seen.map(|seen| seen.spec.policy.rule).unwrap_or_default();
    let choice = Choice { open: Vec::new(), classes: Classes::alike(0), rule };
    let candidate = |(address, load): (SocketAddr, Load)| {
        json!({
            "address": address, "latency_ms": f64::from(load.micros) / 1e3,
            "in_flight": load.in_flight, "weight": load.weight,
            "cost_ms": choice.cost(load) / 1e3,
        })
    };
    json!({
        "client": socket.local,
        "vip": socket.vip.socket,
        "protocol": protocol(socket),
        "backend": socket.backend,
        "stage": stage(socket.stage),
        "open": socket.is_open,
        "age_seconds": socket.age as f64 / 1e3,
        "reason": reason(socket.reason),
        "passed_over": socket.passed_over,
        "candidates": std::iter::once(chosen).chain(other).map(candidate).collect::<Value>(),
        "words": words::connection(socket, seen, &choice, chosen, other, sight),
    })
}

/// The VIP of a connection, if there still is one.
pub(crate) fn find<'a>(sight: &'a Sight, socket: &Socket) -> Option<&'a Seen> {
    let is_its = |key: &VipKey| {
        key.address == socket.vip.socket.ip().to_canonical()
            && key.port == socket.vip.socket.port()
            && key.protocol.number() == socket.vip.protocol
    };
    sight.vips.iter().find(|seen| is_its(&seen.spec.key))
}

/// A stage as one word.
pub(crate) fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Chosen => "chosen",
        Stage::Started => "started",
        Stage::Established => "established",
        Stage::Failed => "failed",
        Stage::Closed => "closed",
    }
}

/// The transport, or its number if it is none of a VIP's.
pub(crate) fn protocol(socket: &Socket) -> String {
    match socket.vip.protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Only => "only",
        Reason::Cheaper => "cheaper",
        Reason::Tie => "tie",
        Reason::Drawn => "drawn",
        Reason::Ring => "ring",
        Reason::Spilled => "spilled",
        Reason::Probe => "probe",
        Reason::LastResort => "last-resort",
    }
}

fn load(micros: u32, in_flight: u16, weight: u32) -> Load {
    Load { micros, in_flight: in_flight.into(), weight }
}

/// Whether nobody that can be drawn may be chosen as it is.
pub(crate) fn is_last_resort(open: &[Candidate]) -> bool {
    !open.is_empty() && open.iter().all(|candidate| candidate.verdict == Verdict::Shut)
}
