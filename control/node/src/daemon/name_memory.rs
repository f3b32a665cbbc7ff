//! What names are made of, on the disk: a file to which each change is added, read at the
//! next start.
//!
//! A line is a change. A last line that a crash cut off is left out, and so is what a
//! process of another version wrote: the logs say it all again. A start only reads. A file
//! that has grown is written anew by a thread, without the lines that later ones made void.
//! Beside it is an index, by which a start finds what is asked for before it has read all.

mod file;
mod index;
mod indexing;
mod jobs;
mod lines;
mod shrinking;

pub(crate) use index::{Index, Stretch, entry};
pub(crate) use indexing::{Indexer, Rules};
pub(crate) use lines::{Contents, Said, change, read};
pub(crate) use shrinking::shrink;

use file::Added;
use lines::{FORMAT, Line, push_line, write_line};
use mizzen_dns_core::{Options, OwnerKey, Seed};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Wall};
use shrinking::{Looked, Replaced, create};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, mem};
use tracing::{info, warn};

/// Changes are written after at most so long: those that come together, together, and none is lost
/// by whoever is killed a moment later.
const DELAY: Duration = Duration::from_millis(100);
/// When to look again at an index that is being made, or to try a full disk again.
const AGAIN: Duration = Duration::from_secs(1);
/// While a file takes another one's place, which is a matter of milliseconds.
const SOON: Duration = Duration::from_millis(20);
/// A file is written anew when it has so many lines beyond twice those that count.
const SLACK: usize = 10_000;
/// Bytes that wait for a full disk at most.
const MOST_WAITING: usize = 1 << 24;
/// So many changes are added to the index together. A start looks at those that are not in it
/// before it answers, 20 µs each.
const TOGETHER: usize = 1_000;

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
    file: Kept,
    waiting: Vec<u8>,
    /// How many changes that are.
    waiting_lines: usize,
    flush_at: Option<Mono>,
    lines: usize,
    /// With more lines it is worth a look how many of them count.
    enough: usize,
    indexer: Option<Arc<Indexer>>,
    /// Lines that are not in the index.
    unindexed: usize,
    job: Option<Job>,
    /// Of what was told and is still so.
    told: Told,
}

/// Where changes go.
#[derive(Debug, Default)]
enum Kept {
    /// Nowhere.
    #[default]
    Not,
    In(Added),
    /// They wait for the moment in which another file comes in the place of this one.
    Moving(JoinHandle<Result<Replaced, (io::Error, Added)>>),
}

/// What a thread does with the file.
#[derive(Debug)]
enum Job {
    Index(JoinHandle<io::Result<()>>),
    Shrink(JoinHandle<io::Result<Looked>>),
}

/// What was told of the disk.
#[derive(Debug, Default)]
struct Told {
    /// Changes cannot be added.
    unwritten: bool,
    /// The file cannot be written anew.
    long: bool,
}

impl Memory {
    /// The memory at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path: Some(path), ..Self::default() }
    }

    /// The key by which names are found in the index, if there is one to go by. Zones of
    /// another key cannot be filled by it.
    pub(crate) fn seed(&self, options: &Options, here: &OwnerId) -> Option<Seed> {
        self.open_index(options, here).map(|index| index.seed)
    }

    /// How names are made from now on: the index follows.
    pub(crate) fn make_names_by(&mut self, options: &Options, here: &OwnerId) {
        let indexer = |path: &PathBuf| Arc::new(Indexer::new(path.clone(), options, here));
        self.indexer = self.path.as_ref().map(indexer);
        self.unindexed = self.lines;
    }

    /// Where to find the file.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The index of what a former process knew; `None` if all has to be [loaded](Self::load)
    /// first. From now on changes are added to the file.
    pub(crate) fn open(&mut self, options: &Options, here: &OwnerId) -> Option<Index> {
        let path = self.path.clone()?;
        let mut index = self.open_index(options, here)?;
        if index.seed != options.seed {
            return None;
        }
        shrinking::clear(&path);
        let begun = index
            .read_tail(&Rules::new(options.clone(), here.clone()))
            .and_then(|()| Added::open(&path, index.end));
        match begun {
            Ok(file) => self.file = Kept::In(file),
            Err(error) => {
                warn!(%error, "the index of names is not used");
                return None;
            }
        }
        (self.lines, self.unindexed) = (index.lines, index.unindexed);
        self.note_held(self.lines);
        Some(index)
    }

    /// What a former process knew. From now on changes are added to the file.
    pub(crate) fn load(&mut self, now: Mono) -> Known {
        let Some(path) = self.path.clone() else { return Known::default() };
        shrinking::clear(&path);
        let contents = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(path = %path.display(), %error, "cannot read what was known of names");
            }
            Contents::default()
        });
        let begun = match contents.end {
            Some(end) => Added::open(&path, end),
            None => begin(&path),
        };
        match begun {
            Ok(file) => (self.file, self.lines) = (Kept::In(file), contents.lines),
            Err(error) => {
                warn!(path = %path.display(), %error, "what is known of names will not be kept");
            }
        }
        self.unindexed = self.lines;
        self.note_held(contents.known.held.len());
        if self.unindexed >= TOGETHER {
            self.flush_at = Some(now + AGAIN);
        }
        contents.known
    }

    /// So many things are known of all that the file says.
    pub(crate) fn note_held(&mut self, held: usize) {
        self.enough = 2 * held + SLACK;
    }

    /// Adds a change, to be written soon.
    pub(crate) fn push(&mut self, key: &OwnerKey, now: Option<&Remembered>, at: Mono) {
        if matches!(self.file, Kept::Not) || !is_kept(key) {
            return;
        }
        if push_line(&mut self.waiting, key, now) {
            self.lines += 1;
            self.waiting_lines += 1;
            self.unindexed += 1;
            let due = at + DELAY;
            self.flush_at = Some(self.flush_at.map_or(due, |other| other.min(due)));
        }
    }

    /// When changes are to be written.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.flush_at
    }

    /// Writes what is due.
    pub(crate) fn handle_timeout(&mut self, now: Mono, wall: Wall) {
        if self.flush_at.is_none_or(|at| at > now) {
            return;
        }
        if matches!(&self.file, Kept::Moving(thread) if !thread.is_finished()) {
            self.flush_at = Some(now + SOON);
            return;
        }
        self.flush(wall);
        self.end_job();
        self.begin_job();
        let again = match self.file {
            Kept::Moving(_) => Some(SOON),
            _ => (self.job.is_some() || !self.waiting.is_empty()).then_some(AGAIN),
        };
        self.flush_at = again.map(|delay| now + delay);
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, wall: Wall) {
        self.flush_at = None;
        self.end_moving();
        let Kept::In(file) = &mut self.file else { return };
        let changes = self.waiting.len();
        if changes == 0 {
            return;
        }
        write_line(&mut self.waiting, &Line::At(wall));
        match file.add(&self.waiting) {
            Ok(()) => {
                self.waiting.clear();
                self.waiting_lines = 0;
                if mem::take(&mut self.told.unwritten) {
                    info!("what is known of names is kept again");
                }
            }
            Err(error) => {
                self.waiting.truncate(changes);
                if !mem::replace(&mut self.told.unwritten, true) {
                    warn!(%error, "what is known of names is not kept");
                }
                if changes > MOST_WAITING {
                    (self.file, self.waiting) = (Kept::Not, Vec::new());
                }
            }
        }
    }

    fn open_index(&self, options: &Options, here: &OwnerId) -> Option<Index> {
        let log = self.path.as_ref()?;
        Index::open(log, &indexing::path_of(log), &indexing::text_of(options, here))
    }

    /// Who makes the index.
    #[cfg(test)]
    pub(crate) fn indexer(&self) -> &Indexer {
        self.indexer.as_ref().expect("names are made somehow")
    }
}

/// Begins a file in the place of one that cannot be added to.
fn begin(path: &Path) -> io::Result<Added> {
    let mut bytes = Vec::new();
    write_line(&mut bytes, &Line::Format(FORMAT));
    write_line(&mut bytes, &Line::At(Wall::default()));
    let draft = path.with_extension("new");
    let mut file = create(&draft)?;
    file.write_all(&bytes)?;
    fs::rename(&draft, path)?;
    Added::to(file)
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

#[cfg(test)]
mod tests;
