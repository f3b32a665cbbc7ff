//! What people, resolvers and tools read: the classic endpoints, as JSON.
//!
//! Field names are those of Mesos, `slave` included. Times are seconds since the
//! epoch; resources are summaries by name.

mod agents;
mod frameworks;
mod operator;
mod tasks;

pub use tasks::{Order, TasksQuery};

use crate::Master;
use mizzen_api::summary;
use mizzen_types::resources::{Resources, Scalar};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Master {
    /// The body of `/state`.
    #[must_use]
    pub fn state(&self) -> Value {
        let settings = &self.settings;
        let active = self.agents.iter().filter(|(id, agent)| self.is_active(id, agent)).count();
        let unreachable = self.registry.agents().map(|(id, _)| id);
        let unreachable = unreachable.filter(|id| self.registry.unreachable_since(id).is_some());
        let mut state = self.version_fields();
        state.extend(object(json!({
            "start_time": self.started.wall.as_secs_f64(),
            "elected_time": self.started.wall.as_secs_f64(),
            "id": settings.master_id,
            "pid": self.pid(),
            "hostname": settings.hostname,
            "capabilities": ["AGENT_DRAINING"],
            "activated_slaves": active,
            "deactivated_slaves": self.agents.len() - active,
            "unreachable_slaves": unreachable.count(),
            "leader": self.pid(),
            "leader_info": {
                "id": settings.master_id,
                "pid": self.pid(),
                "port": settings.port,
                "hostname": settings.hostname,
            },
            "flags": settings.flags,
            "slaves": self.agent_list(),
            "recovered_slaves": self.recovered_list(),
            "frameworks": self.framework_list(None),
            "completed_frameworks": self.completed_list(None),
            "orphan_tasks": [],
            "unregistered_frameworks": [],
        })));
        if let Some(cluster) = &settings.cluster {
            state.insert("cluster".to_owned(), json!(cluster));
        }
        Value::Object(state)
    }

    /// The body of `/state-summary`.
    #[must_use]
    pub fn state_summary(&self) -> Value {
        let mut summary = object(json!({
            "hostname": self.settings.hostname,
            "slaves": self.agent_summaries(),
            "frameworks": self.framework_summaries(),
        }));
        if let Some(cluster) = &self.settings.cluster {
            summary.insert("cluster".to_owned(), json!(cluster));
        }
        Value::Object(summary)
    }

    /// The body of `/roles`.
    #[must_use]
    pub fn roles(&self) -> Value {
        let none = Resources::new();
        let roles: Vec<Value> = self
            .roles_in_use()
            .into_iter()
            .map(|role| {
                let (mut offered, mut allocated) = (none.clone(), none.clone());
                for offer in self.offers.values().filter(|offer| offer.role == role) {
                    offered += &offer.resources;
                }
                for task in self.frameworks.values().flat_map(|f| f.tasks.values()) {
                    if task.role == role && task.charge == crate::task::Charge::Held {
                        allocated += &task.resources;
                    }
                }
                let reserved = self
                    .agents
                    .values()
                    .fold(none.clone(), |sum, agent| sum + &agent.total.reserved_for(&role));
                let in_role = self.frameworks.values().filter(|f| f.roles().contains(&role));
                let frameworks: Vec<_> = in_role.map(|f| f.id.as_str()).collect();
                json!({
                    "name": *role,
                    "weight": self.allocator.weight(&role).as_f64(),
                    "quota": {
                        "role": *role,
                        "guarantee": {},
                        "limit": {},
                        "consumed": consumed(&allocated, &reserved),
                    },
                    "resources": summary::of(&(offered.clone() + &allocated)),
                    "allocated": summary::of(&allocated),
                    "offered": summary::of(&offered),
                    "reserved": summary::of(&reserved),
                    "frameworks": frameworks,
                })
            })
            .collect();
        json!({ "roles": roles })
    }

    /// The body of `/flags`.
    #[must_use]
    pub fn flags(&self) -> Value {
        json!({ "flags": self.settings.flags })
    }

    /// The body of `/version`.
    #[must_use]
    pub fn version(&self) -> Value {
        Value::Object(self.version_fields())
    }

    pub(crate) fn pid(&self) -> String {
        format!("master@{}", std::net::SocketAddr::new(self.settings.address, self.settings.port))
    }

    /// Roles that frameworks are subscribed to or still use, or that have
    /// reservations.
    pub(crate) fn roles_in_use(&self) -> BTreeSet<Arc<str>> {
        let subscribed = self.frameworks.values().flat_map(crate::framework::Framework::roles);
        let tasks = self.frameworks.values().flat_map(|f| f.tasks.values());
        let used = tasks.map(|task| Arc::clone(&task.role));
        let reserved = self.agents.values().flat_map(|a| a.total.reservations().into_keys());
        subscribed.chain(used).chain(reserved).collect()
    }

    fn version_fields(&self) -> Map<String, Value> {
        object(json!({
            "version": self.settings.version,
            "build_date": "",
            "build_time": 0.0,
            "build_user": "",
        }))
    }
}

/// Unreserved use and all reservations, as numbers by name.
fn consumed(allocated: &Resources, reserved: &Resources) -> Map<String, Value> {
    let mut sum = allocated.unreserved().non_revocable().scalar_quantities();
    sum.add(&reserved.scalar_quantities());
    sum.iter().map(|(name, scalar)| (name.to_string(), number(scalar))).collect()
}

fn number(scalar: Scalar) -> Value {
    json!(scalar.as_f64())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Adds a field if there is something to say.
fn insert_some(map: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(name.to_owned(), value);
    }
}
