//! The resolver's zones, kept in step with the owner logs.
//!
//! What the logs say is also written to a file, so that the next process answers at once
//! with what this one knew. That is marked stale until a log confirms or contradicts it,
//! and is dropped after a while if none does.

use super::explained::{Hosts, document, explained};
use super::name_loading::{Loaded, Loading};
use super::name_memory::{Memory, Remembered};
use super::name_records::{Naming, each_prepared, since};
use mizzen_dns_core::{
    NameError, Options, OwnerKey, RecordType, Withheld, records_of, vip_records,
};
use mizzen_dns_server::SharedZones;
use mizzen_membership::view::Change;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::place::{Moved, Places};
use mizzen_types::time::{Mono, Wall};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// What no log has spoken of for so long after a start is dropped: agents have as long to
/// come back.
const BOUND: Duration = Duration::from_secs(600);

/// What this node answers for, or nothing if the role is off.
pub(crate) struct Names {
    zones: Option<Arc<SharedZones>>,
    options: Options,
    places: Places,
    memory: Memory,
    /// What a former process knew and no log has spoken of yet.
    stale: BTreeMap<OwnerKey, Remembered>,
    /// When that was last so.
    as_of: Wall,
    /// When what is still stale is dropped.
    drop_at: Option<Mono>,
    /// When each owner was last heard.
    heard: BTreeMap<OwnerId, Wall>,
    /// While what a former process knew is read.
    loading: Option<Loading>,
}

/// Whether what the zones hold is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// How many facts are not.
    pub(crate) stale: usize,
    /// How old the oldest of them may be, in seconds.
    pub(crate) age_seconds: u64,
}

impl Names {
    /// Names without a resolver: every change is forgotten.
    pub(crate) fn off() -> Self {
        Self {
            zones: None,
            options: Options::default(),
            places: Places::new(OwnerId::from("")),
            memory: Memory::default(),
            stale: BTreeMap::new(),
            as_of: Wall::default(),
            drop_at: None,
            heard: BTreeMap::new(),
            loading: None,
        }
    }

    /// Names that the resolver of the node `here` serves from `zones`.
    pub(crate) fn new(
        zones: Arc<SharedZones>,
        options: Options,
        here: OwnerId,
        mut memory: Memory,
    ) -> Self {
        memory.make_names_by(&options, &here);
        Self { zones: Some(zones), options, places: Places::new(here), memory, ..Self::off() }
    }

    /// Answers with what a former process knew from now on, and fills the zones with it: by
    /// and by, if its index says where to find what is asked for meanwhile. Returns whether it
    /// knew anything.
    ///
    /// * `loaded` — told when it is time for [`Self::finish_loading`].
    pub(crate) fn remember(&mut self, now: Mono, loaded: impl FnOnce() + Send + 'static) -> bool {
        let Some(zones) = self.zones.clone() else { return false };
        if let Some(index) = self.memory.open(&self.options, self.places.here()) {
            let naming = Naming { options: self.options.clone(), places: self.places.clone() };
            let path = self.memory.path().unwrap_or_else(|| Path::new("")).to_owned();
            match Loading::begin(path, index, naming, &zones, loaded) {
                Ok((loading, places)) => {
                    self.as_of = loading.as_of();
                    (self.places, self.loading) = (places, Some(loading));
                    self.drop_at = Some(now + BOUND);
                    return true;
                }
                Err(error) => warn!(%error, "the index of names is not used"),
            }
        }
        let known = self.memory.load(now);
        (self.stale, self.as_of) = (known.held, known.at);
        self.serve_stale();
        self.begin();
        if !self.stale.is_empty() {
            info!(facts = self.stale.len(), "answers come from what was known before");
            self.drop_at = Some(now + BOUND);
        }
        !self.stale.is_empty()
    }

    /// Whether what a former process knew is still read.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Waits until all that a former process knew is in the zones.
    pub(crate) fn finish_loading(&mut self, now: Mono) {
        let Some(loading) = self.loading.take() else { return };
        let Loaded { known, learned, gone_of } = loading.finish();
        (self.stale, self.as_of) = (known.held, known.at);
        self.memory.note_held(self.stale.len());
        info!(facts = self.stale.len(), "answers come from what was known before");
        for (key, after) in learned {
            self.learn(&key, after.as_ref(), now);
        }
        if let Some(own) = gone_of {
            self.confirm_own(&own);
        }
    }

    /// All that is known so far was said before anybody saw the zones: it is one change.
    pub(crate) fn begin(&self) {
        if let Some(zones) = &self.zones {
            zones.update(|zones| zones.begin_at(self.options.first_serial));
        }
    }

    /// Takes other zones and options in the place of those before; the caller fills them.
    pub(crate) fn replace(&mut self, zones: Arc<SharedZones>, options: Options) {
        self.memory.make_names_by(&options, self.places.here());
        (self.zones, self.options) = (Some(zones), options);
        self.serve_stale();
    }

    /// Serves from zones that hold the same as those before.
    pub(crate) fn serve_from(&mut self, zones: Arc<SharedZones>) {
        self.zones = Some(zones);
    }

    /// All that this node itself says has been said: what is not confirmed by now is gone.
    pub(crate) fn confirm_own(&mut self, own: &OwnerId) {
        if let Some(loading) = &mut self.loading {
            return loading.confirm_own(own);
        }
        let others = self.stale.keys().any(|key| !is_of(key, own) && !is_vip(key));
        let gone: Vec<OwnerKey> = self
            .stale
            .keys()
            .filter(|key| is_of(key, own) || (is_vip(key) && !others))
            .cloned()
            .collect();
        self.forget(gone);
    }

    /// When something is to be done.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.drop_at.into_iter().chain(self.memory.deadline()).min()
    }

    /// Writes what is new, and drops what nobody confirmed.
    pub(crate) fn handle_timeout(&mut self, now: Mono, wall: Wall) {
        if self.drop_at.is_some_and(|at| at <= now) {
            self.drop_at = None;
            let gone: Vec<OwnerKey> = self.stale.keys().cloned().collect();
            if !gone.is_empty() {
                warn!(facts = gone.len(), "dropped what nobody has confirmed");
            }
            self.forget(gone);
        }
        self.memory.handle_timeout(now, wall);
    }

    /// Writes what is new, now.
    pub(crate) fn save(&mut self, wall: Wall) {
        self.memory.flush(wall);
    }

    /// Whether all that is served is confirmed.
    pub(crate) fn standing(&self, now: Wall) -> Standing {
        let age = now.0.saturating_sub(self.as_of.0) / 1_000_000_000;
        let loading = self.loading.as_ref().map_or(0, Loading::lines);
        let stale = self.stale.len() + loading;
        Standing { stale, age_seconds: if stale == 0 { 0 } else { age } }
    }

    /// Whose facts nobody has confirmed, in order.
    pub(crate) fn stale_owners(&self) -> impl Iterator<Item = &OwnerId> {
        let mut last = None;
        let owners = self.stale.keys().filter_map(|key| match key {
            OwnerKey::Fact { owner, .. } => Some(owner),
            _ => None,
        });
        owners.filter(move |owner| last.replace(*owner) != Some(*owner))
    }

    /// The facts of one owner that nobody has confirmed, from a key on.
    pub(crate) fn stale_from<'a>(
        &'a self,
        owner: &'a OwnerId,
        from: &Key,
    ) -> impl Iterator<Item = (&'a Key, &'a Fact)> {
        let start = OwnerKey::Fact { owner: owner.clone(), key: from.clone() };
        self.stale.range(start..).map_while(move |held| match held {
            (OwnerKey::Fact { owner: of, key }, Remembered::Fact(fact)) if of == owner => {
                Some((key, fact))
            }
            _ => None,
        })
    }

    /// When each owner was last heard.
    pub(crate) fn heard(&self) -> &BTreeMap<OwnerId, Wall> {
        &self.heard
    }

    /// The zones, for the server.
    pub(crate) fn zones(&self) -> Option<Arc<SharedZones>> {
        self.zones.clone()
    }

    /// What the records are made by.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Where the nodes are.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Follows one change of one fact. What is returned tells which other facts have to
    /// be [`set`](Self::set) again.
    pub(crate) fn apply(&mut self, change: &Change, now: (Mono, Wall)) -> Moved {
        if self.zones.is_none() {
            return Moved::Nothing;
        }
        let moved = self.place(&change.owner, &change.key, change.after.as_ref());
        self.heard.insert(change.owner.clone(), now.1);
        let key = OwnerKey::Fact { owner: change.owner.clone(), key: change.key.clone() };
        self.set(&change.owner, &change.key, change.after.as_ref());
        let after = change.after.clone().map(Remembered::Fact);
        self.learn(&key, after.as_ref(), now.0);
        moved
    }

    /// Takes in where a node is, if that is what the fact is about.
    pub(crate) fn place(&mut self, owner: &OwnerId, key: &Key, fact: Option<&Fact>) -> Moved {
        match (key, fact, &self.zones) {
            (Key::Node, Some(Fact::Node(node)), Some(_)) => self.places.apply(owner, Some(node)),
            (Key::Node, None, Some(_)) => self.places.apply(owner, None),
            _ => Moved::Nothing,
        }
    }

    /// Names what a fact is about, or forgets it.
    pub(crate) fn set(&self, owner: &OwnerId, key: &Key, fact: Option<&Fact>) {
        let Some(zones) = &self.zones else { return };
        let named = |fact| records_of(owner, key, fact, &self.options, &self.places);
        let records = fact.map(named).unwrap_or_default();
        let since = fact.and_then(|fact| since(fact, self.heard.get(owner).copied()));
        let owner = OwnerKey::Fact { owner: owner.clone(), key: key.clone() };
        self.say(&owner);
        if records.iter().any(|record| record.withheld == Some(Withheld::CrowdedOut)) {
            warn!(%owner, "it has too many ports: the records of those beyond are left out");
        }
        zones.update(|zones| zones.set_since(&owner, &records, since));
    }

    /// A named VIP has these addresses; none if nothing is behind it any more.
    pub(crate) fn set_vip(&mut self, name: &str, addresses: &[IpAddr], now: Mono) {
        self.show_vip(name, addresses);
        let after = (!addresses.is_empty()).then(|| Remembered::Vip(addresses.to_vec()));
        self.learn(&OwnerKey::Vip(name.to_owned()), after.as_ref(), now);
    }

    /// Fills new zones with a VIP that is known already.
    pub(crate) fn show_vip(&self, name: &str, addresses: &[IpAddr]) {
        let Some(zones) = &self.zones else { return };
        let (owner, records) =
            (OwnerKey::Vip(name.to_owned()), vip_records(name, addresses, &self.options));
        self.say(&owner);
        zones.update(|zones| match records.is_empty() {
            true => zones.remove(&owner),
            false => zones.set(owner, records),
        });
    }

    /// What a former process knew of an owner counts no more.
    fn say(&self, owner: &OwnerKey) {
        if let Some(loading) = &self.loading {
            loading.say(owner);
        }
    }

    /// Something was said: it is stale no more, and remembered unless it was already.
    fn learn(&mut self, key: &OwnerKey, after: Option<&Remembered>, now: Mono) {
        if let Some(loading) = &mut self.loading {
            return loading.learn(key, after);
        }
        let before = self.stale.remove(key);
        if before.as_ref() != after || before.is_none() {
            self.memory.push(key, after, now);
        }
    }

    /// Fills zones that nobody has seen yet with what a former process knew.
    fn serve_stale(&mut self) {
        let Some(zones) = self.zones.clone() else { return };
        let stale = std::mem::take(&mut self.stale);
        for (key, held) in &stale {
            if let (OwnerKey::Fact { owner, key }, Remembered::Fact(fact)) = (key, held) {
                self.place(owner, key, Some(fact));
            }
        }
        let naming = Naming { options: self.options.clone(), places: self.places.clone() };
        let heard = |key: &OwnerKey| match key {
            OwnerKey::Fact { owner, .. } => self.heard.get(owner).copied(),
            _ => None,
        };
        each_prepared(&naming, &stale, heard, |batch| {
            zones.update(|zones| batch.iter().for_each(|(_, prepared)| zones.fill(prepared)));
        });
        self.stale = stale;
    }

    /// Drops what a former process knew of these owners.
    pub(crate) fn forget_of(&mut self, owners: &BTreeSet<OwnerId>) {
        let is_theirs =
            |key: &&OwnerKey| matches!(key, OwnerKey::Fact { owner, .. } if owners.contains(owner));
        let gone: Vec<OwnerKey> = self.stale.keys().filter(is_theirs).cloned().collect();
        if !gone.is_empty() {
            info!(facts = gone.len(), "dropped what nodes said that are not here any more");
        }
        self.forget(gone);
    }

    fn forget(&mut self, keys: Vec<OwnerKey>) {
        let Some(zones) = self.zones.clone() else { return };
        for key in keys {
            self.stale.remove(&key);
            // What is forgotten now need not be written: it is not confirmed then, either.
            zones.update(|zones| zones.remove(&key));
        }
    }

    /// What a name means, for people; `None` without a resolver.
    pub(crate) fn explain(
        &self,
        name: &str,
        kind: Option<RecordType>,
        hosts: &Hosts,
        now: Wall,
    ) -> Option<Result<Value, NameError>> {
        let zones = self.zones.as_ref()?;
        let explained = zones.read(|zones| explained(zones, name, kind, now));
        let stale = self.stale.keys().map(ToString::to_string).collect();
        Some(explained.map(|chain| document(&chain, kind, now, (&stale, hosts))))
    }

    /// The zones' serial and how many records they hold.
    pub(crate) fn size(&self) -> Option<(u32, usize)> {
        let zones = self.zones.as_ref()?;
        Some(zones.read(|zones| (zones.serial(), zones.records())))
    }
}

fn is_of(key: &OwnerKey, own: &OwnerId) -> bool {
    matches!(key, OwnerKey::Fact { owner, .. } if owner == own)
}

fn is_vip(key: &OwnerKey) -> bool {
    matches!(key, OwnerKey::Vip(_))
}
