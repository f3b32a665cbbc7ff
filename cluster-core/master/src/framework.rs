//! What is known of one framework.

use crate::metrics::FrameworkCounters;
use crate::task::{Charge, Task, collapsed};
use mizzen_allocator::{FrameworkCapability, FrameworkSpec};
use mizzen_api::resources::Spelling;
use mizzen_api::v1;
use mizzen_types::fact::FrameworkFact;
use mizzen_types::ids::{FrameworkId, OfferId, TaskId};
use mizzen_types::resources::{ANY_ROLE, Quantities, Resources, Scalar};
use mizzen_types::time::{Mono, Wall};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use v1::framework_info::capability::Type as Capability;

/// A scheduler that fails over, or looks for a new master, is back within this time. What
/// can do without it does not wait longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a framework can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Known since then through its tasks only: it has not subscribed since this master
    /// started.
    Recovered(Mono),
    /// Its stream ended then.
    Disconnected(Mono),
    /// It listens on this stream.
    Connected(String),
}

/// One framework.
#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) info: v1::FrameworkInfo,
    pub(crate) connection: Connection,
    /// Grows when it disconnects.
    pub(crate) disconnections: u64,
    pub(crate) suppressed: BTreeSet<Arc<str>>,
    /// Tasks that live, or whose end has not been acknowledged.
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// Tasks on agents that are unreachable.
    pub(crate) unreachable: BTreeMap<TaskId, Task>,
    /// Tasks that are over, the oldest in front.
    pub(crate) completed: VecDeque<Task>,
    pub(crate) offers: BTreeSet<OfferId>,
    pub(crate) registered: Wall,
    pub(crate) reregistered: Option<Wall>,
    pub(crate) unregistered: Option<Wall>,
    pub(crate) counters: FrameworkCounters,
}

impl Framework {
    pub(crate) fn new(
        id: &FrameworkId,
        mut info: v1::FrameworkInfo,
        connection: Connection,
        registered: Wall,
    ) -> Self {
        info.id = Some(id.into());
        Self {
            id: id.clone(),
            info,
            connection,
            disconnections: 0,
            suppressed: BTreeSet::new(),
            tasks: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            completed: VecDeque::new(),
            offers: BTreeSet::new(),
            registered,
            reregistered: None,
            unregistered: None,
            counters: FrameworkCounters::default(),
        }
    }

    pub(crate) fn stream_id(&self) -> Option<&str> {
        match &self.connection {
            Connection::Connected(stream_id) => Some(stream_id),
            Connection::Recovered(_) | Connection::Disconnected(_) => None,
        }
    }

    /// Until when it is expected to say what it owes: for ever while it listens.
    pub(crate) fn expected_until(&self) -> Option<Mono> {
        match &self.connection {
            Connection::Connected(_) => None,
            Connection::Recovered(since) | Connection::Disconnected(since) => {
                Some(*since + PATIENCE)
            }
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stream_id().is_some()
    }

    pub(crate) fn can(&self, capability: Capability) -> bool {
        can(&self.info, capability)
    }

    /// Roles that it is subscribed to.
    pub(crate) fn roles(&self) -> BTreeSet<Arc<str>> {
        roles_of(&self.info)
    }

    /// The role of tasks that do not say.
    pub(crate) fn default_role(&self) -> Arc<str> {
        self.roles().into_iter().next().unwrap_or_else(|| Arc::from(ANY_ROLE))
    }

    /// How it wants to see reservations.
    pub(crate) fn spelling(&self) -> Spelling {
        if self.can(Capability::ReservationRefinement) { Spelling::Stack } else { Spelling::Pair }
    }

    /// A state as it may see it.
    pub(crate) fn sees(&self, state: v1::TaskState) -> v1::TaskState {
        if self.can(Capability::PartitionAware) { state } else { collapsed(state) }
    }

    pub(crate) fn failover_timeout(&self) -> Duration {
        let seconds = self.info.failover_timeout();
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
    }

    /// What the allocator has to know.
    pub(crate) fn spec(&self) -> FrameworkSpec {
        let capabilities = [
            (Capability::RevocableResources, FrameworkCapability::RevocableResources),
            (Capability::GpuResources, FrameworkCapability::GpuResources),
            (Capability::SharedResources, FrameworkCapability::SharedResources),
            (Capability::ReservationRefinement, FrameworkCapability::ReservationRefinement),
            (Capability::MultiRole, FrameworkCapability::MultiRole),
            (Capability::RegionAware, FrameworkCapability::RegionAware),
        ];
        let capabilities = capabilities.into_iter().filter(|(theirs, _)| self.can(*theirs));
        FrameworkSpec {
            roles: self.roles(),
            suppressed: self.suppressed.clone(),
            capabilities: capabilities.map(|(_, ours)| ours).collect(),
            min_allocatable: self
                .info
                .offer_filters
                .iter()
                .filter_map(|(role, filters)| Some((Arc::from(role.as_str()), minima(filters)?)))
                .collect(),
        }
    }

    /// What names are made of.
    pub(crate) fn fact(&self) -> FrameworkFact {
        let web = self.info.webui_url.as_deref().and_then(web_place);
        let said = self.info.hostname.clone().filter(|host| !host.is_empty());
        FrameworkFact {
            name: self.info.name.clone(),
            hostname: said.or_else(|| web.as_ref().map(|(host, _)| host.clone())),
            port: web.map(|(_, port)| port),
        }
    }

    /// What its tasks use.
    pub(crate) fn used(&self) -> Resources {
        let held = self.tasks.values().filter(|task| task.charge == Charge::Held);
        held.fold(Resources::new(), |sum, task| sum + &task.resources)
    }

    /// Puts a task that is over into the memory of `room` tasks.
    pub(crate) fn complete(&mut self, task: Task, room: usize) {
        self.completed.push_back(task);
        while self.completed.len() > room {
            self.completed.pop_front();
        }
    }

    /// Puts a task on an unreachable agent into a memory of `room` tasks, which loses the one
    /// that is lost for the longest.
    pub(crate) fn lose(&mut self, task: Task, room: usize) {
        self.unreachable.insert(task.id(), task);
        while self.unreachable.len() > room {
            let tasks = self.unreachable.values();
            let oldest = tasks.min_by(|a, b| last_status(a).total_cmp(&last_status(b)));
            let Some(oldest) = oldest.map(Task::id) else { return };
            self.unreachable.remove(&oldest);
        }
    }

    /// All tasks that are remembered.
    pub(crate) fn all_tasks(&self) -> impl Iterator<Item = &Task> + '_ {
        self.tasks.values().chain(self.unreachable.values()).chain(&self.completed)
    }
}

/// When the last thing was said of a task, in seconds since the epoch.
fn last_status(task: &Task) -> f64 {
    task.v1.statuses.last().and_then(|status| status.timestamp).unwrap_or_default()
}

/// Host and port of an HTTP address. A scheduler that speaks HTTP names no other port.
fn web_place(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => default,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Whether a framework says that it has a capability.
pub(crate) fn can(info: &v1::FrameworkInfo, capability: Capability) -> bool {
    info.capabilities.iter().any(|c| c.r#type() == capability)
}

/// The roles of a framework, whichever field it uses for them.
pub(crate) fn roles_of(info: &v1::FrameworkInfo) -> BTreeSet<Arc<str>> {
    if can(info, Capability::MultiRole) {
        info.roles.iter().map(|role| Arc::from(role.as_str())).collect()
    } else {
        BTreeSet::from([Arc::from(info.role())])
    }
}

/// `None` leaves the operator's minimum; an empty list asks for nothing.
fn minima(filters: &v1::OfferFilters) -> Option<Vec<Quantities>> {
    let minimum = filters.min_allocatable_resources.as_ref()?;
    let one = |set: &v1::offer_filters::ResourceQuantities| {
        let mut quantities = Quantities::new();
        for (name, scalar) in &set.quantities {
            let scalar = Scalar::from_f64(scalar.value).unwrap_or_default();
            quantities.add_one(&Arc::from(name.as_str()), scalar);
        }
        quantities
    };
    Some(minimum.quantities.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_that_is_lost_for_the_longest_is_forgotten_first() {
        let info = v1::FrameworkInfo::default();
        let mut framework =
            Framework::new(&"f".into(), info, Connection::Connected("s".into()), Wall(0));
        for (id, timestamp) in [("c", 1.0), ("b", 2.0), ("a", 3.0)] {
            let timestamp = Some(timestamp);
            let statuses = vec![v1::TaskStatus { timestamp, ..v1::TaskStatus::default() }];
            let task_id = v1::TaskId { value: id.to_owned() };
            let v1 = v1::Task { task_id, statuses, ..v1::Task::default() };
            framework.lose(Task::reported(v1, &Arc::from("*")), 2);
        }
        let left: Vec<TaskId> = framework.unreachable.into_keys().collect();
        assert_eq!(left, ["a", "b"].map(TaskId::from));
    }

    #[test]
    fn places_of_schedulers() {
        #[rustfmt::skip]
        let table = [
            ("http://10.0.0.3:8080/ui",    Some(("10.0.0.3", 8080))),
            ("https://marathon.example",   Some(("marathon.example", 443))),
            ("http://n1?x=1:2",            Some(("n1", 80))),
            ("http://[fd00::3]:81/",       Some(("fd00::3", 81))),
            ("http://me:secret@n1:8080",   Some(("n1", 8080))),
            ("http://n1:0",                None),
            ("http://n1:x",                None),
            ("http://",                    None),
            ("n1:8080",                    None),
            ("ftp://n1",                   None),
        ];
        for (url, want) in table {
            assert_eq!(web_place(url), want.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }
}
