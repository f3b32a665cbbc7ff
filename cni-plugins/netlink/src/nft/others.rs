//! Packet filters of whomever: read, never changed.

use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook,
    HookNumber, Immediate, InetHookNumber, ListAttribute, MetaKey, NfTablesMessage, Operator,
    Payload, RuleAttribute, RuleMessage, SetElementAttribute, SetElementFlags, SetElementList,
    SetElementMessage, Verdict, VerdictAttribute,
};
use netlink_packet_netfilter::nftables::{Lookup, Meta};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

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

/// A rule, of whichever table, as far as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleState {
    /// Family of its table.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Ports of which the destination's must be one.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Links, or beginnings of their names, by which packets must come or leave.
    pub links: Vec<String>,
    /// What becomes of packets: `accept`, `drop`, `reject`, or the name of an expression
    /// such as `nat` or `redir`; empty if it says nothing.
    pub verdict: String,
    /// Whether it is about every packet that comes to it.
    pub every: bool,
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
        let found = found.map_err(|refusal| refusal.to("list", "nf_tables rules"))?;
        let mut known = BTreeMap::new();
        let mut rules = Vec::with_capacity(found.len());
        for Found { family, mut rule, sets } in found {
            for set in sets {
                let key = (rule.family, rule.table.clone(), set);
                let ports = match known.get(&key) {
                    Some(ports) => ports,
                    None => {
                        let ports = self.observe_port_set(family, &key.1, &key.2)?;
                        known.entry(key).or_insert(ports)
                    }
                };
                rule.ports.extend(ports.iter().cloned());
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    /// The ports of a set; none if it has gone.
    fn observe_port_set(
        &mut self,
        family: NetfilterProtoFamily,
        table: &str,
        set: &str,
    ) -> Result<Vec<RangeInclusive<u16>>, NetlinkError> {
        let attributes =
            vec![SetElementList::Table(table.to_owned()), SetElementList::Set(set.to_owned())];
        let question = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
        let message = NetfilterMessage::new(NetfilterHeader::new(family, VERSION, 0), question);
        match self.connection.dump(message, read_set) {
            Ok(lists) => Ok(ranges(lists.into_iter().flatten().collect())),
            Err(refusal) if refusal.is(libc::ENOENT) => Ok(Vec::new()),
            Err(refusal) => Err(refusal.to("list", format!("nf_tables set `{set}`"))),
        }
    }
}

/// A rule as the kernel tells of it.
struct Found {
    family: NetfilterProtoFamily,
    rule: RuleState,
    /// Sets of which the destination's port must be in one.
    sets: Vec<String>,
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

fn read_rule(payload: &[u8]) -> Result<Found, DecodeError> {
    let header = NetfilterHeader::parse(payload)?;
    let mut rule = RuleState {
        family: family_word(header.family),
        table: String::new(),
        chain: String::new(),
        ports: Vec::new(),
        links: Vec::new(),
        verdict: String::new(),
        every: true,
    };
    let mut sets = Vec::new();
    for attribute in attributes_after(&header, payload, |nla| RuleAttribute::parse(nla)) {
        match attribute {
            RuleAttribute::Table(table) => rule.table = table,
            RuleAttribute::Chain(chain) => rule.chain = chain,
            RuleAttribute::Expressions(list) => sets = read_expressions(&list, &mut rule),
            _ => {}
        }
    }
    Ok(Found { family: header.family, rule, sets })
}

/// A port of a set, and whether it is the first one behind a range.
type Element = (u16, bool);

fn read_set(payload: &[u8]) -> Result<Vec<Element>, DecodeError> {
    let header = NetfilterHeader::parse(payload)?;
    let mut found = Vec::new();
    for attribute in attributes_after(&header, payload, |nla| SetElementList::parse(nla)) {
        let SetElementList::Elements(list) = attribute else { continue };
        for element in list {
            let ListAttribute::Element(parts) = element else { continue };
            found.extend(read_element(&parts));
        }
    }
    Ok(found)
}

fn read_element(parts: &[SetElementAttribute]) -> Option<Element> {
    let port = parts.iter().find_map(|part| match part {
        SetElementAttribute::Key(DataAttribute::Value(bytes)) => port(bytes),
        _ => None,
    })?;
    let ends = |part: &SetElementAttribute| matches!(part, SetElementAttribute::Flags(flags) if flags.contains(SetElementFlags::IntervalEnd));
    Some((port, parts.iter().any(ends)))
}

fn port(bytes: &[u8]) -> Option<u16> {
    <[u8; 2]>::try_from(bytes).ok().map(u16::from_be_bytes)
}

/// Sets of ranges have the first port of each and the one behind it, others have ports.
fn ranges(mut elements: Vec<Element>) -> Vec<RangeInclusive<u16>> {
    // Where one range ends and the next one begins, the end is told as well.
    elements.sort_unstable_by_key(|(port, ends)| (*port, !ends));
    if !elements.iter().any(|(_, ends)| *ends) {
        return elements.into_iter().map(|(port, _)| port..=port).collect();
    }
    let (mut found, mut first) = (Vec::new(), None);
    for (port, ends) in elements {
        match (first, ends) {
            (Some(begin), true) => {
                found.push(begin..=port.saturating_sub(1));
                first = None;
            }
            (None, false) => first = Some(port),
            _ => {}
        }
    }
    found.extend(first.map(|begin| begin..=u16::MAX));
    found
}

/// What was loaded last, which a comparison is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    Port,
    Link,
    Other,
}

/// Expressions that choose no packets.
const NO_CHOICE: [&str; 6] = ["counter", "immediate", "log", "notrack", "reject", "masq"];

/// Returns the names of sets in which the destination's port is looked up.
fn read_expressions(
    list: &[ListAttribute<ExpressionAttribute>],
    rule: &mut RuleState,
) -> Vec<String> {
    let (mut loaded, mut sets) = (Loaded::Other, Vec::new());
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
            Some(Expressions::Lookup(lookup)) if loaded == Loaded::Port => {
                sets.extend(looked_up(lookup));
            }
            Some(Expressions::Immediate(immediate)) => {
                rule.verdict.push_str(verdict(immediate).unwrap_or_default());
            }
            _ => {}
        }
        rule.every &= name.is_some_and(|name| NO_CHOICE.contains(&name));
        if let Some(name @ ("reject" | "nat" | "redir" | "tproxy" | "queue" | "masq")) = name {
            rule.verdict = name.to_owned();
        }
    }
    sets
}

/// The set in which a packet must be found. One in which it must not be, or that says itself
/// what becomes of the packet, tells nothing here.
fn looked_up(lookup: &[Lookup]) -> Option<String> {
    let is_plain = |part: &Lookup| match part {
        Lookup::Flags(flags) => *flags == 0,
        Lookup::DestinationRegister(_) => false,
        _ => true,
    };
    lookup.iter().all(is_plain).then_some(())?;
    lookup.iter().find_map(|part| match part {
        Lookup::Set(name) => Some(name.clone()),
        _ => None,
    })
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
    let operator = cmp.iter().find_map(|part| match part {
        Cmp::Op(operator) => Some(*operator),
        _ => None,
    });
    let value = cmp.iter().find_map(|part| match part {
        Cmp::Data(DataAttribute::Value(value)) => Some(value.as_slice()),
        _ => None,
    });
    match (loaded, operator, value) {
        (Loaded::Port, Some(operator), Some(bytes)) => {
            if let Some(port) = port(bytes) {
                bound(&mut rule.ports, operator, port);
            }
        }
        (Loaded::Link, Some(Operator::Equal), Some(name)) => {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            rule.links.push(String::from_utf8_lossy(name).into_owned());
        }
        _ => {}
    }
}

/// A range is two comparisons, the lower bound first.
fn bound(ports: &mut Vec<RangeInclusive<u16>>, operator: Operator, port: u16) {
    let last = match operator {
        Operator::Equal => return ports.push(port..=port),
        Operator::GreatherThanEqual => return ports.push(port..=u16::MAX),
        Operator::GreaterThan => return ports.push(port.saturating_add(1)..=u16::MAX),
        Operator::LessThanEqual => port,
        Operator::LessThan => port.saturating_sub(1),
        _ => return,
    };
    match ports.last_mut() {
        Some(range) if *range.end() == u16::MAX => *range = *range.start()..=last,
        _ => ports.push(0..=last),
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
