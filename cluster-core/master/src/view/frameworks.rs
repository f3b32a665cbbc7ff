//! Frameworks as the classic endpoints show them.

use super::tasks::{StateCounts, task_object};
use super::{insert_some, object};
use crate::Master;
use crate::framework::{Connection, Framework};
use crate::subscription::is_multi_role;
use mizzen_api::summary;
use mizzen_types::resources::Resources;
use mizzen_types::time::Wall;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

impl Master {
    /// The body of `/frameworks`, of one framework if it is named.
    #[must_use]
    pub fn frameworks(&self, only: Option<&str>) -> Value {
        json!({
            "frameworks": self.framework_list(only),
            "completed_frameworks": self.completed_list(only),
            "unregistered_frameworks": [],
        })
    }

    pub(super) fn framework_list(&self, only: Option<&str>) -> Vec<Value> {
        self.objects(self.frameworks.values(), only)
    }

    pub(super) fn completed_list(&self, only: Option<&str>) -> Vec<Value> {
        self.objects(self.completed.iter(), only)
    }

    pub(super) fn framework_summaries(&self) -> Vec<Value> {
        let summary = |framework: &Framework| {
            let mut counts = StateCounts::default();
            let mut agents = BTreeSet::new();
            for task in framework.all_tasks() {
                counts.add(task);
                agents.insert(task.v1.agent_id.value.as_str());
            }
            let mut object = self.summary_fields(framework);
            object.extend(counts.fields());
            object.insert("slave_ids".to_owned(), json!(agents));
            Value::Object(object)
        };
        self.frameworks.values().map(summary).collect()
    }

    fn objects<'a>(
        &self,
        frameworks: impl Iterator<Item = &'a Framework>,
        only: Option<&str>,
    ) -> Vec<Value> {
        frameworks
            .filter(|framework| only.is_none_or(|only| framework.id.as_str() == only))
            .map(|framework| self.framework_object(framework))
            .collect()
    }

    fn summary_fields(&self, framework: &Framework) -> Map<String, Value> {
        let info = &framework.info;
        let capabilities: Vec<_> =
            info.capabilities.iter().map(|capability| capability.r#type().as_str_name()).collect();
        object(json!({
            "id": framework.id,
            "name": info.name,
            "used_resources": summary::of(&framework.used()),
            "offered_resources": summary::of(&self.offered_to(framework)),
            "capabilities": capabilities,
            "hostname": info.hostname(),
            "webui_url": info.webui_url(),
            "active": framework.is_connected(),
            "connected": framework.is_connected(),
            "recovered": matches!(framework.connection, Connection::Recovered(_)),
        }))
    }

    fn framework_object(&self, framework: &Framework) -> Value {
        let info = &framework.info;
        let offered = self.offered_to(framework);
        let mut fields = self.summary_fields(framework);
        fields.extend(object(json!({
            "user": info.user,
            "failover_timeout": info.failover_timeout(),
            "checkpoint": info.checkpoint(),
            "registered_time": framework.registered.as_secs_f64(),
            "unregistered_time": framework.unregistered.map_or(0.0, Wall::as_secs_f64),
            "resources": summary::of(&(framework.used() + &offered)),
            "tasks": framework.tasks.values().map(task_object).collect::<Vec<_>>(),
            "unreachable_tasks": framework.unreachable.values().map(task_object).collect::<Vec<_>>(),
            "completed_tasks": framework.completed.iter().map(task_object).collect::<Vec<_>>(),
            "offers": self.offer_objects(framework),
            "executors": [],
            "offer_constraints": {},
        })));
        let roles = framework.roles();
        if is_multi_role(info) {
            let roles: Vec<&str> = roles.iter().map(AsRef::as_ref).collect();
            fields.insert("roles".to_owned(), json!(roles));
        } else {
            fields.insert("role".to_owned(), json!(info.role()));
        }
        let again = framework.reregistered.map(|at| json!(at.as_secs_f64()));
        insert_some(&mut fields, "reregistered_time", again);
        insert_some(&mut fields, "principal", info.principal.as_ref().map(|p| json!(p)));
        insert_some(&mut fields, "labels", info.labels.as_ref().map(|l| json!(l.labels)));
        Value::Object(fields)
    }

    fn offered_to(&self, framework: &Framework) -> Resources {
        let offers = framework.offers.iter().filter_map(|offer| self.offers.get(offer));
        offers.fold(Resources::new(), |sum, offer| sum + &offer.resources)
    }

    fn offer_objects(&self, framework: &Framework) -> Vec<Value> {
        let offers = framework.offers.iter().filter_map(|id| Some((id, self.offers.get(id)?)));
        offers
            .map(|(id, offer)| {
                json!({
                    "id": id,
                    "framework_id": offer.framework,
                    "allocation_info": { "role": *offer.role },
                    "slave_id": offer.agent,
                    "resources": summary::of(&offer.resources),
                })
            })
            .collect()
    }
}
