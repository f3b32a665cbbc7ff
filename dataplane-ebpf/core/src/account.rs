//! What both engines tell of a backend.

/// What happened to one backend of one VIP, and how it stands.
///
/// Counted since the VIP first had it; by the queue engine since its process had both, and at very high rates from the
/// part of the connections that it watches to their ends, `chosen` being exact always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times it was chosen: TCP connects, connected UDP sockets, UDP flows.
    pub chosen: u64,
    /// TCP connects that left for it, or would have, had there been a route; and UDP flows.
    pub started: u64,
    /// TCP handshakes that completed, and UDP flows.
    pub established: u64,
    /// TCP handshakes that did not, and connects that found no route.
    pub failed: u64,
    /// Established TCP connections and UDP flows that ended.
    pub closed: u64,
    /// Connections and flows that it has.
    pub in_flight: u64,
    /// Time of a handshake now (microseconds); zero if unknown.
    pub connect_micros: u32,
    /// Life of a short connection now (microseconds); zero if unknown.
    pub duration_micros: u32,
    /// Handshakes that failed since the last one that did not.
    pub failures_in_a_row: u32,
    /// Times it was ejected.
    pub ejections: u64,
    /// Milliseconds that its ejection goes on for; none if it is not ejected, zero if the next connect tries it.
    pub ejected_for: Option<u64>,
    /// Milliseconds for which handshakes have been under way without an answer; none if none is.
    pub waiting_for: Option<u64>,
    /// Milliseconds since it joined others or came back; none if it did neither.
    pub joined_for: Option<u64>,
}

impl Counts {
    /// TCP connects that are neither established nor failed yet.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.started.saturating_sub(self.established).saturating_sub(self.failed)
    }
}

/// Why a backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was the only candidate.
    Only = 0,
    /// It was cheaper than the other.
    Cheaper = 1,
    /// It was drawn first, and the other was not cheaper.
    Tie = 2,
    /// The rule is to draw.
    Drawn = 3,
    /// The ring says so.
    Ring = 4,
    /// Near backends were too busy.
    Spilled = 5,
    /// It was ejected, and this connect tried it.
    Probe = 6,
    /// No other could be used.
    LastResort = 7,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_follows_from_the_counts() {
        let counts = Counts { started: 10, established: 6, failed: 3, ..Counts::default() };
        assert_eq!(counts.pending(), 1);
    }
}
