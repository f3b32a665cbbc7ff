//! One record: small, comparable, and turned into hickory's type only to be sent.

use crate::name::DnsName;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, RecordType};
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Timers of our SOA records, in seconds: refresh, retry, expire. Secondaries that
/// poll use them; the values are those of the dispatcher.
const SOA_TIMERS: (i32, i32, i32) = (60, 180, 86_400);

/// A name and one thing that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its owner in the sense of DNS.
    pub name: DnsName,
    /// What it leads to.
    pub data: Data,
    /// How long a client may keep it, in seconds.
    pub ttl: u32,
    /// Why it is not answered; kept to be explained.
    pub withheld: Option<Withheld>,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name for the same thing.
    Cname(DnsName),
    /// A server of the zone.
    Ns(DnsName),
    /// The zone's start; its serial is that of the zones when it is sent.
    Soa(Box<Start>),
    /// A port of a service.
    Srv {
        /// Lower ones first.
        priority: u16,
        /// Share among those of one priority.
        weight: u16,
        /// Port.
        port: u16,
        /// Whose address to ask for.
        target: DnsName,
    },
}

/// What an SOA record says beyond its serial and timers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// The zone's first server.
    pub server: DnsName,
    /// Who looks after it, a mailbox with its `@` as a dot.
    pub mailbox: DnsName,
    /// How long a client may remember that there is nothing, in seconds.
    pub negative_ttl: u32,
}

/// Why a task's records are not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// It does not run yet.
    Starting,
    /// It was told to stop.
    Killing,
    /// Its machine is being maintained.
    Draining,
    /// Its health check fails.
    Unhealthy,
}

impl Data {
    /// An A or AAAA record's data.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::A(v4),
            IpAddr::V6(v6) => Self::Aaaa(v6),
        }
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::AAAA,
            Self::Cname(_) => RecordType::CNAME,
            Self::Ns(_) => RecordType::NS,
            Self::Soa(_) => RecordType::SOA,
            Self::Srv { .. } => RecordType::SRV,
        }
    }

    /// The data for a message; `None` if a name in it is none.
    pub(crate) fn to_wire(&self, serial: u32) -> Option<RData> {
        Some(match self {
            Self::A(address) => RData::A(A(*address)),
            Self::Aaaa(address) => RData::AAAA(AAAA(*address)),
            Self::Cname(target) => RData::CNAME(CNAME(target.to_wire()?)),
            Self::Ns(server) => RData::NS(NS(server.to_wire()?)),
            Self::Soa(start) => RData::SOA(start.to_wire(serial)?),
            Self::Srv { priority, weight, port, target } => {
                RData::SRV(SRV::new(*priority, *weight, *port, target.to_wire()?))
            }
        })
    }

    /// The whole record for a message, under the name that was asked for.
    pub(crate) fn to_record(
        &self,
        name: &Name,
        ttl: u32,
        serial: u32,
    ) -> Option<hickory_proto::rr::Record> {
        Some(hickory_proto::rr::Record::from_rdata(name.clone(), ttl, self.to_wire(serial)?))
    }
}

impl Start {
    fn to_wire(&self, serial: u32) -> Option<SOA> {
        let (refresh, retry, expire) = SOA_TIMERS;
        let (server, mailbox) = (self.server.to_wire()?, self.mailbox.to_wire()?);
        Some(SOA::new(server, mailbox, serial, refresh, retry, expire, self.negative_ttl))
    }
}

impl fmt::Display for Data {
    /// As zone files write it, without the numbers of an SOA record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "{address}"),
            Self::Aaaa(address) => write!(f, "{address}"),
            Self::Cname(name) | Self::Ns(name) => write!(f, "{name}"),
            Self::Soa(start) => write!(f, "{} {}", start.server, start.mailbox),
            Self::Srv { priority, weight, port, target } => {
                write!(f, "{priority} {weight} {port} {target}")
            }
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {} {}", self.name, self.ttl, self.data.kind(), self.data)
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "the task does not run yet",
            Self::Killing => "the task was told to stop",
            Self::Draining => "the task's machine is being maintained",
            Self::Unhealthy => "the task's health check fails",
        })
    }
}
