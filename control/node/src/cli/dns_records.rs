//! `mizzen dns set`, `rm`, `ls` and `zones`.

use super::error::CliError;
use super::session::{Session, encode, print, print_json, understand};
use super::table::{Paint, Tone, plain, render as table, toned};
use crate::args::{DnsRmArgs, DnsSetArgs, Output};
use serde::Deserialize;
use serde_json::json;

const RECORDS: &str = "/v1/dns-records";
const ZONES: &str = "/v1/dns-zones";

/// Records that were set.
#[derive(Debug, Deserialize)]
struct Set {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    ttl: Option<u32>,
    values: Vec<String>,
    node: String,
    host: Option<String>,
}

/// A zone.
#[derive(Debug, Deserialize)]
struct Zone {
    zone: String,
    /// How many names that are a zone of their own this row stands for.
    names: Option<u64>,
    serial: u32,
    records: u64,
    state: String,
    age_seconds: u64,
    #[serde(default)]
    unconfirmed_facts: u64,
}

pub(super) async fn set(session: &Session, args: &DnsSetArgs) -> Result<(), CliError> {
    let path = format!("{RECORDS}/{}/{}", encode(&args.name), encode(&args.record));
    let body = json!({ "values": args.values, "ttl": args.ttl });
    let answer = session.send("PUT", &path, Some(&body)).await?;
    if args.output.json {
        return print_json(&answer);
    }
    let set: Set = understand(&path, answer)?;
    print(&format!("{} {} {}\n", set.name, set.kind, set.values.join(", ")))
}

pub(super) async fn rm(session: &Session, args: &DnsRmArgs) -> Result<(), CliError> {
    let kind = args.record.iter().map(|kind| format!("/{}", encode(kind)));
    let path = format!("{RECORDS}/{}{}", encode(&args.name), kind.collect::<String>());
    let removed = session.send("DELETE", &path, None).await?;
    if args.output.json {
        return print_json(&removed);
    }
    let removed: Vec<Set> = understand(&path, removed)?;
    // As it is kept and listed: without the last dot, whatever was typed.
    print(&removed.first().map(|set| format!("{}\n", set.name)).unwrap_or_default())
}

pub(super) async fn ls(session: &Session, output: Output) -> Result<(), CliError> {
    session.show(RECORDS, output, render).await
}

pub(super) async fn zones(session: &Session, output: Output) -> Result<(), CliError> {
    session.show(ZONES, output, |zones: &Vec<Zone>, paint| render_zones(zones, paint)).await
}

/// One row for each record; the name stands in the first one of its type.
fn render(sets: &Vec<Set>, paint: Paint) -> String {
    let mut rows = Vec::new();
    for set in sets {
        let ttl = set.ttl.map(|ttl| ttl.to_string()).unwrap_or_default();
        let mut head = [plain(&set.name), plain(&set.kind), plain(ttl)];
        for value in &set.values {
            let host = set.host.as_ref().unwrap_or(&set.node);
            let rest = [plain(value), toned(Tone::Faint, host)];
            rows.push(head.iter().cloned().chain(rest).collect());
            head = [(); 3].map(|()| toned(Tone::Faint, "\""));
        }
    }
    table(&["NAME", "TYPE", "TTL", "DATA", "SET ON"], rows, paint)
}

fn render_zones(zones: &[Zone], paint: Paint) -> String {
    let row = |zone: &Zone| {
        let tone = if zone.state == "current" { Tone::Good } else { Tone::Busy };
        let state = match zone.unconfirmed_facts {
            0 => zone.state.clone(),
            facts => format!("{}, {facts} facts unconfirmed", zone.state),
        };
        let name = match zone.names {
            Some(1) => format!("{} (1 name)", zone.zone),
            Some(names) => format!("{} ({names} names)", zone.zone),
            None => zone.zone.clone(),
        };
        vec![
            plain(name),
            plain(zone.serial),
            plain(zone.records),
            plain(format!("{} s", zone.age_seconds)),
            toned(tone, state),
        ]
    };
    table(&["ZONE", "SERIAL", "RECORDS", "AGE", "STATE"], zones.iter().map(row).collect(), paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set() {
        let sets: Vec<Set> = serde_json::from_str(
            r#"[{"name":"db.example.com","type":"A","ttl":60,"values":["192.0.2.7","192.0.2.8"],"node":"n1","host":"anchor"},
               {"name":"db.example.com","type":"TXT","ttl":null,"values":["a database"],"node":"n2"}]"#,
        )
        .unwrap();
        let want = "\
NAME             TYPE   TTL   DATA         SET ON
db.example.com   A      60    192.0.2.7    anchor
\"                \"      \"     192.0.2.8    anchor
db.example.com   TXT    -     a database   n2
";
        assert_eq!(render(&sets, Paint::Plain), want);
    }

    #[test]
    fn zones_say_whether_they_are_confirmed() {
        let zones: Vec<Zone> = serde_json::from_str(
            r#"[{"zone":"*","names":2,"serial":7,"records":4,"state":"current","age_seconds":0},
               {"zone":"mesos.","serial":7,"records":12,"state":"current","age_seconds":0},
               {"zone":"spartan.","serial":7,"records":4,"state":"stale","age_seconds":12,"unconfirmed_facts":2}]"#,
        )
        .unwrap();
        let want = "\
ZONE          SERIAL   RECORDS   AGE    STATE
* (2 names)   7        4         0 s    current
mesos.        7        12        0 s    current
spartan.      7        4         12 s   stale, 2 facts unconfirmed
";
        assert_eq!(render_zones(&zones, Paint::Plain), want);
    }
}
