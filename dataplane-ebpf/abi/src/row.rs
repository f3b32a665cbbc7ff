//! What programs count and know of one backend of one VIP.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Element of `ROWS`: one backend of one VIP, or the VIP itself.
///
/// The first half is one cache line. A candidate is judged by it alone, and what a connection changes as a rule is there,
/// so CPUs that balance at the same time hand each other one line and not two. Times are nanoseconds of
/// `CLOCK_MONOTONIC`. Counts are only ever changed atomically.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Row {
    /// Changes with each owner of the row, so that sockets of the last owner are not counted.
    pub epoch: u32,
    /// Only in a VIP's own row: how many of its backends are ejected.
    pub ejected: u32,
    /// What it has now: [`Row::CONNECTION`] for each connection and flow, [`Row::HANDSHAKE`] for each of them that is
    /// not answered yet.
    pub load: u64,
    /// TCP connections that left for the backend, or would have, had the node a route to it; and UDP flows.
    pub started: u64,
    /// Time of a handshake, as `mizzen_ebpf_core::ewma` packs it.
    pub connect: u64,
    /// Time from the end of the handshake to the end of a short connection, packed likewise.
    pub duration: u64,
    /// The end of the pause if the backend is ejected, else zero.
    pub ejected_until: u64,
    /// Since when handshakes have been under way and none has been answered, if any is; right to a sixteenth of
    /// `Settings::handshake`.
    pub waiting_since: u64,
    /// When the backend joined others or came back; zero if it need not warm up.
    pub joined: u64,

    /// Times it was chosen and nothing left that is counted as started: connects that failed before anything left, for
    /// which the backend is not to blame, and further VIPs of one loose datagram socket.
    pub unstarted: u64,
    /// TCP handshakes that failed: no route, reset, unreachable, timed out or given up by the client.
    pub failed: u64,
    /// Only in a VIP's own row: connects and datagrams that found no admitted backend.
    pub refused: u64,
    /// Times it was ejected.
    pub ejections: u64,
    /// Handshakes that failed since the last one that did not.
    pub failures: u32,
    /// Ejections in a row, each making the pause longer.
    pub level: u32,
    /// First of its two elements in `HISTOGRAMS` (handshake, connection), or [`NO_HISTOGRAM`].
    pub histogram: u32,
    /// Row of the VIP that it belongs to.
    pub vip_row: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

impl Row {
    /// One connection or flow, in [`Row::load`].
    pub const CONNECTION: u64 = 1;
    /// One handshake under way, in [`Row::load`].
    pub const HANDSHAKE: u64 = 1 << 32;

    /// Connections and flows of a [`Row::load`].
    #[inline(always)]
    #[must_use]
    pub const fn in_flight(load: u64) -> u32 {
        not_below_zero(load as u32)
    }

    /// Handshakes under way of a [`Row::load`].
    #[inline(always)]
    #[must_use]
    pub const fn handshakes(load: u64) -> u32 {
        not_below_zero((load >> 32) as u32)
    }

    /// TCP handshakes that completed, and UDP flows.
    #[must_use]
    pub const fn established(&self) -> u64 {
        let known = self.failed.wrapping_add(Self::handshakes(self.load) as u64);
        self.started.saturating_sub(known)
    }

    /// Established TCP connections, and UDP flows, that ended.
    #[must_use]
    pub const fn closed(&self) -> u64 {
        let known = self.failed.wrapping_add(Self::in_flight(self.load) as u64);
        self.started.saturating_sub(known)
    }
}

/// Two changes that belong together may be seen the wrong way round, for a moment.
#[inline(always)]
const fn not_below_zero(count: u32) -> u32 {
    if count > u32::MAX / 2 { 0 } else { count }
}

/// Of a row whose latencies go into no histogram.
pub const NO_HISTOGRAM: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_follow_from_beginnings() {
        let load = 3 * Row::CONNECTION + 2 * Row::HANDSHAKE;
        let row = Row { load, started: 10, failed: 4, ..Row::default() };
        assert_eq!((Row::in_flight(load), Row::handshakes(load)), (3, 2));
        assert_eq!((row.established(), row.closed()), (4, 3));
    }

    #[test]
    fn a_count_below_zero_is_none() {
        let load = 0_u64.wrapping_sub(Row::CONNECTION);
        assert_eq!((Row::in_flight(load), Row::handshakes(load)), (0, 0));
        let load = 5 * Row::CONNECTION;
        let load = load.wrapping_sub(Row::HANDSHAKE);
        assert_eq!((Row::in_flight(load), Row::handshakes(load)), (5, 0));
    }

    #[test]
    fn what_a_connection_changes_is_in_one_cache_line() {
        assert_eq!(core::mem::offset_of!(Row, unstarted), 64);
    }
}
