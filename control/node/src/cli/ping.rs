//! `mizzen ping`.

use super::error::CliError;
use super::session::{Session, encode, print, print_json};
use super::tasks;
use crate::args::PingArgs;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Between two packets.
const INTERVAL: Duration = Duration::from_millis(200);
/// Fewer letters are no beginning of an id.
const LEAST_LETTERS: usize = 4;

/// One packet: where it went, and how long its answer took.
#[derive(Debug, Clone, Deserialize)]
struct Echo {
    kind: String,
    node: String,
    address: String,
    path: Path,
    round_trip_ms: Option<f64>,
    error: Option<String>,
    /// That the node there does not answer, in words.
    silence: Option<String>,
}

/// By which way it went.
#[derive(Debug, Clone, Deserialize)]
struct Path {
    kind: String,
    link: String,
    underlay: Option<String>,
    encryption: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    hostname: Option<String>,
    address: String,
    #[serde(default)]
    state: String,
}

/// A node that is heard.
const ALIVE: &str = "alive";

#[derive(Debug, Deserialize)]
struct Measured {
    mtu: Option<u32>,
}

pub(super) async fn run(session: &Session, args: &PingArgs) -> Result<(), CliError> {
    let name = &args.target;
    let at = format!("/v1/ping?to={}", encode(&find(session, name).await?));
    let mut echoes: Vec<Echo> = Vec::new();
    for number in 1..=args.count {
        if number > 1 {
            tokio::time::sleep(INTERVAL).await;
        }
        let echo: Echo = session.read(&at).await?;
        if !args.output.json {
            let head = if number == 1 { head(name, &echo) } else { String::new() };
            print(&format!("{head}{}", line(number, &echo)))?;
        }
        echoes.push(echo);
    }
    let is_answered = echoes.iter().any(|echo| echo.round_trip_ms.is_some());
    let measured = match is_answered {
        true => session.read::<Measured>(&format!("{at}&measure=mtu")).await?.mtu,
        false => None,
    };
    match args.output.json {
        true => print_json(&document(name, &echoes, measured))?,
        false => print(&summary(&echoes, measured))?,
    }
    match is_answered {
        true => {
            // Its kernel does.
            let silence = echoes.iter().find_map(|echo| echo.silence.as_ref());
            silence.iter().for_each(|text| crate::say(&format!("mizzen: {text}\n")));
            Ok(())
        }
        false => {
            let why = |echo: &Echo| echo.error.clone().or_else(|| echo.silence.clone());
            let why = echoes.iter().find_map(why);
            Err(CliError::Unanswered { name: name.clone(), why })
        }
    }
}

/// The id of the node or of the task that is meant.
async fn find(session: &Session, name: &str) -> Result<String, CliError> {
    let nodes: Vec<Node> = session.read("/v1/cluster/nodes").await?;
    if let Some(node) = node(&nodes, name)? {
        return Ok(node);
    }
    let tasks = tasks::of_all_nodes(session, name).await?;
    match tasks.as_slice() {
        [] => Err(CliError::NoTarget { name: name.to_owned() }),
        [task] => Ok(task.clone()),
        _ => Err(CliError::Ambiguous { task: name.to_owned(), tasks }),
    }
}

fn node(nodes: &[Node], name: &str) -> Result<Option<String>, CliError> {
    let is_named = |node: &&Node| {
        node.id == name || node.hostname.as_deref() == Some(name) || node.address == name
    };
    let begins = |node: &&Node| name.len() >= LEAST_LETTERS && node.id.starts_with(name);
    let mut found: Vec<&Node> = nodes.iter().filter(is_named).collect();
    if found.is_empty() {
        found = nodes.iter().filter(begins).collect();
    }
    if found.iter().any(|node| node.state == ALIVE) {
        // A machine that joined anew was another node before.
        found.retain(|node| node.state == ALIVE);
    }
    let found: Vec<String> = found.into_iter().map(|node| node.id.clone()).collect();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(CliError::SeveralNodes { name: name.to_owned(), nodes: found }),
    }
}

fn head(name: &str, echo: &Echo) -> String {
    let Echo { kind, node, address, path, .. } = echo;
    let on = if kind == "task" { format!(" on {node}") } else { String::new() };
    format!("{kind} {name}{on} at {address}, {}\n", way(path))
}

fn way(path: &Path) -> String {
    match (path.kind.as_str(), &path.underlay) {
        ("tunnel", Some(underlay)) => {
            let encryption = path.encryption.iter().map(|state| format!(", {state}"));
            let encryption: String = encryption.collect();
            format!("by the tunnel {} to {underlay}{encryption}", path.link)
        }
        (kind, _) => format!("{kind} on {}", path.link),
    }
}

fn line(number: u32, echo: &Echo) -> String {
    match (echo.round_trip_ms, &echo.error) {
        (Some(ms), _) => format!("{number}: {ms:.2} ms\n"),
        (None, Some(error)) => format!("{number}: cannot be sent: {error}\n"),
        (None, None) => format!("{number}: no answer\n"),
    }
}

/// Least, mean and most of what was answered, in milliseconds.
fn spread(echoes: &[Echo]) -> Option<(f64, f64, f64)> {
    let times: Vec<f64> = echoes.iter().filter_map(|echo| echo.round_trip_ms).collect();
    let least = times.iter().copied().reduce(f64::min)?;
    let most = times.iter().copied().reduce(f64::max)?;
    Some((least, times.iter().sum::<f64>() / times.len() as f64, most))
}

fn loss(echoes: &[Echo]) -> f64 {
    let lost = echoes.iter().filter(|echo| echo.round_trip_ms.is_none()).count();
    lost as f64 / echoes.len().max(1) as f64
}

fn summary(echoes: &[Echo], mtu: Option<u32>) -> String {
    let sent = echoes.len();
    let answered = echoes.iter().filter(|echo| echo.round_trip_ms.is_some()).count();
    let percent = loss(echoes) * 100.0;
    let mut text = format!("{sent} sent, {answered} answered, {percent:.0} % lost");
    if let Some((least, mean, most)) = spread(echoes) {
        text.push_str(&format!("; round trip {least:.2}/{mean:.2}/{most:.2} ms (least/mean/most)"));
    }
    if let Some(mtu) = mtu {
        text.push_str(&format!("; packets of up to {mtu} bytes"));
    }
    text + "\n"
}

fn document(name: &str, echoes: &[Echo], mtu: Option<u32>) -> Value {
    let last = echoes.last();
    let spread = spread(echoes);
    json!({
        "target": name,
        "kind": last.map(|echo| &echo.kind),
        "node": last.map(|echo| &echo.node),
        "address": last.map(|echo| &echo.address),
        "path": last.map(|echo| json!({
            "kind": echo.path.kind, "link": echo.path.link, "underlay": echo.path.underlay,
            "encryption": echo.path.encryption,
        })),
        "sent": echoes.len(),
        "loss": loss(echoes),
        "round_trips_ms": echoes.iter().map(|echo| echo.round_trip_ms).collect::<Vec<_>>(),
        "round_trip_ms": spread.map(|(least, mean, most)| json!({
            "least": least, "mean": mean, "most": most,
        })),
        "path_mtu": mtu,
        "error": last.and_then(|echo| echo.error.as_ref()),
        "silence": last.and_then(|echo| echo.silence.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(ms: Option<f64>) -> Echo {
        let path = Path {
            kind: "tunnel".to_owned(),
            link: "vtep1024".to_owned(),
            underlay: Some("10.0.0.2".to_owned()),
            encryption: Some("encrypted".to_owned()),
        };
        let (kind, node) = ("task".to_owned(), "beta".to_owned());
        let address = "9.0.1.2".to_owned();
        Echo { kind, node, address, path, round_trip_ms: ms, error: None, silence: None }
    }

    #[test]
    fn what_a_person_reads() {
        let echoes = [echo(Some(0.25)), echo(None), echo(Some(0.75)), echo(Some(0.5))];
        let want =
            "task web.8d5f on beta at 9.0.1.2, by the tunnel vtep1024 to 10.0.0.2, encrypted\n";
        assert_eq!(head("web.8d5f", &echoes[0]), want);
        assert_eq!(line(2, &echoes[1]), "2: no answer\n");
        let want = "4 sent, 3 answered, 25 % lost; round trip 0.25/0.50/0.75 ms (least/mean/most); \
                    packets of up to 1420 bytes\n";
        assert_eq!(summary(&echoes, Some(1420)), want);
        assert_eq!(summary(&echoes[1..2], None), "1 sent, 0 answered, 100 % lost\n");
        let document = document("web.8d5f", &echoes, Some(1420));
        assert_eq!(document["path"]["encryption"], "encrypted");
        assert_eq!((&document["loss"], &document["path_mtu"]), (&json!(0.25), &json!(1420)));
    }

    #[test]
    fn which_node_is_meant() {
        let nodes: Vec<Node> = serde_json::from_value(json!([
            { "id": "6e1f0b8a-1", "hostname": "a", "address": "10.0.0.1" },
            { "id": "6e1f0b8a-2", "hostname": "b", "address": "10.0.0.2" },
            { "id": "7777aaaa-1", "hostname": "b", "address": "10.0.0.3" },
        ]))
        .unwrap();
        for (name, want) in [
            ("a", Some(Some("6e1f0b8a-1"))),
            ("10.0.0.3", Some(Some("7777aaaa-1"))),
            ("7777", Some(Some("7777aaaa-1"))),
            ("777", Some(None)),
            ("web", Some(None)),
            // Several.
            ("b", None),
            ("6e1f", None),
        ] {
            let found = node(&nodes, name).ok();
            assert_eq!(found.as_ref().map(Option::as_deref), want, "{name}");
        }
    }
}
