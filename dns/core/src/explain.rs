//! An answer for people: what is there, whose it is, and what was left out and why.
//!
//! It looks through all owners, which a question from the network never does.

use crate::name::{DnsName, NameError};
use crate::record::{Record, Withheld};
use crate::zone::Zones;
use hickory_proto::rr::RecordType;
use serde::Serialize;
use std::collections::BTreeMap;

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
}

/// Explains what is known about `name`, of one type or of all.
///
/// # Errors
///
/// [`NameError`] if `name` is none.
pub fn explain(
    zones: &Zones,
    name: &str,
    kind: Option<RecordType>,
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
    explanation.records = sources(zones, &place.name, kind);
    let found = explanation.records.iter().any(|record| record.withheld.is_none());
    explanation.verdict = match (found, zones.node(place.name.as_str())) {
        (true, _) => Verdict::Found,
        (false, Some(_)) => Verdict::NoData,
        (false, None) => Verdict::NxDomain,
    };
    Ok(explanation)
}

/// All records at `name`, each once with everybody who brings it. A CNAME record is an
/// answer to any type.
fn sources(zones: &Zones, name: &DnsName, kind: Option<RecordType>) -> Vec<Explained> {
    let fits = |record: &Record| {
        let is = record.data.kind();
        record.name == *name && kind.is_none_or(|kind| kind == is || is == RecordType::CNAME)
    };
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (owner, records) in zones.owners() {
        for record in records.iter().filter(|record| fits(record)) {
            let key = (record.withheld, &record.data, record.ttl);
            found.entry(key).or_default().push(owner.to_string());
        }
    }
    found
        .into_iter()
        .map(|((withheld, data, ttl), sources)| Explained {
            withheld,
            kind: data.kind().to_string(),
            data: data.to_string(),
            ttl,
            sources,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::owner::OwnerKey;
    use crate::records::records_of;
    use crate::task::tests::task;
    use mizzen_types::fact::{Fact, Key, TaskPhase};

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
            let records = records_of(&key, &Fact::Task(Box::new(fact)), &Options::default());
            zones.set(OwnerKey::Fact { owner: "n1".into(), key }, records);
        }
        zones
    }

    #[test]
    fn sources_and_what_was_left_out_are_told() {
        let zones = zones();
        let got = explain(&zones, "Web.Marathon.mesos.thisdcos.directory", Some(RecordType::A));
        let source = |task: u8| format!("task web.{task} of framework m-0001 on node n1");
        let record = |withheld, sources| Explained {
            withheld,
            kind: "A".into(),
            data: "10.0.0.2".into(),
            ttl: 5,
            sources,
        };
        let want = Explanation {
            name: "web.marathon.mesos.thisdcos.directory.".into(),
            stands_for: Some("web.marathon.mesos.".into()),
            zone: Some("mesos.".into()),
            serial: zones.serial(),
            verdict: Verdict::Found,
            records: vec![
                record(None, vec![source(1), source(2)]),
                record(Some(Withheld::Killing), vec![source(3)]),
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
            ("web.marathon.mesos", None,                   Verdict::NxDomain, 1),
            ("ready.spartan",      None,                   Verdict::Found,    1),
            ("ready.spartan",      Some(RecordType::AAAA), Verdict::NoData,   0),
            ("no.mesos",           None,                   Verdict::NxDomain, 0),
            ("example.com",        None,                   Verdict::Forward,  0),
        ];
        for (name, kind, verdict, records) in table {
            let got = explain(&zones, name, kind).expect("a name");
            assert_eq!((got.verdict, got.records.len()), (verdict, records), "{name}");
        }
        assert!(explain(&zones, "a..b", None).is_err());
    }
}
