//! The resolver's zones, kept in step with the owner logs.

use mizzen_dns_core::{
    Explained, Explanation, NameError, Options, OwnerKey, RecordType, Verdict, explain, records_of,
    vip_records,
};
use mizzen_dns_server::SharedZones;
use mizzen_membership::view::Change;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::place::{Moved, Places};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// What this node answers for, or nothing if the role is off.
pub(crate) struct Names {
    zones: Option<Arc<SharedZones>>,
    options: Options,
    places: Places,
}

impl Names {
    /// Names without a resolver: every change is forgotten.
    pub(crate) fn off() -> Self {
        Self { zones: None, options: Options::default(), places: Places::new(OwnerId::from("")) }
    }

    /// Names that the resolver of the node `here` serves from `zones`.
    pub(crate) fn new(zones: Arc<SharedZones>, options: Options, here: OwnerId) -> Self {
        Self { zones: Some(zones), options, places: Places::new(here) }
    }

    /// The zones, for the server.
    pub(crate) fn zones(&self) -> Option<Arc<SharedZones>> {
        self.zones.clone()
    }

    /// Follows one change of one fact. What is returned tells which other facts have to
    /// be [`set`](Self::set) again.
    pub(crate) fn apply(&mut self, change: &Change) -> Moved {
        let moved = self.place(&change.owner, &change.key, change.after.as_ref());
        self.set(&change.owner, &change.key, change.after.as_ref());
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
        let owner = OwnerKey::Fact { owner: owner.clone(), key: key.clone() };
        zones.update(|zones| zones.set(owner, records));
    }

    /// A named VIP has these addresses; none if nothing is behind it any more.
    pub(crate) fn set_vip(&self, name: &str, addresses: &[IpAddr]) {
        let Some(zones) = &self.zones else { return };
        let (owner, records) =
            (OwnerKey::Vip(name.to_owned()), vip_records(name, addresses, &self.options));
        zones.update(|zones| match records.is_empty() {
            true => zones.remove(&owner),
            false => zones.set(owner, records),
        });
    }

    /// What a name means, for people; `None` without a resolver.
    pub(crate) fn explain(
        &self,
        name: &str,
        kind: Option<RecordType>,
    ) -> Option<Result<Value, NameError>> {
        let zones = self.zones.as_ref()?;
        let explained = zones.read(|zones| explain(zones, name, kind));
        Some(explained.map(|explanation| document(&explanation, kind)))
    }

    /// The zones' serial and how many records they hold.
    pub(crate) fn size(&self) -> Option<(u32, usize)> {
        let zones = self.zones.as_ref()?;
        Some(zones.read(|zones| (zones.serial(), zones.records())))
    }
}

fn document(explanation: &Explanation, kind: Option<RecordType>) -> Value {
    let rcode = match explanation.verdict {
        Verdict::Found | Verdict::NoData => "NOERROR",
        Verdict::NxDomain => "NXDOMAIN",
        Verdict::Forward => "FORWARDED",
    };
    let owner = explanation.stands_for.as_ref().unwrap_or(&explanation.name);
    let (served, left_out): (Vec<&Explained>, Vec<&Explained>) =
        explanation.records.iter().partition(|record| record.withheld.is_none());
    let answer = |record: &&Explained| {
        json!({
            "name": owner,
            "type": record.kind,
            "ttl": record.ttl,
            "data": record.data,
            "source": record.sources.join(", "),
        })
    };
    let omission = |record: &&Explained| {
        json!({
            "type": record.kind,
            "data": record.data,
            "why": record.withheld.as_ref().map(ToString::to_string),
            "source": record.sources.join(", "),
        })
    };
    json!({
        "name": explanation.name,
        "type": kind.map_or_else(|| "ANY".to_owned(), |kind| kind.to_string()),
        "rcode": rcode,
        "zone": explanation.zone,
        "serial": explanation.serial,
        "answers": served.iter().map(answer).collect::<Value>(),
        "left_out": left_out.iter().map(omission).collect::<Value>(),
    })
}
