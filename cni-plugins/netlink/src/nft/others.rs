//! Packet filters of whomever: read, never changed.

use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_netfilter::nftables::Meta;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook,
    HookNumber, Immediate, InetHookNumber, ListAttribute, MetaKey, NfTablesMessage, Operator,
    Payload, RuleAttribute, RuleMessage, Verdict, VerdictAttribute,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::{Nft, VERSION};
use crate::attributes::attributes_after;
use crate::error::NetlinkError;

/// A chain, of whichever table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainState {
    /// Family of its table, as nft writes it: `ip`, `inet`, `bridge`, ….
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where packets come by of themselves, if they do: `input`, `forward`, ….
    pub hook: Option<&'static str>,
    /// Whether it drops what no rule of it has decided about.
    pub drops: bool,
}

/// A rule, of whichever table, as far as it can be told without its sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleState {
    /// Family of its table.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Ports that the destination's must be.
    pub ports: Vec<u16>,
    /// Links, or beginnings of their names, by which packets must come or leave.
    pub links: Vec<String>,
    /// What becomes of packets: `accept`, `drop`, `reject`, or the name of an expression
    /// such as `nat` or `redir`; empty if it says nothing.
    pub verdict: String,
}

impl Nft {
    /// Lists the chains of all tables.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel has no nf_tables, or does not let us look.
    pub fn observe_chains(&mut self) -> Result<Vec<ChainState>, NetlinkError> {
        let every = NfTablesMessage::GetChain(ChainMessage { attributes: vec![] });
        let found = self.connection.dump(of_all_families(every), read_chain);
        found.map_err(|refusal| refusal.to("list", "nf_tables chains"))
    }

    /// Lists the rules of all tables.
    ///
    /// # Errors
    ///
    /// As [`Nft::observe_chains`].
    pub fn observe_all_rules(&mut self) -> Result<Vec<RuleState>, NetlinkError> {
        let every = NfTablesMessage::GetRule(RuleMessage { attributes: vec![] });
        let found = self.connection.dump(of_all_families(every), read_rule);
        found.map_err(|refusal| refusal.to("list", "nf_tables rules"))
    }
}

/// `NF_DROP` and `NF_ACCEPT` of the kernel.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// Where a destination's port is in the headers of TCP and UDP.
const PORT_AT: u32 = 2;
const TRANSPORT: u32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32;

fn of_all_families(message: NfTablesMessage) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, VERSION, 0);
    NetfilterMessage::new(header, message)
}

fn family_word(family: NetfilterProtoFamily) -> &'static str {
    match family {
        NetfilterProtoFamily::Inet => "inet",
        NetfilterProtoFamily::IPv4 => "ip",
        NetfilterProtoFamily::IPv6 => "ip6",
        NetfilterProtoFamily::ARP => "arp",
        NetfilterProtoFamily::NetDev => "netdev",
        NetfilterProtoFamily::Bridge => "bridge",
        _ => "unknown",
    }
}

fn read_chain(payload: &[u8]) -> Result<ChainState, DecodeError> {
    let header = NetfilterHeader::parse(payload)?;
    let mut chain = ChainState {
        family: family_word(header.family),
        table: String::new(),
        name: String::new(),
        hook: None,
        drops: false,
    };
    for attribute in attributes_after(&header, payload, |nla| ChainAttribute::parse(nla)) {
        match attribute {
            ChainAttribute::Table(table) => chain.table = table,
            ChainAttribute::Name(name) => chain.name = name,
            ChainAttribute::Hook(hook) => chain.hook = hook.iter().find_map(hook_word),
            ChainAttribute::Policy(policy) => chain.drops = policy == DROP,
            _ => {}
        }
    }
    Ok(chain)
}

fn hook_word(hook: &Hook) -> Option<&'static str> {
    let Hook::Number(HookNumber::Inet(number)) = hook else { return None };
    Some(match number {
        InetHookNumber::PreRouting => "prerouting",
        InetHookNumber::LocalIn => "input",
        InetHookNumber::Forward => "forward",
        InetHookNumber::LocalOut => "output",
        InetHookNumber::PostRouting => "postrouting",
        _ => return None,
    })
}

fn read_rule(payload: &[u8]) -> Result<RuleState, DecodeError> {
    let header = NetfilterHeader::parse(payload)?;
    let mut rule = RuleState {
        family: family_word(header.family),
        table: String::new(),
        chain: String::new(),
        ports: Vec::new(),
        links: Vec::new(),
        verdict: String::new(),
    };
    for attribute in attributes_after(&header, payload, |nla| RuleAttribute::parse(nla)) {
        match attribute {
            RuleAttribute::Table(table) => rule.table = table,
            RuleAttribute::Chain(chain) => rule.chain = chain,
            RuleAttribute::Expressions(list) => read_expressions(&list, &mut rule),
            _ => {}
        }
    }
    Ok(rule)
}

/// What was loaded last, which a comparison is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    Port,
    Link,
    Other,
}

fn read_expressions(list: &[ListAttribute<ExpressionAttribute>], rule: &mut RuleState) {
    let mut loaded = Loaded::Other;
    for element in list {
        let ListAttribute::Element(parts) = element else { continue };
        let name = parts.iter().find_map(|part| match part {
            ExpressionAttribute::Name(name) => Some(name.as_str()),
            _ => None,
        });
        let data = parts.iter().find_map(|part| match part {
            ExpressionAttribute::Data(data) => Some(data),
            _ => None,
        });
        match data {
            Some(Expressions::Payload(payload)) => loaded = payload_loads(payload),
            Some(Expressions::Meta(meta)) => loaded = meta_loads(meta),
            Some(Expressions::Cmp(cmp)) => compare(cmp, loaded, rule),
            Some(Expressions::Immediate(immediate)) => {
                rule.verdict.push_str(verdict(immediate).unwrap_or_default());
            }
            _ => {}
        }
        if let Some(name @ ("reject" | "nat" | "redir" | "tproxy" | "queue" | "masq")) = name {
            rule.verdict = name.to_owned();
        }
    }
}

fn payload_loads(payload: &[Payload]) -> Loaded {
    let is_port = payload.contains(&Payload::Base(TRANSPORT))
        && payload.contains(&Payload::Offset(PORT_AT))
        && payload.contains(&Payload::Len(2));
    if is_port { Loaded::Port } else { Loaded::Other }
}

fn meta_loads(meta: &[Meta]) -> Loaded {
    let names = [MetaKey::Iifname, MetaKey::Oifname].map(Meta::Key);
    if meta.iter().any(|part| names.contains(part)) { Loaded::Link } else { Loaded::Other }
}

fn compare(cmp: &[Cmp], loaded: Loaded, rule: &mut RuleState) {
    if !cmp.contains(&Cmp::Op(Operator::Equal)) {
        return;
    }
    let value = cmp.iter().find_map(|part| match part {
        Cmp::Data(DataAttribute::Value(value)) => Some(value.as_slice()),
        _ => None,
    });
    match (loaded, value) {
        (Loaded::Port, Some([high, low])) => rule.ports.push(u16::from_be_bytes([*high, *low])),
        (Loaded::Link, Some(name)) => {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            rule.links.push(String::from_utf8_lossy(name).into_owned());
        }
        _ => {}
    }
}

fn verdict(immediate: &[Immediate]) -> Option<&'static str> {
    let codes = immediate.iter().find_map(|part| match part {
        Immediate::Data(DataAttribute::Verdict(parts)) => Some(parts),
        _ => None,
    })?;
    codes.iter().find_map(|part| match part {
        VerdictAttribute::Code(Verdict::Other(DROP)) => Some("drop"),
        VerdictAttribute::Code(Verdict::Other(ACCEPT)) => Some("accept"),
        _ => None,
    })
}
