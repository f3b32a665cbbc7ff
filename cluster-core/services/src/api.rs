//! Marathon's HTTP interface, without HTTP: a [`Request`] in, a [`Reply`] out.
//!
//! Clients fail on fields that they do not know, so what is new here has endpoints
//! of its own: `GET /v2/queue/why` says in words what apps wait for.

mod app_info;
mod apps;
mod deployments;
mod groups;
mod info;
mod preview;
mod queue;
mod read;
mod select;
mod tasks;
#[cfg(test)]
mod tests;

pub use preview::Preview;

use crate::problem::Refusal;
use crate::scheduler::{Services, Started};
use mizzen_types::time::Now;
use read::Query;
use serde::Serialize;
use serde_json::{Value, json};

/// A request, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST` …
    pub method: &'a str,
    /// Path, percent-decoded.
    pub path: &'a str,
    /// What follows the question mark, if any.
    pub query: &'a str,
    /// Which form of answer the client takes, as its header `Accept` says; may be empty.
    pub accept: &'a str,
    /// Body.
    pub body: &'a [u8],
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers besides those that the body implies.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Body,
}

/// Body of a [`Reply`].
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// `application/json`.
    Json(Value),
    /// `text/plain`.
    Text(String),
}

impl Reply {
    fn json(status: u16, body: impl Serialize) -> Self {
        let body = serde_json::to_value(body).unwrap_or_default();
        Self { status, headers: Vec::new(), body: Body::Json(body) }
    }

    fn text(body: impl Into<String>) -> Self {
        Self { status: 200, headers: Vec::new(), body: Body::Text(body.into()) }
    }

    /// The answer to a write: version and id of the deployment that it began.
    fn started(status: u16, started: &Started) -> Self {
        let body = json!({"version": started.version, "deploymentId": started.deployment});
        Self::json(status, body).with_deployment(started)
    }

    fn with_deployment(self, started: &Started) -> Self {
        self.with("Marathon-Deployment-Id", started.deployment.clone())
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::json(refusal.status(), refusal.body())
    }
}

type Answer = Result<Reply, Refusal>;

impl Services {
    /// Answers a request. Effects that it caused must be durable before the reply is
    /// sent.
    pub fn handle_request(&mut self, request: &Request<'_>, now: Now) -> Reply {
        let leader = format!("http://{}", self.leader());
        let reply = self.route(request, now).unwrap_or_else(Reply::from);
        reply.with("X-Marathon-Leader", leader)
    }

    fn route(&mut self, request: &Request<'_>, now: Now) -> Answer {
        let path = read::path(request.path);
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        let query = Query::read(request.query);
        let (method, body) = (request.method, request.body);
        match segments.as_slice() {
            ["ping"] => only(method, &["GET", "HEAD"]).map(|()| Reply::text("pong")),
            ["metrics"] => only(method, &["GET"]).map(|()| self.metrics()),
            ["v2", "apps"] => self.app_collection(method, &query, body, now),
            ["v2", "apps", rest @ ..] => self.app_path(method, rest, &query, body, now),
            ["v2", "tasks"] => {
                only(method, &["GET"])?;
                Ok(if wants_text(request.accept) {
                    self.endpoints()
                } else {
                    self.all_tasks(&query)
                })
            }
            ["v2", "tasks", "delete"] => {
                only(method, &["POST"]).and_then(|()| self.delete_tasks(&query, body, now))
            }
            ["v2", "deployments"] => only(method, &["GET"]).map(|()| self.list_deployments()),
            ["v2", "deployments", id] => {
                only(method, &["DELETE"]).and_then(|()| self.delete_deployment(id, &query, now))
            }
            ["v2", "queue"] => only(method, &["GET"]).map(|()| self.list_queue(now)),
            ["v2", "queue", "why"] => only(method, &["GET"]).map(|()| self.list_why(now)),
            ["v2", "queue", id @ .., "delay"] => {
                only(method, &["DELETE"]).and_then(|()| self.delete_delay(id, now))
            }
            ["v2", "info"] => only(method, &["GET"]).map(|()| self.info()),
            ["v2", "leader"] => only(method, &["GET"]).map(|()| self.leader_reply()),
            ["v2", "plugins"] => {
                only(method, &["GET"]).map(|()| Reply::json(200, json!({"plugins": []})))
            }
            ["v2", "pods" | "pods::status", ..] => self.pods(method, &segments),
            ["v2", "groups", rest @ ..] => self.groups(method, rest, &query, now),
            ["v2", "events"] => Err(Refusal::other(501, "events are not supported yet")),
            _ => Err(Refusal::other(404, format!("there is no '{}'", request.path))),
        }
    }

    fn pods(&self, method: &str, segments: &[&str]) -> Answer {
        match (method, segments.len()) {
            ("GET", 2) => Ok(Reply::json(200, json!([]))),
            ("GET", _) => Err(Refusal::other(404, "there are no pods")),
            _ => Err(Refusal::other(501, "pods are not supported yet; use apps")),
        }
    }
}

/// Whether text is what a client asks for, and not just something that it would take too.
fn wants_text(accept: &str) -> bool {
    let mut kinds = accept.split(',').filter_map(|kind| kind.split(';').next()).map(str::trim);
    kinds.next() == Some("text/plain")
}

/// Refuses other methods.
fn only(method: &str, allowed: &[&str]) -> Result<(), Refusal> {
    if allowed.contains(&method) {
        return Ok(());
    }
    Err(Refusal::other(405, format!("{method} is not allowed here, but {}", allowed.join(", "))))
}
