//! Writes the log anew, without the lines that later ones made void, while it is in use.
//!
//! A thread copies what counts beside the log and makes the index of that; changes go on to be
//! added to the log meanwhile. Then a second thread, while changes wait for some milliseconds,
//! adds what came since and puts both files in their places. Whoever is killed on the way
//! leaves a log that is whole under its name, and an index that is of this log or, between the
//! last two steps, of none: the next start reads all then.

use super::file::Added;
use super::indexing::{self, Indexer};
use super::lines::{self, FORMAT, Line, each_line, write_line};
use mizzen_dns_core::OwnerKey;
use mizzen_types::time::Wall;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// When a copy is worth it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Worth {
    Always,
    /// With more than so many lines beyond twice those that count.
    Beyond(usize),
}

/// What a look at a log brought.
#[derive(Debug)]
pub(super) enum Looked {
    /// It has few void lines beside so many that count.
    Enough(usize),
    /// A copy is ready.
    Copied(Copy),
}

/// A log without void lines that is not in its place yet. Its files go if it does not get there.
#[derive(Debug)]
pub(super) struct Copy {
    log: PathBuf,
    drafts: Drafts,
    old: File,
    new: File,
    /// How much of the old log is in it.
    copied: u64,
    /// Things that it knows.
    held: usize,
    /// Changes in it.
    lines: usize,
    /// How many of them are in its index, and who made that.
    indexed: usize,
    indexer: Option<Arc<Indexer>>,
}

/// A log in its place.
#[derive(Debug)]
pub(super) struct Replaced {
    /// To be added to.
    pub(super) file: Added,
    pub(super) held: usize,
    pub(super) lines: usize,
    /// How many of them are not in its index.
    pub(super) unindexed: usize,
    pub(super) indexer: Option<Arc<Indexer>>,
}

impl Copy {
    /// Copies what counts of a log, if that is worth it.
    ///
    /// # Errors
    ///
    /// That of the disk; nothing has changed then.
    pub(super) fn make(
        log: &Path,
        indexer: Option<Arc<Indexer>>,
        worth: Worth,
    ) -> io::Result<Looked> {
        let old = File::open(log)?;
        let Counting { last, lines, at, end } = Counting::of(&old)?;
        if matches!(worth, Worth::Beyond(slack) if lines <= 2 * last.len() + slack) {
            return Ok(Looked::Enough(last.len()));
        }
        let drafts = Drafts::of(log);
        let new = create(&drafts.log)?;
        let (log, held) = (log.to_owned(), last.len());
        let mut copy =
            Self { log, drafts, old, new, copied: end, held, lines: held, indexed: 0, indexer };
        copy.write(last, at)?;
        copy.follow()?;
        copy.make_index()?;
        copy.follow()?;
        // Else putting it in its place would have to wait for it.
        copy.new.sync_data()?;
        Ok(Looked::Copied(copy))
    }

    /// Takes the old log's place. Nobody may add to that one any more.
    ///
    /// # Errors
    ///
    /// That of the disk; the old log is in its place then.
    pub(super) fn replace(mut self) -> io::Result<Replaced> {
        self.follow()?;
        let file = Added::to(self.new.try_clone()?)?;
        self.replace_log()?;
        self.replace_index();
        let Self { held, lines, indexed, indexer, .. } = self;
        Ok(Replaced { file, held, lines, unindexed: lines - indexed, indexer })
    }

    fn replace_log(&self) -> io::Result<()> {
        fs::rename(&self.drafts.log, &self.log)
    }

    /// An index of the former log is good for nothing.
    fn replace_index(&mut self) {
        let index = indexing::path_of(&self.log);
        if self.indexed == 0 || fs::rename(&self.drafts.index, &index).is_err() {
            self.indexed = 0;
            let _ = fs::remove_file(&index);
        }
    }

    fn write(&mut self, last: BTreeMap<OwnerKey, u64>, at: Wall) -> io::Result<()> {
        let mut places: Vec<u64> = last.into_values().collect();
        places.sort_unstable();
        let mut places = places.into_iter().peekable();
        let mut out = BufWriter::with_capacity(1 << 16, &self.new);
        let mut line = Vec::new();
        write_line(&mut line, &Line::Format(FORMAT));
        out.write_all(&line)?;
        let mut written = Ok(());
        each_line(&self.old, 0, |place, line| {
            if written.is_ok() && places.next_if_eq(&place).is_some() {
                written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
            }
        })?;
        written?;
        line.clear();
        write_line(&mut line, &Line::At(at));
        out.write_all(&line)?;
        out.flush()
    }

    /// Adds what was added to the old log since.
    fn follow(&mut self) -> io::Result<()> {
        let (mut added, mut lines) = (Vec::new(), 0);
        self.copied = each_line(&self.old, self.copied, |_, line| {
            lines += usize::from(lines::change(line).is_some());
            added.extend_from_slice(line);
            added.push(b'\n');
        })?;
        self.lines += lines;
        self.new.write_all(&added)
    }

    fn make_index(&mut self) -> io::Result<()> {
        let Some(indexer) = &self.indexer else { return Ok(()) };
        let new = File::open(&self.drafts.log)?;
        indexer.write(&new, &self.drafts.index)?.sync_data()?;
        self.indexed = self.lines;
        Ok(())
    }
}

/// Writes a log anew that nobody adds to.
///
/// # Errors
///
/// That of the disk.
pub(crate) fn shrink(log: &Path, indexer: Indexer) -> io::Result<()> {
    match Copy::make(log, Some(Arc::new(indexer)), Worth::Always)? {
        Looked::Enough(_) => Ok(()),
        Looked::Copied(copy) => copy.replace().map(drop),
    }
}

/// Takes away what somebody who was killed left of a copy.
pub(super) fn clear(log: &Path) {
    drop(Drafts::of(log));
}

/// Files that are taken away, wherever it ends.
#[derive(Debug)]
struct Drafts {
    log: PathBuf,
    index: PathBuf,
}

impl Drafts {
    fn of(log: &Path) -> Self {
        Self { log: log.with_extension("new"), index: indexing::draft_of(log) }
    }
}

impl Drop for Drafts {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.log);
        let _ = fs::remove_file(&self.index);
    }
}

/// A file of our own that is not there yet, to be added to.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let _ = fs::remove_file(path);
    OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)
}

/// Where the lines are that count.
#[derive(Debug, Default)]
struct Counting {
    last: BTreeMap<OwnerKey, u64>,
    lines: usize,
    /// When the last of all lines was written.
    at: Wall,
    /// Where that ends.
    end: u64,
}

impl Counting {
    fn of(log: &File) -> io::Result<Self> {
        let mut counting = Self::default();
        counting.end = each_line(log, 0, |place, line| match lines::change(line) {
            Some((key, held)) => {
                counting.lines += 1;
                match held {
                    Some(_) => counting.last.insert(key, place),
                    None => counting.last.remove(&key),
                };
            }
            None => counting.at = lines::time(line).unwrap_or_default().max(counting.at),
        })?;
        Ok(counting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Memory, Remembered};
    use super::*;
    use mizzen_dns_core::{Options, Seed};
    use mizzen_types::time::Mono;

    /// Where a process is killed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Killed {
        BeforeADraft,
        WithAnEmptyDraft,
        WithHalfADraft,
        WithoutIndex,
        WithHalfAnIndex,
        WhenItIsMade,
        AfterMoreChanges,
        BetweenTheFiles,
        WhenItIsThere,
    }

    const ALL: [Killed; 9] = [
        Killed::BeforeADraft,
        Killed::WithAnEmptyDraft,
        Killed::WithHalfADraft,
        Killed::WithoutIndex,
        Killed::WithHalfAnIndex,
        Killed::WhenItIsMade,
        Killed::AfterMoreChanges,
        Killed::BetweenTheFiles,
        Killed::WhenItIsThere,
    ];

    fn options() -> Options {
        Options { seed: Seed(3, 4), ..Options::default() }
    }

    fn vip(number: u8) -> (OwnerKey, Remembered) {
        let address = Remembered::Vip(vec![[11, 0, 0, number].into()]);
        (OwnerKey::Vip(format!("v{}.marathon", number % 20)), address)
    }

    fn memory(log: &Path) -> Memory {
        let mut memory = Memory::new(log.to_owned());
        memory.make_names_by(&options(), &"n0".into());
        memory
    }

    /// Adds changes as a daemon does.
    fn add(log: &Path, numbers: impl Iterator<Item = u8>) {
        let mut memory = Memory::new(log.to_owned());
        memory.load(Mono(0));
        for (key, held) in numbers.map(vip) {
            memory.push(&key, Some(&held), Mono(0));
        }
        memory.flush(Wall(1));
    }

    fn cut(path: &Path) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }

    /// Goes on until the process is killed; what it leaves is left.
    fn go_on(log: &Path, killed: Killed) {
        let indexer = Indexer::new(log.to_owned(), &options(), &"n0".into());
        indexer.extend().unwrap();
        let drafts = Drafts::of(log);
        let (log_draft, index_draft) = (drafts.log.clone(), drafts.index.clone());
        std::mem::forget(drafts);
        match killed {
            Killed::BeforeADraft => return,
            Killed::WithAnEmptyDraft => return drop(create(&log_draft).unwrap()),
            _ => {}
        }
        let made = Copy::make(log, Some(Arc::new(indexer)), Worth::Always).unwrap();
        let Looked::Copied(mut copy) = made else { panic!("{made:?}") };
        match killed {
            Killed::WithHalfADraft => {
                cut(&log_draft);
                fs::remove_file(&index_draft).unwrap();
            }
            Killed::WithoutIndex => fs::remove_file(&index_draft).unwrap(),
            Killed::WithHalfAnIndex => cut(&index_draft),
            Killed::AfterMoreChanges => add_beside(log),
            Killed::BetweenTheFiles => {
                add_beside(log);
                copy.follow().unwrap();
                copy.replace_log().unwrap();
            }
            Killed::WhenItIsThere => {
                add_beside(log);
                return drop(copy.replace().unwrap());
            }
            _ => {}
        }
        std::mem::forget(copy);
    }

    /// A change that comes while it shrinks. (A start would clear away the drafts.)
    fn add_beside(log: &Path) {
        let mut line = Vec::new();
        let (key, held) = vip(200);
        assert!(lines::push_line(&mut line, &key, Some(&held)));
        OpenOptions::new().append(true).open(log).unwrap().write_all(&line).unwrap();
    }

    #[test]
    fn whoever_is_killed_on_the_way_leaves_what_was_known() {
        for killed in ALL {
            let directory = tempfile::tempdir().unwrap();
            let log = directory.path().join("names.log");
            add(&log, 0..100);
            go_on(&log, killed);
            let has_more = ALL.iter().position(|one| *one == killed) >= Some(6);
            let numbers = (80..100).chain(has_more.then_some(200));
            let mut want: BTreeMap<OwnerKey, Remembered> = numbers.map(vip).collect();
            let index = memory(&log).open(&options(), &"n0".into());
            assert_eq!(index.is_some(), killed != Killed::BetweenTheFiles, "{killed:?}");
            assert_eq!(memory(&log).load(Mono(0)).held, want, "{killed:?}");
            for draft in ["names.new", "names.index.new"] {
                assert!(!directory.path().join(draft).exists(), "{killed:?} leaves {draft}");
            }
            add(&log, 101..103);
            shrink(&log, Indexer::new(log.clone(), &options(), &"n0".into())).unwrap();
            want.extend((101..103).map(vip));
            assert_eq!(memory(&log).load(Mono(0)).held, want, "{killed:?}, and once more");
            let index = memory(&log).open(&options(), &"n0".into()).expect("an index");
            assert_eq!(index.lines(), want.len(), "{killed:?}: no void line is left");
        }
    }
}
