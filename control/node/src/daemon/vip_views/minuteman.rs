//! The balancer in the shapes of Minuteman.
//!
//! `latency_last_60s` has what its histograms gave: `n`, `mean`, `min`, `max`, `median` and the percentiles
//! `50` to `999`, here in milliseconds; `{}` without a handshake in the last minute. In `/metrics` a spiral
//! has a `count` of all times and `one`, that of the last minute.

use super::recent::Minutes;
use super::sight::{Seen, Sight, State};
use super::spread;
use mizzen_kernel::vips::{Counts, Latencies, Tuning};
use mizzen_types::vip::{BackendSpec, Protocol};
use serde_json::{Map, Value, json};

/// `GET /vips`, written VIP by VIP.
pub(crate) fn vips(sight: &Sight, minutes: &Minutes) -> String {
    // A UDP service at the address and port of a TCP service has the same key; they are neighbours.
    let alike = sight.vips.chunk_by(|a, b| a.socket() == b.socket());
    let entries = alike.filter_map(|alike| {
        let shown: Map<String, Value> =
            alike.iter().flat_map(|seen| vip(seen, &sight.tuning, minutes)).collect();
        Some(format!("\"{}\":{}", alike.first()?.socket(), Value::Object(shown)))
    });
    format!("{{\"vips\":{{{}}}}}", super::joined(entries))
}

/// What `GET /vip/IP:PORT` answers.
pub(crate) fn vip(seen: &Seen, tuning: &Tuning, minutes: &Minutes) -> Map<String, Value> {
    let entry = |(backend, counts): (&BackendSpec, Option<&Counts>)| {
        (backend.address.to_string(), one(seen, backend, counts, tuning, minutes))
    };
    seen.backends().map(entry).collect()
}

/// What `GET /backend/IP:PORT` answers.
pub(crate) fn one(
    seen: &Seen,
    backend: &BackendSpec,
    counts: Option<&Counts>,
    tuning: &Tuning,
    minutes: &Minutes,
) -> Value {
    let minute = minutes.of(seen, backend.address);
    let state = seen.state(backend, counts, tuning);
    let healthy =
        backend.is_admitted() && !matches!(state, State::Ejected { .. } | State::HalfOpen);
    let counts = counts.copied().unwrap_or_default();
    json!({
        "pending_connections": counts.pending(),
        "total_failures": counts.failed,
        // Spelt as clients know it.
        "total_sucesses": counts.established,
        "is_healthy": healthy,
        "latency_last_60s": minute.map_or_else(|| json!({}), latency),
    })
}

/// `GET /metrics`: a flat map, each name with its type behind it.
pub(crate) fn metrics(sight: &Sight, minutes: &Minutes) -> Value {
    // Flows of datagrams have no handshakes, so the last minute and the latencies know nothing of them.
    let connects = sight.vips.iter().filter(|seen| seen.spec.key.protocol == Protocol::Tcp);
    let sum = |of: fn(&Counts) -> u64| -> u64 {
        connects.clone().flat_map(|seen| seen.counts.iter().flatten()).map(of).sum()
    };
    let (successes, minute) = (sum(|c| c.established), minutes.together());
    let mut histogram = latency(&minute);
    histogram["type"] = json!("histogram");
    json!({
        "mm_connect_successes_counter": { "count": successes, "type": "counter" },
        "mm_connect_failures_counter": { "count": sum(|c| c.failed), "type": "counter" },
        "mm_connect_successes_spiral":
            { "count": successes, "one": spread::samples(&minute), "type": "spiral" },
        "mm_connect_latency_histogram": histogram,
    })
}

fn latency(latencies: &Latencies) -> Value {
    let Some((min, max)) = spread::range(latencies) else { return json!({}) };
    let millis = |seconds: f64| (seconds * 1e6).round() / 1e3;
    let at = |share| spread::quantile(latencies, share).map(millis);
    json!({
        "n": spread::samples(latencies),
        "mean": spread::mean(latencies).map(millis),
        "min": millis(min),
        "max": millis(max),
        "median": at(0.5),
        "50": at(0.5), "75": at(0.75), "90": at(0.9), "95": at(0.95), "99": at(0.99), "999": at(0.999),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::vip_views::sight::tests::vip as seen;
    use crate::daemon::vip_views::spread::tests::of;

    #[test]
    fn as_minuteman_answered_it() {
        let good = Counts { established: 812, started: 813, chosen: 813, ..Counts::default() };
        let ejected = Counts { failed: 3, started: 3, ejected_for: Some(0), ..Counts::default() };
        let mut flows = seen(vec![Counts { established: 9, ..Counts::default() }]);
        flows.spec.key.protocol = Protocol::Udp;
        let seen = seen(vec![good, ejected]);
        let mut sight = Sight { vips: vec![seen], tuning: Tuning::default() };
        let first = sight.vips[0].spec.backends[0].address;
        let minutes = Minutes::of_one(&sight.vips[0], first, of([1_000, 1_000, 8_000]));
        let text = vips(&sight, &minutes);
        let all: Value = serde_json::from_str(&text).unwrap();
        let recorded = include_str!("../../../../../tests/conformance/minuteman-vips.json");
        let recorded: Value = serde_json::from_str(recorded).unwrap();
        assert_eq!(shape(&all), shape(&recorded), "{text}");
        let shown = &all["vips"]["11.0.0.1:80"]["9.0.0.1:80"];
        assert_eq!(
            (&shown["pending_connections"], &shown["is_healthy"]),
            (&json!(1), &json!(true))
        );
        assert_eq!(shown["latency_last_60s"]["n"], 3);
        assert_eq!(shown["latency_last_60s"]["mean"], 3.333);
        let other = &all["vips"]["11.0.0.1:80"]["9.0.0.2:80"];
        assert_eq!((&other["total_failures"], &other["is_healthy"]), (&json!(3), &json!(false)));
        assert_eq!(other["latency_last_60s"], json!({}));
        sight.vips.push(flows);
        let metrics = metrics(&sight, &minutes);
        assert_eq!(metrics["mm_connect_failures_counter"]["count"], 3);
        let spiral = json!({ "count": 812, "one": 3, "type": "spiral" });
        assert_eq!(metrics["mm_connect_successes_spiral"], spiral);
        let histogram = &metrics["mm_connect_latency_histogram"];
        assert_eq!((&histogram["n"], &histogram["type"]), (&json!(3), &json!("histogram")));
    }

    #[test]
    fn what_nobody_counts_was_not_seen_to_fail() {
        let mut seen = seen(vec![Counts::default()]);
        seen.counts = vec![None];
        let shown = vip(&seen, &Tuning::default(), &Minutes::default());
        assert_eq!(shown["9.0.0.1:80"]["is_healthy"], true);
    }

    /// The document with every number and truth made alike, so that shapes can be compared.
    fn shape(value: &Value) -> Value {
        match value {
            Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), shape(v))).collect(),
            Value::Number(_) => json!("number"),
            Value::Bool(_) => json!("truth"),
            other => other.clone(),
        }
    }
}
