//! Records that are set by hand: kept in the store, said in the owner log, and from there
//! on like everything else that names are made of.

use super::clock;
use super::core::Core;
use super::explained::Hosts;
use super::facts::Speaker;
use super::replies::{Answer, Refusal, bad, json, only, refuse};
use super::saves::{Saves, saved, written};
use crate::config::Role;
use mizzen_dns_core::by_hand::{check, parse_key};
use mizzen_dns_core::{DnsName, RecordType};
use mizzen_http::core::{ServicesReply, ServicesRequest};
use mizzen_types::error::chain;
use mizzen_types::fact::{DnsRecordFact, Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::record;
use mizzen_types::time::{Mono, Now};
use serde::Deserialize;
use serde_json::{Value, json as document};
use std::collections::BTreeMap;
use std::str::FromStr;
use tracing::info;

/// Where records begin, in the store and on the node's port.
const PREFIX: &str = "dns-record/";
const COLLECTION: &str = "/v1/dns-records";
/// Format of a record in the store.
const FORMAT: u16 = 1;
/// The part's name in problems.
const RECORDS: &str = "dns records' store";
/// Those that cannot be read, in problems.
const UNREADABLE: &str = "dns records that are lost";

/// A name without its last dot, and a type.
type Which = (String, String);

/// What was set on this node.
#[derive(Debug)]
pub(crate) struct DnsRecords {
    records: BTreeMap<Which, DnsRecordFact>,
    saves: Saves,
}

/// The body of a PUT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    values: Vec<String>,
    #[serde(default)]
    ttl: Option<u32>,
    /// What a GET shows besides; an answer is a request.
    #[serde(default, rename = "name")]
    _name: Option<String>,
    #[serde(default, rename = "type")]
    _kind: Option<String>,
    #[serde(default, rename = "node")]
    _node: Option<String>,
    #[serde(default, rename = "host")]
    _host: Option<String>,
}

impl Default for DnsRecords {
    fn default() -> Self {
        Self { records: BTreeMap::new(), saves: Saves::new(PREFIX) }
    }
}

impl DnsRecords {
    /// When to try again what the disk refused.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.saves.deadline()
    }

    fn kinds_of(&self, name: &str) -> Vec<String> {
        self.records.keys().filter(|(other, _)| other == name).map(|(_, k)| k.clone()).collect()
    }
}

impl Core {
    /// Takes up what was set on a former process.
    pub(crate) fn adopt_dns_records(&mut self) -> anyhow::Result<()> {
        let mut lost = Vec::new();
        for (which, value) in saved(&self.store, PREFIX)? {
            let wrong = match (which.split_once('/'), record::read(FORMAT, &value)) {
                (Some((name, kind)), Ok(record)) => {
                    self.set_record((name.to_owned(), kind.to_owned()), record);
                    continue;
                }
                (None, _) => "it has no type".to_owned(),
                (_, Err(error)) => chain(&error),
            };
            lost.push(format!("record {which} is not answered: {wrong}"));
        }
        self.problems.report_all(UNREADABLE, &lost);
        Ok(())
    }

    /// A request about records that are set by hand.
    pub(crate) fn dns_records_request(&mut self, request: &ServicesRequest) -> ServicesReply {
        self.route_dns_records(request).unwrap_or_else(Refusal::reply)
    }

    /// Tries again what the disk refused.
    pub(crate) fn flush_dns_records(&mut self, now: Now) {
        if self.dns_records.saves.is_stalled(now.mono) {
            return;
        }
        match self.dns_records.saves.flush(&self.store, now.mono) {
            Ok(()) => self.problems.solve(RECORDS),
            Err(error) => self.problems.report(RECORDS, chain(&error)),
        }
    }

    fn route_dns_records(&mut self, request: &ServicesRequest) -> Answer {
        if !self.config.has(Role::Dns) {
            return Err(refuse(404, "this node does not have the role `dns`"));
        }
        let (method, path) = (request.method.as_str(), request.path.trim_end_matches('/'));
        let Some(rest) = path.strip_prefix(COLLECTION) else {
            return Err(refuse(404, format!("There is nothing at {path}")));
        };
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        match parts[..] {
            [] => {
                only(method, "GET, HEAD")?;
                Ok(json(200, &self.all_records(None)))
            }
            [name] => {
                only(method, "GET, HEAD, DELETE")?;
                let name = DnsName::parse(name).map_err(bad)?;
                if method == "DELETE" {
                    let kinds = self.dns_records.kinds_of(name.as_str());
                    return self.delete_records(&name, &kinds);
                }
                Ok(json(200, &self.all_records(Some(name.as_str()))))
            }
            [name, kind] => {
                only(method, "GET, HEAD, PUT, DELETE")?;
                let (name, kind) = parse_key(name, kind, self.names.options()).map_err(bad)?;
                self.one_record(method, &name, kind, &request.body)
            }
            _ => Err(refuse(404, format!("There is nothing at {path}"))),
        }
    }

    fn one_record(
        &mut self,
        method: &str,
        name: &DnsName,
        kind: RecordType,
        body: &[u8],
    ) -> Answer {
        match method {
            "PUT" => self.put_record(name, kind, body),
            "DELETE" => self.delete_records(name, &[kind.to_string()]),
            _ => {
                let which = (name.as_str().to_owned(), kind.to_string());
                let fact = self.dns_records.records.get(&which).ok_or_else(|| missing(&which))?;
                Ok(json(200, &shown(&which, fact, self.node_log.owner(), &self.hosts())))
            }
        }
    }

    fn put_record(&mut self, name: &DnsName, kind: RecordType, body: &[u8]) -> Answer {
        let body: Body = serde_json::from_slice(body).map_err(bad)?;
        let fact = DnsRecordFact { values: body.values, ttl: body.ttl };
        // Also those that other nodes have.
        let beside = self.view.facts().filter_map(|(_, key, _)| match key {
            Key::DnsRecord(other, kind) if other == name.as_str() => {
                RecordType::from_str(kind).ok()
            }
            _ => None,
        });
        let fact = check(name, kind, fact, beside).map_err(bad)?;
        let which = (name.as_str().to_owned(), kind.to_string());
        let former = self.dns_records.records.get(&which).cloned();
        let status = if former.is_some() { 200 } else { 201 };
        if former.as_ref() != Some(&fact) {
            self.keep_record(&which, Some(&fact), former.as_ref())?;
            info!(%name, %kind, records = fact.values.len(), "set by hand");
            self.set_record(which.clone(), fact.clone());
        }
        Ok(json(status, &shown(&which, &fact, self.node_log.owner(), &self.hosts())))
    }

    fn delete_records(&mut self, name: &DnsName, kinds: &[String]) -> Answer {
        if kinds.is_empty() {
            return Err(refuse(404, format!("no record of {name} was set on this node")));
        }
        let (mut removed, node, hosts) = (Vec::new(), self.node_log.owner().clone(), self.hosts());
        for kind in kinds {
            let which = (name.as_str().to_owned(), kind.clone());
            let former =
                self.dns_records.records.get(&which).cloned().ok_or_else(|| missing(&which))?;
            self.keep_record(&which, None, Some(&former))?;
            info!(%name, kind, "no longer set by hand");
            self.dns_records.records.remove(&which);
            removed.push(shown(&which, &former, &node, &hosts));
            let (name, kind) = which;
            self.say(Speaker::Node, Key::DnsRecord(name, kind), None);
        }
        Ok(json(200, &removed))
    }

    fn set_record(&mut self, which: Which, fact: DnsRecordFact) {
        self.dns_records.records.insert(which.clone(), fact.clone());
        let (name, kind) = which;
        self.say(Speaker::Node, Key::DnsRecord(name, kind), Some(Fact::DnsRecord(fact)));
    }

    /// Writes a record down, or removes it; returns once that is on the disk. If the disk
    /// refuses it may have taken it all the same, so what was there before is written
    /// again as soon as it takes anything.
    fn keep_record(
        &mut self,
        which: &Which,
        after: Option<&DnsRecordFact>,
        before: Option<&DnsRecordFact>,
    ) -> Result<(), Refusal> {
        let now = clock::now();
        let key = format!("{}/{}", which.0, which.1);
        let (after, before) = (written(FORMAT, after)?, written(FORMAT, before)?);
        self.dns_records.saves.push(&key, after);
        let Err(error) = self.dns_records.saves.flush(&self.store, now.mono) else {
            self.problems.solve(RECORDS);
            return Ok(());
        };
        self.dns_records.saves.push(&key, before);
        let words = chain(&error);
        let refusal = refuse(503, format!("the change cannot be written down: {words}"));
        self.problems.report(RECORDS, words);
        Err(refusal)
    }

    /// What was set anywhere, of one name or of all.
    fn all_records(&self, only: Option<&str>) -> Vec<Value> {
        let hosts = self.hosts();
        let row = |(owner, key, fact): (&OwnerId, &Key, &Fact)| match (key, fact) {
            (Key::DnsRecord(name, kind), Fact::DnsRecord(fact))
                if only.is_none_or(|only| only == name) =>
            {
                Some(shown(&(name.clone(), kind.clone()), fact, owner, &hosts))
            }
            _ => None,
        };
        self.view.facts().filter_map(row).collect()
    }
}

fn shown((name, kind): &Which, fact: &DnsRecordFact, node: &OwnerId, hosts: &Hosts) -> Value {
    document!({
        "name": name,
        "type": kind,
        "ttl": fact.ttl,
        "values": fact.values,
        "node": node.as_str(),
        "host": hosts.get(node),
    })
}

fn missing((name, kind): &Which) -> Refusal {
    refuse(404, format!("no {kind} record of {name} was set on this node"))
}
