//! Rows of `mizzen vips`. What nobody counts is absent.

use super::recent::Minutes;
use super::sight::{Seen, Sight, State};
use super::spread;
use mizzen_kernel::vips::{Counts, Latencies, Tuning};
use mizzen_types::vip::BackendSpec;
use serde_json::{Map, Value, json};

/// VIPs whose address or name contains `filter`, written one by one.
pub(crate) fn rows(sight: &Sight, filter: Option<&str>, minutes: &Minutes) -> String {
    let wanted = |seen: &&Seen| filter.is_none_or(|filter| contains(seen, filter));
    let rows = sight.vips.iter().filter(wanted);
    format!("[{}]", super::joined(rows.map(|seen| row(seen, &sight.tuning, minutes).to_string())))
}

fn contains(seen: &Seen, filter: &str) -> bool {
    let filter = filter.to_lowercase();
    seen.spec.key.to_string().contains(&filter)
        || seen
            .name()
            .is_some_and(|name| format!("{name}:{}", seen.spec.key.port).contains(&filter))
}

fn row(seen: &Seen, tuning: &Tuning, minutes: &Minutes) -> Value {
    let policy = &seen.spec.policy;
    let mut row = json!({
        "vip": seen.socket(),
        "protocol": seen.spec.key.protocol,
        "name": seen.name(),
        "rule": policy.rule,
        "locality": policy.locality,
        "slow_start": policy.slow_start.to_string(),
        "on_removal": policy.on_removal,
        "all_admitted": seen.all_admitted,
    });
    if let Some(refused) = seen.refused {
        row["refused"] = json!(refused);
    }
    row["backends"] = seen
        .backends()
        .map(|(spec, counts)| backend(seen, spec, counts, tuning, minutes))
        .collect();
    row
}

fn backend(
    seen: &Seen,
    spec: &BackendSpec,
    counts: Option<&Counts>,
    tuning: &Tuning,
    minutes: &Minutes,
) -> Value {
    let state = seen.state(spec, counts, tuning);
    let mut row = json!({
        "address": spec.address,
        "task": spec.task.as_ref().map(|task| &task.1),
        "admitted": spec.is_admitted(),
        "weight": spec.weight,
        "distance": spec.distance,
        "state": state.word(),
    });
    let Some(object) = row.as_object_mut() else { return row };
    add_state(object, state);
    if let Some(counts) = counts {
        add_counts(object, counts, minutes.of(seen, spec.address));
    }
    row
}

/// What goes with the word for a state.
pub(crate) fn add_state(row: &mut Map<String, Value>, state: State) {
    match state {
        State::Ejected { left, admitted } => {
            row.insert("takes_connections".into(), json!(admitted));
            row.insert("ejected_for_seconds".into(), json!(left.as_secs_f64()));
        }
        State::Warming { share } => {
            row.insert("warmth".into(), json!(f64::from(share) / 256.0));
        }
        State::Out(why) | State::Draining(why) => {
            row.insert("why".into(), json!(why.word()));
        }
        State::In | State::HalfOpen | State::Waiting => {}
    }
}

fn add_counts(row: &mut Map<String, Value>, counts: &Counts, minute: Option<&Latencies>) {
    let numbers = [
        ("chosen", counts.chosen),
        ("pending", counts.pending()),
        ("open", counts.established.saturating_sub(counts.closed)),
        ("in_flight", counts.in_flight),
        ("successes", counts.established),
        ("failures", counts.failed),
        ("failures_in_a_row", counts.failures_in_a_row.into()),
        ("closed", counts.closed),
        ("ejections", counts.ejections),
    ];
    row.extend(numbers.map(|(name, number)| (name.to_owned(), json!(number))));
    let known = |micros: u32| (micros != 0).then(|| f64::from(micros) / 1e3);
    let quantile = |share| {
        let seconds = minute.and_then(|minute| spread::quantile(minute, share));
        seconds.map(|seconds| (seconds * 1e6).round() / 1e3)
    };
    let times = [
        ("handshake", known(counts.connect_micros)),
        ("connection", known(counts.duration_micros)),
        ("p50", quantile(0.5)),
        ("p99", quantile(0.99)),
    ];
    let times = times.into_iter().filter_map(|(name, ms)| Some((name.to_owned(), json!(ms?))));
    row.insert("latency_ms".into(), Value::Object(times.collect()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::vip_views::sight::tests::vip;
    use crate::daemon::vip_views::spread::tests::of;

    #[test]
    fn rows_have_what_is_known() {
        let ejected = Counts { failed: 3, ejected_for: Some(2_500), ..Counts::default() };
        let busy = Counts { in_flight: 2, connect_micros: 400, ..Counts::default() };
        let mut seen = vip(vec![busy, ejected, busy]);
        seen.counts[2] = None;
        let sight = Sight { vips: vec![seen], tuning: Tuning::default() };
        let first = sight.vips[0].spec.backends[0].address;
        let minutes = Minutes::of_one(&sight.vips[0], first, of([1_000]));
        let rows = rows(&sight, Some("web.MARATHON"), &minutes);
        let rows: Value = serde_json::from_str(&rows).unwrap();
        let backends = &rows[0]["backends"];
        assert_eq!((&rows[0]["rule"], &rows[0]["locality"]), (&json!("latency"), &json!("prefer")));
        assert_eq!(backends[0]["latency_ms"]["handshake"], 0.4);
        assert!(backends[0]["latency_ms"].get("connection").is_none());
        assert!(backends[0]["latency_ms"]["p99"].is_f64());
        assert_eq!(backends[1]["ejected_for_seconds"], 2.5);
        assert!(backends[2].get("in_flight").is_none(), "absent, and not zero");
        assert_eq!(super::rows(&sight, Some(":443"), &minutes), "[]");
    }
}
