//! Where in the file the lines about a name are, so that the next process finds a few of them
//! at once while it reads all.
//!
//! ```text
//! format u64 · key of the hashes 2 × u64 · sum of what it was made under u64
//! runs:  from, to u64 · sum of the log in front of `to` u64 · lines, early, pages u32 · 0 u32
//!        · sum of this head and of both lists u64
//!        early lines: place u32 · first hash of each page u32
//!        pages of 4 KiB: sum u64 · sorted entries: hash u32, place u32
//! ```
//!
//! A run is about a stretch of the log and is added when that is long enough, so the cost is
//! that of the changes. A process that was killed while it added one left too few bytes, and
//! the run does not count. Every part that is read is held against its sum. An index is for one
//! log file, the rules by which names are made, and one boot of the machine: after a crash of
//! the kernel nobody knows which parts of either file were written.

use super::indexing::Rules;
use super::lines::{self, Said};
use mizzen_dns_core::Seed;
use mizzen_types::time::Wall;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Begins the file.
const FORMAT: u64 = u64::from_be_bytes(*b"mznames1");
const HEAD: usize = 32;
const RUN_HEAD: usize = 48;
pub(super) const PAGE: usize = 4096;
const SUM: usize = 8;
const ENTRY: usize = 8;
/// Entries of a page.
const ENTRIES: usize = (PAGE - SUM) / ENTRY;
/// Bytes of the log by which a run knows it again: the time of a change is among them.
const MARK: u64 = 256;
/// A line is read in pieces of this size, and is no longer than this.
const PIECE: usize = 4096;
const LONGEST: usize = 1 << 26;

/// An index that is read.
#[derive(Debug)]
pub(crate) struct Index {
    file: File,
    log: File,
    pub(super) seed: Seed,
    runs: Vec<Run>,
    /// Entries of lines behind the last run, sorted.
    tail: Vec<u64>,
    /// Places of lines that everything else depends on, in their order.
    early: Vec<u32>,
    /// How much of the log the runs are about, and how much of this file they are.
    pub(super) covered: u64,
    pub(super) used: u64,
    /// Changes in the log.
    pub(super) lines: usize,
    /// How many of them are behind the last run.
    pub(super) unindexed: usize,
    /// Where the log's last whole line ends.
    pub(super) end: u64,
    /// When that was written.
    pub(super) at: Wall,
}

/// A stretch of the log.
#[derive(Debug)]
struct Run {
    pages_at: u64,
    /// The first hash of each page.
    fences: Vec<u32>,
}

/// What a new run is made of.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) lines: u32,
    pub(crate) early: Vec<u32>,
    /// Hash in the upper half, place in the lower.
    pub(crate) entries: Vec<u64>,
}

impl Index {
    /// Opens the index of a log. `None` if there is none that can be relied on.
    pub(super) fn open(log: &Path, path: &Path, rules: &str) -> Option<Self> {
        Self::read(File::open(log).ok()?, File::open(path).ok()?, rules).ok().flatten()
    }

    fn read(log: File, file: File, rules: &str) -> io::Result<Option<Self>> {
        let (length, log_length) = (file.metadata()?.len(), log.metadata()?.len());
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, 0)?;
        let seed = Seed(word(&head, 8), word(&head, 16));
        if head[..] != self::head(seed, &log, rules)?[..] || !lines::is_ours(&log)? {
            return Ok(None);
        }
        let (runs, early, tail) = (Vec::new(), Vec::new(), Vec::new());
        let mut index = Self {
            file,
            log,
            seed,
            runs,
            tail,
            early,
            covered: 0,
            used: HEAD as u64,
            lines: 0,
            unindexed: 0,
            end: 0,
            at: Wall::default(),
        };
        while index.used < length {
            match index.read_run(length, log_length)? {
                Next::Run => {}
                Next::Torn => break,
                Next::Wrong => return Ok(None),
            }
        }
        index.end = index.covered;
        Ok((!index.runs.is_empty()).then_some(index))
    }

    fn read_run(&mut self, length: u64, log_length: u64) -> io::Result<Next> {
        let mut head = [0; RUN_HEAD];
        if length - self.used < RUN_HEAD as u64 {
            return Ok(Next::Torn);
        }
        self.file.read_exact_at(&mut head, self.used)?;
        let (from, to, mark) = (word(&head, 0), word(&head, 8), word(&head, 16));
        let [lines, early, pages] = [24, 28, 32].map(|at| half(&head, at));
        let lists = 4 * (u64::from(early) + u64::from(pages));
        let pages_at = self.used + RUN_HEAD as u64 + lists;
        let end = pages_at + u64::from(pages) * PAGE as u64;
        if end > length {
            return Ok(Next::Torn);
        }
        let mut both = head[..RUN_HEAD - SUM].to_vec();
        both.resize(RUN_HEAD - SUM + lists as usize, 0);
        let (_, list) = both.split_at_mut(RUN_HEAD - SUM);
        self.file.read_exact_at(list, self.used + RUN_HEAD as u64)?;
        let (list, _) = list.as_chunks::<4>();
        let mut numbers = list.iter().map(|number| u32::from_le_bytes(*number));
        let early: Vec<u32> = numbers.by_ref().take(early as usize).collect();
        let fences: Vec<u32> = numbers.collect();
        let is_whole = self.seed.sum(&both) == word(&head, RUN_HEAD - SUM);
        let fits = from == self.covered && from < to && to <= log_length;
        if !is_whole || !fits || self::mark(&self.log, self.seed, to)? != mark {
            return Ok(Next::Wrong);
        }
        self.early.extend(early);
        self.runs.push(Run { pages_at, fences });
        (self.covered, self.used) = (to, end);
        self.lines += lines as usize;
        Ok(Next::Run)
    }

    /// Looks at the lines behind the last run.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub(crate) fn read_tail(&mut self, rules: &Rules) -> io::Result<()> {
        let stretch = rules.look_at(&self.log, self.covered)?;
        self.end = stretch.to;
        self.unindexed = stretch.lines as usize;
        self.lines += self.unindexed;
        self.early.extend(stretch.early);
        self.tail = stretch.entries;
        self.at = self.last_time()?;
        Ok(())
    }

    /// The changes that everything else depends on, in their order.
    pub(crate) fn early(&self) -> io::Result<Vec<Said>> {
        self.early.iter().map(|place| self.change_at(*place)).collect()
    }

    /// How many changes there are, void ones among them.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// When the last of them was written.
    pub(crate) fn at(&self) -> Wall {
        self.at
    }

    /// Places of lines that have this trace, in their order.
    ///
    /// # Errors
    ///
    /// That of the disk; `InvalidData` for a page that is not as it was written.
    pub(crate) fn find(&self, hash: u32) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        for run in &self.runs {
            let first = run.fences.partition_point(|fence| *fence < hash).saturating_sub(1);
            for number in first..run.fences.len() {
                if run.fences[number] > hash {
                    break;
                }
                let mut page = [0; PAGE];
                self.file.read_exact_at(&mut page, run.pages_at + (number * PAGE) as u64)?;
                let (sum, entries) = page.split_at(SUM);
                if word(sum, 0) != self.seed.sum(entries) {
                    return Err(wrong("a page of the index is not as it was written"));
                }
                let (entries, _) = entries.as_chunks::<ENTRY>();
                let entries = entries.iter().map(|entry| u64::from_le_bytes(*entry));
                // Places of an empty entry lie behind every log.
                let of_hash = |entry: &u64| hash_of(*entry) == hash && place_of(*entry) < u32::MAX;
                found.extend(entries.filter(of_hash).map(place_of));
            }
        }
        let start = self.tail.partition_point(|entry| hash_of(*entry) < hash);
        let rest = self.tail[start..].iter().copied();
        found.extend(rest.take_while(|entry| hash_of(*entry) == hash).map(place_of));
        Ok(found)
    }

    /// The change of the line at a place.
    ///
    /// # Errors
    ///
    /// That of the disk; `InvalidData` if there is no change.
    pub(crate) fn change_at(&self, place: u32) -> io::Result<Said> {
        // With the byte in front of it, which ends the line before.
        let ahead = usize::from(place > 0);
        let from = u64::from(place) - ahead as u64;
        let mut bytes = Vec::with_capacity(PIECE);
        let end = loop {
            let read = bytes.len();
            bytes.resize(read + PIECE, 0);
            let got = self.log.read_at(&mut bytes[read..], from + read as u64)?;
            bytes.truncate(read + got);
            let start = read.max(ahead);
            if let Some(end) = bytes.iter().skip(start).position(|byte| *byte == b'\n') {
                break start + end;
            }
            if got == 0 || bytes.len() > LONGEST {
                return Err(wrong("there is no line in the log where one was"));
            }
        };
        let is_line = ahead == 0 || bytes[0] == b'\n';
        let change = is_line.then(|| lines::change(&bytes[ahead..end])).flatten();
        change.ok_or_else(|| wrong("there is no change in the log where one was"))
    }

    /// When the last line was written.
    fn last_time(&self) -> io::Result<Wall> {
        let last = before(&self.log, self.end)?;
        let times = last.split(|byte| *byte == b'\n').rev().find_map(lines::time);
        Ok(times.unwrap_or_default())
    }
}

/// What comes next in a file.
enum Next {
    Run,
    /// Too few bytes.
    Torn,
    /// Not what was written, or about another log.
    Wrong,
}

/// The head of an index of `log`.
pub(super) fn head(seed: Seed, log: &File, rules: &str) -> io::Result<[u8; HEAD]> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let file = log.metadata()?;
    let under = format!("{boot} {} {} {rules}", file.dev(), file.ino());
    let mut head = [0; HEAD];
    for (place, number) in
        head.chunks_exact_mut(8).zip([FORMAT, seed.0, seed.1, seed.sum(under.as_bytes())])
    {
        place.copy_from_slice(&number.to_le_bytes());
    }
    Ok(head)
}

impl Stretch {
    /// Sorts its entries.
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup();
    }

    /// The run as it is written.
    pub(super) fn to_bytes(&self, seed: Seed, log: &File) -> io::Result<Vec<u8>> {
        let pages = self.entries.chunks(ENTRIES);
        let mut out = Vec::with_capacity(RUN_HEAD + (pages.len() + 1) * (PAGE + 4));
        for number in [self.from, self.to, mark(log, seed, self.to)?] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.lines, self.early.len() as u32, pages.len() as u32, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let mut lists = Vec::new();
        let fences = pages.clone().map(|page| hash_of(page[0]));
        for number in self.early.iter().copied().chain(fences) {
            lists.extend_from_slice(&number.to_le_bytes());
        }
        let sum = seed.sum(&[&out[..], &lists[..]].concat());
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend(lists);
        for page in pages {
            let mut bytes = [0xff; PAGE - SUM];
            for (place, entry) in bytes.chunks_exact_mut(ENTRY).zip(page) {
                place.copy_from_slice(&entry.to_le_bytes());
            }
            out.extend_from_slice(&seed.sum(&bytes).to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        Ok(out)
    }
}

/// An entry of a page.
pub(crate) fn entry(hash: u32, place: u32) -> u64 {
    (u64::from(hash) << 32) | u64::from(place)
}

fn hash_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

fn place_of(entry: u64) -> u32 {
    entry as u32
}

/// A sum of what stands in the log in front of `to`.
fn mark(log: &File, seed: Seed, to: u64) -> io::Result<u64> {
    Ok(seed.sum(&before(log, to)?))
}

/// The last bytes of the log in front of `to`.
fn before(log: &File, to: u64) -> io::Result<Vec<u8>> {
    let length = to.min(MARK);
    let mut bytes = vec![0; length as usize];
    log.read_exact_at(&mut bytes, to - length)?;
    Ok(bytes)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let (word, _) = bytes[at..].as_chunks::<8>();
    word.first().map_or(0, |word| u64::from_le_bytes(*word))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    let (half, _) = bytes[at..].as_chunks::<4>();
    half.first().map_or(0, |half| u32::from_le_bytes(*half))
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
