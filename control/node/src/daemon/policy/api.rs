//! Requests about policies: `/v1/policies` and what is below it.

use crate::daemon::core::Core;
use crate::daemon::replies::{Answer, Refusal, bad, empty, json, only, refuse};
use mizzen_http::core::{ServicesReply, ServicesRequest};
use mizzen_plan::policy::document::{Faults, read, show};
use mizzen_plan::policy::{MAX_RULES, rules_of};
use mizzen_types::policy::{Policy, PolicyId};
use serde_json::{Value, json as document};
use tracing::info;

const COLLECTION: &str = "/v1/policies";
/// Policies of a cluster.
const MAX_POLICIES: usize = 1024;
/// Bytes of one, as it is said to other nodes.
const MAX_BYTES: usize = 64 << 10;

impl Core {
    /// A request about policies. Those that change something come to the leading master.
    pub(crate) fn policies_request(&mut self, request: &ServicesRequest) -> ServicesReply {
        self.route_policies(request).unwrap_or_else(Refusal::reply)
    }

    fn route_policies(&mut self, request: &ServicesRequest) -> Answer {
        let (method, path) = (request.method.as_str(), request.path.trim_end_matches('/'));
        let Some(text) = path.strip_prefix(COLLECTION).map(|rest| rest.trim_start_matches('/'))
        else {
            return Err(refuse(404, format!("There is nothing at {path}")));
        };
        if text.is_empty() {
            only(method, "GET, HEAD")?;
            return Ok(json(200, &self.policies_view()));
        }
        let id: PolicyId = text.parse().map_err(bad)?;
        match method {
            "GET" | "HEAD" => {
                let policies = self.policy.planner.policies();
                let policy = policies.get(&id).ok_or_else(|| missing(&id))?;
                Ok(json(200, &show(&id, policy)))
            }
            "PUT" => self.put_policy(&id, &request.body),
            "DELETE" => self.delete_policy(&id),
            other => only(other, "GET, HEAD, PUT, DELETE").map(|()| empty(204)),
        }
    }

    fn put_policy(&mut self, id: &PolicyId, body: &[u8]) -> Answer {
        self.keeps_policies()?;
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| refuse(400, format!("this is no policy: {error}")))?;
        let (said, policy) = read(&body).map_err(faulty)?;
        if said != *id {
            return Err(bad(format!("`id` is `{said}`, but this is {id}")));
        }
        let former = self.policy.planner.policies().get(id).cloned();
        if former.as_ref() != Some(&policy) {
            self.has_room(id, &policy)?;
            self.keep_policy(id, Some(&policy))?;
            info!(policy = %id, audit = policy.audit, "a policy was set");
            self.settle();
        }
        let mut shown = document!(show(id, &policy));
        shown["notes"] = self.notes_of(&policy).into();
        Ok(json(if former.is_some() { 200 } else { 201 }, &shown))
    }

    fn delete_policy(&mut self, id: &PolicyId) -> Answer {
        self.keeps_policies()?;
        if !self.policy.planner.policies().contains_key(id) {
            return Err(missing(id));
        }
        self.keep_policy(id, None)?;
        info!(policy = %id, "a policy was removed");
        self.settle();
        Ok(empty(204))
    }

    fn keeps_policies(&self) -> Result<(), Refusal> {
        match self.master {
            Some(_) => Ok(()),
            None => {
                Err(refuse(404, "this node does not have the role `master`, which keeps policies"))
            }
        }
    }

    fn has_room(&self, id: &PolicyId, policy: &Policy) -> Result<(), Refusal> {
        let mut policies = self.policy.planner.policies().clone();
        policies.insert(id.clone(), policy.clone());
        let rules = rules_of(&policies).len();
        let bytes = serde_json::to_vec(policy).map_or(0, |bytes| bytes.len());
        if bytes > MAX_BYTES {
            return Err(bad(format!(
                "a policy may have {MAX_BYTES} bytes, and this one has {bytes}"
            )));
        }
        if policies.len() > MAX_POLICIES {
            return Err(refuse(409, format!("there are {MAX_POLICIES} policies already")));
        }
        if rules > MAX_RULES {
            let text =
                format!("all policies would have {rules} rules, and at most {MAX_RULES} can be");
            return Err(refuse(409, text));
        }
        Ok(())
    }

    /// What keeps a policy from being what somebody may expect of it, in sentences.
    fn notes_of(&self, policy: &Policy) -> Vec<String> {
        let unenforced = self.policy.unenforced.as_ref();
        let unenforced =
            unenforced.map(|why| format!("NOT in force on {}: {why}", self.config.hostname));
        let idle = self.policy.planner.is_idle(&policy.applies_to);
        let idle = idle.then(|| "it applies to no task that runs now".to_owned());
        unenforced.into_iter().chain(idle).collect()
    }
}

/// All faults, each with its place, for whoever reads them by program and for people.
fn faulty(faults: Faults) -> Refusal {
    bad(faults)
}

fn missing(id: &PolicyId) -> Refusal {
    refuse(404, format!("there is no policy {id}"))
}
