//! The scheduler as a value: events and requests in, calls and records out.
//!
//! ```text
//! event, request, time ─▶ a service changes ─▶ settle: plan copies ─▶ kill, queue
//!                                                   │
//!                      deployments: next step ◀─────┴─────▶ ask for offers, or for none
//! offers ─▶ match against the queues ─▶ save the copies ─▶ ACCEPT, DECLINE
//! ```
//!
//! Services whose facts changed are marked and settled before a method returns.

mod change;
mod deployments;
mod events;
mod halted;
mod launch;
#[cfg(test)]
mod scenarios;

use crate::app_id::AppId;
use crate::deployment::Deployment;
use crate::instance::Goal;
use crate::rolling;
use crate::service::Service;
use crate::settings::Settings;
use crate::store::{self, Key, Record, SavedStateError};
use crate::version::Version;
use mizzen_api::v1;
use mizzen_api::v1::scheduler::{Call, call};
use mizzen_types::error::chain;
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) use change::{Change, Locks, Started};

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write a record down, or remove it. It must be durable before anything that
    /// follows is done, and before the reply to the request that caused it is sent.
    Save {
        /// Where.
        key: String,
        /// What; `None` removes it.
        value: Option<Vec<u8>>,
    },
    /// A record stays as it was before because what it should be cannot be written; the text
    /// says which one and why. No such record is known.
    Lost(String),
    /// Send a call to the master, on the stream of the current subscription.
    Call(Box<Call>),
}

/// The built-in service scheduler.
#[derive(Debug)]
pub struct Services {
    pub(crate) settings: Settings,
    pub(crate) framework: Option<String>,
    pub(crate) connected: bool,
    pub(crate) services: BTreeMap<AppId, Service>,
    pub(crate) deployments: BTreeMap<String, Deployment>,
    tasks: BTreeMap<String, AppId>,
    dice: Dice,
    dirty: BTreeSet<AppId>,
    /// What offers were asked for; `None` is not known.
    asked: Option<BTreeMap<AppId, u32>>,
    /// Copies that the master has not spoken of since the subscription.
    unconfirmed: BTreeSet<String>,
    reconcile_at: Option<Mono>,
    subscribed_at: Mono,
    effects: VecDeque<Effect>,
}

impl Services {
    /// Continues from what earlier [`Effect::Save`]s wrote, or begins with nothing.
    /// Effects are to be drained after this and after every other method.
    ///
    /// `seed` is for ids and should be different at each start.
    ///
    /// # Errors
    ///
    /// [`SavedStateError`] names the first record that cannot be used.
    pub fn new(
        settings: Settings,
        saved: Vec<(String, Vec<u8>)>,
        seed: u64,
        now: Now,
    ) -> Result<Self, SavedStateError> {
        let mut this = Self {
            settings,
            framework: None,
            connected: false,
            services: BTreeMap::new(),
            deployments: BTreeMap::new(),
            tasks: BTreeMap::new(),
            // Ids must differ from those of earlier starts even if the seed does not.
            dice: Dice::new(seed ^ now.wall.0),
            dirty: BTreeSet::new(),
            asked: None,
            unconfirmed: BTreeSet::new(),
            reconcile_at: None,
            subscribed_at: now.mono,
            effects: VecDeque::new(),
        };
        for (key, value) in saved {
            this.load(store::read(&key, &value)?, now.mono);
        }
        this.dirty = this.services.keys().cloned().collect();
        this.settle(now);
        Ok(this)
    }

    /// The call that opens a subscription, as the framework that it was before.
    #[must_use]
    pub fn subscribe_call(&self) -> Call {
        use v1::framework_info::{Capability, capability::Type};

        let capability = |kind: Type| Capability { r#type: Some(kind.into()) };
        let id = self.framework.clone().map(|value| v1::FrameworkId { value });
        let info = v1::FrameworkInfo {
            user: self.settings.user.clone(),
            name: self.settings.framework_name.clone(),
            id: id.clone(),
            failover_timeout: Some(self.settings.failover_timeout.as_secs_f64()),
            checkpoint: Some(true),
            role: Some(self.settings.role.clone()),
            hostname: Some(self.settings.hostname.clone()),
            webui_url: Some(format!(
                "http://{}:{}",
                self.settings.hostname, self.settings.http_port
            )),
            // Without GPU_RESOURCES, machines that have some are offered to nobody here.
            capabilities: [Type::PartitionAware, Type::TaskKillingState, Type::GpuResources]
                .map(capability)
                .to_vec(),
            ..v1::FrameworkInfo::default()
        };
        Call {
            framework_id: id,
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info: info, ..call::Subscribe::default() }),
            ..Call::default()
        }
    }

    /// The stream of the subscription ended. Calls that were not sent are void; what
    /// they were for is found out and done anew after the next subscription.
    pub fn disconnected(&mut self, now: Now) {
        self.connected = false;
        self.asked = None;
        self.reconcile_at = None;
        self.effects.retain(|effect| matches!(effect, Effect::Save { .. }));
        self.touch_all();
        self.settle(now);
    }

    /// To be called at [`Self::poll_deadline`].
    pub fn handle_timeout(&mut self, now: Now) {
        let due = |service: &Service| service.deadline.is_some_and(|at| at <= now.mono);
        let services = self.services.iter().filter(|(_, service)| due(service));
        self.dirty.extend(services.map(|(id, _)| id.clone()));
        if self.reconcile_at.is_some_and(|at| at <= now.mono) {
            self.reconcile(now.mono);
        }
        self.settle(now);
    }

    /// When to call [`Self::handle_timeout`] if nothing happens before.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        self.services.values().filter_map(|service| service.deadline).chain(self.reconcile_at).min()
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn load(&mut self, record: Record, now: Mono) {
        match record {
            Record::Framework(id) => self.framework = Some(id),
            Record::App(app) => {
                let id = app.id.clone();
                self.service(&id).app = Some(*app);
            }
            Record::OldVersion(app) => {
                self.service(&app.id.clone()).versions.insert(app.version, *app);
            }
            Record::Instance(mut copy) => {
                copy.since = now;
                self.tasks.insert(copy.task_id.clone(), copy.app.clone());
                self.service(&copy.app.clone()).instances.insert(copy.task_id.clone(), *copy);
            }
            Record::Deployment(deployment) => {
                self.deployments.insert(deployment.id.clone(), *deployment);
            }
            Record::Failure(failure) => {
                let id = failure.app_id.clone();
                self.service(&id).failure = Some(*failure);
            }
            Record::Halt(halt) => self.service(&halt.app).halted = Some(halt.copies),
        }
    }

    fn service(&mut self, id: &AppId) -> &mut Service {
        self.services.entry(id.clone()).or_default()
    }

    fn touch_all(&mut self) {
        self.dirty.extend(self.services.keys().cloned());
    }

    fn save<T: Serialize>(&mut self, key: &Key<'_>, value: &T) {
        self.effects.push_back(match store::write(key, value) {
            Ok(bytes) => Effect::Save { key: key.text(), value: Some(bytes) },
            Err(error) => Effect::Lost(chain(&error)),
        });
    }

    fn forget(&mut self, key: &Key<'_>) {
        self.effects.push_back(Effect::Save { key: key.text(), value: None });
    }

    /// Queues a call; without a connection there is nobody to hear it.
    fn call(&mut self, kind: call::Type, call: Call) {
        if !self.connected {
            return;
        }
        let framework_id = self.framework.clone().map(|value| v1::FrameworkId { value });
        let call = Call { framework_id, r#type: Some(kind.into()), ..call };
        self.effects.push_back(Effect::Call(Box::new(call)));
    }

    /// Brings everything that changed to rest.
    fn settle(&mut self, now: Now) {
        loop {
            while let Some(id) = self.dirty.pop_first() {
                self.settle_service(&id, now);
            }
            if !self.advance_deployments() {
                break;
            }
        }
        self.ask_for_offers(now.mono);
    }

    fn settle_service(&mut self, id: &AppId, now: Now) {
        let Some(service) = self.services.get(id) else { return };
        for task in service.expunged(now.mono) {
            self.remove_copy(id, &task);
        }
        let overdue = self.services.get(id).map(|s| s.overdue(&self.settings, now.mono));
        for task in overdue.unwrap_or_default() {
            self.stop(id, &task);
        }
        let held = self.deployments.values().find(|deployment| deployment.holds_back(id));
        let held = held.map(|deployment| deployment.id.clone());
        self.lift_needless_halt(id, now.mono);
        let start = if held.is_some() { 0 } else { self.move_copies(id, now.mono) };
        let Some(service) = self.services.get_mut(id) else { return };
        service.held_back_by = held;
        service.set_queue(start, Version::at(now.wall));
        self.send_kills(id, now.mono);
        let Some(service) = self.services.get_mut(id) else { return };
        service.deadline = service.next_deadline(&self.settings, self.connected, now.mono);
        if service.is_over() {
            self.remove_service(id);
        }
    }

    /// Tells copies to end as planned and returns how many are to be started.
    fn move_copies(&mut self, id: &AppId, now: Mono) -> u32 {
        loop {
            let Some(service) = self.services.get_mut(id) else { return 0 };
            let copies = service.instances.values();
            let plan = match (&service.app, service.halted) {
                (Some(app), Some(most)) => rolling::plan_halted(app, most, copies, now),
                (app, _) => rolling::plan(app.as_ref(), copies, now),
            };
            service.waits_for = plan.waits_for;
            if plan.kill.is_empty() {
                return plan.start;
            }
            // Every copy that is told to end makes the next plan smaller.
            for task in plan.kill {
                self.stop(id, &task);
            }
        }
    }

    /// Decides that a copy is to end.
    fn stop(&mut self, id: &AppId, task: &str) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(copy) = service.instances.get_mut(task) else { return };
        if copy.goal == Goal::Stop {
            return;
        }
        copy.goal = Goal::Stop;
        let copy = copy.clone();
        self.save(&Key::Instance(task), &copy);
        self.dirty.insert(id.clone());
    }

    fn send_kills(&mut self, id: &AppId, now: Mono) {
        if !self.connected {
            return;
        }
        let due = self.services.get(id).map(|service| service.to_kill(&self.settings, now));
        for task in due.unwrap_or_default() {
            let Some(service) = self.services.get_mut(id) else { return };
            let Some(copy) = service.instances.get_mut(&task) else { continue };
            copy.killed = Some((now, copy.killed.map_or(1, |(_, times)| times + 1)));
            let agent = copy.agent.clone();
            self.kill(task, Some(agent));
        }
    }

    fn kill(&mut self, task: String, agent: Option<String>) {
        let kill = call::Kill {
            task_id: v1::TaskId { value: task },
            agent_id: agent.map(|value| v1::AgentId { value }),
            kill_policy: None,
        };
        self.call(call::Type::Kill, Call { kill: Some(kill), ..Call::default() });
    }

    fn remove_copy(&mut self, id: &AppId, task: &str) {
        self.tasks.remove(task);
        self.unconfirmed.remove(task);
        self.service(id).instances.remove(task);
        self.forget(&Key::Instance(task));
        self.dirty.insert(id.clone());
    }

    fn remove_service(&mut self, id: &AppId) {
        let Some(service) = self.services.remove(id) else { return };
        for version in service.versions.keys() {
            self.forget(&Key::OldVersion(id, *version));
        }
        if service.failure.is_some() {
            self.forget(&Key::Failure(id));
        }
        if service.halted.is_some() {
            self.forget(&Key::Halt(id));
        }
    }

    /// Tells the master whether offers are wanted. A service that wants more than
    /// before may want what was declined for others, so the filters are cleared.
    fn ask_for_offers(&mut self, now: Mono) {
        if !self.connected {
            return;
        }
        let wanted: BTreeMap<AppId, u32> = self
            .services
            .iter()
            .map(|(id, service)| (id.clone(), service.launchable(now)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let grew = |asked: &BTreeMap<AppId, u32>| {
            wanted.iter().any(|(id, count)| asked.get(id).is_none_or(|before| count > before))
        };
        if wanted.is_empty() {
            if self.asked.as_ref().is_none_or(|asked| !asked.is_empty()) {
                let suppress = Some(call::Suppress::default());
                self.call(call::Type::Suppress, Call { suppress, ..Call::default() });
            }
        } else if self.asked.as_ref().is_none_or(grew) {
            let revive = Some(call::Revive::default());
            self.call(call::Type::Revive, Call { revive, ..Call::default() });
        }
        self.asked = Some(wanted);
    }
}
