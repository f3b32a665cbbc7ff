//! Series of the resolver. Beside our own names stand those of the dispatcher, where one
//! of its series says the same.

use super::core::Core;
use super::vip_views::exposition::{Family, Gone, Writer, counter, gauge, histogram};
use crate::daemon::clock;
use mizzen_dns_server::{Durations, ForwardSnapshot, Metrics, Road, Transport};
use std::time::Duration;

/// All that is exposed of the resolver, gathered at one moment.
pub(crate) struct NamesExposed {
    metrics: Metrics,
    forwarding: ForwardSnapshot,
    records: u64,
    unconfirmed: u64,
    age_seconds: u64,
}

impl Core {
    /// The resolver's numbers; nothing without one.
    pub(crate) fn look_at_names(&self) -> Option<NamesExposed> {
        let server = self.resolver.server.as_ref()?;
        let standing = self.names.standing(clock::now().wall);
        Some(NamesExposed {
            metrics: server.metrics(),
            forwarding: server.forwarding(),
            records: self.names.size().map_or(0, |(_, records)| records as u64),
            unconfirmed: standing.stale as u64,
            age_seconds: standing.age_seconds,
        })
    }
}

const QUERIES: Family = counter("mizzen_dns_queries_total", "Questions by zone, type and code.");
const ROADS: Family =
    counter("mizzen_dns_answers_total", "Answers by transport and by the way they were made.");
const DURATION: Family = histogram(
    "mizzen_dns_answer_duration_seconds",
    "How long answers took, by the way they were made.",
);
const REFUSED: Family = counter("mizzen_dns_refused_total", "Questions refused, by reason.");
const UPSTREAM_QUERIES: Family =
    counter("mizzen_dns_upstream_queries_total", "Questions sent to an upstream.");
const UPSTREAM_FAILURES: Family = counter(
    "mizzen_dns_upstream_failures_total",
    "Questions that an upstream did not answer well, by reason.",
);
const UPSTREAM_DURATION: Family =
    histogram("mizzen_dns_upstream_duration_seconds", "How long an upstream's answers took.");
/// As the dispatcher called it.
const WORKER_FAILURES: Family = counter(
    "dns_worker_failures_total",
    "As mizzen_dns_upstream_failures_total, for old dashboards.",
);

type Single = (Family, fn(&NamesExposed) -> u64);

const SINGLES: [Single; 16] = [
    (gauge("mizzen_dns_records", "Records that the resolver answers from."), |n| n.records),
    (gauge("dns_zone_records", "As mizzen_dns_records, for old dashboards."), |n| n.records),
    (
        gauge(
            "mizzen_dns_unconfirmed_facts",
            "Facts that a former process knew and no log has confirmed.",
        ),
        |n| n.unconfirmed,
    ),
    (gauge("mizzen_dns_source_age_seconds", "Age of what is not confirmed; 0 if all is."), |n| {
        n.age_seconds
    }),
    (
        counter(
            "mizzen_dns_crowded_out_total",
            "Questions by UDP that were left or sent to TCP, because there were too many.",
        ),
        |n| n.metrics.crowded_out,
    ),
    (counter("mizzen_dns_ignored_total", "Messages that deserve no answer."), |n| {
        n.metrics.ignored
    }),
    (counter("mizzen_dns_tcp_accepted_total", "TCP connections that were accepted."), |n| {
        n.metrics.tcp_accepted
    }),
    (
        counter(
            "mizzen_dns_tcp_crowded_out_total",
            "TCP connections that were closed to make room.",
        ),
        |n| n.metrics.tcp_crowded_out,
    ),
    (counter("mizzen_dns_transfers_total", "Zones that were transferred."), |n| {
        n.metrics.transfers
    }),
    (counter("mizzen_dns_cache_hits_total", "Questions answered from the cache."), |n| {
        n.forwarding.cache.hits
    }),
    (
        counter("mizzen_dns_cache_misses_total", "Questions for which somebody had to be asked."),
        |n| n.forwarding.cache.misses,
    ),
    (
        counter(
            "mizzen_dns_cache_stale_total",
            "Questions answered with what was too old, because no upstream answered.",
        ),
        |n| n.forwarding.cache.stale,
    ),
    (
        counter(
            "mizzen_dns_cache_prefetches_total",
            "Answers that were asked for anew before their end.",
        ),
        |n| n.forwarding.cache.prefetches,
    ),
    (counter("mizzen_dns_loops_total", "Questions of ours that came back to us."), |n| {
        n.forwarding.cache.loops
    }),
    (gauge("mizzen_dns_cache_entries", "Answers that are kept."), |n| {
        n.forwarding.cache.entries as u64
    }),
    (gauge("mizzen_dns_waiting_clients", "Clients that wait for upstreams."), |n| {
        n.forwarding.waiting as u64
    }),
];

impl NamesExposed {
    /// Writes everything.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Gone> {
        self.questions(writer)?;
        self.upstreams(writer)?;
        for (family, of) in SINGLES {
            writer.family(family, |series| series.number(&[], of(self) as f64))?;
        }
        Ok(())
    }

    fn questions(&self, writer: &mut Writer<'_>) -> Result<(), Gone> {
        writer.family(QUERIES, |series| {
            self.metrics.queries.iter().try_for_each(|((zone, kind, code), count)| {
                let zone = zone.as_deref().unwrap_or("");
                series.number(&[("zone", zone), ("type", kind), ("code", code)], *count as f64)
            })
        })?;
        writer.family(ROADS, |series| {
            self.metrics.roads.iter().try_for_each(|((transport, road), count)| {
                let labels = [("transport", transport_word(*transport)), ("way", way(*road))];
                series.number(&labels, *count as f64)
            })
        })?;
        writer.family(REFUSED, |series| {
            self.metrics.refused.iter().try_for_each(|(reason, count)| {
                series.number(&[("reason", reason.as_str())], *count as f64)
            })
        })?;
        writer.family(DURATION, |series| {
            self.metrics.durations.iter().try_for_each(|(road, durations)| {
                let Durations { buckets, count, sum } = durations;
                let buckets = buckets.iter().map(|(bound, below)| (bound.as_secs_f64(), *below));
                let buckets: Vec<(f64, u64)> = buckets.collect();
                series.histogram(&[("way", way(*road))], &buckets, *count, sum.as_secs_f64())
            })
        })
    }

    fn upstreams(&self, writer: &mut Writer<'_>) -> Result<(), Gone> {
        let upstreams: Vec<(String, _)> =
            self.forwarding.upstreams.iter().map(|u| (u.upstream.to_string(), u)).collect();
        writer.family(UPSTREAM_QUERIES, |series| {
            upstreams.iter().try_for_each(|(name, upstream)| {
                series.number(&[("upstream", name)], upstream.queries as f64)
            })
        })?;
        for (family, label) in
            [(UPSTREAM_FAILURES, "upstream"), (WORKER_FAILURES, "upstream_address")]
        {
            writer.family(family, |series| {
                upstreams.iter().try_for_each(|(name, upstream)| {
                    let of = |reason| [(label, name.as_str()), ("reason", reason)];
                    series.number(&of("no_answer"), upstream.failures as f64)?;
                    series.number(&of("error"), upstream.excuses as f64)
                })
            })?;
        }
        writer.family(UPSTREAM_DURATION, |series| {
            upstreams.iter().try_for_each(|(name, upstream)| {
                let (buckets, count) = cumulative(&upstream.latencies);
                let sum = upstream.latency_sum.as_secs_f64();
                series.histogram(&[("upstream", name)], &buckets, count, sum)
            })
        })
    }
}

/// Buckets that hold the ones before them, and how much is in all.
fn cumulative(buckets: &[(Option<Duration>, u64)]) -> (Vec<(f64, u64)>, u64) {
    let mut sum = 0;
    let mut below = Vec::new();
    for (bound, count) in buckets {
        sum += count;
        below.extend(bound.map(|bound| (bound.as_secs_f64(), sum)));
    }
    (below, sum)
}

fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}

fn way(road: Road) -> &'static str {
    match road {
        Road::Short => "short",
        Road::Cache => "cache",
        Road::Full => "full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_dns_server::{CacheSnapshot, ExtendedError};
    use mizzen_http::core::MetricsEncoding;
    use std::collections::BTreeMap;

    #[test]
    fn what_a_dashboard_reads() {
        let metrics = Metrics {
            queries: BTreeMap::from([
                ((Some("mesos.".to_owned()), "A", "NOERROR"), 7),
                ((None, "A", "SERVFAIL"), 1),
            ]),
            roads: BTreeMap::from([((Transport::Udp, Road::Short), 7)]),
            durations: BTreeMap::from([(
                Road::Short,
                Durations {
                    buckets: vec![(Duration::from_micros(10), 6)],
                    count: 7,
                    sum: Duration::from_millis(2),
                },
            )]),
            refused: BTreeMap::from([(ExtendedError::Prohibited, 3)]),
            ..Metrics::default()
        };
        let forwarding = ForwardSnapshot {
            cache: CacheSnapshot::default(),
            upstreams: Vec::new(),
            flights: 0,
            waiting: 0,
        };
        let exposed =
            NamesExposed { metrics, forwarding, records: 12, unconfirmed: 0, age_seconds: 0 };
        let mut text = Vec::new();
        let mut put = |piece: Vec<u8>| {
            text.extend(piece);
            Ok(())
        };
        exposed.write(&mut Writer::new(MetricsEncoding::Text, &mut put)).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "mizzen_dns_queries_total{zone=\"mesos.\",type=\"A\",code=\"NOERROR\"} 7",
            "mizzen_dns_queries_total{zone=\"\",type=\"A\",code=\"SERVFAIL\"} 1",
            "mizzen_dns_answers_total{transport=\"udp\",way=\"short\"} 7",
            "mizzen_dns_answer_duration_seconds_bucket{way=\"short\",le=\"1e-5\"} 6",
            "mizzen_dns_answer_duration_seconds_bucket{way=\"short\",le=\"+Inf\"} 7",
            "mizzen_dns_answer_duration_seconds_sum{way=\"short\"} 0.002",
            "mizzen_dns_refused_total{reason=\"prohibited\"} 3",
            "mizzen_dns_records 12",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
    }

    #[test]
    fn buckets_add_up() {
        let found = cumulative(&[
            (Some(Duration::from_millis(1)), 2),
            (Some(Duration::from_millis(2)), 3),
            (None, 4),
        ]);
        assert_eq!(found, (vec![(0.001, 2), (0.002, 5)], 9));
    }
}
