//! Agents come, go and come back with their tasks.

use crate::registry::Presence;
use crate::task::{self, Charge, Task};
use crate::timers::Alarm;
use crate::{Effect, Link, LinkId, Machine, Master};
use mizzen_allocator::{AgentAllocation, AgentSpec};
use mizzen_api::link::{Duty, ToAgent, ToMaster};
use mizzen_api::resources::from_v1;
use mizzen_api::v1::allocator::InverseOfferStatus;
use mizzen_api::v1::scheduler::{Event, event};
use mizzen_api::v1::task_status::Reason;
use mizzen_api::v1::{self, TaskState};
use mizzen_types::ids::{AgentId, FrameworkId, IdError, OfferId, OwnerId, TaskId, check_id};
use mizzen_types::overlay::OverlayClaim;
use mizzen_types::resources::{ResourceError, Resources};
use mizzen_types::time::{Now, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Why what an agent said was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody said that there is such a link.
    #[error("there is no link {0:?} to an agent")]
    NoLink(LinkId),
    /// It has to register first.
    #[error("the agent on link {0:?} has not registered")]
    NotRegistered(LinkId),
    /// It registers under something that is no id.
    #[error("agent '{hostname}' registers under a bad id")]
    Id {
        /// How it calls itself.
        hostname: String,
        /// What is wrong with the id.
        source: IdError,
    },
    /// It has something that is no resource.
    #[error("agent '{hostname}' registers with bad resources")]
    Resources {
        /// How it calls itself.
        hostname: String,
        /// What is wrong with them.
        source: ResourceError,
    },
    /// It registers as an agent of another node.
    #[error("node '{node}' registers as agent '{agent}', which is node '{owner}'")]
    OtherNode {
        /// The agent.
        agent: AgentId,
        /// Who speaks.
        node: OwnerId,
        /// Whose agent it is.
        owner: OwnerId,
    },
}

/// One agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) info: v1::AgentInfo,
    pub(crate) total: Resources,
    pub(crate) peer: IpAddr,
    /// The way to it, if there is one.
    pub(crate) link: Option<LinkId>,
    /// Number of its observation; one that was forgotten and came back has another.
    pub(crate) observation: u64,
    /// Questions whether it is there that it has not answered, in a row.
    pub(crate) unanswered: u32,
    pub(crate) registered: Wall,
    pub(crate) reregistered: Option<Wall>,
    pub(crate) offers: BTreeSet<OfferId>,
    /// Tasks on it, also those whose end has not been acknowledged.
    pub(crate) tasks: BTreeSet<(FrameworkId, TaskId)>,
    /// Kills that it may not have heard of.
    pub(crate) kills: BTreeMap<(FrameworkId, TaskId), Option<v1::KillPolicy>>,
    /// What it was told last that operators want of it.
    pub(crate) duty: Duty,
    /// When it will not be there, as its offers say.
    pub(crate) unavailability: Option<v1::Unavailability>,
    /// What frameworks said when they were asked to leave it.
    pub(crate) answers: BTreeMap<FrameworkId, InverseOfferStatus>,
}

impl Agent {
    /// The machine that it runs on.
    pub(crate) fn machine(&self) -> Machine {
        Machine::of(&self.info, self.peer)
    }
}

/// The address of nobody.
const UNKNOWN: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

/// What an agent says of itself.
struct Introduction {
    info: v1::AgentInfo,
    total: Resources,
    tasks: Vec<v1::Task>,
    claim: OverlayClaim,
}

impl Master {
    /// There is a way to the agent of `node`, at this address; the agent will introduce
    /// itself. An agent's id belongs to the node that it was given to.
    pub fn agent_connected(&mut self, link: LinkId, node: OwnerId, peer: IpAddr, now: Now) {
        self.now = now;
        self.links.insert(link, Link { node, peer, agent: None, kept_out: None });
    }

    /// An agent says something.
    ///
    /// # Errors
    ///
    /// [`AgentError`] says why it was not taken; nothing has changed then.
    pub fn agent_message(
        &mut self,
        link: LinkId,
        message: ToMaster,
        now: Now,
    ) -> Result<(), AgentError> {
        self.now = now;
        let known = self.links.get(&link).ok_or(AgentError::NoLink(link))?;
        if let ToMaster::Register { agent, frameworks, tasks, overlay } = message {
            return self.register(link, agent, frameworks, (tasks, overlay));
        }
        let Some(agent) = known.agent.clone() else {
            if known.kept_out.is_none() {
                // It was given up while its link was silent, and must say what it has.
                let message = Box::new(ToAgent::Introduce);
                self.effects.push_back(Effect::ToAgent { link, message });
            }
            return Err(AgentError::NotRegistered(link));
        };
        if let Some(agent) = self.agents.get_mut(&agent) {
            agent.unanswered = 0;
        }
        match message {
            ToMaster::StatusUpdate { framework_id, status, latest_state } => {
                self.status_update(&agent, &(&framework_id).into(), status, latest_state);
            }
            ToMaster::MoreAddresses { overlay } => self.give_more_addresses(&agent, &overlay),
            ToMaster::Register { .. } | ToMaster::Pong => {}
        }
        Ok(())
    }

    fn register(
        &mut self,
        link: LinkId,
        info: v1::AgentInfo,
        frameworks: Vec<v1::FrameworkInfo>,
        (tasks, claim): (Vec<v1::Task>, OverlayClaim),
    ) -> Result<(), AgentError> {
        let total = from_v1(&info.resources)
            .map_err(|source| AgentError::Resources { hostname: info.hostname.clone(), source })?;
        if let Some(id) = &info.id {
            check_id(&id.value)
                .map_err(|source| AgentError::Id { hostname: info.hostname.clone(), source })?;
        }
        // One that repeats its first contact on the same link got its id already.
        let own = self.links.get(&link).and_then(|link| link.agent.clone());
        let id = info.id.as_ref().map(AgentId::from).or(own.clone());
        self.counters.count(match id {
            Some(_) => "messages_reregister_slave",
            None => "messages_register_slave",
        });
        if let Some(id) = &id {
            self.check_node(id, link)?;
        }
        let machine = Machine::of(&info, self.links.get(&link).map_or(UNKNOWN, |link| link.peer));
        if let Some(why) = self.kept_out(id.as_ref(), &machine) {
            if let Some(own) = own {
                self.unbind(&own);
            }
            self.keep_out(link, machine, why);
            return Ok(());
        }
        let id = id.unwrap_or_else(|| self.next_agent_id());
        if let Some(other) = own.filter(|own| *own != id) {
            self.unbind(&other);
        }
        for framework in frameworks {
            self.recover_framework(framework);
        }
        self.take_in(&id, link, Introduction { info, total, tasks, claim });
        Ok(())
    }

    /// Only the node that an id was given to may use it.
    fn check_node(&self, agent: &AgentId, link: LinkId) -> Result<(), AgentError> {
        let owner = self.registry.agent(agent).and_then(|record| record.node.as_ref());
        let (Some(owner), Some(link)) = (owner, self.links.get(&link)) else { return Ok(()) };
        match *owner == link.node {
            true => Ok(()),
            false => Err(AgentError::OtherNode {
                agent: agent.clone(),
                node: link.node.clone(),
                owner: owner.clone(),
            }),
        }
    }

    fn next_agent_id(&mut self) -> AgentId {
        let number = self.numbers.agent;
        self.numbers.agent += 1;
        AgentId::new(format!("{}-S{number}", self.settings.master_id))
    }

    /// Makes the agent, as it describes itself, part of the cluster.
    fn take_in(&mut self, id: &AgentId, link: LinkId, introduction: Introduction) {
        let Introduction { mut info, total, tasks, claim } = introduction;
        info.id = Some(id.into());
        let was_unreachable = self.registry.unreachable_since(id).is_some();
        self.registry.set_agent(id, info.clone(), Presence::Admitted);
        if let Some(link) = self.links.get(&link) {
            self.registry.set_node(id, link.node.clone());
        }
        self.save_agent(id);
        self.rescind_of_agent(id);
        self.allocator.remove_agent(id);
        self.bind(id, link, info, total.clone());

        let (ended, shut_down) = self.take_tasks(id, tasks, was_unreachable);
        let held = self.held_on(id);
        self.allocator.add_agent(id, AgentSpec::new(total), held);
        self.apply_activity(id);
        self.apply_schedule(id);
        let duty = self.duty_of(id);
        if let Some(agent) = self.agents.get_mut(id) {
            agent.duty = duty.clone();
        }
        let overlay = self.share_overlays(id, &claim);
        self.tell_agent(id, ToAgent::Registered { agent_id: id.into(), duty, overlay });
        for framework in shut_down {
            let framework_id = (&framework).into();
            self.tell_agent(id, ToAgent::ShutdownFramework { framework_id });
        }
        for (framework, task) in ended {
            self.report_missing(&framework, &task);
        }
        let kills = self.agents.get(id).map(|agent| agent.kills.clone()).unwrap_or_default();
        for ((framework, task), kill_policy) in kills {
            let (framework_id, task_id) = ((&framework).into(), (&task).into());
            self.tell_agent(id, ToAgent::KillTask { framework_id, task_id, kill_policy });
        }
        self.check_drained(id);
    }

    fn bind(&mut self, id: &AgentId, link: LinkId, info: v1::AgentInfo, total: Resources) {
        let Some(way) = self.links.get_mut(&link) else { return };
        way.agent = Some(id.clone());
        let peer = way.peer;
        let now = self.now.wall;
        let Some(agent) = self.agents.get_mut(id) else {
            self.counters.count("slave_registrations");
            let observation = self.numbers.observation;
            self.numbers.observation += 1;
            let at = self.now.mono + self.settings.agent_ping_timeout;
            self.timers.set(at, Alarm::Ping(id.clone(), observation));
            let agent = Agent {
                info,
                total,
                peer,
                link: Some(link),
                observation,
                unanswered: 0,
                registered: now,
                reregistered: None,
                offers: BTreeSet::new(),
                tasks: BTreeSet::new(),
                kills: BTreeMap::new(),
                duty: Duty::Serve,
                unavailability: None,
                answers: BTreeMap::new(),
            };
            self.agents.insert(id.clone(), agent);
            return;
        };
        self.counters.count("slave_reregistrations");
        let old = agent.link.replace(link).filter(|old| *old != link);
        (agent.info, agent.total, agent.peer) = (info, total, peer);
        agent.unanswered = 0;
        agent.reregistered = Some(now);
        if let Some(old) = old.and_then(|old| self.links.get_mut(&old)) {
            old.agent = None;
        }
    }

    /// Takes the tasks that the agent reports. Returns those that it should have
    /// and has not, and the frameworks whose tasks it should not have any more.
    #[allow(clippy::type_complexity, reason = "two lists of ids")]
    fn take_tasks(
        &mut self,
        id: &AgentId,
        tasks: Vec<v1::Task>,
        was_unreachable: bool,
    ) -> (BTreeSet<(FrameworkId, TaskId)>, BTreeSet<FrameworkId>) {
        let mut missing = self.agents.get(id).map(|agent| agent.tasks.clone()).unwrap_or_default();
        let mut shut_down = BTreeSet::new();
        for mut task in tasks {
            task.agent_id = id.into();
            let key = (FrameworkId::from(&task.framework_id), TaskId::from(&task.task_id));
            missing.remove(&key);
            if self.is_completed(&key.0) {
                shut_down.insert(key.0);
            } else {
                self.take_task(&key.0, task, was_unreachable);
            }
        }
        (missing, shut_down)
    }

    fn take_task(&mut self, framework_id: &FrameworkId, task: v1::Task, was_unreachable: bool) {
        if !self.frameworks.contains_key(framework_id) {
            // Its resources have to be counted, whoever's it is.
            let (id, name) = (Some(framework_id.into()), framework_id.to_string());
            self.recover_framework(v1::FrameworkInfo { id, name, ..v1::FrameworkInfo::default() });
        }
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let task = Task::reported(task, &framework.default_role());
        let (id, agent) = (task.id(), task.agent());
        if framework.tasks.get(&id).is_some_and(|known| known.agent() != agent) {
            return;
        }
        framework.completed.retain(|completed| completed.v1.task_id != task.v1.task_id);
        let back = framework.unreachable.remove(&id).is_some();
        let state = framework.sees(task.shown_state());
        let (message, reason) = ("The agent came back", Reason::AgentReregistered);
        let ids = (task.v1.task_id.clone(), task.v1.agent_id.clone());
        framework.tasks.insert(id.clone(), task);
        if let Some(agent) = self.agents.get_mut(&agent) {
            agent.tasks.insert((framework_id.clone(), id));
        }
        if back || was_unreachable {
            let status = task::status(&ids.0, Some(&ids.1), state, reason, message, self.now.wall);
            self.send_update(framework_id, status);
        }
    }

    /// What the tasks on an agent hold of it.
    fn held_on(&self, id: &AgentId) -> AgentAllocation {
        let mut held = AgentAllocation::new();
        let tasks = self.agents.get(id).map(|agent| agent.tasks.iter());
        for (framework_id, task) in tasks.into_iter().flatten() {
            let framework = self.frameworks.get(framework_id);
            let Some(task) = framework.and_then(|framework| framework.tasks.get(task)) else {
                continue;
            };
            if task.charge == Charge::Held && !task.resources.is_empty() {
                let roles = held.entry(framework_id.clone()).or_default();
                *roles.entry(Arc::clone(&task.role)).or_default() += &task.resources;
            }
        }
        held
    }

    /// A task that its agent should have and has not.
    fn report_missing(&mut self, framework_id: &FrameworkId, id: &TaskId) {
        let Some(framework) = self.frameworks.get(framework_id) else { return };
        let Some(task) = framework.tasks.get(id) else { return };
        if !task::is_terminal(task.v1.state()) {
            let (state, reason) = (framework.sees(TaskState::TaskDropped), Reason::Reconciliation);
            let message = "The agent came back without this task";
            let (task_id, agent_id) = (&task.v1.task_id, Some(&task.v1.agent_id));
            let status = task::status(task_id, agent_id, state, reason, message, self.now.wall);
            self.send_update(framework_id, status.clone());
            self.apply_status(framework_id, &status, state);
        }
        self.complete_task(framework_id, id);
    }

    /// Tells a framework of a task.
    pub(crate) fn send_update(&mut self, framework: &FrameworkId, status: v1::TaskStatus) {
        let event = Event {
            r#type: Some(event::Type::Update.into()),
            update: Some(event::Update { status }),
            ..Event::default()
        };
        self.send(framework, event);
    }
}
