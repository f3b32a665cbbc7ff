//! What one owner says, as everybody holds it: a set of entries under a signed head.
//!
//! The head names the owner, its generation and sequence, and the hash of all entries.
//! Whoever holds the head can tell whether a set is complete and untouched, wherever it
//! came from and in whatever pieces: a log that lacks an entry, has one too many or an
//! old one has another hash. So one signature covers all entries, a removed entry leaves
//! nothing behind, and an old log is known by its head.

use super::MAX_FACT;
use super::ranges::Ranges;
use crate::coding::{Garbage, Reader, Writer};
use crate::identity::MAX_GENERATION;
use mizzen_types::fact::Version;
use mizzen_types::ids::{MAX_ID_BYTES, OwnerId};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) type Hash = [u8; 32];

/// Said with every signature, so that it cannot stand for anything else.
const CONTEXT: &[u8] = b"mizzen owner log 1";
/// Longest signature or credential, in bytes.
const MAX_CREDENTIAL: usize = 8192;

/// One entry.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Key and fact, see `wire`.
    pub(super) bytes: Arc<[u8]>,
    hash: Hash,
}

impl Item {
    pub(super) fn new(sequence: u64, bytes: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(sequence.to_le_bytes()).chain_update(bytes);
        Self { bytes: bytes.into(), hash: hash.finalize().into() }
    }
}

/// Entries by sequence.
pub(super) type Items = BTreeMap<u64, Item>;

/// What an owner signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) owner: OwnerId,
    pub(super) version: Version,
    pub(super) root: Hash,
    pub(super) signature: Vec<u8>,
}

/// Where a head stands among those of its owner. Two of one version are the fault of the
/// owner; that all keep the same of them is all that can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Stand {
    pub(super) version: Version,
    pub(super) mark: u64,
}

/// The complete set of one owner.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) head: Head,
    /// By which the signature is checked; opaque here.
    pub(super) credential: Arc<[u8]>,
    pub(super) items: Items,
}

impl Head {
    pub(super) fn stand(&self) -> Stand {
        let mut mark = [0; 8];
        mark.copy_from_slice(&self.root[..8]);
        Stand { version: self.version, mark: u64::from_le_bytes(mark) }
    }

    /// What is signed.
    pub(super) fn message(owner: &OwnerId, version: Version, root: &Hash) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.raw(CONTEXT).blob(owner.as_str().as_bytes());
        writer.number(version.generation).number(version.sequence).raw(root);
        writer.finish()
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.blob(self.owner.as_str().as_bytes());
        writer.number(self.version.generation).number(self.version.sequence);
        writer.raw(&self.root).blob(&self.signature);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Garbage> {
        let owner = OwnerId::new(reader.text("owner", MAX_ID_BYTES)?);
        if owner.as_str().is_empty() {
            return Err(Garbage::Malformed("owner"));
        }
        let version = read_version(reader)?;
        let root = reader.array()?;
        let signature = reader.blob()?;
        if signature.len() > MAX_CREDENTIAL {
            return Err(Garbage::Malformed("signature"));
        }
        Ok(Self { owner, version, root, signature: signature.to_vec() })
    }
}

impl Stand {
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.number(self.version.generation).number(self.version.sequence).hash(self.mark);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Garbage> {
        Ok(Self { version: read_version(reader)?, mark: reader.hash()? })
    }
}

/// Versions that leave no room for a next one are refused.
pub(super) fn read_version(reader: &mut Reader<'_>) -> Result<Version, Garbage> {
    let (generation, sequence) = (reader.number()?, reader.number()?);
    if generation >= MAX_GENERATION || sequence >= MAX_GENERATION {
        return Err(Garbage::Malformed("version"));
    }
    Ok(Version { generation, sequence })
}

pub(super) fn read_credential(reader: &mut Reader<'_>) -> Result<Arc<[u8]>, Garbage> {
    let credential = reader.blob()?;
    if credential.len() > MAX_CREDENTIAL {
        return Err(Garbage::Malformed("credential"));
    }
    Ok(credential.into())
}

pub(super) fn write_items<'a>(
    items: impl ExactSizeIterator<Item = (&'a u64, &'a Item)>,
    writer: &mut Writer,
) {
    writer.length(items.len());
    for (sequence, item) in items {
        writer.number(*sequence).blob(&item.bytes);
    }
}

pub(super) fn read_items(reader: &mut Reader<'_>) -> Result<Items, Garbage> {
    let mut items = Items::new();
    for _ in 0..reader.count(2)? {
        let (sequence, bytes) = (reader.number()?, reader.blob()?);
        if bytes.len() > MAX_FACT {
            return Err(Garbage::Malformed("entry"));
        }
        items.insert(sequence, Item::new(sequence, bytes));
    }
    Ok(items)
}

/// The hash of a set's entries.
pub(super) fn root<'a>(items: impl Iterator<Item = &'a Item>) -> Hash {
    let mut hash = Sha256::new();
    for item in items {
        hash.update(item.hash);
    }
    hash.finalize().into()
}

/// The sequences of entries.
pub(super) fn sequences(items: &Items) -> Ranges {
    Ranges::from_sorted(items.keys().copied())
}
