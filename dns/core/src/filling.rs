//! Zones that are answered from while they are filled.
//!
//! What a former process knew is brought in as it is asked for, and all of it by and by.
//! Until then a name that is looked for before it was seen to is noted, whoever looks and by
//! whatever road. An answer that left a note does not count: what is known of the noted
//! names is found by their [`Traces`] and brought in, and the question is answered again.

use crate::hash::{self, Seed};
use crate::owner::OwnerKey;
use crate::prepared::Prepared;
use crate::store::names::parent;
use crate::zone::Zones;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Keep hashes of owners, and of names that others are below, apart from those of names.
const OWNER: u64 = 0x7472_6163_6573;
const ABOVE: u64 = 0x0061_626f_7665;

/// By which hashes an owner's records are found where they were written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// Of the owner.
    pub owner: u32,
    /// Of the names that it says something about.
    pub names: Vec<u32>,
    /// Of the names above those that no zone has from the start: they exist because of it.
    pub above: Vec<u32>,
}

/// Names that were looked for before they were seen to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Option<Arc<Mutex<Noted>>>);

#[derive(Debug, Default)]
struct Noted {
    /// All that is known of them is in the zones.
    complete: BTreeSet<u32>,
    wanted: BTreeSet<u32>,
}

impl Notes {
    /// Whether there is anything to note.
    #[inline]
    pub(crate) fn are_taken(&self) -> bool {
        self.0.is_some()
    }

    /// Somebody looks for a name.
    #[inline]
    pub(crate) fn note(&self, name: u32) {
        if let Some(noted) = &self.0 {
            write(noted, name);
        }
    }
}

#[cold]
fn write(noted: &Mutex<Noted>, name: u32) {
    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
    if !noted.complete.contains(&name) {
        noted.wanted.insert(name);
    }
}

impl Zones {
    /// From now on names that are looked for are noted.
    pub fn begin_filling(&mut self) {
        self.store_mut().notes_mut().0 = Some(Arc::default());
    }

    /// All is there.
    pub fn end_filling(&mut self) {
        self.store_mut().notes_mut().0 = None;
    }

    /// The hashes of the names that were looked for and not seen to; it is for the caller to
    /// bring in all that is known of them.
    #[must_use]
    pub fn take_wanted(&self) -> Vec<u32> {
        let Some(noted) = &self.store().notes().0 else { return Vec::new() };
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut noted.wanted).into_iter().collect()
    }

    /// All that is known of these names was brought in.
    pub fn complete(&self, names: &[u32]) {
        if let Some(noted) = &self.store().notes().0 {
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.complete.extend(names);
        }
    }

    /// By what an owner's records are found again. These are zones with nothing in them but
    /// what every node has, of the key by which the records were made ready.
    #[must_use]
    pub fn traces(&self, prepared: &Prepared) -> Traces {
        let seed = self.seed();
        let (mut names, mut above) = (Vec::new(), BTreeSet::new());
        for parcel in prepared.delivery.parcels() {
            names.push(parcel.hash());
            let mut rest = parent(parcel.name());
            while let Some(name) = rest {
                let hash = hash::short(hash::hash(seed, name));
                if self.store().find(name).is_some() || !above.insert(hash) {
                    break;
                }
                rest = parent(name);
            }
        }
        let above = above.into_iter().map(|name| seed.above(name)).collect();
        Traces { owner: hash::short(hash::exact(seed, OWNER, &prepared.key)), names, above }
    }
}

impl Seed {
    /// The trace of an owner.
    #[must_use]
    pub fn owner(self, key: &OwnerKey) -> u32 {
        hash::short(hash::exact(self, OWNER, &key.to_bytes()))
    }

    /// The trace of what exists because others are below it, from the hash of its name.
    #[must_use]
    pub fn above(self, name: u32) -> u32 {
        hash::short(hash::exact(self, ABOVE, &name.to_le_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::DnsName;
    use crate::options::Options;
    use crate::record::{Data, Record};

    fn prepared(owner: &str, names: &[&str]) -> Prepared {
        let record = |name: &&str| {
            let name = DnsName::parse(name).expect("a name");
            Record::new(name, 5, Data::A([10, 0, 0, 1].into()))
        };
        let records: Vec<Record> = names.iter().map(record).collect();
        Prepared::new(Seed::default(), &OwnerKey::Static(owner.into()), &records, None)
    }

    fn hash_of(name: &str) -> u32 {
        let name = DnsName::parse(name).expect("a name");
        hash::short(hash::hash(Seed::default(), &name.to_bytes()))
    }

    #[test]
    fn traces_lead_to_names_and_to_what_is_above_them() {
        let zones = Zones::new(&Options::default());
        let traces = zones.traces(&prepared("o", &["a.b.c.mesos", "d.c.mesos", "mesos"]));
        let mut names = traces.names.clone();
        names.sort_unstable();
        let mut want = ["a.b.c.mesos", "d.c.mesos", "mesos"].map(hash_of);
        want.sort_unstable();
        assert_eq!(names, want);
        let mut above = traces.above.clone();
        above.sort_unstable();
        let mut want = ["b.c.mesos", "c.mesos"].map(|name| Seed::default().above(hash_of(name)));
        want.sort_unstable();
        assert_eq!(above, want, "`mesos` is there anyway");
        let other = zones.traces(&prepared("p", &["a.b.c.mesos"]));
        assert_ne!(other.owner, traces.owner);
    }

    #[test]
    fn what_is_looked_for_is_noted_until_all_is_there() {
        let mut zones = Zones::new(&Options::default());
        let name = DnsName::parse("web.m.mesos").expect("a name");
        assert!(zones.node(&name).is_none() && zones.take_wanted().is_empty());
        zones.begin_filling();
        let serial = zones.serial();
        assert!(zones.node(&name).is_none());
        assert_eq!(zones.take_wanted(), [hash_of("web.m.mesos")]);
        assert!(zones.take_wanted().is_empty());
        zones.fill(&prepared("web", &["web.m.mesos"]));
        assert_eq!(zones.serial(), serial, "it was so before");
        zones.complete(&[hash_of("web.m.mesos")]);
        let _ = zones.take_wanted();
        assert!(zones.node(&name).is_some() && zones.take_wanted().is_empty());
        assert!(zones.zone_holding(&DnsName::parse("x.example").expect("a name")).is_none());
        assert_eq!(zones.take_wanted(), [hash_of("x.example")], "it may be a zone of its own");
        zones.end_filling();
        assert!(zones.node(&DnsName::root()).is_none() && zones.take_wanted().is_empty());
    }
}
