//! One record: small, comparable, and turned into hickory's type only to be sent.

use crate::name::DnsName;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, NULL, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use mizzen_types::vip::Distance;
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How often secondaries that poll look for a new serial, in seconds.
const REFRESH: i32 = 60;
/// How long they answer without having found us, in seconds.
const EXPIRE: i32 = 86_400;
/// Numbers of SVCB parameters (RFC 9460, 14.3.2).
pub(crate) const ALPN: u16 = 1;
pub(crate) const PORT: u16 = 3;
pub(crate) const IPV4_HINT: u16 = 4;
pub(crate) const IPV6_HINT: u16 = 6;

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
    /// How far away what it leads to is; nearer records are answered first.
    pub distance: Distance,
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
    /// The name of an address.
    Ptr(DnsName),
    /// Texts of at most 255 bytes each.
    Txt(Vec<Vec<u8>>),
    /// Where mail goes.
    Mx {
        /// Lower ones first.
        preference: u16,
        /// The mail server.
        exchange: DnsName,
    },
    /// How to reach a service (RFC 9460), of any scheme.
    Svcb(Box<Binding>),
    /// How to reach a web service (RFC 9460).
    Https(Box<Binding>),
    /// What somebody wrote down in a type that is none of the above.
    Raw {
        /// Number of the type.
        kind: u16,
        /// The data as it is sent.
        bytes: Vec<u8>,
    },
}

/// What an SVCB or HTTPS record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// Lower ones first; 0 makes `target` another name for the same thing.
    pub priority: u16,
    /// Who serves it; the root stands for the record's own name.
    pub target: DnsName,
    /// Protocols above the transport: `h2`, `http/1.1`.
    pub alpn: Vec<String>,
    /// The port, if it is not the scheme's own.
    pub port: Option<u16>,
    /// IPv4 addresses of the target.
    pub ipv4: Vec<Ipv4Addr>,
    /// IPv6 addresses of the target.
    pub ipv6: Vec<Ipv6Addr>,
}

/// What an SOA record says beyond its serial and timers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// The zone's first server.
    pub server: DnsName,
    /// Who looks after it, a mailbox with its `@` as a dot.
    pub mailbox: DnsName,
    /// How long a secondary waits before it asks again in vain, in seconds.
    pub retry: u16,
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
    /// Its name is one of the cluster's own.
    Reserved,
    /// It has more SRV records than a task may have.
    CrowdedOut,
}

impl Record {
    /// A record that is answered and leads anywhere.
    #[must_use]
    pub fn new(name: DnsName, ttl: u32, data: Data) -> Self {
        Self { name, data, ttl, withheld: None, distance: Distance::Far }
    }

    /// The record for a message; `None` if a name in it is none.
    ///
    /// * `serial` — that of the zones, for SOA records.
    #[must_use]
    pub fn to_message(&self, serial: u32) -> Option<hickory_proto::rr::Record> {
        self.data.to_record(&self.name.to_wire()?, self.ttl, serial)
    }
}

impl Withheld {
    /// All reasons, by their numbers.
    pub(crate) const ALL: [Self; 6] = [
        Self::Starting,
        Self::Killing,
        Self::Draining,
        Self::Unhealthy,
        Self::Reserved,
        Self::CrowdedOut,
    ];

    /// Whether clients that know the record should soon ask again, because what it
    /// leads to goes away.
    #[must_use]
    pub fn is_leaving(self) -> bool {
        matches!(self, Self::Killing | Self::Draining)
    }
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
            Self::Ptr(_) => RecordType::PTR,
            Self::Txt(_) => RecordType::TXT,
            Self::Mx { .. } => RecordType::MX,
            Self::Svcb(_) => RecordType::SVCB,
            Self::Https(_) => RecordType::HTTPS,
            Self::Raw { kind, .. } => RecordType::from(*kind),
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
            Self::Ptr(name) => RData::PTR(PTR(name.to_wire()?)),
            Self::Txt(texts) => {
                RData::TXT(TXT::from_bytes(texts.iter().map(Vec::as_slice).collect()))
            }
            Self::Mx { preference, exchange } => {
                RData::MX(MX::new(*preference, exchange.to_wire()?))
            }
            Self::Svcb(binding) => binding.unknown(RecordType::SVCB)?,
            Self::Https(binding) => binding.unknown(RecordType::HTTPS)?,
            Self::Raw { kind, bytes } => unknown(RecordType::from(*kind), bytes.clone()),
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
    /// Serial and timers in their order.
    pub(crate) fn numbers(&self, serial: u32) -> [u32; 5] {
        [
            serial,
            REFRESH.unsigned_abs(),
            self.retry.into(),
            EXPIRE.unsigned_abs(),
            self.negative_ttl,
        ]
    }

    fn to_wire(&self, serial: u32) -> Option<SOA> {
        let (server, mailbox) = (self.server.to_wire()?, self.mailbox.to_wire()?);
        Some(SOA::new(
            server,
            mailbox,
            serial,
            REFRESH,
            self.retry.into(),
            EXPIRE,
            self.negative_ttl,
        ))
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
            Self::Ptr(name) => write!(f, "{name}"),
            Self::Txt(texts) => write_texts(f, texts),
            Self::Mx { preference, exchange } => write!(f, "{preference} {exchange}"),
            Self::Svcb(binding) | Self::Https(binding) => write!(f, "{binding}"),
            Self::Raw { bytes, .. } => {
                // RFC 3597, 5.
                write!(f, "\\# {}", bytes.len())?;
                bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
        }
    }
}

impl Binding {
    /// Its data as they are sent (RFC 9460, 2.2): parameters by number, each once.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.priority.to_be_bytes().to_vec();
        self.target.push_wire(&mut bytes);
        let alpn: Vec<u8> = self
            .alpn
            .iter()
            .filter_map(|id| Some((u8::try_from(id.len()).ok()?, id)))
            .flat_map(|(length, id)| std::iter::once(length).chain(id.bytes()))
            .collect();
        push_parameter(&mut bytes, ALPN, &alpn);
        push_parameter(&mut bytes, PORT, self.port.map(u16::to_be_bytes).as_slice().as_flattened());
        let ipv4: Vec<u8> = self.ipv4.iter().flat_map(Ipv4Addr::octets).collect();
        push_parameter(&mut bytes, IPV4_HINT, &ipv4);
        let ipv6: Vec<u8> = self.ipv6.iter().flat_map(Ipv6Addr::octets).collect();
        push_parameter(&mut bytes, IPV6_HINT, &ipv6);
        bytes
    }

    fn unknown(&self, kind: RecordType) -> Option<RData> {
        Some(unknown(kind, self.to_bytes()))
    }
}

/// Data of a type that need not be taken apart to be sent.
fn unknown(kind: RecordType, bytes: Vec<u8>) -> RData {
    RData::Unknown { code: kind, rdata: NULL::with(bytes) }
}

fn push_parameter(bytes: &mut Vec<u8>, number: u16, value: &[u8]) {
    let Ok(length) = u16::try_from(value.len()) else { return };
    if length > 0 {
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value);
    }
}

fn write_texts(f: &mut fmt::Formatter<'_>, texts: &[Vec<u8>]) -> fmt::Result {
    for (at, text) in texts.iter().enumerate() {
        let gap = if at == 0 { "" } else { " " };
        write!(f, "{gap}\"{}\"", text.escape_ascii())?;
    }
    Ok(())
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.priority, self.target)?;
        if !self.alpn.is_empty() {
            write!(f, " alpn={}", self.alpn.join(","))?;
        }
        if let Some(port) = self.port {
            write!(f, " port={port}")?;
        }
        write_hints(f, "ipv4hint", &self.ipv4)?;
        write_hints(f, "ipv6hint", &self.ipv6)
    }
}

fn write_hints<A: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    addresses: &[A],
) -> fmt::Result {
    for (at, address) in addresses.iter().enumerate() {
        match at {
            0 => write!(f, " {key}={address}")?,
            _ => write!(f, ",{address}")?,
        }
    }
    Ok(())
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
            Self::Reserved => "the name is one of the cluster's own",
            Self::CrowdedOut => {
                "the task has more than 1,024 SRV records; this one and those after it are left out"
            }
        })
    }
}
