//! Requests to the listeners, with the services and the master that they end at.

use crate::cluster::zones;
use mizzen_api::v1::{master, scheduler};
use mizzen_dns_core::{Mode, RecordType, Zones, explain};
use mizzen_http::core::{
    Addressee, CoreHandle, CoreRequest, OperatorReply, Query, QueryReply, SchedulerReply,
    ServicesReply, ServicesRequest, channel,
};
use mizzen_http::fuzzing::{Sent, answer};
use mizzen_http::server::Part;
use mizzen_master::registry::Registry;
use mizzen_master::{LinkId, Master};
use mizzen_services::{Body, Request, Services};
use mizzen_types::time::{Mono, Now, Wall};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// So often the services and the master start anew, so that what they keep stays small
/// and what is found can be found again.
const LIFE: u32 = 1;
const SECOND: u64 = 1_000_000_000;

struct Bench {
    runtime: Runtime,
    core: CoreHandle,
}

thread_local! {
    static BENCH: Bench = bench();
}

#[expect(clippy::expect_used, reason = "without it there is nothing to do")]
fn bench() -> Bench {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (core, requests) = channel(16);
    runtime.spawn(serve(requests));
    Bench { runtime, core }
}

/// Method, target and body of a request to Mesos-DNS' listener or the node's; the first
/// byte chooses.
///
/// # Panics
///
/// If the request brings a handler down.
pub fn query(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (target, body) = text.split_once('\n').unwrap_or((text, ""));
    let part = [Part::MesosDns, Part::Node, Part::Minuteman, Part::Agent, Part::Master];
    let part = part[usize::from(choice >> 4) % part.len()];
    let method = ["GET", "PUT", "POST", "DELETE", "HEAD"][usize::from(choice & 15) % 5];
    send(part, Sent { method, target, headers: &[("accept", "*/*")], body: body.as_bytes() });
}

/// A definition of an app, as Marathon's clients post and put it.
///
/// # Panics
///
/// If it brings the services down.
pub fn app_json(data: &[u8]) {
    let headers = [("content-type", "application/json")];
    for (method, target) in [("POST", "/v2/apps"), ("PUT", "/v2/apps/a?force=true")] {
        send(Part::Services, Sent { method, target, headers: &headers, body: data });
    }
}

/// A call of the operator's or the scheduler's API; the first byte chooses which, and the
/// encoding.
///
/// # Panics
///
/// If it brings the master down.
pub fn v1_calls(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let target = if choice & 1 == 0 { "/api/v1" } else { "/api/v1/scheduler" };
    let kind = if choice & 2 == 0 { "application/json" } else { "application/x-protobuf" };
    let stream = if choice & 4 == 0 { "s-1" } else { "other" };
    let headers = [("content-type", kind), ("accept", kind), ("mesos-stream-id", stream)];
    let subscribe = choice & 1 != 0 && body.windows(9).any(|word| word == b"subscribe");
    let headers = if subscribe { &headers[..2] } else { &headers[..] };
    send(Part::Master, Sent { method: "POST", target, headers, body });
}

fn send(part: Part, sent: Sent<'_>) {
    BENCH.with(|bench| {
        let status = bench.runtime.block_on(answer(part, sent, bench.core.clone()));
        // The core is gone once something in it has panicked.
        assert!(bench.core.is_running(), "{part}: {sent:?}");
        assert_ne!(status, Some(500), "{part}: {sent:?}");
    });
}

async fn serve(mut requests: mpsc::Receiver<CoreRequest>) {
    let zones = zones(Mode::Strict);
    let mut life = 0_u32;
    let mut core = Core::new();
    while let Some(request) = requests.recv().await {
        life += 1;
        if life.is_multiple_of(LIFE) {
            core = Core::new();
        }
        core.take(request, &zones);
    }
}

/// What decides.
struct Core {
    services: Services,
    master: Master,
}

const NOW: Now = Now { mono: Mono(1000 * SECOND), wall: Wall(1_700_000_000 * SECOND) };

impl Core {
    #[expect(clippy::expect_used, reason = "nothing was saved that could be wrong")]
    fn new() -> Self {
        let settings = mizzen_services::Settings::default();
        let services = Services::new(settings, Vec::new(), 7, NOW).expect("services");
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let settings = mizzen_master::Settings::new("cluster".to_owned(), "node", address, 5050);
        let mut master = Master::new(settings, Registry::default(), NOW);
        master.agent_connected(LinkId(0), "node".into(), address, NOW);
        // A framework whose stream `s-1` is.
        let _ = master.scheduler_call(services.subscribe_call(), None, "s-1".to_owned(), NOW);
        Self { services, master }
    }

    /// Answers; whoever asked may have gone.
    fn take(&mut self, request: CoreRequest, zones: &Zones) {
        match request {
            CoreRequest::Scheduler { call, stream_id, reply } => {
                let _ = reply.send(self.scheduler(*call, stream_id.as_deref()));
            }
            CoreRequest::Operator { call, reply } => {
                let _ = reply.send(self.operator(*call));
            }
            CoreRequest::DeleteOverlayAgents { addresses, reply } => {
                let _ = self.master.release_agents(&addresses);
                let _ = reply.send(OperatorReply::Done);
            }
            CoreRequest::Pass { to: Addressee::Services, request, reply } => {
                let _ = reply.send(self.services(&request));
            }
            CoreRequest::Pass { reply, .. } => {
                let body = ServicesReply { status: 200, headers: Vec::new(), body: Vec::new() };
                let _ = reply.send(body);
            }
            CoreRequest::Query { query, reply } => {
                let _ = reply.send(look_up(&query, zones));
            }
            CoreRequest::Metrics { .. } | CoreRequest::StreamClosed { .. } => {}
        }
        while self.master.poll_effect().is_some() {}
        while self.services.poll_effect().is_some() {}
        self.services.handle_timeout(NOW);
        self.master.handle_timeout(NOW);
    }

    fn scheduler(&mut self, call: scheduler::Call, stream: Option<&str>) -> SchedulerReply {
        match self.master.scheduler_call(call, stream, "s-2".to_owned(), NOW) {
            mizzen_master::SchedulerReply::Refused { status, text } => {
                SchedulerReply::Refused { status, text }
            }
            _ => SchedulerReply::Accepted,
        }
    }

    fn operator(&mut self, call: master::Call) -> OperatorReply {
        match self.master.operator_call(call, NOW) {
            mizzen_master::OperatorReply::Refused { status, text } => {
                OperatorReply::Refused { status, text }
            }
            mizzen_master::OperatorReply::Answer(answer) => OperatorReply::Answer(answer),
            _ => OperatorReply::Done,
        }
    }

    fn services(&mut self, request: &ServicesRequest) -> ServicesReply {
        let ServicesRequest { method, path, query, accept, body } = request;
        let reply =
            self.services.handle_request(&Request { method, path, query, accept, body }, NOW);
        let body = match reply.body {
            Body::Json(value) => value.to_string().into_bytes(),
            Body::Text(text) => text.into_bytes(),
            Body::Empty => Vec::new(),
        };
        ServicesReply { status: reply.status, headers: Vec::new(), body }
    }
}

fn look_up(query: &Query, zones: &Zones) -> QueryReply {
    let (name, kind) = match query {
        Query::MesosDnsHosts(name) | Query::Hosts(name) => (name, Some(RecordType::A)),
        Query::MesosDnsServices(name) | Query::Services(name) => (name, Some(RecordType::SRV)),
        Query::Dns { name, record_type } => {
            (name, record_type.as_ref().and_then(|kind| kind.parse().ok()))
        }
        _ => return QueryReply::Json(json!({})),
    };
    match explain(zones, name, kind, Wall(1)) {
        Ok(explanation) => QueryReply::Json(json!({ "found": explanation.records.len() })),
        Err(error) => QueryReply::Bad(error.to_string()),
    }
}
