//! What nodes say to each other about logs.

use super::ranges::Ranges;
use super::set::{Head, Items, Stand, read_credential, read_items, read_version, write_items};
use crate::coding::{Garbage, Reader, Writer};
use mizzen_types::fact::Version;
use std::sync::Arc;

/// First byte of a message. A reader accepts the previous format as well, once there is
/// one.
const FORMAT: u8 = 1;
/// Owners are compared in so many groups.
pub(super) const BUCKETS: usize = 256;

/// One message.
#[derive(Debug)]
pub(super) enum Message {
    /// The sender counts the receiver among its neighbours.
    Greet,
    /// The sender has neighbours enough.
    Full,
    /// News.
    Push(Vec<Delta>),
    /// Hashes of everything that the sender holds, and of the members that it knows.
    Compare(u64, u64),
    /// That hash differed: the hash of each group.
    Buckets(Vec<u64>),
    /// Those differed: where the sender stands with all owners in these groups.
    Stands(Vec<u8>, Vec<(u64, Stand)>),
    /// Where the sender stands with some owners, mostly because there was news of them.
    Recent(Vec<(u64, Stand)>),
    /// Ask for what the sender lacks of some owners.
    Want(Vec<Want>),
    /// As much of that as fits.
    Give(Vec<Part>),
    /// The sender knows nothing yet.
    Join,
    /// All members, opaque here.
    Members(Vec<u8>),
}

/// How a set became another one.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) head: Head,
    /// What it became that from; zero if the entries are all there are.
    pub(super) base: Version,
    pub(super) dropped: Ranges,
    pub(super) items: Items,
}

/// Ask for the set of one owner.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) tag: u64,
    /// Entries of this generation are there already.
    pub(super) generation: u64,
    pub(super) have: Ranges,
}

/// A set, or a piece of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) head: Head,
    pub(super) credential: Arc<[u8]>,
    /// Of all entries of the set.
    pub(super) sequences: Ranges,
    pub(super) items: Items,
}

impl Message {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.byte(FORMAT);
        let w = &mut writer;
        match self {
            Self::Greet => {
                w.byte(0);
            }
            Self::Full => {
                w.byte(10);
            }
            Self::Push(deltas) => write_all(w.byte(1), deltas, Delta::write),
            Self::Compare(all, members) => {
                w.byte(2).hash(*all).hash(*members);
            }
            Self::Buckets(hashes) => write_all(w.byte(3), hashes, |hash, w| {
                w.hash(*hash);
            }),
            Self::Stands(buckets, stands) => write_stands(w.byte(4).blob(buckets), stands),
            Self::Recent(stands) => write_stands(w.byte(5), stands),
            Self::Want(wants) => write_all(w.byte(6), wants, |want, w| {
                want.have.write(w.hash(want.tag).number(want.generation));
            }),
            Self::Give(parts) => write_all(w.byte(7), parts, Part::write),
            Self::Join => {
                w.byte(8);
            }
            Self::Members(members) => {
                w.byte(9).blob(members);
            }
        }
        writer.finish()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, Garbage> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != FORMAT {
            return Err(Garbage::Unknown("format"));
        }
        let r = &mut reader;
        let message = match r.byte()? {
            0 => Self::Greet,
            1 => Self::Push(read_all(r, 40, Delta::read)?),
            2 => Self::Compare(r.hash()?, r.hash()?),
            3 => match read_all(r, 8, read_hash)? {
                hashes if hashes.len() == BUCKETS => Self::Buckets(hashes),
                _ => return Err(Garbage::Malformed("digest")),
            },
            4 => Self::Stands(r.blob()?.to_vec(), read_stands(r)?),
            5 => Self::Recent(read_stands(r)?),
            6 => Self::Want(read_all(r, 10, |r| {
                let (tag, generation) = (r.hash()?, r.number()?);
                Ok(Want { tag, generation, have: Ranges::read(r)? })
            })?),
            7 => Self::Give(read_all(r, 40, Part::read)?),
            8 => Self::Join,
            10 => Self::Full,
            9 => Self::Members(r.blob()?.to_vec()),
            _ => return Err(Garbage::Unknown("kind of message")),
        };
        reader.end()?;
        Ok(message)
    }
}

impl Delta {
    fn write(&self, writer: &mut Writer) {
        self.head.write(writer);
        writer.number(self.base.generation).number(self.base.sequence);
        self.dropped.write(writer);
        write_items(self.items.iter(), writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Garbage> {
        let (head, base) = (Head::read(reader)?, read_version(reader)?);
        Ok(Self { head, base, dropped: Ranges::read(reader)?, items: read_items(reader)? })
    }
}

impl Part {
    fn write(&self, writer: &mut Writer) {
        self.head.write(writer);
        writer.blob(&self.credential);
        self.sequences.write(writer);
        write_items(self.items.iter(), writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Garbage> {
        let (head, credential) = (Head::read(reader)?, read_credential(reader)?);
        let sequences = Ranges::read(reader)?;
        Ok(Self { head, credential, sequences, items: read_items(reader)? })
    }
}

fn read_hash(reader: &mut Reader<'_>) -> Result<u64, Garbage> {
    reader.hash()
}

fn write_stands(writer: &mut Writer, stands: &[(u64, Stand)]) {
    write_all(writer, stands, |(tag, stand), writer| stand.write(writer.hash(*tag)));
}

fn read_stands(reader: &mut Reader<'_>) -> Result<Vec<(u64, Stand)>, Garbage> {
    read_all(reader, 18, |reader| Ok((reader.hash()?, Stand::read(reader)?)))
}

fn write_all<T>(writer: &mut Writer, things: &[T], write: impl Fn(&T, &mut Writer)) {
    writer.length(things.len());
    things.iter().for_each(|thing| write(thing, writer));
}

fn read_all<T>(
    reader: &mut Reader<'_>,
    least: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Garbage>,
) -> Result<Vec<T>, Garbage> {
    (0..reader.count(least)?).map(|_| read(reader)).collect()
}
