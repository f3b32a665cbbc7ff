//! A task has ended: in which state, why, and what is left to do.

use super::{Task, Turn};
use crate::record::{Audience, Phase};
use crate::status::{self, Details};
use crate::{Effect, LaunchFailure};
use mizzen_api::link::Duty;
use mizzen_api::v1;
use mizzen_types::container::Exit;
use mizzen_types::time::Now;
use v1::TaskState as S;
use v1::framework_info::capability::Type as Capability;
use v1::task_status::Reason;

/// A container that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How its task's process ended.
    pub exit: Exit,
    /// What the memory controller says, if it killed.
    pub out_of_memory: Option<String>,
}

impl Task {
    pub(crate) fn launch_failed(
        &mut self,
        failure: LaunchFailure,
        message: &str,
        now: Now,
        turn: &mut Turn<'_>,
    ) {
        if self.record.phase == Phase::Ended {
            return;
        }
        let what = match failure {
            LaunchFailure::Container => "Failed to launch container",
            LaunchFailure::Network => "Failed to attach container to its network",
        };
        let (state, reason) = match self.record.phase {
            Phase::Killing => (S::TaskKilled, Reason::TaskKilledDuringLaunch),
            _ => (S::TaskFailed, Reason::ContainerLaunchFailed),
        };
        let message = Some(format!("{what}: {message}"));
        self.end(state, Details { message, reason: Some(reason), by_agent: true }, now, turn);
    }

    pub(crate) fn ended(&mut self, ended: &Ended, now: Now, turn: &mut Turn<'_>) {
        if self.record.phase == Phase::Ended {
            return;
        }
        let (state, details) = self.verdict(ended);
        self.end(state, details, now, turn);
    }

    pub(crate) fn end(&mut self, state: S, details: Details, now: Now, turn: &mut Turn<'_>) {
        let (state, details) = self.as_drained(state, details, turn.duty);
        self.record.phase = Phase::Ended;
        self.monitor = None;
        self.kill = None;
        turn.counters.ended(state);
        // Clients must leave before the address is given away.
        self.publish(turn);
        self.report(state, details, now, turn);
        if self.record.audience == Audience::Nobody {
            status::tell_master_of_end(&self.record, turn);
        }
        turn.effects.push_back(Effect::Destroy(self.record.container.clone()));
    }

    /// A task that was killed while the agent drains was killed for that.
    fn as_drained(&self, state: S, details: Details, duty: &Duty) -> (S, Details) {
        let (Duty::Drain(config), S::TaskKilled) = (duty, state) else { return (state, details) };
        let goes = config.mark_gone() && self.framework_can(Capability::PartitionAware);
        let state = if goes { S::TaskGoneByOperator } else { S::TaskKilled };
        (state, Details { reason: super::kill::reason(duty), ..details })
    }

    fn verdict(&self, ended: &Ended) -> (S, Details) {
        // One that is being killed ends of that, whatever the kernel killed long before.
        let killing = self.record.phase == Phase::Killing;
        if let Some(message) = ended.out_of_memory.as_ref().filter(|_| !killing) {
            let reason = Some(Reason::ContainerLimitationMemory);
            let message = Some(message.clone());
            return (S::TaskFailed, Details { message, reason, by_agent: true });
        }
        if ended.exit == Exit::Unknown {
            let message = Some("The container ended and nobody saw how".to_owned());
            let (state, reason) = match killing {
                true => (S::TaskKilled, None),
                false => (S::TaskFailed, Some(Reason::ExecutorTerminated)),
            };
            return (state, Details { message, reason, by_agent: true });
        }
        let text = match ended.exit {
            Exit::Code(code) => format!("Command exited with status {code}"),
            Exit::Signal(signal) => format!("Command terminated with signal {}", name_of(signal)),
            Exit::Unknown => String::new(),
        };
        let state = match (killing, ended.exit) {
            (true, _) => S::TaskKilled,
            (false, Exit::Code(0)) => S::TaskFinished,
            _ => S::TaskFailed,
        };
        let cause = self.kill.as_ref().and_then(|kill| kill.message.clone());
        let message = cause.map_or(text.clone(), |cause| format!("{cause}; {text}"));
        let reason = match state {
            S::TaskFailed => Some(Reason::CommandExecutorFailed),
            _ => None,
        };
        (state, Details { message: Some(message), reason, by_agent: false })
    }
}

fn name_of(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        other => return other.to_string(),
    };
    name.to_owned()
}
