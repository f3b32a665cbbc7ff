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
use crate::config::IpamConfig;
use crate::error::Code;
use crate::result::{CniResult, IpConfig, Route};

/// The addresses that one configuration may give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
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
        "address {address} was asked for, but only {first} to {last} without the gateway {gateway} are given"
    )]
    NotGiven {
        /// The address wanted.
        address: IpAddr,
        /// First address of the range.
        first: IpAddr,
        /// Last address of the range.
        last: IpAddr,
        /// The gateway, which is taken.
        gateway: IpAddr,
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
    /// The addresses that `config` gives: its range within the subnet, without the
    /// network's own address, the IPv4 broadcast address and the gateway.
    #[must_use]
    pub fn new(config: &IpamConfig) -> Self {
        let lowest = to_number(config.subnet.network()) + 1;
        let end = to_number(config.subnet.broadcast());
        let highest = if config.subnet.addr().is_ipv4() { end - 1 } else { end };
        let first = config.range_start.map_or(lowest, |start| to_number(start).max(lowest));
        let last = config.range_end.map_or(highest, |end| to_number(end).min(highest));
        let gateway = config.gateway.unwrap_or_else(|| from_number(lowest, config.subnet));
        Self { subnet: config.subnet, first, last, gateway }
    }

    /// The next router of the containers.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Proposes an address.
    ///
    /// * `requested` — the address that the runtime wants, if any.
    /// * `last` — the address given last.
    /// * `taken` — the addresses that have a lease.
    ///
    /// # Errors
    ///
    /// [`PoolError`] if there is none.
    pub fn choose(
        &self,
        requested: Option<IpAddr>,
        last: Option<IpAddr>,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<IpAddr, PoolError> {
        match requested {
            Some(address) if !self.gives(address) => Err(self.not_given(address)),
            Some(address) if taken.contains(&address) => Err(PoolError::Taken { address }),
            Some(address) => Ok(address),
            None => self.next_free(last, taken),
        }
    }

    /// What ADD of the address plugin answers for `address`.
    #[must_use]
    pub fn result(&self, address: IpAddr, routes: &[Route]) -> CniResult {
        // The prefix length comes from a network of the same family.
        let prefix = self.subnet.prefix_len();
        let address = IpNet::new(address, prefix).unwrap_or_else(|_| IpNet::from(address));
        let ip = IpConfig { interface: None, address, gateway: Some(self.gateway) };
        CniResult { ips: vec![ip], routes: routes.to_vec(), ..CniResult::default() }
    }

    fn gives(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.subnet.addr().is_ipv4()
            && (self.first..=self.last).contains(&to_number(address))
            && address != self.gateway
    }

    fn not_given(&self, address: IpAddr) -> PoolError {
        let (first, last) = self.ends();
        PoolError::NotGiven { address, first, last, gateway: self.gateway }
    }

    fn next_free(
        &self,
        last: Option<IpAddr>,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<IpAddr, PoolError> {
        let after =
            last.filter(|last| self.gives(*last)).map_or(self.first, |last| to_number(last) + 1);
        let candidates = (after..=self.last).chain(self.first..after);
        candidates
            .map(|number| from_number(number, self.subnet))
            .find(|address| *address != self.gateway && !taken.contains(address))
            .ok_or_else(|| {
                let (first, last) = self.ends();
                PoolError::Exhausted { first, last, leases: taken.len() }
            })
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        (from_number(self.first, self.subnet), from_number(self.last, self.subnet))
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
}

impl LeaseRecord {
    /// The version that we write.
    pub const VERSION: u32 = 1;

    /// The lease of `key`.
    #[must_use]
    pub fn new(key: &AttachmentKey) -> Self {
        let AttachmentKey { container_id, ifname } = key.clone();
        Self { version: Self::VERSION, container_id, ifname }
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

    fn pool(subnet: &str, range: Option<(&str, &str)>, gateway: Option<&str>) -> Pool {
        Pool::new(&IpamConfig {
            subnet: subnet.parse().unwrap(),
            range_start: range.map(|(start, _)| start.parse().unwrap()),
            range_end: range.map(|(_, end)| end.parse().unwrap()),
            gateway: gateway.map(|text| text.parse().unwrap()),
            data_dir: "/tmp".into(),
            routes: vec![],
        })
    }

    #[test]
    fn the_next_free_address() {
        let range = Some(("9.0.5.2", "9.0.5.5"));
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
            ("IPv6 is huge",          pool("fd00::/8", None, None), None, "", Some("fd00::2")),
        ];
        for (name, pool, last, taken, want) in table {
            let taken = taken.split_whitespace().map(|text| text.parse().unwrap()).collect();
            let last = last.map(|text: &str| text.parse().unwrap());
            let got = pool.choose(None, last, &taken);
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
            ("10.0.0.1", Some(Code::InvalidEnvironment)),
            ("::9.0.5.77", Some(Code::InvalidEnvironment)),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let got = pool.choose(Some(address), None, &taken);
            assert_eq!(got.as_ref().err().map(PoolError::code), want, "{address}");
            assert_eq!(got.ok(), want.is_none().then_some(address));
        }
    }

    #[test]
    fn the_answer_has_prefix_and_gateway() {
        let pool = pool("9.0.5.0/25", None, None);
        let result = pool.result("9.0.5.2".parse().unwrap(), &[]);
        assert_eq!(result.ips[0].address.to_string(), "9.0.5.2/25");
        assert_eq!(result.ips[0].gateway, Some(pool.gateway()));
    }
}
