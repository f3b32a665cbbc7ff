//! A task is told to end: SIGTERM, and SIGKILL when its grace is over.

use super::{Task, Turn};
use crate::Effect;
use crate::record::{Audience, Phase};
use crate::status::Details;
use mizzen_api::link::Duty;
use mizzen_api::v1;
use mizzen_types::time::{Mono, Now};
use std::time::Duration;
use v1::TaskState as S;
use v1::framework_info::capability::Type as Capability;
use v1::task_status::Reason;

/// Between SIGTERM and SIGKILL if nobody says otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(3);
/// SIGKILL is sent again after this, until the container ends.
const FORCE_AGAIN: Duration = Duration::from_secs(5);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Why a task is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KillCause {
    /// Somebody asked, perhaps with a grace of their own.
    Asked(Option<Duration>),
    /// It failed its health check.
    Unhealthy(String),
    /// Its framework is gone, and nobody wants to hear of it.
    FrameworkGone,
}

/// A kill that is under way.
#[derive(Debug)]
pub(super) struct Kill {
    pub(super) message: Option<String>,
    grace: Duration,
    /// When SIGKILL follows.
    pub(super) force_at: Mono,
}

impl Task {
    pub(crate) fn kill(&mut self, cause: KillCause, now: Now, turn: &mut Turn<'_>) {
        if cause == KillCause::FrameworkGone {
            self.record.audience = Audience::Nobody;
            self.record.pending.clear();
        }
        if self.record.phase == Phase::Ended {
            return;
        }
        let policy = self.record.task.kill_policy.as_ref();
        let (message, grace) = match cause {
            KillCause::Asked(grace) => (None, grace),
            KillCause::Unhealthy(why) => (Some(why), None),
            KillCause::FrameworkGone => (None, None),
        };
        let grace = grace.or_else(|| policy.and_then(grace_of)).unwrap_or(DEFAULT_GRACE);
        let grace = longest_grace(turn.duty).map_or(grace, |longest| grace.min(longest));
        let force_at = now.mono + grace;
        // Asking again can only shorten the grace.
        let force_at = match &self.kill {
            Some(earlier) => earlier.force_at.min(force_at),
            None => force_at,
        };
        let message = self.kill.take().and_then(|kill| kill.message).or(message);
        self.kill = Some(Kill { message, grace, force_at });
        let has_container = self.record.phase != Phase::Launching;
        if self.record.phase != Phase::Killing {
            self.record.phase = Phase::Killing;
            if self.understands_killing() {
                let reason = reason(turn.duty);
                self.report(S::TaskKilling, Details { reason, ..Details::default() }, now, turn);
            } else {
                self.checkpoint(turn);
            }
        }
        // Clients must go elsewhere before the task hears of it.
        self.publish(turn);
        if has_container {
            turn.effects.push_back(Effect::Signal(self.record.container.clone(), SIGTERM));
        }
    }

    /// The kill came while the container was being made: now it has a target.
    pub(super) fn kill_launched(&mut self, now: Now, turn: &mut Turn<'_>) {
        if let Some(kill) = self.kill.as_mut() {
            kill.force_at = now.mono + kill.grace;
        }
        self.checkpoint(turn);
        turn.effects.push_back(Effect::Signal(self.record.container.clone(), SIGTERM));
    }

    /// A signal can fail, and a container still being made takes none: it is sent until
    /// the end comes.
    pub(super) fn force(&mut self, now: Now, turn: &mut Turn<'_>) {
        let Some(kill) = self.kill.as_mut().filter(|kill| kill.force_at <= now.mono) else {
            return;
        };
        kill.force_at = now.mono + FORCE_AGAIN;
        if self.record.pid.is_some() {
            turn.effects.push_back(Effect::Signal(self.record.container.clone(), SIGKILL));
        }
    }

    /// Whether it was told to end, or has ended.
    pub(crate) fn is_being_killed(&self) -> bool {
        matches!(self.record.phase, Phase::Killing | Phase::Ended)
    }

    fn understands_killing(&self) -> bool {
        self.framework_can(Capability::TaskKillingState)
    }

    pub(super) fn framework_can(&self, capability: Capability) -> bool {
        self.record.framework.capabilities.iter().any(|own| own.r#type() == capability)
    }
}

/// Why a task is told to end, if the operator wants it.
pub(super) fn reason(duty: &Duty) -> Option<Reason> {
    matches!(duty, Duty::Drain(_)).then_some(Reason::AgentDraining)
}

/// The longest grace that the operator allows.
fn longest_grace(duty: &Duty) -> Option<Duration> {
    let Duty::Drain(config) = duty else { return None };
    let nanoseconds = config.max_grace_period.as_ref()?.nanoseconds;
    Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0)))
}

/// The grace of a kill policy.
#[must_use]
pub fn grace_of(policy: &v1::KillPolicy) -> Option<Duration> {
    let nanoseconds = policy.grace_period.as_ref()?.nanoseconds;
    Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0)))
}
