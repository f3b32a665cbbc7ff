//! `mizzen dns`: what the resolver answers, and why it leaves something out.

use super::error::CliError;
use super::screen::{Form, Screen};
use super::session::{Session, encode, print, print_json, understand};
use super::table::{Paint, Tone, plain, render as table, toned};
use super::{dns_import, dns_records};
use crate::args::{DnsArgs, DnsCommand, DnsQuestion};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Between two looks at an answer.
const LOOK: Duration = Duration::from_millis(500);

/// An answer of the resolver, explained.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    name: String,
    #[serde(rename = "type")]
    record: String,
    rcode: String,
    zone: Option<String>,
    /// Whether upstreams are asked for it.
    #[serde(default)]
    forwarded: bool,
    /// Whether it is answered here because nobody outside can know.
    #[serde(default)]
    local: bool,
    forward_zone: Option<String>,
    #[serde(default)]
    upstreams: Vec<String>,
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
    /// The same in a few words.
    source_short: Option<String>,
    age_seconds: Option<u64>,
    #[serde(default)]
    stale: bool,
}

#[derive(Debug, Deserialize)]
struct LeftOut {
    data: Option<String>,
    why: String,
}

pub(super) async fn run(session: &Session, args: &DnsArgs) -> Result<(), CliError> {
    match &args.command {
        Some(DnsCommand::Set(args)) => dns_records::set(session, args).await,
        Some(DnsCommand::Rm(args)) => dns_records::rm(session, args).await,
        Some(DnsCommand::Ls(output)) => dns_records::ls(session, *output).await,
        Some(DnsCommand::Zones(output)) => dns_records::zones(session, *output).await,
        Some(DnsCommand::ImportConfig(args)) => dns_import::run(args),
        None if args.question.watch => {
            let form = Form::of(args.question.output);
            let screen = Screen::new(form, "without --watch all is shown");
            form.watch(watch(session, &args.question, screen)).await
        }
        None => once(session, &args.question).await,
    }
}

/// Shows the answer whenever it is another one.
async fn watch(session: &Session, args: &DnsQuestion, mut screen: Screen) -> Result<(), CliError> {
    let mut shown = Shown::default();
    loop {
        match screen.outlive(ask(session, args).await)? {
            Some((value, answer)) if shown.is_other(&value) => {
                let text = match screen.form() {
                    Form::Lines => format!("{value}\n"),
                    Form::Screen | Form::Blocks => render(&answer, session.paint),
                };
                screen.show(&text)?;
            }
            Some(_) => {}
            // What was shown is not there any more.
            None => shown = Shown::default(),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What was shown last.
#[derive(Default)]
struct Shown(Option<Value>);

impl Shown {
    /// Whether an answer is another one than before, which it is the next time no more.
    fn is_other(&mut self, value: &Value) -> bool {
        let content = comparable(value);
        let is_other = self.0.as_ref() != Some(&content);
        self.0 = Some(content);
        is_other
    }
}

/// An answer without what is always another: its age, its serial and its turn.
fn comparable(value: &Value) -> Value {
    let mut value = value.clone();
    for list in ["answers", "left_out"] {
        let Some(rows) = value[list].as_array_mut() else { continue };
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            row.remove("age_seconds");
            if value_is_forwarded(row) {
                row.remove("ttl");
                row.remove("source");
            }
        }
        rows.sort_by_key(Value::to_string);
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("serial");
    }
    value
}

fn value_is_forwarded(row: &serde_json::Map<String, Value>) -> bool {
    row.get("forwarded").is_some_and(|forwarded| forwarded == true)
}

async fn ask(session: &Session, args: &DnsQuestion) -> Result<(Value, Answer), CliError> {
    let name = args.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(CliError::NoName);
    }
    let record = args.record.to_ascii_uppercase();
    let path = format!("/v1/dns?name={}&type={}", encode(name), encode(&record));
    let value = session.get(&path).await?;
    let answer = understand(&path, value.clone())?;
    Ok((value, answer))
}

async fn once(session: &Session, args: &DnsQuestion) -> Result<(), CliError> {
    let (value, answer) = ask(session, args).await?;
    match args.output.json {
        true => print_json(&value)?,
        false => print(&render(&answer, session.paint))?,
    }
    match answer.rcode.as_str() {
        "NOERROR" => Ok(()),
        _ => Err(CliError::Unresolved { name: answer.name.clone(), why: answer.why() }),
    }
}

impl Answer {
    /// Its response code, in words.
    fn why(&self) -> String {
        let words = match (self.rcode.as_str(), self.forwarded) {
            ("NXDOMAIN", _) if !self.answers.is_empty() => {
                "it is an alias of a name that does not exist".to_owned()
            }
            ("NXDOMAIN", _) => "there is no such name".to_owned(),
            ("REFUSED", true) => self.refusal(),
            ("SERVFAIL", true) => {
                format!("{}, and no upstream gave an answer{}", self.place(), self.asked())
            }
            _ => return self.rcode.clone(),
        };
        format!("{} ({words})", self.rcode)
    }

    /// Who refused, or why nobody was asked.
    fn refusal(&self) -> String {
        match (self.upstreams.is_empty(), &self.forward_zone) {
            (false, _) => format!("{}, and upstreams refuse it{}", self.place(), self.asked()),
            (true, Some(zone)) => {
                format!("forward zone `{zone}` has nobody to ask (dns.forward_zones)")
            }
            (true, None) => {
                format!("{}, which has nobody else to ask (dns.upstreams)", self.place())
            }
        }
    }

    fn place(&self) -> &'static str {
        match &self.zone {
            None => "it is in no zone of this node",
            Some(_) => "it is an alias of a name in no zone of this node",
        }
    }

    fn asked(&self) -> String {
        match self.upstreams.as_slice() {
            [] => String::new(),
            upstreams => format!(": {}", upstreams.join(", ")),
        }
    }
}

fn render(answer: &Answer, paint: Paint) -> String {
    let zone = match &answer.zone {
        Some(zone) => format!(", zone {zone}"),
        None if answer.forwarded && answer.upstreams.is_empty() => {
            ", with nobody to ask".to_owned()
        }
        None if answer.forwarded => ", forwarded".to_owned(),
        None if answer.local => ", asked of nobody outside".to_owned(),
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
                toned(Tone::Faint, record.source().unwrap_or_default()),
                toned(if record.stale { Tone::Busy } else { Tone::Faint }, age(record)),
            ]
        });
        text.push('\n');
        text.push_str(&table(
            &["NAME", "TYPE", "TTL", "DATA", "SOURCE", "AGE"],
            rows.collect(),
            paint,
        ));
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

impl Record {
    fn source(&self) -> Option<&str> {
        self.source_short.as_deref().or(self.source.as_deref())
    }
}

/// Since when it is so, as far as that is known.
fn age(record: &Record) -> String {
    let age = record.age_seconds.map(super::table::age).unwrap_or_default();
    match (record.stale, age.is_empty()) {
        (false, _) => age,
        (true, true) => "unconfirmed".to_owned(),
        (true, false) => format!("{age}, unconfirmed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_and_what_is_not_in_it() {
        let answer: Answer = serde_json::from_str(
            r#"{"name":"web.marathon.mesos","type":"A","rcode":"NOERROR","zone":"mesos","answers":[
             {"name":"web.marathon.mesos","type":"A","ttl":5,"data":"9.0.0.2","source":"task web.1 of framework f on node n","source_short":"task web.1",
              "age_seconds":75}],
             "left_out":[{"data":"9.0.0.3","why":"task web.2 is unhealthy"},{"why":"no IPv6"}]}"#,
        )
        .unwrap();
        let want = "\
web.marathon.mesos A: NOERROR, zone mesos

NAME                 TYPE   TTL   DATA      SOURCE       AGE
web.marathon.mesos   A      5     9.0.0.2   task web.1   1m15s

LEFT OUT   WHY
9.0.0.3    task web.2 is unhealthy
-          no IPv6
";
        assert_eq!(render(&answer, Paint::Plain), want);
    }

    #[test]
    fn only_another_answer_is_drawn_again() {
        let at = |addresses: &[&str], serial: u64, age: u64| {
            let row = |data: &&str| {
                json!({ "name": "web.mesos", "type": "A", "ttl": 5, "data": data,
                        "source": "task web.1", "age_seconds": age })
            };
            let answers: Vec<Value> = addresses.iter().map(row).collect();
            json!({ "name": "web.mesos", "type": "A", "rcode": "NOERROR", "zone": "mesos",
                    "serial": serial, "answers": answers, "left_out": [] })
        };
        let mut shown = Shown::default();
        assert!(shown.is_other(&at(&["9.0.0.2", "9.0.0.3"], 1, 1)), "the first is shown");
        // Older, elsewhere another name changed, and in another order: the same.
        assert!(!shown.is_other(&at(&["9.0.0.3", "9.0.0.2"], 2, 2)));
        assert!(shown.is_other(&at(&["9.0.0.3"], 3, 3)), "another one is shown");
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
        let answer = |rcode: &str, rest: &str| -> Answer {
            let text = format!(
                r#"{{"name":"example.com","type":"A","rcode":"{rcode}","answers":[],{rest}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let (outside, asked) =
            (r#""zone":null,"forwarded":true"#, r#""upstreams":["192.0.2.1:53"]"#);
        let refused = answer("REFUSED", &format!("{outside},{asked}"));
        assert_eq!(render(&refused, Paint::Plain), "example.com A: REFUSED, forwarded\n");
        let unasked = answer("REFUSED", r#""zone":null,"forwarded":true,"upstreams":[]"#);
        let shown = render(&unasked, Paint::Plain);
        assert_eq!(shown, "example.com A: REFUSED, with nobody to ask\n");
        let alone = answer("NOERROR", r#""zone":null,"local":true"#);
        assert_eq!(
            render(&alone, Paint::Plain),
            "example.com A: NOERROR, asked of nobody outside\n"
        );
        #[rustfmt::skip]
        let table = [
            ("REFUSED",  outside.to_owned(),                             "nobody else to ask (dns.upstreams)"),
            ("REFUSED",  format!("{outside},\"forward_zone\":\"com\""),  "`com` has nobody to ask (dns.forward_zones)"),
            ("REFUSED",  format!("{outside},{asked}"),                   "upstreams refuse it: 192.0.2.1:53"),
            ("SERVFAIL", format!("{outside},{asked}"),                   "no upstream gave an answer: 192.0.2.1:53"),
        ];
        for (rcode, rest, want) in table {
            let why = answer(rcode, &rest).why();
            assert!(why.starts_with(rcode) && why.contains(want), "{why}");
        }
    }
}
