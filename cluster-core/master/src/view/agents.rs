//! Agents as the classic endpoints show them.

use super::operator::drain_info;
use super::tasks::StateCounts;
use super::{insert_some, object};
use crate::agent::Agent;
use crate::task::Charge;
use crate::{LinkId, Master};
use mizzen_api::resources::{Spelling, to_v1_as};
use mizzen_api::v1::value::Type;
use mizzen_api::{summary, v1};
use mizzen_types::ids::AgentId;
use mizzen_types::resources::{Ranges, Resources, Scalar};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What every agent of this version announces.
pub(super) const CAPABILITIES: [&str; 4] =
    ["MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "AGENT_DRAINING"];

impl Master {
    /// The body of `/slaves`, of one agent if it is named.
    #[must_use]
    pub fn slaves(&self, only: Option<&str>) -> Value {
        let slaves: Vec<Value> = self
            .agents
            .iter()
            .filter(|(id, _)| only.is_none_or(|only| id.as_str() == only))
            .map(|(id, agent)| {
                let mut slave = self.agent_object(id, agent);
                slave.extend(self.full_resources(agent));
                Value::Object(slave)
            })
            .collect();
        json!({ "slaves": slaves, "recovered_slaves": self.recovered_list() })
    }

    pub(super) fn agent_list(&self) -> Vec<Value> {
        self.agents.iter().map(|(id, agent)| Value::Object(self.agent_object(id, agent))).collect()
    }

    pub(super) fn recovered_list(&self) -> Vec<Value> {
        let records = self.recovering().filter_map(|id| Some((id, self.registry.agent(id)?)));
        records
            .map(|(id, record)| {
                json!({
                    "id": id,
                    "hostname": record.info.hostname,
                    "port": record.info.port(),
                    "attributes": attributes(&record.info),
                })
            })
            .collect()
    }

    pub(super) fn agent_summaries(&self) -> Vec<Value> {
        let mut on_agent: BTreeMap<&str, (StateCounts, BTreeSet<&str>)> = BTreeMap::new();
        for framework in self.frameworks.values() {
            for task in framework.all_tasks() {
                let (counts, frameworks) = on_agent.entry(&task.v1.agent_id.value).or_default();
                counts.add(task);
                frameworks.insert(framework.id.as_str());
            }
        }
        let summary = |(id, agent): (&AgentId, &Agent)| {
            let (counts, frameworks) = on_agent.remove(id.as_str()).unwrap_or_default();
            let mut slave = self.agent_object(id, agent);
            slave.extend(counts.fields());
            slave.insert("framework_ids".to_owned(), json!(frameworks));
            Value::Object(slave)
        };
        self.agents.iter().map(summary).collect()
    }

    fn agent_object(&self, id: &AgentId, agent: &Agent) -> Map<String, Value> {
        let (used, offered) = (self.used_on(agent), self.offered_on(agent));
        let reserved: Map<String, Value> = agent
            .total
            .reservations()
            .iter()
            .map(|(role, resources)| (role.to_string(), summary::of(resources)))
            .collect();
        let mut slave = object(json!({
            "id": id,
            "hostname": agent.info.hostname,
            "port": agent.info.port(),
            "attributes": attributes(&agent.info),
            "pid": pid(agent),
            "registered_time": agent.registered.as_secs_f64(),
            "resources": summary::of(&agent.total),
            "used_resources": summary::of(&used),
            "offered_resources": summary::of(&offered),
            "reserved_resources": reserved,
            "unreserved_resources": summary::of(&agent.total.unreserved()),
            "active": self.is_active(id, agent),
            "deactivated": self.registry.is_deactivated(id),
            "version": self.settings.version,
            "capabilities": CAPABILITIES,
        }));
        let again = agent.reregistered.map(|at| json!(at.as_secs_f64()));
        insert_some(&mut slave, "reregistered_time", again);
        let drain = self.registry.drain(id);
        let info = drain.as_ref().map(|drain| json!(drain_info(drain)));
        insert_some(&mut slave, "drain_info", info);
        let since = drain.map(|drain| json!(drain.since.as_secs_f64()));
        insert_some(&mut slave, "estimated_drain_start_time_seconds", since);
        insert_some(&mut slave, "domain", agent.info.domain.as_ref().map(|domain| json!(domain)));
        slave
    }

    fn full_resources(&self, agent: &Agent) -> Map<String, Value> {
        let full = |resources: &Resources| json!(to_v1_as(resources, Spelling::Endpoint));
        let reserved: Map<String, Value> = agent
            .total
            .reservations()
            .iter()
            .map(|(role, resources)| (role.to_string(), full(resources)))
            .collect();
        object(json!({
            "reserved_resources_full": reserved,
            "unreserved_resources_full": full(&agent.total.unreserved()),
            "used_resources_full": full(&self.used_on(agent)),
            "offered_resources_full": full(&self.offered_on(agent)),
        }))
    }

    pub(super) fn used_on(&self, agent: &Agent) -> Resources {
        let mut used = Resources::new();
        for (framework, task) in &agent.tasks {
            let framework = self.frameworks.get(framework);
            if let Some(task) = framework.and_then(|framework| framework.tasks.get(task))
                && task.charge == Charge::Held
            {
                used += task.resources.allocated_to(&task.role);
            }
        }
        used
    }

    pub(super) fn offered_on(&self, agent: &Agent) -> Resources {
        let offers = agent.offers.iter().filter_map(|offer| self.offers.get(offer));
        offers.fold(Resources::new(), |sum, offer| sum + &offer.resources.allocated_to(&offer.role))
    }

    /// The agent at the other end of a link, if it has introduced itself.
    #[must_use]
    pub fn agent_on(&self, link: LinkId) -> Option<&AgentId> {
        self.links.get(&link).and_then(|link| link.agent.as_ref())
    }
}

pub(super) fn pid(agent: &Agent) -> String {
    let port = u16::try_from(agent.info.port()).unwrap_or_default();
    format!("slave(1)@{}", std::net::SocketAddr::new(agent.peer, port))
}

fn attributes(info: &v1::AgentInfo) -> Map<String, Value> {
    info.attributes
        .iter()
        .map(|attribute| (attribute.name.clone(), attribute_value(attribute)))
        .collect()
}

fn attribute_value(attribute: &v1::Attribute) -> Value {
    match attribute.r#type() {
        Type::Scalar => {
            let value = attribute.scalar.map_or(0.0, |scalar| scalar.value);
            json!(Scalar::from_f64(value).unwrap_or_default().as_f64())
        }
        Type::Ranges => {
            let ranges = attribute.ranges.iter().flat_map(|ranges| &ranges.range);
            json!(Ranges::new(ranges.map(|range| (range.begin, range.end))).to_string())
        }
        Type::Set => {
            let items: Vec<_> = attribute.set.iter().flat_map(|set| set.item.clone()).collect();
            json!(format!("{{{}}}", items.join(", ")))
        }
        Type::Text => json!(attribute.text.as_ref().map_or("", |text| &text.value)),
    }
}
