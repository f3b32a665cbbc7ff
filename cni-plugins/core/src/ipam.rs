//! Which address a container gets.
//!
//! Addresses are given in turn: the next free one after the last that was given, so
//! that an address rests as long as possible before somebody else gets it. Whether an
//! address is really ours is decided by whoever makes the lease's file; [`Pool`] only
//! proposes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::AttachmentKey;
use crate::config::Range;
use crate::error::Code;
use crate::result::IpConfig;

/// The addresses of which a container gets one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    spans: Vec<Span>,
}

/// The addresses of one network that may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    subnet: IpNet,
    first: u128,
    last: u128,
    gateway: IpAddr,
}

/// No address can be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Every address has a lease.
    #[error("no address but the gateway is free from {first} to {last}: {leases} leases")]
    Exhausted {
        /// First address of the range.
        first: IpAddr,
        /// Last address of the range.
        last: IpAddr,
        /// How many addresses of the network have a lease.
        leases: usize,
    },
    /// The address that the runtime wants is not one that we give.
    #[error(
        "address {address} was asked for, but only {first} to {last} without gateways are given"
    )]
    NotGiven {
        /// The address wanted.
        address: IpAddr,
        /// First address of the range.
        first: IpAddr,
        /// Last address of the range.
        last: IpAddr,
    },
    /// The address that the runtime wants has a lease.
    #[error("address {address} was asked for and has a lease already")]
    Taken {
        /// The address wanted.
        address: IpAddr,
    },
}

impl PoolError {
    /// The code of the error answer.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Exhausted { .. } => Code::Exhausted,
            Self::NotGiven { .. } => Code::InvalidEnvironment,
            Self::Taken { .. } => Code::Conflict,
        }
    }
}

impl Pool {
    /// The addresses that a set of ranges gives: of each, those within its subnet without the
    /// network's own address, the IPv4 broadcast address and the gateway.
    #[must_use]
    pub fn new(ranges: &[Range]) -> Self {
        Self { spans: ranges.iter().map(Span::new).collect() }
    }

    /// Proposes an address.
    ///
    /// * `wanted` — the addresses that the runtime wants; one of another pool is no concern.
    /// * `last` — the address given last.
    /// * `taken` — addresses that are known to have a lease.
    ///
    /// # Errors
    ///
    /// [`PoolError`] if there is none.
    pub fn choose(
        &self,
        wanted: &[IpAddr],
        last: Option<IpAddr>,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<IpAddr, PoolError> {
        let ours = |address: &&IpAddr| self.spans.iter().any(|span| span.subnet.contains(*address));
        match wanted.iter().find(ours) {
            Some(address) if !self.gives(*address) => Err(self.not_given(*address)),
            Some(address) if taken.contains(address) => Err(PoolError::Taken { address: *address }),
            Some(address) => Ok(*address),
            None => self.next_free(last, taken),
        }
    }

    /// What ADD of the address plugin answers about `address`.
    #[must_use]
    pub fn configuration(&self, address: IpAddr) -> IpConfig {
        let span = self.spans.iter().find(|span| span.subnet.contains(&address));
        // The prefix length comes from a network of the same family.
        let net = span.and_then(|span| IpNet::new(address, span.subnet.prefix_len()).ok());
        IpConfig {
            interface: None,
            address: net.unwrap_or_else(|| IpNet::from(address)),
            gateway: span.map(|span| span.gateway),
        }
    }

    /// Whether `address` is one that the pool may give.
    #[must_use]
    pub fn gives(&self, address: IpAddr) -> bool {
        self.spans.iter().any(|span| span.gives(address))
    }

    /// The refusal of an address that the pool does not give.
    #[must_use]
    pub fn not_given(&self, address: IpAddr) -> PoolError {
        let (first, last) = self.ends();
        PoolError::NotGiven { address, first, last }
    }

    /// The next free address after `last`, over all spans, in turn.
    fn next_free(
        &self,
        last: Option<IpAddr>,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<IpAddr, PoolError> {
        let at = last.and_then(|last| self.spans.iter().position(|span| span.gives(last)));
        let (at, after) = match (at, last) {
            (Some(at), Some(last)) => (at, to_number(last) + 1),
            _ => (0, 0),
        };
        let (before, from) = self.spans.split_at(at);
        let here = from.first();
        let rest = here.into_iter().flat_map(|span| span.numbers(after, span.last));
        let others = from.iter().skip(1).chain(before).flat_map(|span| span.numbers(0, span.last));
        let again = here.into_iter().flat_map(|span| span.numbers(0, after.saturating_sub(1)));
        let mut candidates = rest.chain(others).chain(again);
        candidates.find(|address| !taken.contains(address)).ok_or_else(|| {
            let (first, last) = self.ends();
            PoolError::Exhausted { first, last, leases: taken.len() }
        })
    }

    /// First and last address, for words only.
    fn ends(&self) -> (IpAddr, IpAddr) {
        let nowhere = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let first = self.spans.first().map(|span| from_number(span.first, span.subnet));
        let last = self.spans.last().map(|span| from_number(span.last, span.subnet));
        (first.unwrap_or(nowhere), last.unwrap_or(nowhere))
    }
}

impl Span {
    fn new(range: &Range) -> Self {
        let subnet = range.subnet;
        let lowest = to_number(subnet.network()) + 1;
        let end = to_number(subnet.broadcast());
        let highest = if subnet.addr().is_ipv4() { end - 1 } else { end };
        Self {
            subnet,
            first: range.start.map_or(lowest, |start| to_number(start).max(lowest)),
            last: range.end.map_or(highest, |end| to_number(end).min(highest)),
            gateway: range.gateway.unwrap_or_else(|| from_number(lowest, subnet)),
        }
    }

    fn gives(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.subnet.addr().is_ipv4()
            && (self.first..=self.last).contains(&to_number(address))
            && address != self.gateway
    }

    /// The addresses between two numbers, both included, that may be given.
    fn numbers(&self, from: u128, to: u128) -> impl Iterator<Item = IpAddr> + '_ {
        let numbers = from.max(self.first)..=to.min(self.last);
        let addresses = numbers.map(|number| from_number(number, self.subnet));
        addresses.filter(|address| *address != self.gateway)
    }
}

/// The content of a lease's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRecord {
    /// Version of this format.
    pub version: u32,
    /// The container that has the address.
    pub container_id: String,
    /// Its interface.
    pub ifname: String,
    /// The plugin that a runtime called: `mizzen-overlay`, which makes the container's link as
    /// well, or `mizzen-ipam` below another one. Records of before do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The network through which it was asked for: several, of several runtimes, may share an
    /// overlay. Records of before have none and belong to whoever asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The addresses that it has or was about to take, this one included. Records of before
    /// this list was kept have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Whether a bridge may send frames back out of the container's port, as `mizzen-overlay` was
    /// told. Other main plugins and records of before do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<bool>,
}

impl LeaseRecord {
    /// The version that we write.
    pub const VERSION: u32 = 1;

    /// The lease of `key` in `network` by `plugin`, still without addresses.
    #[must_use]
    pub fn new(plugin: &str, network: &str, key: &AttachmentKey) -> Self {
        let AttachmentKey { container_id, ifname } = key.clone();
        let (plugin, network) = (Some(plugin.to_owned()), Some(network.to_owned()));
        let (version, addresses, hairpin) = (Self::VERSION, Vec::new(), None);
        Self { version, container_id, ifname, plugin, network, addresses, hairpin }
    }

    /// Whether it is of this network.
    #[must_use]
    pub fn is_of(&self, network: &str) -> bool {
        self.network.as_deref().is_none_or(|found| found == network)
    }

    /// Whose lease it is.
    #[must_use]
    pub fn key(&self) -> AttachmentKey {
        AttachmentKey { container_id: self.container_id.clone(), ifname: self.ifname.clone() }
    }
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn from_number(number: u128, like: IpNet) -> IpAddr {
    match like {
        IpNet::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(subnet: &str, range: Option<(&str, &str)>, gateway: Option<&str>) -> Range {
        Range {
            subnet: subnet.parse().unwrap(),
            start: range.map(|(start, _)| start.parse().unwrap()),
            end: range.map(|(_, end)| end.parse().unwrap()),
            gateway: gateway.map(|text| text.parse().unwrap()),
        }
    }

    fn range_of(subnet: &str) -> Range {
        range(subnet, None, None)
    }

    fn pool(subnet: &str, ends: Option<(&str, &str)>, gateway: Option<&str>) -> Pool {
        Pool::new(&[range(subnet, ends, gateway)])
    }

    #[test]
    fn the_next_free_address() {
        let range = Some(("9.0.5.2", "9.0.5.5"));
        let blocks = || Pool::new(&[range_of("9.0.5.0/30"), range_of("9.0.9.0/30")]);
        #[rustfmt::skip]
        let table = [
            ("first of all",          pool("9.0.5.0/25", None, None), None, "", Some("9.0.5.2")),
            ("after the last",        pool("9.0.5.0/25", None, None), Some("9.0.5.7"), "", Some("9.0.5.8")),
            ("past what is taken",    pool("9.0.5.0/25", None, None), Some("9.0.5.7"), "9.0.5.8 9.0.5.9", Some("9.0.5.10")),
            ("around the end",        pool("9.0.5.0/25", None, None), Some("9.0.5.126"), "9.0.5.2", Some("9.0.5.3")),
            ("past the gateway",      pool("9.0.5.0/25", None, Some("9.0.5.4")), Some("9.0.5.3"), "", Some("9.0.5.5")),
            ("low gateway is free",   pool("9.0.5.0/25", None, Some("9.0.5.126")), None, "", Some("9.0.5.1")),
            ("within the range",      pool("9.0.5.0/25", range, None), Some("9.0.5.5"), "9.0.5.2", Some("9.0.5.3")),
            ("last is out of range",  pool("9.0.5.0/25", range, None), Some("9.0.5.9"), "", Some("9.0.5.2")),
            ("last, again",           pool("9.0.5.0/25", range, None), Some("9.0.5.3"), "9.0.5.2 9.0.5.4 9.0.5.5", Some("9.0.5.3")),
            ("exhausted",             pool("9.0.5.0/25", range, None), Some("9.0.5.3"), "9.0.5.2 9.0.5.3 9.0.5.4 9.0.5.5", None),
            ("smallest network",      pool("9.0.5.0/30", None, None), None, "", Some("9.0.5.2")),
            ("smallest is full",      pool("9.0.5.0/30", None, None), None, "9.0.5.2", None),
            ("IPv6",                  pool("fd01:b::/80", None, None), None, "fd01:b::2", Some("fd01:b::3")),
            ("into the next block",   blocks(), Some("9.0.5.2"), "", Some("9.0.9.2")),
            ("back to the first",     blocks(), Some("9.0.9.2"), "", Some("9.0.5.2")),
            ("all blocks are full",   blocks(), Some("9.0.9.2"), "9.0.5.2 9.0.9.2", None),
            ("IPv6 is huge",          pool("fd00::/8", None, None), None, "", Some("fd00::2")),
        ];
        for (name, pool, last, taken, want) in table {
            let taken = taken.split_whitespace().map(|text| text.parse().unwrap()).collect();
            let last = last.map(|text: &str| text.parse().unwrap());
            let got = pool.choose(&[], last, &taken);
            match want {
                Some(want) => assert_eq!(got, Ok(want.parse().unwrap()), "{name}"),
                None => assert_eq!(got.unwrap_err().code(), Code::Exhausted, "{name}"),
            }
        }
    }

    #[test]
    fn a_requested_address_is_given_or_refused_in_words() {
        let pool = pool("9.0.5.0/25", None, None);
        let taken: BTreeSet<IpAddr> = ["9.0.5.9".parse().unwrap()].into();
        for (address, want) in [
            ("9.0.5.77", None),
            ("9.0.5.9", Some(Code::Conflict)),
            ("9.0.5.1", Some(Code::InvalidEnvironment)),
            ("9.0.5.0", Some(Code::InvalidEnvironment)),
            ("9.0.5.127", Some(Code::InvalidEnvironment)),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let got = pool.choose(&[address], None, &taken);
            assert_eq!(got.as_ref().err().map(PoolError::code), want, "{address}");
            assert_eq!(got.ok(), want.is_none().then_some(address));
        }
    }

    #[test]
    fn the_answer_has_prefix_and_gateway() {
        let pool = pool("9.0.5.0/25", None, None);
        let ip = pool.configuration("9.0.5.2".parse().unwrap());
        assert_eq!(ip.address.to_string(), "9.0.5.2/25");
        assert_eq!(ip.gateway, Some("9.0.5.1".parse().unwrap()));
        assert!(pool.gives("9.0.5.2".parse().unwrap()) && !pool.gives("fd01::2".parse().unwrap()));
    }
}
