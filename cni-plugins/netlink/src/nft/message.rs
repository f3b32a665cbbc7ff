//! Messages of which a batch is made.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NetlinkMessage, parse_string};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Expressions, Hook, InetHookNumber, NfTablesMessage,
    RuleAttribute, RuleMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily, NetfilterSubsystem,
};

use crate::connection::request;

pub(crate) const VERSION: u8 = libc::NFNETLINK_V0 as u8;

/// A chain that hooks into the way of packets.
pub(crate) struct ChainSpec<'a> {
    pub(crate) table: &'a str,
    pub(crate) name: &'a str,
    /// `nat`, `filter`.
    pub(crate) kind: &'a str,
    pub(crate) hook: InetHookNumber,
    pub(crate) priority: i32,
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
