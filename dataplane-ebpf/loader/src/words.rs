//! What callers say and are told, and how the maps spell it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mizzen_ebpf_abi::{Be16, Ip16, Row, Settings, Slot, VipKey, VipValue, rule};
use mizzen_ebpf_core::account::Counts;
use mizzen_ebpf_core::ewma::{Average, ticks};
use mizzen_ebpf_core::words::{
    Admission, BackendWanted, Distance, Locality, Removal, Rule, Tuning, VipAddress,
};

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

/// What programs go by in a network namespace with this cookie.
pub(crate) fn settings(tuning: &Tuning, netns: u64) -> Settings {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Settings {
        failures: tuning.failures,
        least_left: tuning.least_left,
        pause: nanos(tuning.pause),
        longest_pause: nanos(tuning.longest_pause),
        handshake: nanos(tuning.handshake),
        short: nanos(tuning.short),
        idle: nanos(tuning.idle),
        netns,
    }
}

/// What such settings were made from.
pub(crate) fn tuning(settings: &Settings) -> Tuning {
    Tuning {
        failures: settings.failures,
        pause: Duration::from_nanos(settings.pause),
        longest_pause: Duration::from_nanos(settings.longest_pause),
        least_left: settings.least_left,
        handshake: Duration::from_nanos(settings.handshake),
        short: Duration::from_nanos(settings.short),
        idle: Duration::from_nanos(settings.idle),
    }
}

/// The key of a VIP.
pub(crate) fn vip_key(vip: &VipAddress) -> VipKey {
    VipKey {
        address: Ip16::from(vip.socket.ip()),
        port: Be16::new(vip.socket.port()),
        protocol: vip.protocol,
        reserved: 0,
    }
}

/// The VIP that has this key.
pub(crate) fn vip_address(key: &VipKey) -> VipAddress {
    let socket = SocketAddr::new(IpAddr::from(key.address), key.port.get());
    VipAddress { socket, protocol: key.protocol }
}

/// The backend that a slot was written for.
pub(crate) fn backend(slot: &Slot) -> BackendWanted {
    BackendWanted {
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

/// What a slot says about its backend.
pub(crate) fn slot_flags(backend: &BackendWanted) -> u16 {
    let admitted = match backend.admission {
        Admission::Admitted => Slot::ADMITTED,
        Admission::Withheld => 0,
    };
    let distance = match backend.distance {
        Distance::Node => Slot::ON_NODE,
        Distance::Zone => Slot::IN_ZONE,
        Distance::Far => 0,
    };
    admitted | distance
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

    /// Whether nothing but the backends can differ between this and what led to a value.
    pub(crate) fn is_but_for_backends(&self, value: &VipValue) -> bool {
        Self::from_value(value, Vec::new()) == (Self { backends: Vec::new(), ..*self })
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
            removal: removal(value.flags),
            slow_start: value.slow_start,
        }
    }
}

/// What the flags of a VIP say.
pub(crate) fn removal(flags: u8) -> Removal {
    match flags {
        flags if flags & VipValue::END_STREAMS != 0 => Removal::EndAll,
        flags if flags & VipValue::END_DATAGRAMS != 0 => Removal::EndDatagrams,
        _ => Removal::Keep,
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
        assert_eq!(vip_key(&mapped), vip_key(&plain));
        assert_eq!(vip_address(&vip_key(&mapped)), plain);
        assert_eq!(plain.to_string(), "11.0.0.1:80/tcp");
    }

    #[test]
    fn a_tuning_survives_its_way_to_the_programs() {
        let wanted = Tuning::default();
        assert_eq!(tuning(&settings(&wanted, 7)), wanted);
    }
}
