//! Names of addresses, and which of them are ours to answer.
//!
//! Three kinds of addresses, three ways:
//!
//! * those of the cluster's own networks (VIPs, overlays, resolvers) and those that mean
//!   nothing outside of a machine (RFC 6303) have zones here, so what they do not hold
//!   does not exist;
//! * an agent's address is in a network of the site, whose other names somebody else
//!   knows: that one name is ours, and no zone above it;
//! * everything else is not ours, and forwarded.

use crate::name::DnsName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks that mean something else on every machine or nothing at all, so that no
/// upstream can know names in them (RFC 6303, 4.2 to 4.5, without the private networks of
/// sites, which have servers that know).
pub(crate) const LOCAL: [IpNet; 11] = [
    v4([0, 0, 0, 0], 8),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([192, 0, 2, 0], 24),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([255, 255, 255, 255], 32),
    v6([0, 0, 0, 0], 0, 128),
    v6([0, 0, 0, 0], 1, 128),
    v6([0xfe80, 0, 0, 0], 0, 10),
    v6([0x2001, 0xdb8, 0, 0], 0, 32),
];

/// The name of an address, `7.0.0.11.in-addr.arpa` of 11.0.0.7.
#[must_use]
pub fn reverse_name(address: IpAddr) -> DnsName {
    match address.to_canonical() {
        IpAddr::V4(address) => part_v4(address, 4),
        IpAddr::V6(address) => part_v6(address, 32),
    }
}

/// The zones that hold the names of a network's addresses and no others. A network whose
/// prefix ends inside a label takes several: at most 128 of IPv4, 8 of IPv6.
pub(crate) fn zones_of(network: IpNet) -> Vec<DnsName> {
    let network = network.trunc();
    match network {
        IpNet::V4(network) => {
            let octets = network.prefix_len().div_ceil(8);
            let parts = network.subnets(octets * 8).into_iter().flatten();
            parts.map(|part| part_v4(part.network(), usize::from(octets))).collect()
        }
        IpNet::V6(network) => {
            let nibbles = network.prefix_len().div_ceil(4);
            let parts = network.subnets(nibbles * 4).into_iter().flatten();
            parts.map(|part| part_v6(part.network(), usize::from(nibbles))).collect()
        }
    }
}

/// Whether the address means something else on every machine, so that no name of the
/// cluster can be its name.
pub(crate) fn is_of_one_machine(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast()
}

/// Whether a zone that is there from the start holds the address, given the cluster's
/// own networks.
pub(crate) fn is_held(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().chain(&LOCAL).any(|network| network.contains(&address))
}

fn part_v4(address: Ipv4Addr, octets: usize) -> DnsName {
    let mut text = String::with_capacity(28);
    for octet in address.octets().iter().take(octets).rev() {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{octet}.");
    }
    text.push_str("in-addr.arpa");
    DnsName::root().under(&text)
}

fn part_v6(address: Ipv6Addr, nibbles: usize) -> DnsName {
    let mut text = String::with_capacity(72);
    let halves = address.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
    let halves: Vec<u8> = halves.take(nibbles).collect();
    for half in halves.iter().rev() {
        let _ = write!(text, "{half:x}.");
    }
    text.push_str("ip6.arpa");
    DnsName::root().under(&text)
}

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

/// `last` is the last of the address's eight numbers, those between are zero.
const fn v6([a, b, c, d]: [u16; 4], last: u16, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, last), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_names() {
        let zeros = "0.".repeat(23);
        let name = |text: &str| reverse_name(text.parse().unwrap()).to_string();
        assert_eq!(name("11.0.0.7"), "7.0.0.11.in-addr.arpa.");
        assert_eq!(name("::ffff:11.0.0.7"), "7.0.0.11.in-addr.arpa.");
        assert_eq!(name("fd01:c::7"), format!("7.{zeros}c.0.0.0.1.0.d.f.ip6.arpa."));
    }

    #[test]
    fn networks_have_zones_that_hold_them_exactly() {
        #[rustfmt::skip]
        let table: &[(&str, usize, &str, &str)] = &[
            ("11.0.0.0/8",      1,   "11.in-addr.arpa.",         "11.in-addr.arpa."),
            ("9.1.0.0/20",      16,  "0.1.9.in-addr.arpa.",      "15.1.9.in-addr.arpa."),
            ("9.0.0.0/9",       128, "0.9.in-addr.arpa.",        "127.9.in-addr.arpa."),
            ("10.1.2.192/26",   64,  "192.2.1.10.in-addr.arpa.", "255.2.1.10.in-addr.arpa."),
            ("10.1.2.3/32",     1,   "3.2.1.10.in-addr.arpa.",   "3.2.1.10.in-addr.arpa."),
            ("10.1.2.3/24",     1,   "2.1.10.in-addr.arpa.",     "2.1.10.in-addr.arpa."),
            ("0.0.0.0/0",       1,   "in-addr.arpa.",            "in-addr.arpa."),
            ("fe80::/10",       4,   "8.e.f.ip6.arpa.",          "b.e.f.ip6.arpa."),
            ("fd01:c::/64",     1,   "0.0.0.0.0.0.0.0.c.0.0.0.1.0.d.f.ip6.arpa.",
                                     "0.0.0.0.0.0.0.0.c.0.0.0.1.0.d.f.ip6.arpa."),
        ];
        for (network, count, first, last) in table {
            let zones = zones_of(network.parse().unwrap());
            assert_eq!(zones.len(), *count, "{network}");
            assert_eq!(zones.first().map(ToString::to_string).as_deref(), Some(*first));
            assert_eq!(zones.last().map(ToString::to_string).as_deref(), Some(*last));
        }
        assert!(LOCAL.iter().map(|network| zones_of(*network).len()).sum::<usize>() < 20);
    }
}
