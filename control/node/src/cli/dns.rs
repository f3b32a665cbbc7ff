//! `mizzen dns`: what the resolver answers, and why it leaves something out.

use super::error::CliError;
use super::session::{Session, encode, print, print_json, understand};
use super::table::{Paint, Tone, plain, render as table, toned};
use crate::args::DnsArgs;
use serde::Deserialize;

/// An answer of the resolver, explained.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    name: String,
    #[serde(rename = "type")]
    record: String,
    rcode: String,
    zone: Option<String>,
    /// Whether it is in no zone of the node.
    #[serde(default)]
    forwarded: bool,
    #[serde(default)]
    answers: Vec<Record>,
    #[serde(default)]
    left_out: Vec<LeftOut>,
}

#[derive(Debug, Deserialize)]
struct Record {
    name: String,
    #[serde(rename = "type")]
    record: String,
    ttl: u64,
    data: String,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LeftOut {
    data: Option<String>,
    why: String,
}

pub(super) async fn run(session: &Session, args: &DnsArgs) -> Result<(), CliError> {
    let record = args.record.to_ascii_uppercase();
    let path = format!("/v1/dns?name={}&type={}", encode(&args.name), encode(&record));
    let value = session.get(&path).await?;
    let answer: Answer = understand(&path, value.clone())?;
    match args.output.json {
        true => print_json(&value)?,
        false => print(&render(&answer, session.paint))?,
    }
    match answer.rcode.as_str() {
        "NOERROR" => Ok(()),
        _ => Err(CliError::Unresolved { name: args.name.clone(), why: answer.why() }),
    }
}

impl Answer {
    /// Its response code, in words.
    fn why(&self) -> String {
        let words = match (self.rcode.as_str(), self.forwarded) {
            ("NXDOMAIN", _) => "there is no such name",
            ("REFUSED", true) => {
                "it is in no zone of this node, which has nobody else to ask (dns.upstreams)"
            }
            ("SERVFAIL", true) => "it is in no zone of this node, and no upstream answered",
            _ => return self.rcode.clone(),
        };
        format!("{} ({words})", self.rcode)
    }
}

fn render(answer: &Answer, paint: Paint) -> String {
    let zone = match &answer.zone {
        Some(zone) => format!(", zone {zone}"),
        None if answer.forwarded => ", forwarded".to_owned(),
        None => String::new(),
    };
    let tone = if answer.rcode == "NOERROR" { Tone::Good } else { Tone::Bad };
    let rcode = paint.mark(tone, &answer.rcode);
    let mut text = format!("{} {}: {rcode}{zone}\n", answer.name, answer.record);
    if !answer.answers.is_empty() {
        let rows = answer.answers.iter().map(|record| {
            vec![
                plain(&record.name),
                plain(&record.record),
                plain(record.ttl),
                plain(&record.data),
                toned(Tone::Faint, record.source.clone().unwrap_or_default()),
            ]
        });
        text.push('\n');
        text.push_str(&table(&["NAME", "TYPE", "TTL", "DATA", "SOURCE"], rows.collect(), paint));
    }
    if !answer.left_out.is_empty() {
        let rows = answer.left_out.iter().map(|left| {
            vec![plain(left.data.clone().unwrap_or_default()), toned(Tone::Busy, &left.why)]
        });
        text.push('\n');
        text.push_str(&table(&["LEFT OUT", "WHY"], rows.collect(), paint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_and_what_is_not_in_it() {
        let answer: Answer = serde_json::from_str(
            r#"{"name":"web.marathon.mesos","type":"A","rcode":"NOERROR","zone":"mesos","answers":[
             {"name":"web.marathon.mesos","type":"A","ttl":5,"data":"9.0.0.2","source":"task web.1"}],
             "left_out":[{"data":"9.0.0.3","why":"task web.2 is unhealthy"},{"why":"no IPv6"}]}"#,
        )
        .unwrap();
        let want = "\
web.marathon.mesos A: NOERROR, zone mesos

NAME                 TYPE   TTL   DATA      SOURCE
web.marathon.mesos   A      5     9.0.0.2   task web.1

LEFT OUT   WHY
9.0.0.3    task web.2 is unhealthy
-          no IPv6
";
        assert_eq!(render(&answer, Paint::Plain), want);
    }

    #[test]
    fn a_name_that_is_not_there() {
        let answer: Answer = serde_json::from_str(
            r#"{"name":"x.mesos","type":"A","rcode":"NXDOMAIN","zone":"mesos","answers":[],"left_out":[]}"#,
        )
        .unwrap();
        assert_eq!(render(&answer, Paint::Plain), "x.mesos A: NXDOMAIN, zone mesos\n");
    }

    #[test]
    fn a_name_that_somebody_else_has() {
        let answer: Answer = serde_json::from_str(
            r#"{"name":"example.com","type":"A","rcode":"REFUSED","zone":null,"forwarded":true,
             "answers":[],"left_out":[]}"#,
        )
        .unwrap();
        assert_eq!(render(&answer, Paint::Plain), "example.com A: REFUSED, forwarded\n");
        assert!(answer.why().starts_with("REFUSED (") && answer.why().contains("dns.upstreams"));
    }
}
