//! `/v2/groups`: apps as a tree, to be read only.

use super::app_info::Embed;
use super::read::Query;
use super::{Answer, Reply};
use crate::app::normal;
use crate::problem::Refusal;
use crate::scheduler::Services;
use crate::version::Version;
use mizzen_types::time::Now;
use serde_json::{Value, json};
use std::collections::BTreeSet;

impl Services {
    pub(super) fn groups(&self, method: &str, rest: &[&str], query: &Query, now: Now) -> Answer {
        if method != "GET" {
            let message =
                "groups are made by the apps in them; writing groups is not supported yet";
            return Err(Refusal::other(501, message));
        }
        if let [path @ .., "versions"] = rest {
            let version = self.group_version(&normal::absolute(&path.join("/")));
            return Ok(Reply::json(200, json!([version])));
        }
        let path = normal::absolute(&rest.join("/"));
        if path != "/" && !self.apps().any(|app| app.id.is_within(&path) && app.id.as_str() != path)
        {
            return Err(Refusal::other(404, format!("Group '{path}' does not exist")));
        }
        Ok(Reply::json(200, self.group(&path, query, now)))
    }

    fn group(&self, path: &str, query: &Query, now: Now) -> Value {
        let base = path.trim_end_matches('/');
        let mut apps = Vec::new();
        let mut groups = BTreeSet::new();
        let embed = Embed {
            tasks: query.embeds("tasks"),
            failure: query.embeds("lastTaskFailure"),
            stats: query.embeds("taskStats"),
        };
        for app in self.apps().filter(|app| app.id.is_within(path)) {
            let rest = app.id.as_str().get(base.len() + 1..).unwrap_or_default();
            match rest.split_once('/') {
                Some((group, _)) => {
                    groups.insert(format!("{base}/{group}"));
                }
                None if !rest.is_empty() => apps.push(self.app_info(app, embed, now)),
                None => {}
            }
        }
        let groups: Vec<Value> = groups.iter().map(|group| self.group(group, query, now)).collect();
        json!({
            "id": path,
            "apps": apps,
            "groups": groups,
            "pods": [],
            "dependencies": [],
            "version": self.group_version(path),
        })
    }

    fn group_version(&self, path: &str) -> Version {
        let within = self.apps().filter(|app| app.id.is_within(path));
        within.map(|app| app.version).max().unwrap_or_default()
    }
}
