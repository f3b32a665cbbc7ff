//! Addresses and ports as maps hold them.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IPv6 address, or an IPv4 address mapped into one, in network order.
///
/// Four words and not sixteen bytes, because that is how the kernel hands
/// addresses to programs: copying one costs four moves and no shifting.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Ip16([u32; 4]);

/// The third word of an IPv4-mapped address, as it lies in memory.
const MAPPED: u32 = 0xffff_u32.to_be();

impl Ip16 {
    /// `::`.
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// Maps an IPv4 address that is already in network order, as `user_ip4` is.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4_word(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    /// Takes an IPv6 address that is already in network order, as `user_ip6` is.
    #[inline(always)]
    #[must_use]
    pub const fn from_v6_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The four words in network order.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// The IPv4 address in network order, if this is one.
    #[inline(always)]
    #[must_use]
    pub const fn v4_word(self) -> Option<u32> {
        match self.0 {
            [0, 0, MAPPED, word] => Some(word),
            _ => None,
        }
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.v4_word().is_some()
    }
}

impl From<IpAddr> for Ip16 {
    fn from(address: IpAddr) -> Self {
        let v6 = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(v6.octets().as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        Self(words)
    }
}

impl From<Ip16> for IpAddr {
    /// IPv4 for a mapped address, IPv6 for any other.
    fn from(address: Ip16) -> Self {
        if let Some(word) = address.v4_word() {
            return Self::V4(Ipv4Addr::from(word.to_ne_bytes()));
        }
        let mut octets = [0; 16];
        for (bytes, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(address.0) {
            *bytes = word.to_ne_bytes();
        }
        Self::V6(Ipv6Addr::from(octets))
    }
}

impl fmt::Debug for Ip16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

/// A port in network order.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// From a number such as 80.
    #[inline(always)]
    #[must_use]
    pub const fn new(port: u16) -> Self {
        Self(port.to_be())
    }

    /// Takes a port that is already in network order, as the low half of `user_port` is.
    #[inline(always)]
    #[must_use]
    pub const fn from_network(port: u16) -> Self {
        Self(port)
    }

    /// The bits as they go onto the wire.
    #[inline(always)]
    #[must_use]
    pub const fn to_network(self) -> u16 {
        self.0
    }

    /// The number, such as 80.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went_in() {
        for text in ["11.0.0.1", "255.255.255.255", "0.0.0.0", "::1", "fd01:c::7", "::"] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(IpAddr::from(Ip16::from(address)), address, "{text}");
        }
    }

    #[test]
    fn bytes_are_in_network_order() {
        let address = Ip16::from(IpAddr::from([11, 0, 0, 1]));
        assert_eq!(address.as_bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 11, 0, 0, 1]);
        assert_eq!(Be16::new(80).as_bytes(), [0, 80]);
        assert_eq!(Be16::new(80).get(), 80);
    }

    #[test]
    fn one_key_for_both_families() {
        let word = u32::from_ne_bytes([11, 0, 0, 1]);
        let mapped: IpAddr = "::ffff:11.0.0.1".parse().expect("an address");
        assert_eq!(Ip16::from_v4_word(word), Ip16::from(IpAddr::from([11, 0, 0, 1])));
        assert_eq!(Ip16::from_v4_word(word), Ip16::from(mapped));
        assert_eq!(Ip16::from(mapped).v4_word(), Some(word));
        assert!(!Ip16::from("::11.0.0.1".parse::<IpAddr>().expect("an address")).is_v4());
    }
}
