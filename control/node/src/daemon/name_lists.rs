//! Long lists of names, written while they are sent.
//!
//! Nothing is held but the piece at hand, and the zones only for a page at a time.

use super::names::Standing;
use super::task_pages::{PAGE, TaskPage};
use bytes::Bytes;
use mizzen_dns_core::{Data, DnsName, Record, ZoneNumber, Zones};
use mizzen_dns_server::SharedZones;
use mizzen_http::core::{Pieces, QueryReply};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::{FrameworkId, OwnerId};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use tokio::sync::mpsc;

/// Size of a piece of an answer, about, in bytes.
const PIECE: usize = 64 << 10;
/// In the place of a zone's name: all names that are a zone of their own.
const SINGLES: &str = "*";
/// Pieces that wait for the client.
const PIECES: usize = 4;

/// Takes a text; says if nobody reads any more.
pub(crate) type Put<'a> = &'a mut dyn FnMut(&str) -> Result<(), Gone>;

/// Nobody reads any more.
#[derive(Debug)]
pub(crate) struct Gone;

/// An answer that `write` makes on a thread of its own while it is sent.
pub(crate) fn pieces(
    write: impl FnOnce(Put<'_>) -> Result<(), Gone> + Send + 'static,
) -> QueryReply {
    let (sender, receiver) = mpsc::channel::<Bytes>(PIECES);
    drop(tokio::task::spawn_blocking(move || {
        let mut piece = String::with_capacity(PIECE + 1024);
        let mut put = |text: &str| {
            piece.push_str(text);
            if piece.len() < PIECE {
                return Ok(());
            }
            let full = std::mem::replace(&mut piece, String::with_capacity(PIECE + 1024));
            sender.blocking_send(full.into()).map_err(|_| Gone)
        };
        if write(&mut put).is_ok() {
            // A client that went away needs no more.
            let _ = sender.blocking_send(piece.into());
        }
    }));
    QueryReply::Pieces(Pieces(receiver))
}

/// A record as both old servers list it.
#[derive(Serialize)]
struct Listed<'a> {
    name: Shown<&'a DnsName>,
    host: Shown<Target<'a>>,
    rtype: &'static str,
}

/// A task as Mesos-DNS lists it.
#[derive(Serialize)]
struct ListedTask<'a> {
    name: &'a str,
    id: &'a str,
    records: Vec<Listed<'a>>,
}

/// What can be shown, as a string of JSON that is made where it is written.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Where a record of one of the types that are listed leads.
enum Target<'a> {
    Address(IpAddr),
    Service(&'a DnsName, u16),
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Service(target, port) => write!(f, "{target}:{port}"),
        }
    }
}

/// Type and target of a record, if it is of a type that is listed.
fn listed(data: &Data) -> Option<(&'static str, Target<'_>)> {
    match data {
        Data::A(address) => Some(("A", Target::Address((*address).into()))),
        Data::Aaaa(address) => Some(("AAAA", Target::Address((*address).into()))),
        Data::Srv { port, target, .. } => Some(("SRV", Target::Service(target, *port))),
        _ => None,
    }
}

fn row(record: &Record) -> Option<Listed<'_>> {
    let (rtype, host) = listed(&record.data)?;
    Some(Listed { name: Shown(&record.name), host: Shown(host), rtype })
}

/// Writes a value as JSON.
fn put_json(put: Put<'_>, value: &impl Serialize) -> Result<(), Gone> {
    // Texts and lists of texts can always be written.
    put(&serde_json::to_string(value).map_err(|_| Gone)?)
}

/// Every served record, or those of one zone; records of one name come together. The zones
/// are held for a page at a time.
fn each_record(
    zones: &SharedZones,
    zone: Option<&DnsName>,
    mut take: impl FnMut(&Record) -> Result<(), Gone>,
) -> Result<(), Gone> {
    let begin = |zones: &Zones| zone.map_or(Some(zones.cursor()), |zone| zones.transfer(zone));
    let Some(mut cursor) = zones.read(begin) else { return Ok(()) };
    while !cursor.is_done() {
        let page = zones.read(|zones| zones.page(&mut cursor, PAGE));
        page.iter().try_for_each(&mut take)?;
    }
    Ok(())
}

/// Every record of every zone.
pub(crate) fn records(zones: &SharedZones, put: Put<'_>) -> Result<(), Gone> {
    let mut separator = "[";
    each_record(zones, None, |record| {
        let Some(row) = row(record) else { return Ok(()) };
        put(separator)?;
        separator = ",";
        put_json(put, &row)
    })?;
    put(if separator == "[" { "[]" } else { "]" })
}

/// One zone, by type and name.
pub(crate) fn axfr(
    zones: &SharedZones,
    domain: &DnsName,
    ttl: u32,
    put: Put<'_>,
) -> Result<(), Gone> {
    let serial = zones.read(Zones::serial);
    let name = domain.as_str();
    let mut head = json!({
        "TTL": ttl,
        "Serial": serial,
        "RefreshSeconds": 0,
        "Mname": format!("ns1.{name}"),
        "Rname": format!("root.ns1.{name}"),
        "Domain": name,
    })
    .to_string();
    head.pop();
    put(&head)?;
    put(",\"Records\":{")?;
    for (at, (title, kind)) in [("As", "A"), ("AAAAs", "AAAA"), ("SRVs", "SRV")].iter().enumerate()
    {
        put(&format!("{}\"{title}\":{{", if at == 0 { "" } else { "," }))?;
        let mut open: Option<DnsName> = None;
        each_record(zones, Some(domain), |record| {
            let Some((rtype, host)) = listed(&record.data) else { return Ok(()) };
            if rtype != *kind {
                return Ok(());
            }
            if open.as_ref() == Some(&record.name) {
                put(",")?;
            } else {
                let before = if open.is_some() { "]," } else { "" };
                put(&format!("{before}{}:[", Value::from(record.name.to_string())))?;
                open = Some(record.name.clone());
            }
            put_json(put, &Shown(host))
        })?;
        put(if open.is_some() { "]}" } else { "}" })?;
    }
    put("}}")
}

/// Frameworks, their tasks and the records of those.
///
/// * `next` — the tasks after those that it gave before, in the order of frameworks.
/// * `records` — the records of a task.
pub(crate) fn enumerate(
    mut next: impl FnMut() -> Option<TaskPage>,
    frameworks: &BTreeMap<FrameworkId, String>,
    records: impl Fn(&OwnerId, &Key, &Fact) -> Vec<Record>,
    put: Put<'_>,
) -> Result<(), Gone> {
    put("{\"frameworks\":[")?;
    let mut open: Option<FrameworkId> = None;
    loop {
        let page = next().ok_or(Gone)?;
        for (owner, key, fact) in &page.facts {
            let (Key::Task(framework, _), Fact::Task(task)) = (key, fact) else { continue };
            if open.as_ref() == Some(framework) {
                put(",")?;
            } else {
                let name = frameworks.get(framework).unwrap_or(&task.framework_name);
                let before = if open.is_some() { "]}," } else { "" };
                put(&format!("{before}{{\"name\":{},\"tasks\":[", Value::from(name.as_str())))?;
                open = Some(framework.clone());
            }
            let records = records(owner, key, fact);
            let served = records.iter().filter(|record| record.withheld.is_none());
            let (name, id) = (task.name.as_str(), task.task_id.as_str());
            put_json(put, &ListedTask { name, id, records: served.filter_map(row).collect() })?;
        }
        if page.next.is_none() {
            break;
        }
    }
    put(if open.is_some() { "]}]}" } else { "]}" })
}

/// The zones with what is in them and how they stand. Names that are a zone of their own are
/// one row: there may be as many as there are machines.
pub(crate) fn zones_view(
    zones: &SharedZones,
    standing: &Standing,
    put: Put<'_>,
) -> Result<(), Gone> {
    let (serial, singles, trees) = zones.read(|zones| {
        let is_single =
            |apex: &DnsName| zones.zone_holding(apex).is_some_and(ZoneNumber::is_single);
        let (singles, trees): (BTreeSet<DnsName>, BTreeSet<DnsName>) =
            zones.apexes().cloned().partition(is_single);
        (zones.serial(), singles, trees)
    });
    let mut counts: BTreeMap<&str, u64> = trees.iter().map(|zone| (zone.as_str(), 0)).collect();
    counts.extend((!singles.is_empty()).then_some((SINGLES, 0)));
    each_record(zones, None, |record| {
        let zone = match singles.contains(&record.name) {
            true => Some(SINGLES),
            false => record.name.lineage().find(|name| counts.contains_key(name)),
        };
        if let Some(count) = zone.and_then(|zone| counts.get_mut(zone)) {
            *count += 1;
        }
        Ok(())
    })?;
    let row = |(zone, records): (&&str, &u64)| {
        json!({
            "zone": if *zone == SINGLES { SINGLES.to_owned() } else { format!("{zone}.") },
            "names": (*zone == SINGLES).then_some(singles.len()),
            "serial": serial,
            "records": records,
            "state": if standing.stale == 0 { "current" } else { "stale" },
            "unconfirmed_facts": standing.stale,
            "age_seconds": standing.age_seconds,
        })
    };
    put(&counts.iter().map(row).collect::<Value>().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_dns_core::{Options, OwnerKey, by_hand};
    use mizzen_types::fact::DnsRecordFact;

    #[test]
    fn names_that_were_set_are_one_row_of_the_zones() {
        let options = Options::default();
        let zones = SharedZones::new(Zones::new(&options));
        for name in ["a.example", "b.example"] {
            let fact = DnsRecordFact { values: vec!["192.0.2.7".to_owned()], ttl: None };
            let records = by_hand::records(name, "A", &fact, &options);
            zones.update(|zones| zones.set(OwnerKey::Static(name.into()), records));
        }
        let (mut text, standing) = (String::new(), Standing { stale: 0, age_seconds: 0 });
        let mut put = |piece: &str| {
            text.push_str(piece);
            Ok(())
        };
        assert!(zones_view(&zones, &standing, &mut put).is_ok());
        let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
        let of = |zone: &str| rows.iter().find(|row| row["zone"] == zone);
        assert!(of("a.example.").is_none(), "{rows:?}");
        let single = of(SINGLES).unwrap();
        // Each has its address and its zone's start.
        assert_eq!((&single["names"], &single["records"]), (&json!(2), &json!(4)));
        assert!(of("mesos.").is_some_and(|row| row["names"].is_null()));
    }
}
