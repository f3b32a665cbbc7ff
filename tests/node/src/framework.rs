//! A framework as a foreign HTTP client writes one.

use crate::http::{Request, Response, Stream, send};
use crate::{SOON, lab};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PATH: &str = "/api/v1/scheduler";

/// A subscribed framework.
pub struct Framework {
    /// Its id.
    pub id: String,
    /// The id of its stream.
    pub stream_id: String,
    stream: Stream,
    /// Events that were read while another one was awaited.
    backlog: VecDeque<Value>,
}

impl Framework {
    /// Subscribes a new framework whose tasks outlive a disconnection.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[must_use]
    pub fn subscribe(name: &str) -> Self {
        Self::subscribe_as(&json!({
            "user": "root", "name": name, "roles": ["*"], "failover_timeout": 3600,
            "checkpoint": true, "capabilities": [{ "type": "MULTI_ROLE" }],
        }))
    }

    /// Subscribes with this `FrameworkInfo`, which names the framework's id if it
    /// had one before.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[must_use]
    pub fn subscribe_as(info: &Value) -> Self {
        let mut call = json!({ "type": "SUBSCRIBE", "subscribe": { "framework_info": info } });
        if let Some(id) = info.get("id") {
            call["framework_id"] = id.clone();
        }
        let headers = &[("Content-Type", "application/json"), ("Accept", "application/json")];
        let body = call.to_string();
        let request = Request { method: "POST", path: PATH, headers, body: body.as_bytes() };
        let stream = Stream::open(master(), &request).expect("the master answers");
        let status = stream.status;
        if status != 200 {
            panic!("SUBSCRIBE was answered with {status}: {}", stream.text());
        }
        let stream_id = stream.headers.get("mesos-stream-id").cloned().expect("a stream id");
        let (id, backlog) = (String::new(), VecDeque::new());
        let mut framework = Self { id, stream_id, stream, backlog };
        let subscribed = framework.next("SUBSCRIBED");
        let id = subscribed["subscribed"]["framework_id"]["value"].as_str().expect("an id");
        framework.id = id.to_owned();
        framework
    }

    /// Sends a call: its type, and the member of that type.
    ///
    /// # Panics
    ///
    /// If nobody answers.
    #[must_use]
    pub fn call(&self, kind: &str, part: &Value) -> Response {
        self.call_on(Some(&self.stream_id), kind, part)
    }

    /// Sends a call that must be taken.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn must_call(&self, kind: &str, part: &Value) {
        let answer = self.call(kind, part);
        assert_eq!(answer.status, 202, "{kind}: {}", answer.text());
    }

    /// Sends a call with another stream's id, or none.
    ///
    /// # Panics
    ///
    /// If nobody answers.
    #[must_use]
    pub fn call_on(&self, stream_id: Option<&str>, kind: &str, part: &Value) -> Response {
        let mut call = json!({ "framework_id": { "value": self.id }, "type": kind });
        call[kind.to_ascii_lowercase()] = part.clone();
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(stream_id.map(|id| ("Mesos-Stream-Id", id)));
        raw_call(&headers, call.to_string().as_bytes())
    }

    /// The next event of a type. Others before it are kept.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn next(&mut self, kind: &str) -> Value {
        self.next_where(kind, kind, |_| true)
    }

    /// The next event of a type that `is` the right one.
    ///
    /// # Panics
    ///
    /// If none comes; `what` says in the message what was awaited.
    pub fn next_where(&mut self, kind: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let wanted = |event: &Value| event["type"] == kind && is(event);
        self.find(SOON, wanted).unwrap_or_else(|| {
            panic!("no {what} within {SOON:?}; other events: {:#?}", self.backlog)
        })
    }

    /// An event of a type if there is one, or comes within `limit`.
    pub fn next_within(&mut self, kind: &str, limit: Duration) -> Option<Value> {
        self.find(limit, |event| event["type"] == kind)
    }

    /// Reads until the master ends the stream.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn await_end(&mut self) {
        let deadline = Instant::now() + SOON;
        loop {
            match self.stream.record(Duration::from_millis(100)) {
                Ok(Some(record)) => self.backlog.extend(serde_json::from_slice::<Value>(&record)),
                Ok(None) => return,
                Err(error) if is_timeout(&error) => {}
                Err(_) => return,
            }
            assert!(Instant::now() < deadline, "the stream does not end");
        }
    }

    /// The first offer with at least so many CPUs. Others are left outstanding.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn offer(&mut self) -> Value {
        let event = self.next("OFFERS");
        let offers = event["offers"]["offers"].as_array().cloned().unwrap_or_default();
        offers.into_iter().next().expect("an OFFERS event has an offer")
    }

    /// Takes an offer and launches tasks on it; the rest of it is declined for long.
    pub fn launch(&self, offer: &Value, tasks: &[Value]) {
        let tasks: Vec<Value> = tasks
            .iter()
            .map(|task| {
                let mut task = task.clone();
                task["agent_id"] = offer["agent_id"].clone();
                task
            })
            .collect();
        let launch = json!({ "type": "LAUNCH", "launch": { "task_infos": tasks } });
        let accept = json!({
            "offer_ids": [offer["id"]], "operations": [launch],
            "filters": { "refuse_seconds": 3600.0 },
        });
        self.must_call("ACCEPT", &accept);
    }

    /// The next status of a task.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn status(&mut self, task: &str) -> Value {
        let of_task =
            |event: &Value| event["update"]["status"]["task_id"]["value"].as_str() == Some(task);
        let event = self.next_where("UPDATE", &format!("update of {task}"), of_task);
        event["update"]["status"].clone()
    }

    /// The next status of a task, which must be `state`, acknowledged if it asks for
    /// that.
    ///
    /// # Panics
    ///
    /// If it is another one.
    pub fn expect(&mut self, task: &str, state: &str) -> Value {
        let status = self.status(task);
        assert_eq!(status["state"], state, "{status:#}");
        self.acknowledge(&status);
        status
    }

    /// Reads and acknowledges statuses of a task until it is `state`.
    ///
    /// # Panics
    ///
    /// If that does not come.
    pub fn until(&mut self, task: &str, state: &str) -> Value {
        for _ in 0..10 {
            let status = self.status(task);
            self.acknowledge(&status);
            if status["state"] == state {
                return status;
            }
        }
        panic!("{task} has many states and none is {state}");
    }

    /// Acknowledges a status that asks for it.
    pub fn acknowledge(&self, status: &Value) {
        if status["uuid"].is_null() {
            return;
        }
        let part = json!({
            "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"],
        });
        self.must_call("ACKNOWLEDGE", &part);
    }

    fn find(&mut self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        if let Some(index) = self.backlog.iter().position(&wanted) {
            return self.backlog.remove(index);
        }
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let record = match self.stream.record(left) {
                Ok(record) => record?,
                Err(error) if is_timeout(&error) => return None,
                Err(error) => panic!("the stream of {}: {error}", self.id),
            };
            let event = serde_json::from_slice(&record)
                .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&record)));
            if wanted(&event) {
                return Some(event);
            }
            self.backlog.push_back(event);
            if left.is_zero() {
                return None;
            }
        }
    }
}

/// A command task with little of an offer.
#[must_use]
pub fn task(id: &str, command: &str) -> Value {
    json!({
        "name": id, "task_id": { "value": id },
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
        "command": { "shell": true, "value": command },
    })
}

/// A resource that is an amount.
#[must_use]
pub fn scalar(name: &str, value: f64) -> Value {
    json!({ "name": name, "type": "SCALAR", "scalar": { "value": value } })
}

/// Posts anything to where calls go.
///
/// # Panics
///
/// If nobody answers.
#[must_use]
pub fn raw_call(headers: &[(&str, &str)], body: &[u8]) -> Response {
    let request = Request { method: "POST", path: PATH, headers, body };
    send(master(), &request).expect("the master answers")
}

/// The master's API.
#[must_use]
pub fn master() -> SocketAddr {
    lab::at(5050)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
