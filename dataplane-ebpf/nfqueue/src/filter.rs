//! Our tables in the kernel: made once, found again after a restart, removed.

mod elements;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::channel::Channel;
use crate::error::{OpenError, QueueError};
use crate::rules::{FLOWS, QueueBy, RulesSpec, VIPS, WATCHED};
use crate::shared::Classes;
use crate::table::{Family, read_comment, write_elements};
use crate::uapi::{message, nft};
use crate::wire::{Head, Messages, read_be16};
use crate::words::VipAddress;
use elements::elements;

pub(crate) use elements::forget;

/// Begins the comment of every rule of ours.
const MARK: &str = "mizzen-nfqueue";

/// Elements in one request: what they take fits the 16 bit length of an attribute.
const ELEMENTS: usize = 1_000;

/// Bytes of the key of a VIP of IPv6.
const LONGEST_KEY: usize = 24;

/// Bytes of the largest transaction: 100,000 VIPs.
const LARGEST_SEND: i32 = 8 << 20;

/// The tables of one engine, and the conversation about them.
#[derive(Debug)]
pub(crate) struct Filter {
    channel: Channel,
    spec: RulesSpec,
    families: Vec<Family>,
}

/// What there is under our tables' name in one family.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours { mark: String },
    Foreign,
}

impl Filter {
    /// Makes the tables, or takes over those of a former process. Says which VIPs are in them.
    pub fn open(mut spec: RulesSpec) -> Result<(Self, BTreeSet<VipAddress>), OpenError> {
        let channel = channel().map_err(OpenError::Socket)?;
        let mut filter = Self { channel, spec: spec.clone(), families: Vec::new() };
        let mut vips = BTreeSet::new();
        for family in Family::BOTH {
            match filter.ensure(family) {
                Ok(found) => vips.extend(found),
                // Linux can be started without IPv6.
                Err(OpenError::Rules { source, .. })
                    if family == Family::V6 && is_no_family(&source) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            }
            filter.families.push(family);
            spec.queue_by = filter.spec.queue_by;
        }
        Ok((filter, vips))
    }

    /// How packets get into the queues.
    pub fn queue_by(&self) -> QueueBy {
        self.spec.queue_by
    }

    fn ensure(&mut self, family: Family) -> Result<BTreeSet<VipAddress>, OpenError> {
        let table = self.spec.table.clone();
        let failed = |source| OpenError::Rules { table: table.clone(), source };
        let found = self.observe(family).map_err(failed)?;
        let present = match &found {
            Found::Foreign => return Err(OpenError::Foreign { table: table.clone() }),
            Found::Nothing => BTreeSet::new(),
            Found::Ours { .. } => self.elements(family).map_err(failed)?,
        };
        // Asked in this order: the target works wherever the expression does, and costs a module more.
        for queue_by in [QueueBy::Expression, QueueBy::Target] {
            self.spec.queue_by = queue_by;
            if (found == Found::Ours { mark: self.mark(family) }) {
                self.watch(&Classes::ALL.bytes()).map_err(failed)?;
                return Ok(present);
            }
        }
        for queue_by in [QueueBy::Expression, QueueBy::Target] {
            self.spec.queue_by = queue_by;
            match self.make(family, &found, &present) {
                Err(error) if queue_by == QueueBy::Expression && is_unknown(&error) => {}
                other => return other.map(|()| present).map_err(failed),
            }
        }
        Ok(present)
    }

    fn make(
        &mut self,
        family: Family,
        found: &Found,
        present: &BTreeSet<VipAddress>,
    ) -> io::Result<()> {
        let mark = self.mark(family);
        let keys: Vec<Vec<u8>> = present.iter().map(key).collect();
        let mut requests = Messages::default();
        if *found != Found::Nothing {
            remove_table(&mut requests, family, &self.spec.table);
        }
        self.spec.write(&mut requests, family, &mark, &Classes::ALL.bytes());
        self.write_keys(&mut requests, message::NEW_ELEMENT, family, &keys);
        commit(&mut self.channel, &requests)
    }

    /// Adds and removes VIPs, all or none of each family.
    pub fn change(&mut self, add: &[VipAddress], remove: &[VipAddress]) -> Result<(), QueueError> {
        for family in self.families.clone() {
            let of_family = |vip: &&VipAddress| Family::of(vip.socket.ip()) == family;
            let keys = |vips: &[VipAddress]| -> Vec<Vec<u8>> {
                vips.iter().filter(of_family).map(key).collect()
            };
            let mut requests = Messages::default();
            self.write_keys(&mut requests, message::NEW_ELEMENT, family, &keys(add));
            self.write_keys(&mut requests, message::DEL_ELEMENT, family, &keys(remove));
            if requests.is_empty() {
                continue;
            }
            let vip = add.iter().chain(remove).find(of_family).copied();
            commit(&mut self.channel, &requests).map_err(|source| QueueError::Set {
                vip,
                count: add.len() + remove.len(),
                source,
            })?;
        }
        Ok(())
    }

    /// Has the connections of these classes of client ports shown.
    pub fn watch(&mut self, classes: &[u8]) -> io::Result<()> {
        let all = Classes::ALL.bytes();
        let (on, off): (Vec<u8>, Vec<u8>) = all.iter().partition(|class| classes.contains(class));
        for family in self.families.clone() {
            let there = self.keys(family, WATCHED)?;
            let there = |class: &u8| there.iter().any(|key| key.first() == Some(class));
            let wanted = |keys: &[u8], present: bool| -> Vec<Vec<u8>> {
                keys.iter().filter(|class| there(class) == present).map(|c| vec![*c]).collect()
            };
            let mut requests = Messages::default();
            for (kind, keys) in [
                (message::NEW_ELEMENT, wanted(&on, false)),
                (message::DEL_ELEMENT, wanted(&off, true)),
            ] {
                write_set(&mut requests, (kind, family), (&self.spec.table, WATCHED), &keys);
            }
            if !requests.is_empty() {
                commit(&mut self.channel, &requests)?;
            }
        }
        Ok(())
    }

    fn write_keys(&self, requests: &mut Messages, kind: u16, family: Family, keys: &[Vec<u8>]) {
        write_set(requests, (kind, family), (&self.spec.table, VIPS), keys);
    }

    fn elements(&mut self, family: Family) -> io::Result<BTreeSet<VipAddress>> {
        let keys = self.keys(family, VIPS)?;
        Ok(keys.iter().filter_map(|key| read_key(family, key)).collect())
    }

    fn keys(&mut self, family: Family, set: &str) -> io::Result<Vec<Vec<u8>>> {
        let elements = elements(&mut self.channel, family, (&self.spec.table, set))?;
        Ok(elements.into_iter().map(|element| element.key).collect())
    }

    /// Removes elements of the set of flows, all or none.
    fn remove_flows(&mut self, family: Family, keys: &[Vec<u8>]) -> io::Result<()> {
        let mut requests = Messages::default();
        let set = (self.spec.table.as_str(), FLOWS);
        write_set(&mut requests, (message::DEL_ELEMENT, family), set, keys);
        commit(&mut self.channel, &requests)
    }

    fn observe(&mut self, family: Family) -> io::Result<Found> {
        observe(&mut self.channel, family, &self.spec.table)
    }

    /// What rules of this specification are marked with.
    fn mark(&self, family: Family) -> String {
        let mut requests = Messages::default();
        self.spec.write(&mut requests, family, "", &[]);
        let mut hasher = DefaultHasher::new();
        requests.bytes().hash(&mut hasher);
        format!("{MARK} {:016x}", hasher.finish())
    }
}

/// Whether there are tables of ours of this name.
pub(crate) fn exists(table: &str) -> Result<bool, OpenError> {
    let mut channel = channel().map_err(OpenError::Socket)?;
    let mut found = false;
    for family in Family::BOTH {
        match observe(&mut channel, family, table) {
            Ok(Found::Nothing) => {}
            Ok(Found::Ours { .. }) => found = true,
            Ok(Found::Foreign) => return Err(OpenError::Foreign { table: table.to_owned() }),
            // A kernel without nf_tables has no tables.
            Err(error) if is_no_subsystem(&error) => {}
            Err(source) => return Err(OpenError::Rules { table: table.to_owned(), source }),
        }
    }
    Ok(found)
}

/// Removes the tables of this name. Nothing there is fine.
pub(crate) fn remove(table: &str) -> Result<(), OpenError> {
    let mut channel = channel().map_err(OpenError::Socket)?;
    let failed = |source| OpenError::Rules { table: table.to_owned(), source };
    for family in Family::BOTH {
        if observe(&mut channel, family, table).map_err(failed)? == Found::Nothing {
            continue;
        }
        let mut requests = Messages::default();
        remove_table(&mut requests, family, table);
        commit(&mut channel, &requests).map_err(failed)?;
    }
    Ok(())
}

fn channel() -> io::Result<Channel> {
    let channel = Channel::open()?;
    channel.expect_requests(LARGEST_SEND)?;
    Ok(channel)
}

fn observe(channel: &mut Channel, family: Family, table: &str) -> io::Result<Found> {
    let mut request = Messages::default();
    request.message(dump(message::GET_RULE, family), |m| m.text(nft::RULE_TABLE, table));
    let mut found = Found::Nothing;
    let listed = channel.dump(request.bytes(), |message| {
        let attributes = message.attributes();
        let of = attributes.find(nft::RULE_TABLE).and_then(|name| name.strip_suffix(&[0]));
        // Old kernels list the rules of all tables.
        if of != Some(table.as_bytes()) {
            return;
        }
        let mark = read_comment(attributes.find(nft::RULE_USERDATA).unwrap_or_default());
        if !mark.starts_with(MARK) {
            found = Found::Foreign;
        } else if found == Found::Nothing {
            found = Found::Ours { mark: mark.to_owned() };
        }
    });
    match listed {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Found::Nothing),
        other => other.map(|()| found),
    }
}

/// Sends requests that the kernel carries out all or none.
fn commit(channel: &mut Channel, requests: &Messages) -> io::Result<()> {
    let mut batch = Messages::default();
    let border =
        |kind| Head { kind, flags: 0, sequence: 0, family: 0, resource: message::NFTABLES };
    batch.message(border(message::BATCH_BEGIN), |_| {});
    batch.append(requests);
    batch.message(border(message::BATCH_END), |_| {});
    channel.order(batch.bytes())
}

fn dump(kind: u16, family: Family) -> Head {
    let flags = libc::NLM_F_DUMP as u16;
    Head { kind, flags, sequence: 0, family: family.number(), resource: 0 }
}

fn remove_table(requests: &mut Messages, family: Family, table: &str) {
    let head = Head {
        kind: message::DEL_TABLE,
        flags: 0,
        sequence: 0,
        family: family.number(),
        resource: 0,
    };
    requests.message(head, |m| m.text(nft::TABLE_NAME, table));
}

fn write_set(
    requests: &mut Messages,
    (kind, family): (u16, Family),
    (table, set): (&str, &str),
    keys: &[Vec<u8>],
) {
    let flags = libc::NLM_F_CREATE as u16;
    let head = Head { kind, flags, sequence: 0, family: family.number(), resource: 0 };
    for keys in keys.chunks(ELEMENTS) {
        requests.message(head, |m| {
            write_elements(m, table, set, keys.iter().map(Vec::as_slice));
        });
    }
}

/// Transport, address and port, each in cells of its own.
fn key(vip: &VipAddress) -> Vec<u8> {
    let mut key = Vec::with_capacity(LONGEST_KEY);
    key.extend([vip.protocol, 0, 0, 0]);
    match vip.socket.ip() {
        IpAddr::V4(address) => key.extend(address.octets()),
        IpAddr::V6(address) => key.extend(address.octets()),
    }
    key.extend(vip.socket.port().to_be_bytes());
    key.extend([0, 0]);
    key
}

fn read_key(family: Family, key: &[u8]) -> Option<VipAddress> {
    let (protocol, rest) = key.split_first_chunk::<4>()?;
    let (address, port) = rest.split_at_checked(family.length() as usize)?;
    let address = match family {
        Family::V4 => <[u8; 4]>::try_from(address).ok()?.into(),
        Family::V6 => <[u8; 16]>::try_from(address).ok()?.into(),
    };
    let socket = SocketAddr::new(address, read_be16(port));
    Some(VipAddress { socket, protocol: protocol[0] })
}

fn is_no_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP))
}

fn is_no_subsystem(error: &io::Error) -> bool {
    is_no_family(error)
        || matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPROTONOSUPPORT))
}

/// Whether the kernel knows no such expression.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        for (family, text) in [(Family::V4, "11.0.0.1:80"), (Family::V6, "[fd01:c::1]:53")] {
            let vip = VipAddress { socket: text.parse().expect("an address"), protocol: 17 };
            assert_eq!(read_key(family, &key(&vip)), Some(vip));
        }
        assert_eq!(read_key(Family::V6, &[6, 0, 0, 0, 1]), None);
    }
}
