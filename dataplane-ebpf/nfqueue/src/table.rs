//! Requests that make a table of nf_tables, and the words for what is in one.

use std::net::IpAddr;

use crate::expression::{Field, Rule};
use crate::uapi::{message, nft};
use crate::wire::{Head, Messages};

/// An address family and what differs in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub fn number(self) -> u8 {
        match self {
            Self::V4 => libc::NFPROTO_IPV4 as u8,
            Self::V6 => libc::NFPROTO_IPV6 as u8,
        }
    }

    /// Bytes of an address.
    pub fn length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Cells of an address.
    pub fn cells(self) -> u32 {
        self.length() / 4
    }

    pub fn source(self) -> Field {
        let offset = if self == Self::V4 { 12 } else { 8 };
        Field { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length: self.length() }
    }

    pub fn destination(self) -> Field {
        let offset = if self == Self::V4 { 16 } else { 24 };
        Field { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length: self.length() }
    }

    /// Type of an address in the nft tool.
    pub fn address_type(self) -> u32 {
        if self == Self::V4 { 7 } else { 8 }
    }

    /// Code of the ICMP error.
    pub fn port_unreachable(self) -> u8 {
        if self == Self::V4 { 3 } else { 4 }
    }
}

/// A chain of rules at a hook.
pub(crate) struct Chain {
    pub name: &'static str,
    pub hook: libc::c_int,
    pub priority: i32,
    pub kind: &'static str,
}

/// A set of keys.
pub(crate) struct SetSpec {
    pub name: &'static str,
    /// Unlike that of any other set of the table.
    pub id: u32,
    /// Bytes of a key.
    pub key: u32,
    /// For people who list the set with the nft tool.
    pub types: u32,
    /// The most keys that there may be. The kernel makes the whole table at once, where a growing one is slow.
    pub room: Option<u32>,
    /// Who puts keys in.
    pub filled: Filled,
}

/// Types of the nft tool, and how it combines them.
pub(crate) const TYPE_INTEGER: u32 = 4;
pub(crate) const TYPE_PROTOCOL: u32 = 12;
pub(crate) const TYPE_PORT: u32 = 13;
pub(crate) const TYPE_BITS: u32 = 6;

/// Who puts keys into a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// We do.
    ByRequests,
    /// Packets do, and the keys go by themselves.
    ByPackets,
}

/// Requests for one table.
pub(crate) struct Table<'a> {
    pub requests: &'a mut Messages,
    pub family: Family,
    pub name: &'a str,
    /// Comment of every rule.
    pub mark: &'a str,
}

impl Table<'_> {
    fn add(&mut self, kind: u16, flags: libc::c_int, body: impl FnOnce(&mut Messages)) {
        let flags = (libc::NLM_F_CREATE | flags) as u16;
        let head = Head { kind, flags, sequence: 0, family: self.family.number(), resource: 0 };
        self.requests.message(head, body);
    }

    /// Makes the table itself.
    pub fn create(&mut self) {
        let name = self.name;
        self.add(message::NEW_TABLE, 0, |m| m.text(nft::TABLE_NAME, name));
    }

    pub fn set(&mut self, set: &SetSpec) {
        let name = self.name;
        self.add(message::NEW_SET, 0, |m| {
            m.text(nft::SET_TABLE, name);
            m.text(nft::SET_NAME, set.name);
            m.be32(nft::SET_KEY_TYPE, set.types);
            m.be32(nft::SET_KEY_LEN, set.key);
            m.be32(nft::SET_ID, set.id);
            if set.filled == Filled::ByPackets {
                m.be32(nft::SET_FLAGS, nft::SET_TIMEOUT | nft::SET_EVAL);
            }
            if let Some(size) = set.room {
                m.nest(nft::SET_DESC, |m| m.be32(nft::DESC_SIZE, size));
            }
        });
    }

    pub fn elements<'a>(&mut self, set: &str, keys: impl Iterator<Item = &'a [u8]>) {
        let name = self.name;
        self.add(message::NEW_ELEMENT, 0, |m| write_elements(m, name, set, keys));
    }

    pub fn chain(&mut self, chain: &Chain) {
        let name = self.name;
        self.add(message::NEW_CHAIN, 0, |m| {
            m.text(nft::CHAIN_TABLE, name);
            m.text(nft::CHAIN_NAME, chain.name);
            m.nest(nft::CHAIN_HOOK, |m| {
                m.be32(nft::HOOK_HOOKNUM, chain.hook as u32);
                m.be32(nft::HOOK_PRIORITY, chain.priority as u32);
            });
            m.text(nft::CHAIN_TYPE, chain.kind);
        });
    }

    pub fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Rule<'_>)) {
        let (name, comment) = (self.name, comment(self.mark));
        self.add(message::NEW_RULE, libc::NLM_F_APPEND, |m| {
            m.text(nft::RULE_TABLE, name);
            m.text(nft::RULE_CHAIN, chain);
            m.nest(nft::RULE_EXPRESSIONS, |m| write(&mut Rule(m)));
            m.attribute(nft::RULE_USERDATA, &comment);
        });
    }
}

/// As the nft tool stores comments: type 0, length, text, zero byte.
fn comment(mark: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(mark.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(mark.as_bytes());
    bytes.push(0);
    bytes
}

/// Reads what [`comment`] wrote.
pub(crate) fn read_comment(userdata: &[u8]) -> &str {
    let text = userdata.get(2..).unwrap_or_default();
    std::str::from_utf8(text.strip_suffix(&[0]).unwrap_or(text)).unwrap_or_default()
}

/// Writes the attributes of a request about elements of a set.
pub(crate) fn write_elements<'a>(
    m: &mut Messages,
    table: &str,
    set: &str,
    keys: impl Iterator<Item = &'a [u8]>,
) {
    m.text(nft::ELEM_LIST_TABLE, table);
    m.text(nft::ELEM_LIST_SET, set);
    m.nest(nft::ELEM_LIST_ELEMENTS, |m| {
        for key in keys {
            m.nest(nft::LIST_ELEM, |m| {
                m.nest(nft::ELEM_KEY, |m| m.attribute(nft::DATA_VALUE, key));
            });
        }
    });
}

/// The bytes of an address, in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
