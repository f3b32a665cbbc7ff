//! Rules that keep packets of tunnels from travelling unencrypted.

use netlink_packet_core::NetlinkMessage;
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{Expressions, InetHookNumber, MetaKey, Operator};

use super::forward::drop_it;
use super::{ChainSpec, compare, link_name, load, load_bytes, new_chain, new_rule};

/// Tunnels whose packets come and go by one link only, which encrypts them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlainTunnels {
    /// UDP port of the tunnels.
    pub port: u16,
    /// The link.
    pub link: String,
}

impl PlainTunnels {
    /// A chain for what arrives and one for what leaves, each with a rule.
    pub(super) fn refusals(
        &self,
        table: &str,
        comment: &str,
    ) -> Vec<NetlinkMessage<NetfilterMessage>> {
        let ways = [
            ("input", InetHookNumber::LocalIn, MetaKey::Iifname),
            ("output", InetHookNumber::LocalOut, MetaKey::Oifname),
        ];
        let refusal = |(name, hook, key)| {
            let priority = libc::NF_IP_PRI_FILTER;
            let chain = ChainSpec { table, name, kind: "filter", hook, priority };
            [new_chain(&chain), new_rule(table, name, self.expressions(key), comment)]
        };
        ways.into_iter().flat_map(refusal).collect()
    }

    /// UDP, to the port, and not by the link: dropped.
    fn expressions(&self, key: MetaKey) -> Vec<Expressions> {
        let mut list = to_port(self.port);
        let other_link = compare(Operator::NotEqual, link_name(&self.link));
        list.extend([load(key), other_link, drop_it()]);
        list
    }
}

/// UDP, to the port.
pub(super) fn to_port(port: u16) -> Vec<Expressions> {
    /// Place of the destination's port in UDP's header.
    const PORT_AT: u32 = 2;
    vec![
        load(MetaKey::L4Proto),
        compare(Operator::Equal, vec![libc::IPPROTO_UDP as u8]),
        load_bytes(libc::NFT_PAYLOAD_TRANSPORT_HEADER, PORT_AT, 2),
        compare(Operator::Equal, port.to_be_bytes().to_vec()),
    ]
}
