//! Frameworks come, stay away, come back and go.

use crate::framework::{Connection, Framework, can, roles_of};
use crate::offers::Notice;
use crate::task::{self, Charge, Task};
use crate::timers::Alarm;
use crate::validation::framework as validation;
use crate::{Effect, Master, SchedulerReply};
use mizzen_allocator::Activity;
use mizzen_api::link::ToAgent;
use mizzen_api::v1::scheduler::{Event, OfferConstraints, call, event};
use mizzen_api::v1::task_status::Reason;
use mizzen_api::v1::{self, TaskState};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::{AgentId, FrameworkId};
use mizzen_types::time::Now;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

impl Master {
    /// A framework's stream ended.
    pub fn stream_closed(&mut self, stream_id: &str, now: Now) {
        self.now = now;
        let Some(id) = self.streams.remove(stream_id) else { return };
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        framework.connection = Connection::Disconnected(now.mono);
        framework.disconnections += 1;
        let (disconnection, timeout) = (framework.disconnections, framework.failover_timeout());
        self.allocator.set_framework_activity(&id, Activity::Inactive);
        self.discard_offers(&id, Notice::Silent);
        if timeout.is_zero() {
            self.remove_framework(&id);
        } else {
            self.timers.set(now.mono + timeout, Alarm::Failover(id.clone(), disconnection));
            self.expect_framework(&id);
        }
    }

    pub(crate) fn subscribe(
        &mut self,
        subscribe: call::Subscribe,
        stream_id: String,
    ) -> SchedulerReply {
        let reply = SchedulerReply::Subscribed { stream_id: stream_id.clone() };
        let mut info = subscribe.framework_info;
        info.id = info.id.filter(|id| !id.value.is_empty());
        let suppressed = subscribe.suppressed_roles;
        let checked = self.check_info(&info, &suppressed, subscribe.offer_constraints.as_ref());
        if let Err(message) = checked {
            self.effects.push_back(error_event(stream_id.clone(), message));
            self.effects.push_back(Effect::CloseStream { stream_id });
            return reply;
        }
        let suppressed = suppressed.iter().map(|role| Arc::from(role.as_str())).collect();
        let known = info.id.as_ref().map(FrameworkId::from);
        let id = match known.filter(|id| self.frameworks.contains_key(id)) {
            Some(id) => {
                self.counters.count("messages_reregister_framework");
                self.fail_over(&id, info, suppressed, &stream_id);
                id
            }
            None => {
                self.counters.count("messages_register_framework");
                self.add_framework(info, suppressed, &stream_id)
            }
        };
        self.streams.insert(stream_id.clone(), id.clone());
        self.say_framework(&id);
        if let Some(framework) = self.frameworks.get_mut(&id) {
            framework.counters.call(call::Type::Subscribe);
        }
        let welcome = self.welcome(&id);
        self.send(&id, welcome);
        self.heartbeat(&stream_id);
        self.ask_for_updates(&id);
        reply
    }

    /// What the framework missed waits at the agents of its tasks, perhaps for minutes.
    fn ask_for_updates(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let agents: BTreeSet<AgentId> = framework.tasks.values().map(Task::agent).collect();
        for agent in agents {
            let framework_id = id.into();
            self.tell_agent(&agent, ToAgent::FrameworkSubscribed { framework_id });
        }
    }

    /// UPDATE_FRAMEWORK: as a subscription again, but what must not change is an
    /// error here.
    pub(crate) fn update_framework(
        &mut self,
        id: &FrameworkId,
        update: call::UpdateFramework,
    ) -> Result<(), String> {
        let (info, suppressed) = (update.framework_info, update.suppressed_roles);
        self.check_info(&info, &suppressed, update.offer_constraints.as_ref())?;
        let Some(framework) = self.frameworks.get_mut(id) else { return Ok(()) };
        if framework.info.user != info.user {
            return Err("Updating 'FrameworkInfo.user' is unsupported".to_owned());
        }
        if framework.info.checkpoint() != info.checkpoint() {
            return Err("Updating 'FrameworkInfo.checkpoint' is unsupported".to_owned());
        }
        let roles = roles_of(&info);
        framework.info = info;
        framework.suppressed = suppressed.iter().map(|role| Arc::from(role.as_str())).collect();
        self.allocator.update_framework(id, framework.spec());
        let outside = |offer: &crate::Offer| offer.framework == *id && !roles.contains(&offer.role);
        let gone: Vec<_> =
            self.offers.iter().filter(|(_, o)| outside(o)).map(|(id, _)| id.clone()).collect();
        for offer in gone {
            self.withdraw(&offer, Notice::Rescind);
        }
        self.say_framework(id);
        Ok(())
    }

    pub(crate) fn heartbeat(&mut self, stream_id: &str) {
        let Some(id) = self.streams.get(stream_id).cloned() else { return };
        self.send(&id, Event { r#type: Some(event::Type::Heartbeat.into()), ..Event::default() });
        let next = self.now.mono + self.settings.heartbeat;
        self.timers.set(next, Alarm::Heartbeat(stream_id.to_owned()));
    }

    pub(crate) fn failover_timed_out(&mut self, id: &FrameworkId, disconnection: u64) {
        let gone = self.frameworks.get(id).is_some_and(|framework| {
            !framework.is_connected() && framework.disconnections == disconnection
        });
        if gone {
            self.remove_framework(id);
        }
    }

    /// Ends all tasks of a framework and forgets it but for the memory of it.
    pub(crate) fn remove_framework(&mut self, id: &FrameworkId) {
        self.counters.count("messages_unregister_framework");
        self.discard_offers(id, Notice::Silent);
        let Some(mut framework) = self.frameworks.remove(id) else { return };
        if let Connection::Connected(stream_id) =
            std::mem::replace(&mut framework.connection, Connection::Disconnected(self.now.mono))
        {
            self.streams.remove(&stream_id);
            self.effects.push_back(Effect::CloseStream { stream_id });
        }
        let mut agents: BTreeSet<AgentId> = BTreeSet::new();
        let tasks = std::mem::take(&mut framework.tasks).into_values();
        for mut task in tasks.chain(std::mem::take(&mut framework.unreachable).into_values()) {
            let agent = task.agent();
            if let Some(state) = self.agents.get_mut(&agent) {
                let key = (id.clone(), task.id());
                state.tasks.remove(&key);
                state.kills.remove(&key);
            }
            if task.charge == Charge::Held {
                self.allocator.recover(
                    id,
                    &task.role,
                    &agent,
                    &task.resources,
                    None,
                    self.now.mono,
                );
                task.charge = Charge::Freed;
            }
            if !task::is_terminal(task.v1.state()) {
                self.end_with_framework(&mut task);
            }
            agents.insert(agent);
            framework.complete(task, self.settings.max_completed_tasks);
        }
        for agent in agents {
            self.tell_agent(&agent, ToAgent::ShutdownFramework { framework_id: id.into() });
            self.check_drained(&agent);
        }
        self.allocator.remove_framework(id);
        framework.unregistered = Some(self.now.wall);
        self.effects.push_back(Effect::Fact { key: Key::Framework(id.clone()), value: None });
        self.completed.push_back(framework);
        while self.completed.len() > self.settings.max_completed_frameworks {
            self.completed.pop_front();
        }
    }

    /// Whether the framework has been removed, as far as is remembered.
    pub(crate) fn is_completed(&self, id: &FrameworkId) -> bool {
        self.completed.iter().any(|framework| framework.id == *id)
    }

    /// Takes up a framework of which an agent has tasks. It has at least as long to
    /// subscribe again as the agents have to come back: it cannot have noticed before
    /// that there is another master.
    pub(crate) fn recover_framework(&mut self, info: v1::FrameworkInfo) {
        let Some(id) = info.id.as_ref().map(FrameworkId::from) else { return };
        if self.frameworks.contains_key(&id) || self.is_completed(&id) {
            return;
        }
        let connection = Connection::Recovered(self.now.mono);
        let framework = Framework::new(&id, info, connection, self.now.wall);
        let patience = framework.failover_timeout().max(self.settings.agent_reregister);
        let alarm = Alarm::Failover(id.clone(), framework.disconnections);
        self.timers.set(self.now.mono + patience, alarm);
        self.allocator.add_framework(&id, framework.spec(), Activity::Inactive);
        self.frameworks.insert(id.clone(), framework);
        self.say_framework(&id);
        self.expect_framework(&id);
    }

    fn check_info(
        &self,
        info: &v1::FrameworkInfo,
        suppressed: &[String],
        constraints: Option<&OfferConstraints>,
    ) -> Result<(), String> {
        validation::check(info, suppressed)?;
        if constraints.is_some_and(|constraints| !constraints.role_constraints.is_empty()) {
            return Err("Offer constraints are not supported by this master".to_owned());
        }
        let Some(id) = info.id.as_ref().map(FrameworkId::from) else { return Ok(()) };
        if self.is_completed(&id) {
            return Err("Framework has been removed".to_owned());
        }
        match self.frameworks.get(&id) {
            Some(known) if known.info.principal != info.principal => {
                Err("Changing the framework's principal is not allowed".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn add_framework(
        &mut self,
        info: v1::FrameworkInfo,
        suppressed: BTreeSet<Arc<str>>,
        stream_id: &str,
    ) -> FrameworkId {
        let id = info.id.as_ref().map_or_else(|| self.next_framework_id(), FrameworkId::from);
        let connection = Connection::Connected(stream_id.to_owned());
        let mut framework = Framework::new(&id, info, connection, self.now.wall);
        framework.suppressed = suppressed;
        self.allocator.add_framework(&id, framework.spec(), Activity::Active);
        self.frameworks.insert(id.clone(), framework);
        id
    }

    fn next_framework_id(&mut self) -> FrameworkId {
        let number = self.numbers.framework;
        self.numbers.framework += 1;
        FrameworkId::new(format!("{}-{number:04}", self.settings.master_id))
    }

    /// A known framework subscribes on a new stream; the newest always wins.
    fn fail_over(
        &mut self,
        id: &FrameworkId,
        mut info: v1::FrameworkInfo,
        suppressed: BTreeSet<Arc<str>>,
        stream_id: &str,
    ) {
        let message = "Framework failed over".to_owned();
        self.discard_offers(id, Notice::Silent);
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let connection = Connection::Connected(stream_id.to_owned());
        if let Connection::Connected(old) = std::mem::replace(&mut framework.connection, connection)
        {
            self.streams.remove(&old);
            self.effects.push_back(error_event(old.clone(), message));
            self.effects.push_back(Effect::CloseStream { stream_id: old });
        }
        info.user.clone_from(&framework.info.user);
        info.checkpoint = framework.info.checkpoint;
        framework.info = info;
        framework.suppressed = suppressed;
        framework.reregistered = Some(self.now.wall);
        self.allocator.update_framework(id, framework.spec());
        self.allocator.set_framework_activity(id, Activity::Active);
    }

    fn end_with_framework(&mut self, task: &mut Task) {
        let message = "The framework was removed";
        let (id, agent) = (task.v1.task_id.clone(), task.v1.agent_id.clone());
        let (state, reason) = (TaskState::TaskKilled, Reason::FrameworkRemoved);
        let status = task::status(&id, Some(&agent), state, reason, message, self.now.wall);
        task.v1.state = state.into();
        task.remember(&status);
        self.counters.task_ended(state);
    }

    fn say_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let value = Some(Box::new(Fact::Framework(framework.fact())));
        self.effects.push_back(Effect::Fact { key: Key::Framework(id.clone()), value });
    }

    fn welcome(&self, id: &FrameworkId) -> Event {
        let subscribed = event::Subscribed {
            framework_id: id.into(),
            heartbeat_interval_seconds: Some(self.settings.heartbeat.as_secs_f64()),
            master_info: Some(self.master_info()),
        };
        Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(subscribed),
            ..Event::default()
        }
    }

    fn master_info(&self) -> v1::MasterInfo {
        let settings = &self.settings;
        // The number is in network order, read as if it were in the host's.
        let ip = match settings.address {
            IpAddr::V4(address) => u32::from_ne_bytes(address.octets()),
            IpAddr::V6(_) => 0,
        };
        let port = settings.port;
        let draining = v1::master_info::capability::Type::AgentDraining;
        v1::MasterInfo {
            id: settings.master_id.clone(),
            ip,
            port: u32::from(port),
            pid: Some(self.pid()),
            hostname: Some(settings.hostname.clone()),
            version: Some(settings.version.clone()),
            address: Some(v1::Address {
                hostname: Some(settings.hostname.clone()),
                ip: Some(settings.address.to_string()),
                port: i32::from(port),
            }),
            capabilities: vec![v1::master_info::Capability { r#type: Some(draining.into()) }],
            ..v1::MasterInfo::default()
        }
    }
}

fn error_event(stream_id: String, message: String) -> Effect {
    let event = Event {
        r#type: Some(event::Type::Error.into()),
        error: Some(event::Error { message }),
        ..Event::default()
    };
    Effect::Event { stream_id, event: Box::new(event) }
}

/// Whether a framework can have several roles.
pub(crate) fn is_multi_role(info: &v1::FrameworkInfo) -> bool {
    can(info, v1::framework_info::capability::Type::MultiRole)
}
