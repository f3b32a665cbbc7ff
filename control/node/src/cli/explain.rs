//! `mizzen explain`.

use super::error::CliError;
use super::session::{Session, encode, print, print_json, understand};
use super::table::{Field, Paint, Tone, number, plain, render as table, toned};
use super::vips::{Backend, Latency, count, millis, state};
use crate::args::ExplainArgs;
use serde::Deserialize;

/// What the node says about a VIP, or about a connection and its VIP.
#[derive(Debug, Deserialize)]
struct Explained {
    connection: Option<Connection>,
    #[serde(default)]
    vips: Vec<Vip>,
}

#[derive(Debug, Deserialize)]
struct Connection {
    #[serde(default)]
    words: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Vip {
    vip: String,
    protocol: String,
    name: Option<String>,
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    backends: Vec<Row>,
    left_out: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Row {
    address: String,
    task: Option<String>,
    weight: f64,
    distance: String,
    near: Option<bool>,
    state: String,
    why: Option<String>,
    ejected_for_seconds: Option<f64>,
    #[serde(default)]
    takes_connections: bool,
    warmth: Option<f64>,
    in_flight: Option<u64>,
    handshake_ms: Option<f64>,
    connection_ms: Option<f64>,
    cost_ms: Option<f64>,
    probability: f64,
}

pub(super) async fn run(session: &Session, args: &ExplainArgs) -> Result<(), CliError> {
    let path = path(args);
    let document = session.get(&path).await?;
    if args.output.json {
        return print_json(&document);
    }
    print(&render(&understand(&path, document)?, session.paint))
}

fn path(args: &ExplainArgs) -> String {
    let (kind, what) = match &args.to {
        Some(to) => ("connection", format!("{}->{to}", args.what)),
        None if args.what.contains("->") => ("connection", args.what.clone()),
        None => ("vip", args.what.clone()),
    };
    format!("/v1/explain?{kind}={}", encode(&what))
}

fn render(explained: &Explained, paint: Paint) -> String {
    let mut text = String::new();
    for words in explained.connection.iter().flat_map(|connection| &connection.words) {
        text.push_str(&format!("{}\n", harmless(words)));
    }
    for vip in &explained.vips {
        if !text.is_empty() {
            text.push('\n');
        }
        let now = if explained.connection.is_some() { "Now: " } else { "" };
        let name = vip.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
        text.push_str(&harmless(&format!("{now}{}/{}{name}\n", vip.vip, vip.protocol)));
        for words in &vip.words {
            text.push_str(&format!("{}\n", harmless(words)));
        }
        if vip.backends.is_empty() {
            continue;
        }
        text.push_str(&backends(&vip.backends, paint));
        if let Some(left_out) = vip.left_out {
            text.push_str(&format!("and {left_out} that are less likely\n"));
        }
    }
    text
}

fn backends(rows: &[Row], paint: Paint) -> String {
    let headings = [
        "BACKEND",
        "TASK",
        "WHERE",
        "WEIGHT",
        "HANDSHAKE",
        "CONNECTION",
        "OPEN",
        "COST",
        "STATE",
        "NEXT",
    ];
    table(&headings, rows.iter().map(row).collect(), paint)
}

fn row(row: &Row) -> Vec<Field> {
    let backend = Backend {
        address: row.address.clone(),
        task: None,
        admitted: true,
        weight: row.weight,
        distance: String::new(),
        state: row.state.clone(),
        why: row.why.clone(),
        ejected_for_seconds: row.ejected_for_seconds,
        takes_connections: row.takes_connections,
        warmth: row.warmth,
        chosen: None,
        in_flight: None,
        successes: None,
        failures: None,
        latency_ms: Latency::default(),
    };
    let place = match row.near {
        Some(true) => format!("{}, near", row.distance),
        _ => row.distance.clone(),
    };
    let next = match row.probability {
        chance if chance > 0.0 => toned(Tone::Normal, format!("{:.1} %", chance * 100.0)),
        _ => toned(Tone::Faint, "never"),
    };
    vec![
        plain(&row.address),
        plain(row.task.clone().unwrap_or_default()),
        plain(place),
        plain(number(row.weight)),
        plain(millis(row.handshake_ms)),
        plain(millis(row.connection_ms)),
        plain(count(row.in_flight)),
        plain(millis(row.cost_ms)),
        state(&backend),
        next,
    ]
}

/// Names come from others and must not steer the terminal.
fn harmless(text: &str) -> String {
    text.replace('\u{1b}', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Output;

    fn args(what: &str, to: Option<&str>) -> ExplainArgs {
        let output = Output { json: false };
        ExplainArgs { what: what.to_owned(), to: to.map(str::to_owned), output }
    }

    #[test]
    fn a_vip_or_a_connection() {
        #[rustfmt::skip]
        let table = [
            ("web:80",               None,           "/v1/explain?vip=web%3A80"),
            ("1.2.3.4:53/udp",       None,           "/v1/explain?vip=1.2.3.4%3A53/udp"),
            ("1.2.3.4:5->web:80",    None,           "/v1/explain?connection=1.2.3.4%3A5-%3Eweb%3A80"),
            ("1.2.3.4:5",            Some("web:80"), "/v1/explain?connection=1.2.3.4%3A5-%3Eweb%3A80"),
        ];
        for (what, to, want) in table {
            assert_eq!(path(&args(what, to)), want);
        }
    }

    #[test]
    fn words_and_a_table() {
        let explained: Explained = serde_json::from_str(
            r#"{"connection":{"words":["10.0.0.1:4711 asked.","It was drawn first."]},
              "vips":[{"vip":"11.0.0.1:80","protocol":"tcp","name":null,"words":["Rule latency."],
               "backends":[
                {"address":"9.0.0.2:80","task":"web.1","weight":1,"distance":"node","near":true,"state":"in",
                 "in_flight":1,"handshake_ms":0.3,"connection_ms":11.9,"cost_ms":24.4,"probability":1.0},
                {"address":"9.0.0.3:80","task":null,"weight":1,"distance":"far","near":false,"state":"ejected",
                 "ejected_for_seconds":4.0,"probability":0.0}]}]}"#,
        )
        .unwrap();
        let want = "\
10.0.0.1:4711 asked.
It was drawn first.

Now: 11.0.0.1:80/tcp
Rule latency.
BACKEND      TASK    WHERE        WEIGHT   HANDSHAKE   CONNECTION   OPEN   COST    STATE         NEXT
9.0.0.2:80   web.1   node, near   1        300 µs      12 ms        1      24 ms   in            100.0 %
9.0.0.3:80   -       far          1        -           -            -      -       ejected 4 s   never
";
        assert_eq!(render(&explained, Paint::Plain), want);
    }
}
