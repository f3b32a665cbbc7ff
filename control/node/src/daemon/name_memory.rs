//! What names are made of, on the disk: a file to which each change is added, read at the
//! next start.
//!
//! A line is a change. A last line that a crash cut off is left out, and so is what a
//! process of another version wrote: the logs say it all again. A start only reads; the
//! file is written anew, without the lines that later ones made void, while it grows.

use mizzen_dns_core::OwnerKey;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Wall};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tracing::warn;

/// Format of the file.
const FORMAT: u16 = 2;
/// Changes are written after at most so long.
const DELAY: Duration = Duration::from_secs(1);
/// A file is written anew when it has so many lines beyond twice those that count.
const SLACK: usize = 10_000;
/// A larger file is read by two threads.
const LARGE: usize = 1 << 20;

/// What is remembered of an owner of records.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Remembered {
    /// What a log says.
    Fact(Fact),
    /// Addresses of a named VIP.
    Vip(Vec<IpAddr>),
}

/// What a former process knew.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Known {
    /// What it remembered.
    pub(crate) held: BTreeMap<OwnerKey, Remembered>,
    /// When it last learned something.
    pub(crate) at: Wall,
}

/// The file, and what is not in it yet.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    path: Option<PathBuf>,
    file: Option<File>,
    waiting: Vec<u8>,
    flush_at: Option<Mono>,
    lines: usize,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Line<'a> {
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
struct Contents {
    known: Known,
    /// How many changes it has, void ones among them.
    lines: usize,
    /// Where its last whole line ends, if it is of our format.
    end: Option<u64>,
}

impl Memory {
    /// The memory at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path: Some(path), ..Self::default() }
    }

    /// What a former process knew. From now on changes are added to the file.
    pub(crate) fn load(&mut self) -> Known {
        let Some(path) = self.path.clone() else { return Known::default() };
        let contents = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(path = %path.display(), %error, "cannot read what was known of names");
            }
            Contents::default()
        });
        let begun = match contents.end {
            Some(end) => self.go_on(&path, end, contents.lines),
            None => self.begin(&contents.known),
        };
        if let Err(error) = begun {
            warn!(path = %path.display(), %error, "what is known of names will not be kept");
        }
        contents.known
    }

    /// Adds a change, to be written soon.
    pub(crate) fn push(&mut self, key: &OwnerKey, now: Option<&Remembered>, at: Mono) {
        if self.file.is_none() || !is_kept(key) {
            return;
        }
        if push_line(&mut self.waiting, key, now) {
            self.lines += 1;
            self.flush_at.get_or_insert(at + DELAY);
        }
    }

    /// When changes are to be written.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.flush_at
    }

    /// Writes what is due.
    pub(crate) fn handle_timeout(&mut self, now: Mono, wall: Wall) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush(wall);
        }
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, wall: Wall) {
        self.flush_at = None;
        let Some(file) = self.file.as_mut().filter(|_| !self.waiting.is_empty()) else { return };
        write_line(&mut self.waiting, &Line::At(wall));
        let written = file.write_all(&self.waiting);
        self.waiting.clear();
        if let Err(error) = written {
            warn!(%error, "what is known of names is kept no more");
            self.file = None;
        } else if self.lines > SLACK {
            self.shrink();
        }
    }

    /// Drops the lines that later ones made void.
    fn shrink(&mut self) {
        let Some(path) = self.path.clone() else { return };
        let Ok(Contents { known, .. }) = read(&path) else { return };
        if self.lines > 2 * known.held.len() + SLACK
            && let Err(error) = self.begin(&known)
        {
            warn!(%error, "what is known of names is kept no more");
            self.file = None;
        }
    }

    /// Adds to the file that is there, behind its last whole line.
    fn go_on(&mut self, path: &Path, end: u64, lines: usize) -> io::Result<()> {
        let file = OpenOptions::new().append(true).open(path)?;
        if file.metadata()?.len() > end {
            file.set_len(end)?;
        }
        (self.file, self.lines) = (Some(file), lines);
        Ok(())
    }

    /// Writes a file with just this, and adds to that one from now on.
    fn begin(&mut self, known: &Known) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut bytes = Vec::new();
        write_line(&mut bytes, &Line::Format(FORMAT));
        for (key, held) in &known.held {
            push_line(&mut bytes, key, Some(held));
        }
        write_line(&mut bytes, &Line::At(known.at));
        let draft = path.with_extension("new");
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&bytes)?;
        fs::rename(&draft, path)?;
        (self.file, self.lines) = (Some(file), known.held.len());
        Ok(())
    }
}

/// Claims and problems make no records, and VIPs are kept under their names.
fn is_kept(key: &OwnerKey) -> bool {
    match key {
        OwnerKey::Static(_) => false,
        OwnerKey::Vip(_) => true,
        OwnerKey::Fact { key, .. } => {
            !matches!(key, Key::VipClaim(_) | Key::VipService(_) | Key::NodeProblems)
        }
    }
}

/// Writes a change, if it is one that is kept.
fn push_line(out: &mut Vec<u8>, key: &OwnerKey, now: Option<&Remembered>) -> bool {
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

fn write_line(out: &mut Vec<u8>, line: &Line<'_>) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, line).is_err() {
        // Half a line would end the file for whoever reads it.
        out.truncate(before);
        return;
    }
    out.push(b'\n');
}

fn read(path: &Path) -> io::Result<Contents> {
    let bytes = fs::read(path)?;
    let mut contents = Contents::default();
    let first = bytes.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[..end]);
    if !matches!(serde_json::from_slice(first), Ok(Line::Format(FORMAT))) {
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

/// Where the next line after `near` starts.
fn line_start(bytes: &[u8], near: usize) -> usize {
    let next = bytes[near..].iter().position(|byte| *byte == b'\n');
    next.map_or(bytes.len(), |more| near + more + 1)
}

/// Changes in their order.
#[derive(Debug, Default)]
struct Changes {
    owners: Vec<(OwnerKey, Option<Remembered>)>,
    /// When the last of them was written.
    at: Wall,
}

/// The changes of these lines; a line that is none is left out.
fn changes(mut lines: &[u8]) -> Changes {
    let mut changes = Changes::default();
    while !lines.is_empty() {
        let mut found = serde_json::Deserializer::from_slice(lines).into_iter::<Line<'_>>();
        found.by_ref().map_while(Result::ok).for_each(|line| changes.push(line));
        // Behind it is the line that could not be read, or nothing.
        lines = &lines[line_start(lines, found.byte_offset().min(lines.len()))..];
    }
    changes
}

impl Changes {
    fn push(&mut self, line: Line<'_>) {
        self.owners.push(match line {
            Line::Format(_) => return,
            Line::At(at) => return self.at = self.at.max(at),
            Line::Fact(owner, key, fact) => {
                let key = OwnerKey::Fact { owner: owner.into_owned(), key: key.into_owned() };
                (key, fact.map(|fact| Remembered::Fact(fact.into_owned())))
            }
            Line::Vip(name, addresses) => {
                let held = Some(addresses.into_owned()).filter(|addresses| !addresses.is_empty());
                (OwnerKey::Vip(name.into_owned()), held.map(Remembered::Vip))
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_types::fact::FrameworkFact;

    fn framework(name: &str) -> (OwnerKey, Remembered) {
        let key = Key::Framework(name.into());
        let fact = FrameworkFact { name: name.to_owned(), hostname: None, port: None };
        (OwnerKey::Fact { owner: "n1".into(), key }, Remembered::Fact(Fact::Framework(fact)))
    }

    #[test]
    fn the_next_process_knows_what_this_one_knew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("names.log");
        let mut memory = Memory::new(path.clone());
        assert_eq!(memory.load(), Known::default());
        let (a, b) = (framework("a"), framework("b"));
        let vip = OwnerKey::Vip("web.marathon".into());
        let addresses = Remembered::Vip(vec!["11.0.0.7".parse().unwrap()]);
        memory.push(&a.0, Some(&a.1), Mono(0));
        memory.push(&b.0, Some(&b.1), Mono(0));
        memory.push(&vip, Some(&addresses), Mono(0));
        memory.push(&a.0, None, Mono(0));
        assert_eq!(memory.deadline(), Some(Mono(0) + DELAY));
        memory.flush(Wall(77));
        memory.push(&a.0, Some(&a.1), Mono(0));
        drop(memory); // not written: it was killed

        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole, &b"{\"vip\":[\"x\",[\"1"[..]].concat()).unwrap();
        let mut want = Known { held: BTreeMap::from([b, (vip.clone(), addresses)]), at: Wall(77) };
        let mut memory = Memory::new(path.clone());
        assert_eq!(memory.load(), want);
        assert_eq!(fs::read(&path).unwrap(), whole, "a start writes nothing");
        memory.push(&vip, None, Mono(0));
        memory.push(&a.0, Some(&a.1), Mono(0));
        memory.flush(Wall(78));
        want.held.remove(&vip);
        want.held.insert(a.0, a.1);
        want.at = Wall(78);
        assert_eq!(Memory::new(path.clone()).load(), want, "behind the line that was cut off");
        fs::write(&path, "{\"format\":9}\n").unwrap();
        let mut memory = Memory::new(path.clone());
        assert_eq!(memory.load(), Known::default(), "of another version");
        assert_eq!(fs::read(&path).unwrap(), b"{\"format\":2}\n{\"at\":0}\n");
    }

    #[test]
    fn a_line_that_is_none_hides_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("names.log");
        let (a, b) = (framework("a"), framework("b"));
        let mut text = b"{\"format\":2}\n".to_vec();
        assert!(push_line(&mut text, &a.0, Some(&a.1)));
        text.extend(b"{\"fact\":[\"n1\",\n\n{}\nnull\n\xff\n{\"later\":[1]}\n");
        assert!(push_line(&mut text, &b.0, Some(&b.1)));
        fs::write(&path, text).unwrap();
        assert_eq!(Memory::new(path).load().held, BTreeMap::from([a, b]));
    }

    #[test]
    fn a_large_file_is_read_in_order_and_shrinks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("names.log");
        let mut memory = Memory::new(path.clone());
        memory.load();
        let vip = |number: usize| OwnerKey::Vip(format!("{}-{number}.marathon", "v".repeat(60)));
        let addresses = |low: u8| Remembered::Vip(vec![[11, 0, 0, low].into()]);
        // The second half of the file takes back or changes what the first one says.
        for number in 0..6_000 {
            memory.push(&vip(number), Some(&addresses(1)), Mono(0));
        }
        for number in 0..6_000 {
            let now = addresses(2);
            memory.push(&vip(number), Some(&now).filter(|_| number % 2 == 0), Mono(0));
        }
        memory.flush(Wall(5));
        let size = || fs::metadata(&path).unwrap().len() as usize;
        assert!(size() > LARGE);
        let mut again = Memory::new(path.clone());
        let known = again.load();
        let want = (0..6_000).step_by(2).map(|number| (vip(number), addresses(2)));
        assert_eq!(known, Known { held: want.collect(), at: Wall(5) });
        assert_eq!(again.lines, 12_000, "void ones count");
        let before = size();
        for _ in 0..5_000 {
            again.push(&vip(0), Some(&addresses(3)), Mono(0));
        }
        again.flush(Wall(6));
        assert!(size() < before / 2 && again.lines == 3_000, "{}", again.lines);
        assert_eq!(Memory::new(path).load().held[&vip(0)], addresses(3));
    }
}
