//! Ports of this host that lead to containers: one nf_tables table of our own.
//!
//! The rules are made once, with the table. A published port is an element of a map, so
//! publishing one costs the same however many there are, and the kernel finds it without
//! going through a list:
//!
//! ```text
//! prerouting, output   local address and not one of `except?
//!                        dnat to (address . protocol . port) in host4, host6
//!                        dnat to (protocol . port)           in any4, any6
//! postrouting          redirected, and back to its sender (itself4, itself6) or out of the
//!                      link it came by (hairpin4, hairpin6), or from 127.0.0.0/8: masquerade
//! prerouting (raw)     to 127.0.0.0/8 and not from here: drop
//! ```
//!
//! The last rule is there because packets from 127.0.0.1 to a container need the setting
//! `route_localnet`, which on its own opens the loopback addresses to neighbours.

mod rules;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use mizzen_net_words::PortEntry;
use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList,
    SetElementMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterProtoFamily};

use crate::attributes::attributes_after;
use crate::connection::request;
use crate::error::NetlinkError;
use crate::nft::{Nft, begin, comment, end, message, object, octets, userdata};
use crate::{Ensured, Removed};

/// The table that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTableSpec {
    /// Its name; it is ours alone.
    pub table: String,
    /// Local addresses whose ports are never published, such as those of a resolver.
    pub except: Vec<IpNet>,
}

/// An element as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedPort {
    /// The element.
    pub entry: PortEntry,
    /// The mark of its owner.
    pub mark: String,
}

impl Nft {
    /// Makes sure that the table is there with its maps and its rules. The addresses that are left
    /// out of one that is there stay what they are, and so does what is in its maps: it belongs to
    /// others.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel refuses, for instance because it was built
    /// without `NFT_NAT` or `NFT_FIB_INET`.
    pub fn ensure_port_table(&mut self, spec: &PortTableSpec) -> Result<Ensured<()>, NetlinkError> {
        let before = self.observe_fingerprints(&spec.table)?;
        if before == rules::marks() {
            return Ok(Ensured::Unchanged(()));
        }
        let batch = rules::table_batch(spec);
        self.connection.batch(batch).map_err(|refusal| refusal.to("make", object(&spec.table)))?;
        Ok(if before.is_empty() { Ensured::Created(()) } else { Ensured::Repaired(()) })
    }

    /// Whether the table has its rules, without which its entries lead nowhere.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel has no nf_tables.
    pub fn has_port_rules(&mut self, table: &str) -> Result<bool, NetlinkError> {
        Ok(self.observe_fingerprints(table)? == rules::marks())
    }

    /// Adds entries, all or none, with the mark of their owner (at most 253 bytes).
    ///
    /// # Errors
    ///
    /// [`NetlinkError::is_taken`] if one of the ports is published already,
    /// [`NetlinkError::is_absent`] if there is no such table.
    pub fn add_ports(
        &mut self,
        table: &str,
        entries: &[PortEntry],
        mark: &str,
    ) -> Result<(), NetlinkError> {
        let add = |entry: &PortEntry| {
            let elements = NfTablesMessage::NewSetElement(elements(table, entry, Some(mark)));
            request(message(elements), NLM_F_CREATE | NLM_F_EXCL)
        };
        let batch = [begin()].into_iter().chain(entries.iter().map(add)).chain([end()]);
        self.connection
            .batch(batch.collect())
            .map_err(|refusal| refusal.to("publish ports in", object(table)))
    }

    /// Removes one entry, whoever owns it.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if it is there and the kernel will not remove it.
    pub fn remove_port(&mut self, table: &str, entry: &PortEntry) -> Result<Removed, NetlinkError> {
        let gone = NfTablesMessage::DeleteSetElement(elements(table, entry, None));
        match self.connection.batch(vec![begin(), request(message(gone), 0), end()]) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ENOENT) => Ok(Removed::Absent),
            Err(refusal) => Err(refusal.to("remove a port from", object(table))),
        }
    }

    /// Lists the entries; none if there is no such table.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel has no nf_tables.
    pub fn observe_ports(&mut self, table: &str) -> Result<Vec<PublishedPort>, NetlinkError> {
        let mut found = Vec::new();
        for set in Set::ALL {
            let attributes = vec![
                SetElementList::Table(table.to_owned()),
                SetElementList::Set(set.name().into()),
            ];
            let question = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
            let answer = self.connection.dump(message(question), |payload| read(set, payload));
            match answer {
                Ok(lists) => found.extend(lists.into_iter().flatten()),
                Err(refusal) if refusal.is(libc::ENOENT) => return Ok(Vec::new()),
                Err(refusal) => return Err(refusal.to("list the ports of", object(table))),
            }
        }
        Ok(found)
    }
}

/// A map or a set of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// (address . protocol . port) to (address . port).
    Host(Family),
    /// (protocol . port) to (address . port).
    Any(Family),
    /// (address . address).
    Itself(Family),
    /// (link . address).
    Hairpin(Family),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Numbers by which the nft tool knows types, six bits each in a concatenation.
mod types {
    pub(super) const IPV4: u32 = 7;
    pub(super) const IPV6: u32 = 8;
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const PORT: u32 = 13;
    pub(super) const LINK: u32 = 41;
    pub(super) const BITS: u32 = 6;
}

/// Bytes of a part of a concatenation are rounded up to this.
const CELL: usize = 4;
const LINK_BYTES: usize = libc::IFNAMSIZ;

impl Set {
    const ALL: [Self; 8] = [
        Self::Host(Family::V4),
        Self::Host(Family::V6),
        Self::Any(Family::V4),
        Self::Any(Family::V6),
        Self::Itself(Family::V4),
        Self::Itself(Family::V6),
        Self::Hairpin(Family::V4),
        Self::Hairpin(Family::V6),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Host(Family::V4) => "host4",
            Self::Host(Family::V6) => "host6",
            Self::Any(Family::V4) => "any4",
            Self::Any(Family::V6) => "any6",
            Self::Itself(Family::V4) => "itself4",
            Self::Itself(Family::V6) => "itself6",
            Self::Hairpin(Family::V4) => "hairpin4",
            Self::Hairpin(Family::V6) => "hairpin6",
        }
    }

    fn family(self) -> Family {
        let (Self::Host(family) | Self::Any(family) | Self::Itself(family) | Self::Hairpin(family)) =
            self;
        family
    }

    fn key_bytes(self) -> usize {
        match self {
            Self::Host(family) => family.bytes() + 2 * CELL,
            Self::Any(_) => 2 * CELL,
            Self::Itself(family) => 2 * family.bytes(),
            Self::Hairpin(family) => LINK_BYTES + family.bytes(),
        }
    }

    fn key_type(self) -> u32 {
        match self {
            Self::Host(family) => concat(&[family.kind(), types::PROTOCOL, types::PORT]),
            Self::Any(_) => concat(&[types::PROTOCOL, types::PORT]),
            Self::Itself(family) => concat(&[family.kind(), family.kind()]),
            Self::Hairpin(family) => concat(&[types::LINK, family.kind()]),
        }
    }

    fn of(entry: &PortEntry) -> Self {
        match entry {
            PortEntry::Publish { host: Some(_), to, .. } => Self::Host(Family::of(to.ip())),
            PortEntry::Publish { host: None, to, .. } => Self::Any(Family::of(to.ip())),
            PortEntry::Itself { address } => Self::Itself(Family::of(*address)),
            PortEntry::Hairpin { address, .. } => Self::Hairpin(Family::of(*address)),
        }
    }
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn of(address: IpAddr) -> Self {
        if address.is_ipv6() { Self::V6 } else { Self::V4 }
    }

    fn bytes(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    fn kind(self) -> u32 {
        match self {
            Self::V4 => types::IPV4,
            Self::V6 => types::IPV6,
        }
    }

    fn protocol(self) -> NetfilterProtoFamily {
        match self {
            Self::V4 => NetfilterProtoFamily::IPv4,
            Self::V6 => NetfilterProtoFamily::IPv6,
        }
    }

    /// The address at the front of these bytes.
    fn read(self, bytes: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => <[u8; 4]>::try_from(bytes.get(..4)?).ok().map(|b| Ipv4Addr::from(b).into()),
            Self::V6 => {
                <[u8; 16]>::try_from(bytes.get(..16)?).ok().map(|b| Ipv6Addr::from(b).into())
            }
        }
    }
}

fn concat(kinds: &[u32]) -> u32 {
    kinds.iter().fold(0, |all, kind| all << types::BITS | kind)
}

/// Key and, for a map, value of an element.
fn encode(entry: &PortEntry) -> (Vec<u8>, Option<Vec<u8>>) {
    match entry {
        PortEntry::Publish { host, protocol, port, to } => {
            let mut key = host.map_or_else(Vec::new, octets);
            key.extend([*protocol, 0, 0, 0]);
            push_port(&mut key, *port);
            let mut value = octets(to.ip());
            push_port(&mut value, to.port());
            (key, Some(value))
        }
        PortEntry::Itself { address } => (octets(*address).repeat(2), None),
        PortEntry::Hairpin { link, address } => {
            let mut key = link.as_bytes().to_vec();
            key.resize(LINK_BYTES, 0);
            key.extend(octets(*address));
            (key, None)
        }
    }
}

fn push_port(bytes: &mut Vec<u8>, port: u16) {
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
}

fn decode(set: Set, key: &[u8], value: Option<&[u8]>) -> Option<PortEntry> {
    let family = set.family();
    let port = |bytes: &[u8]| bytes.get(..2)?.try_into().ok().map(u16::from_be_bytes);
    match set {
        Set::Itself(_) => {
            let whole = key.len() == set.key_bytes();
            whole.then(|| family.read(key).map(|address| PortEntry::Itself { address }))?
        }
        Set::Hairpin(_) => {
            let (link, address) = key.split_at_checked(LINK_BYTES)?;
            let link = link.split(|byte| *byte == 0).next().unwrap_or_default();
            let link = String::from_utf8(link.to_vec()).ok()?;
            Some(PortEntry::Hairpin { link, address: family.read(address)? })
        }
        Set::Host(_) | Set::Any(_) => {
            let at = key.len().checked_sub(2 * CELL)?;
            let (host, rest) = key.split_at_checked(at)?;
            let host = if host.is_empty() { None } else { Some(family.read(host)?) };
            let value = value?;
            let to = SocketAddr::new(family.read(value)?, port(value.get(family.bytes()..)?)?);
            let (protocol, port) = (*rest.first()?, port(rest.get(CELL..)?)?);
            Some(PortEntry::Publish { host, protocol, port, to })
        }
    }
}

fn elements(table: &str, entry: &PortEntry, mark: Option<&str>) -> SetElementMessage {
    let (key, value) = encode(entry);
    let mut element = vec![SetElementAttribute::Key(DataAttribute::Value(key))];
    // An element is removed by its key; but with its value only that very one is.
    element.extend(value.map(|value| SetElementAttribute::Data(DataAttribute::Value(value))));
    element.extend(mark.map(|mark| SetElementAttribute::UserData(userdata(mark))));
    SetElementMessage {
        attributes: vec![
            SetElementList::Table(table.to_owned()),
            SetElementList::Set(Set::of(entry).name().to_owned()),
            SetElementList::Elements(vec![ListAttribute::Element(element)]),
        ],
    }
}

fn read(set: Set, payload: &[u8]) -> Result<Vec<PublishedPort>, DecodeError> {
    let header = NetfilterHeader::parse(payload)?;
    let mut found = Vec::new();
    for attribute in attributes_after(&header, payload, |nla| SetElementList::parse(nla)) {
        let SetElementList::Elements(list) = attribute else { continue };
        for element in list {
            let ListAttribute::Element(parts) = element else { continue };
            found.extend(read_element(set, &parts));
        }
    }
    Ok(found)
}

/// The marks of the elements that a message is about.
pub(crate) fn marks(payload: &[u8]) -> Vec<String> {
    let Ok(header) = NetfilterHeader::parse(payload) else { return Vec::new() };
    let mut marks = Vec::new();
    for attribute in attributes_after(&header, payload, |nla| SetElementList::parse(nla)) {
        let SetElementList::Elements(list) = attribute else { continue };
        for element in list {
            let ListAttribute::Element(parts) = element else { continue };
            marks.extend(parts.iter().find_map(|part| match part {
                SetElementAttribute::UserData(bytes) => comment(bytes),
                _ => None,
            }));
        }
    }
    marks
}

fn read_element(set: Set, parts: &[SetElementAttribute]) -> Option<PublishedPort> {
    let (mut key, mut value, mut mark) = (None, None, String::new());
    for part in parts {
        match part {
            SetElementAttribute::Key(DataAttribute::Value(bytes)) => key = Some(bytes.as_slice()),
            SetElementAttribute::Data(DataAttribute::Value(bytes)) => {
                value = Some(bytes.as_slice());
            }
            SetElementAttribute::UserData(bytes) => mark = comment(bytes).unwrap_or_default(),
            _ => {}
        }
    }
    Some(PublishedPort { entry: decode(set, key?, value)?, mark })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_wire() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let publish = |host: Option<&str>, to: &str| PortEntry::Publish {
            host: host.map(address),
            protocol: 17,
            port: 8080,
            to: to.parse().unwrap(),
        };
        for entry in [
            publish(None, "9.0.5.2:80"),
            publish(Some("10.0.0.1"), "9.0.5.2:80"),
            publish(None, "[fd01::2]:80"),
            publish(Some("fd00::1"), "[fd01::2]:80"),
            PortEntry::Hairpin { link: "m-dcos".into(), address: address("9.0.5.2") },
            PortEntry::Hairpin { link: "m-dcos".into(), address: address("fd01::2") },
            PortEntry::Itself { address: address("9.0.5.2") },
            PortEntry::Itself { address: address("fd01::2") },
        ] {
            let set = Set::of(&entry);
            let (key, value) = encode(&entry);
            assert_eq!(key.len(), set.key_bytes());
            assert_eq!(decode(set, &key, value.as_deref()), Some(entry));
            for cut in 0..key.len() {
                assert_eq!(decode(set, &key[..cut], None), None, "{set:?} cut at {cut}");
            }
        }
    }
}
