//! Agents and tasks as the operator API shows them.

use crate::Master;
use crate::agent::Agent;
use crate::registry::{Drain, Progress};
use crate::task::Task;
use crate::view::agents::{CAPABILITIES, pid};
use mizzen_api::resources::{Spelling, to_v1_as};
use mizzen_api::v1;
use mizzen_api::v1::agent_info::{Capability, capability::Type};
use mizzen_api::v1::master::{Response, response};
use mizzen_types::ids::AgentId;
use mizzen_types::resources::Resources;
use mizzen_types::time::Wall;

impl Master {
    /// GET_AGENTS.
    pub(crate) fn get_agents(&self) -> Response {
        let recovered = self.recovering().filter_map(|id| self.registry.agent(id));
        let agents = response::GetAgents {
            agents: self.agents.iter().map(|(id, agent)| self.agent_v1(id, agent)).collect(),
            recovered_agents: recovered.map(|record| record.info.clone()).collect(),
        };
        Response {
            r#type: Some(response::Type::GetAgents.into()),
            get_agents: Some(agents),
            ..Response::default()
        }
    }

    /// GET_TASKS. None is ever pending: what is launched is known at once.
    pub(crate) fn get_tasks(&self) -> Response {
        let frameworks = || self.frameworks.values().chain(&self.completed);
        let list = |tasks: &mut dyn Iterator<Item = &Task>| tasks.map(|t| t.v1.clone()).collect();
        let tasks = response::GetTasks {
            pending_tasks: Vec::new(),
            tasks: list(&mut frameworks().flat_map(|framework| framework.tasks.values())),
            completed_tasks: list(&mut frameworks().flat_map(|framework| &framework.completed)),
            unreachable_tasks: list(
                &mut frameworks().flat_map(|framework| framework.unreachable.values()),
            ),
        };
        Response {
            r#type: Some(response::Type::GetTasks.into()),
            get_tasks: Some(tasks),
            ..Response::default()
        }
    }

    fn agent_v1(&self, id: &AgentId, agent: &Agent) -> response::get_agents::Agent {
        let list = |resources: &Resources| to_v1_as(resources, Spelling::Stack);
        let drain = self.registry.drain(id);
        let capability =
            |name: &&str| Capability { r#type: Type::from_str_name(name).map(Into::into) };
        response::get_agents::Agent {
            agent_info: agent.info.clone(),
            active: self.is_active(id, agent),
            deactivated: Some(self.registry.is_deactivated(id)),
            version: self.settings.version.clone(),
            pid: Some(pid(agent)),
            registered_time: Some(time(agent.registered)),
            reregistered_time: agent.reregistered.map(time),
            total_resources: list(&agent.total),
            allocated_resources: list(&self.used_on(agent)),
            offered_resources: list(&self.offered_on(agent)),
            capabilities: CAPABILITIES.iter().map(capability).collect(),
            drain_info: drain.as_ref().map(drain_info),
            estimated_drain_start_time: drain.map(|drain| time(drain.since)),
        }
    }
}

/// A drain as the API writes it.
pub(super) fn drain_info(drain: &Drain) -> v1::DrainInfo {
    let state = match drain.progress {
        Progress::Draining => v1::DrainState::Draining,
        Progress::Drained => v1::DrainState::Drained,
    };
    v1::DrainInfo { state: state.into(), config: drain.config }
}

fn time(at: Wall) -> v1::TimeInfo {
    v1::TimeInfo { nanoseconds: i64::try_from(at.0).unwrap_or(i64::MAX) }
}
