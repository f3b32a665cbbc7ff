//! What operators ask for: the gate, then one method per call.

use crate::Master;
use mizzen_api::v1;
use mizzen_api::v1::master::{Call, Response, call, call::Type, response};
use mizzen_types::ids::AgentId;
use mizzen_types::time::Now;

/// What becomes of an operator's call.
#[derive(Debug, Clone, PartialEq)]
pub enum OperatorReply {
    /// It is done as soon as the effects are.
    Done,
    /// What was asked for.
    Answer(Box<Response>),
    /// It is not done.
    Refused {
        /// HTTP status.
        status: u16,
        /// Why, as a sentence.
        text: String,
    },
}

/// Why a call is not carried out.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    text: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    fn absent(name: &str) -> Self {
        let text = format!("Failed to validate master::Call: Expecting '{name}' to be present");
        Self::new(400, text)
    }
}

impl Master {
    /// Takes an operator's call.
    pub fn operator_call(&mut self, call: Call, now: Now) -> OperatorReply {
        self.now = now;
        match self.serve(call) {
            Ok(None) => OperatorReply::Done,
            Ok(Some(response)) => OperatorReply::Answer(Box::new(response)),
            Err(Refusal { status, text }) => OperatorReply::Refused { status, text },
        }
    }

    fn serve(&mut self, call: Call) -> Result<Option<Response>, Refusal> {
        let number = call.r#type.ok_or_else(|| Refusal::absent("type"))?;
        let kind = Type::try_from(number).unwrap_or(Type::Unknown);
        match kind {
            Type::GetAgents => return Ok(Some(self.get_agents())),
            Type::GetTasks => return Ok(Some(self.get_tasks())),
            Type::GetMaintenanceStatus => return Ok(Some(self.get_maintenance_status())),
            Type::GetMaintenanceSchedule => return Ok(Some(self.get_maintenance_schedule())),
            Type::UpdateMaintenanceSchedule => {
                let part = part(call.update_maintenance_schedule, "update_maintenance_schedule")?;
                self.update_schedule(&part.schedule)?;
            }
            Type::StartMaintenance => {
                let part = part(call.start_maintenance, "start_maintenance")?;
                self.start_maintenance(&part.machines)?;
            }
            Type::StopMaintenance => {
                let part = part(call.stop_maintenance, "stop_maintenance")?;
                self.stop_maintenance(&part.machines)?;
            }
            Type::DrainAgent => {
                let part = part(call.drain_agent, "drain_agent")?;
                self.drain_agent(&AgentId::from(&part.agent_id), config(&part)?)?;
            }
            Type::DeactivateAgent => {
                let part = part(call.deactivate_agent, "deactivate_agent")?;
                self.deactivate_agent(&AgentId::from(&part.agent_id))?;
            }
            Type::ReactivateAgent => {
                let part = part(call.reactivate_agent, "reactivate_agent")?;
                self.reactivate_agent(&AgentId::from(&part.agent_id))?;
            }
            Type::MarkAgentGone => {
                let part = part(call.mark_agent_gone, "mark_agent_gone")?;
                self.mark_agent_gone(&AgentId::from(&part.agent_id))?;
            }
            other => {
                let name = other.as_str_name();
                return Err(Refusal::new(501, format!("The call {name} is not implemented")));
            }
        }
        Ok(None)
    }

    fn get_maintenance_status(&self) -> Response {
        let status = self.maintenance_status();
        Response {
            r#type: Some(response::Type::GetMaintenanceStatus.into()),
            get_maintenance_status: Some(response::GetMaintenanceStatus { status }),
            ..Response::default()
        }
    }

    fn get_maintenance_schedule(&self) -> Response {
        let schedule = self.registry.maintenance().schedule.clone();
        Response {
            r#type: Some(response::Type::GetMaintenanceSchedule.into()),
            get_maintenance_schedule: Some(response::GetMaintenanceSchedule { schedule }),
            ..Response::default()
        }
    }
}

fn part<T>(part: Option<T>, name: &str) -> Result<T, Refusal> {
    part.ok_or_else(|| Refusal::absent(name))
}

/// The drain that a call describes.
fn config(asked: &call::DrainAgent) -> Result<v1::DrainConfig, Refusal> {
    let nanoseconds = asked.max_grace_period.map(|grace| {
        let seconds = grace.seconds().checked_mul(1_000_000_000)?;
        seconds.checked_add(i64::from(grace.nanos()))
    });
    let max_grace_period = match nanoseconds {
        None => None,
        Some(Some(nanoseconds)) => Some(v1::DurationInfo { nanoseconds }),
        Some(None) => return Err(Refusal::new(400, "'max_grace_period' is too long")),
    };
    Ok(v1::DrainConfig { max_grace_period, mark_gone: Some(asked.mark_gone()) })
}
