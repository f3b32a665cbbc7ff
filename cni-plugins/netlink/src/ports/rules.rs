//! The rules of the table: made once, with it.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NetlinkMessage};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, InetHookNumber, Lookup, Meta, MetaKey,
    NfTablesMessage, Operator, Payload, Register, RuleAttribute, RuleMessage, SetAttribute,
    SetFlags, SetMessage, Verdict, VerdictAttribute,
};

use super::{CELL, Family, LINK_BYTES, PortTableSpec, Set, concat, types};
use crate::connection::request;
use crate::nft::{
    ChainSpec, REGISTER, Side, begin, compare, compare_net, end, load, message, new_chain,
    new_rule, new_table, other,
};

/// Attributes of the kernel's `nat` expression.
mod nat {
    pub(super) const TYPE: i32 = 1;
    pub(super) const FAMILY: i32 = 2;
    pub(super) const ADDRESS: i32 = 3;
    pub(super) const PORT: i32 = 5;
}

/// Attributes of the kernel's `ct` expression, and the key that we ask for.
mod ct {
    pub(super) const DESTINATION: i32 = 1;
    pub(super) const KEY: i32 = 2;
    pub(super) const STATUS: u32 = 2;
}

/// The request that makes the table, or what is missing of one that is there. Its rules are made
/// anew, its maps keep what they have.
pub(super) fn table_batch(spec: &PortTableSpec) -> Vec<NetlinkMessage<NetfilterMessage>> {
    let table = spec.table.as_str();
    let mut batch = vec![begin(), new_table(table)];
    let numbered = Set::ALL.iter().zip(1..);
    batch.extend(numbered.map(|(set, number)| new_set(table, *set, number)));
    for (name, hook, kind, priority) in [
        ("loopback", InetHookNumber::PreRouting, "filter", libc::NF_IP_PRI_RAW),
        ("arriving", InetHookNumber::PreRouting, "nat", libc::NF_IP_PRI_NAT_DST),
        ("local", InetHookNumber::LocalOut, "nat", libc::NF_IP_PRI_NAT_DST),
        ("leaving", InetHookNumber::PostRouting, "nat", libc::NF_IP_PRI_NAT_SRC),
    ] {
        batch.push(new_chain(&ChainSpec { table, name, kind, hook, priority }));
    }
    batch.push(remove_rules(table));
    let rules = rules(spec).into_iter();
    batch.extend(rules.map(|(chain, rule)| new_rule(table, chain, rule, MARK)));
    batch.push(end());
    batch
}

/// The marks of the rules of a table to which nobody did anything.
pub(super) fn marks() -> Vec<String> {
    let spec = PortTableSpec { table: String::new(), except: Vec::new() };
    vec![MARK.to_owned(); rules(&spec).len()]
}

const MARK: &str = "mizzen 1";

/// The rules, each with its chain.
fn rules(spec: &PortTableSpec) -> Vec<(&'static str, Vec<Expressions>)> {
    let mut rules = vec![("loopback", drop_strangers())];
    for chain in ["arriving", "local"] {
        for set in [Set::Host as fn(Family) -> Set, Set::Any] {
            for family in Family::ALL {
                rules.push((chain, redirect(set(family), &spec.except)));
            }
        }
    }
    for family in Family::ALL {
        for set in [Set::Itself(family), Set::Hairpin(family)] {
            rules.push(("leaving", turn_back(set)));
        }
    }
    rules.push(("leaving", from_loopback()));
    rules
}

fn remove_rules(table: &str) -> NetlinkMessage<NetfilterMessage> {
    let attributes = vec![RuleAttribute::Table(table.to_owned())];
    request(message(NfTablesMessage::DeleteRule(RuleMessage { attributes })), 0)
}

fn new_set(table: &str, set: Set, number: u32) -> NetlinkMessage<NetfilterMessage> {
    let mut attributes = vec![
        SetAttribute::Table(table.to_owned()),
        SetAttribute::Name(set.name().to_owned()),
        SetAttribute::KeyType(set.key_type()),
        SetAttribute::KeyLen(set.key_bytes() as u32),
        SetAttribute::Id(number),
    ];
    if let Set::Host(family) | Set::Any(family) = set {
        attributes.extend([
            SetAttribute::Flags(SetFlags::Map),
            SetAttribute::DataType(concat(&[family.kind(), types::PORT])),
            SetAttribute::DataLen((family.bytes() + CELL) as u32),
        ]);
    }
    request(message(NfTablesMessage::NewSet(SetMessage { attributes })), NLM_F_CREATE)
}

/// A local address that is not excepted, and its port is published: to the container.
fn redirect(set: Set, except: &[IpNet]) -> Vec<Expressions> {
    let family = set.family();
    let mut list = vec![to_local(), compare(Operator::Equal, number(libc::RTN_LOCAL.into()))];
    list.extend([load(MetaKey::Nfproto), compare(Operator::Equal, vec![family.protocol().into()])]);
    for net in except.iter().filter(|net| Family::of(net.addr()) == family) {
        list.extend(compare_net(Side::Destination, Operator::NotEqual, *net));
    }
    let mut cell = 0;
    if let Set::Host(_) = set {
        list.push(address(Side::Destination, family, register(cell)));
        cell += family.bytes() / CELL;
    }
    list.push(Expressions::Meta(vec![
        Meta::DestinationRegister(register(cell)),
        Meta::Key(MetaKey::L4Proto),
    ]));
    list.push(Expressions::Payload(vec![
        Payload::DestinationRegister(register(cell + 1)),
        Payload::Base(libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32),
        Payload::Offset(2),
        Payload::Len(2),
    ]));
    list.push(Expressions::Lookup(vec![
        Lookup::Set(set.name().to_owned()),
        Lookup::SourceRegister(register(0)),
        Lookup::DestinationRegister(register(0)),
    ]));
    let port = register(family.bytes() / CELL);
    let protocol = if family == Family::V6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
    list.push(other(
        "nat",
        &[
            (nat::TYPE, libc::NFT_NAT_DNAT as u32),
            (nat::FAMILY, protocol as u32),
            (nat::ADDRESS, register(0).into()),
            (nat::PORT, port.into()),
        ],
    ));
    list
}

/// Redirected, and back to its sender or out of the link by which it came: masquerade.
fn turn_back(set: Set) -> Vec<Expressions> {
    let family = set.family();
    let mut list = was_redirected();
    list.extend([load(MetaKey::Nfproto), compare(Operator::Equal, vec![family.protocol().into()])]);
    let cells = match set {
        Set::Itself(_) => {
            list.push(address(Side::Source, family, register(0)));
            family.bytes() / CELL
        }
        Set::Host(_) | Set::Any(_) | Set::Hairpin(_) => {
            let to = Meta::DestinationRegister(register(0));
            list.push(Expressions::Meta(vec![to, Meta::Key(MetaKey::Iifname)]));
            LINK_BYTES / CELL
        }
    };
    list.extend([
        address(Side::Destination, family, register(cells)),
        Expressions::Lookup(vec![
            Lookup::Set(set.name().to_owned()),
            Lookup::SourceRegister(register(0)),
        ]),
        masquerade(),
    ]);
    list
}

/// Redirected, from a loopback address and not to one: masquerade.
fn from_loopback() -> Vec<Expressions> {
    let mut list = was_redirected();
    list.extend([load(MetaKey::Nfproto), compare(Operator::Equal, vec![libc::NFPROTO_IPV4 as u8])]);
    list.extend(compare_net(Side::Source, Operator::Equal, loopback()));
    list.extend(compare_net(Side::Destination, Operator::NotEqual, loopback()));
    list.push(masquerade());
    list
}

/// To a loopback address by a link: nobody may send that.
fn drop_strangers() -> Vec<Expressions> {
    let mut lo = b"lo".to_vec();
    lo.resize(LINK_BYTES, 0);
    let mut list = vec![load(MetaKey::Iifname), compare(Operator::NotEqual, lo)];
    list.extend([load(MetaKey::Nfproto), compare(Operator::Equal, vec![libc::NFPROTO_IPV4 as u8])]);
    list.extend(compare_net(Side::Destination, Operator::Equal, loopback()));
    let verdict = VerdictAttribute::Code(Verdict::Other(libc::NF_DROP as u32));
    list.push(Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![verdict])),
    ]));
    list
}

fn loopback() -> IpNet {
    IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8)
}

/// Whether the connection's destination was changed.
fn was_redirected() -> Vec<Expressions> {
    /// `IPS_DST_NAT` of the kernel.
    const REDIRECTED: u32 = 1 << 5;
    vec![
        other("ct", &[(ct::DESTINATION, REGISTER.into()), (ct::KEY, ct::STATUS)]),
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(REGISTER),
            Bitwise::DestinationRegister(REGISTER),
            Bitwise::Length(CELL as u32),
            Bitwise::Mask(DataAttribute::Value(number(REDIRECTED))),
            Bitwise::Xor(DataAttribute::Value(number(0))),
        ]),
        Expressions::Cmp(vec![
            Cmp::SourceRegister(REGISTER),
            Cmp::Op(Operator::NotEqual),
            Cmp::Data(DataAttribute::Value(number(0))),
        ]),
    ]
}

/// The kind of the destination's address.
fn to_local() -> Expressions {
    const DREG: i32 = 1;
    const RESULT: i32 = 2;
    const FLAGS: i32 = 3;
    const ADDRESS_KIND: u32 = 3;
    const OF_DESTINATION: u32 = 1 << 1;
    other("fib", &[(DREG, REGISTER.into()), (RESULT, ADDRESS_KIND), (FLAGS, OF_DESTINATION)])
}

fn address(side: Side, family: Family, register: Register) -> Expressions {
    let offset = match (family, side) {
        (Family::V4, Side::Source) => 12,
        (Family::V4, Side::Destination) => 16,
        (Family::V6, Side::Source) => 8,
        (Family::V6, Side::Destination) => 24,
    };
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(libc::NFT_PAYLOAD_NETWORK_HEADER as u32),
        Payload::Offset(offset),
        Payload::Len(family.bytes() as u32),
    ])
}

fn masquerade() -> Expressions {
    other("masq", &[])
}

/// The register of the cell that is `cells` after the first.
fn register(cells: usize) -> Register {
    Register::from(libc::NFT_REG32_00 as u32 + cells as u32)
}

/// A number as registers hold it.
fn number(value: u32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}
