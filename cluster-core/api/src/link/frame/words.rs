//! From what master and agent say to what is in a frame, and back.

use super::LinkMessage;
use super::body::{
    Acknowledge, Body, DutyBody, DutyKind, Empty, KillTask, Register, Registered, RunTask,
    StatusUpdate,
};
use crate::link::{Duty, ToAgent, ToMaster};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl From<Duty> for DutyBody {
    fn from(duty: Duty) -> Self {
        let (kind, drain) = match duty {
            Duty::Serve => (DutyKind::Serve, None),
            Duty::Maintain => (DutyKind::Maintain, None),
            Duty::Drain(config) => (DutyKind::Drain, Some(config)),
        };
        Self { kind: kind.into(), drain }
    }
}

impl DutyBody {
    fn duty(self) -> Option<Duty> {
        match self.kind() {
            DutyKind::Unknown => None,
            DutyKind::Serve => Some(Duty::Serve),
            DutyKind::Maintain => Some(Duty::Maintain),
            DutyKind::Drain => Some(Duty::Drain(self.drain.unwrap_or_default())),
        }
    }
}

impl LinkMessage for ToMaster {
    fn into_body(self) -> Body {
        match self {
            Self::Register { agent, frameworks, tasks, overlay } => {
                let overlay = to_json(&overlay);
                Body::Register(Register { agent, frameworks, tasks, overlay })
            }
            Self::MoreAddresses { overlay } => Body::MoreAddresses(overlay),
            Self::StatusUpdate { framework_id, status, latest_state } => {
                let latest_state = latest_state.into();
                Body::StatusUpdate(StatusUpdate { framework_id, status, latest_state })
            }
            Self::Pong => Body::Pong(Empty {}),
        }
    }

    fn from_body(body: Body) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match body {
            Body::Register(Register { agent, frameworks, tasks, overlay }) => {
                let overlay = from_json(&overlay)?.unwrap_or_default();
                Self::Register { agent, frameworks, tasks, overlay }
            }
            Body::MoreAddresses(overlay) => Self::MoreAddresses { overlay },
            Body::StatusUpdate(update) => {
                let latest_state = update.latest_state();
                let StatusUpdate { framework_id, status, .. } = update;
                Self::StatusUpdate { framework_id, status, latest_state }
            }
            Body::Pong(Empty {}) => Self::Pong,
            _ => return Ok(None),
        }))
    }
}

impl LinkMessage for ToAgent {
    fn into_body(self) -> Body {
        match self {
            Self::Registered { agent_id, duty, overlay } => {
                let overlay = overlay.as_ref().map(to_json).unwrap_or_default();
                Body::Registered(Registered { agent_id, duty: duty.into(), overlay })
            }
            Self::Overlay(grant) => Body::Overlay(to_json(&grant)),
            Self::Duty(duty) => Body::Duty(duty.into()),
            Self::ShutOut { message } => Body::ShutOut(message),
            Self::Introduce => Body::Introduce(Empty {}),
            Self::Ping => Body::Ping(Empty {}),
            Self::RunTask { framework, task } => {
                Body::RunTask(Box::new(RunTask { framework, task }))
            }
            Self::KillTask { framework_id, task_id, kill_policy } => {
                Body::KillTask(KillTask { framework_id, task_id, kill_policy })
            }
            Self::FrameworkSubscribed { framework_id } => Body::FrameworkSubscribed(framework_id),
            Self::Acknowledge { framework_id, task_id, uuid } => {
                Body::Acknowledge(Acknowledge { framework_id, task_id, uuid })
            }
            Self::ShutdownFramework { framework_id } => Body::ShutdownFramework(framework_id),
        }
    }

    fn from_body(body: Body) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match body {
            Body::Registered(Registered { agent_id, duty, overlay }) => {
                let overlay = from_json(&overlay)?;
                let Some(duty) = duty.duty() else { return Ok(None) };
                Self::Registered { agent_id, duty, overlay }
            }
            Body::Overlay(grant) => Self::Overlay(serde_json::from_str(&grant)?),
            Body::Duty(duty) => match duty.duty() {
                Some(duty) => Self::Duty(duty),
                None => return Ok(None),
            },
            Body::ShutOut(message) => Self::ShutOut { message },
            Body::Introduce(Empty {}) => Self::Introduce,
            Body::Ping(Empty {}) => Self::Ping,
            Body::RunTask(run) => Self::RunTask { framework: run.framework, task: run.task },
            Body::KillTask(KillTask { framework_id, task_id, kill_policy }) => {
                Self::KillTask { framework_id, task_id, kill_policy }
            }
            Body::FrameworkSubscribed(framework_id) => Self::FrameworkSubscribed { framework_id },
            Body::Acknowledge(Acknowledge { framework_id, task_id, uuid }) => {
                Self::Acknowledge { framework_id, task_id, uuid }
            }
            Body::ShutdownFramework(framework_id) => Self::ShutdownFramework { framework_id },
            _ => return Ok(None),
        }))
    }
}

/// The words of the overlay have no protobuf; they say their fields' names.
fn to_json(value: &impl Serialize) -> String {
    // Their keys are texts, so there is no error to tell of.
    serde_json::to_string(value).unwrap_or_default()
}

/// No text says nothing; any other one must be readable.
fn from_json<T: DeserializeOwned>(text: &str) -> Result<Option<T>, serde_json::Error> {
    if text.is_empty() { Ok(None) } else { serde_json::from_str(text).map(Some) }
}
