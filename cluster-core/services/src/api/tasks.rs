//! Tasks: listing them, ending them.

use super::read::{self, Query};
use super::{Answer, Reply};
use crate::app::App;
use crate::app_id::AppId;
use crate::instance::{Condition, Goal, Instance};
use crate::problem::Refusal;
use crate::scheduler::{Change, Services};
use crate::service::Service;
use crate::task::ports;
use mizzen_types::time::Now;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
struct Ids {
    ids: Vec<String>,
}

impl Services {
    /// Where running tasks are reached, as old load balancers read it: a line per service
    /// port with the app, the port and every `host:port`, separated by tabs.
    pub(super) fn endpoints(&self) -> Reply {
        let mut text = String::new();
        for service in self.services.values() {
            let Some(app) = &service.app else { continue };
            let copies = service.instances.values();
            let running: Vec<&Instance> =
                copies.filter(|copy| copy.condition == Condition::Running).collect();
            let name = app.id.task_prefix();
            let ports = app.service_ports();
            if ports.is_empty() {
                let hosts: String = running.iter().map(|copy| format!("{}\t", copy.host)).collect();
                text.push_str(&format!("{name}\t \t{hosts}\n"));
            }
            for (index, port) in ports.iter().enumerate() {
                let at = |copy: &&Instance| format!("{}\t", endpoint(app, copy, index));
                let endpoints: String = running.iter().map(at).collect();
                text.push_str(&format!("{name}\t{port}\t{endpoints}\n"));
            }
        }
        Reply::text(text)
    }

    pub(super) fn all_tasks(&self, query: &Query) -> Reply {
        let states: Vec<&str> = query.all("status").chain(query.all("status[]")).collect();
        let wanted = |copy: &&Instance| {
            states.is_empty()
                || states.iter().any(|state| match copy.condition {
                    Condition::Staging | Condition::Starting => *state == "staging",
                    Condition::Running => *state == "running",
                    Condition::Killing | Condition::Unreachable => false,
                })
        };
        let copies = self.services.values().flat_map(|service| service.instances.values());
        let tasks: Vec<Value> = copies.filter(wanted).map(|copy| self.task(copy)).collect();
        Reply::json(200, json!({"tasks": tasks}))
    }

    pub(super) fn list_app_tasks(&self, id: &AppId, _query: &Query) -> Answer {
        self.app(id).ok_or_else(|| Refusal::no_app(id))?;
        let tasks = self.services.get(id).map(|service| self.tasks_of(service));
        Ok(Reply::json(200, json!({"tasks": tasks})))
    }

    /// Ends one task of an app or all of them, perhaps on one host only.
    pub(super) fn delete_app_tasks(
        &mut self,
        id: &AppId,
        task: Option<&str>,
        query: &Query,
        now: Now,
    ) -> Answer {
        self.app(id).ok_or_else(|| Refusal::no_app(id))?;
        let host = query.get("host");
        let wanted = |copy: &&Instance| {
            host.is_none_or(|host| host == copy.host)
                && task.is_none_or(|task| task == copy.task_id)
        };
        let copies = self.services.get(id).into_iter().flat_map(|s| s.instances.values());
        let copies: Vec<&Instance> = copies.filter(wanted).collect();
        let tasks: Vec<Value> = copies.iter().map(|copy| self.task(copy)).collect();
        let ids: Vec<String> = copies.iter().map(|copy| copy.task_id.clone()).collect();
        if let Some(task) = task.filter(|_| ids.is_empty()) {
            return Err(Refusal::other(404, format!("Task '{task}' does not exist")));
        }
        if let Some(reply) = self.end_tasks(&ids, query, now)? {
            return Ok(reply);
        }
        Ok(match task {
            Some(_) => Reply::json(200, json!({"task": tasks.first()})),
            None => Reply::json(200, json!({"tasks": tasks})),
        })
    }

    pub(super) fn delete_tasks(&mut self, query: &Query, body: &[u8], now: Now) -> Answer {
        let ids: Ids = serde_json::from_value(read::json(body)?)
            .map_err(|error| Refusal::invalid("/ids", error.to_string()))?;
        let known: Vec<String> =
            ids.ids.into_iter().filter(|id| self.app_of_task(id).is_some()).collect();
        let copies = self.services.values().flat_map(|service| service.instances.values());
        let tasks: Vec<Value> = copies
            .filter(|copy| known.contains(&copy.task_id))
            .map(|copy| self.task(copy))
            .collect();
        let reply = self.end_tasks(&known, query, now)?;
        Ok(reply.unwrap_or_else(|| Reply::json(200, json!({"tasks": tasks}))))
    }

    /// With `scale`, the apps get smaller by what was ended, which is a deployment. `wipe` is
    /// about volumes that outlive tasks, and there are none.
    fn end_tasks(
        &mut self,
        ids: &[String],
        query: &Query,
        now: Now,
    ) -> Result<Option<Reply>, Refusal> {
        let scale = query.flag("scale").unwrap_or(false);
        if scale && query.flag("wipe").unwrap_or(false) {
            return Err(Refusal::other(400, "You cannot use scale and wipe at the same time."));
        }
        if !scale {
            self.stop_tasks(ids, now);
            return Ok(None);
        }
        let fewer = self.wanted_among(ids);
        let change = |(id, n): (AppId, u32)| {
            let app = self.app(&id)?.clone();
            let instances = app.instances.saturating_sub(n);
            Some((id, Change::Put(Box::new(App { instances, ..app }))))
        };
        let changes: BTreeMap<AppId, Change> = fewer.into_iter().filter_map(change).collect();
        // The deployment would choose its own victims, so these are told between finding out
        // that nothing speaks against it and beginning it.
        let prepared = self.prepare(changes, query.locks(), now)?;
        self.mark_stopped(ids);
        Ok(Some(Reply::started(200, &self.begin(prepared, now))))
    }

    /// How many of these tasks each app loses; who was told to end before is no loss.
    fn wanted_among(&self, ids: &[String]) -> BTreeMap<AppId, u32> {
        let ids: BTreeSet<&String> = ids.iter().collect();
        let wanted = |(app, service): (&AppId, &Service)| {
            let copies = service.instances.values();
            let copies =
                copies.filter(|copy| copy.goal == Goal::Run && ids.contains(&copy.task_id));
            let count = u32::try_from(copies.count()).unwrap_or(u32::MAX);
            (count > 0).then(|| (app.clone(), count))
        };
        self.services.iter().filter_map(wanted).collect()
    }
}

/// Where one port of a copy is reached: by a port of the host if it has one, else at its
/// container's own address.
fn endpoint(app: &App, copy: &Instance, index: usize) -> String {
    let at = ports::place_on_host(&ports::wanted(app), index);
    let on_host = at.and_then(|at| copy.host_ports.get(at));
    let inside = app.port_mappings().get(index).map(|mapping| mapping.container_port);
    match (on_host, copy.addresses.first(), inside) {
        (Some(port), _, _) => format!("{}:{port}", copy.host),
        (None, Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (None, Some(address), Some(port)) => format!("{address}:{port}"),
        _ => format!("{}:0", copy.host),
    }
}

#[cfg(test)]
mod tests {
    use crate::deployment::MAX_DEPLOYMENTS;
    use crate::testing::World;
    use serde_json::{Value, json};

    fn running(instances: u32) -> World {
        let mut world = World::new();
        world.post(json!({"instances": instances, "cpus": 0.1, "mem": 10}));
        world.offer(1);
        world.run_from(0);
        world
    }

    #[test]
    fn an_app_shrinks_by_a_task_once_however_often_it_is_named() {
        let mut world = running(3);
        let task = world.ids()[0].clone();
        let body = json!({"ids": [task, task]});
        for _ in 0..2 {
            let path = "/v2/tasks/delete?scale=true&force=true";
            assert_eq!(world.request("POST", path, &body).0, 200);
            assert_eq!(world.get("/v2/apps/web")["app"]["instances"], 2);
        }
    }

    #[test]
    fn no_task_ends_for_a_change_that_is_refused() {
        let mut world = running(2);
        for n in 0..MAX_DEPLOYMENTS {
            let app = json!({"id": format!("/other-{n}"), "cmd": "x", "cpus": 1000});
            assert_eq!(world.request("POST", "/v2/apps", &app).0, 201);
        }
        world.calls.clear();
        let path = format!("/v2/apps/web/tasks/{}?scale=true", world.ids()[0]);
        let (status, body) = world.request("DELETE", &path, &Value::Null);
        assert_eq!(status, 403, "{body}");
        world.advance(std::time::Duration::from_secs(1));
        assert_eq!(world.take_kills(), [""; 0]);
    }
}
