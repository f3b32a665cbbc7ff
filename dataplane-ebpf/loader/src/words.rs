//! What callers say and are told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mizzen_ebpf_abi::{Be16, Ip16, Row, Settings, Slot, VipKey, VipValue, rule};
use mizzen_ebpf_core::account::Counts;
use mizzen_ebpf_core::ewma::{Average, ticks};

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// A virtual service: address, port and IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipAddress {
    /// Virtual address and port.
    pub socket: SocketAddr,
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
}

/// A VIP as the caller wants it, or as the maps have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipWanted {
    /// Where connections go, in any order; none refuses every connect.
    pub backends: Vec<BackendWanted>,
    /// What decides between them.
    pub rule: Rule,
    /// Whether near backends go first.
    pub locality: Locality,
    /// What becomes of the sockets of a backend that is removed; a [`Leaver`](crate::Leaver) tells the caller, who ends them.
    pub removal: Removal,
    /// Milliseconds over which a backend that joins others grows to its share; zero for none.
    pub slow_start: u32,
}

/// What decides between the backends of a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// The cheaper of two, by latency and connections in flight.
    #[default]
    Latency,
    /// The less busy of two.
    LeastConnections,
    /// A draw by weight.
    Random,
    /// A consistent hash of the connection.
    Maglev,
    /// A consistent hash of the client.
    Source,
}

/// Whether near backends of a VIP go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locality {
    /// They do, until they are several times as busy as the others.
    #[default]
    Prefer,
    /// All are alike.
    Ignore,
}

/// What becomes of the sockets of a backend that is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removal {
    /// Connected datagram sockets are ended.
    #[default]
    EndDatagrams,
    /// TCP connections as well.
    EndAll,
    /// Nothing is ended.
    Keep,
}

/// How far away a backend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// On this node.
    Node,
    /// On another node of this zone.
    Zone,
    /// Elsewhere.
    #[default]
    Far,
}

/// A backend as the caller wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendWanted {
    /// Where its connections go.
    pub address: SocketAddr,
    /// Share of new connections relative to its siblings; zero gets none.
    pub weight: u16,
    /// Whether it takes new connections at all.
    pub admission: Admission,
    /// How far away it is.
    pub distance: Distance,
}

impl From<Vec<BackendWanted>> for VipWanted {
    fn from(backends: Vec<BackendWanted>) -> Self {
        Self { backends, ..Self::default() }
    }
}

/// A VIP as the maps have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipState {
    /// As it would have to be wanted for nothing to change, its backends in the order of their addresses.
    pub spec: VipWanted,
    /// Numbers of the backends, in the same order: stable over changes and restarts.
    pub ids: Vec<u32>,
}

/// By what programs judge backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Failed handshakes in a row after which a backend is ejected; zero never ejects.
    pub failures: u32,
    /// The first pause; each further one is twice as long.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Percentage of a VIP's admitted backends below which all are admitted, ejected or not.
    pub least_left: u32,
    /// A backend that has left handshakes unanswered for so long is avoided.
    pub handshake: Duration,
    /// A connection that lives no longer tells of the backend's speed.
    pub short: Duration,
    /// A flow of datagrams without a datagram for so long is over.
    pub idle: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            failures: 3,
            pause: Duration::from_secs(5),
            longest_pause: Duration::from_secs(300),
            least_left: 30,
            handshake: Duration::from_millis(400),
            short: Duration::from_secs(2),
            idle: Duration::from_secs(60),
        }
    }
}

impl From<&Tuning> for Settings {
    fn from(tuning: &Tuning) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            failures: tuning.failures,
            least_left: tuning.least_left,
            pause: nanos(tuning.pause),
            longest_pause: nanos(tuning.longest_pause),
            handshake: nanos(tuning.handshake),
            short: nanos(tuning.short),
            idle: nanos(tuning.idle),
        }
    }
}

impl From<&Settings> for Tuning {
    fn from(settings: &Settings) -> Self {
        Self {
            failures: settings.failures,
            pause: Duration::from_nanos(settings.pause),
            longest_pause: Duration::from_nanos(settings.longest_pause),
            least_left: settings.least_left,
            handshake: Duration::from_nanos(settings.handshake),
            short: Duration::from_nanos(settings.short),
            idle: Duration::from_nanos(settings.idle),
        }
    }
}

/// Whether a backend takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It does.
    Admitted,
    /// It does not, because it drains or is unhealthy; connections that it has go on.
    Withheld,
}

impl VipAddress {
    /// A virtual TCP service.
    #[must_use]
    pub fn tcp(socket: SocketAddr) -> Self {
        Self { socket, protocol: TCP }
    }

    /// A virtual UDP service.
    #[must_use]
    pub fn udp(socket: SocketAddr) -> Self {
        Self { socket, protocol: UDP }
    }

    pub(crate) fn key(&self) -> VipKey {
        VipKey {
            address: Ip16::from(self.socket.ip()),
            port: Be16::new(self.socket.port()),
            protocol: self.protocol,
            reserved: 0,
        }
    }

    pub(crate) fn from_key(key: &VipKey) -> Self {
        let socket = SocketAddr::new(IpAddr::from(key.address), key.port.get());
        Self { socket, protocol: key.protocol }
    }
}

impl fmt::Display for VipAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            TCP => write!(f, "{}/tcp", self.socket),
            UDP => write!(f, "{}/udp", self.socket),
            other => write!(f, "{}/{other}", self.socket),
        }
    }
}

impl BackendWanted {
    /// An admitted backend of weight 1.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let (admission, distance) = (Admission::Admitted, Distance::default());
        Self { address, weight: 1, admission, distance }
    }

    /// Whether new connections may go there.
    pub(crate) fn is_open(&self) -> bool {
        self.admission == Admission::Admitted && self.weight > 0
    }

    pub(crate) fn from_slot(slot: &Slot) -> Self {
        Self {
            address: slot_address(slot),
            // Only this crate writes slots, and always from 16 bits.
            weight: u16::try_from(slot.weight).unwrap_or(u16::MAX),
            admission: match slot.flags & Slot::ADMITTED {
                0 => Admission::Withheld,
                _ => Admission::Admitted,
            },
            distance: match slot.flags {
                flags if flags & Slot::ON_NODE != 0 => Distance::Node,
                flags if flags & Slot::IN_ZONE != 0 => Distance::Zone,
                _ => Distance::Far,
            },
        }
    }

    pub(crate) fn slot_flags(&self) -> u16 {
        let admitted = match self.admission {
            Admission::Admitted => Slot::ADMITTED,
            Admission::Withheld => 0,
        };
        let distance = match self.distance {
            Distance::Node => Slot::ON_NODE,
            Distance::Zone => Slot::IN_ZONE,
            Distance::Far => 0,
        };
        admitted | distance
    }
}

impl VipWanted {
    pub(crate) fn rule_number(&self) -> u8 {
        match self.rule {
            Rule::Latency => rule::LATENCY,
            Rule::LeastConnections => rule::LEAST_CONNECTIONS,
            Rule::Random => rule::RANDOM,
            Rule::Maglev => rule::MAGLEV,
            Rule::Source => rule::SOURCE,
        }
    }

    pub(crate) fn needs_ring(&self) -> bool {
        matches!(self.rule, Rule::Maglev | Rule::Source)
    }

    pub(crate) fn flags(&self) -> u8 {
        let removal = match self.removal {
            Removal::EndDatagrams => VipValue::END_DATAGRAMS,
            Removal::EndAll => VipValue::END_DATAGRAMS | VipValue::END_STREAMS,
            Removal::Keep => 0,
        };
        let locality = match self.locality {
            Locality::Prefer => VipValue::LOCALITY,
            Locality::Ignore => 0,
        };
        removal | locality
    }

    /// The wish that led to this value, but for the backends.
    pub(crate) fn from_value(value: &VipValue, backends: Vec<BackendWanted>) -> Self {
        Self {
            backends,
            rule: match value.rule {
                rule::LEAST_CONNECTIONS => Rule::LeastConnections,
                rule::RANDOM => Rule::Random,
                rule::MAGLEV => Rule::Maglev,
                rule::SOURCE => Rule::Source,
                _ => Rule::Latency,
            },
            locality: match value.flags & VipValue::LOCALITY {
                0 => Locality::Ignore,
                _ => Locality::Prefer,
            },
            removal: Removal::from_flags(value.flags),
            slow_start: value.slow_start,
        }
    }
}

impl Removal {
    /// What the flags of a VIP say.
    pub(crate) fn from_flags(flags: u8) -> Self {
        match flags {
            flags if flags & VipValue::END_STREAMS != 0 => Self::EndAll,
            flags if flags & VipValue::END_DATAGRAMS != 0 => Self::EndDatagrams,
            _ => Self::Keep,
        }
    }
}

/// What a row says at `now` (nanoseconds of `CLOCK_MONOTONIC`).
pub(crate) fn counts_at(row: &Row, now: u64) -> Counts {
    let ticks = ticks(now);
    let since = |then: u64| (then != 0).then(|| now.saturating_sub(then) / 1_000_000);
    let is_waiting = Row::handshakes(row.load) != 0;
    Counts {
        chosen: row.started.wrapping_add(row.unstarted),
        started: row.started,
        established: row.established(),
        failed: row.failed,
        closed: row.closed(),
        in_flight: u64::from(Row::in_flight(row.load)),
        connect_micros: Average::unpack(row.connect).at(ticks),
        duration_micros: Average::unpack(row.duration).at(ticks),
        failures_in_a_row: row.failures,
        ejections: row.ejections,
        ejected_for: (row.ejected_until != 0)
            .then(|| row.ejected_until.saturating_sub(now) / 1_000_000),
        waiting_for: since(row.waiting_since).filter(|_| is_waiting),
        joined_for: since(row.joined),
    }
}

pub(crate) fn slot_address(slot: &Slot) -> SocketAddr {
    SocketAddr::new(IpAddr::from(slot.address), slot.port.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_names_the_same_vip() {
        let plain = VipAddress::tcp("11.0.0.1:80".parse().expect("an address"));
        let mapped = VipAddress::tcp("[::ffff:11.0.0.1]:80".parse().expect("an address"));
        assert_eq!(mapped.key(), plain.key());
        assert_eq!(VipAddress::from_key(&mapped.key()), plain);
        assert_eq!(plain.to_string(), "11.0.0.1:80/tcp");
    }

    #[test]
    fn a_tuning_survives_its_way_to_the_programs() {
        let tuning = Tuning::default();
        assert_eq!(Tuning::from(&Settings::from(&tuning)), tuning);
    }
}
