//! What names are made of, on the disk: a file to which each change is added, read at the
//! next start and written anew then.
//!
//! A line is a change. A last line that a crash cut off is left out, and so is what a
//! process of another version wrote: the logs say it all again.

use mizzen_dns_core::OwnerKey;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tracing::warn;

/// Format of the file.
const FORMAT: u16 = 1;
/// Changes are written after at most so long.
const DELAY: Duration = Duration::from_secs(1);
/// A file is written anew when it has so many lines beyond twice those that count.
const SLACK: usize = 10_000;

/// What is remembered of an owner of records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Remembered {
    /// What a log says.
    Fact(Fact),
    /// Addresses of a named VIP.
    Vip(Vec<IpAddr>),
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

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u16,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    about: About,
    #[serde(default)]
    now: Option<Remembered>,
    /// When it was written.
    #[serde(default)]
    at: Wall,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum About {
    Fact { owner: OwnerId, key: Key },
    Vip { vip: String },
}

impl Memory {
    /// The memory at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path: Some(path), ..Self::default() }
    }

    /// What a former process knew and when it last learned something. From now on changes
    /// are added to a file with just that.
    pub(crate) fn load(&mut self) -> (BTreeMap<OwnerKey, Remembered>, Wall) {
        let Some(path) = self.path.clone() else { return Default::default() };
        let (known, at) = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(path = %path.display(), %error, "cannot read what was known of names");
            }
            Default::default()
        });
        if let Err(error) = self.begin(&known, at) {
            warn!(path = %path.display(), %error, "what is known of names will not be kept");
        }
        (known, at)
    }

    /// Adds a change, to be written soon.
    pub(crate) fn push(&mut self, key: &OwnerKey, now: Option<&Remembered>, at: Mono) {
        if self.file.is_none() || !is_kept(key) {
            return;
        }
        if let Some(line) = line(key, now, Wall::default()) {
            self.waiting.extend(line);
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
        // The time of the last line is the time of the file.
        let stamp = serde_json::json!({ "vip": "", "at": wall }).to_string();
        self.waiting.extend(stamp.bytes().chain([b'\n']));
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
        let Ok((known, at)) = read(&path) else { return };
        if self.lines > 2 * known.len() + SLACK
            && let Err(error) = self.begin(&known, at)
        {
            warn!(%error, "what is known of names is kept no more");
            self.file = None;
        }
    }

    fn begin(&mut self, known: &BTreeMap<OwnerKey, Remembered>, at: Wall) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut bytes = serde_json::to_vec(&Head { format: FORMAT })?;
        bytes.push(b'\n');
        for (key, held) in known {
            bytes.extend(line(key, Some(held), at).unwrap_or_default());
        }
        let draft = path.with_extension("new");
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&bytes)?;
        fs::rename(&draft, path)?;
        (self.file, self.lines) = (Some(file), known.len());
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

fn line(key: &OwnerKey, now: Option<&Remembered>, at: Wall) -> Option<Vec<u8>> {
    let about = match key {
        OwnerKey::Fact { owner, key } => About::Fact { owner: owner.clone(), key: key.clone() },
        OwnerKey::Vip(name) => About::Vip { vip: name.clone() },
        OwnerKey::Static(_) => return None,
    };
    let mut bytes = serde_json::to_vec(&Line { about, now: now.cloned(), at }).ok()?;
    bytes.push(b'\n');
    Some(bytes)
}

fn read(path: &std::path::Path) -> io::Result<(BTreeMap<OwnerKey, Remembered>, Wall)> {
    let mut lines = BufReader::new(File::open(path)?).split(b'\n');
    let head = lines.next().transpose()?.unwrap_or_default();
    let format = serde_json::from_slice::<Head>(&head).map(|head| head.format);
    let (mut known, mut last) = (BTreeMap::new(), Wall::default());
    if !matches!(format, Ok(FORMAT)) {
        return Ok((known, last));
    }
    for line in lines {
        let Ok(line) = serde_json::from_slice::<Line>(&line?) else { continue };
        last = last.max(line.at);
        let key = match line.about {
            About::Fact { owner, key } => OwnerKey::Fact { owner, key },
            About::Vip { vip } => OwnerKey::Vip(vip),
        };
        match line.now {
            Some(now) => known.insert(key, now),
            None => known.remove(&key),
        };
    }
    Ok((known, last))
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
        assert!(memory.load().0.is_empty());
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
        let cut = [fs::read(&path).unwrap().as_slice(), b"{\"vip\":\"x\",\"now\":{\"v"].concat();
        fs::write(&path, cut).unwrap();
        let want = BTreeMap::from([b, (vip, addresses)]);
        for _ in 0..2 {
            let mut memory = Memory::new(path.clone());
            assert_eq!(memory.load(), (want.clone(), Wall(77)), "also from the file made anew");
        }
        fs::write(&path, "{\"format\":9}\n").unwrap();
        assert!(Memory::new(path).load().0.is_empty(), "of another version");
    }
}
