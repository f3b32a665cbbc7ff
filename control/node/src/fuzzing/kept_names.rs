//! What a node keeps of names, and the two ways in which a start reads it.

use crate::daemon::name_loading::{Lines, fill};
use crate::daemon::name_memory::{
    Indexer, Memory, Remembered, Stretch, change, entry, read, shrink,
};
use crate::daemon::name_records::{Naming, records};
use mizzen_dns_core::{Options, OwnerKey, Record, Seed, Zones};
use mizzen_dns_server::{SharedZones, Source};
use mizzen_types::fact::Key;
use mizzen_types::ids::OwnerId;
use mizzen_types::place::Places;
use mizzen_types::time::{Mono, Wall};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The log of a node and its index.
#[derive(Debug)]
pub struct KeptNames {
    log: PathBuf,
    options: Options,
    here: OwnerId,
}

/// What a start knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Known(crate::daemon::name_memory::Known);

/// A change of the log.
#[derive(Debug)]
pub struct Line {
    key: OwnerKey,
    held: Option<Remembered>,
}

/// A run of an index that says what it likes, with the right sums.
#[derive(Debug, Default)]
pub struct ForgedRun {
    /// Where its stretch of the log ends; it begins where the one before ends.
    pub to: u64,
    /// How many changes it counts.
    pub lines: u32,
    /// Places of early lines.
    pub early: Vec<u32>,
    /// Hashes, and the places that they lead to.
    pub entries: Vec<(u32, u32)>,
}

/// Zones that are filled by the index with what is asked for.
#[derive(Debug)]
pub struct ByIndex {
    /// They are answered from.
    pub zones: Arc<SharedZones>,
    log: PathBuf,
    lines: Arc<Lines>,
}

impl KeptNames {
    /// Those in `directory`.
    #[must_use]
    pub fn new(directory: &Path, seed: Seed) -> Self {
        let options = Options { seed, ..Options::default() };
        Self { log: directory.join("names.log"), options, here: "n0".into() }
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.log.with_extension("index")
    }

    /// Has the index follow the log.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub fn extend_index(&self) -> io::Result<()> {
        Indexer::new(self.log.clone(), &self.options, &self.here).extend()
    }

    /// An index of this log with these runs.
    ///
    /// # Errors
    ///
    /// That of the disk; a run cannot end behind the log.
    pub fn forge_index(&self, runs: &[ForgedRun]) -> io::Result<Vec<u8>> {
        let stretches = runs.iter().scan(0, |from, run| {
            let entries = run.entries.iter().map(|(hash, place)| entry(*hash, *place));
            let (lines, early) = (run.lines, run.early.clone());
            let stretch =
                Stretch { from: *from, to: run.to, lines, early, entries: entries.collect() };
            *from = run.to;
            Some(stretch)
        });
        let indexer = Indexer::new(self.log.clone(), &self.options, &self.here);
        indexer.to_bytes(&File::open(&self.log)?, stretches)
    }

    /// Starts: what is known from the log. It is put in order if it has to be.
    #[must_use]
    pub fn load(&self) -> Known {
        Known(self.memory().load(Mono(0)))
    }

    /// Writes the log anew without what is void, and its index.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub fn shrink(&self) -> io::Result<()> {
        shrink(&self.log, Indexer::new(self.log.clone(), &self.options, &self.here))
    }

    /// Starts, learns that a named VIP is there, and stops.
    pub fn learn_vip(&self, name: &str, wall: Wall) {
        let mut memory = self.memory();
        memory.load(Mono(0));
        let address = Remembered::Vip(vec![[11, 0, 0, 1].into()]);
        memory.push(&OwnerKey::Vip(name.to_owned()), Some(&address), Mono(0));
        memory.flush(wall);
    }

    /// Zones made from the log, without an index.
    #[must_use]
    pub fn by_log(&self) -> Arc<SharedZones> {
        let zones = self.zones();
        let known = read(&self.log).unwrap_or_default().known;
        fill(&zones, &self.naming(), &known.held, |_| true);
        zones
    }

    /// Zones that are made by the index; `None` if it cannot be relied on.
    #[must_use]
    pub fn by_index(&self) -> Option<ByIndex> {
        let index = self.memory().open(&self.options, &self.here)?;
        let zones = self.zones();
        let lines = Arc::new(Lines::open(index, self.naming(), &zones).ok()?);
        let log = self.log.clone();
        zones.begin_filling(Arc::new(Alone { log: log.clone(), lines: Arc::clone(&lines) }));
        Some(ByIndex { zones, log, lines })
    }

    /// The records of a line.
    #[must_use]
    pub fn records(&self, line: &Line) -> Vec<Record> {
        let places = Places::new(self.here.clone());
        let held = line.held.as_ref();
        held.map(|held| records(&line.key, held, &self.options, &places)).unwrap_or_default()
    }

    /// The hashes by which an index leads to a line.
    #[must_use]
    pub fn traces(&self, line: &Line) -> Vec<u32> {
        let prepared = self.naming().prepare(&line.key, line.held.as_ref(), None);
        let traces = Zones::new(&self.options).traces(&prepared);
        [traces.owner].into_iter().chain(traces.names).chain(traces.above).collect()
    }

    /// Says a change to zones, as a log does after the start. Their serial stays: where it is not known
    /// yet that something was so before, it counts as a change.
    pub fn say(&self, line: &Line, zones: &SharedZones) {
        let prepared = self.naming().prepare(&line.key, line.held.as_ref(), None);
        zones.update(|zones| {
            zones.put(&prepared);
            zones.begin_at(self.options.first_serial);
        });
    }

    fn zones(&self) -> Arc<SharedZones> {
        Arc::new(SharedZones::new(Zones::new(&self.options)))
    }

    fn naming(&self) -> Naming {
        Naming { options: self.options.clone(), places: Places::new(self.here.clone()) }
    }

    fn memory(&self) -> Memory {
        let mut memory = Memory::new(self.log.clone());
        memory.make_names_by(&self.options, &self.here);
        memory
    }
}

impl Line {
    /// Reads a line; `None` if it is no change.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        change(line).map(|(key, held)| Self { key, held })
    }

    /// Whether it says where a node is, on which records of others depend.
    #[must_use]
    pub fn places_a_node(&self) -> bool {
        matches!(self.key, OwnerKey::Fact { key: Key::Node, .. })
    }
}

impl ByIndex {
    /// What the index says of this owner counts no more.
    pub fn say(&self, line: &Line) {
        self.lines.say(&line.key);
    }

    /// Reads the whole log, as the thread does.
    pub fn read_all(&self) {
        if !self.zones.is_whole() {
            self.lines.read_all(&self.log, &self.zones);
            self.zones.end_filling();
        }
    }
}

/// An index beside which no thread reads all: it is read when the index is found damaged.
#[derive(Debug)]
struct Alone {
    log: PathBuf,
    lines: Arc<Lines>,
}

impl Source for Alone {
    fn bring(&self, zones: &SharedZones, names: &[u32]) {
        if !self.lines.bring_names(zones, names) {
            self.lines.read_all(&self.log, zones);
            zones.end_filling();
        }
    }
}
