//! What the programs of policies are to go by, in the words of those who want it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use super::{Action, Class, Judgement, Overlays, Ruling, judge};

/// What rulings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// Number of the sender's class.
    pub from: u32,
    /// Number of the receiver's class.
    pub to: u32,
    /// What is sent.
    pub traffic: Traffic,
}

/// What is sent. Of several that match, the last one of this list counts, and of ports the narrowest range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// Everything.
    All,
    /// Everything of an IP protocol. ICMP is 1 for both families.
    Protocol(u8),
    /// Receiver's ports that begin with the same bits.
    Ports {
        /// IP protocol number: 6 or 17.
        protocol: u8,
        /// The first of these ports.
        port: u16,
        /// How many bits: 16 for one port.
        bits: u8,
    },
}

impl Traffic {
    /// Whether this is part of it.
    #[must_use]
    pub fn has(&self, protocol: u8, port: u16) -> bool {
        match *self {
            Self::All => true,
            Self::Protocol(wanted) => wanted == protocol,
            Self::Ports { protocol: wanted, port: first, bits } => {
                let rest = 16 - u32::from(bits.min(16));
                wanted == protocol && u32::from(first) >> rest == u32::from(port) >> rest
            }
        }
    }

    /// The larger, the more specific.
    fn width(&self) -> u8 {
        match self {
            Self::All => 0,
            Self::Protocol(_) => 1,
            Self::Ports { bits, .. } => 2 + bits,
        }
    }
}

/// Everything that programs go by. Nothing by default, which switches them off.
///
/// While one set replaces another, programs may see part of both. No number of a class is to mean something else in the
/// next set than in this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyWanted {
    /// Whose addresses these are, by network; the longest prefix counts, and what is in none is the world's.
    pub classes: BTreeMap<(IpAddr, u8), Class>,
    /// What rules say.
    pub rulings: BTreeMap<Match, Ruling>,
    /// What is between overlays.
    pub overlays: Overlays,
}

impl PolicyWanted {
    /// Whether nothing is guarded, watched or opened.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_judged = |class: &Class| class.judges_ingress() || class.judges_egress();
        self.rulings.is_empty() && !self.classes.values().any(is_judged)
    }

    /// Whether some rule lets packets pass from one overlay to another.
    #[must_use]
    pub fn opens_ways(&self) -> bool {
        if self.overlays == Overlays::Together {
            return false;
        }
        let by_number: BTreeSet<(u32, u32)> =
            self.classes.values().map(|class| (class.class, class.overlay)).collect();
        let overlays = |class: u32| by_number.range((class, 1)..=(class, u32::MAX));
        self.rulings.iter().any(|(matched, ruling)| {
            ruling.action != Action::Refuse
                && overlays(matched.from)
                    .any(|(_, from)| overlays(matched.to).any(|(_, to)| from != to))
        })
    }

    /// The class of an address.
    #[must_use]
    pub fn class_of(&self, address: IpAddr) -> Class {
        let address = address.to_canonical();
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let found = (0..=longest)
            .rev()
            .find_map(|length| self.classes.get(&(network(address, length), length)));
        found.copied().unwrap_or_default()
    }

    /// What the rules say, if they say anything: the most specific ruling.
    #[must_use]
    pub fn ruling(&self, from: u32, to: u32, protocol: u8, port: u16) -> Option<Ruling> {
        let pair = |traffic| Match { from, to, traffic };
        let last = Traffic::Ports { protocol: u8::MAX, port: u16::MAX, bits: u8::MAX };
        self.rulings
            .range(pair(Traffic::All)..=pair(last))
            .filter(|(matched, _)| matched.traffic.has(protocol, port))
            .max_by_key(|(matched, _)| matched.traffic.width())
            .map(|(_, ruling)| *ruling)
    }

    /// What becomes of a connection between these addresses. `port` is the receiver's; zero for protocols without.
    #[must_use]
    pub fn judge(&self, from: IpAddr, to: IpAddr, protocol: u8, port: u16) -> Judgement {
        let (from, to) = (self.class_of(from), self.class_of(to));
        let ruling = self.ruling(from.class, to.class, protocol, port);
        judge(&from, &to, self.overlays, ruling)
    }
}

/// A range of ports as prefixes: the first port of each, and how many bits its ports share.
#[must_use]
pub fn port_prefixes(ports: RangeInclusive<u16>) -> Vec<(u16, u8)> {
    let (mut first, last) = (u32::from(*ports.start()), u32::from(*ports.end()));
    let mut prefixes = Vec::new();
    while first <= last {
        // As many as the first one's zero bits allow, and as are left.
        let aligned = first.trailing_zeros().min(16);
        let left = (last - first + 1).ilog2();
        let free = aligned.min(left);
        prefixes.push((first as u16, (16 - free) as u8));
        first += 1 << free;
    }
    prefixes
}

/// The first address of the network of this length that `address` is in.
fn network(address: IpAddr, length: u8) -> IpAddr {
    let rest = |bits: u32| bits - u32::from(length);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(rest(32)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(rest(128)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, number};
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_of_ports_are_prefixes() {
        assert_eq!(port_prefixes(80..=80), [(80, 16)]);
        assert_eq!(port_prefixes(0..=65535), [(0, 0)]);
        assert_eq!(port_prefixes(8000..=8010), [(8000, 13), (8008, 15), (8010, 16)]);
        assert_eq!(port_prefixes(65535..=65535), [(65535, 16)]);
        for (first, last) in [(1, 65535), (1024, 65535), (7, 9), (0, 1), (1, 1023)] {
            let prefixes = port_prefixes(first..=last);
            for port in 0..=u16::MAX {
                let has = |&(port_, bits): &(u16, u8)| {
                    Traffic::Ports { protocol: 6, port: port_, bits }.has(6, port)
                };
                let count = prefixes.iter().filter(|prefix| has(prefix)).count();
                assert_eq!(count, usize::from((first..=last).contains(&port)), "{port}");
            }
        }
    }

    #[test]
    fn the_most_specific_ruling_counts() {
        let ruling = |rule| Ruling { rule, action: Action::Allow };
        let pair = |traffic| Match { from: 2, to: 3, traffic };
        let ports = |port, bits| Traffic::Ports { protocol: 6, port, bits };
        let mut wanted = PolicyWanted::default();
        for (traffic, rule) in [
            (Traffic::All, 10),
            (Traffic::Protocol(6), 11),
            (ports(8000, 13), 12),
            (ports(8001, 16), 13),
        ] {
            wanted.rulings.insert(pair(traffic), ruling(rule));
        }
        wanted.rulings.insert(Match { from: 3, to: 2, traffic: Traffic::All }, ruling(20));
        for (protocol, port, rule) in
            [(17, 53, 10), (1, 0, 10), (6, 80, 11), (6, 8000, 12), (6, 8007, 12), (6, 8001, 13)]
        {
            assert_eq!(wanted.ruling(2, 3, protocol, port), Some(ruling(rule)), "{port}");
        }
        assert_eq!(wanted.ruling(2, 2, 6, 80), None);
        assert_eq!(wanted.ruling(3, 2, 6, 80), Some(ruling(20)));
    }

    #[test]
    fn addresses_have_the_class_of_the_longest_prefix() {
        let class = |class, overlay, flags| Class { class, overlay, flags };
        let mut wanted = PolicyWanted::default();
        wanted.classes.insert((at("9.0.0.0"), 8), class(2, 1, 0));
        wanted.classes.insert((at("9.0.1.2"), 32), class(3, 1, Class::GUARDED_INGRESS));
        wanted.classes.insert((at("fd01:b::"), 64), class(2, 1, 0));
        wanted.classes.insert((at("10.0.0.0"), 8), class(4, 2, 0));
        for (address, number) in [
            ("9.0.1.2", 3),
            ("9.0.1.3", 2),
            ("::ffff:9.0.1.2", 3),
            ("fd01:b::7", 2),
            ("fd01:c::7", 0),
            ("8.8.8.8", 0),
        ] {
            assert_eq!(wanted.class_of(at(address)).class, number, "{address}");
        }
        let judged = wanted.judge(at("9.0.1.3"), at("9.0.1.2"), 6, 80);
        assert_eq!(judged, Judgement { verdict: Verdict::Refuse, rule: number::GUARD_INGRESS });
        assert!(!wanted.opens_ways() && !wanted.is_idle());
        let open = Match { from: 4, to: 3, traffic: Traffic::Protocol(6) };
        wanted.rulings.insert(open, Ruling { rule: 8, action: Action::Allow });
        assert!(wanted.opens_ways());
        assert_eq!(wanted.judge(at("10.0.0.1"), at("9.0.1.2"), 6, 80).verdict, Verdict::Pass);
        wanted.overlays = Overlays::Together;
        assert!(!wanted.opens_ways());
    }
}
