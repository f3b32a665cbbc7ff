//! Reads what a former process knew of names while it is answered from.
//!
//! A thread reads the whole file and fills the zones. Before it gets there, a name that is
//! asked for is found by the file's index, and what a few lines say of it is brought in first.
//! Both bring the same records, whichever comes first, and neither what the logs have spoken
//! of since the start.

use super::name_memory::{Contents, Index, Known, Remembered, Said, read};
use super::name_records::{Naming, each_prepared};
use mizzen_dns_core::OwnerKey;
use mizzen_dns_server::{SharedZones, Source};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::place::Places;
use mizzen_types::time::Wall;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use tracing::warn;

/// What is being read.
#[derive(Debug)]
pub(crate) struct Loading {
    thread: JoinHandle<Contents>,
    source: Arc<Lines>,
    learned: Vec<Said>,
    gone_of: Option<OwnerId>,
    lines: usize,
    at: Wall,
}

/// What was read, and what happened meanwhile.
pub(crate) struct Loaded {
    pub(crate) known: Known,
    /// What was said, in its order.
    pub(crate) learned: Vec<Said>,
    /// Whose facts are gone if he did not say them.
    pub(crate) gone_of: Option<OwnerId>,
}

/// Lines of the file, found by its index.
#[derive(Debug)]
pub(crate) struct Lines {
    index: Index,
    naming: Naming,
    spoken_of: Mutex<BTreeSet<OwnerKey>>,
    /// Whose records were brought in; nothing is any more once all is read.
    brought: Mutex<Option<BTreeSet<OwnerKey>>>,
    /// Something was not as it was written.
    broken: AtomicBool,
}

impl Loading {
    /// Begins: from now on `zones` answer. Returns also where the nodes were.
    ///
    /// * `loaded` — called when all is read.
    ///
    /// # Errors
    ///
    /// That of the disk; nothing has begun then.
    pub(crate) fn begin(
        path: PathBuf,
        index: Index,
        naming: Naming,
        zones: &Arc<SharedZones>,
        loaded: impl FnOnce() + Send + 'static,
    ) -> io::Result<(Self, Places)> {
        let (lines, at) = (index.lines(), index.at());
        let source = Arc::new(Lines::open(index, naming, zones)?);
        let places = source.naming.places.clone();
        zones.begin_filling(Arc::clone(&source) as Arc<dyn Source>);
        let (filled, lines_of) = (Filled(Arc::clone(zones)), Arc::clone(&source));
        let thread = thread::Builder::new().name("names".to_owned());
        let thread = thread.spawn(move || {
            let contents = lines_of.read_all(&path, &filled.0);
            drop(filled);
            loaded();
            contents
        })?;
        let (learned, gone_of) = (Vec::new(), None);
        Ok((Self { thread, source, learned, gone_of, lines, at }, places))
    }

    /// How many facts there are at most.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// When the last of them was written.
    pub(crate) fn as_of(&self) -> Wall {
        self.at
    }

    /// From now on an owner's records are none of our business.
    pub(crate) fn say(&self, owner: &OwnerKey) {
        self.source.say(owner);
    }

    /// Keeps for the end what was said.
    pub(crate) fn learn(&mut self, key: &OwnerKey, after: Option<&Remembered>) {
        self.learned.push((key.clone(), after.cloned()));
    }

    /// Keeps for the end that `own` has said all that it has to say.
    pub(crate) fn confirm_own(&mut self, own: &OwnerId) {
        self.gone_of = Some(own.clone());
    }

    /// Waits for the end.
    pub(crate) fn finish(self) -> Loaded {
        // Nothing is known of what a thread read that panicked.
        let contents = self.thread.join().unwrap_or_default();
        Loaded { known: contents.known, learned: self.learned, gone_of: self.gone_of }
    }
}

/// Tells those who wait for all names that they are there, also if something went wrong.
struct Filled(Arc<SharedZones>);

impl Drop for Filled {
    fn drop(&mut self) {
        self.0.end_filling();
    }
}

/// Fills zones with all that is known of those who count, with the nodes at their places.
pub(crate) fn fill(
    zones: &SharedZones,
    naming: &Naming,
    held: &BTreeMap<OwnerKey, Remembered>,
    counts: impl Fn(&OwnerKey) -> bool,
) {
    let places = places_of(naming.places.here(), held.iter());
    let naming = Naming { options: naming.options.clone(), places };
    each_prepared(
        &naming,
        held,
        |_| None,
        |batch| {
            zones.update(|zones| {
                let counting = batch.iter().filter(|(key, _)| counts(key));
                counting.for_each(|(_, prepared)| zones.fill(prepared));
            });
        },
    );
}

/// The nodes among this are at these places.
fn places_of<'a>(
    here: &OwnerId,
    held: impl Iterator<Item = (&'a OwnerKey, &'a Remembered)>,
) -> Places {
    let mut places = Places::new(here.clone());
    for (key, held) in held {
        if let (OwnerKey::Fact { owner, key: Key::Node }, Remembered::Fact(Fact::Node(node))) =
            (key, held)
        {
            places.apply(owner, Some(node));
        }
    }
    places
}

impl Lines {
    /// Places the nodes, and fills the zones with what all else depends on.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub(crate) fn open(index: Index, naming: Naming, zones: &SharedZones) -> io::Result<Self> {
        // The last line about one thing counts.
        let early: BTreeMap<OwnerKey, Option<Remembered>> = index.early()?.into_iter().collect();
        let held = early.iter().filter_map(|(key, held)| Some((key, held.as_ref()?)));
        let naming = Naming { places: places_of(naming.places.here(), held), ..naming };
        for (key, held) in &early {
            let prepared = naming.prepare(key, held.as_ref(), None);
            zones.update(|zones| zones.fill(&prepared));
        }
        let brought = Mutex::new(Some(early.into_keys().collect()));
        let (spoken_of, broken) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { index, naming, spoken_of, brought, broken })
    }

    /// Reads all and fills the zones, whatever the index said.
    pub(crate) fn read_all(&self, path: &Path, zones: &SharedZones) -> Contents {
        let contents = read(path).unwrap_or_else(|error| {
            warn!(path = %path.display(), %error, "cannot read what was known of names");
            Contents::default()
        });
        let held = &contents.known.held;
        let counts = |key: &OwnerKey| !lock(&self.spoken_of).contains(key);
        fill(zones, &self.naming, held, counts);
        let brought = lock(&self.brought).take().unwrap_or_default();
        for key in brought.iter().filter(|key| !held.contains_key(key)) {
            let nothing = self.naming.prepare(key, None, None);
            zones.update(|zones| {
                if counts(key) {
                    zones.fill(&nothing);
                }
            });
        }
        contents
    }

    /// From now on the logs say what is known of an owner.
    pub(crate) fn say(&self, owner: &OwnerKey) {
        lock(&self.spoken_of).insert(owner.clone());
    }

    /// Brings in all that is known of names, if the index is as it was written.
    pub(crate) fn bring_names(&self, zones: &SharedZones, names: &[u32]) -> bool {
        if self.broken.load(Ordering::Relaxed) {
            return false;
        }
        let brought = names.iter().try_for_each(|name| self.bring_name(zones, *name));
        if let Err(error) = &brought {
            warn!(%error, "names are answered when all are read");
            self.broken.store(true, Ordering::Relaxed);
        }
        brought.is_ok()
    }

    fn bring_name(&self, zones: &SharedZones, name: u32) -> io::Result<()> {
        for place in self.index.find(name)? {
            self.bring_line(zones, place)?;
        }
        // A name without records exists if there is one below it.
        for place in self.index.find(self.naming.options.seed.above(name))? {
            if self.bring_line(zones, place)? == Counts::Still {
                break;
            }
        }
        Ok(())
    }

    /// Brings in what is known of the owner of a line.
    fn bring_line(&self, zones: &SharedZones, place: u32) -> io::Result<Counts> {
        let (key, held) = self.index.change_at(place)?;
        if lock(&self.spoken_of).contains(&key) {
            return Ok(Counts::NoMore);
        }
        let (last, held) = self.last_of(&key, (place, held))?;
        let counts = if last == place && held.is_some() { Counts::Still } else { Counts::NoMore };
        // Held until they are in the zones: whoever has read all takes back what was wrong.
        let mut brought = lock(&self.brought);
        if !brought.as_mut().is_some_and(|brought| brought.insert(key.clone())) {
            return Ok(counts);
        }
        let prepared = self.naming.prepare(&key, held.as_ref(), None);
        zones.update(|zones| {
            if !lock(&self.spoken_of).contains(&key) {
                zones.fill(&prepared);
            }
        });
        Ok(counts)
    }

    /// The last line of the owner of `line`, and what it says.
    fn last_of(
        &self,
        key: &OwnerKey,
        line: (u32, Option<Remembered>),
    ) -> io::Result<(u32, Option<Remembered>)> {
        let places = self.index.find(self.naming.options.seed.owner(key))?;
        for place in places.into_iter().rev().take_while(|place| *place > line.0) {
            let (of, held) = self.index.change_at(place)?;
            if of == *key {
                return Ok((place, held));
            }
        }
        Ok(line)
    }
}

/// Whether a line is its owner's last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Still,
    NoMore,
}

impl Source for Lines {
    fn bring(&self, zones: &SharedZones, names: &[u32]) {
        if !self.bring_names(zones, names) {
            zones.wait_until_whole();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
