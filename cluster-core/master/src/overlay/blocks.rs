//! Arithmetic of blocks: which is the first one that nobody has.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network and the size of the blocks that it is given away in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// All of its addresses.
    pub network: IpNet,
    /// Length of the prefix of a block.
    pub prefix: u8,
}

impl Pool {
    /// How many blocks it has.
    #[must_use]
    pub fn blocks(&self) -> u128 {
        let bits = self.prefix.saturating_sub(self.network.prefix_len());
        1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX)
    }

    /// Whether a block may be given of it.
    pub(super) fn may_give(&self, block: &IpNet) -> bool {
        self.network.contains(block) && block.prefix_len() >= self.prefix && block.trunc() == *block
    }

    /// The first block that overlaps none of `taken`.
    pub(super) fn first_free(&self, taken: &[IpNet]) -> Option<IpNet> {
        let (first, last) = ends(&self.network);
        let bits = self.network.max_prefix_len().saturating_sub(self.prefix);
        let size = 1_u128.checked_shl(bits.into())?;
        let mut spans: Vec<(u128, u128)> = taken
            .iter()
            .filter(|block| block.addr().is_ipv4() == self.network.addr().is_ipv4())
            .map(ends)
            .collect();
        spans.sort_unstable();
        let mut at = first;
        for (begin, end) in spans {
            if end < at {
                continue;
            }
            if begin.checked_sub(at).is_some_and(|gap| gap >= size) {
                break;
            }
            at = end.checked_add(1)?.checked_next_multiple_of(size)?;
        }
        let fits = last.checked_sub(at)? >= size - 1;
        fits.then(|| net(at, self.prefix, &self.network)).flatten()
    }
}

/// Whether two networks have an address in common.
pub(super) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// First and last address as numbers.
fn ends(net: &IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

/// An address as a number.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn net(number: u128, prefix: u8, like: &IpNet) -> Option<IpNet> {
    let address: IpAddr = match like {
        IpNet::V4(_) => Ipv4Addr::from(u32::try_from(number).ok()?).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    };
    IpNet::new(address, prefix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_block() {
        #[rustfmt::skip]
        let table = [
            ("nothing taken",          "9.0.0.0/8",    24, "",                              Some("9.0.0.0/24")),
            ("after the first",        "9.0.0.0/8",    24, "9.0.0.0/24",                    Some("9.0.1.0/24")),
            ("in a gap",               "9.0.0.0/8",    24, "9.0.0.0/24 9.0.2.0/24",         Some("9.0.1.0/24")),
            ("a gap that is small",    "9.0.0.0/8",    23, "9.0.1.0/24",                    Some("9.0.2.0/23")),
            ("a larger one is there",  "9.0.0.0/8",    24, "9.0.0.0/22",                    Some("9.0.4.0/24")),
            ("a part is taken",        "9.0.0.0/8",    24, "9.0.0.64/26",                   Some("9.0.1.0/24")),
            ("one in the other",       "9.0.0.0/8",    24, "9.0.0.0/22 9.0.0.0/24",         Some("9.0.4.0/24")),
            ("the last one",           "9.0.0.0/23",   24, "9.0.0.0/24",                    Some("9.0.1.0/24")),
            ("all gone",               "9.0.0.0/23",   24, "9.0.0.0/24 9.0.1.0/24",         None),
            ("all is one block",       "9.0.0.0/24",   24, "",                              Some("9.0.0.0/24")),
            ("others do not matter",   "9.0.0.0/23",   24, "8.0.0.0/8 10.0.0.0/24 fd00::/8", Some("9.0.0.0/24")),
            ("the end of IPv4",        "255.0.0.0/8",  9,  "255.0.0.0/9",                   Some("255.128.0.0/9")),
            ("the end is taken",       "255.0.0.0/8",  9,  "255.0.0.0/9 255.128.0.0/9",     None),
            ("IPv6",                   "fd01:b::/64",  80, "fd01:b::/80",                   Some("fd01:b::1:0:0:0/80")),
        ];
        for (name, network, prefix, taken, want) in table {
            let pool = Pool { network: network.parse().unwrap(), prefix };
            let taken: Vec<IpNet> = taken.split_whitespace().map(|t| t.parse().unwrap()).collect();
            assert_eq!(pool.first_free(&taken), want.map(|text| text.parse().unwrap()), "{name}");
        }
    }

    #[test]
    fn how_many_blocks() {
        let pool = |network: &str, prefix| Pool { network: network.parse().unwrap(), prefix };
        assert_eq!(pool("9.0.0.0/8", 24).blocks(), 65_536);
        assert_eq!(pool("9.0.0.0/24", 24).blocks(), 1);
        assert!(pool("9.0.0.0/8", 24).may_give(&"9.1.2.0/25".parse().unwrap()));
        assert!(!pool("9.0.0.0/8", 24).may_give(&"9.0.0.0/9".parse().unwrap()));
        assert!(!pool("9.0.0.0/8", 24).may_give(&"10.0.0.0/24".parse().unwrap()));
    }
}
