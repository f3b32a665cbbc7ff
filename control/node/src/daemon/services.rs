//! The service scheduler: a framework like any other, only that its stream and its
//! calls stay in this process.

use super::clock;
use super::cluster::Sorted;
use super::core::Core;
use mizzen_api::v1::scheduler::Call;
use mizzen_http::core::{ServicesReply, ServicesRequest};
use mizzen_services::{Body, Effect, Reply, Services};
use mizzen_types::time::Now;
use tracing::{error, info};

/// The part's name in problems.
const RECORDS: &str = "services' records";
/// Those that cannot be written, in problems.
const LOST: &str = "services' records that are lost";

impl Core {
    /// Carries out what the service scheduler wants; says whether it wanted anything.
    pub(crate) fn settle_services(&mut self, now: Now) -> bool {
        let mut worked = false;
        loop {
            let Self { services, services_gate, store, .. } = self;
            let poll = || services.as_mut().and_then(Services::poll_effect).map(sorted);
            let passed = services_gate.next(poll, store, now.mono);
            let Some(effect) = self.note_records(RECORDS, passed) else { return worked };
            worked = true;
            match effect {
                Effect::Call(call) => self.call_for_services(*call, now),
                Effect::Lost(text) => self.problems.report(LOST, text),
                // Records go to the gate before anything comes here.
                Effect::Save { key, value } => self.services_gate.save(&key, value),
            }
        }
    }

    /// Subscribes the service scheduler at the master of this process.
    pub(crate) fn subscribe_services(&mut self, now: Now) {
        let Some(call) = self.services.as_ref().map(Services::subscribe_call) else { return };
        self.call_for_services(call, now);
    }

    /// The master ended the scheduler's stream.
    pub(crate) fn services_disconnected(&mut self, now: Now) {
        if let Some(services) = self.services.as_mut() {
            info!("the service scheduler was disconnected and subscribes again");
            services.disconnected(now);
            // A call of the old stream must not go out on the new one.
            self.services_gate.withdraw();
            self.subscribe_services(now);
        }
    }

    /// A request to the Marathon API. While the disk refuses, nothing is changed: an
    /// answer must not promise what a restart would forget.
    pub(crate) fn services_request(&mut self, request: &ServicesRequest) -> ServicesReply {
        let now = clock::now();
        let reads = matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS");
        if let Some(problem) = self.problems.of(RECORDS).filter(|_| !reads) {
            let text = format!("the change cannot be written down: {problem}");
            return message(503, &text);
        }
        let Some(services) = self.services.as_mut() else {
            return message(404, "this node does not have the role `services`");
        };
        let request = mizzen_services::Request {
            method: &request.method,
            path: &request.path,
            query: &request.query,
            accept: &request.accept,
            body: &request.body,
        };
        let reply = services.handle_request(&request, now);
        self.settle();
        match self.problems.of(RECORDS).filter(|_| !reads) {
            Some(problem) => {
                let text = format!("the change waits for the disk: {problem}");
                message(503, &text)
            }
            None => http(reply),
        }
    }

    fn call_for_services(&mut self, call: Call, now: Now) {
        let Some(master) = self.master.as_mut() else { return };
        let fresh = uuid::Uuid::new_v4().to_string();
        let stream = self.streams.services().map(str::to_owned);
        match master.scheduler_call(call, stream.as_deref(), fresh, now) {
            mizzen_master::SchedulerReply::Accepted => {}
            mizzen_master::SchedulerReply::Subscribed { stream_id } => {
                self.streams.open_services(stream_id);
            }
            mizzen_master::SchedulerReply::Refused { status, text } => {
                error!(status, text, "the master refused a call of the service scheduler");
            }
        }
    }
}

fn sorted(effect: Effect) -> Sorted<Effect> {
    match effect {
        Effect::Save { key, value } => Sorted::Record(key, value),
        effect => Sorted::Held(effect),
    }
}

fn http(reply: Reply) -> ServicesReply {
    let (kind, body) = match reply.body {
        Body::Empty => (None, Vec::new()),
        Body::Json(value) => (Some("application/json"), value.to_string().into_bytes()),
        Body::Text(text) => (Some("text/plain; charset=utf-8"), text.into_bytes()),
    };
    let own = reply.headers.into_iter().map(|(name, value)| (name.to_owned(), value));
    let headers =
        kind.map(|kind| ("Content-Type".to_owned(), kind.to_owned())).into_iter().chain(own);
    ServicesReply { status: reply.status, headers: headers.collect(), body }
}

fn message(status: u16, text: &str) -> ServicesReply {
    let body = serde_json::json!({ "message": text }).to_string().into_bytes();
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    ServicesReply { status, headers, body }
}
