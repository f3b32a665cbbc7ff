//! Our own nf_tables table: masquerading towards the outside, and what is passed on.
//!
//! A table is made of one batch, which the kernel takes as a whole or not at all:
//! no packet ever sees half of it, and rules of others are not touched.

mod expression;
mod forward;
mod message;
mod others;
mod plain;
mod untracked;

pub(crate) use expression::{
    REGISTER, Side, compare, compare_net, load, load_bytes, octets, other,
};
pub use forward::ForwardRule;
pub(crate) use message::{
    ChainSpec, VERSION, begin, comment, end, message, new_chain, new_rule, new_table, remove_table,
    userdata,
};
pub use others::{ChainState, RuleState};
pub use plain::PlainTunnels;
pub use untracked::UntrackedTunnels;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_netfilter::nftables::{
    Expressions, InetHookNumber, MetaKey, NfTablesMessage, Operator, RuleAttribute, RuleMessage,
    TableAttribute, TableMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::attributes::attributes_after;
use crate::connection::Connection;
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
    pub(crate) fn observe_fingerprints(
        &mut self,
        table: &str,
    ) -> Result<Vec<String>, NetlinkError> {
        let attributes = vec![RuleAttribute::Table(table.to_owned())];
        let request = message(NfTablesMessage::GetRule(RuleMessage { attributes }));
        let found = self.connection.dump(request, read_rule);
        let found = found.map_err(|refusal| refusal.to("list the rules of", object(table)))?;
        Ok(found.into_iter().filter(|rule| rule.table == table).map(|rule| rule.mark).collect())
    }
}

const MASQUERADE: &str = "postrouting";
const FORWARD: &str = "forward";

/// A rule as the kernel shows it.
struct Rule {
    table: String,
    /// Our fingerprint. A rule without one has an empty one and so stays a difference.
    mark: String,
}

pub(crate) fn object(table: &str) -> String {
    format!("nf_tables table `{table}`")
}

/// What a rule of ours carries as its comment. A new release of the compiler may
/// hash differently; the price is one replacement of the table.
fn fingerprint(rule: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    rule.hash(&mut hasher);
    format!("mizzen 1 {:016x}", hasher.finish())
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
