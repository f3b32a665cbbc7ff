//! The lines of the file.

use super::{Known, Remembered};
use mizzen_dns_core::OwnerKey;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Wall;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

/// Format of the file.
pub(super) const FORMAT: u16 = 2;
/// Its first line is shorter.
const FIRST: usize = 64;
/// A larger file is read by two threads.
pub(super) const LARGE: usize = 1 << 20;

/// A change: whose, and what is known of it now.
pub(crate) type Said = (OwnerKey, Option<Remembered>);

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum Line<'a> {
    /// The first one.
    Format(u16),
    /// What somebody says of something; nothing any more.
    Fact(Cow<'a, OwnerId>, Cow<'a, Key>, Option<Cow<'a, Fact>>),
    /// A named VIP; without addresses it is gone.
    Vip(Cow<'a, str>, Cow<'a, [IpAddr]>),
    /// When all before was written.
    At(Wall),
}

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) known: Known,
    /// How many changes it has, void ones among them.
    pub(crate) lines: usize,
    /// Where its last whole line ends, if it is of our format.
    pub(crate) end: Option<u64>,
}

/// Writes a change, if it is one that is kept.
pub(super) fn push_line(out: &mut Vec<u8>, key: &OwnerKey, now: Option<&Remembered>) -> bool {
    let line = match (key, now) {
        (OwnerKey::Fact { owner, key }, None) => {
            Line::Fact(Cow::Borrowed(owner), Cow::Borrowed(key), None)
        }
        (OwnerKey::Fact { owner, key }, Some(Remembered::Fact(fact))) => {
            Line::Fact(Cow::Borrowed(owner), Cow::Borrowed(key), Some(Cow::Borrowed(fact)))
        }
        (OwnerKey::Vip(name), Some(Remembered::Vip(addresses))) => {
            Line::Vip(name.into(), addresses.into())
        }
        (OwnerKey::Vip(name), None) => Line::Vip(name.into(), (&[]).into()),
        _ => return false,
    };
    write_line(out, &line);
    true
}

pub(super) fn write_line(out: &mut Vec<u8>, line: &Line<'_>) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, line).is_err() {
        // Half a line would end the file for whoever reads it.
        out.truncate(before);
        return;
    }
    out.push(b'\n');
}

/// The change of one line; `None` for a line of another kind.
pub(crate) fn change(line: &[u8]) -> Option<Said> {
    serde_json::from_slice::<Line<'_>>(line).ok().and_then(Line::into_change)
}

/// When all before this line was written, if it says so.
pub(super) fn time(line: &[u8]) -> Option<Wall> {
    match serde_json::from_slice(line) {
        Ok(Line::At(at)) => Some(at),
        _ => None,
    }
}

/// Reads a whole file.
///
/// # Errors
///
/// That of the disk.
pub(crate) fn read(path: &Path) -> io::Result<Contents> {
    let bytes = fs::read(path)?;
    let mut contents = Contents::default();
    let first = bytes.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[..end]);
    if !is_format(first) {
        return Ok(contents);
    }
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    contents.end = Some(end as u64);
    let lines = &bytes[first.len() + 1..end];
    let half = if lines.len() < LARGE { 0 } else { line_start(lines, lines.len() / 2) };
    let (before, after) = lines.split_at(half);
    let changes = thread::scope(|scope| {
        let former = scope.spawn(|| changes(before));
        let latter = changes(after);
        // A thread that panicked has read nothing.
        [former.join().unwrap_or_default(), latter]
    });
    contents.lines = changes.iter().map(|changes| changes.owners.len()).sum();
    contents.known.at = changes.iter().map(|changes| changes.at).max().unwrap_or_default();
    // Of several lines about one thing the last one counts.
    let last: BTreeMap<_, _> = changes.into_iter().flat_map(|changes| changes.owners).collect();
    contents.known.held = last.into_iter().filter_map(|(key, held)| Some((key, held?))).collect();
    Ok(contents)
}

/// Reads the whole lines of a file from a place on, each with its place. Returns where the last
/// one ends.
///
/// # Errors
///
/// That of the disk.
pub(super) fn each_line(
    mut file: &File,
    from: u64,
    mut each: impl FnMut(u64, &[u8]),
) -> io::Result<u64> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut line, mut place) = (Vec::new(), from);
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(place);
        }
        each(place, &line);
        place += line.len() as u64 + 1;
    }
}

/// Whether a file is of our format.
///
/// # Errors
///
/// That of the disk.
pub(super) fn is_ours(file: &File) -> io::Result<bool> {
    let mut first = [0; FIRST];
    let got = file.read_at(&mut first, 0)?;
    let end = first[..got].iter().position(|byte| *byte == b'\n');
    Ok(end.is_some_and(|end| is_format(&first[..end])))
}

/// Whether the first line is that of our format.
fn is_format(line: &[u8]) -> bool {
    line.len() < FIRST && matches!(serde_json::from_slice(line), Ok(Line::Format(FORMAT)))
}

/// Where the next line after `near` starts.
fn line_start(bytes: &[u8], near: usize) -> usize {
    let next = bytes[near..].iter().position(|byte| *byte == b'\n');
    next.map_or(bytes.len(), |more| near + more + 1)
}

/// Changes in their order.
#[derive(Debug, Default)]
struct Changes {
    owners: Vec<Said>,
    /// When the last of them was written.
    at: Wall,
}

/// The changes of these lines; a line that is none is left out.
fn changes(lines: &[u8]) -> Changes {
    let mut changes = Changes::default();
    for line in lines.split(|byte| *byte == b'\n') {
        match serde_json::from_slice::<Line<'_>>(line) {
            Ok(Line::At(at)) => changes.at = changes.at.max(at),
            Ok(line) => changes.owners.extend(line.into_change()),
            Err(_) => {}
        }
    }
    changes
}

impl Line<'_> {
    fn into_change(self) -> Option<Said> {
        match self {
            Line::Format(_) | Line::At(_) => None,
            Line::Fact(owner, key, fact) => {
                let key = OwnerKey::Fact { owner: owner.into_owned(), key: key.into_owned() };
                Some((key, fact.map(|fact| Remembered::Fact(fact.into_owned()))))
            }
            Line::Vip(name, addresses) => {
                let held = Some(addresses.into_owned()).filter(|addresses| !addresses.is_empty());
                Some((OwnerKey::Vip(name.into_owned()), held.map(Remembered::Vip)))
            }
        }
    }
}
