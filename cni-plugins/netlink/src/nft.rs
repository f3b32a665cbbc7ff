//! Our own nf_tables table: masquerading towards the outside.
//!
//! A table is made of one batch, which the kernel takes as a whole or not at all:
//! no packet ever sees half of it, and rules of others are not touched.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::address::octets;
use crate::connection::Connection;
use crate::error::NetlinkError;
use crate::netns::in_namespace;
use crate::wire::{Attributes, Message, text};
use crate::{Ensured, Removed};

/// A conversation with nf_tables in one network namespace.
pub struct Nft {
    connection: Connection,
}

/// A table (family `inet`) that only masquerades.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MasqueradeSpec {
    /// Name of the table; it is ours alone.
    pub table: String,
    /// What to masquerade, all of it independently.
    pub rules: Vec<MasqueradeRule>,
}

/// Packets that leave towards the outside get the address of the link by which they leave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MasqueradeRule {
    /// Whose packets: the containers' subnet.
    pub source: IpNet,
    /// Destinations where the sender's own address must be seen: the overlay networks,
    /// of the same address family as `source`.
    pub except: Vec<IpNet>,
    /// The bridge of the containers; what leaves by it stays inside.
    pub bridge: String,
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
    pub fn ensure_masquerade(
        &mut self,
        spec: &MasqueradeSpec,
    ) -> Result<Ensured<()>, NetlinkError> {
        let wanted: Vec<String> = spec.rules.iter().map(fingerprint).collect();
        let present = self.observe_fingerprints(&spec.table)?;
        if present == wanted && !wanted.is_empty() {
            return Ok(Ensured::Unchanged(()));
        }
        // Adding first makes the removal succeed whether or not the table was there.
        let table = &spec.table;
        let mut batch = vec![begin(), new_table(table), remove_table(table), new_table(table)];
        batch.push(new_chain(table));
        batch.extend(spec.rules.iter().map(|rule| new_rule(table, rule)));
        batch.push(end());
        self.connection.batch(&batch).map_err(|refusal| refusal.to("replace", object(table)))?;
        Ok(if present.is_empty() { Ensured::Created(()) } else { Ensured::Repaired(()) })
    }

    /// Removes a table with all that it holds.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if it is there and the kernel will not remove it.
    pub fn remove_table(&mut self, table: &str) -> Result<Removed, NetlinkError> {
        match self.connection.batch(&[begin(), remove_table(table), end()]) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ENOENT) => Ok(Removed::Absent),
            Err(refusal) => Err(refusal.to("remove", object(table))),
        }
    }

    /// Lists the names of the tables of family `inet`.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel has no nf_tables.
    pub fn observe_tables(&mut self) -> Result<Vec<String>, NetlinkError> {
        let request = message(libc::NFT_MSG_GETTABLE, 0);
        let parse =
            |payload: &[u8]| Attributes::after(payload, FIXED).find(NFTA_TABLE_NAME).map(text);
        let found = self.connection.dump(&request, parse);
        let mut tables = found.map_err(|refusal| refusal.to("list", "nf_tables tables"))?;
        tables.sort();
        Ok(tables)
    }

    /// The fingerprints of the rules in our chain, in order.
    fn observe_fingerprints(&mut self, table: &str) -> Result<Vec<String>, NetlinkError> {
        let request = message(libc::NFT_MSG_GETRULE, 0).attr_str(NFTA_RULE_TABLE, table);
        let parse = |payload: &[u8]| {
            let attributes = Attributes::after(payload, FIXED);
            let ours = attributes.find(NFTA_RULE_TABLE).map(text).as_deref() == Some(table);
            // A rule without our mark stays in the list, as a difference.
            let mark = attributes.find(NFTA_RULE_USERDATA).and_then(|data| data.get(2..));
            ours.then(|| mark.map(text).unwrap_or_default())
        };
        let found = self.connection.dump(&request, parse);
        found.map_err(|refusal| refusal.to("list the rules of", object(table)))
    }
}

/// Length of `struct nfgenmsg`.
const FIXED: usize = 4;
const CHAIN: &str = "postrouting";

// Attribute numbers of linux/netfilter/nf_tables.h.
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;

/// The one register that our rules use.
const REGISTER: u32 = libc::NFT_REG_1 as u32;
const EQUAL: u32 = libc::NFT_CMP_EQ as u32;
const DIFFERENT: u32 = libc::NFT_CMP_NEQ as u32;

/// Which address of a packet.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

fn object(table: &str) -> String {
    format!("nf_tables table `{table}`")
}

/// What a rule of ours carries as its comment. A new release of the compiler may
/// hash differently; the price is one replacement of the table.
fn fingerprint(rule: &MasqueradeRule) -> String {
    let mut hasher = DefaultHasher::new();
    rule.hash(&mut hasher);
    format!("mizzen 1 {:016x}", hasher.finish())
}

fn begin() -> Message {
    bracket(libc::NFNL_MSG_BATCH_BEGIN)
}

fn end() -> Message {
    bracket(libc::NFNL_MSG_BATCH_END)
}

fn bracket(kind: i32) -> Message {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    Message::new(kind as u16, 0, &[0, libc::NFNETLINK_V0 as u8, high, low])
}

fn message(kind: i32, flags: i32) -> Message {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
    Message::new(kind, flags, &[libc::NFPROTO_INET as u8, libc::NFNETLINK_V0 as u8, 0, 0])
}

fn new_table(table: &str) -> Message {
    message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE).attr_str(NFTA_TABLE_NAME, table)
}

fn remove_table(table: &str) -> Message {
    message(libc::NFT_MSG_DELTABLE, 0).attr_str(NFTA_TABLE_NAME, table)
}

fn new_chain(table: &str) -> Message {
    message(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE)
        .attr_str(NFTA_CHAIN_TABLE, table)
        .attr_str(NFTA_CHAIN_NAME, CHAIN)
        .nest(NFTA_CHAIN_HOOK, |hook| {
            hook.attr_u32_be(NFTA_HOOK_HOOKNUM, libc::NF_INET_POST_ROUTING as u32)
                .attr_u32_be(NFTA_HOOK_PRIORITY, libc::NF_IP_PRI_NAT_SRC as u32)
        })
        .attr_str(NFTA_CHAIN_TYPE, "nat")
}

fn new_rule(table: &str, rule: &MasqueradeRule) -> Message {
    let comment = fingerprint(rule);
    // As the nft tool stores comments: type 0, length, text, zero byte.
    let mut userdata = vec![0, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
    userdata.extend_from_slice(comment.as_bytes());
    userdata.push(0);
    message(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND)
        .attr_str(NFTA_RULE_TABLE, table)
        .attr_str(NFTA_RULE_CHAIN, CHAIN)
        .nest(NFTA_RULE_EXPRESSIONS, |list| expressions(list, rule))
        .attr(NFTA_RULE_USERDATA, &userdata)
}

/// source in the subnet, and destination in none of the exceptions, and not by the
/// bridge: masquerade. All conditions must hold, so a sequence of them is enough.
fn expressions(list: Message, rule: &MasqueradeRule) -> Message {
    let protocol =
        if rule.source.addr().is_ipv6() { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
    let mut list = load_meta(list, libc::NFT_META_NFPROTO);
    list = compare(list, EQUAL, &[protocol as u8]);
    list = compare_net(list, Side::Source, EQUAL, rule.source);
    for net in &rule.except {
        list = compare_net(list, Side::Destination, DIFFERENT, *net);
    }
    // The kernel's interface names fill 16 bytes.
    let mut name = rule.bridge.as_bytes().to_vec();
    name.resize(libc::IFNAMSIZ, 0);
    list = load_meta(list, libc::NFT_META_OIFNAME);
    list = compare(list, DIFFERENT, &name);
    expression(list, "masq", |data| data)
}

fn compare_net(list: Message, side: Side, operation: u32, net: IpNet) -> Message {
    let network = octets(net.network());
    let length = network.len() as u32;
    let source_at = if net.addr().is_ipv6() { 8 } else { 12 };
    let offset = match side {
        Side::Source => source_at,
        Side::Destination => source_at + length,
    };
    let list = expression(list, "payload", |data| {
        data.attr_u32_be(NFTA_PAYLOAD_DREG, REGISTER)
            .attr_u32_be(NFTA_PAYLOAD_BASE, libc::NFT_PAYLOAD_NETWORK_HEADER as u32)
            .attr_u32_be(NFTA_PAYLOAD_OFFSET, offset)
            .attr_u32_be(NFTA_PAYLOAD_LEN, length)
    });
    let list = expression(list, "bitwise", |data| {
        data.attr_u32_be(NFTA_BITWISE_SREG, REGISTER)
            .attr_u32_be(NFTA_BITWISE_DREG, REGISTER)
            .attr_u32_be(NFTA_BITWISE_LEN, length)
            .nest(NFTA_BITWISE_MASK, |mask| mask.attr(NFTA_DATA_VALUE, &octets(net.netmask())))
            .nest(NFTA_BITWISE_XOR, |xor| xor.attr(NFTA_DATA_VALUE, &vec![0; network.len()]))
    });
    compare(list, operation, &network)
}

fn load_meta(list: Message, key: i32) -> Message {
    expression(list, "meta", |data| {
        data.attr_u32_be(NFTA_META_DREG, REGISTER).attr_u32_be(NFTA_META_KEY, key as u32)
    })
}

fn compare(list: Message, operation: u32, value: &[u8]) -> Message {
    expression(list, "cmp", |data| {
        data.attr_u32_be(NFTA_CMP_SREG, REGISTER)
            .attr_u32_be(NFTA_CMP_OP, operation)
            .nest(NFTA_CMP_DATA, |inner| inner.attr(NFTA_DATA_VALUE, value))
    })
}

fn expression(list: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    list.nest(NFTA_LIST_ELEM, |element| {
        element.attr_str(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, data)
    })
}
