//! Changes that clients ask for: each one that changes anything is a deployment.

use super::Services;
use crate::app::{App, normal};
use crate::app_id::AppId;
use crate::deployment::{self, Deployment, MAX_DEPLOYMENTS, Step};
use crate::problem::Refusal;
use crate::store::{self, Key};
use crate::task;
use crate::version::Version;
use mizzen_types::error::chain;
use mizzen_types::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};

/// What is to become of an app.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// This; its versions and service ports are filled in.
    Put(Box<App>),
    /// The same, with all copies replaced.
    Restart,
    /// What it was before, copies from then included.
    Restore(Box<App>),
    /// Nothing.
    Remove,
}

/// What to do about deployments that change the same apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    /// Refuse.
    Respect,
    /// Take their place.
    Break,
}

/// A deployment that was begun; it may be over already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Started {
    /// Version that it leads to.
    pub version: Version,
    /// Its id.
    pub deployment: String,
}

/// A deployment that nothing speaks against.
#[derive(Debug)]
pub(crate) struct Prepared {
    version: Version,
    /// Deployments whose place it takes.
    blockers: Vec<String>,
    originals: Targets,
    targets: Targets,
    steps: Vec<Step>,
}

type Targets = BTreeMap<AppId, Option<App>>;

impl Services {
    /// Begins a deployment.
    ///
    /// # Errors
    ///
    /// As [`Self::prepare`]; nothing has changed then.
    pub(crate) fn deploy(
        &mut self,
        changes: BTreeMap<AppId, Change>,
        locks: Locks,
        now: Now,
    ) -> Result<Started, Refusal> {
        let prepared = self.prepare(changes, locks, now)?;
        Ok(self.begin(prepared, now))
    }

    /// Finds out what a deployment would be, and changes nothing yet.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if apps are locked, unknown, depend on each other in a circle, cannot be
    /// written down, or too many deployments are under way.
    pub(crate) fn prepare(
        &self,
        changes: BTreeMap<AppId, Change>,
        locks: Locks,
        now: Now,
    ) -> Result<Prepared, Refusal> {
        let blockers = self.blockers(changes.keys());
        if locks == Locks::Respect && !blockers.is_empty() {
            return Err(Refusal::Locked(blockers));
        }
        if self.deployments.len() - blockers.len() >= MAX_DEPLOYMENTS {
            let message = format!("{MAX_DEPLOYMENTS} deployments are under way already");
            return Err(Refusal::other(403, message));
        }
        let version = self.next_version(changes.keys(), now);
        let targets = self.targets(changes, version)?;
        check_writable(&targets)?;
        self.check_circles(&targets)?;
        let originals: Targets =
            targets.keys().map(|id| (id.clone(), self.app(id).cloned())).collect();
        let resumed = targets.keys().filter(|id| self.is_half_way(id)).cloned().collect();
        let steps = deployment::steps(&originals, &targets, &resumed);
        let steps = steps.map_err(|ids| circle(&ids))?;
        Ok(Prepared { version, blockers, originals, targets, steps })
    }

    /// Begins what was prepared just before. Other apps of deployments whose place it takes
    /// stay as they are.
    pub(crate) fn begin(&mut self, prepared: Prepared, now: Now) -> Started {
        let Prepared { version, blockers, originals, targets, steps } = prepared;
        let id = task::uuid(&mut self.dice);
        for blocker in blockers {
            self.remove_deployment(&blocker, now.mono);
        }
        for (id, target) in targets {
            self.apply(&id, target);
        }
        if !steps.is_empty() {
            let deployment = Deployment { id: id.clone(), version, steps, current: 0, originals };
            self.save(&Key::Deployment(&id), &deployment);
            self.deployments.insert(id.clone(), deployment);
        }
        self.settle(now);
        Started { version, deployment: id }
    }

    /// Ends a deployment and leaves its apps as they are.
    fn remove_deployment(&mut self, id: &str, now: Mono) {
        if let Some(deployment) = self.deployments.remove(id) {
            self.forget(&Key::Deployment(id));
            self.halt(&deployment, now);
            self.dirty.extend(deployment.originals.into_keys());
        }
    }

    /// The app of that id, unless it was removed.
    pub(crate) fn app(&self, id: &AppId) -> Option<&App> {
        self.services.get(id)?.app.as_ref()
    }

    /// Every app.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &App> {
        self.services.values().filter_map(|service| service.app.as_ref())
    }

    /// Decides that copies are to end; they are replaced unless their app wants fewer.
    pub(crate) fn stop_tasks(&mut self, tasks: &[String], now: Now) {
        self.mark_stopped(tasks);
        self.settle(now);
    }

    /// The same without acting on it yet.
    pub(crate) fn mark_stopped(&mut self, tasks: &[String]) {
        for task in tasks {
            if let Some(id) = self.tasks.get(task).cloned() {
                self.stop(&id, task);
            }
        }
    }

    /// Stops a deployment half-way: nothing more is done for it.
    pub(crate) fn cancel(&mut self, id: &str, now: Now) {
        self.remove_deployment(id, now.mono);
        self.settle(now);
    }

    /// The app that a task belongs to.
    pub(crate) fn app_of_task(&self, task: &str) -> Option<&AppId> {
        self.tasks.get(task)
    }

    /// Forgets the delay that failures caused.
    pub(crate) fn reset_delay(&mut self, id: &AppId, now: Now) {
        if let Some(service) = self.services.get_mut(id) {
            service.backoff.reset();
            self.dirty.insert(id.clone());
        }
        self.settle(now);
    }

    /// Ids of the deployments that change any of `apps`.
    pub(crate) fn blockers<'a>(&self, apps: impl Iterator<Item = &'a AppId>) -> Vec<String> {
        let apps: BTreeSet<&AppId> = apps.collect();
        let blocks = |deployment: &&Deployment| apps.iter().any(|app| deployment.affects(app));
        self.deployments.values().filter(blocks).map(|deployment| deployment.id.clone()).collect()
    }

    /// Later than every version that the apps have.
    fn next_version<'a>(&self, apps: impl Iterator<Item = &'a AppId>, now: Now) -> Version {
        let taken = apps.filter_map(|id| self.app(id)).map(|app| app.version.next()).max();
        Version::at(now.wall).max(taken.unwrap_or_default())
    }

    /// What the apps are to be; those that do not change are left out, unless a deployment
    /// of them is stopped half-way: being named again, it goes on.
    fn targets(
        &self,
        changes: BTreeMap<AppId, Change>,
        version: Version,
    ) -> Result<Targets, Refusal> {
        let mut ports: BTreeSet<u16> = self.apps().flat_map(App::service_ports).collect();
        let mut targets = Targets::new();
        for (id, change) in changes {
            let old = self.app(&id);
            let target = match change {
                Change::Remove => None,
                Change::Restart => {
                    let mut app = old.cloned().ok_or_else(|| Refusal::no_app(&id))?;
                    app.version_info.last_config_change_at = version;
                    Some(App { version, ..app })
                }
                Change::Restore(app) => Some(App { version, ..*app }),
                Change::Put(mut app) => {
                    normal::assign_service_ports(&mut app, old, &ports, &self.settings);
                    let same = old.is_some_and(|old| old.same_request(&app));
                    if same && !self.is_half_way(&id) {
                        continue;
                    }
                    date(&mut app, old, version);
                    Some(*app)
                }
            };
            ports.extend(target.iter().flat_map(App::service_ports));
            targets.insert(id, target);
        }
        Ok(targets)
    }

    fn check_circles(&self, targets: &Targets) -> Result<(), Refusal> {
        let depends = |app: &App| !app.dependencies.is_empty();
        if !targets.values().flatten().any(depends) {
            return Ok(());
        }
        let mut all: Targets = self.apps().map(|app| (app.id.clone(), Some(app.clone()))).collect();
        all.extend(targets.clone());
        deployment::steps(&Targets::new(), &all, &BTreeSet::new()).map_err(|ids| circle(&ids))?;
        Ok(())
    }

    fn apply(&mut self, id: &AppId, target: Option<App>) {
        self.dirty.insert(id.clone());
        match &target {
            Some(app) => self.save(&Key::App(id), app),
            None => self.forget(&Key::App(id)),
        }
        self.lift_halt(id);
        let service = self.service(id);
        // More copies of what fails are no reason to try more often.
        if service.app.as_ref().map(App::config) != target.as_ref().map(App::config) {
            service.backoff.reset();
        }
        let Some(old) = std::mem::replace(&mut service.app, target) else { return };
        service.versions.insert(old.version, old.clone());
        self.save(&Key::OldVersion(id, old.version), &old);
        while let Some(oldest) = self.surplus_version(id) {
            self.service(id).versions.remove(&oldest);
            self.forget(&Key::OldVersion(id, oldest));
        }
    }

    fn surplus_version(&self, id: &AppId) -> Option<Version> {
        let versions = &self.services.get(id)?.versions;
        let surplus = versions.len() > self.settings.max_versions;
        surplus.then(|| versions.keys().next().copied()).flatten()
    }
}

/// Only a change of more than the number of copies makes the old copies old.
fn date(app: &mut App, old: Option<&App>, version: Version) {
    app.version = version;
    app.version_info.last_scaling_at = version;
    app.version_info.last_config_change_at = version;
    if let Some(old) = old.filter(|old| old.same_config(app)) {
        app.version_info.last_config_change_at = old.config();
    }
}

/// What has no record is not promised.
fn check_writable(targets: &Targets) -> Result<(), Refusal> {
    for (id, app) in targets {
        if let Some(app) = app {
            store::write(&Key::App(id), app).map_err(|error| Refusal::other(500, chain(&error)))?;
        }
    }
    Ok(())
}

fn circle(ids: &[AppId]) -> Refusal {
    let ids: Vec<&str> = ids.iter().map(AppId::as_str).collect();
    Refusal::invalid("/dependencies", format!("form a circle: {}", ids.join(", ")))
}

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use mizzen_api::v1::TaskState;
    use serde_json::json;

    #[test]
    fn only_another_configuration_makes_failures_forgotten() {
        let mut world = World::new();
        world.post(json!({"instances": 1, "cpus": 0.1, "mem": 10, "backoffSeconds": 60}));
        world.offer(1);
        let task = world.ids()[0].clone();
        world.update(&task, TaskState::TaskFailed, None);
        for (change, left) in [(json!({"instances": 2}), 60), (json!({"cmd": "false"}), 0)] {
            world.request("PUT", "/v2/apps/web?force=true", &change);
            let queue = &world.get("/v2/queue")["queue"][0];
            assert_eq!(queue["delay"]["timeLeftSeconds"], left, "{change}");
        }
    }
}
