//! Which addresses a named VIP holds: one claim is for an IPv4 address and for the IPv6
//! address that follows from it.

use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where the addresses of named VIPs come from, for example `11.0.0.0/8`. The
/// first and the last address of the network are left out.
pub type Range = Ipv4Net;

/// Names and the addresses that they claimed; each holds the other.
#[derive(Debug, Clone)]
pub struct Claims {
    range: Range,
    by_name: BTreeMap<String, Ipv4Addr>,
    by_address: BTreeMap<Ipv4Addr, String>,
}

/// Network of the twins, `fd01:c::/64`, as DC/OS has it for IPv6 VIPs.
const TWINS: [u16; 4] = [0xfd01, 0x000c, 0, 0];

/// The IPv6 address that belongs to a claimed IPv4 address: `fd01:c::11.0.0.7`.
#[must_use]
pub fn twin(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets().map(u16::from);
    let [n0, n1, n2, n3] = TWINS;
    Ipv6Addr::new(n0, n1, n2, n3, 0, 0, a << 8 | b, c << 8 | d)
}

/// The claimed address that an address stands for: itself, or the one that it is the
/// twin of.
fn claimed(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(address) => {
            let bits = u32::try_from(u128::from(address) & u128::from(u32::MAX)).ok()?;
            Some(Ipv4Addr::from(bits)).filter(|claimed| twin(*claimed) == address)
        }
    }
}

impl Claims {
    /// No claims yet.
    #[must_use]
    pub fn new(range: Range) -> Self {
        Self { range, by_name: BTreeMap::new(), by_address: BTreeMap::new() }
    }

    /// Takes in a claim that was made before. If two names meet at one address the
    /// lower name keeps it, so that every node decides alike.
    pub fn adopt(&mut self, name: &str, address: Ipv4Addr) {
        if self.by_address.get(&address).is_some_and(|holder| holder.as_str() < name) {
            return;
        }
        if let Some(loser) = self.by_address.insert(address, name.to_owned()) {
            self.by_name.remove(&loser);
        }
        if let Some(former) = self.by_name.insert(name.to_owned(), address)
            && former != address
        {
            self.by_address.remove(&former);
        }
    }

    /// The address that a name holds.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        self.by_name.get(name).copied()
    }

    /// The name that holds an address, or the address that it is the twin of.
    #[must_use]
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        self.by_address.get(&claimed(address)?).map(String::as_str)
    }

    /// Claims an address for a name that holds none: its hash, or the next free one
    /// behind it; those that are `reserved` are not free. `None` if the range is used
    /// up.
    pub fn claim(&mut self, name: &str, reserved: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let first = u32::from(self.range.network()).saturating_add(1);
        let last = u32::from(self.range.broadcast()).saturating_sub(1);
        let size = last.checked_sub(first)?.saturating_add(1);
        let start = u32::try_from(hash(name) % u64::from(size)).unwrap_or(0);
        let address = (0..size)
            .map(|step| first + ((u64::from(start) + u64::from(step)) % u64::from(size)) as u32)
            .map(Ipv4Addr::from)
            .find(|address| !self.by_address.contains_key(address) && !reserved(*address))?;
        self.adopt(name, address);
        Some(address)
    }
}

/// FNV-1a, 64 bits: the same on every node and in every version.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(range: &str) -> Claims {
        Claims::new(range.parse().unwrap())
    }

    #[test]
    fn a_name_keeps_its_address_and_no_two_share_one() {
        let mut claims = claims("11.0.0.0/29");
        let all: Vec<_> =
            (0..6).map(|n| claims.claim(&format!("web{n}"), |_| false).unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 6, "{all:?}");
        assert_eq!(claims.claim("one too many", |_| false), None);
        assert_eq!(claims.address_of("web3"), Some(all[3]));
        assert!(all.iter().all(|a| !["11.0.0.0", "11.0.0.7"].contains(&a.to_string().as_str())));
    }

    #[test]
    fn where_two_claims_meet_the_lower_name_stays() {
        let address: Ipv4Addr = "11.1.2.3".parse().unwrap();
        for order in [["a", "b"], ["b", "a"]] {
            let mut claims = claims("11.0.0.0/8");
            for name in order {
                claims.adopt(name, address);
            }
            assert_eq!(claims.name_of(address.into()), Some("a"), "{order:?}");
            assert_eq!(claims.address_of("b"), None, "{order:?}");
        }
    }

    #[test]
    fn one_claim_is_for_two_addresses() {
        let mut claims = claims("11.0.0.0/8");
        let address = claims.claim("web.marathon", |_| false).unwrap();
        assert_eq!(twin(address).to_string(), "fd01:c::ba9:2242");
        assert_eq!(claims.name_of(twin(address).into()), Some("web.marathon"));
        for other in ["fd01:c::1:ba9:2242", "fd01:d::ba9:2242", "::ba9:2242", "fd01:c::ba9:2243"] {
            assert_eq!(claims.name_of(other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn the_hash_is_for_ever() {
        let claim = claims("11.0.0.0/8").claim("web.marathon", |_| false);
        assert_eq!(claim.unwrap().to_string(), "11.169.34.66");
    }
}
