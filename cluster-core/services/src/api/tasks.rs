//! Tasks: listing them, ending them.

use super::read::{self, Query};
use super::{Answer, Reply};
use crate::app::App;
use crate::app_id::AppId;
use crate::instance::{Condition, Instance};
use crate::problem::Refusal;
use crate::scheduler::{Change, Services};
use crate::task::ports;
use mizzen_types::time::Now;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

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

    /// With `scale`, the apps get smaller by what was ended, which is a deployment.
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
        let mut fewer: BTreeMap<AppId, u32> = BTreeMap::new();
        for id in ids {
            if let Some(app) = self.app_of_task(id) {
                *fewer.entry(app.clone()).or_default() += 1;
            }
        }
        let change = |(id, n): (AppId, u32)| {
            let app = self.app(&id)?.clone();
            let instances = app.instances.saturating_sub(n);
            Some((id, Change::Put(Box::new(App { instances, ..app }))))
        };
        let changes: BTreeMap<AppId, Change> = fewer.into_iter().filter_map(change).collect();
        // The deployment would choose its own victims, so these must be told first; that
        // must not happen if it is going to be refused.
        let blockers = self.blockers(changes.keys());
        if query.locks() == crate::scheduler::Locks::Respect && !blockers.is_empty() {
            return Err(Refusal::Locked(blockers));
        }
        self.mark_stopped(ids);
        let started = self.deploy(changes, query.locks(), now)?;
        Ok(Some(Reply::started(200, &started)))
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
