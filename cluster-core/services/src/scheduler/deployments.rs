//! Deployments, step by step.

use super::Services;
use crate::app_id::AppId;
use crate::deployment::{ActionKind, Deployment};
use crate::store::Key;

impl Services {
    /// Goes on to the next step where one is done; returns whether any was.
    pub(super) fn advance_deployments(&mut self) -> bool {
        let done = |deployment: &&Deployment| {
            let step = deployment.steps.get(deployment.current);
            step.is_none_or(|step| step.actions.iter().all(|a| self.is_done(a.action, &a.app)))
        };
        let done: Vec<String> = self
            .deployments
            .values()
            .filter(done)
            .map(|deployment| deployment.id.clone())
            .collect();
        for id in &done {
            let Some(deployment) = self.deployments.get_mut(id) else { continue };
            deployment.current += 1;
            if deployment.current >= deployment.steps.len() {
                self.deployments.remove(id);
                self.forget(&Key::Deployment(id));
                continue;
            }
            let deployment = deployment.clone();
            self.save(&Key::Deployment(id), &deployment);
            self.dirty.extend(deployment.originals.into_keys());
        }
        !done.is_empty()
    }

    fn is_done(&self, action: ActionKind, app: &AppId) -> bool {
        let Some(service) = self.services.get(app) else { return true };
        match action {
            ActionKind::StartApplication => true,
            ActionKind::StopApplication
            | ActionKind::ScaleApplication
            | ActionKind::RestartApplication => {
                service.waits_for.is_none() && service.held_back_by.is_none()
            }
        }
    }
}
