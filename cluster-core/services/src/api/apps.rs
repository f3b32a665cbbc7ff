//! `/v2/apps`.

use super::app_info::Embed;
use super::read::{self, Query};
use super::select::Selector;
use super::{Answer, Reply, only};
use crate::app::{App, document, normal};
use crate::app_id::AppId;
use crate::problem::{Problem, Refusal};
use crate::scheduler::{Change, Locks, Services};
use crate::validation;
use crate::version::Version;
use mizzen_types::time::Now;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

impl Services {
    pub(super) fn app_collection(
        &mut self,
        method: &str,
        query: &Query,
        body: &[u8],
        now: Now,
    ) -> Answer {
        match method {
            "GET" => self.list_apps(query, now),
            "POST" => self.post_app(body, query.locks(), now),
            "PUT" | "PATCH" => self.put_apps(method, query, body, now),
            other => only(other, &["GET", "POST", "PUT", "PATCH"]).map(|()| Reply::text("")),
        }
    }

    /// `/v2/apps/{id}` and what lies below; ids have slashes.
    pub(super) fn app_path(
        &mut self,
        method: &str,
        rest: &[&str],
        query: &Query,
        body: &[u8],
        now: Now,
    ) -> Answer {
        match (method, rest) {
            ("GET", [group @ .., "*"]) => self.list_group_apps(group, query, now),
            ("POST", [id @ .., "restart"]) => {
                let change = |id: AppId| BTreeMap::from([(id, Change::Restart)]);
                let started = self.deploy(change(read::app_id(id)?), query.locks(), now)?;
                Ok(Reply::started(200, &started))
            }
            ("GET", [id @ .., "tasks"]) => self.list_app_tasks(&read::app_id(id)?, query),
            ("DELETE", [id @ .., "tasks"]) => {
                self.delete_app_tasks(&read::app_id(id)?, None, query, now)
            }
            ("DELETE", [id @ .., "tasks", task]) => {
                self.delete_app_tasks(&read::app_id(id)?, Some(task), query, now)
            }
            ("GET", [id @ .., "versions"]) => self.list_versions(&read::app_id(id)?),
            ("GET", [id @ .., "versions", version]) if version.parse::<Version>().is_ok() => {
                self.get_version(&read::app_id(id)?, version)
            }
            ("GET", id) => self.get_app(&read::app_id(id)?, query, now),
            ("PUT" | "PATCH", id) => self.put_app(method, id, query, body, now),
            ("DELETE", id) => self.delete_app(&read::app_id(id)?, query, now),
            (other, _) => only(other, &["GET", "PUT", "PATCH", "DELETE"]).map(|()| Reply::text("")),
        }
    }

    fn list_apps(&self, query: &Query, now: Now) -> Answer {
        let selector = match query.get("label") {
            None => None,
            Some(text) => Some(
                Selector::read(text)
                    .ok_or_else(|| Refusal::other(400, format!("'{text}' is no label selector")))?,
            ),
        };
        let contains = |name: &str, text: &str| {
            query.get(name).is_none_or(|part| part.is_empty() || text.contains(part))
        };
        let wanted = |app: &&App| {
            contains("cmd", app.cmd.as_deref().unwrap_or_default())
                && contains("id", app.id.as_str())
                && selector.as_ref().is_none_or(|selector| selector.selects(&app.labels))
        };
        let apps: Vec<Value> =
            self.apps().filter(wanted).map(|app| self.app_info(app, embed(query), now)).collect();
        Ok(Reply::json(200, json!({"apps": apps})))
    }

    fn list_group_apps(&self, group: &[&str], query: &Query, now: Now) -> Answer {
        let group = format!("/{}", group.join("/"));
        let within = self.apps().filter(|app| app.id.is_within(&group));
        let apps: Vec<Value> = within.map(|app| self.app_info(app, embed(query), now)).collect();
        Ok(Reply::json(200, json!({"*": apps})))
    }

    fn get_app(&self, id: &AppId, query: &Query, now: Now) -> Answer {
        let app = self.app(id).ok_or_else(|| Refusal::no_app(id))?;
        let embed = Embed { tasks: true, failure: true, ..embed(query) };
        Ok(Reply::json(200, json!({"app": self.app_info(app, embed, now)})))
    }

    fn post_app(&mut self, body: &[u8], locks: Locks, now: Now) -> Answer {
        let value = read::json(body)?;
        if value.is_array() {
            return Err(Refusal::invalid("/", "must be an object; a list of apps can be PUT"));
        }
        let app = self.read_app(value)?;
        let id = app.id.clone();
        if self.app(&id).is_some() {
            let message = format!("An app with id [{id}] already exists.");
            return Err(Refusal::other(409, message));
        }
        let changes = BTreeMap::from([(id.clone(), Change::Put(Box::new(app)))]);
        let started = self.deploy(changes, locks, now)?;
        let info = self.app(&id).map(|app| self.app_info(app, Embed::default(), now));
        let mut info = info.unwrap_or_default();
        info["tasks"] = json!([]);
        // The deployment of an app without copies is over before it is answered for.
        info["deployments"] = json!([{"id": started.deployment}]);
        let reply = Reply::json(201, info).with("Location", format!("/v2/apps{id}"));
        Ok(reply.with_deployment(&started))
    }

    fn put_app(
        &mut self,
        method: &str,
        id: &[&str],
        query: &Query,
        body: &[u8],
        now: Now,
    ) -> Answer {
        let text = id.join("/");
        let id = AppId::parse(&text).map_err(|error| Refusal::invalid("/id", error.to_string()))?;
        let Value::Object(update) = read::json(body)? else {
            return Err(Refusal::invalid("/", "must be an object"));
        };
        let exists = self.app(&id).is_some();
        if method == "PATCH" && !exists {
            return Err(Refusal::no_app(&id));
        }
        let app = self.updated(&id, update, query)?;
        let change = Change::Put(Box::new(app));
        let started = self.deploy(BTreeMap::from([(id.clone(), change)]), query.locks(), now)?;
        let reply = Reply::started(if exists { 200 } else { 201 }, &started);
        Ok(if exists { reply } else { reply.with("Location", format!("/v2/apps{id}")) })
    }

    fn put_apps(&mut self, method: &str, query: &Query, body: &[u8], now: Now) -> Answer {
        let Value::Array(updates) = read::json(body)? else {
            return Err(Refusal::invalid("/", "must be a list of apps"));
        };
        let (mut changes, mut problems) = (BTreeMap::new(), Vec::new());
        for (index, update) in updates.into_iter().enumerate() {
            let Value::Object(update) = update else {
                return Err(Refusal::invalid(format!("/({index})"), "must be an object"));
            };
            let id = update.get("id").and_then(Value::as_str).unwrap_or_default();
            let id = AppId::parse(id)
                .map_err(|error| Refusal::invalid(format!("/({index})/id"), error.to_string()))?;
            if method == "PATCH" && self.app(&id).is_none() {
                return Err(Refusal::no_app(&id));
            }
            match self.updated(&id, update, query) {
                Ok(app) => drop(changes.insert(id, Change::Put(Box::new(app)))),
                Err(Refusal::Invalid(found)) => {
                    problems.extend(found.into_iter().map(|problem| problem.of_app(index, &id)));
                }
                Err(refusal) => return Err(refusal),
            }
        }
        if !problems.is_empty() {
            return Err(Refusal::Invalid(problems));
        }
        let started = self.deploy(changes, query.locks(), now)?;
        Ok(Reply::started(200, &started))
    }

    /// What `update` makes of the app: a part of it, all of it, or an older version.
    pub(super) fn updated(
        &self,
        id: &AppId,
        mut update: Map<String, Value>,
        query: &Query,
    ) -> Result<App, Refusal> {
        let other = update.get("id").and_then(Value::as_str).map(AppId::parse);
        if other.is_some_and(|other| other.as_ref() != Ok(id)) {
            return Err(Refusal::invalid("/id", format!("must be '{id}' as in the path")));
        }
        if let Some(version) = update.get("version").filter(|version| !version.is_null()) {
            let alone = update.iter().all(|(k, v)| v.is_null() || k == "version" || k == "id");
            if !alone {
                let error = "may only be combined with the 'id' field";
                return Err(Refusal::invalid("/version", error));
            }
            return self.version(id, version.as_str().unwrap_or_default()).cloned();
        }
        let partial = query.flag("partialUpdate").unwrap_or(true);
        let mut value = match self.app(id).filter(|_| partial) {
            Some(app) => document::overlay(app, &update),
            None => {
                update.insert("id".to_owned(), json!(id));
                Value::Object(update)
            }
        };
        value["id"] = json!(id);
        self.read_app(value)
    }

    fn read_app(&self, value: Value) -> Result<App, Refusal> {
        let document = document::read(value)?;
        let problems = validation::problems(&document, &self.settings);
        if !problems.is_empty() {
            return Err(Refusal::Invalid(problems));
        }
        let bad_id = |error: crate::app_id::AppIdError| Problem::new("/id", error.to_string());
        Ok(normal::app(document, &self.settings).map_err(bad_id)?)
    }

    /// Marathon takes an app away even from under a deployment, unless told not to.
    fn delete_app(&mut self, id: &AppId, query: &Query, now: Now) -> Answer {
        self.app(id).ok_or_else(|| Refusal::no_app(id))?;
        let force = query.flag("force").unwrap_or(true);
        let locks = if force { Locks::Break } else { Locks::Respect };
        let changes = BTreeMap::from([(id.clone(), Change::Remove)]);
        Ok(Reply::started(200, &self.deploy(changes, locks, now)?))
    }

    fn list_versions(&self, id: &AppId) -> Answer {
        let app = self.app(id).ok_or_else(|| Refusal::no_app(id))?;
        let older = self.services.get(id).into_iter().flat_map(|service| service.versions.keys());
        let mut versions: Vec<Version> = older.copied().collect();
        versions.push(app.version);
        versions.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Reply::json(200, json!({"versions": versions})))
    }

    fn get_version(&self, id: &AppId, version: &str) -> Answer {
        Ok(Reply::json(200, self.version(id, version)?))
    }

    fn version(&self, id: &AppId, version: &str) -> Result<&App, Refusal> {
        let app = self.app(id).ok_or_else(|| Refusal::no_app(id))?;
        let none =
            || Refusal::other(404, format!("App '{id}' does not exist in version {version}"));
        let wanted: Version = version.parse().map_err(|_| none())?;
        if app.version == wanted {
            return Ok(app);
        }
        let older = self.services.get(id).and_then(|service| service.versions.get(&wanted));
        older.ok_or_else(none)
    }
}

fn embed(query: &Query) -> Embed {
    Embed {
        tasks: query.embeds("tasks") || query.embeds("failures"),
        failure: query.embeds("lastTaskFailure") || query.embeds("failures"),
        stats: query.embeds("taskStats"),
    }
}
