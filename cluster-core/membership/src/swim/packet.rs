//! Datagrams of the membership protocol: how foca's messages are written.

use crate::coding::{Garbage, Reader, Writer};
use crate::identity::Identity;
use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, State};

/// First byte of a datagram. A reader accepts the previous format as well, once there
/// is one.
pub(super) const FORMAT: u8 = 1;
/// A datagram is at most this long, with its format byte: it fits into every path that
/// carries 1500 bytes, with the seal and the headers around it.
pub const MAX_DATAGRAM: usize = 1400;

/// A datagram taken apart.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) header: Header<Identity>,
    pub(super) updates: Vec<Member<Identity>>,
}

impl Packet {
    /// Reads what follows the format byte.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Garbage> {
        let mut reader = Reader::new(bytes);
        let header = read_header(&mut reader)?;
        let mut updates = Vec::new();
        if !reader.is_empty() {
            let count = u16::from_be_bytes(reader.array()?);
            for _ in 0..count {
                updates.push(read_member(&mut reader)?);
            }
        }
        reader.end()?;
        Ok(Self { header, updates })
    }

    /// Writes it, format byte first.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.byte(FORMAT);
        write_header(&self.header, &mut writer);
        if !self.updates.is_empty() {
            let count = u16::try_from(self.updates.len()).unwrap_or(u16::MAX);
            writer.raw(&count.to_be_bytes());
            for member in self.updates.iter().take(usize::from(count)) {
                write_member(member, &mut writer);
            }
        }
        writer.finish()
    }
}

/// No room is left in a datagram, or what came is garbage.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error("a datagram has no room for it")]
    Full,
    #[error("a datagram cannot be read")]
    Garbage(#[from] Garbage),
}

/// foca's codec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire;

impl Codec<Identity> for Wire {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        put(buf, |writer| write_header(header, writer))
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        take(buf, read_header)
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        put(buf, |writer| write_member(member, writer))
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        take(buf, read_member)
    }
}

fn put(mut buf: impl BufMut, write: impl FnOnce(&mut Writer)) -> Result<(), CodecError> {
    let mut writer = Writer::default();
    write(&mut writer);
    if buf.remaining_mut() < writer.written() {
        return Err(CodecError::Full);
    }
    buf.put_slice(&writer.finish());
    Ok(())
}

fn take<T>(
    mut buf: impl Buf,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Garbage>,
) -> Result<T, CodecError> {
    let mut reader = Reader::new(buf.chunk());
    let value = read(&mut reader)?;
    let taken = buf.chunk().len() - reader.rest().len();
    buf.advance(taken);
    Ok(value)
}

fn write_header(header: &Header<Identity>, writer: &mut Writer) {
    header.src.write(writer);
    writer.number(u64::from(header.src_incarnation));
    header.dst.write(writer);
    let (kind, about, probe) = match &header.message {
        Message::Ping(probe) => (0, None, Some(probe)),
        Message::Ack(probe) => (1, None, Some(probe)),
        Message::PingReq { target, probe_number } => (2, Some(target), Some(probe_number)),
        Message::IndirectPing { origin, probe_number } => (3, Some(origin), Some(probe_number)),
        Message::IndirectAck { target, probe_number } => (4, Some(target), Some(probe_number)),
        Message::ForwardedAck { origin, probe_number } => (5, Some(origin), Some(probe_number)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::Broadcast => (9, None, None),
        Message::TurnUndead => (10, None, None),
    };
    writer.byte(kind);
    if let Some(about) = about {
        about.write(writer);
    }
    if let Some(probe) = probe {
        writer.byte(*probe);
    }
}

fn read_header(reader: &mut Reader<'_>) -> Result<Header<Identity>, Garbage> {
    let src = Identity::read(reader)?;
    let src_incarnation = read_incarnation(reader)?;
    let dst = Identity::read(reader)?;
    let message = match reader.byte()? {
        0 => Message::Ping(reader.byte()?),
        1 => Message::Ack(reader.byte()?),
        kind @ 2..=5 => {
            let about = Identity::read(reader)?;
            let probe_number = reader.byte()?;
            match kind {
                2 => Message::PingReq { target: about, probe_number },
                3 => Message::IndirectPing { origin: about, probe_number },
                4 => Message::IndirectAck { target: about, probe_number },
                _ => Message::ForwardedAck { origin: about, probe_number },
            }
        }
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        10 => Message::TurnUndead,
        _ => return Err(Garbage::Unknown("kind of datagram")),
    };
    Ok(Header { src, src_incarnation, dst, message })
}

pub(super) fn write_member(member: &Member<Identity>, writer: &mut Writer) {
    member.id().write(writer);
    writer.number(u64::from(member.incarnation()));
    writer.byte(match member.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
}

pub(super) fn read_member(reader: &mut Reader<'_>) -> Result<Member<Identity>, Garbage> {
    let id = Identity::read(reader)?;
    if id.is_anyone() {
        return Err(Garbage::Malformed("node"));
    }
    let incarnation = read_incarnation(reader)?;
    let state = match reader.byte()? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(Garbage::Unknown("state of a member")),
    };
    Ok(Member::new(id, incarnation, state))
}

fn read_incarnation(reader: &mut Reader<'_>) -> Result<u16, Garbage> {
    u16::try_from(reader.number()?).map_err(|_| Garbage::Malformed("incarnation"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn identity(name: &str) -> Identity {
        Identity::new(name.into(), SocketAddr::from(([10, 0, 0, 1], 1)), 5)
    }

    #[test]
    fn every_message_comes_back() {
        let other = identity("n3");
        for message in [
            Message::Ping(7),
            Message::Ack(7),
            Message::PingReq { target: other.clone(), probe_number: 9 },
            Message::IndirectPing { origin: other.clone(), probe_number: 9 },
            Message::IndirectAck { target: other.clone(), probe_number: 9 },
            Message::ForwardedAck { origin: other.clone(), probe_number: 9 },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::TurnUndead,
        ] {
            let (src, dst) = (identity("n1"), identity("n2"));
            let header = Header { src, src_incarnation: 300, dst, message };
            let updates = vec![Member::new(other.clone(), 4, State::Suspect)];
            let bytes = Packet { header: header.clone(), updates: updates.clone() }.write();
            let read = Packet::read(&bytes[1..]).unwrap();
            assert_eq!((read.header, read.updates), (header, updates));
        }
    }

    #[test]
    fn a_ping_between_nodes_named_by_uuids_is_small() {
        let uuid = "6e1f0b8a-3a52-4a8e-9a10-0123456789ab";
        let (src, dst) = (identity(uuid), identity(uuid));
        let header = Header { src, src_incarnation: 0, dst, message: Message::Ping(1) };
        assert_eq!(Packet { header, updates: Vec::new() }.write().len(), 54);
    }
}
