//! Apps whose deployment was stopped half-way stay as they are until the next deployment
//! names them: no copy is ended for it, and copies that end are made up for.

use super::Services;
use crate::app::App;
use crate::app_id::AppId;
use crate::deployment::Deployment;
use crate::rolling;
use crate::store::{Halt, Key};
use mizzen_types::time::Mono;

impl Services {
    /// Leaves the apps of a deployment as they are.
    pub(super) fn halt(&mut self, deployment: &Deployment, now: Mono) {
        for (id, original) in &deployment.originals {
            if let Some(copies) = self.copies_to_keep(id, original.as_ref(), now) {
                let halt = Halt { app: id.clone(), copies };
                self.save(&Key::Halt(id), &halt);
                self.service(id).halted = Some(copies);
            }
        }
    }

    /// Lets an app become what it should be again.
    pub(super) fn lift_halt(&mut self, id: &AppId) {
        if self.services.get_mut(id).is_some_and(|service| service.halted.take().is_some()) {
            self.forget(&Key::Halt(id));
        }
    }

    /// An app that has become what it should be by itself, one copy after another, is not
    /// half-way any more.
    pub(super) fn lift_needless_halt(&mut self, id: &AppId, now: Mono) {
        let halted = self.services.get(id).filter(|service| service.halted.is_some());
        let done = halted.is_some_and(|service| {
            let copies = service.instances.values();
            rolling::plan(service.app.as_ref(), copies, now).waits_for.is_none()
        });
        if done {
            self.lift_halt(id);
        }
    }

    /// Whether a deployment of the app is under way or was stopped.
    pub(super) fn is_half_way(&self, id: &AppId) -> bool {
        self.services.get(id).is_some_and(|service| service.halted.is_some())
            || self.deployments.values().any(|deployment| deployment.affects(id))
    }

    /// As many as there are, or were before: an upgrade that ends old copies first must not
    /// leave fewer behind. `None` if the app is as it should be, or removed: then its copies
    /// have been told to end.
    fn copies_to_keep(&self, id: &AppId, original: Option<&App>, now: Mono) -> Option<u32> {
        let service = self.services.get(id)?;
        let app = service.app.as_ref()?;
        if service.waits_for.is_none() && service.held_back_by.is_none() {
            return None;
        }
        let active = service.instances.values().filter(|copy| copy.is_active(app, now)).count();
        let active = u32::try_from(active).unwrap_or(u32::MAX);
        Some(active.max(original.map_or(0, |app| app.instances)).min(app.instances))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use mizzen_api::v1::TaskState as S;
    use serde_json::{Value, json};

    /// Of two old copies of an app that is upgraded one is told to end; three run.
    fn half_upgraded() -> (World, Vec<String>) {
        let mut world = World::new();
        world.post(json!({"instances": 2, "cpus": 0.1, "mem": 10,
            "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 0}}));
        world.offer(1);
        world.run_from(0);
        world.advance(std::time::Duration::from_secs(1));
        world.request("PUT", "/v2/apps/web", &json!({"cmd": "false"}));
        world.offer(1);
        world.calls.clear();
        world.run_from(2);
        let killed = world.take_kills();
        assert_eq!((world.launched.len(), killed.len()), (3, 1));
        (world, killed)
    }

    fn stop_deployment(world: &mut World) {
        let id = world.get("/v2/deployments")[0]["id"].as_str().unwrap().to_owned();
        let path = format!("/v2/deployments/{id}?force=true");
        assert_eq!(world.request("DELETE", &path, &Value::Null).0, 202);
        assert_eq!(world.get("/v2/deployments"), json!([]));
    }

    #[test]
    fn an_upgrade_that_is_stopped_goes_no_further_after_a_restart_either() {
        let (mut world, killed) = half_upgraded();
        stop_deployment(&mut world);
        world.update(&killed[0], S::TaskKilled, None);
        for _ in 0..2 {
            world.offer(1);
            assert_eq!(world.launched.len(), 3, "one old, one new");
            assert_eq!(world.take_kills(), [""; 0]);
            world.restart();
            world.subscribe();
        }
        let why = world.get("/v2/queue/why")[0]["why"].to_string();
        assert!(why.contains("half-way") && why.contains("1 of the old"), "{why}");
    }

    #[test]
    fn a_copy_that_ends_in_an_app_that_was_stopped_half_way_is_replaced() {
        let (mut world, killed) = half_upgraded();
        stop_deployment(&mut world);
        world.update(&killed[0], S::TaskKilled, None);
        let old = world.ids().into_iter().find(|id| *id != killed[0]).unwrap();
        world.update(&old, S::TaskFailed, None);
        world.advance(std::time::Duration::from_secs(2));
        world.offer(1);
        world.run_from(3);
        assert_eq!(world.launched.len(), 4);
        assert_eq!(world.get("/v2/queue/why"), json!([]), "both are new: it is done");
        assert!(!world.disk.contains_key("halt:/web"));
    }

    #[test]
    fn the_same_app_put_again_goes_on_where_it_was_stopped() {
        let (mut world, killed) = half_upgraded();
        stop_deployment(&mut world);
        world.update(&killed[0], S::TaskKilled, None);
        let (status, _) = world.request("PUT", "/v2/apps/web", &json!({"cmd": "false"}));
        assert_eq!(status, 200);
        let deployments = world.get("/v2/deployments");
        assert_eq!(deployments[0]["currentActions"][0]["action"], "RestartApplication");
        world.offer(1);
        world.run_from(3);
        let last = world.take_kills();
        assert_eq!((world.launched.len(), last.len()), (4, 1));
        world.update(&last[0], S::TaskKilled, None);
        assert_eq!(world.get("/v2/deployments"), json!([]));
        assert!(!world.disk.contains_key("halt:/web"));
    }

    #[test]
    fn apps_whose_turn_had_not_come_do_not_start() {
        for force_other in [false, true] {
            let mut world = World::new();
            let app = |id: &str, on: &[&str]| json!({"id": id, "cmd": "x", "cpus": 0.1, "mem": 1, "dependencies": on});
            world.request("PUT", "/v2/apps", &json!([app("/a", &["/b"]), app("/b", &[])]));
            if force_other {
                let change = json!({"cmd": "y"});
                assert_eq!(world.request("PUT", "/v2/apps/b?force=true", &change).0, 200);
            } else {
                stop_deployment(&mut world);
            }
            world.offer(1);
            let names: Vec<&str> = world.launched.iter().map(|task| task.name.as_str()).collect();
            assert_eq!(names, if force_other { vec!["b"] } else { vec![] });
            world.request("PUT", "/v2/apps/a?force=true", &json!({"instances": 2}));
            world.offer(1);
            assert_eq!(world.launched.iter().filter(|task| task.name == "a").count(), 2);
        }
    }

    #[test]
    fn an_upgrade_without_minimum_that_is_stopped_gets_its_copies_back() {
        let mut world = World::new();
        world.post(json!({"instances": 2, "cpus": 0.1, "mem": 10,
            "upgradeStrategy": {"minimumHealthCapacity": 0, "maximumOverCapacity": 0}}));
        world.offer(1);
        world.run_from(0);
        world.advance(std::time::Duration::from_secs(1));
        world.request("PUT", "/v2/apps/web", &json!({"cmd": "false"}));
        stop_deployment(&mut world);
        for task in world.ids() {
            world.update(&task, S::TaskKilled, None);
        }
        world.offer(1);
        assert_eq!(world.launched.len(), 4);
    }
}
