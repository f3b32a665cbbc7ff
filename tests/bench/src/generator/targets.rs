//! Where connections go.

use anyhow::{Context, Result, ensure};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Addresses, at least one. As text: `11.0.0.1:80,11.0.0.9:80`, or `11.0.0.1:80*3`
/// for three in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Targets {
    addresses: Vec<SocketAddr>,
    text: String,
}

/// Draws targets, all alike.
#[derive(Debug)]
pub(crate) struct Draw(u64);

impl Targets {
    /// `count` addresses in a row.
    pub(crate) fn row(first: SocketAddr, count: usize) -> Self {
        let addresses = (0..count.max(1)).map(|index| nth(first, index)).collect();
        Self { addresses, text: format!("{first}*{}", count.max(1)) }
    }

    /// The first of them.
    pub(crate) fn first(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// One of them.
    pub(crate) fn draw(&self, draw: &mut Draw) -> SocketAddr {
        let Draw(state) = draw;
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let index = usize::try_from(*state >> 32).unwrap_or_default() % self.addresses.len();
        self.addresses[index]
    }
}

impl Draw {
    /// Always the same draws: a block of one variant is that of another.
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl From<SocketAddr> for Targets {
    fn from(address: SocketAddr) -> Self {
        Self { addresses: vec![address], text: address.to_string() }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Targets {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut addresses = Vec::new();
        for part in text.split(',') {
            let (first, count) = part.split_once('*').unwrap_or((part, "1"));
            let first = first.parse().with_context(|| format!("`{first}` is no address"))?;
            let count: usize = count.parse().with_context(|| format!("`{count}` times"))?;
            addresses.extend((0..count).map(|index| nth(first, index)));
        }
        ensure!(!addresses.is_empty(), "no target");
        Ok(Self { addresses, text: text.to_owned() })
    }
}

/// The address that is `index` after `first`, with its port.
pub(crate) fn nth(first: SocketAddr, index: usize) -> SocketAddr {
    let IpAddr::V4(address) = first.ip() else { return first };
    let index = u32::try_from(index).unwrap_or_default();
    let ip = Ipv4Addr::from_bits(address.to_bits().wrapping_add(index));
    SocketAddr::new(ip.into(), first.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_lists() {
        let targets: Targets = "10.0.0.255:80*2,10.9.0.1:81".parse().unwrap();
        let want: Vec<SocketAddr> =
            ["10.0.0.255:80", "10.0.1.0:80", "10.9.0.1:81"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(targets.addresses, want);
        let row = Targets::row(want[0], 2);
        assert_eq!(row.to_string().parse::<Targets>().unwrap().addresses, want[..2]);
        assert!("10.0.0.1:80*0".parse::<Targets>().is_err());
    }

    #[test]
    fn every_target_is_drawn_as_often() {
        let targets: Targets = "10.0.0.1:80*4".parse().unwrap();
        let mut draw = Draw::new();
        let mut counts = [0; 4];
        for _ in 0..4000 {
            let target = targets.draw(&mut draw);
            let index = targets.addresses.iter().position(|address| *address == target).unwrap();
            counts[index] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }
}
