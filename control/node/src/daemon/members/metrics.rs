//! Series of members and of what they send each other.

use crate::daemon::clock;
use crate::daemon::core::Core;
use crate::daemon::vip_views::exposition::{Family, Gone, Series, Writer, counter, gauge};
use mizzen_gossip::transport::Traffic;
use mizzen_membership::nodes::Node;
use mizzen_membership::swim::State;

/// All that is exposed of the cluster, gathered at one moment.
pub(crate) struct MembersExposed {
    states: [(&'static str, usize); 4],
    traffic: Traffic,
    faults: u64,
    owners: usize,
    /// Other nodes that say that something is wrong with them.
    unhealthy: usize,
    /// Round trips to other nodes, in seconds, the shortest first.
    round_trips: Vec<f64>,
    /// Seconds by which others' clocks are ahead, the least first.
    clocks: Vec<f64>,
    /// Until the end of this node's certificate, in seconds.
    certificate: f64,
}

impl Core {
    /// The cluster's numbers; nothing without one.
    pub(crate) fn look_at_members(&self) -> Option<MembersExposed> {
        let members = self.members.as_ref()?;
        let nodes = members.membership.nodes();
        let ill = |node: &&Node| !self.problems_said_by(node.identity.node()).is_empty();
        let round_trips = nodes.iter().filter(|node| node.is_here());
        let round_trips = round_trips.filter_map(|node| node.round_trip);
        let until = members.credentials.certificate.until.0;
        let left = until.saturating_sub(clock::now().wall.0);
        Some(MembersExposed {
            unhealthy: nodes.iter().filter(ill).count(),
            round_trips: sorted(round_trips.map(|span| span.as_secs_f64())),
            clocks: sorted(members.clocks.all()),
            certificate: left as f64 / 1e9,
            states: [
                ("alive", nodes.count(State::Alive)),
                ("suspect", nodes.count(State::Suspect)),
                ("dead", nodes.count(State::Dead)),
                ("left", nodes.count(State::Left)),
            ],
            traffic: members.transport.traffic(),
            faults: members.faults,
            owners: members.membership.exchange().owners().count(),
        })
    }
}

const NODES: Family = gauge("mizzen_cluster_nodes", "Nodes of the cluster by state.");
const LOGS: Family = gauge("mizzen_cluster_logs", "Owner logs that are known here.");
const DATAGRAMS: Family =
    counter("mizzen_cluster_datagrams_total", "Datagrams to and from other nodes.");
const DATAGRAM_BYTES: Family = counter(
    "mizzen_cluster_datagram_bytes_total",
    "Bytes of datagrams to and from other nodes, seals included.",
);
const REFUSED: Family =
    counter("mizzen_cluster_datagrams_refused_total", "Datagrams that were not taken, by reason.");
const MESSAGES: Family =
    counter("mizzen_cluster_messages_total", "Messages over streams to and from other nodes.");
const MESSAGE_BYTES: Family =
    counter("mizzen_cluster_message_bytes_total", "Bytes of messages over streams.");
const STREAMS: Family = counter("mizzen_cluster_streams_total", "Streams opened, by either side.");
const REFUSED_STREAMS: Family = counter(
    "mizzen_cluster_streams_refused_total",
    "Connections that did not become streams: no certificate of the cluster, or garbage.",
);
const FAULTS: Family = counter(
    "mizzen_cluster_faults_total",
    "Times that a member sent what it should not: garbage, wrong signatures, facts of others.",
);

const UNHEALTHY: Family =
    gauge("mizzen_cluster_unhealthy_nodes", "Nodes that say that something is wrong with them.");
const ROUND_TRIP: Family = gauge(
    "mizzen_cluster_round_trip_seconds",
    "Time that live nodes take to answer a datagram of this one, smoothed.",
);
const CLOCK: Family = gauge(
    "mizzen_cluster_clock_ahead_seconds",
    "Time by which clocks of other nodes are ahead of this one's.",
);
const CERTIFICATE: Family =
    gauge("mizzen_cluster_certificate_seconds", "Time until this node's certificate ends.");

impl MembersExposed {
    /// Writes all of it.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Gone> {
        let t = &self.traffic;
        writer.family(NODES, |series| {
            self.states
                .iter()
                .try_for_each(|(state, count)| series.number(&[("state", state)], *count as f64))
        })?;
        let ways = |into: u64, out: u64| [("in", into), ("out", out)];
        let by_way = [
            (DATAGRAMS, ways(t.datagrams_in, t.datagrams_out)),
            (DATAGRAM_BYTES, ways(t.datagram_bytes_in, t.datagram_bytes_out)),
            (MESSAGES, ways(t.messages_in, t.messages_out)),
            (MESSAGE_BYTES, ways(t.message_bytes_in, t.message_bytes_out)),
        ];
        for (family, ways) in by_way {
            writer.family(family, |series| {
                ways.iter()
                    .try_for_each(|(way, count)| series.number(&[("way", way)], *count as f64))
            })?;
        }
        let reasons = [
            ("garbage", t.garbage),
            ("unknown_key", t.foreign),
            ("forged", t.forged),
            ("replayed", t.replayed),
            ("no_time", t.dropped),
        ];
        writer.family(REFUSED, |series| {
            reasons
                .iter()
                .try_for_each(|(reason, count)| series.number(&[("reason", reason)], *count as f64))
        })?;
        let singles = [
            (LOGS, self.owners as u64),
            (STREAMS, t.streams),
            (REFUSED_STREAMS, t.refused_streams),
            (FAULTS, self.faults),
        ];
        for (family, count) in singles {
            writer.family(family, |series| series.number(&[], count as f64))?;
        }
        writer.family(CERTIFICATE, |series| series.number(&[], self.certificate))?;
        writer.family(UNHEALTHY, |series| series.number(&[], self.unhealthy as f64))?;
        for (family, sorted) in [(ROUND_TRIP, &self.round_trips), (CLOCK, &self.clocks)] {
            writer.family(family, |series| spread(series, sorted))?;
        }
        Ok(())
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The least, the middle and the most of many: a series for each node would be as many as
/// there are pairs of nodes.
fn spread(series: &mut Series<'_, '_>, sorted: &[f64]) -> Result<(), Gone> {
    let middle = sorted.get(sorted.len() / 2);
    for (which, value) in [("least", sorted.first()), ("median", middle), ("most", sorted.last())] {
        if let Some(value) = value {
            series.number(&[("which", which)], *value)?;
        }
    }
    Ok(())
}
