//! `mizzen nodes`, `mizzen expel` and `mizzen leave`.

use super::error::CliError;
use super::screen::{Form, Screen};
use super::session::{Session, print, print_json, understand};
use super::table::{Paint, Tone, age, plain, render as table, toned};
use crate::args::{ExpelArgs, NodesArgs};
use crate::several::several;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const NODES: &str = "/v1/cluster/nodes";
/// The list is looked at this often.
const LOOK: Duration = Duration::from_millis(500);
/// Letters of an id that are shown.
const SHORT: usize = 8;

/// A node as it is listed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Node {
    id: String,
    hostname: Option<String>,
    address: String,
    zone: Option<String>,
    state: String,
    here: bool,
    authority: bool,
    since_seconds: u64,
    silent_seconds: Option<u64>,
    round_trip_ms: Option<f64>,
    path_mtu: Option<u32>,
    #[serde(default)]
    subnets: Vec<String>,
    #[serde(default)]
    problems: Vec<Problem>,
}

/// Something that is wrong with a node, as it says or as others see it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Problem {
    problem: String,
    since_seconds: u64,
}

pub(super) async fn run(session: &Session, args: &NodesArgs) -> Result<(), CliError> {
    if !args.watch {
        let nodes = session.get(NODES).await?;
        return match args.output.json {
            true => print_json(&nodes),
            false => print(&render(&understand::<Vec<Node>>(NODES, nodes)?, session.paint)),
        };
    }
    let form = Form::of(args.output);
    form.watch(watch(session, Screen::new(form, "`mizzen nodes` shows all"))).await
}

/// How a node stands, without the times: its id, its state, what is wrong.
type Standing = (String, String, Vec<String>);

fn standing(node: &Node) -> Standing {
    let problems = node.problems.iter().map(|problem| problem.problem.clone());
    (node.id.clone(), node.state.clone(), problems.collect())
}

/// Shows the list again and again: on a terminal in its place, elsewhere whenever a node is
/// in another state.
async fn watch(session: &Session, mut screen: Screen) -> Result<(), CliError> {
    let mut shown: Option<Vec<Standing>> = None;
    loop {
        if let Some(answer) = screen.outlive(session.get(NODES).await)? {
            let nodes: Vec<Node> = understand(NODES, answer.clone())?;
            let states = nodes.iter().map(standing).collect();
            let is_other = shown.as_ref() != Some(&states);
            shown = Some(states);
            match screen.form() {
                Form::Screen => screen.show(&render(&nodes, session.paint))?,
                Form::Blocks if is_other => screen.show(&render(&nodes, session.paint))?,
                Form::Lines if is_other => screen.show(&format!("{answer}\n"))?,
                Form::Blocks | Form::Lines => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) async fn expel(session: &Session, args: &ExpelArgs) -> Result<(), CliError> {
    let unwanted = json!({ "node": args.node });
    let answer = session.send("POST", "/v1/cluster/expel", Some(&unwanted)).await?;
    if args.output.json {
        return print_json(&answer);
    }
    print(&format!("{} is expelled\n", answer["expelled"].as_str().unwrap_or_default()))
}

pub(super) async fn leave(session: &Session) -> Result<(), CliError> {
    session.send("POST", "/v1/cluster/leave", None).await?;
    crate::say(
        "This node has left. To come back, or to join another cluster: stop it, then \
         mizzen node --join HOST --token TOKEN.\nStarted without, it begins a cluster of its own.\n",
    );
    Ok(())
}

fn render(nodes: &[Node], paint: Paint) -> String {
    let row = |node: &Node| {
        let count = node.problems.len();
        let problems = match count {
            0 => None,
            1 => Some("1 problem".to_owned()),
            count => Some(format!("{count} problems")),
        };
        let mut notes: Vec<String> = problems.into_iter().collect();
        notes.extend(node.here.then(|| "this node".to_owned()));
        notes.extend(node.authority.then(|| "authority".to_owned()));
        let short: String = node.id.chars().take(SHORT).collect();
        vec![
            plain(node.hostname.as_deref().unwrap_or("-")),
            plain(&short),
            plain(&node.address),
            plain(node.zone.as_deref().unwrap_or("-")),
            toned(tone(node), &node.state),
            plain(age(node.since_seconds)),
            plain(node.silent_seconds.map_or_else(|| "-".to_owned(), age)),
            plain(node.round_trip_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}ms"))),
            plain(node.path_mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string())),
            plain(node.subnets.join(" ")),
            plain(notes.join(", ")),
        ]
    };
    let heads =
        ["NODE", "ID", "ADDRESS", "ZONE", "STATE", "SINCE", "HEARD", "RTT", "MTU", "SUBNETS", ""];
    let mut text = table(&heads, nodes.iter().map(row).collect(), paint);
    for line in problems(nodes) {
        text.push_str(&paint.mark(Tone::Bad, &format!("\n{line}")));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// What is wrong, each thing once, with the nodes that it is wrong with and since when.
fn problems(nodes: &[Node]) -> Vec<String> {
    let mut order: Vec<&str> = Vec::new();
    let mut all: BTreeMap<&str, (Vec<&str>, u64, u64)> = BTreeMap::new();
    for node in nodes {
        let name = node.hostname.as_deref().unwrap_or(&node.id);
        for Problem { problem, since_seconds } in &node.problems {
            let (names, least, most) = all.entry(problem).or_insert_with(|| {
                order.push(problem);
                (Vec::new(), *since_seconds, *since_seconds)
            });
            names.push(name);
            (*least, *most) = ((*least).min(*since_seconds), (*most).max(*since_seconds));
        }
    }
    let line = |problem: &str| {
        let (names, least, most) = all.get(problem)?;
        let (least, most) = (age(*least), age(*most));
        let span = if least == most { most } else { format!("{least} to {most}") };
        Some(format!("{}, for {span}: {problem}", several(names)))
    };
    order.into_iter().filter_map(line).collect()
}

fn tone(node: &Node) -> Tone {
    match node.state.as_str() {
        "alive" if node.problems.is_empty() => Tone::Good,
        "alive" => Tone::Busy,
        "suspect" => Tone::Busy,
        "dead" => Tone::Bad,
        _ => Tone::Faint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_as_a_table() {
        let nodes = json!([
            { "id": "6e1f0b8a-3a52-4a8e-9a10-0123456789ab", "hostname": "a", "address": "10.0.0.1",
              "zone": "east", "state": "alive", "here": true, "authority": true,
              "since_seconds": 7200, "silent_seconds": null, "round_trip_ms": null,
              "path_mtu": null, "subnets": ["9.0.0.0/24", "9.0.7.0/24"], "problems": [] },
            { "id": "short", "hostname": null, "address": "10.0.0.2", "zone": null,
              "state": "dead", "here": false, "authority": false, "since_seconds": 5,
              "silent_seconds": 8, "round_trip_ms": 0.4321, "path_mtu": 1450, "problems": [{ "problem": "did not answer and is out", "since_seconds": 5 }] },
        ]);
        let text = render(&understand::<Vec<Node>>(NODES, nodes).unwrap(), Paint::Plain);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|w| !w.is_empty()).collect())
            .collect();
        let first = [
            "a",
            "6e1f0b8a",
            "10.0.0.1",
            "east",
            "alive",
            "2h00m",
            "-",
            "-",
            "-",
            "9.0.0.0/24 9.0.7.0/24",
            "this node, authority",
        ];
        assert_eq!(rows[1], first, "{text}");
        assert_eq!(rows[2][4..], ["dead", "5s", "8s", "0.4ms", "1450", "-", "1 problem"], "{text}");
        assert!(text.ends_with("\n\nshort, for 5s: did not answer and is out\n"), "{text}");
    }

    #[test]
    fn what_is_wrong_with_several_nodes_is_said_once() {
        let node = |name: &str, problems: &[(&str, u64)]| {
            let problems: Vec<_> = problems
                .iter()
                .map(|(text, since)| json!({ "problem": text, "since_seconds": since }))
                .collect();
            json!({ "id": name, "hostname": name, "address": "10.0.0.1", "zone": null,
                    "state": "alive", "here": false, "authority": false, "since_seconds": 9,
                    "problems": problems })
        };
        let nodes = json!([
            node("a", &[("no master leads", 5), ("the disk is full", 3)]),
            node("b", &[("no master leads", 5)]),
            node("c", &[("the disk is full", 70)]),
        ]);
        let nodes: Vec<Node> = understand(NODES, nodes).unwrap();
        let want =
            ["a and b, for 5s: no master leads", "a and c, for 3s to 1m10s: the disk is full"];
        assert_eq!(problems(&nodes), want);
    }
}
