//! Which addresses a named VIP holds: one claim is for an IPv4 address and for the IPv6
//! address that follows from it.
//!
//! Several nodes may say a claim of one name, and those that did not hear of each other may
//! say different ones. Where a name is follows from all that is said, in whichever order it
//! was heard: names in their order get the address that most nodes say for them, among those
//! that no lower name has.

use ipnet::Ipv4Net;
use mizzen_types::ids::OwnerId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;
use std::sync::Arc;

/// Where the addresses of named VIPs come from, for example `11.0.0.0/8`. The
/// first and the last address of the network are left out.
pub type Range = Ipv4Net;

/// Names, the addresses that they hold, and who says so.
#[derive(Debug, Clone)]
pub struct Claims {
    range: Range,
    by_name: BTreeMap<Arc<str>, Held>,
    by_address: BTreeMap<Ipv4Addr, Arc<str>>,
    /// What nodes say of each name.
    said: BTreeMap<Arc<str>, BTreeMap<OwnerId, Ipv4Addr>>,
    /// The names that somebody says to be at an address.
    wishes: BTreeMap<Ipv4Addr, BTreeSet<Arc<str>>>,
}

/// A name whose address is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relocated {
    pub name: String,
    /// Where it was, if it had an address.
    pub before: Option<Ipv4Addr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    address: Ipv4Addr,
    ground: Ground,
}

/// Why a name holds its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// A node says so.
    Said,
    /// Nobody says anything: it gives way to whoever is said to be there.
    Assumed,
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
        Self {
            range,
            by_name: BTreeMap::new(),
            by_address: BTreeMap::new(),
            said: BTreeMap::new(),
            wishes: BTreeMap::new(),
        }
    }

    /// Takes in what a node says about a name now; `None` if it says nothing any more.
    /// Returns the names that thereby moved or have no address any more.
    pub(super) fn hear(
        &mut self,
        node: &OwnerId,
        name: &str,
        address: Option<Ipv4Addr>,
    ) -> Vec<Relocated> {
        let name: Arc<str> = match self.by_name.get_key_value(name) {
            Some((known, _)) => known.clone(),
            None => name.into(),
        };
        self.note(node, &name, address);
        // One voice more for where it is changes nothing.
        let here = address.map(|address| Held { address, ground: Ground::Said });
        if here.is_some() && self.by_name.get(&name) == here.as_ref() {
            return Vec::new();
        }
        let mut before = BTreeMap::new();
        let mut open = BTreeSet::from([name]);
        // Whoever is touched comes later in the order, so this ends.
        while let Some(name) = open.pop_first() {
            self.settle(&name, &mut open, &mut before);
        }
        let relocated =
            before.into_iter().filter(|(name, before)| self.address_of(name) != *before);
        relocated.map(|(name, before)| Relocated { name: name.to_string(), before }).collect()
    }

    /// What a node says about a name.
    pub(super) fn said_by(&self, node: &OwnerId, name: &str) -> Option<Ipv4Addr> {
        self.said.get(name)?.get(node).copied()
    }

    /// The address that a name holds.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        self.by_name.get(name).map(|held| held.address)
    }

    /// The name that holds an address, or the address that it is the twin of.
    #[must_use]
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        self.by_address.get(&claimed(address)?).map(AsRef::as_ref)
    }

    /// Claims an address for a name that holds none: its hash, or the next free one
    /// behind it; those that are `reserved` are not free. `None` if the range is used
    /// up. It holds as long as no node says anything else.
    pub fn claim(&mut self, name: &str, reserved: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let first = u32::from(self.range.network()).saturating_add(1);
        let last = u32::from(self.range.broadcast()).saturating_sub(1);
        let size = last.checked_sub(first)?.saturating_add(1);
        let start = u32::try_from(hash(name) % u64::from(size)).unwrap_or(0);
        let address = (0..size)
            .map(|step| first + ((u64::from(start) + u64::from(step)) % u64::from(size)) as u32)
            .map(Ipv4Addr::from)
            .find(|address| !self.by_address.contains_key(address) && !reserved(*address))?;
        let name: Arc<str> = name.into();
        self.by_address.insert(address, name.clone());
        self.by_name.insert(name, Held { address, ground: Ground::Assumed });
        Some(address)
    }

    /// Keeps in mind what a node says.
    fn note(&mut self, node: &OwnerId, name: &Arc<str>, address: Option<Ipv4Addr>) {
        let nodes = self.said.entry(name.clone()).or_default();
        let former = match address {
            Some(address) => nodes.insert(node.clone(), address),
            None => nodes.remove(node),
        };
        let is_still_said = |former: &Ipv4Addr| nodes.values().any(|address| address == former);
        if let Some(former) = former.filter(|former| !is_still_said(former))
            && let Some(names) = self.wishes.get_mut(&former)
        {
            names.remove(name);
            if names.is_empty() {
                self.wishes.remove(&former);
            }
        }
        if nodes.is_empty() {
            self.said.remove(name);
        }
        if let Some(address) = address {
            self.wishes.entry(address).or_default().insert(name.clone());
        }
    }

    /// Brings one name to where it belongs, while all lower ones are where they belong.
    ///
    /// * `open` — gets the names that have to be looked at again.
    /// * `before` — gets where names were that are touched.
    fn settle(
        &mut self,
        name: &Arc<str>,
        open: &mut BTreeSet<Arc<str>>,
        before: &mut BTreeMap<Arc<str>, Option<Ipv4Addr>>,
    ) {
        let former = self.by_name.get(name).copied();
        let Some(address) = self.choice(name) else {
            // What it had it keeps, unless somebody else is said to be there.
            if let Some(former) = former {
                self.by_name.insert(name.clone(), Held { ground: Ground::Assumed, ..former });
                open.extend(self.wishes_behind(former.address, name));
            }
            return;
        };
        let held = Held { address, ground: Ground::Said };
        if former == Some(held) {
            return;
        }
        before.entry(name.clone()).or_insert(former.map(|former| former.address));
        if let Some(former) = former {
            self.by_address.remove(&former.address);
            open.extend(self.wishes_behind(former.address, name));
        }
        if let Some(loser) = self.by_address.insert(address, name.clone()) {
            self.by_name.remove(&loser);
            before.entry(loser.clone()).or_insert(Some(address));
            open.extend((loser > *name).then_some(loser));
        }
        self.by_name.insert(name.clone(), held);
    }

    /// The address that most nodes say, of those that no lower name has. Of as many voices
    /// the higher address is heard: free ones are looked for upwards, so who says it knew
    /// of more.
    fn choice(&self, name: &Arc<str>) -> Option<Ipv4Addr> {
        let mut voices: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        for address in self.said.get(name)?.values() {
            *voices.entry(*address).or_default() += 1;
        }
        let is_taken = |address: &Ipv4Addr| {
            let holder = self.by_address.get(address).filter(|holder| *holder < name);
            let held = holder.and_then(|holder| self.by_name.get(holder));
            held.is_some_and(|held| held.ground == Ground::Said)
        };
        let free = voices.into_iter().filter(|(address, _)| !is_taken(address));
        free.max_by_key(|(address, count)| (*count, *address)).map(|(address, _)| address)
    }

    /// The names that are said to be at an address and come after that one.
    fn wishes_behind(&self, address: Ipv4Addr, name: &Arc<str>) -> Vec<Arc<str>> {
        let behind = (Bound::Excluded(name.clone()), Bound::Unbounded);
        let names = self.wishes.get(&address);
        names.into_iter().flat_map(|names| names.range(behind.clone())).cloned().collect()
    }
}

/// FNV-1a, 64 bits: the same on every node and in every version.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
