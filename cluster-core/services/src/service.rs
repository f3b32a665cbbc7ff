//! One service: an app, its older versions, its copies, and what stands in their way.

use crate::app::App;
use crate::backoff::Backoff;
use crate::instance::{Condition, Goal, Instance};
use crate::settings::Settings;
use crate::store::TaskFailure;
use crate::version::Version;
use crate::why::Queue;
use mizzen_types::time::Mono;
use std::collections::BTreeMap;

/// Longest time between two kills of one copy.
const MAX_KILL_DOUBLINGS: u32 = 6;

/// Everything about one app id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    /// What is wanted; `None` after it was removed, while copies still end.
    pub app: Option<App>,
    /// Older versions.
    pub versions: BTreeMap<Version, App>,
    /// Its copies, by task id.
    pub instances: BTreeMap<String, Instance>,
    /// What it learned from failures.
    pub backoff: Backoff,
    /// The last copy that failed.
    pub failure: Option<TaskFailure>,
    /// Copies that wait for an offer.
    pub queue: Option<Queue>,
    /// What is not as wanted, in words.
    pub waits_for: Option<String>,
    /// The deployment in which its turn is still to come.
    pub held_back_by: Option<String>,
    /// How many copies it keeps, whatever it should have, because its deployment was stopped
    /// half-way.
    pub halted: Option<u32>,
    /// When to look at it again.
    pub deadline: Option<Mono>,
}

impl Service {
    /// Whether there is nothing left to know about it.
    pub fn is_over(&self) -> bool {
        self.app.is_none() && self.instances.is_empty()
    }

    /// The app, if `copy` was started with its configuration.
    pub fn current_app(&self, copy: &Instance) -> Option<App> {
        self.app.as_ref().filter(|app| app.config() == copy.config).cloned()
    }

    /// Sets how many copies wait for an offer.
    pub fn set_queue(&mut self, count: u32, now: Version) {
        match &mut self.queue {
            _ if count == 0 => self.queue = None,
            Some(queue) => queue.count = count,
            None => self.queue = Some(Queue::new(count, now)),
        }
    }

    /// How many copies could be started at once, were there an offer.
    pub fn launchable(&self, now: Mono) -> u32 {
        let count = self.queue.as_ref().map_or(0, |queue| queue.count);
        if self.backoff.ready_at(now).is_some() { 0 } else { count }
    }

    /// Why it is not as wanted; `None` if it is.
    pub fn why(&self, connected: bool, now: Mono) -> Option<String> {
        if let Some(deployment) = &self.held_back_by {
            return Some(format!("waits for an earlier step of deployment {deployment}"));
        }
        let (Some(app), Some(queue)) = (&self.app, &self.queue) else {
            return self.waits_for.clone();
        };
        let mut words = match self.backoff.ready_at(now) {
            _ if !connected => "waits for a connection to the master".to_owned(),
            Some(ready) => {
                let seconds = ready.since(now).as_secs_f64().ceil();
                let ended = if self.finished() { "finished" } else { "failed" };
                format!("its last copy {ended}, the next one is started in {seconds} s")
            }
            None => queue.sentence(app),
        };
        if let Some(failure) = &self.failure {
            let what = if self.finished() { "last end" } else { "last failure" };
            words.push_str(&format!(" ({what}: {} {})", failure.state, failure.message));
        }
        Some(words)
    }

    /// Whether its last copy ended by itself and well, which a service should not do
    /// either.
    fn finished(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.state == "TASK_FINISHED")
    }

    /// Copies to give up by now: those whose agent is lost for too long.
    pub fn expunged(&self, now: Mono) -> Vec<String> {
        let over = |copy: &&Instance| {
            copy.patience(self.app.as_ref()).is_some_and(|(_, expunge)| expunge <= now)
        };
        self.instances.values().filter(over).map(|copy| copy.task_id.clone()).collect()
    }

    /// Copies that took too long to run.
    pub fn overdue(&self, settings: &Settings, now: Mono) -> Vec<String> {
        let over = |copy: &&Instance| staging_ends(copy, settings).is_some_and(|end| end <= now);
        self.instances.values().filter(over).map(|copy| copy.task_id.clone()).collect()
    }

    /// Copies that are to be told to end, now or again.
    pub fn to_kill(&self, settings: &Settings, now: Mono) -> Vec<String> {
        let due = |copy: &&Instance| kill_at(copy, settings).is_some_and(|at| at <= now);
        self.instances.values().filter(due).map(|copy| copy.task_id.clone()).collect()
    }

    /// The next moment at which something about it is due.
    pub fn next_deadline(&self, settings: &Settings, connected: bool, now: Mono) -> Option<Mono> {
        let of_copy = |copy: &Instance| {
            let (inactive, expunge) = copy.patience(self.app.as_ref()).unzip();
            let kill = kill_at(copy, settings).filter(|_| connected);
            [inactive, expunge, kill, staging_ends(copy, settings)]
        };
        let copies = self.instances.values().flat_map(of_copy).flatten();
        let backoff = self.queue.as_ref().and_then(|_| self.backoff.ready_at(now));
        copies.chain(backoff).filter(|at| *at > now).min()
    }
}

fn staging_ends(copy: &Instance, settings: &Settings) -> Option<Mono> {
    let early = matches!(copy.condition, Condition::Staging | Condition::Starting);
    (early && copy.goal == Goal::Run).then(|| copy.since + settings.staging_timeout)
}

/// When a copy that is to end is told so; a lost agent is told when it is back.
fn kill_at(copy: &Instance, settings: &Settings) -> Option<Mono> {
    if copy.goal == Goal::Run || copy.condition == Condition::Unreachable {
        return None;
    }
    let Some((last, times)) = copy.killed else { return Some(Mono(0)) };
    let doublings = times.saturating_sub(1).min(MAX_KILL_DOUBLINGS);
    Some(last + settings.kill_retry * 2u32.pow(doublings))
}
