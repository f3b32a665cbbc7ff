//! From what is remembered to records that are ready for the zones.

use super::name_memory::Remembered;
use mizzen_dns_core::{Options, OwnerKey, Prepared, Record, records_of, vip_records};
use mizzen_types::fact::Fact;
use mizzen_types::place::Places;
use mizzen_types::time::Wall;
use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Owners whose records are made ready at a time, and how many such batches wait to be put
/// into the zones.
const BATCH: usize = 64;
const BATCHES: usize = 4;

/// What records are made by.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    pub(crate) options: Options,
    pub(crate) places: Places,
}

impl Naming {
    /// The records of a fact or of a VIP; without one, none.
    ///
    /// * `heard` — when the fact's owner was last heard.
    pub(crate) fn prepare(
        &self,
        key: &OwnerKey,
        held: Option<&Remembered>,
        heard: Option<Wall>,
    ) -> Prepared {
        let records = held.map(|held| records(key, held, &self.options, &self.places));
        let since = match held {
            Some(Remembered::Fact(fact)) => since(fact, heard),
            _ => None,
        };
        Prepared::new(self.options.seed, key, &records.unwrap_or_default(), since)
    }
}

/// Makes all of it ready on a thread of its own, and gives it to `put` some at a time.
///
/// * `heard` — when a fact's owner was last heard.
pub(crate) fn each_prepared(
    naming: &Naming,
    all: &BTreeMap<OwnerKey, Remembered>,
    heard: impl Fn(&OwnerKey) -> Option<Wall> + Sync,
    put: impl FnMut(Vec<(&OwnerKey, Prepared)>),
) {
    let ((sender, prepared), heard) = (sync_channel(BATCHES), &heard);
    thread::scope(|scope| {
        scope.spawn(move || prepare(naming, all, heard, &sender));
        prepared.into_iter().for_each(put);
    });
}

fn prepare<'a>(
    naming: &Naming,
    all: &'a BTreeMap<OwnerKey, Remembered>,
    heard: &impl Fn(&OwnerKey) -> Option<Wall>,
    sender: &SyncSender<Vec<(&'a OwnerKey, Prepared)>>,
) {
    let mut all = all.iter().map(|(key, held)| (key, naming.prepare(key, Some(held), heard(key))));
    loop {
        let batch: Vec<_> = all.by_ref().take(BATCH).collect();
        if batch.is_empty() || sender.send(batch).is_err() {
            return;
        }
    }
}

/// Since when it is so: since the task's start, or since its owner was heard last.
pub(crate) fn since(fact: &Fact, heard: Option<Wall>) -> Option<Wall> {
    match fact {
        Fact::Task(task) => Some(task.launched),
        _ => heard,
    }
}

/// The records of a fact or of a VIP.
pub(crate) fn records(
    key: &OwnerKey,
    held: &Remembered,
    options: &Options,
    places: &Places,
) -> Vec<Record> {
    match (key, held) {
        (OwnerKey::Fact { owner, key }, Remembered::Fact(fact)) => {
            records_of(owner, key, fact, options, places)
        }
        (OwnerKey::Vip(name), Remembered::Vip(addresses)) => vip_records(name, addresses, options),
        _ => Vec::new(),
    }
}
