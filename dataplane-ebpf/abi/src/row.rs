//! What programs count and know of one backend of one VIP.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Element of `ROWS`: one backend of one VIP, or the VIP itself.
///
/// Counts are only ever added to, atomically, by programs on all CPUs. A candidate is judged by the first half alone, which is one
/// cache line, as long as none of its handshakes is late. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Row {
    /// Changes with each owner of the row, so that sockets of the last owner are not counted.
    pub epoch: u32,
    /// Only in a VIP's own row: how many of its backends are ejected.
    pub ejected: u32,
    /// Connections and flows that it has now.
    pub in_flight: u64,
    /// Times the backend was chosen: TCP connects, connected UDP sockets, UDP flows.
    pub chosen: u64,
    /// Time of a handshake, as `mizzen_ebpf_core::ewma` packs it.
    pub connect: u64,
    /// Time from the end of the handshake to the end of a short connection, packed likewise.
    pub duration: u64,
    /// The end of the pause if the backend is ejected, else zero.
    pub ejected_until: u64,
    /// Since when handshakes are under way and none has been answered; zero once all have been.
    pub waiting_since: u64,
    /// When the backend joined others or came back; zero if it need not warm up.
    pub joined: u64,
    /// TCP connects that left for the backend (a missing route ends one before that), and UDP flows.
    pub started: u64,
    /// TCP handshakes that completed, and UDP flows.
    pub established: u64,
    /// TCP handshakes that did not: reset, unreachable, timed out or given up by the client.
    pub failed: u64,
    /// Established TCP connections, and UDP flows, that ended.
    pub closed: u64,
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
}

/// Of a row whose latencies go into no histogram.
pub const NO_HISTOGRAM: u32 = u32::MAX;
