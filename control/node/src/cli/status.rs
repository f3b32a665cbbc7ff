//! `mizzen status`.

use super::table::{Paint, Tone, age, plain, render as table, toned};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Most ranges of ports that are shown.
const MOST_RANGES: usize = 4;

/// What the node says about itself. A part that does not run has no section.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    version: String,
    instance: String,
    hostname: String,
    address: String,
    uptime_seconds: u64,
    master: Option<Master>,
    agent: Option<Agent>,
    dns: Option<Dns>,
    vips: Option<Vips>,
    overlay: Option<Overlay>,
    policy: Option<Policy>,
    cluster: Option<Cluster>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    listeners: BTreeMap<String, Value>,
    #[serde(default)]
    problems: Vec<String>,
}

/// How many nodes are in each state, as this one knows.
#[derive(Debug, Deserialize)]
struct Cluster {
    alive: u64,
    suspect: u64,
    dead: u64,
}

#[derive(Debug, Deserialize)]
struct Master {
    id: String,
    frameworks: u64,
    leading: bool,
}

#[derive(Debug, Deserialize)]
struct Agent {
    id: Option<String>,
    state: String,
    tasks: u64,
    #[serde(default)]
    resources: BTreeMap<String, Value>,
    #[serde(default)]
    used: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Dns {
    #[serde(default)]
    listen: Vec<String>,
    records: u64,
    serial: u64,
}

#[derive(Debug, Deserialize)]
struct Vips {
    engine: String,
    mechanism: Option<String>,
    count: u64,
    backends: u64,
    #[serde(default)]
    ejected: u64,
    #[serde(default)]
    out: u64,
}

#[derive(Debug, Deserialize)]
struct Overlay {
    subnet: Option<String>,
    bridge: String,
    mtu: u64,
    /// Overlays beside the one that tasks usually get.
    #[serde(default)]
    further: Vec<String>,
    #[serde(default)]
    peers: u64,
}

#[derive(Debug, Deserialize)]
struct Policy {
    policies: u64,
    enforced: bool,
    classes: u64,
}

/// The node, its parts, what is used, where it listens, and what is wrong.
pub(super) fn render(status: &Status, paint: Paint) -> String {
    let mut text = format!(
        "mizzen {} on {} ({}), instance {}, up {}\n\n",
        status.version,
        status.hostname,
        status.address,
        status.instance,
        age(status.uptime_seconds)
    );
    text.push_str(&parts(status, paint));
    if let Some(agent) = &status.agent
        && !agent.resources.is_empty()
    {
        text.push('\n');
        text.push_str(&resources(agent, paint));
    }
    if !status.listeners.is_empty() {
        let rows = status.listeners.iter().map(|(name, at)| vec![plain(name), plain(words(at))]);
        text.push('\n');
        text.push_str(&table(&["LISTENER", "ADDRESS"], rows.collect(), paint));
    }
    for problem in &status.problems {
        text.push_str(&paint.mark(Tone::Bad, &format!("\nproblem: {problem}")));
    }
    if !status.problems.is_empty() {
        text.push('\n');
    }
    text
}

impl Cluster {
    /// None as long as this node is alone.
    fn in_words(&self) -> Option<(Tone, &'static str, String)> {
        let (tone, state) = match self {
            Self { dead: 1.., .. } => (Tone::Bad, "incomplete"),
            Self { suspect: 1.., .. } => (Tone::Busy, "in doubt"),
            Self { alive: 2.., .. } => (Tone::Good, "whole"),
            _ => return None,
        };
        let out = [(self.suspect, "suspect"), (self.dead, "dead")];
        let out = out.iter().filter(|(count, _)| *count > 0);
        let out: String = out.map(|(count, word)| format!(", {count} {word}")).collect();
        Some((tone, state, format!("{} alive{out}", many(self.alive, "node"))))
    }
}

fn parts(status: &Status, paint: Paint) -> String {
    let mut rows = Vec::new();
    let mut row = |part: &str, tone, state: &str, detail: String| {
        rows.push(vec![plain(part), toned(tone, state), plain(detail)]);
    };
    if let Some((tone, state, detail)) = status.cluster.as_ref().and_then(Cluster::in_words) {
        row("cluster", tone, state, detail);
    }
    if let Some(master) = &status.master {
        let (tone, state) = match master.leading {
            true => (Tone::Good, "leading"),
            false => (Tone::Busy, "following"),
        };
        row(
            "master",
            tone,
            state,
            format!("{}, {}", many(master.frameworks, "framework"), master.id),
        );
    }
    if let Some(agent) = &status.agent {
        let (tone, state) = match agent.state.as_str() {
            "registered" => (Tone::Good, "registered"),
            "registering" => (Tone::Busy, "registering"),
            other => (Tone::Bad, other),
        };
        let id = agent.id.as_ref().map(|id| format!(", {id}")).unwrap_or_default();
        row("agent", tone, state, format!("{}{id}", many(agent.tasks, "task")));
    }
    if status.roles.iter().any(|role| role == "services") {
        row("services", Tone::Good, "on", String::new());
    }
    if let Some(dns) = &status.dns {
        let at = dns.listen.join(" ");
        let detail = format!("{} at {at}, serial {}", many(dns.records, "record"), dns.serial);
        row("dns", Tone::Good, "on", detail);
    }
    if let Some(vips) = &status.vips {
        let tone = if vips.engine == "off" { Tone::Bad } else { Tone::Good };
        let by = vips.mechanism.iter().map(|mechanism| format!(", by {mechanism}"));
        let by: String = by.collect();
        let idle = [(vips.ejected, "ejected"), (vips.out, "out")];
        let idle: Vec<String> =
            idle.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        let idle = if idle.is_empty() { String::new() } else { format!(" ({})", idle.join(", ")) };
        let (count, backends) = (many(vips.count, "VIP"), many(vips.backends, "backend"));
        row("vips", tone, &vips.engine, format!("{count}, {backends}{idle}{by}"));
    }
    if let Some(overlay) = &status.overlay {
        let peers = match overlay.peers {
            0 => String::new(),
            peers => format!(", {}", many(peers, "other node")),
        };
        match &overlay.subnet {
            Some(subnet) => {
                let (bridge, mtu) = (&overlay.bridge, overlay.mtu);
                let further = match overlay.further.as_slice() {
                    [] => String::new(),
                    names => format!(", and {}", names.join(", ")),
                };
                let detail = format!("{subnet} on {bridge}, MTU {mtu}{further}{peers}");
                row("overlay", Tone::Good, "on", detail);
            }
            None => row("overlay", Tone::Busy, "waiting", "for a block from the master".into()),
        }
    }
    if let Some(policy) = status.policy.as_ref().filter(|policy| policy.policies > 0) {
        let (tone, state) = match policy.enforced {
            true => (Tone::Good, "enforced"),
            false => (Tone::Bad, "NOT in force"),
        };
        let (policies, classes) = (policy.policies, policy.classes);
        row(
            "policy",
            tone,
            state,
            format!("policies: {policies}, classes of addresses: {classes}"),
        );
    }
    table(&["PART", "STATE", "DETAIL"], rows, paint)
}

fn resources(agent: &Agent, paint: Paint) -> String {
    let rows = agent.resources.iter().map(|(name, all)| {
        let used = agent.used.get(name).map(amount).unwrap_or_default();
        vec![plain(name), plain(used), plain(amount(all))]
    });
    table(&["RESOURCE", "USED", "OF"], rows.collect(), paint)
}

/// Ranges as people read them: `31000-32000`, or the first ones and how many there are.
fn amount(value: &Value) -> String {
    let text = words(value);
    let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return text;
    };
    let mut ranges: Vec<(u64, u64)> = list.split(',').filter_map(range).collect();
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (begin, end) in ranges {
        match joined.last_mut() {
            Some((_, last)) if begin <= last.saturating_add(1) => *last = end.max(*last),
            _ => joined.push((begin, end)),
        }
    }
    let count: u64 = joined.iter().map(|(begin, end)| end - begin + 1).sum();
    let shown = joined.iter().take(MOST_RANGES).map(|(begin, end)| match begin == end {
        true => begin.to_string(),
        false => format!("{begin}-{end}"),
    });
    let shown: Vec<String> = shown.collect();
    match joined.len() {
        0 => String::new(),
        1..=MOST_RANGES => shown.join(", "),
        _ => format!("{}, … ({count} in all)", shown.join(", ")),
    }
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (begin, end) = text.trim().split_once('-')?;
    Some((begin.parse().ok()?, end.parse().ok()?)).filter(|(begin, end)| begin <= end)
}

fn many(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A number or a text, as people write it.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) => n.as_f64().map_or_else(|| n.to_string(), super::table::number),
        Value::Array(parts) => parts.iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_in_words() {
        #[rustfmt::skip]
        let table = [
            (1, 0, 0, None),
            (3, 0, 0, Some(("whole",      "3 nodes alive"))),
            (2, 1, 0, Some(("in doubt",   "2 nodes alive, 1 suspect"))),
            (1, 1, 2, Some(("incomplete", "1 node alive, 1 suspect, 2 dead"))),
        ];
        for (alive, suspect, dead, want) in table {
            let words = Cluster { alive, suspect, dead }.in_words();
            let words = words.as_ref().map(|(_, state, detail)| (*state, detail.as_str()));
            assert_eq!(words, want);
        }
    }

    #[test]
    fn a_whole_node() {
        let status: Status = serde_json::from_str(
            r#"{"version":"0.1.0","instance":"default","hostname":"anchor","address":"192.0.2.7",
            "roles":["master","agent","services","dns","vip","overlay"],"uptime_seconds":192,
            "master":{"id":"m-1","frameworks":1,"leading":true},
            "agent":{"id":"a-1","state":"registered","tasks":2,"resources":{"cpus":4,"mem":4096.0,"ports":"[31000-32000]"},"used":{"cpus":0.2,"mem":64}},
            "dns":{"listen":["198.51.100.1:53"],"records":12,"serial":5},
            "vips":{"engine":"ebpf","count":1,"backends":4,"ejected":1,"out":2},
            "overlay":{"subnet":"9.0.0.0/24","bridge":"m-dcos","mtu":1420},
            "policy":{"policies":2,"enforced":true,"classes":7,"rulings":9},
            "listeners":{"agent":"192.0.2.7:5051","master":"192.0.2.7:5050"},
            "problems":["the disk is full"]}"#,
        )
        .unwrap();
        let want = "\
mizzen 0.1.0 on anchor (192.0.2.7), instance default, up 3m12s

PART       STATE        DETAIL
master     leading      1 framework, m-1
agent      registered   2 tasks, a-1
services   on           -
dns        on           12 records at 198.51.100.1:53, serial 5
vips       ebpf         1 VIP, 4 backends (1 ejected, 2 out)
overlay    on           9.0.0.0/24 on m-dcos, MTU 1420
policy     enforced     policies: 2, classes of addresses: 7

RESOURCE   USED   OF
cpus       0.2    4
mem        64     4096
ports      -      31000-32000

LISTENER   ADDRESS
agent      192.0.2.7:5051
master     192.0.2.7:5050

problem: the disk is full
";
        assert_eq!(render(&status, Paint::Plain), want);
    }

    #[test]
    fn many_ports_are_a_short_text() {
        for (ranges, want) in [
            ("[31000-32000]", "31000-32000"),
            ("[31005-31005, 31003-31004, 31007-31007]", "31003-31005, 31007"),
            ("[1-1, 3-3, 5-5, 7-7, 9-10]", "1, 3, 5, 7, … (6 in all)"),
            ("[]", ""),
            ("{a, b}", "{a, b}"),
        ] {
            assert_eq!(amount(&ranges.into()), want);
        }
        assert_eq!(amount(&4.into()), "4");
    }

    #[test]
    fn a_node_with_one_role() {
        let status: Status = serde_json::from_str(
            r#"{"version":"0.1.0","instance":"b","hostname":"h","address":"127.0.0.1","uptime_seconds":1,
            "roles":["dns"],"dns":{"listen":[],"records":0,"serial":1},"listeners":{},"problems":[]}"#,
        )
        .unwrap();
        let text = render(&status, Paint::Plain);
        assert!(!text.contains("master") && !text.contains("LISTENER"), "{text}");
    }
}
