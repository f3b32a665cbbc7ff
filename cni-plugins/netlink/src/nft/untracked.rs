//! Rules that keep packets of tunnels out of connection tracking.
//!
//! Every connection in a tunnel has a source port of its own outside of it, in each direction.
//! An entry would be made for each, would say nothing, and would stay for a while in a table
//! that has room for so many.

use netlink_packet_core::NetlinkMessage;
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::InetHookNumber;

use super::plain::to_port;
use super::{ChainSpec, new_chain, new_rule, other};

/// Tunnels whose packets nobody keeps track of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UntrackedTunnels {
    /// UDP port of the tunnels.
    pub port: u16,
}

impl UntrackedTunnels {
    /// A chain for what arrives and one for what leaves, each with a rule.
    pub(super) fn exemptions(
        &self,
        table: &str,
        comment: &str,
    ) -> Vec<NetlinkMessage<NetfilterMessage>> {
        let ways = [
            ("untracked-in", InetHookNumber::PreRouting),
            ("untracked-out", InetHookNumber::LocalOut),
        ];
        let exemption = |(name, hook)| {
            let chain =
                ChainSpec { table, name, kind: "filter", hook, priority: libc::NF_IP_PRI_RAW };
            let mut expressions = to_port(self.port);
            expressions.push(other("notrack", &[]));
            [new_chain(&chain), new_rule(table, name, expressions, comment)]
        };
        ways.into_iter().flat_map(exemption).collect()
    }
}
