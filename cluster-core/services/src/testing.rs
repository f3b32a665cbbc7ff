//! What the tests of this crate share: apps, copies, and a world around the scheduler.

use crate::api::{Body, Request};
use crate::app::{App, document, normal};
use crate::app_id::AppId;
use crate::instance::{Condition, Goal, Instance, ProbeResult};
use crate::offer::tests::offer;
use crate::scheduler::{Effect, Services};
use crate::settings::Settings;
use crate::version::Version;
use mizzen_api::v1;
use mizzen_api::v1::TaskState;
use mizzen_api::v1::scheduler::{Call, Event, call, event};
use mizzen_types::time::{Mono, Now, Wall};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The app `/web` with some members of its own.
#[allow(clippy::needless_pass_by_value, reason = "callers write literals")]
pub fn app(members: Value) -> App {
    let settings = Settings::default();
    let document = document::read(web(members)).unwrap();
    let mut app = normal::app(document, &settings).unwrap();
    normal::assign_service_ports(&mut app, None, &BTreeSet::new(), &settings);
    app
}

/// The document of the app `/web` with some members of its own.
pub fn web(members: Value) -> Value {
    let mut value = json!({"id": "/web", "cmd": "true"});
    let Value::Object(members) = members else { panic!("{members} is no object") };
    value.as_object_mut().unwrap().extend(members);
    value
}

/// A copy of `/web` that was just accepted.
pub fn instance(task_id: &str) -> Instance {
    Instance {
        task_id: task_id.to_owned(),
        app: AppId::parse("/web").unwrap(),
        version: Version::default(),
        config: Version::default(),
        probed: false,
        agent: "S0".to_owned(),
        host: "node".to_owned(),
        region: None,
        zone: None,
        attributes: Vec::new(),
        host_ports: Vec::new(),
        staged: Version::default(),
        started: None,
        condition: Condition::Staging,
        goal: Goal::Run,
        healthy: None,
        addresses: Vec::new(),
        drained: false,
        probe: ProbeResult::default(),
        since: Mono(0),
        killed: None,
    }
}

/// A scheduler with a disk that keeps what is saved and a master that counts what
/// it is told. Time stands still unless told to go on.
pub struct World {
    pub services: Services,
    pub disk: BTreeMap<String, Vec<u8>>,
    /// Calls since they were last taken.
    pub calls: Vec<Call>,
    /// Every task that was ever launched, in order.
    pub launched: Vec<v1::TaskInfo>,
    pub now: Now,
    starts: u64,
}

impl World {
    /// A scheduler that is subscribed and has nothing to do.
    pub fn new() -> Self {
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(1_700_000_000_000_000_000) };
        let services = Services::new(Settings::default(), Vec::new(), 1, now).unwrap();
        let mut world = Self {
            services,
            disk: BTreeMap::new(),
            calls: Vec::new(),
            launched: Vec::new(),
            now,
            starts: 1,
        };
        world.subscribe();
        world.calls.clear();
        world
    }

    /// Carries out effects. A task must be on the disk before it is launched, and is
    /// never launched twice.
    pub fn drain(&mut self) {
        while let Some(effect) = self.services.poll_effect() {
            match effect {
                Effect::Save { key, value: Some(value) } => {
                    self.disk.insert(key, value);
                }
                Effect::Save { key, value: None } => {
                    self.disk.remove(&key);
                }
                Effect::Lost(text) => panic!("{text}"),
                Effect::Call(call) => {
                    let operations = call.accept.iter().flat_map(|accept| &accept.operations);
                    for task in operations.flat_map(|o| o.launch.iter()).flat_map(|l| &l.task_infos)
                    {
                        let id = &task.task_id.value;
                        assert!(
                            self.disk.contains_key(&format!("instance:{id}")),
                            "{id} is not saved"
                        );
                        let again = self.launched.iter().any(|known| known.task_id == task.task_id);
                        assert!(!again, "{id} is launched twice");
                        self.launched.push(task.clone());
                    }
                    self.calls.push(*call);
                }
            }
        }
    }

    pub fn event(&mut self, event: Event) {
        self.services.handle_event(event, self.now);
        self.drain();
    }

    pub fn subscribe(&mut self) {
        self.event(Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(event::Subscribed {
                framework_id: v1::FrameworkId { value: "F-0000".to_owned() },
                ..event::Subscribed::default()
            }),
            ..Event::default()
        });
    }

    /// Offers of agents `S0` to `S<n-1>`, each with 2 cpus and 512 MB.
    pub fn offer(&mut self, n: usize) {
        let offers = (0..n).map(offer).collect();
        self.event(Event {
            r#type: Some(event::Type::Offers.into()),
            offers: Some(event::Offers { offers }),
            ..Event::default()
        });
    }

    /// An offer of the first agent, changed.
    pub fn offer_with(&mut self, change: impl FnOnce(&mut v1::Offer)) {
        let mut offer = offer(0);
        change(&mut offer);
        self.event(Event {
            r#type: Some(event::Type::Offers.into()),
            offers: Some(event::Offers { offers: vec![offer] }),
            ..Event::default()
        });
    }

    pub fn update(&mut self, task: &str, state: TaskState, healthy: Option<bool>) {
        self.status(v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state.into(),
            healthy,
            agent_id: Some(v1::AgentId { value: "S0".to_owned() }),
            uuid: Some(vec![7; 16]),
            message: Some("as told".to_owned()),
            ..v1::TaskStatus::default()
        });
    }

    pub fn status(&mut self, status: v1::TaskStatus) {
        self.event(Event {
            r#type: Some(event::Type::Update.into()),
            update: Some(event::Update { status }),
            ..Event::default()
        });
    }

    /// All tasks run that are launched from `first` on.
    pub fn run_from(&mut self, first: usize) {
        for task in self.ids().split_off(first) {
            self.update(&task, TaskState::TaskRunning, None);
        }
    }

    /// Ids of all tasks ever launched.
    pub fn ids(&self) -> Vec<String> {
        self.launched.iter().map(|task| task.task_id.value.clone()).collect()
    }

    pub fn advance(&mut self, span: Duration) {
        self.now.mono = self.now.mono + span;
        self.now.wall.0 += u64::try_from(span.as_nanos()).unwrap();
        self.services.handle_timeout(self.now);
        self.drain();
    }

    /// A request with a JSON body; status and answer.
    pub fn request(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request { method, path, query, accept: "", body: &body };
        let reply = self.services.handle_request(&request, self.now);
        self.drain();
        match reply.body {
            Body::Json(value) => (reply.status, value),
            Body::Text(text) => (reply.status, json!(text)),
            Body::Empty => (reply.status, Value::Null),
        }
    }

    pub fn get(&mut self, path: &str) -> Value {
        let (status, body) = self.request("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub fn post(&mut self, members: Value) {
        let (status, body) = self.request("POST", "/v2/apps", &web(members));
        assert_eq!(status, 201, "{body}");
    }

    /// The process dies and starts again with what is on the disk; not subscribed yet.
    pub fn restart(&mut self) {
        let saved = self.disk.clone().into_iter().collect();
        self.starts += 1;
        self.services = Services::new(Settings::default(), saved, self.starts, self.now).unwrap();
        self.drain();
        self.calls.clear();
    }

    /// Kinds of the calls since they were last taken.
    pub fn take_calls(&mut self) -> Vec<call::Type> {
        std::mem::take(&mut self.calls).iter().map(Call::r#type).collect()
    }

    /// Ids in the KILL calls since they were last taken.
    pub fn take_kills(&mut self) -> Vec<String> {
        let calls = std::mem::take(&mut self.calls);
        calls.into_iter().filter_map(|call| Some(call.kill?.task_id.value)).collect()
    }
}
