//! What callers say and are told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use mizzen_ebpf_abi::{Be16, Counters, Ip16, Slot, VipKey};

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

/// A backend as the caller wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendWanted {
    /// Where its connections go.
    pub address: SocketAddr,
    /// Share of new connections relative to its siblings; zero gets none.
    pub weight: u16,
    /// Whether it takes new connections at all.
    pub admission: Admission,
}

/// A backend as the maps have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendState {
    /// Where its connections go.
    pub address: SocketAddr,
    /// Share of new connections relative to its siblings.
    pub weight: u16,
    /// Whether it takes new connections.
    pub admission: Admission,
    /// Its number while this VIP keeps it: stable over changes and restarts.
    pub id: u32,
}

/// Whether a backend takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It does.
    Admitted,
    /// It does not, because it drains or is unhealthy; connections that it has go on.
    Withheld,
}

/// What happened to one backend of one VIP since the VIP first had it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times it was chosen: TCP connects, connected UDP sockets, UDP flows.
    pub chosen: u64,
    /// TCP connects that left for it; the rest of the chosen ones found no route.
    pub started: u64,
    /// TCP handshakes that completed.
    pub established: u64,
    /// TCP handshakes that did not.
    pub failed: u64,
    /// Established TCP connections that ended.
    pub closed: u64,
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
        Self { address, weight: 1, admission: Admission::Admitted }
    }

    /// Its contribution to the sums that a draw is made from.
    pub(crate) fn effective_weight(&self) -> u32 {
        match self.admission {
            Admission::Admitted => u32::from(self.weight),
            Admission::Withheld => 0,
        }
    }
}

impl BackendState {
    pub(crate) fn from_slot(slot: &Slot) -> Self {
        Self {
            address: slot_address(slot),
            // Only this crate writes slots, and always from 16 bits.
            weight: u16::try_from(slot.weight).unwrap_or(u16::MAX),
            admission: match slot.flags & Slot::ADMITTED {
                0 => Admission::Withheld,
                _ => Admission::Admitted,
            },
            id: slot.row,
        }
    }

    /// Whether nothing has to change for this to be as wanted.
    pub(crate) fn is(&self, wanted: &BackendWanted) -> bool {
        self.address == wanted.address
            && self.weight == wanted.weight
            && self.admission == wanted.admission
    }
}

impl Counts {
    /// TCP connects that are neither established nor failed yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.started.saturating_sub(self.established).saturating_sub(self.failed)
    }

    /// TCP connections that exist, established or not.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.failed).saturating_sub(self.closed)
    }
}

impl From<&Counters> for Counts {
    fn from(counters: &Counters) -> Self {
        Self {
            chosen: counters.chosen,
            started: counters.started,
            established: counters.established,
            failed: counters.failed,
            closed: counters.closed,
        }
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
    fn pending_and_in_flight_follow_from_the_counts() {
        let counts = Counts { chosen: 12, started: 10, established: 6, failed: 3, closed: 4 };
        assert_eq!((counts.pending(), counts.in_flight()), (1, 3));
    }
}
