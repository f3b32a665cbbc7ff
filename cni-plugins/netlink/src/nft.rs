//! Our own nf_tables table: masquerading towards the outside, and what is passed on.
//!
//! A table is made of one batch, which the kernel takes as a whole or not at all:
//! no packet ever sees half of it, and rules of others are not touched.

mod forward;
mod others;
mod plain;
mod untracked;

pub use forward::ForwardRule;
pub use others::{ChainState, RuleState};
pub use plain::PlainTunnels;
pub use untracked::UntrackedTunnels;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NetlinkMessage, Parseable, parse_string,
};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, Expressions, Hook, InetHookNumber,
    Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute, RuleMessage,
    TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily, NetfilterSubsystem,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::attributes::attributes_after;
use crate::connection::{Connection, request};
use crate::error::NetlinkError;
use crate::netns::in_namespace;
use crate::{Ensured, Removed};

/// A conversation with nf_tables in one network namespace.
pub struct Nft {
    pub(crate) connection: Connection,
}

/// A table (family `inet`) for the packets of overlays.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OverlayTableSpec {
    /// Name of the table; it is ours alone.
    pub table: String,
    /// What to masquerade, all of it independently.
    pub masquerade: Vec<MasqueradeRule>,
    /// What becomes of packets that are passed on, in order.
    pub forward: Vec<ForwardRule>,
    /// Tunnels whose packets must be encrypted, if there are any.
    pub plain: Option<PlainTunnels>,
    /// Tunnels whose packets nobody keeps track of, if there are any.
    pub untracked: Option<UntrackedTunnels>,
}

/// Packets that leave towards the outside get the address of the link by which they leave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MasqueradeRule {
    /// Whose packets: the containers' subnet.
    pub source: IpNet,
    /// Destinations where the sender's own address must be seen: the overlay networks,
    /// of the same address family as `source`.
    pub except: Vec<IpNet>,
    /// Links of the containers and of tunnels; what leaves by them stays inside.
    pub inside: Vec<String>,
}

impl Nft {
    /// Opens a conversation in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { connection: Connection::open(NETLINK_NETFILTER)? })
    }

    /// Opens a conversation in the namespace at `namespace`.
    ///
    /// # Errors
    ///
    /// As [`crate::Netlink::open_in`].
    pub fn open_in(namespace: &Path) -> Result<Self, NetlinkError> {
        in_namespace(namespace, Self::open)?
    }

    /// Makes sure that the table has these rules and no others.
    ///
    /// Connections that are already masqueraded keep their address.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel refuses, for instance because it was
    /// built without `NFT_MASQ`.
    pub fn ensure_overlay_table(
        &mut self,
        spec: &OverlayTableSpec,
    ) -> Result<Ensured<()>, NetlinkError> {
        let masquerade = spec.masquerade.iter().map(fingerprint);
        let mut wanted: Vec<String> =
            masquerade.chain(spec.forward.iter().map(fingerprint)).collect();
        // Of arriving and of leaving packets.
        let plain = spec.plain.iter().map(fingerprint);
        let twice = plain.chain(spec.untracked.iter().map(fingerprint));
        wanted.extend(twice.flat_map(|mark| [mark.clone(), mark]));
        let present = self.observe_fingerprints(&spec.table)?;
        if present == wanted && !wanted.is_empty() {
            return Ok(Ensured::Unchanged(()));
        }
        // Adding first makes the removal succeed whether or not the table was there.
        let table = &spec.table;
        let mut batch = vec![begin(), new_table(table), remove_table(table), new_table(table)];
        batch.push(new_chain(&ChainSpec {
            table,
            name: MASQUERADE,
            kind: "nat",
            hook: InetHookNumber::PostRouting,
            priority: libc::NF_IP_PRI_NAT_SRC,
        }));
        let rules = spec.masquerade.iter();
        batch.extend(
            rules.map(|rule| new_rule(table, MASQUERADE, expressions(rule), &fingerprint(rule))),
        );
        if !spec.forward.is_empty() {
            batch.push(new_chain(&ChainSpec {
                table,
                name: FORWARD,
                kind: "filter",
                hook: InetHookNumber::Forward,
                priority: libc::NF_IP_PRI_MANGLE,
            }));
        }
        let rules = spec.forward.iter();
        batch.extend(
            rules.map(|rule| new_rule(table, FORWARD, rule.expressions(), &fingerprint(rule))),
        );
        if let Some(plain) = &spec.plain {
            batch.extend(plain.refusals(table, &fingerprint(plain)));
        }
        if let Some(untracked) = &spec.untracked {
            batch.extend(untracked.exemptions(table, &fingerprint(untracked)));
        }
        batch.push(end());
        self.connection.batch(batch).map_err(|refusal| refusal.to("replace", object(table)))?;
        Ok(if present.is_empty() { Ensured::Created(()) } else { Ensured::Repaired(()) })
    }

    /// Removes a table with all that it holds.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if it is there and the kernel will not remove it.
    pub fn remove_table(&mut self, table: &str) -> Result<Removed, NetlinkError> {
        match self.connection.batch(vec![begin(), remove_table(table), end()]) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ENOENT) => Ok(Removed::Absent),
            Err(refusal) => Err(refusal.to("remove", object(table))),
        }
    }

    /// Lists the names of the tables of all families; one that two families have, twice.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel has no nf_tables.
    pub fn observe_tables(&mut self) -> Result<Vec<String>, NetlinkError> {
        let every = TableMessage { attributes: vec![] };
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, VERSION, 0);
        let request = NetfilterMessage::new(header, NfTablesMessage::GetTable(every));
        let found = self.connection.dump(request, read_table);
        let mut tables = found.map_err(|refusal| refusal.to("list", "nf_tables tables"))?;
        tables.sort();
        Ok(tables)
    }

    /// The fingerprints of the rules in our chains, in order.
    fn observe_fingerprints(&mut self, table: &str) -> Result<Vec<String>, NetlinkError> {
        let attributes = vec![RuleAttribute::Table(table.to_owned())];
        let request = message(NfTablesMessage::GetRule(RuleMessage { attributes }));
        let found = self.connection.dump(request, read_rule);
        let found = found.map_err(|refusal| refusal.to("list the rules of", object(table)))?;
        Ok(found.into_iter().filter(|rule| rule.table == table).map(|rule| rule.mark).collect())
    }
}

pub(crate) const VERSION: u8 = libc::NFNETLINK_V0 as u8;
const MASQUERADE: &str = "postrouting";
const FORWARD: &str = "forward";

/// The one register that our rules use.
pub(crate) const REGISTER: Register = Register::Reg1;

/// A rule as the kernel shows it.
struct Rule {
    table: String,
    /// Our fingerprint. A rule without one has an empty one and so stays a difference.
    mark: String,
}

/// Which address of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Source,
    Destination,
}

pub(crate) fn object(table: &str) -> String {
    format!("nf_tables table `{table}`")
}

/// A comment as the nft tool stores it: type 0, length, text, zero byte.
pub(crate) fn userdata(comment: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(comment.as_bytes());
    bytes.push(0);
    bytes
}

/// The comment in it, if it has one.
pub(crate) fn comment(userdata: &[u8]) -> Option<String> {
    parse_string(userdata.get(2..)?).ok()
}

/// A chain that hooks into the way of packets.
pub(crate) struct ChainSpec<'a> {
    pub(crate) table: &'a str,
    pub(crate) name: &'a str,
    /// `nat`, `filter`.
    pub(crate) kind: &'a str,
    pub(crate) hook: InetHookNumber,
    pub(crate) priority: i32,
}

/// What a rule of ours carries as its comment. A new release of the compiler may
/// hash differently; the price is one replacement of the table.
fn fingerprint(rule: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    rule.hash(&mut hasher);
    format!("mizzen 1 {:016x}", hasher.finish())
}

pub(crate) fn begin() -> NetlinkMessage<NetfilterMessage> {
    bracket(ControlMessage::BatchBegin)
}

pub(crate) fn end() -> NetlinkMessage<NetfilterMessage> {
    bracket(ControlMessage::BatchEnd)
}

fn bracket(message: ControlMessage) -> NetlinkMessage<NetfilterMessage> {
    let subsystem = u8::from(NetfilterSubsystem::NfTables).into();
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, VERSION, subsystem);
    request(NetfilterMessage::new(header, message), 0)
}

pub(crate) fn message(message: NfTablesMessage) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, VERSION, 0);
    NetfilterMessage::new(header, message)
}

pub(crate) fn new_table(table: &str) -> NetlinkMessage<NetfilterMessage> {
    request(message(NfTablesMessage::NewTable(named(table))), NLM_F_CREATE)
}

pub(crate) fn remove_table(table: &str) -> NetlinkMessage<NetfilterMessage> {
    request(message(NfTablesMessage::DeleteTable(named(table))), 0)
}

fn named(table: &str) -> TableMessage {
    TableMessage { attributes: vec![TableAttribute::Name(table.to_owned())] }
}

pub(crate) fn new_chain(chain: &ChainSpec<'_>) -> NetlinkMessage<NetfilterMessage> {
    let hook = vec![Hook::Number(chain.hook.into()), Hook::Priority(chain.priority as u32)];
    let attributes = vec![
        ChainAttribute::Table(chain.table.to_owned()),
        ChainAttribute::Name(chain.name.to_owned()),
        ChainAttribute::Hook(hook),
        ChainAttribute::Type(chain.kind.to_owned()),
    ];
    request(message(NfTablesMessage::NewChain(ChainMessage { attributes })), NLM_F_CREATE)
}

/// A rule at the end of its chain.
pub(crate) fn new_rule(
    table: &str,
    chain: &str,
    expressions: Vec<Expressions>,
    comment: &str,
) -> NetlinkMessage<NetfilterMessage> {
    let attributes = vec![
        RuleAttribute::Table(table.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
        RuleAttribute::Expressions(expressions.into_iter().map(Into::into).collect()),
        RuleAttribute::UserData(userdata(comment)),
    ];
    let rule = NfTablesMessage::NewRule(RuleMessage { attributes });
    request(message(rule), NLM_F_CREATE | NLM_F_APPEND)
}

/// source in the subnet, and destination in none of the exceptions, and not by a link
/// inside: masquerade. All conditions must hold, so a sequence of them is enough.
fn expressions(rule: &MasqueradeRule) -> Vec<Expressions> {
    let protocol = match rule.source {
        IpNet::V4(_) => NetfilterProtoFamily::IPv4,
        IpNet::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let mut list = vec![load(MetaKey::Nfproto), compare(Operator::Equal, vec![protocol.into()])];
    list.extend(compare_net(Side::Source, Operator::Equal, rule.source));
    for net in &rule.except {
        list.extend(compare_net(Side::Destination, Operator::NotEqual, *net));
    }
    for link in &rule.inside {
        list.extend([load(MetaKey::Oifname), compare(Operator::NotEqual, link_name(link))]);
    }
    list.push(other("masq", &[]));
    list
}

/// The name of a link as the kernel compares it.
fn link_name(link: &str) -> Vec<u8> {
    let mut name = link.as_bytes().to_vec();
    name.resize(libc::IFNAMSIZ, 0);
    name
}

/// An expression for which the library has no type; its attributes are numbers.
pub(crate) fn other(kind: &str, attributes: &[(i32, u32)]) -> Expressions {
    let attribute =
        |(kind, value): &(i32, u32)| DefaultNla::new(*kind as u16, value.to_be_bytes().to_vec());
    Expressions::Other {
        expression_type: kind.to_owned(),
        attributes: attributes.iter().map(attribute).collect(),
    }
}

pub(crate) fn compare_net(side: Side, operator: Operator, net: IpNet) -> [Expressions; 3] {
    let network = octets(net.network());
    let length = network.len() as u32;
    let source_at = if net.addr().is_ipv6() { 8 } else { 12 };
    let offset = match side {
        Side::Source => source_at,
        Side::Destination => source_at + length,
    };
    let load = Expressions::Payload(vec![
        Payload::DestinationRegister(REGISTER),
        Payload::Base(libc::NFT_PAYLOAD_NETWORK_HEADER as u32),
        Payload::Offset(offset),
        Payload::Len(length),
    ]);
    let mask = Expressions::Bitwise(vec![
        Bitwise::SourceRegister(REGISTER),
        Bitwise::DestinationRegister(REGISTER),
        Bitwise::Length(length),
        Bitwise::Mask(DataAttribute::Value(octets(net.netmask()))),
        Bitwise::Xor(DataAttribute::Value(vec![0; network.len()])),
    ]);
    [load, mask, compare(operator, network)]
}

pub(crate) fn load(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::DestinationRegister(REGISTER), Meta::Key(key)])
}

pub(crate) fn compare(operator: Operator, value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(REGISTER),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

/// The bytes of an address, in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn read_table(payload: &[u8]) -> Result<String, DecodeError> {
    let header = NetfilterHeader::parse(payload)?;
    let attributes = attributes_after(&header, payload, |nla| TableAttribute::parse(nla));
    let mut names = attributes.into_iter().filter_map(|attribute| match attribute {
        TableAttribute::Name(name) => Some(name),
        _ => None,
    });
    names.next().ok_or_else(|| "a table without a name".into())
}

fn read_rule(payload: &[u8]) -> Result<Rule, DecodeError> {
    let header = NetfilterHeader::parse(payload)?;
    let mut rule = Rule { table: String::new(), mark: String::new() };
    for attribute in attributes_after(&header, payload, |nla| RuleAttribute::parse(nla)) {
        match attribute {
            RuleAttribute::Table(table) => rule.table = table,
            RuleAttribute::UserData(data) => rule.mark = comment(&data).unwrap_or_default(),
            _ => {}
        }
    }
    Ok(rule)
}
