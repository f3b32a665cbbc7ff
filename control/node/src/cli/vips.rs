//! `mizzen vips`.

use super::error::CliError;
use super::session::{Session, encode, print, print_json, understand};
use super::table::{Field, Paint, Tone, number, plain, render as table, toned};
use super::vip_plan;
use super::watch;
use crate::args::VipsArgs;
use serde::Deserialize;

/// A VIP with its backends.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Vip {
    pub vip: String,
    pub protocol: String,
    pub name: Option<String>,
    #[serde(default)]
    pub rule: String,
    #[serde(default)]
    pub locality: String,
    #[serde(default)]
    pub refused: Option<u64>,
    #[serde(default)]
    pub backends: Vec<Backend>,
}

/// A backend; what nobody counts is absent.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Backend {
    pub address: String,
    pub task: Option<String>,
    pub admitted: bool,
    #[serde(default)]
    pub weight: f64,
    #[serde(default)]
    pub distance: String,
    #[serde(default)]
    pub state: String,
    /// Why it is out.
    #[serde(default)]
    pub why: Option<String>,
    #[serde(default)]
    pub ejected_for_seconds: Option<f64>,
    /// Whether it does although it is ejected, because too few are left.
    #[serde(default)]
    pub takes_connections: bool,
    #[serde(default)]
    pub warmth: Option<f64>,
    #[serde(default)]
    pub chosen: Option<u64>,
    #[serde(default)]
    pub in_flight: Option<u64>,
    #[serde(default)]
    pub successes: Option<u64>,
    #[serde(default)]
    pub failures: Option<u64>,
    #[serde(default)]
    pub latency_ms: Latency,
}

/// Latencies in milliseconds, those that are known.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub handshake: Option<f64>,
    pub connection: Option<f64>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

/// A label that does not do what it says.
#[derive(Debug, Deserialize)]
struct Problem {
    task: Option<String>,
    service: Option<String>,
    vip: Option<String>,
    problem: String,
}

const PROBLEMS: &str = "/v1/vip-problems";

pub(super) async fn run(session: &Session, args: &VipsArgs) -> Result<(), CliError> {
    if let Some(file) = &args.plan {
        return vip_plan::run(session, file, args.output).await;
    }
    if args.problems {
        return session.show(PROBLEMS, args.output, |all: &Vec<Problem>, _| listed(all)).await;
    }
    if args.watch {
        return watch::run(session, args).await;
    }
    let vips = session.get(&path(args.which.as_deref())).await?;
    if args.output.json {
        return print_json(&vips);
    }
    if args.which.is_some() {
        return print(&render(&understand("/v1/vip-table", vips)?, session.paint));
    }
    let found: Vec<Problem> = session.read(PROBLEMS).await?;
    print(&render(&understand("/v1/vip-table", vips)?, session.paint))?;
    match found.as_slice() {
        [] => Ok(()),
        some => print(&session.paint.mark(Tone::Bad, &format!("\n{}", problems(some)))),
    }
}

/// Where all VIPs are, or some of them.
pub(super) fn path(which: Option<&str>) -> String {
    match which {
        Some(which) => format!("/v1/vip-table?vip={}", encode(which)),
        None => "/v1/vip-table".to_owned(),
    }
}

/// The problems, or that there are none.
fn listed(all: &[Problem]) -> String {
    if all.is_empty() { "no problems\n".to_owned() } else { problems(all) }
}

/// One line for each.
fn problems(all: &[Problem]) -> String {
    let line = |problem: &Problem| {
        let task = problem.task.as_ref().map(|task| format!("task {task}"));
        let service = problem.service.as_ref().map(|service| format!("service {service}"));
        let vip = problem.vip.as_ref().map(|vip| format!(" ({vip})")).unwrap_or_default();
        let who = task.or(service).unwrap_or_default();
        format!("problem: {who}{vip}: {}\n", problem.problem).replace('\u{1b}', " ")
    };
    all.iter().map(line).collect()
}

/// One row for each backend; the VIP stands in the first one.
pub(super) fn render(vips: &Vec<Vip>, paint: Paint) -> String {
    let mut rows = Vec::new();
    for vip in vips {
        let mut head = [
            plain(format!("{}/{}", vip.vip, vip.protocol)),
            plain(vip.name.clone().unwrap_or_default()),
            plain(rule(vip)),
        ];
        if vip.backends.is_empty() {
            let rest = (0..8).map(|_| plain("")).chain([toned(Tone::Bad, "no backends")]);
            rows.push(head.iter().cloned().chain(rest).collect());
        }
        for backend in &vip.backends {
            rows.push(head.iter().cloned().chain(row(backend)).collect());
            head = head.map(|_| toned(Tone::Faint, "\""));
        }
    }
    let headings = [
        "VIP", "NAME", "RULE", "BACKEND", "TASK", "WHERE", "WEIGHT", "OPEN", "LATENCY", "GOOD",
        "FAILED", "STATE",
    ];
    table(&headings, rows, paint)
}

fn row(backend: &Backend) -> [Field; 9] {
    [
        plain(&backend.address),
        plain(backend.task.clone().unwrap_or_default()),
        plain(&backend.distance),
        plain(number(backend.weight)),
        plain(count(backend.in_flight)),
        plain(millis(average(&backend.latency_ms))),
        plain(count(backend.successes)),
        failures(backend.failures),
        state(backend),
    ]
}

/// The rule; near backends go first unless it says otherwise.
fn rule(vip: &Vip) -> String {
    match vip.locality.as_str() {
        "ignore" => format!("{}, all alike", vip.rule),
        _ => vip.rule.clone(),
    }
}

/// What the choice takes for a backend's latency.
pub(super) fn average(latency: &Latency) -> Option<f64> {
    match (latency.handshake, latency.connection) {
        (None, None) => None,
        (handshake, connection) => {
            Some(handshake.unwrap_or_default() + connection.unwrap_or_default())
        }
    }
}

/// A number if it is known.
pub(super) fn count(number: Option<u64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

/// A time in milliseconds, short.
pub(super) fn millis(time: Option<f64>) -> String {
    match time {
        None => String::new(),
        Some(time) if time < 0.9995 => format!("{:.0} µs", time * 1e3),
        Some(time) if time < 9.95 => format!("{time:.1} ms"),
        Some(time) if time < 10_000.0 => format!("{time:.0} ms"),
        Some(time) => format!("{:.0} s", time / 1e3),
    }
}

/// Failures, marked if there are any.
pub(super) fn failures(failures: Option<u64>) -> Field {
    let tone = if failures.unwrap_or(0) == 0 { Tone::Normal } else { Tone::Busy };
    toned(tone, count(failures))
}

/// How a backend stands.
pub(super) fn state(backend: &Backend) -> Field {
    let (tone, text) = match backend.state.as_str() {
        // A node of another version says nothing about it.
        "" if backend.admitted => (Tone::Good, "in".to_owned()),
        "" => (Tone::Bad, "out".to_owned()),
        "in" => (Tone::Good, "in".to_owned()),
        "warming" => (Tone::Busy, share(backend.warmth)),
        "half-open" => (Tone::Busy, backend.state.clone()),
        "draining" => (Tone::Busy, with_reason(backend)),
        "ejected" => {
            let left = backend.ejected_for_seconds.unwrap_or_default().ceil();
            let but = if backend.takes_connections { ", admitted" } else { "" };
            (Tone::Bad, format!("ejected {left} s{but}"))
        }
        _ => (Tone::Bad, with_reason(backend)),
    };
    toned(tone, text)
}

/// `out: weight 0`; a word that this program does not know as it is.
fn with_reason(backend: &Backend) -> String {
    let why = match backend.why.as_deref() {
        None => return backend.state.clone(),
        Some("no-weight") => "weight 0",
        Some("unchecked") => "no health yet",
        Some("no-answer") => "node silent",
        Some(word) => word,
    };
    format!("{}: {why}", backend.state)
}

fn share(warmth: Option<f64>) -> String {
    match warmth {
        Some(warmth) => format!("warming {:.0} %", warmth * 100.0),
        None => "warming".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_problems_are_said() {
        assert_eq!(listed(&[]), "no problems\n");
        let one: Vec<Problem> =
            serde_json::from_str(r#"[{"service":"a:1/tcp","problem":"x"}]"#).unwrap();
        assert_eq!(listed(&one), "problem: service a:1/tcp: x\n");
    }

    #[test]
    fn vips_with_their_backends() {
        let vips: Vec<Vip> = serde_json::from_str(
            r#"[{"vip":"11.0.0.1:80","protocol":"tcp","name":"web.marathon.l4lb.thisdcos.directory",
              "rule":"latency","locality":"prefer","backends":[
               {"address":"9.0.0.2:80","task":"web.1","admitted":true,"weight":1,"distance":"node","state":"in",
                "in_flight":3,"successes":510,"failures":0,"latency_ms":{"handshake":0.21,"connection":12.6}},
               {"address":"9.0.0.3:80","task":"web.2","admitted":true,"weight":1,"distance":"zone","state":"ejected",
                "ejected_for_seconds":3.2,"takes_connections":true,"in_flight":0,"successes":490,"failures":3,"latency_ms":{"handshake":0.25}},
               {"address":"9.0.0.4:80","task":"web.3","admitted":false,"weight":2,"distance":"far","state":"draining","why":"stopping"},
               {"address":"9.0.0.5:80","task":null,"admitted":false,"weight":0,"distance":"far","state":"out","why":"no-weight"}]},
              {"vip":"1.2.3.4:53","protocol":"udp","name":null,"rule":"source","locality":"ignore","backends":[]}]"#,
        )
        .unwrap();
        let want = "\
VIP               NAME                                   RULE                BACKEND      TASK    WHERE   WEIGHT   OPEN   LATENCY   GOOD   FAILED   STATE
11.0.0.1:80/tcp   web.marathon.l4lb.thisdcos.directory   latency             9.0.0.2:80   web.1   node    1        3      13 ms     510    0        in
\"                 \"                                      \"                   9.0.0.3:80   web.2   zone    1        0      250 µs    490    3        ejected 4 s, admitted
\"                 \"                                      \"                   9.0.0.4:80   web.3   far     2        -      -         -      -        draining: stopping
\"                 \"                                      \"                   9.0.0.5:80   -       far     0        -      -         -      -        out: weight 0
1.2.3.4:53/udp    -                                      source, all alike   -            -       -       -        -      -         -      -        no backends
";
        assert_eq!(render(&vips, Paint::Plain), want);
    }
}
