//! A master with a clock, and its effects as lines of text.

use crate::{Effect, LinkId, Master, OperatorReply, SchedulerReply, Settings, registry::Registry};
use mizzen_api::link::{Duty, ToAgent, ToMaster};
use mizzen_api::resources::{from_v1, to_v1};
use mizzen_api::v1::scheduler::{Call, Event, call, event};
use mizzen_api::v1::{self, TaskState};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::overlay::OverlayClaim;
use mizzen_types::resources::Resources;
use mizzen_types::time::{Mono, Now, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub(super) struct Bench {
    pub(super) master: Master,
    pub(super) now: Now,
    pub(super) log: Vec<String>,
    pub(super) saved: BTreeMap<String, Vec<u8>>,
    /// Newest stream of each framework.
    pub(super) streams: BTreeMap<String, String>,
    next_stream: u32,
    /// Links whose agents do not answer.
    pub(super) silent: BTreeSet<u64>,
}

pub(super) fn framework_info(name: &str) -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        user: "root".to_owned(),
        name: name.to_owned(),
        failover_timeout: Some(60.0),
        ..v1::FrameworkInfo::default()
    }
}

pub(super) fn able(
    mut info: v1::FrameworkInfo,
    capability: v1::framework_info::capability::Type,
) -> v1::FrameworkInfo {
    let r#type = Some(capability.into());
    info.capabilities.push(v1::framework_info::Capability { r#type });
    info
}

pub(super) fn call(kind: call::Type, framework: &str) -> Call {
    Call {
        framework_id: Some(v1::FrameworkId { value: framework.to_owned() }),
        r#type: Some(kind.into()),
        ..Call::default()
    }
}

pub(super) fn launch(task: v1::TaskInfo) -> v1::offer::Operation {
    v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::Launch.into()),
        launch: Some(v1::offer::operation::Launch { task_infos: vec![task] }),
        ..v1::offer::Operation::default()
    }
}

pub(super) fn task(id: &str, agent: &str, resources: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        agent_id: v1::AgentId { value: agent.to_owned() },
        resources: to_v1(&Resources::parse(resources).unwrap()),
        command: Some(v1::CommandInfo::default()),
        ..v1::TaskInfo::default()
    }
}

fn offer_ids(offers: &[&str]) -> Vec<v1::OfferId> {
    offers.iter().map(|id| v1::OfferId { value: (*id).to_owned() }).collect()
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with_registry("m", Registry::default())
    }

    pub(super) fn with_registry(id: &str, registry: Registry) -> Self {
        let now = Now { mono: Mono(0), wall: Wall(1_000_000_000_000) };
        let settings = Settings::new(id, "host", IpAddr::from([10, 0, 0, 1]), 5050);
        Self {
            master: Master::new(settings, registry, now),
            now,
            log: Vec::new(),
            saved: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            silent: BTreeSet::new(),
        }
    }

    /// The same cluster after the master was killed and started anew as `id`.
    pub(super) fn restarted(&self, id: &str) -> Self {
        let mut next = Self::with_registry(id, Registry::from_records(self.saved.clone()).unwrap());
        next.saved.clone_from(&self.saved);
        next.next_stream = self.next_stream;
        next
    }

    pub(super) fn settle(&mut self) {
        while let Some(effect) = self.master.poll_effect() {
            if let Some(link) = asked(&effect) {
                self.answer(link);
                continue;
            }
            let line = self.line(effect);
            self.log.extend(line);
        }
    }

    /// The agent behind a link is there, unless it is told to be silent.
    fn answer(&mut self, link: LinkId) {
        if !self.silent.contains(&link.0) {
            self.master.agent_message(link, ToMaster::Pong, self.now).unwrap();
        }
    }

    /// Compares and forgets what happened since the last time.
    #[track_caller]
    pub(super) fn expect(&mut self, want: &[&str]) -> &mut Self {
        let log = std::mem::take(&mut self.log);
        assert_eq!(log, want);
        self
    }

    pub(super) fn advance(&mut self, seconds: u64) -> &mut Self {
        let end = self.now.mono + Duration::from_secs(seconds);
        while let Some(deadline) = self.master.poll_deadline().filter(|at| *at <= end) {
            self.set_time(deadline.max(self.now.mono));
            self.master.handle_timeout(self.now);
            self.settle();
        }
        self.set_time(end);
        self
    }

    pub(super) fn subscribe(&mut self, info: v1::FrameworkInfo) -> SchedulerReply {
        self.next_stream += 1;
        let stream = format!("s{}", self.next_stream);
        let call = Call {
            framework_id: info.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info: info, ..Default::default() }),
            ..Call::default()
        };
        let reply = self.master.scheduler_call(call, None, stream, self.now);
        self.settle();
        reply
    }

    /// Passes a call on the newest stream of its framework.
    pub(super) fn call(&mut self, call: Call) -> SchedulerReply {
        let framework = call.framework_id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
        let stream = self.streams.get(&framework).cloned();
        let reply = self.master.scheduler_call(call, stream.as_deref(), String::new(), self.now);
        self.settle();
        reply
    }

    pub(super) fn accept(&mut self, framework: &str, offers: &[&str], tasks: Vec<v1::TaskInfo>) {
        let operations = tasks.into_iter().map(launch).collect();
        self.accept_operations(framework, offers, operations);
    }

    pub(super) fn accept_operations(
        &mut self,
        framework: &str,
        offers: &[&str],
        operations: Vec<v1::offer::Operation>,
    ) {
        let accept = Some(call::Accept { offer_ids: offer_ids(offers), operations, filters: None });
        let reply = self.call(Call { accept, ..call(call::Type::Accept, framework) });
        assert_eq!(reply, SchedulerReply::Accepted);
    }

    pub(super) fn decline(&mut self, framework: &str, offers: &[&str], refuse: f64) {
        let filters = Some(v1::Filters { refuse_seconds: Some(refuse) });
        let decline = Some(call::Decline { offer_ids: offer_ids(offers), filters });
        self.call(Call { decline, ..call(call::Type::Decline, framework) });
    }

    /// An operator's call, as JSON.
    pub(super) fn operate(&mut self, call: serde_json::Value) -> OperatorReply {
        let call = serde_json::from_value(call).unwrap();
        let reply = self.master.operator_call(call, self.now);
        self.settle();
        reply
    }

    /// An operator's call that is refused.
    #[track_caller]
    pub(super) fn refused(&mut self, call: serde_json::Value) -> (u16, String) {
        match self.operate(call) {
            OperatorReply::Refused { status, text } => (status, text),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn kill(&mut self, framework: &str, task: &str) {
        let task_id = v1::TaskId { value: task.to_owned() };
        let kill = Some(call::Kill { task_id, agent_id: None, kill_policy: None });
        self.call(Call { kill, ..call(call::Type::Kill, framework) });
    }

    pub(super) fn acknowledge(&mut self, framework: &str, agent: &str, task: &str, uuid: u8) {
        let acknowledge = Some(call::Acknowledge {
            agent_id: v1::AgentId { value: agent.to_owned() },
            task_id: v1::TaskId { value: task.to_owned() },
            uuid: vec![uuid; 16],
        });
        self.call(Call { acknowledge, ..call(call::Type::Acknowledge, framework) });
    }

    pub(super) fn reconcile(&mut self, framework: &str, tasks: &[(&str, Option<&str>)]) {
        let tasks = tasks.iter().map(|(task, agent)| call::reconcile::Task {
            task_id: v1::TaskId { value: (*task).to_owned() },
            agent_id: agent.map(|agent| v1::AgentId { value: agent.to_owned() }),
        });
        let reconcile = Some(call::Reconcile { tasks: tasks.collect() });
        self.call(Call { reconcile, ..call(call::Type::Reconcile, framework) });
    }

    pub(super) fn close(&mut self, stream: &str) {
        self.master.stream_closed(stream, self.now);
        self.settle();
    }

    pub(super) fn register(
        &mut self,
        link: u64,
        id: Option<&str>,
        resources: &str,
        frameworks: Vec<v1::FrameworkInfo>,
        tasks: Vec<v1::Task>,
    ) {
        let agent = v1::AgentInfo {
            hostname: "node".to_owned(),
            id: id.map(|id| v1::AgentId { value: id.to_owned() }),
            resources: to_v1(&Resources::parse(resources).unwrap()),
            ..v1::AgentInfo::default()
        };
        self.connect(link, "n1");
        let message =
            ToMaster::Register { agent, frameworks, tasks, overlay: OverlayClaim::default() };
        self.master.agent_message(LinkId(link), message, self.now).unwrap();
        self.settle();
    }

    /// There is a way to the agent of a node.
    pub(super) fn connect(&mut self, link: u64, node: &str) {
        let peer = IpAddr::from([10, 0, 0, 2]);
        self.master.agent_connected(LinkId(link), node.into(), peer, self.now);
    }

    pub(super) fn disconnect(&mut self, link: u64) {
        self.master.agent_disconnected(LinkId(link), self.now);
        self.settle();
    }

    /// The agent tells of a task, with a uuid of these bytes, none if 0.
    pub(super) fn update(
        &mut self,
        link: u64,
        framework: &str,
        task: &str,
        state: TaskState,
        uuid: u8,
    ) {
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state.into(),
            uuid: (uuid > 0).then(|| vec![uuid; 16]),
            source: Some(v1::task_status::Source::Executor.into()),
            timestamp: Some(self.now.wall.as_secs_f64()),
            ..v1::TaskStatus::default()
        };
        let message = ToMaster::StatusUpdate {
            framework_id: v1::FrameworkId { value: framework.to_owned() },
            status,
            latest_state: state,
        };
        self.master.agent_message(LinkId(link), message, self.now).unwrap();
        self.settle();
    }

    /// Lets one second pass, and nothing happen.
    pub(super) fn set_second(&mut self) {
        self.set_time(self.now.mono + Duration::from_secs(1));
    }

    fn set_time(&mut self, mono: Mono) {
        let passed = mono.0 - self.now.mono.0;
        self.now = Now { mono, wall: Wall(self.now.wall.0 + passed) };
    }

    fn line(&mut self, effect: Effect) -> Option<String> {
        Some(match effect {
            Effect::Event { stream_id, event } => {
                if let Some(subscribed) = &event.subscribed {
                    self.streams.insert(subscribed.framework_id.value.clone(), stream_id.clone());
                }
                format!("{stream_id} {}", describe(&event)?)
            }
            Effect::CloseStream { stream_id } => format!("{stream_id} closed"),
            Effect::ToAgent { link, message } => format!("agent {} {}", link.0, order(&message)),
            Effect::Save { key, value } => {
                let line = format!("save {key}{}", if value.is_none() { " gone" } else { "" });
                match value {
                    Some(value) => self.saved.insert(key, value),
                    None => self.saved.remove(&key),
                };
                line
            }
            Effect::Lost(text) => panic!("{text}"),
            Effect::Fact { key: Key::Leader, .. } => return None,
            Effect::Fact { key: Key::Framework(id), value } => match value.as_deref() {
                Some(Fact::Framework(fact)) => format!("fact {id} {}", fact.name),
                _ => format!("fact {id} gone"),
            },
            // That it is forgotten in the end concerns nobody.
            Effect::Fact { key: Key::GoneAgent(_), value: None } => return None,
            Effect::Fact { key: Key::GoneAgent(id), .. } => format!("fact {id} is out for good"),
            Effect::Fact { .. } => "unexpected fact".to_owned(),
        })
    }
}

/// An event in words; nothing for heartbeats.
fn describe(event: &Event) -> Option<String> {
    Some(match event.r#type() {
        event::Type::Heartbeat => return None,
        event::Type::Subscribed => {
            format!("subscribed {}", event.subscribed.as_ref()?.framework_id.value)
        }
        event::Type::Offers => {
            let offers = event.offers.iter().flat_map(|offers| &offers.offers).map(|offer| {
                let resources = from_v1(&offer.resources).unwrap();
                format!("{} {} {resources}", offer.id.value, offer.agent_id.value)
            });
            format!("offers {}", offers.collect::<Vec<_>>().join(" | "))
        }
        event::Type::Rescind => format!("rescind {}", event.rescind.as_ref()?.offer_id.value),
        event::Type::Update => {
            let status = &event.update.as_ref()?.status;
            let reason = status.reason.map(|_| status.reason().as_str_name());
            let uuid = status.uuid.as_ref().map(|uuid| format!("#{}", uuid[0]));
            let parts = [Some(status.state().as_str_name()), reason, uuid.as_deref()];
            let parts: Vec<&str> = parts.into_iter().flatten().collect();
            format!("update {} {}", status.task_id.value, parts.join(" "))
        }
        event::Type::Failure => {
            format!("failure {}", event.failure.as_ref()?.agent_id.as_ref()?.value)
        }
        event::Type::Error => format!("error {}", event.error.as_ref()?.message),
        event::Type::UpdateOperationStatus => {
            let status = &event.update_operation_status.as_ref()?.status;
            let id = status.operation_id.as_ref()?;
            format!("operation {} {}", id.value, status.state().as_str_name())
        }
        event::Type::InverseOffers => {
            let offers = event.inverse_offers.iter().flat_map(|offers| &offers.inverse_offers);
            let offers = offers.map(|offer| {
                let agent = offer.agent_id.as_ref().map_or("", |id| &id.value);
                format!("{} {agent}", offer.id.value)
            });
            format!("inverse {}", offers.collect::<Vec<_>>().join(" | "))
        }
        event::Type::RescindInverseOffer => {
            let id = &event.rescind_inverse_offer.as_ref()?.inverse_offer_id;
            format!("rescind inverse {}", id.value)
        }
        other => other.as_str_name().to_owned(),
    })
}

/// Who is asked whether it is there.
fn asked(effect: &Effect) -> Option<LinkId> {
    match effect {
        Effect::ToAgent { link, message } if **message == ToAgent::Ping => Some(*link),
        _ => None,
    }
}

fn order(message: &ToAgent) -> String {
    match message {
        ToAgent::Overlay(grant) => format!("overlay {} shares", grant.shares.len()),
        ToAgent::Registered { agent_id, duty, .. } => match duty {
            Duty::Serve => format!("registered {}", agent_id.value),
            duty => format!("registered {}, to {}", agent_id.value, words(duty)),
        },
        ToAgent::Duty(duty) => words(duty),
        ToAgent::ShutOut { message } => format!("shut out: {message}"),
        ToAgent::Introduce => "introduce".to_owned(),
        ToAgent::Ping => "ping".to_owned(),
        ToAgent::RunTask { framework, task } => {
            let resources = from_v1(&task.resources).unwrap();
            format!("run {} of {}: {resources}", task.task_id.value, framework.name)
        }
        ToAgent::KillTask { task_id, .. } => format!("kill {}", task_id.value),
        ToAgent::Acknowledge { task_id, uuid, .. } => format!("ack {} #{}", task_id.value, uuid[0]),
        ToAgent::FrameworkSubscribed { framework_id } => format!("{} listens", framework_id.value),
        ToAgent::ShutdownFramework { framework_id } => format!("shut down {}", framework_id.value),
    }
}

fn words(duty: &Duty) -> String {
    match duty {
        Duty::Serve => "serve".to_owned(),
        Duty::Maintain => "maintain".to_owned(),
        Duty::Drain(config) => {
            let grace = config.max_grace_period.as_ref();
            let grace =
                grace.map(|grace| format!(" within {} s", grace.nanoseconds / 1_000_000_000));
            let gone = if config.mark_gone() { " for good" } else { "" };
            format!("drain{}{gone}", grace.unwrap_or_default())
        }
    }
}
