//! Status updates: made once, written down, repeated until acknowledged.
//!
//! One update per task is on its way at a time, the oldest. It is sent again after
//! ten seconds, then after twice as long, up to ten minutes, as Mesos does.

use crate::Effect;
use crate::record::{Audience, Phase, Record};
use crate::task::Turn;
use mizzen_api::link::ToMaster;
use mizzen_api::v1;
use mizzen_types::time::{Mono, Now};
use std::time::Duration;

const FIRST_RETRY: Duration = Duration::from_secs(10);
const LAST_RETRY: Duration = Duration::from_secs(600);

/// What an update says beside the state.
#[derive(Debug, Default)]
pub struct Details {
    /// For people.
    pub message: Option<String>,
    /// For programs.
    pub reason: Option<v1::task_status::Reason>,
    /// The agent itself says it, not the task's executor.
    pub by_agent: bool,
}

/// When the oldest pending update is sent again.
#[derive(Debug, Default)]
pub struct Retry {
    at: Option<Mono>,
    pause: Duration,
}

impl Retry {
    /// When to call [`forward`] again.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.at
    }
}

/// Appends an update to the record. The caller checkpoints, then forwards.
pub fn append(
    record: &mut Record,
    state: v1::TaskState,
    details: Details,
    now: Now,
    turn: &mut Turn<'_>,
) {
    let source = if details.by_agent {
        v1::task_status::Source::Agent
    } else {
        v1::task_status::Source::Executor
    };
    let status = v1::TaskStatus {
        task_id: record.task.task_id.clone(),
        state: state.into(),
        message: details.message,
        source: Some(source.into()),
        reason: details.reason.map(Into::into),
        agent_id: Some(v1::AgentId { value: record.agent.to_string() }),
        executor_id: Some(v1::ExecutorId { value: record.task.task_id.value.clone() }),
        timestamp: Some(now.wall.as_secs_f64()),
        uuid: Some(turn.dice.uuid_bytes().to_vec()),
        healthy: record.healthy,
        container_status: Some(container_status(record)),
        ..v1::TaskStatus::default()
    };
    if record.statuses.last().is_some_and(|last| last.state == status.state) {
        record.statuses.pop();
    }
    record.statuses.push(v1::TaskStatus { data: None, ..status.clone() });
    if record.audience == Audience::Framework {
        drop_overtaken(record, &status);
        record.pending.push(status);
    }
}

/// Health comes and goes while nobody acknowledges: of a running task the last word is
/// enough. The oldest update may be on its way and stays.
fn drop_overtaken(record: &mut Record, status: &v1::TaskStatus) {
    let running = v1::TaskState::TaskRunning;
    let overtaken = record.pending.len() > 1
        && status.state() == running
        && record.pending.last().is_some_and(|last| last.state() == running);
    if overtaken {
        record.pending.pop();
    }
}

/// Sends the oldest pending update if a master listens, and sets the alarm for
/// sending it again.
pub fn forward(record: &Record, retry: &mut Retry, now: Now, turn: &mut Turn<'_>) {
    let Some(status) = record.pending.first() else {
        *retry = Retry::default();
        return;
    };
    retry.pause = match retry.pause {
        Duration::ZERO => FIRST_RETRY,
        pause => (pause * 2).min(LAST_RETRY),
    };
    retry.at = Some(now.mono + retry.pause);
    if !turn.registered {
        return;
    }
    let message = ToMaster::StatusUpdate {
        framework_id: v1::FrameworkId { value: record.framework_id().to_string() },
        status: addressed(status, turn),
        latest_state: latest_state(record),
    };
    turn.effects.push_back(Effect::ToMaster(Box::new(message)));
}

/// Tells the master of the end of a task of which nobody else wants to hear, so that
/// it gives the resources back. Without a uuid nothing is acknowledged or repeated.
pub fn tell_master_of_end(record: &Record, turn: &mut Turn<'_>) {
    let Some(status) = record.statuses.last().filter(|_| turn.registered) else { return };
    let status = v1::TaskStatus { uuid: None, ..addressed(status, turn) };
    let message = ToMaster::StatusUpdate {
        framework_id: v1::FrameworkId { value: record.framework_id().to_string() },
        status,
        latest_state: latest_state(record),
    };
    turn.effects.push_back(Effect::ToMaster(Box::new(message)));
}

/// Takes the acknowledgement of the oldest pending update; anything else is noise.
/// Says whether it was that one.
pub fn acknowledge(record: &mut Record, retry: &mut Retry, uuid: &[u8]) -> bool {
    let is_oldest =
        record.pending.first().is_some_and(|status| status.uuid.as_deref() == Some(uuid));
    if is_oldest {
        record.pending.remove(0);
        *retry = Retry::default();
    }
    is_oldest
}

/// The newest state that the agent knows, acknowledged or not.
#[must_use]
pub fn latest_state(record: &Record) -> v1::TaskState {
    record.statuses.last().map_or(v1::TaskState::TaskStaging, v1::TaskStatus::state)
}

/// Whether all has been said and heard.
#[must_use]
pub fn is_done(record: &Record) -> bool {
    record.phase == Phase::Ended && record.pending.is_empty()
}

/// The status with the id that the agent has now: an acknowledgement is sent there.
fn addressed(status: &v1::TaskStatus, turn: &Turn<'_>) -> v1::TaskStatus {
    let now = turn.agent.map(|id| v1::AgentId { value: id.to_string() });
    let agent_id = now.or_else(|| status.agent_id.clone());
    v1::TaskStatus { agent_id, ..status.clone() }
}

fn container_status(record: &Record) -> v1::ContainerStatus {
    let addresses: Vec<v1::network_info::IpAddress> = record
        .addresses
        .iter()
        .map(|address| v1::network_info::IpAddress {
            protocol: Some(match address {
                std::net::IpAddr::V4(_) => v1::network_info::Protocol::IPv4.into(),
                std::net::IpAddr::V6(_) => v1::network_info::Protocol::IPv6.into(),
            }),
            ip_address: Some(address.to_string()),
        })
        .collect();
    let wanted = record.task.container.as_ref().and_then(|c| c.network_infos.first());
    let network =
        v1::NetworkInfo { ip_addresses: addresses, ..wanted.cloned().unwrap_or_default() };
    v1::ContainerStatus {
        container_id: Some(v1::ContainerId {
            value: record.container.to_string(),
            ..v1::ContainerId::default()
        }),
        network_infos: if record.addresses.is_empty() { Vec::new() } else { vec![network] },
        executor_pid: record.pid,
        ..v1::ContainerStatus::default()
    }
}
