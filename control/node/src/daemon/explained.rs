//! What `GET /v1/dns` shows of names that are ours.

use mizzen_dns_core::{Explained, Explanation, NameError, RecordType, Verdict, Zones, explain};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Wall;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Names of nodes' hosts by the nodes' ids.
pub(crate) type Hosts = BTreeMap<OwnerId, String>;

/// What is known of a name, and of those that it is an alias of as far as they are ours;
/// each once.
pub(crate) fn explained(
    zones: &Zones,
    name: &str,
    kind: Option<RecordType>,
    now: Wall,
) -> Result<Vec<Explanation>, NameError> {
    let mut chain = vec![explain(zones, name, kind, now)?];
    while let Some(target) = chain.last().and_then(|last| alias(last, kind)).map(str::to_owned)
        && chain.iter().all(|link| link.name != target)
        && let Ok(next) = explain(zones, &target, kind, now)
    {
        chain.push(next);
    }
    Ok(chain)
}

/// Where a name leads that has an alias in place of what is asked for.
fn alias(explanation: &Explanation, kind: Option<RecordType>) -> Option<&str> {
    kind.filter(|kind| !matches!(kind, RecordType::CNAME | RecordType::ANY))?;
    let mut served = explanation.records.iter().filter(|record| record.withheld.is_none());
    let alias = served.find(|record| record.kind == "CNAME")?;
    Some(&alias.data)
}

pub(crate) fn document(
    chain: &[Explanation],
    kind: Option<RecordType>,
    now: Wall,
    (stale, hosts): (&BTreeSet<String>, &Hosts),
) -> Value {
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else { return Value::Null };
    // That of the chain's end (RFC 6604, 3), which upstreams know if it is somebody else's.
    let rcode = match last.verdict {
        Verdict::NxDomain => "NXDOMAIN",
        Verdict::Forward if chain.len() == 1 => "FORWARDED",
        Verdict::Found | Verdict::NoData | Verdict::Forward => "NOERROR",
    };
    let answer = |(owner, record): (&String, &Explained)| {
        json!({
            "name": owner,
            "type": record.kind,
            "ttl": record.ttl,
            "data": record.data,
            "source": record.sources.join(", "),
            "source_short": short(&record.sources, hosts),
            "age_seconds": record.since.map(|since| now.0.saturating_sub(since.0) / 1_000_000_000),
            "stale": record.sources.iter().all(|source| stale.contains(source)),
        })
    };
    let omission = |(_, record): (&String, &Explained)| {
        json!({
            "type": record.kind,
            "data": record.data,
            "why": record.withheld.as_ref().map(ToString::to_string),
            "source": record.sources.join(", "),
        })
    };
    let records = chain.iter().flat_map(|link| {
        let owner = link.stands_for.as_ref().unwrap_or(&link.name);
        link.records.iter().map(move |record| (owner, record))
    });
    let (served, left_out): (Vec<_>, Vec<_>) =
        records.partition(|(_, record)| record.withheld.is_none());
    let onward = Some(&last.name).filter(|_| last.verdict == Verdict::Forward);
    json!({
        "name": first.name,
        "type": kind.map_or_else(|| "ANY".to_owned(), kind_text),
        "rcode": rcode,
        "zone": first.zone,
        "serial": first.serial,
        "answers": served.into_iter().map(answer).collect::<Value>(),
        "left_out": left_out.into_iter().map(omission).collect::<Value>(),
        // What upstreams are to be asked for.
        "onward": onward,
    })
}

/// Whose a record is in a few words: without the ids of frameworks, with names of hosts in
/// the place of nodes' ids, and the first of several.
fn short(sources: &[String], hosts: &Hosts) -> Option<String> {
    let (first, others) = sources.split_first()?;
    let mut text = match (first.split_once(" of framework "), first.rsplit_once(" on node ")) {
        (Some((task, _)), Some((_, node))) if task.starts_with("task ") => {
            format!("{task} on node {node}")
        }
        _ => first.clone(),
    };
    for (node, host) in hosts {
        text = text.replace(node.as_str(), host);
    }
    match others.len() {
        0 => Some(text),
        more => Some(format!("{text} and {more} more")),
    }
}

/// A type as zone files write it, also one without a name (RFC 3597, 5).
fn kind_text(kind: RecordType) -> String {
    match kind {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_in_a_few_words() {
        let (node, other) = ("6f6ae5ec-2c3e-4a3c-9d30-0d4a4f6dbb6a", "n2");
        let hosts = Hosts::from([(OwnerId::from(node), "anchor".to_owned())]);
        let task = |node: &str| format!("task web.1 of framework 8d5f-0001 on node {node}");
        #[rustfmt::skip]
        let table = [
            (vec![task(node)],                         Some("task web.1 on node anchor")),
            (vec![task(other), task(node)],            Some("task web.1 on node n2 and 1 more")),
            (vec![format!("A of a.b, set on {node}")], Some("A of a.b, set on anchor")),
            (vec!["built-in".to_owned()],              Some("built-in")),
            (vec![],                                   None),
        ];
        for (sources, want) in table {
            assert_eq!(short(&sources, &hosts).as_deref(), want, "{sources:?}");
        }
    }
    use mizzen_dns_core::{Options, OwnerKey, by_hand};
    use mizzen_types::fact::DnsRecordFact;

    #[test]
    fn aliases_are_shown_to_their_end() {
        let options = Options::default();
        let mut zones = Zones::new(&options);
        for (name, kind, value) in [
            ("db.example", "CNAME", "one.example"),
            ("one.example", "A", "192.0.2.7"),
            ("out.example", "CNAME", "www.example.net"),
            ("gone.example", "CNAME", "nobody.mesos"),
            ("a.example", "CNAME", "b.example"),
            ("b.example", "CNAME", "a.example"),
        ] {
            let fact = DnsRecordFact { values: vec![value.to_owned()], ttl: None };
            let records = by_hand::records(name, kind, &fact, &options);
            zones.set(OwnerKey::Static(name.into()), records);
        }
        let lines = |name: &str, kind| {
            let chain = explained(&zones, name, Some(kind), Wall(0)).unwrap();
            let document = document(&chain, Some(kind), Wall(0), (&BTreeSet::new(), &Hosts::new()));
            let rows = document["answers"].as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let mut lines: Vec<String> =
                rows.map(|row| format!("{} {}", text(&row["name"]), text(&row["data"]))).collect();
            lines.push(format!("{} {}", text(&document["rcode"]), text(&document["onward"])));
            lines
        };
        let (a, alias) = (RecordType::A, RecordType::CNAME);
        #[rustfmt::skip]
        let table = [
            ("db.example",    a,     vec!["db.example. one.example.", "one.example. 192.0.2.7", "NOERROR -"]),
            ("db.example",    alias, vec!["db.example. one.example.", "NOERROR -"]),
            ("out.example",   a,     vec!["out.example. www.example.net.", "NOERROR www.example.net."]),
            ("a.example",     a,     vec!["a.example. b.example.", "b.example. a.example.", "NOERROR -"]),
            ("gone.example",  a,     vec!["gone.example. nobody.mesos.", "NXDOMAIN -"]),
            ("www.example",   a,     vec!["FORWARDED www.example."]),
            ("nobody.mesos",  a,     vec!["NXDOMAIN -"]),
        ];
        for (name, kind, want) in table {
            assert_eq!(lines(name, kind), want, "{name} {kind}");
        }
        assert_eq!(kind_text(RecordType::Unknown(65280)), "TYPE65280");
    }
}
