//! `/v2/deployments`.

use super::read::Query;
use super::{Answer, Reply};
use crate::deployment::Deployment;
use crate::problem::Refusal;
use crate::scheduler::{Change, Locks, Services};
use mizzen_types::time::Now;
use serde_json::{Value, json};

impl Services {
    pub(super) fn list_deployments(&self) -> Reply {
        let deployments: Vec<Value> = self.deployments.values().map(shown).collect();
        Reply::json(200, deployments)
    }

    /// Goes back to what was before, or with `force` stops half-way.
    pub(super) fn delete_deployment(&mut self, id: &str, query: &Query, now: Now) -> Answer {
        let none = || Refusal::other(404, format!("DeploymentPlan {id} does not exist"));
        let deployment = self.deployments.get(id).ok_or_else(none)?;
        if query.locks() == Locks::Break {
            self.cancel(id, now);
            return Ok(Reply { status: 202, headers: Vec::new(), body: super::Body::Empty });
        }
        let back = deployment.originals.clone().into_iter().map(|(id, original)| {
            let change = original.map_or(Change::Remove, |app| Change::Restore(Box::new(app)));
            (id, change)
        });
        let started = self.deploy(back.collect(), Locks::Break, now)?;
        Ok(Reply::started(200, &started))
    }
}

fn shown(deployment: &Deployment) -> Value {
    let current = deployment.steps.get(deployment.current);
    let actions = |step: &crate::deployment::Step| -> Vec<Value> {
        let action = |a: &crate::deployment::Action| json!({"action": a.action, "app": a.app, "readinessCheckResults": []});
        step.actions.iter().map(action).collect()
    };
    let apps: Vec<&crate::app_id::AppId> = deployment.originals.keys().collect();
    json!({
        "id": deployment.id,
        "version": deployment.version,
        "affectedApps": apps,
        "affectedPods": [],
        "steps": deployment.steps,
        "currentActions": current.map(actions).unwrap_or_default(),
        "currentStep": deployment.current + 1,
        "totalSteps": deployment.steps.len(),
    })
}
