//! Expressions of which a rule is made.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Meta, MetaKey, Operator, Payload, Register,
};

/// The one register that our rules use.
pub(crate) const REGISTER: Register = Register::Reg1;

/// Which address of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Source,
    Destination,
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
    let load = load_bytes(libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length);
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

/// Loads bytes of a header: an `NFT_PAYLOAD_…_HEADER` of the kernel's.
pub(crate) fn load_bytes(header: libc::c_int, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(REGISTER),
        Payload::Base(header as u32),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
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
