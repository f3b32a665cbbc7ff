//! Records that somebody set by hand, for hosts that are no tasks.
//!
//! A name that is set by hand is answered here and nowhere else, whatever its type; the
//! names around and below it are asked of whoever knows them. Such a name has an SOA
//! record and no NS record, which is how [`crate::Zones`] tells it from a zone.
//!
//! No name of the cluster can be set: whose name is free there changes with every task
//! and framework, and a record that was there first would take a task's place.

use crate::name::{DnsName, NameError};
use crate::options::Options;
use crate::record::{Binding, Data, Record};
use crate::reverse::zones_of;
use crate::statics::{BUILT_IN, start};
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use mizzen_types::fact::DnsRecordFact;
use std::str::FromStr;

/// Most records of one name and type.
const MAX_VALUES: usize = 500;
/// Longest text of one record in bytes.
const MAX_TEXT: usize = 4096;
/// Longest TTL in seconds: a week.
const MAX_TTL: u32 = 604_800;
/// Longest part of a TXT record in bytes.
const MAX_PART: usize = 255;

/// Types that can be set.
const KINDS: [RecordType; 10] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::TXT,
    RecordType::SRV,
    RecordType::MX,
    RecordType::PTR,
    RecordType::CAA,
    RecordType::HTTPS,
    RecordType::SVCB,
];

/// Why a record cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ByHandError {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name of which no one host can be called.
    #[error("records of `{0}` cannot be set: it stands for many names")]
    Wildcard(String),
    /// The name of everything.
    #[error("records of the root cannot be set")]
    Root,
    /// A name in a zone that is computed.
    #[error("records of `{0}` cannot be set: names there are the cluster's own")]
    Reserved(String),
    /// A type that makes no sense here.
    #[error(
        "records of type `{0}` cannot be set, only A, AAAA, CNAME, TXT, SRV, MX, PTR, CAA, HTTPS and SVCB"
    )]
    Kind(String),
    /// Data that are none of the type.
    #[error("`{value}` is no data of {kind} record: {reason}")]
    Value {
        /// As written.
        value: String,
        /// The type with its article.
        kind: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing, or too much.
    #[error("a name has 1 to {MAX_VALUES} records of a type, not {0}")]
    Count(usize),
    /// Several CNAME records, or something beside one.
    #[error("a name with a CNAME record has no other record: `{0}`")]
    Alias(String),
    /// An alias of itself, which leads nowhere.
    #[error("`{0}` cannot be a CNAME of itself")]
    Itself(String),
    /// A TTL that nobody would wait for.
    #[error("a TTL is at most {MAX_TTL} seconds, not {0}")]
    Ttl(u32),
}

/// Reads a name and a type that may be set.
///
/// # Errors
///
/// [`ByHandError`].
pub fn parse_key(
    name: &str,
    kind: &str,
    options: &Options,
) -> Result<(DnsName, RecordType), ByHandError> {
    let parsed = DnsName::parse(name)?;
    if parsed.as_str().is_empty() {
        return Err(ByHandError::Root);
    }
    if parsed.labels().any(|label| label == "*") {
        return Err(ByHandError::Wildcard(name.to_owned()));
    }
    let zones = BUILT_IN.into_iter().filter(|zone| !zone.ends_with(".arpa")).map(DnsName::fixed);
    let reverse = options.reverse_networks.iter().flat_map(|network| zones_of(*network));
    if zones
        .chain(reverse)
        .chain([options.domain.clone()])
        .any(|zone| parsed.before(&zone).is_some())
    {
        return Err(ByHandError::Reserved(name.to_owned()));
    }
    let unknown = || ByHandError::Kind(kind.to_owned());
    let kind = RecordType::from_str(&kind.to_ascii_uppercase()).map_err(|_| unknown())?;
    if KINDS.contains(&kind) { Ok((parsed, kind)) } else { Err(unknown()) }
}

/// Checks what is to be set, and drops what is there twice.
///
/// * `beside` — types that the name has by hand already.
///
/// # Errors
///
/// [`ByHandError`] for the first rule that is broken.
pub fn check(
    name: &DnsName,
    kind: RecordType,
    fact: DnsRecordFact,
    beside: impl IntoIterator<Item = RecordType>,
) -> Result<DnsRecordFact, ByHandError> {
    if !(1..=MAX_VALUES).contains(&fact.values.len()) {
        return Err(ByHandError::Count(fact.values.len()));
    }
    if let Some(ttl) = fact.ttl.filter(|ttl| *ttl > MAX_TTL) {
        return Err(ByHandError::Ttl(ttl));
    }
    let mut values: Vec<String> = Vec::with_capacity(fact.values.len());
    let mut seen = Vec::with_capacity(fact.values.len());
    for value in fact.values {
        let data = parse(kind, &value)?;
        if !seen.contains(&data) {
            seen.push(data);
            values.push(value.trim().to_owned());
        }
    }
    if seen.iter().any(|data| matches!(data, Data::Cname(target) if target == name)) {
        return Err(ByHandError::Itself(name.to_string()));
    }
    let alias = kind == RecordType::CNAME;
    let other = |other: RecordType| other != kind && (alias || other == RecordType::CNAME);
    if (alias && values.len() > 1) || beside.into_iter().any(other) {
        return Err(ByHandError::Alias(name.to_string()));
    }
    Ok(DnsRecordFact { values, ttl: fact.ttl })
}

/// The records of a fact, with what makes its name one of ours. What cannot be read gives
/// none: whoever set it was told.
#[must_use]
pub fn records(name: &str, kind: &str, fact: &DnsRecordFact, options: &Options) -> Vec<Record> {
    let Ok((name, kind)) = parse_key(name, kind, options) else { return Vec::new() };
    let ttl = fact.ttl.unwrap_or(options.ttl);
    let data = fact.values.iter().filter_map(|value| parse(kind, value).ok());
    let mut records: Vec<Record> = data.map(|data| Record::new(name.clone(), ttl, data)).collect();
    if !records.is_empty() {
        records.push(start(&name, options));
    }
    records
}

fn parse(kind: RecordType, value: &str) -> Result<Data, ByHandError> {
    let wrong = |reason: String| ByHandError::Value {
        value: value.to_owned(),
        kind: with_article(kind),
        reason,
    };
    let text = value.trim();
    if text.len() > MAX_TEXT || text.contains(['\n', '\r']) {
        return Err(wrong(format!("it has line ends or more than {MAX_TEXT} bytes")));
    }
    // People who set a text mean all of it, spaces included.
    if kind == RecordType::TXT && !text.starts_with('"') {
        let parts: Vec<Vec<u8>> = text.as_bytes().chunks(MAX_PART).map(<[u8]>::to_vec).collect();
        return if parts.is_empty() {
            Err(wrong("it is empty".into()))
        } else {
            Ok(Data::Txt(parts))
        };
    }
    // The reader of zone files takes what it needs and leaves the rest.
    if words(kind).is_some_and(|words| text.split_whitespace().count() != words) {
        return Err(wrong(format!("each record is one value, such as \"{}\"", example(kind))));
    }
    let data = RData::try_from_str(kind, text).map_err(|error| wrong(error.to_string()))?;
    data_of(&data).ok_or_else(|| wrong("only alpn, port, ipv4hint and ipv6hint can be set".into()))
}

/// How many words data of this type have, where that is known.
fn words(kind: RecordType) -> Option<usize> {
    match kind {
        RecordType::A | RecordType::AAAA | RecordType::CNAME | RecordType::PTR => Some(1),
        RecordType::MX => Some(2),
        RecordType::SRV => Some(4),
        _ => None,
    }
}

/// What data of a type whose words are counted look like.
fn example(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "192.0.2.7",
        RecordType::AAAA => "2001:db8::7",
        RecordType::MX => "10 mail.example.com",
        RecordType::SRV => "0 5 443 db.example.com",
        _ => "db.example.com",
    }
}

fn data_of(data: &RData) -> Option<Data> {
    let name = DnsName::from_wire;
    Some(match data {
        RData::A(address) => Data::A(address.0),
        RData::AAAA(address) => Data::Aaaa(address.0),
        RData::CNAME(target) => Data::Cname(name(&target.0)),
        RData::PTR(target) => Data::Ptr(name(&target.0)),
        RData::MX(mx) => Data::Mx { preference: mx.preference, exchange: name(&mx.exchange) },
        RData::SRV(srv) => Data::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: name(&srv.target),
        },
        RData::TXT(text) => Data::Txt(text.txt_data.iter().map(|part| part.to_vec()).collect()),
        RData::SVCB(service) => Data::Svcb(Box::new(binding(service)?)),
        RData::HTTPS(service) => Data::Https(Box::new(binding(&service.0)?)),
        other => Data::Raw { kind: other.record_type().into(), bytes: bytes_of(other)? },
    })
}

/// `None` if it says more than [`Binding`] can.
fn binding(service: &SVCB) -> Option<Binding> {
    let mut binding = Binding {
        priority: service.svc_priority,
        target: DnsName::from_wire(&service.target_name),
        alpn: Vec::new(),
        port: None,
        ipv4: Vec::new(),
        ipv6: Vec::new(),
    };
    for (_, value) in &service.svc_params {
        match value {
            SvcParamValue::Alpn(alpn) => binding.alpn.clone_from(&alpn.0),
            SvcParamValue::Port(port) => binding.port = Some(*port),
            SvcParamValue::Ipv4Hint(hints) => binding.ipv4 = hints.0.iter().map(|a| a.0).collect(),
            SvcParamValue::Ipv6Hint(hints) => binding.ipv6 = hints.0.iter().map(|a| a.0).collect(),
            _ => return None,
        }
    }
    Some(binding)
}

fn bytes_of(data: &RData) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    data.emit(&mut BinEncoder::new(&mut bytes)).ok()?;
    Some(bytes)
}

/// As the type's letters are spoken.
fn with_article(kind: RecordType) -> String {
    let text = kind.to_string();
    let article = if text.starts_with(['A', 'H', 'M', 'S']) { "an" } else { "a" };
    format!("{article} {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Verdict, explain};
    use crate::owner::OwnerKey;
    use crate::zone::Zones;
    use mizzen_types::fact::Key;
    use mizzen_types::time::Wall;

    fn fact(values: &[&str]) -> DnsRecordFact {
        DnsRecordFact { values: values.iter().map(|v| (*v).to_owned()).collect(), ttl: None }
    }

    fn set(zones: &mut Zones, name: &str, kind: &str, values: &[&str]) {
        let key = Key::DnsRecord(name.to_owned(), kind.to_owned());
        let records = records(name, kind, &fact(values), &Options::default());
        zones.set(OwnerKey::Fact { owner: "n1".into(), key }, records);
    }

    #[test]
    fn what_can_be_set() {
        #[rustfmt::skip]
        let table: &[(&str, &str, &str)] = &[
            ("A",     "192.0.2.7",                        "192.0.2.7"),
            ("AAAA",  "2001:db8::7",                      "2001:db8::7"),
            ("CNAME", "Db.example.com",                   "db.example.com."),
            ("TXT",   "two words; and more",              "\"two words; and more\""),
            ("TXT",   "\"two\" \"parts\"",                "\"two\" \"parts\""),
            ("SRV",   "0 5 443 db.example.com.",          "0 5 443 db.example.com."),
            ("MX",    "10 mail.example.com",              "10 mail.example.com."),
            ("PTR",   "db.example.com",                   "db.example.com."),
            ("CAA",   "0 issue \"ca.example\"",           "\\# 17 00 05 69 73 73 75 65 63 61 2e 65 78 61 6d 70 6c 65"),
            ("HTTPS", "1 . alpn=h2 port=8443",            "1 . alpn=h2 port=8443"),
        ];
        for (kind, value, want) in table {
            let (name, kind) = parse_key("www.example.com", kind, &Options::default()).unwrap();
            check(&name, kind, fact(&[value]), []).unwrap();
            assert_eq!(parse(kind, value).unwrap().to_string(), *want, "{kind} {value}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let options = Options::default();
        for name in [
            "web.marathon.mesos",
            "mesos",
            "x.thisdcos.directory",
            "zk-1.zk",
            "a..b",
            "*.example.com",
            "5.3.0.9.in-addr.arpa",
            "7.0.0.11.in-addr.arpa",
            "",
        ] {
            assert!(parse_key(name, "A", &options).is_err(), "{name}");
        }
        let of_site = parse_key("7.1.168.192.in-addr.arpa", "PTR", &options);
        assert!(of_site.is_ok(), "{of_site:?}");
        for kind in ["SOA", "NS", "ANY", "AXFR", "RRSIG", "OPT", "TYPE65280", "nonsense"] {
            assert!(parse_key("db.example.com", kind, &options).is_err(), "{kind}");
        }
        let name = DnsName::parse("db.example.com").unwrap();
        #[rustfmt::skip]
        let table: &[(RecordType, &[&str], &[RecordType])] = &[
            (RecordType::A,     &[],                               &[]),
            (RecordType::A,     &["192.0.2.300"],                  &[]),
            (RecordType::A,     &["192.0.2.1 192.0.2.2"],          &[]),
            (RecordType::A,     &["fd00::1"],                      &[]),
            (RecordType::SRV,   &["443 db.example.com"],           &[]),
            (RecordType::MX,    &["mail.example.com"],             &[]),
            (RecordType::TXT,   &[""],                             &[]),
            (RecordType::HTTPS, &["1 . ech=AAAA"],                 &[]),
            (RecordType::CNAME, &["a.example", "b.example"],       &[]),
            (RecordType::CNAME, &["a.example"],                    &[RecordType::A]),
            (RecordType::CNAME, &["DB.example.com."],              &[]),
            (RecordType::A,     &["192.0.2.1"],                    &[RecordType::CNAME]),
        ];
        for (kind, values, beside) in table {
            assert!(
                check(&name, *kind, fact(values), beside.iter().copied()).is_err(),
                "{kind} {values:?}"
            );
        }
        let twice =
            check(&name, RecordType::A, fact(&["192.0.2.1", " 192.0.2.1"]), [RecordType::A]);
        assert_eq!(twice.unwrap().values, ["192.0.2.1"]);
        let slow = DnsRecordFact { ttl: Some(MAX_TTL + 1), ..fact(&["192.0.2.1"]) };
        assert!(check(&name, RecordType::A, slow, []).is_err());
    }

    #[test]
    fn data_that_are_none_come_with_an_example_that_is() {
        for kind in KINDS.into_iter().filter(|kind| words(*kind).is_some()) {
            let error = parse(kind, "a b c d e").unwrap_err().to_string();
            let (_, example) = error.split_once("such as \"").unwrap();
            assert!(parse(kind, example.trim_end_matches('"')).is_ok(), "{kind}: {error}");
        }
    }

    /// As unbound does with `local-data` in a transparent zone.
    #[test]
    fn a_name_is_ours_alone_and_those_around_it_are_not() {
        let mut zones = Zones::new(&Options::default());
        set(&mut zones, "db.example.com", "A", &["192.0.2.7"]);
        set(&mut zones, "db.example.com", "TXT", &["a database"]);
        #[rustfmt::skip]
        let table = [
            ("db.example.com",   RecordType::A,    Verdict::Found),
            ("db.example.com",   RecordType::AAAA, Verdict::NoData),
            ("x.db.example.com", RecordType::A,    Verdict::Forward),
            ("www.example.com",  RecordType::A,    Verdict::Forward),
            ("example.com",      RecordType::A,    Verdict::Forward),
            ("nobody.mesos",     RecordType::A,    Verdict::NxDomain),
        ];
        for (name, kind, want) in table {
            assert_eq!(
                explain(&zones, name, Some(kind), Wall(0)).unwrap().verdict,
                want,
                "{name} {kind}"
            );
        }
        let owner = |kind: &str| OwnerKey::Fact {
            owner: "n1".into(),
            key: Key::DnsRecord("db.example.com".into(), kind.into()),
        };
        zones.remove(&owner("A"));
        assert_eq!(
            explain(&zones, "db.example.com", Some(RecordType::A), Wall(0)).unwrap().verdict,
            Verdict::NoData
        );
        zones.remove(&owner("TXT"));
        assert_eq!(
            explain(&zones, "db.example.com", None, Wall(0)).unwrap().verdict,
            Verdict::Forward
        );
    }
}
