//! What the node says of policies, as text.

use super::super::table::{Field, Paint, Tone, plain, render as table, toned};
use mizzen_types::policy::{Policy, PolicyId, Selector};
use serde::Deserialize;

/// All that the node says of policies.
#[derive(Debug, Deserialize)]
pub(super) struct All {
    problem: Option<String>,
    policies: Vec<Listed>,
    #[serde(default)]
    counts: Vec<Counted>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    id: PolicyId,
    #[serde(flatten)]
    policy: Policy,
}

#[derive(Debug, Deserialize)]
struct Counted {
    by: Decider,
    allowed: u64,
    refused: u64,
    would_refuse: u64,
}

/// A rule, or what holds where none does.
#[derive(Debug, Deserialize)]
struct Decider {
    policy: Option<PolicyId>,
    direction: Option<String>,
    rule: Option<String>,
    default: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Explained {
    from: End,
    to: End,
    words: Vec<String>,
    #[serde(default = "yes")]
    enforced: bool,
}

#[derive(Debug, Deserialize)]
struct End {
    address: String,
    port: Option<u16>,
    kind: Option<String>,
    task: Option<String>,
    overlay: Option<String>,
    #[serde(default)]
    guarded_by: Vec<PolicyId>,
    #[serde(default)]
    tried_by: Vec<PolicyId>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Dropped {
    from: End,
    to: End,
    protocol: String,
    verdict: String,
    place: String,
    by: Option<Decider>,
}

/// One row for each rule, and what was decided without one.
pub(super) fn render(all: &All, paint: Paint) -> String {
    let mut text = String::new();
    if let Some(problem) = all.problem.as_ref().filter(|_| !all.policies.is_empty()) {
        text.push_str(&paint.mark(Tone::Bad, &format!("NOT in force on this node: {problem}")));
        text.push('\n');
    }
    let rows = all.policies.iter().map(|listed| row(all, listed)).collect();
    let headings = ["POLICY", "APPLIES TO", "INGRESS", "EGRESS", "MODE", "PASSED", "WOULD REFUSE"];
    text.push_str(&table(&headings, rows, paint));
    let defaults = all.counts.iter().filter(|count| count.refused + count.would_refuse > 0);
    let defaults = defaults.filter_map(|count| {
        let default = count.by.default.as_ref()?;
        Some(vec![plain(default), plain(count.refused), plain(count.would_refuse)])
    });
    let defaults: Vec<Vec<Field>> = defaults.collect();
    if !defaults.is_empty() {
        text.push('\n');
        text.push_str(&table(&["NO RULE ALLOWS", "REFUSED", "WOULD REFUSE"], defaults, paint));
    }
    text
}

fn row(all: &All, listed: &Listed) -> Vec<Field> {
    let Listed { id, policy } = listed;
    let rules = |rules: &Option<Vec<_>>| match rules {
        None => toned(Tone::Faint, "unguarded"),
        Some(rules) if rules.is_empty() => plain("nothing"),
        Some(rules) if rules.len() == 1 => plain("1 rule"),
        Some(rules) => plain(format!("{} rules", rules.len())),
    };
    let own = || all.counts.iter().filter(|count| count.by.policy.as_ref() == Some(id));
    vec![
        plain(id),
        plain(words(&policy.applies_to)),
        rules(&policy.ingress),
        rules(&policy.egress),
        if policy.audit { toned(Tone::Busy, "audit") } else { toned(Tone::Good, "enforced") },
        plain(own().map(|count| count.allowed).sum::<u64>()),
        plain(own().map(|count| count.would_refuse).sum::<u64>()),
    ]
}

/// A selector in a few words.
fn words(selector: &Selector) -> String {
    let Selector { overlay, labels, name, address, entity } = selector;
    let parts = [
        overlay.as_ref().map(|overlay| format!("overlay {overlay}")),
        name.as_ref().map(|name| format!("name {name}")),
        address.map(|address| format!("address {address}")),
        entity.map(|entity| entity.word().to_owned()),
    ];
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
    let all: Vec<String> = parts.into_iter().flatten().chain(labels).collect();
    if all.is_empty() { "all containers".to_owned() } else { all.join(", ") }
}

pub(super) fn explained(answer: &Explained, paint: Paint) -> String {
    let end = |title: &str, end: &End| {
        let what = end.task.as_deref().or(end.kind.as_deref()).unwrap_or_default();
        let overlay =
            end.overlay.as_ref().map(|name| format!(", overlay {name}")).unwrap_or_default();
        let list = |word: &str, ids: &[PolicyId]| match ids {
            [] => String::new(),
            ids => {
                let ids: Vec<&str> = ids.iter().map(PolicyId::as_str).collect();
                format!(", {word} by {}", ids.join(" "))
            }
        };
        let guarded = list("guarded", &end.guarded_by) + &list("tried", &end.tried_by);
        harmless(&format!("{title} {} ({what}{overlay}{guarded})\n", end.address))
    };
    let mut text = end("from", &answer.from) + &end("to  ", &answer.to);
    for words in &answer.words {
        let tone = if words.contains("is refused:") { Tone::Bad } else { Tone::Good };
        text.push_str(&paint.mark(tone, &harmless(words)));
        text.push('\n');
    }
    if !answer.enforced {
        text.push_str(&paint.mark(Tone::Bad, "but policies are NOT in force on this node"));
        text.push('\n');
    }
    text
}

/// Names come from others and must not steer the terminal.
fn harmless(text: &str) -> String {
    text.replace('\u{1b}', " ")
}

pub(super) fn rows_of(drops: &[Dropped], paint: Paint) -> String {
    let row = |drop: &Dropped| {
        let tone = if drop.verdict == "refuse" { Tone::Bad } else { Tone::Busy };
        vec![
            plain(called(&drop.from)),
            plain(called(&drop.to)),
            plain(&drop.protocol),
            toned(tone, &drop.verdict),
            plain(by(drop.by.as_ref())),
            plain(&drop.place),
        ]
    };
    let headings = ["FROM", "TO", "PROTOCOL", "VERDICT", "BY", "PLACE"];
    table(&headings, drops.iter().map(row).collect(), paint)
}

pub(super) fn sentence(drop: &Dropped) -> String {
    let (from, to, by) = (called(&drop.from), called(&drop.to), by(drop.by.as_ref()));
    let (verdict, protocol, place) = (&drop.verdict, &drop.protocol, &drop.place);
    harmless(&format!("{verdict} {from} -> {to}/{protocol} by {by} at {place}"))
}

fn called(end: &End) -> String {
    let is_v6 = end.address.contains(':');
    let address = match end.port {
        Some(port) if is_v6 => format!("[{}]:{port}", end.address),
        Some(port) => format!("{}:{port}", end.address),
        None => end.address.clone(),
    };
    end.task.as_ref().map_or_else(|| address.clone(), |task| format!("{task} ({address})"))
}

fn by(decider: Option<&Decider>) -> String {
    let Some(decider) = decider else { return "a rule that is gone".to_owned() };
    match (&decider.policy, &decider.direction, &decider.rule) {
        (Some(policy), Some(direction), Some(rule)) => format!("{policy} {direction} {rule}"),
        _ => decider.default.clone().unwrap_or_default(),
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies_with_what_was_counted() {
        let all: All = serde_json::from_value(json!({
            "enforced": false, "problem": "no BPF",
            "policies": [
                {"id": "db", "applies_to": {"labels": {"app": "db"}, "overlay": "dcos"},
                 "ingress": [{"peers": [{"name": "web"}], "ports": ["5432/tcp"]}]},
                {"id": "all", "audit": true, "applies_to": {}, "ingress": [], "egress": [{}, {}]},
            ],
            "counts": [
                {"by": {"policy": "db", "direction": "ingress", "rule": "#0"}, "allowed": 7, "refused": 0, "would_refuse": 0},
                {"by": {"default": "guard-ingress"}, "allowed": 0, "refused": 3, "would_refuse": 0},
                {"by": {"default": "open"}, "allowed": 9, "refused": 0, "would_refuse": 0},
            ],
        }))
        .unwrap();
        let want = "\
NOT in force on this node: no BPF
POLICY   APPLIES TO             INGRESS   EGRESS      MODE       PASSED   WOULD REFUSE
db       overlay dcos, app=db   1 rule    unguarded   enforced   7        0
all      all containers         nothing   2 rules     audit      0        0

NO RULE ALLOWS   REFUSED   WOULD REFUSE
guard-ingress    3         0
";
        assert_eq!(render(&all, Paint::Plain), want);
    }

    #[test]
    fn an_explanation() {
        let answer: Explained = serde_json::from_value(json!({
            "from": {"address": "9.0.1.2", "kind": "container", "task": "web.1", "overlay": "dcos"},
            "to": {"address": "9.0.1.3", "kind": "container", "overlay": "dcos", "guarded_by": ["db"]},
            "answers": [], "words": ["80/tcp is refused: policy db guards the receiver"],
        }))
        .unwrap();
        let want = "\
from 9.0.1.2 (web.1, overlay dcos)
to   9.0.1.3 (container, overlay dcos, guarded by db)
80/tcp is refused: policy db guards the receiver
";
        assert_eq!(explained(&answer, Paint::Plain), want);
    }

    #[test]
    fn refusals_in_a_line() {
        let drop: Dropped = serde_json::from_value(json!({
            "from": {"address": "9.0.1.2", "port": 4711, "task": "web.1"},
            "to": {"address": "fd00::1", "port": 80}, "protocol": "tcp", "verdict": "refuse",
            "place": "socket", "by": {"default": "isolation"},
        }))
        .unwrap();
        assert_eq!(
            sentence(&drop),
            "refuse web.1 (9.0.1.2:4711) -> [fd00::1]:80/tcp by isolation at socket"
        );
        assert_eq!(by(None), "a rule that is gone");
    }
}
