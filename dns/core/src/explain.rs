//! An answer for people: what is there, whose it is, and what was left out and why.
//!
//! Whose a name is, how long and why not is also the answer to a question for TXT records.

use crate::name::{DnsName, NameError};
use crate::options::Mode;
use crate::owner::OwnerKey;
use crate::record::{Data, Withheld};
use crate::store::claim::Claim;
use crate::store::node::{CNAME, Node, TXT};
use crate::zone::{Zones, is_alias};
use hickory_proto::rr::RecordType;
use mizzen_types::fact::Key;
use mizzen_types::time::Wall;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How long a client may keep a text that has an age in it, in seconds.
pub(crate) const TEXT_TTL: u32 = 0;
/// Longest text of a TXT record, in bytes.
const MAX_TEXT: usize = 255;
/// How many owners are told about by TXT records.
const MAX_OWNERS: usize = 256;

/// What the resolver knows about a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The name that was asked for.
    pub name: String,
    /// The name that the zones hold, where another form was asked for.
    pub stands_for: Option<String>,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// Serial number of the zones.
    pub serial: u32,
    /// In a word.
    pub verdict: Verdict,
    /// Its records, the served ones first.
    pub records: Vec<Explained>,
}

/// What a question for the name would get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Records.
    Found,
    /// The name exists without records of this type.
    NoData,
    /// There is no such name.
    NxDomain,
    /// It is forwarded: the name is in no zone of this node.
    Forward,
}

/// A record with its sources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Explained {
    /// Why it is not answered, if it is not.
    pub withheld: Option<Withheld>,
    /// Type, as zone files write it.
    pub kind: String,
    /// Data, as zone files write it.
    pub data: String,
    /// How long a client may keep it, in seconds.
    pub ttl: u32,
    /// Who brings it.
    pub sources: Vec<String>,
    /// Since when somebody has brought it, if that is known.
    pub since: Option<Wall>,
}

/// Explains what is known about `name`, of one type or of all.
///
/// * `now` — what ages in the texts of TXT records are counted to.
///
/// # Errors
///
/// [`NameError`] if `name` is none.
pub fn explain(
    zones: &Zones,
    name: &str,
    kind: Option<RecordType>,
    now: Wall,
) -> Result<Explanation, NameError> {
    let asked = DnsName::parse(name)?;
    let kind = kind.filter(|kind| *kind != RecordType::ANY);
    let place = zones.locate(&asked);
    let mut explanation = Explanation {
        name: asked.to_string(),
        stands_for: None,
        zone: place.as_ref().map(|place| place.apex.to_string()),
        serial: zones.serial(),
        verdict: Verdict::Forward,
        records: Vec::new(),
    };
    let Some(place) = place else { return Ok(explanation) };
    explanation.stands_for = (place.name != asked).then(|| place.name.to_string());
    let node = zones.node(&place.name);
    explanation.records = match node {
        Some(node) => sources(zones, node, kind),
        None => crowded_out(zones, &place.name),
    };
    if let (Some(RecordType::TXT), Some(node)) = (kind, node) {
        explanation.records.extend(explained_texts(zones, node, now));
    }
    let found = explanation.records.iter().any(|record| record.withheld.is_none());
    explanation.verdict = match (found, node) {
        (true, _) => Verdict::Found,
        (false, Some(_)) => Verdict::NoData,
        (false, None) => Verdict::NxDomain,
    };
    Ok(explanation)
}

/// One text about a name.
#[derive(Debug)]
pub(crate) struct Told {
    owner: OwnerKey,
    since: Option<Wall>,
    /// At most 255 bytes.
    pub(crate) text: Vec<u8>,
}

/// What a name's TXT records say where nobody has set any: for every owner who it is, how
/// long it has brought what it brings, and why that is left out if it is.
///
/// A name that was set by hand has what was set and nothing else, and an alias stands for
/// another name's texts; in legacy mode nothing is told.
pub(crate) fn told(zones: &Zones, node: Node<'_>, now: Wall) -> Vec<Told> {
    if zones.mode() == Mode::Legacy || node.set(TXT).is_some() || is_alias(node) {
        return Vec::new();
    }
    let (mut owners, mut more) = (BTreeSet::new(), false);
    node.claims(|_, _, claim| {
        let owner = (claim.withheld, claim.owner);
        match owners.len() < MAX_OWNERS {
            true => drop(owners.insert(owner)),
            false => more |= !owners.contains(&owner),
        }
    });
    let all = owners.into_iter();
    let mut told: Vec<Told> = all.filter_map(|(why, owner)| tell(zones, owner, why, now)).collect();
    if more && !told.is_empty() {
        let text = format!("there are more than {MAX_OWNERS}; `mizzen dns NAME` tells all of them");
        told.push(Told { owner: OwnerKey::built_in(), since: None, text: text.into_bytes() });
    }
    told
}

/// One owner in words; `None` for what every node has and for what was set by hand.
fn tell(zones: &Zones, owner: u32, withheld: Option<Withheld>, now: Wall) -> Option<Told> {
    let owner = zones.owner(owner)?;
    let by_hand = |key: &OwnerKey| matches!(key, OwnerKey::Fact { key: Key::DnsRecord(..), .. });
    let key = OwnerKey::from_bytes(owner.key())
        .filter(|key| *key != OwnerKey::built_in() && !by_hand(key))?;
    let mut text = key.to_string();
    if let Some(since) = owner.since() {
        let age = now.0.saturating_sub(since.0) / 1_000_000_000;
        text += &format!(", for {age} s");
    }
    if let Some(reason) = withheld {
        text += &format!(", left out: {reason}");
    }
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    Some(Told { owner: key, since: owner.since(), text: text.into_bytes() })
}

/// The same as records of an explanation.
fn explained_texts(zones: &Zones, node: Node<'_>, now: Wall) -> Vec<Explained> {
    let record = |told: Told| Explained {
        withheld: None,
        kind: RecordType::TXT.to_string(),
        data: Data::Txt(vec![told.text]).to_string(),
        ttl: TEXT_TTL,
        sources: vec![told.owner.to_string()],
        since: told.since,
    };
    told(zones, node, now).into_iter().map(record).collect()
}

/// Ports of a task that has more than are kept have no names, not even withheld ones: what is
/// withheld at the task's own name says why a name below it is not there.
fn crowded_out(zones: &Zones, name: &DnsName) -> Vec<Explained> {
    let above = name.lineage().nth(1).and_then(|above| DnsName::parse(above).ok());
    let node = above.and_then(|above| zones.node(&above));
    let mut records = node.map(|node| sources(zones, node, None)).unwrap_or_default();
    records.retain(|record| record.withheld == Some(Withheld::CrowdedOut));
    records
}

/// All records of a name, each once with everybody who brings it. A CNAME record is an
/// answer to any type.
fn sources(zones: &Zones, node: Node<'_>, wanted: Option<RecordType>) -> Vec<Explained> {
    let wanted = wanted.map(u16::from);
    let mut found: BTreeMap<_, (Vec<String>, Option<Wall>)> = BTreeMap::new();
    node.claims(|kind, data, Claim { owner, withheld, ttl, .. }| {
        if wanted.is_some_and(|wanted| kind != wanted && kind != CNAME) {
            return;
        }
        // What is served has one TTL.
        let served = withheld.is_none().then(|| node.set(kind)).flatten();
        let ttl = served.map_or(ttl, |set| set.ttl());
        let (names, since) =
            found.entry((withheld, Data::from_bytes(kind, data), ttl)).or_default();
        let Some(owner) = zones.owner(owner) else { return };
        names.extend(OwnerKey::from_bytes(owner.key()).map(|key| key.to_string()));
        *since = [*since, owner.since()].into_iter().flatten().min();
    });
    let explained = found.into_iter().map(|((withheld, data, ttl), (mut sources, since))| {
        sources.sort();
        let (kind, data) = (data.kind().to_string(), data.to_string());
        Explained { withheld, kind, data, ttl, sources, since }
    });
    explained.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::task::task_records;
    use crate::task::tests::{port, task};
    use mizzen_types::fact::TaskPhase;
    use mizzen_types::vip::Distance;

    fn zones() -> Zones {
        let mut zones = Zones::new(&Options::default());
        for (id, phase) in [
            ("web.1", TaskPhase::Running),
            ("web.2", TaskPhase::Running),
            ("web.3", TaskPhase::Killing),
        ] {
            let mut fact = task(id, "web");
            fact.phase = phase;
            let key = Key::Task(fact.framework_id.clone(), fact.task_id.clone());
            let records = task_records(&fact, &Options::default(), Distance::Far);
            zones.set(OwnerKey::Fact { owner: "n1".into(), key }, records);
        }
        zones
    }

    #[test]
    fn sources_and_what_was_left_out_are_told() {
        let zones = zones();
        let got =
            explain(&zones, "Web.Marathon.mesos.thisdcos.directory", Some(RecordType::A), Wall(0));
        let source = |task: u8| format!("task web.{task} of framework m-0001 on node n1");
        let record = |withheld, ttl, sources| Explained {
            withheld,
            kind: "A".into(),
            data: "10.0.0.2".into(),
            ttl,
            sources,
            since: None,
        };
        let want = Explanation {
            name: "web.marathon.mesos.thisdcos.directory.".into(),
            stands_for: Some("web.marathon.mesos.".into()),
            zone: Some("mesos.".into()),
            serial: zones.serial(),
            verdict: Verdict::Found,
            records: vec![
                record(None, 1, vec![source(1), source(2)]),
                record(Some(Withheld::Killing), 5, vec![source(3)]),
            ],
        };
        assert_eq!(got, Ok(want));
    }

    #[test]
    fn verdicts_are_those_of_an_answer() {
        let mut zones = zones();
        for task in ["web.1", "web.2"] {
            let key = Key::Task("m-0001".into(), task.into());
            zones.remove(&OwnerKey::Fact { owner: "n1".into(), key });
        }
        #[rustfmt::skip]
        let table = [
            ("web.marathon.mesos", None,                   Verdict::NoData,   1),
            ("ready.spartan",      None,                   Verdict::Found,    1),
            ("ready.spartan",      Some(RecordType::AAAA), Verdict::NoData,   0),
            ("no.mesos",           None,                   Verdict::NxDomain, 0),
            ("example.com",        None,                   Verdict::Forward,  0),
        ];
        for (name, kind, verdict, records) in table {
            let got = explain(&zones, name, kind, Wall(0)).expect("a name");
            assert_eq!((got.verdict, got.records.len()), (verdict, records), "{name}");
        }
        assert!(explain(&zones, "a..b", None, Wall(0)).is_err());
    }

    #[test]
    fn texts_tell_of_each_owner_up_to_a_bound() {
        let mut zones = Zones::new(&Options::default());
        let second = 1_000_000_000;
        for number in 0..300_u32 {
            let fact = task(&format!("web.{number}"), "web");
            let key = Key::Task(fact.framework_id.clone(), fact.task_id.clone());
            let records = task_records(&fact, &Options::default(), Distance::Far);
            let owner = OwnerKey::Fact { owner: "n1".into(), key };
            zones.set_since(&owner, &records, Some(Wall(7 * second)));
        }
        let texts = |name: &str| {
            let kind = Some(RecordType::TXT);
            explain(&zones, name, kind, Wall(16 * second)).expect("a name").records
        };
        let all = texts("web.marathon.mesos");
        assert_eq!(all.len(), MAX_OWNERS + 1);
        let first = &all[0];
        assert!(first.data.ends_with(" of framework m-0001 on node n1, for 9 s\""), "{first:?}");
        assert_eq!((first.ttl, first.since), (0, Some(Wall(7 * second))));
        assert!(all[MAX_OWNERS].data.contains("more than 256"), "{:?}", all[MAX_OWNERS]);
        assert_eq!(texts("ready.spartan"), [], "what every node has is nobody's");
        assert_eq!(texts("no.mesos"), []);
    }

    #[test]
    fn a_port_without_a_name_is_explained_by_its_task() {
        let mut zones = Zones::new(&Options::default());
        let mut fact = task("web.1", "web");
        fact.discovery_name = Some("web".into());
        fact.ports = (1..=2_000).map(|n| port(n, None, &format!("p{n}"), "tcp")).collect();
        let records = task_records(&fact, &Options::default(), Distance::Far);
        zones.set(OwnerKey::Static("web".into()), records);
        let ask = |name: &str| explain(&zones, name, Some(RecordType::A), Wall(0)).expect("a name");
        let beyond = ask("_p1999._web._tcp.marathon.mesos");
        assert_eq!(beyond.verdict, Verdict::NxDomain);
        assert!(!beyond.records.is_empty(), "why it is not there is told");
        let crowded = |record: &Explained| record.withheld == Some(Withheld::CrowdedOut);
        assert!(beyond.records.iter().all(crowded), "{:?}", beyond.records);
        assert_eq!(ask("_x._y._tcp.marathon.mesos").records, []);
    }
}
