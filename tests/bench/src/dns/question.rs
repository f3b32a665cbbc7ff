//! Questions and answers as bytes.

use anyhow::{Result, bail};

const HEADER: usize = 12;
const SRV: u16 = 33;
const A: u16 = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Srv,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Srv => "SRV",
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::A => A,
            Self::Srv => SRV,
        }
    }
}

/// A question with id 0, recursion desired.
pub(super) fn question(name: &str, kind: Kind) -> Result<Vec<u8>> {
    let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        if !(1..=63).contains(&label.len()) {
            bail!("`{name}` is no name");
        }
        bytes.push(u8::try_from(label.len())?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.number().to_be_bytes());
    bytes.extend_from_slice(&1_u16.to_be_bytes());
    Ok(bytes)
}

/// What there is to know of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    pub id: u16,
    /// Whether it has answers and no error.
    pub good: bool,
}

impl Reply {
    /// Of a message, unless it is none.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let good = header[3] & 15 == 0 && header[6..8] != [0, 0];
        Some(Self { id: u16::from_be_bytes([header[0], header[1]]), good })
    }
}

/// Makes a reply of the question in `room`, always the same one: what a server costs
/// that knows nothing. What follows the question is dropped.
pub(super) fn fixed_reply(room: &mut [u8], length: usize) -> usize {
    const ADDRESS: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1];
    const SERVICE: [u8; 20] =
        [0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 8, 0, 0, 0, 0, 0, 80, 0xc0, 12];
    let mut end = HEADER;
    while end < length && room[end] != 0 {
        end += 1 + usize::from(room[end]);
    }
    end += 5;
    if !(HEADER + 5..=512).contains(&end) {
        return HEADER.min(room.len());
    }
    room[2..4].copy_from_slice(&[0x85, 0x80]);
    room[7] = 1;
    room[8..12].fill(0);
    let record: &[u8] =
        if room[end - 4..end - 2] == SRV.to_be_bytes() { &SERVICE } else { &ADDRESS };
    room[end..end + record.len()].copy_from_slice(record);
    end + record.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_and_its_fixed_reply() {
        for kind in [Kind::A, Kind::Srv] {
            let asked = question("a.mesos.", kind).unwrap();
            assert_eq!(&asked[HEADER..HEADER + 9], b"\x01a\x05mesos\x00");
            let mut room = [0; 600];
            room[..asked.len()].copy_from_slice(&asked);
            let length = fixed_reply(&mut room, asked.len());
            assert_eq!(Reply::of(&room[..length]), Some(Reply { id: 0, good: true }));
        }
        assert_eq!(
            Reply::of(&question("a.b", Kind::A).unwrap()).map(|reply| reply.good),
            Some(false)
        );
        assert!(question("a..b", Kind::A).is_err());
        assert_eq!(Reply::of(&[0; 11]), None);
    }
}
