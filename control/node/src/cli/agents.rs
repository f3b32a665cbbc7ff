//! `mizzen agents`, `mizzen drain` and `mizzen reactivate`.

use super::error::CliError;
use super::progress::Progress;
use super::session::{Session, print, print_json, understand};
use super::table::{Paint, Tone, plain, render as table, toned};
use crate::args::{AgentArgs, AgentsArgs, AgentsCommand, DrainArgs, Output};
use mizzen_api::v1::master::response;
use mizzen_api::v1::{self, DrainState};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Where the operator's calls go.
const CALLS: &str = "/api/v1";
/// How often a drain is looked at.
const LOOK: Duration = Duration::from_millis(150);

/// The answer to GET_AGENTS.
#[derive(Debug, Deserialize)]
struct Answer {
    get_agents: response::GetAgents,
}

/// An agent as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Agent {
    id: String,
    host: String,
    standing: Standing,
}

/// Where an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Active,
    /// It has not come back since the master started, or lost its way to it.
    Away,
    Deactivated,
    Draining,
    Drained,
}

pub(super) async fn run(session: &Session, args: &AgentsArgs) -> Result<(), CliError> {
    match &args.command {
        None => list(session, args.output).await,
        Some(AgentsCommand::Deactivate(args)) => {
            let agent = find(session, &args.agent).await?.id;
            order(session, "DEACTIVATE_AGENT", "deactivate_agent", &agent).await?;
            tell(session, &agent, args.output).await
        }
        Some(AgentsCommand::MarkGone(args)) => mark_gone(session, args).await,
    }
}

async fn list(session: &Session, output: Output) -> Result<(), CliError> {
    let answer = ask(session).await?;
    if output.json {
        return print_json(&answer);
    }
    print(&render(&understand(CALLS, answer)?, session.paint))
}

pub(super) async fn drain(session: &Session, args: &DrainArgs) -> Result<(), CliError> {
    let agent = find(session, &args.agent).await?;
    let mut part = json!({ "agent_id": { "value": agent.id }, "mark_gone": args.mark_gone });
    if let Some(grace) = args.grace {
        part["max_grace_period"] =
            json!({ "seconds": grace.as_secs(), "nanos": grace.subsec_nanos() });
    }
    let call = json!({ "type": "DRAIN_AGENT", "drain_agent": part });
    session.send("POST", CALLS, Some(&call)).await?;
    if args.wait {
        wait(session, &agent.id, Duration::from_secs(args.timeout)).await?;
    }
    tell(session, &agent.id, args.output).await
}

pub(super) async fn reactivate(session: &Session, args: &AgentArgs) -> Result<(), CliError> {
    let agent = find(session, &args.agent).await?.id;
    order(session, "REACTIVATE_AGENT", "reactivate_agent", &agent).await?;
    tell(session, &agent, args.output).await
}

async fn mark_gone(session: &Session, args: &AgentArgs) -> Result<(), CliError> {
    let agent = match find(session, &args.agent).await {
        // One that is unreachable is not listed; the master knows its id.
        Err(CliError::NoAgent { agent }) => agent,
        found => found?.id,
    };
    order(session, "MARK_AGENT_GONE", "mark_agent_gone", &agent).await?;
    tell(session, &agent, args.output).await
}

/// A call that has nothing in it but the agent.
async fn order(session: &Session, kind: &str, part: &str, agent: &str) -> Result<(), CliError> {
    let call = json!({ "type": kind, part: { "agent_id": { "value": agent } } });
    session.send("POST", CALLS, Some(&call)).await.map(drop)
}

/// Waits until nothing is left on the agent, or it is gone.
async fn wait(session: &Session, id: &str, limit: Duration) -> Result<(), CliError> {
    let mut progress = Progress::new();
    let deadline = Instant::now() + limit;
    loop {
        let all = agents(session).await?;
        let standing = all.iter().find(|agent| agent.id == id).map(|agent| agent.standing);
        progress.show(&line(id, standing));
        if !matches!(standing, Some(Standing::Draining | Standing::Away)) {
            progress.end();
            return Ok(());
        }
        if Instant::now() >= deadline {
            progress.end();
            return Err(CliError::Undrained { agent: id.to_owned(), seconds: limit.as_secs() });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Says where the agent stands now.
async fn tell(session: &Session, id: &str, output: Output) -> Result<(), CliError> {
    let answer = ask(session).await?;
    if output.json {
        let all = answer["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
        let is_meant = |agent: &&Value| agent["agent_info"]["id"]["value"] == id;
        return print_json(all.iter().find(is_meant).unwrap_or(&Value::Null));
    }
    let answer: Answer = understand(CALLS, answer)?;
    let found = rows(&answer.get_agents).into_iter().find(|agent| agent.id == id);
    print(&format!("{}\n", line(id, found.map(|agent| agent.standing))))
}

fn line(id: &str, standing: Option<Standing>) -> String {
    format!("{id} {}", standing.map_or("gone", Standing::word))
}

async fn ask(session: &Session) -> Result<Value, CliError> {
    session.send("POST", CALLS, Some(&json!({ "type": "GET_AGENTS" }))).await
}

async fn agents(session: &Session) -> Result<Vec<Agent>, CliError> {
    let answer: Answer = understand(CALLS, ask(session).await?)?;
    Ok(rows(&answer.get_agents))
}

async fn find(session: &Session, wanted: &str) -> Result<Agent, CliError> {
    choose(wanted, &agents(session).await?)
}

/// The agent that is meant: by its id, its host's name, or the beginning of an id.
fn choose(wanted: &str, agents: &[Agent]) -> Result<Agent, CliError> {
    let tests: [&dyn Fn(&Agent) -> bool; 3] =
        [&|agent| agent.id == wanted, &|agent| agent.host == wanted, &|agent| {
            !wanted.is_empty() && agent.id.starts_with(wanted)
        }];
    for test in tests {
        let mut found: Vec<Agent> = agents.iter().filter(|agent| test(agent)).cloned().collect();
        if found.iter().any(|agent| agent.standing != Standing::Away) {
            // A machine that joined anew has left an agent behind.
            found.retain(|agent| agent.standing != Standing::Away);
        }
        match (found.pop(), found.is_empty()) {
            (Some(agent), true) => return Ok(agent),
            (Some(agent), false) => {
                found.push(agent);
                let agents = found.into_iter().map(|agent| agent.id).collect();
                return Err(CliError::SeveralAgents { agent: wanted.to_owned(), agents });
            }
            (None, _) => {}
        }
    }
    Err(CliError::NoAgent { agent: wanted.to_owned() })
}

/// All agents, also those that have not come back since the master started.
fn rows(answer: &response::GetAgents) -> Vec<Agent> {
    let row = |info: &v1::AgentInfo, standing| Agent {
        id: info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default(),
        host: info.hostname.clone(),
        standing,
    };
    let here = answer.agents.iter().map(|agent| row(&agent.agent_info, standing(agent)));
    let away = answer.recovered_agents.iter().map(|info| row(info, Standing::Away));
    here.chain(away).collect()
}

fn standing(agent: &response::get_agents::Agent) -> Standing {
    match agent.drain_info.as_ref().map(v1::DrainInfo::state) {
        Some(DrainState::Draining) => Standing::Draining,
        Some(DrainState::Drained) => Standing::Drained,
        _ if agent.deactivated() => Standing::Deactivated,
        _ if agent.active => Standing::Active,
        _ => Standing::Away,
    }
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Away => "away",
            Self::Deactivated => "deactivated",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Active => Tone::Good,
            Self::Away => Tone::Bad,
            Self::Deactivated | Self::Draining | Self::Drained => Tone::Busy,
        }
    }
}

fn render(answer: &Answer, paint: Paint) -> String {
    let amounts = |agent: Option<&response::get_agents::Agent>, name: &str| {
        let Some(agent) = agent else { return String::new() };
        let of = |list: &[v1::Resource]| super::table::number(sum(list, name));
        format!("{} of {}", of(&agent.allocated_resources), of(&agent.total_resources))
    };
    let rows = rows(&answer.get_agents).into_iter().enumerate().map(|(at, row)| {
        let agent = answer.get_agents.agents.get(at);
        vec![
            plain(&row.id),
            plain(&row.host),
            toned(row.standing.tone(), row.standing.word()),
            plain(amounts(agent, "cpus")),
            plain(amounts(agent, "mem")),
        ]
    });
    table(&["AGENT", "HOST", "STATE", "CPUS", "MEM"], rows.collect(), paint)
}

fn sum(resources: &[v1::Resource], name: &str) -> f64 {
    let named = resources.iter().filter(|resource| resource.name == name);
    let values = named.filter_map(|resource| resource.scalar.as_ref());
    // An empty sum of doubles is -0.
    values.fold(0.0, |sum, scalar| sum + scalar.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let scalar = |name: &str, value: f64| json!({ "name": name, "type": "SCALAR", "scalar": { "value": value } });
        let agent = |id: &str, more: Value| {
            let mut agent = json!({
                "agent_info": { "hostname": format!("host-{id}"), "id": { "value": id } },
                "active": true, "version": "1.11.0",
                "total_resources": [scalar("cpus", 4.0), scalar("mem", 1024.0)],
                "allocated_resources": [scalar("cpus", 0.5)],
            });
            agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            agent
        };
        let drain = |state: &str| json!({ "active": false, "deactivated": true, "drain_info": { "state": state, "config": {} } });
        let agents = [
            agent("m-S0", json!({})),
            agent("m-S1", drain("DRAINING")),
            agent("m-S10", drain("DRAINED")),
            agent("m-S2", json!({ "active": false, "deactivated": true })),
            agent("m-S3", json!({ "active": false })),
        ];
        let away = json!({ "hostname": "host-x", "id": { "value": "x-S4" } });
        let answer = json!({ "get_agents": { "agents": agents, "recovered_agents": [away] } });
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn where_agents_stand() {
        let want = "\
AGENT   HOST         STATE         CPUS       MEM
m-S0    host-m-S0    active        0.5 of 4   0 of 1024
m-S1    host-m-S1    draining      0.5 of 4   0 of 1024
m-S10   host-m-S10   drained       0.5 of 4   0 of 1024
m-S2    host-m-S2    deactivated   0.5 of 4   0 of 1024
m-S3    host-m-S3    away          0.5 of 4   0 of 1024
x-S4    host-x       away          -          -
";
        assert_eq!(render(&answer(), Paint::Plain), want);
    }

    #[test]
    fn which_agent_is_meant() {
        let all = rows(&answer().get_agents);
        let found = |wanted: &str| choose(wanted, &all).map(|agent| agent.id);
        assert_eq!(found("m-S1").unwrap(), "m-S1", "an id before the beginning of another");
        assert_eq!(found("host-m-S2").unwrap(), "m-S2");
        assert_eq!(found("x").unwrap(), "x-S4");
        assert_eq!(found("m-S3").unwrap(), "m-S3", "also one that is away");
        // Of several, one that is away is the one that nobody means.
        assert!(
            matches!(found("m-S"), Err(CliError::SeveralAgents { agents, .. }) if agents.len() == 4)
        );
        for wanted in ["", "y"] {
            assert!(matches!(found(wanted), Err(CliError::NoAgent { .. })), "{wanted}");
        }
    }
}
