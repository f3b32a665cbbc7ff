//! `mizzen agents`, `mizzen drain` and `mizzen reactivate`.

mod waiting;

use super::error::CliError;
use super::progress::Progress;
use super::session::{Session, print, print_json, understand};
use super::table::{Paint, Tone, age, plain, render as table, toned};
use crate::args::{AgentArgs, AgentsArgs, AgentsCommand, DrainArgs, Output};
use mizzen_api::v1::master::response;
use mizzen_api::v1::{self, DrainState};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use waiting::Tasks;

/// Where the operator's calls go.
const CALLS: &str = "/api/v1";
/// How often a drain is looked at.
const LOOK: Duration = Duration::from_millis(150);
/// How often it is asked what it waits for, which is a longer answer.
const ASK: Duration = Duration::from_secs(1);

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
    let answer: Answer = understand(CALLS, answer)?;
    let tasks = match rows(&answer.get_agents).iter().any(|row| row.standing == Standing::Draining)
    {
        true => Tasks::get(session).await?,
        false => Tasks::default(),
    };
    print(&render(&answer, &tasks, SystemTime::now(), session.paint))
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
        wait(session, &agent.id, &call, Duration::from_secs(args.timeout)).await?;
    }
    tell(session, &agent.id, args.output).await
}

pub(super) async fn reactivate(session: &Session, args: &AgentArgs) -> Result<(), CliError> {
    let agent = find(session, &args.agent).await?.id;
    order(session, "REACTIVATE_AGENT", "reactivate_agent", &agent).await?;
    tell(session, &agent, args.output).await
}

async fn mark_gone(session: &Session, args: &AgentArgs) -> Result<(), CliError> {
    let agent = match choose(&args.agent, &agents(session).await?, Host::Any) {
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

/// Waits until nothing is left on the agent, or it is gone. `call` is what asked for that.
async fn wait(session: &Session, id: &str, call: &Value, limit: Duration) -> Result<(), CliError> {
    let mut progress = Progress::new();
    let deadline = Instant::now() + limit;
    let (mut asked, mut why) = (None::<Instant>, None);
    loop {
        let all = agents(session).await?;
        let is_due = asked.is_none_or(|asked| asked.elapsed() >= ASK);
        let standing = match all.iter().find(|agent| agent.id == id).map(|agent| agent.standing) {
            None if is_due => absent(session, call).await?,
            found => Some(found.unwrap_or(Standing::Away)),
        };
        // How it ends is what the command was asked for, and is no progress.
        if !matches!(standing, Some(Standing::Draining | Standing::Away)) {
            progress.end();
            return Ok(());
        }
        if is_due {
            asked = Some(Instant::now());
            why = reason(standing, &Tasks::get(session).await?, id);
        }
        let because = why.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
        progress.show(&format!("{}{because}", line(id, standing)));
        if Instant::now() >= deadline {
            progress.end();
            let (agent, seconds) = (id.to_owned(), limit.as_secs());
            return Err(CliError::Undrained { agent, seconds, why });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Where an agent stands that is not listed: gone, or out of reach, in which case the drain
/// can be asked for again.
async fn absent(session: &Session, call: &Value) -> Result<Option<Standing>, CliError> {
    match session.send("POST", CALLS, Some(call)).await {
        Ok(_) => Ok(Some(Standing::Away)),
        Err(CliError::Refused { status: 400 | 409, .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// What a drain waits for.
fn reason(standing: Option<Standing>, tasks: &Tasks, id: &str) -> Option<String> {
    match standing {
        Some(Standing::Away) => Some("waits for the agent to come back".to_owned()),
        _ => tasks.awaited(id),
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
    choose(wanted, &agents(session).await?, Host::Here)
}

/// Which agent is meant by the name of a host that several had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    /// The one that is here: a machine that joined anew has left the others behind.
    Here,
    /// It has to be said.
    Any,
}

/// The agent that is meant: by its id, its host's name, or the beginning of an id.
fn choose(wanted: &str, agents: &[Agent], host: Host) -> Result<Agent, CliError> {
    let tests: [&dyn Fn(&Agent) -> bool; 3] =
        [&|agent| agent.id == wanted, &|agent| agent.host == wanted, &|agent| {
            !wanted.is_empty() && agent.id.starts_with(wanted)
        }];
    for test in tests {
        let mut found: Vec<Agent> = agents.iter().filter(|agent| test(agent)).cloned().collect();
        let is_here = |agent: &Agent| agent.standing != Standing::Away && agent.host == wanted;
        if host == Host::Here && found.iter().any(is_here) {
            found.retain(is_here);
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

fn render(answer: &Answer, tasks: &Tasks, now: SystemTime, paint: Paint) -> String {
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
    let mut text = table(&["AGENT", "HOST", "STATE", "CPUS", "MEM"], rows.collect(), paint);
    let drains: Vec<String> =
        answer.get_agents.agents.iter().filter_map(|agent| drain_line(agent, tasks, now)).collect();
    if !drains.is_empty() {
        text.push_str(&format!("\n{}", drains.concat()));
    }
    text
}

/// For how long an agent is being drained, and what that waits for.
fn drain_line(
    agent: &response::get_agents::Agent,
    tasks: &Tasks,
    now: SystemTime,
) -> Option<String> {
    let id = &agent.agent_info.id.as_ref()?.value;
    let why = tasks.awaited(id).filter(|_| standing(agent) == Standing::Draining)?;
    let since = agent.estimated_drain_start_time.as_ref().map(|time| time.nanoseconds)?;
    let since = UNIX_EPOCH + Duration::from_nanos(u64::try_from(since).unwrap_or_default());
    let span = age(now.duration_since(since).unwrap_or_default().as_secs());
    Some(format!("{id}, draining for {span}, {why}\n"))
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
        let drain = |state: &str| json!({ "active": false, "deactivated": true, "drain_info": { "state": state, "config": {} }, "estimated_drain_start_time": { "nanoseconds": 1_000_000_000 } });
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

m-S1, draining for 3m12s, waits for web.1 to end
";
        let task = json!({
            "name": "web", "task_id": { "value": "web.1" }, "agent_id": { "value": "m-S1" },
            "framework_id": { "value": "f" }, "state": "TASK_KILLING",
        });
        let tasks: Tasks = serde_json::from_value(json!({ "tasks": [task] })).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(193);
        assert_eq!(render(&answer(), &tasks, now, Paint::Plain), want);
    }

    #[test]
    fn which_agent_is_meant() {
        let all = rows(&answer().get_agents);
        let found = |wanted: &str| choose(wanted, &all, Host::Here).map(|agent| agent.id);
        assert_eq!(found("m-S1").unwrap(), "m-S1", "an id before the beginning of another");
        assert_eq!(found("host-m-S2").unwrap(), "m-S2");
        assert_eq!(found("x").unwrap(), "x-S4");
        assert_eq!(found("m-S3").unwrap(), "m-S3", "also one that is away");
        // One that is away is meant no less.
        assert!(
            matches!(found("m-S"), Err(CliError::SeveralAgents { agents, .. }) if agents.len() == 5)
        );
        for wanted in ["", "y"] {
            assert!(matches!(found(wanted), Err(CliError::NoAgent { .. })), "{wanted}");
        }
        let agent =
            |id: &str, standing| Agent { id: id.to_owned(), host: "h".to_owned(), standing };
        let anew = [agent("a-S1", Standing::Away), agent("a-S2", Standing::Active)];
        assert_eq!(choose("h", &anew, Host::Here).unwrap().id, "a-S2");
        assert!(matches!(choose("h", &anew, Host::Any), Err(CliError::SeveralAgents { .. })));
    }
}
