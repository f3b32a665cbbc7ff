//! A core that only answers, real sockets in front of it, and raw clients.

use crate::core::{
    self, Addressee, CoreRequest, Leading, MetricsEncoding, OperatorReply, Query, QueryReply,
};
use crate::core::{SchedulerReply, ServicesReply, ServicesRequest};
use crate::limits::Limits;
use crate::server::{Address, Listeners, Part, Settings};
use bytes::Bytes;
use mizzen_api::v1::master;
use mizzen_api::v1::scheduler::{Call, Event, event};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

mod conformance;
mod leader;
mod node;
mod robustness;
mod stream;

/// What the core was asked.
#[derive(Debug)]
enum Seen {
    Call(Box<Call>, Option<String>),
    /// With the sending end of the stream.
    Subscribed(Box<Call>, mpsc::Sender<Event>),
    Closed(String),
    Operator,
    Passed(Addressee, ServicesRequest),
    Query(Query),
}

/// All listeners of a node on free ports, in front of a fake core.
struct Bench {
    ports: BTreeMap<Part, SocketAddr>,
    socket: PathBuf,
    seen: mpsc::UnboundedReceiver<Seen>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    core: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        Self::led(limits, Leading::Here).await
    }

    async fn led(limits: Limits, leading: Leading) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("mizzen.sock");
        let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let tcp = [
            Part::Master,
            Part::Agent,
            Part::Services,
            Part::MesosDns,
            Part::Minuteman,
            Part::Node,
        ];
        let mut listeners: Vec<_> = tcp.map(|part| (part, any.clone())).into();
        listeners.push((Part::Node, Address::Unix(socket.clone())));
        let listeners = Listeners::bind(Settings { listeners, limits }).await.unwrap();
        let mut ports = BTreeMap::new();
        for (part, address) in listeners.addresses() {
            if let Address::Tcp(address) = address {
                ports.insert(part, address);
            }
        }
        let (handle, requests) = core::channel(16);
        let handle = handle.following(watch::channel(leading).1);
        let (seen_by, seen) = mpsc::unbounded_channel();
        let core = tokio::spawn(fake_core(requests, seen_by));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(listeners.serve(handle, async move {
            let _ = stopped.await;
        }));
        let stop = Some(stop);
        Self { ports, socket, seen, stop, served, core, _directory: directory }
    }

    async fn connect(&self, part: Part) -> TcpStream {
        TcpStream::connect(self.ports[&part]).await.unwrap()
    }

    /// Sends bytes and reads the answer to the end of the connection.
    async fn raw(&self, part: Part, request: &[u8]) -> String {
        let mut stream = self.connect(part).await;
        // A server that has refused already may have closed.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What the core is asked next.
    async fn next(&mut self) -> Seen {
        tokio::time::timeout(Duration::from_secs(20), self.seen.recv())
            .await
            .expect("the core is asked")
            .expect("the core lives")
    }

    async fn subscribe(&mut self) -> (TcpStream, mpsc::Sender<Event>) {
        let mut client = self.connect(Part::Master).await;
        let body = r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}"#;
        client
            .write_all(post(body, "Content-Type: application/json\r\n").as_bytes())
            .await
            .unwrap();
        let Seen::Subscribed(_, events) = self.next().await else { panic!("no SUBSCRIBE") };
        (client, events)
    }
}

/// A POST to the scheduler API.
fn post(body: &str, headers: &str) -> String {
    let length = body.len();
    format!(
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: master:5050\r\nConnection: close\r\n\r\n").into_bytes()
}

fn heartbeat() -> Event {
    Event { r#type: Some(event::Type::Heartbeat as i32), ..Default::default() }
}

async fn fake_core(mut requests: mpsc::Receiver<CoreRequest>, seen: mpsc::UnboundedSender<Seen>) {
    while let Some(request) = requests.recv().await {
        let saw = match request {
            CoreRequest::Scheduler { call, stream_id, reply } => {
                if call.subscribe.is_some() {
                    let (sender, events) = mpsc::channel(4);
                    let stream_id = "stream-1".to_owned();
                    let _ = reply.send(SchedulerReply::Subscribed { stream_id, events });
                    Seen::Subscribed(call, sender)
                } else {
                    let _ = reply.send(scheduler(&call, stream_id.as_deref()));
                    Seen::Call(call, stream_id)
                }
            }
            CoreRequest::Operator { call, reply } => {
                let _ = reply.send(operator(&call));
                Seen::Operator
            }
            CoreRequest::DeleteOverlayAgents { addresses, reply } => {
                let _ = reply.send(match addresses.is_empty() {
                    true => OperatorReply::Done,
                    false => OperatorReply::Refused { status: 409, text: "it is here".into() },
                });
                Seen::Operator
            }
            CoreRequest::StreamClosed { stream_id } => Seen::Closed(stream_id),
            CoreRequest::Pass { to, request, reply } => {
                let _ = reply.send(services(&request));
                Seen::Passed(to, request)
            }
            CoreRequest::Metrics { encoding, reply } => {
                let _ = reply.send(metrics(encoding));
                continue;
            }
            CoreRequest::Query { query, reply } => {
                let _ = reply.send(answer(&query));
                Seen::Query(query)
            }
        };
        if seen.send(saw).is_err() {
            return;
        }
    }
}

/// The part of the gate that needs the master's memory.
fn scheduler(call: &Call, stream_id: Option<&str>) -> SchedulerReply {
    let refused = |status, text: &str| SchedulerReply::Refused { status, text: text.into() };
    let framework = call.framework_id.as_ref().map(|id| id.value.as_str());
    match (framework, stream_id) {
        (Some("known"), Some("stream-1")) => SchedulerReply::Accepted,
        (Some("known"), _) => refused(400, "The stream ID is not this framework's"),
        (Some("away"), _) => refused(403, "Framework is not subscribed"),
        _ => refused(400, "Framework cannot be found"),
    }
}

/// Answers questions with what is empty, and refuses nobody but the agent `nobody`.
fn operator(call: &master::Call) -> OperatorReply {
    let agent = call.drain_agent.as_ref().map(|part| part.agent_id.value.as_str());
    if agent == Some("nobody") {
        return OperatorReply::Refused { status: 400, text: "Unknown agent nobody".into() };
    }
    let mut answer = master::Response::default();
    match call.r#type() {
        master::call::Type::GetAgents => answer.get_agents = Some(Default::default()),
        master::call::Type::GetMaintenanceStatus => {
            answer.get_maintenance_status = Some(Default::default());
        }
        master::call::Type::GetMaintenanceSchedule => {
            answer.get_maintenance_schedule = Some(Default::default());
        }
        _ => return OperatorReply::Done,
    }
    OperatorReply::Answer(Box::new(answer))
}

fn services(request: &ServicesRequest) -> ServicesReply {
    let body = format!("{} {} {}", request.method, request.path, request.body.len());
    ServicesReply {
        status: if request.method == "POST" { 201 } else { 200 },
        headers: vec![
            ("Content-Type".into(), "application/json".into()),
            ("X-Query".into(), request.query.clone()),
        ],
        body: body.into_bytes(),
    }
}

fn metrics(encoding: MetricsEncoding) -> mpsc::Receiver<Bytes> {
    let (sender, pieces) = mpsc::channel(4);
    for piece in ["up", " 1\n"] {
        let _ = sender.try_send(format!("{encoding:?} {piece}").into());
    }
    pieces
}

fn answer(query: &Query) -> QueryReply {
    match query {
        Query::FilesRead { path, .. } if path == "/missing" => {
            QueryReply::NotFound("There is no /missing".into())
        }
        Query::FilesBrowse { path } if path == "/file" => {
            QueryReply::Bad("/file is no directory".into())
        }
        query => QueryReply::Json(json!({ "asked": format!("{query:?}") })),
    }
}
