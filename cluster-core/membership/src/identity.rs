//! Who a member of the cluster is: a node, where it listens, and which of its lives.

use crate::coding::{Garbage, Reader, Writer};
use mizzen_types::ids::{MAX_ID_BYTES, OwnerId};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Generations are below this, so that there is always one more. Larger ones are
/// refused where they come in.
pub const MAX_GENERATION: u64 = 1 << 62;

const LEAVING: u8 = 1;
const IPV6: u8 = 2;
const UUID: u8 = 4;

/// One life of a node.
///
/// A node that starts again has a larger generation and replaces its former self,
/// wherever it listens now; one that was called dead while it lives takes the next
/// `rejoins` of the same generation. Of two identities of one node, everybody keeps
/// the later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub(crate) tag: u64,
    pub(crate) node: Arc<OwnerId>,
    /// Where its datagrams go.
    pub address: SocketAddr,
    /// Grows with each start of the node.
    pub generation: u64,
    /// How often this life was called dead and came back.
    pub rejoins: u32,
    /// Says goodbye: being down is what it wants.
    pub leaving: bool,
}

impl Identity {
    /// A life of `node` that nobody doubted yet.
    #[must_use]
    pub fn new(node: OwnerId, address: SocketAddr, generation: u64) -> Self {
        let tag = tag_of(&node);
        let generation = generation.min(MAX_GENERATION - 1);
        Self { tag, node: Arc::new(node), address, generation, rejoins: 0, leaving: false }
    }

    /// Whoever listens at `address`: good for a first message, before its name is known.
    #[must_use]
    pub(crate) fn anyone(address: SocketAddr) -> Self {
        Self::new(OwnerId::new(""), address, 0)
    }

    pub(crate) fn is_anyone(&self) -> bool {
        self.node.as_str().is_empty()
    }

    /// Which node it is.
    #[must_use]
    pub fn node(&self) -> &OwnerId {
        &self.node
    }

    /// The node's name as a number, see [`tag_of`].
    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// Whether this is a later life of a node than `other`. Two lives of one generation
    /// are two processes under one name; which of them counts is arbitrary, and the same
    /// everywhere.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        self.order() > other.order()
    }

    /// This life of this node as a number.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        for number in [self.tag, self.generation, u64::from(self.rejoins)] {
            hasher.write_u64(number);
        }
        hasher.finish()
    }

    fn order(&self) -> (u64, u32, bool, SocketAddr) {
        (self.generation, self.rejoins, self.leaving, self.address)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let name = self.node.as_str();
        let uuid = packed_uuid(name);
        let mut flags = 0;
        for (flag, set) in
            [(LEAVING, self.leaving), (IPV6, self.address.is_ipv6()), (UUID, uuid.is_some())]
        {
            flags |= if set { flag } else { 0 };
        }
        writer.byte(flags).number(self.generation).number(u64::from(self.rejoins));
        match self.address.ip() {
            IpAddr::V4(ip) => writer.raw(&ip.octets()),
            IpAddr::V6(ip) => writer.raw(&ip.octets()),
        };
        writer.raw(&self.address.port().to_be_bytes());
        match uuid {
            Some(uuid) => writer.raw(&uuid),
            None => writer.blob(name.as_bytes()),
        };
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Garbage> {
        let flags = reader.byte()?;
        if flags & !(LEAVING | IPV6 | UUID) != 0 {
            return Err(Garbage::Unknown("kind of identity"));
        }
        let generation = reader.number()?;
        if generation >= MAX_GENERATION {
            return Err(Garbage::Malformed("generation"));
        }
        let rejoins = u32::try_from(reader.number()?).map_err(|_| Garbage::Malformed("life"))?;
        let ip = match flags & IPV6 {
            0 => IpAddr::from(reader.array::<4>()?),
            _ => IpAddr::from(reader.array::<16>()?),
        };
        let address = SocketAddr::new(ip, u16::from_be_bytes(reader.array()?));
        let node = match flags & UUID {
            0 => OwnerId::new(reader.text("node", MAX_ID_BYTES)?),
            _ => OwnerId::new(unpacked_uuid(&reader.array()?)),
        };
        let leaving = flags & LEAVING != 0;
        Ok(Self { rejoins, leaving, ..Self::new(node, address, generation) })
    }
}

impl foca::Identity for Identity {
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        let rejoins = self.rejoins.checked_add(1)?;
        (!self.leaving).then(|| Self { rejoins, ..self.clone() })
    }

    fn addr(&self) -> u64 {
        self.tag
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.is_later_than(adversary)
    }
}

/// An owner's name as a number: what digests and lists of members compare.
///
/// The hash has no secret. Whoever made two names of one tag would get one place in the
/// cluster for both, which is to their own disadvantage; to hit a name that exists takes
/// 2⁶⁴ attempts, each of which needs a certificate.
#[must_use]
pub(crate) fn tag_of(owner: &OwnerId) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(owner.as_str().as_bytes());
    hasher.finish()
}

/// The node that writes the log of `owner`: a node may have several logs, named
/// `<node>/<what>`.
#[must_use]
pub fn node_of(owner: &OwnerId) -> OwnerId {
    match owner.as_str().split_once('/') {
        Some((node, _)) => OwnerId::new(node),
        None => owner.clone(),
    }
}

/// The bytes of a UUID in its usual form, lower case; anything else stays text.
pub(crate) fn packed_uuid(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    (unpacked_uuid(&bytes) == text).then_some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

pub(crate) fn unpacked_uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Identity as _;

    fn life(generation: u64, rejoins: u32) -> Identity {
        let address = SocketAddr::from(([10, 0, 0, 1], 62501));
        Identity { rejoins, ..Identity::new("n1".into(), address, generation) }
    }

    #[test]
    fn identities_come_back() {
        let six: SocketAddr = "[fd00::1]:62501".parse().unwrap();
        let uuid = "6e1f0b8a-3a52-4a8e-9a10-0123456789ab";
        let leaving = Identity { leaving: true, ..Identity::new(uuid.into(), six, 7) };
        let upper = Identity::new(uuid.to_uppercase().into(), six, 7);
        for identity in [life(3, 9), leaving, upper] {
            let mut writer = Writer::default();
            identity.write(&mut writer);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            assert_eq!(Identity::read(&mut reader), Ok(identity));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn the_later_life_counts() {
        assert!(life(2, 0).win_addr_conflict(&life(1, 9)), "a restart");
        assert!(life(1, 1).win_addr_conflict(&life(1, 0)), "a return");
        assert!(!life(1, 0).win_addr_conflict(&life(1, 0)));
        assert_eq!(life(1, 0).renew(), Some(life(1, 1)));
        assert_eq!(Identity { leaving: true, ..life(1, 0) }.renew(), None);
    }

    #[test]
    fn a_generation_without_a_next_one_is_refused() {
        let mut writer = Writer::default();
        writer.byte(0).number(MAX_GENERATION).number(0).raw(&[0; 6]).blob(b"n1");
        let bytes = writer.finish();
        let read = Identity::read(&mut Reader::new(&bytes));
        assert_eq!(read, Err(Garbage::Malformed("generation")));
    }

    #[test]
    fn logs_belong_to_nodes() {
        assert_eq!(node_of(&"n1/master".into()), "n1".into());
        assert_eq!(node_of(&"n1".into()), "n1".into());
    }
}
