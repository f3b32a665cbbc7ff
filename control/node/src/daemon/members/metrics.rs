//! Series of members and of what they send each other.

use crate::daemon::core::Core;
use crate::daemon::vip_views::exposition::{Family, Gone, Writer, counter, gauge};
use mizzen_gossip::transport::Traffic;
use mizzen_membership::swim::State;

/// All that is exposed of the cluster, gathered at one moment.
pub(crate) struct MembersExposed {
    states: [(&'static str, usize); 4],
    traffic: Traffic,
    faults: u64,
    owners: usize,
}

impl Core {
    /// The cluster's numbers; nothing without one.
    pub(crate) fn look_at_members(&self) -> Option<MembersExposed> {
        let members = self.members.as_ref()?;
        let nodes = members.membership.nodes();
        Some(MembersExposed {
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
        Ok(())
    }
}
