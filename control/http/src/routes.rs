//! Every port and route of a node.
//!
//! | Part | Port | Who reaches it |
//! |---|---|---|
//! | master | 5050 | the cluster: frameworks, tools |
//! | agent | 5051 | the cluster: tools |
//! | services | 8080 | the cluster: users of `/v2` |
//! | mesos-dns | 8123 | the machine itself |
//! | minuteman | 61421 | the machine itself |
//! | node | 62080 | the machine itself |
//! | (cluster) | 62501 UDP and TCP | other nodes, see `control/gossip` |
//! | node | `<run-dir>/mizzen.sock` | root: the command line |
//!
//! Where this node does not lead, requests for master and services go to the leader, see
//! `leader.rs`; what only this machine may change is in `origin.rs`. A [`Query`] asks the core and changes nothing; the others have handlers. A
//! path that is listed answers another method with 405 and `Allow`.

use crate::closing::Closing;
use crate::core::{CoreHandle, Query};
use crate::error::HttpError;
use crate::limits::Limits;
use crate::origin::{changes_by_socket, changes_from_here};
use crate::query::{Jsonp, ToQuery, asks};
use crate::{
    entity_tag, leader, mesos_dns, node, operator, operator_api, overlay_agent, scheduler,
    services, vips,
};
use axum::body::{Body, HttpBody};
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Below `/` and `/master`.
const MASTER: &[(&str, ToQuery)] = &[
    ("/state", |_| Ok(Query::MasterState)),
    ("/state.json", |_| Ok(Query::MasterState)),
    ("/state-summary", |_| Ok(Query::MasterStateSummary)),
    ("/slaves", |p| Ok(Query::MasterSlaves { slave_id: p.text("slave_id") })),
    ("/frameworks", |p| Ok(Query::MasterFrameworks { framework_id: p.text("framework_id") })),
    ("/tasks", operator::tasks),
    ("/tasks.json", operator::tasks),
    ("/roles", |_| Ok(Query::MasterRoles)),
    ("/metrics/snapshot", |_| Ok(Query::MasterMetrics)),
    ("/flags", |_| Ok(Query::MasterFlags)),
];

/// Below `/` and `/slave(1)`.
const AGENT: &[(&str, ToQuery)] = &[
    ("/state", |_| Ok(Query::AgentState)),
    ("/state.json", |_| Ok(Query::AgentState)),
    ("/containers", |p| Ok(Query::AgentContainers { container_id: p.text("container_id") })),
    ("/metrics/snapshot", |_| Ok(Query::AgentMetrics)),
    ("/flags", |_| Ok(Query::AgentFlags)),
];

/// Below `/` of the agent only.
const FILES: &[(&str, ToQuery)] = &[
    ("/files/browse", operator::files_browse),
    ("/files/browse.json", operator::files_browse),
    ("/files/debug", |_| Ok(Query::FilesDebug)),
    ("/files/debug.json", |_| Ok(Query::FilesDebug)),
    ("/files/download", operator::files_download),
    ("/files/download.json", operator::files_download),
    ("/files/read", operator::files_read),
    ("/files/read.json", operator::files_read),
];

/// As the overlay modules of DC/OS had it, below `/` of master and agent only.
const OVERLAY_MASTER: &[(&str, ToQuery)] =
    &[("/overlay-master/state", |_| Ok(Query::OverlayMaster))];

const OVERLAY_AGENT: &[(&str, ToQuery)] =
    &[("/overlay-agent/overlay", |_| Ok(Query::OverlayAgent))];

const MESOS_DNS: &[(&str, ToQuery)] = &[
    ("/v1/config", |_| Ok(Query::MesosDnsConfig)),
    ("/v1/enumerate", |_| Ok(Query::MesosDnsEnumerate)),
    ("/v1/axfr", |_| Ok(Query::MesosDnsAxfr)),
];

const MINUTEMAN: &[(&str, ToQuery)] =
    &[("/vips", |_| Ok(Query::MinutemanVips)), ("/metrics", |_| Ok(Query::MinutemanMetrics))];

/// Those of the node whose answers have entity tags.
const NODE_TAGGED: &[(&str, ToQuery)] = &[("/v1/vips", |_| Ok(Query::Vips))];

const NODE: &[(&str, ToQuery)] = &[
    // as dcos-net, which has `/v1/metrics` and `/v1/vips` besides
    ("/v1/nodes", |_| Ok(Query::Nodes)),
    ("/v1/records", |_| Ok(Query::Records)),
    // ours
    ("/v1/status", |_| Ok(Query::Status)),
    ("/v1/configuration", |_| Ok(Query::Configuration)),
    ("/v1/tasks", |_| Ok(Query::Tasks)),
    ("/v1/tasks/ended", |_| Ok(Query::EndedTasks)),
    ("/v1/vip-table", |p| Ok(Query::VipTable { filter: p.text("vip") })),
    ("/v1/explain", vips::explain),
    ("/v1/vip-problems", |_| Ok(Query::VipProblems)),
    ("/v1/overlay", |_| Ok(Query::Overlay)),
    ("/v1/ping", node::ping),
    ("/v1/dns", node::dns),
    ("/v1/dns-zones", |_| Ok(Query::DnsZones)),
    ("/v1/policy-drops", node::policy_drops),
    ("/v1/policy-explain", node::policy_explain),
    ("/v1/logs", node::logs),
];

/// Routes of the master that are no questions.
const MASTER_CALLS: &[&str] = &[
    "POST /api/v1",
    "POST /api/v1/scheduler",
    "GET, POST /maintenance/schedule",
    "GET /maintenance/status",
    "POST /machine/down",
    "POST /machine/up",
    "POST /overlay-master/agents/delete",
    "GET /v1/policies",
    "GET /v1/policies/{id}",
    "GET /health",
    "GET /version",
    "GET /redirect",
];

const AGENT_CALLS: &[&str] = &["GET /health", "GET /version"];

const MESOS_DNS_CALLS: &[&str] =
    &["GET /v1/version", "GET /v1/hosts/{host}", "GET /v1/services/{service}"];

const MINUTEMAN_CALLS: &[&str] = &["GET /vip/{ip:port}", "GET /backend/{ip:port}"];

/// What the service scheduler tells apart.
const SERVICES_CALLS: &[&str] = &[
    "GET, POST, PUT, PATCH /v2/apps",
    "GET, PUT, PATCH, DELETE /v2/apps/{app}",
    "POST /v2/apps/{app}/restart",
    "GET, DELETE /v2/apps/{app}/tasks",
    "DELETE /v2/apps/{app}/tasks/{task}",
    "GET /v2/apps/{app}/versions",
    "GET /v2/apps/{app}/versions/{version}",
    "GET /v2/tasks",
    "POST /v2/tasks/delete",
    "GET /v2/deployments",
    "DELETE /v2/deployments/{id}",
    "GET /v2/queue",
    "GET /v2/queue/why",
    "DELETE /v2/queue/{app}/delay",
    "GET /v2/groups",
    "GET /v2/groups/{group}",
    "GET /v2/info",
    "GET /v2/leader",
    "GET /ping",
    "GET /metrics",
];

const NODE_CALLS: &[&str] = &[
    "POST /api/v1",
    "GET /v1/version",
    "GET /v1/metrics",
    "GET /v1/hosts/{host}",
    "GET /v1/services/{service}",
    "GET /v1/cluster/nodes",
    "GET /v1/cluster/tasks",
    "GET, POST /v1/cluster/tokens",
    "DELETE /v1/cluster/tokens/{id}",
    "POST /v1/cluster/expel",
    "POST /v1/cluster/leave",
    "POST /v1/cluster/overlay-agents",
    "POST /v1/cni/addresses",
    "POST /v1/cni/attached",
    "GET /v1/dns-records",
    "GET, DELETE /v1/dns-records/{name}",
    "GET, PUT, DELETE /v1/dns-records/{name}/{type}",
    "GET /v1/vip-services",
    "GET, PUT, DELETE /v1/vip-services/{name:port/protocol}",
    "POST /v1/vip-plan",
    "GET /v1/policies",
    "GET, PUT, DELETE /v1/policies/{id}",
    "GET, POST, PUT, PATCH, DELETE /v2/…",
];

/// The master's routes.
pub(crate) fn master(app: App) -> Router {
    let routes = queries_of_mesos(MASTER)
        .route("/api/v1", post(operator_api::call))
        .route("/api/v1/scheduler", post(scheduler::call))
        .route(
            "/maintenance/schedule",
            get(operator_api::schedule).post(operator_api::set_schedule),
        )
        .route("/maintenance/status", get(operator_api::status))
        .route("/machine/down", post(operator_api::down))
        .route("/machine/up", post(operator_api::up))
        .route("/health", get(operator::health))
        .route("/version", get(operator::version))
        .route("/redirect", get(operator::redirect));
    with_prefixes(&routes, &["/master"])
        .merge(queries_of_mesos(OVERLAY_MASTER))
        .merge(queries_of_mesos(OVERLAY_AGENT).layer(from_fn(overlay_agent::encode)))
        .route("/overlay-master/agents/delete", post(operator_api::delete_overlay_agents))
        .merge(policies())
        .route("/", index("master", &[MASTER, OVERLAY_MASTER, OVERLAY_AGENT], MASTER_CALLS))
        .fallback(no_route)
        .layer(from_fn_with_state(app.clone(), leader::redirect))
        .with_state(app)
}

/// The agent's routes.
pub(crate) fn agent(app: App) -> Router {
    let routes = queries_of_mesos(AGENT)
        .route("/health", get(operator::health))
        .route("/version", get(operator::version));
    with_prefixes(&routes, &["/slave(1)", "/slave%281%29"])
        .merge(queries_of_mesos(FILES))
        .merge(queries_of_mesos(OVERLAY_AGENT).layer(from_fn(overlay_agent::encode)))
        .route("/", index("agent", &[AGENT, FILES, OVERLAY_AGENT], AGENT_CALLS))
        .fallback(no_route)
        .with_state(app)
}

/// The services' routes: all of them, which the service scheduler tells apart.
pub(crate) fn services(app: App) -> Router {
    Router::new()
        .fallback(services::pass)
        .layer(from_fn_with_state(app.clone(), leader::to_services))
        .route("/", index("services", &[], SERVICES_CALLS))
        .with_state(app)
}

/// Mesos-DNS' routes.
pub(crate) fn mesos_dns(app: App) -> Router {
    queries(MESOS_DNS)
        .route("/v1/version", get(mesos_dns::version))
        .route("/v1/hosts/{host}", get(mesos_dns::hosts))
        .route("/v1/hosts/{host}/ports", get(mesos_dns::not_there))
        .route("/v1/services/{service}", get(mesos_dns::services))
        .route("/", index("mesos-dns", &[MESOS_DNS], MESOS_DNS_CALLS))
        .fallback(no_route)
        .with_state(app)
}

/// Minuteman's routes.
pub(crate) fn minuteman(app: App) -> Router {
    queries(MINUTEMAN)
        .route("/vip/{at}", get(vips::vip))
        .route("/backend/{at}", get(vips::backend))
        .route("/", index("minuteman", &[MINUTEMAN], MINUTEMAN_CALLS))
        .fallback(no_route)
        .with_state(app)
}

/// The node's own routes, on its port and on its socket.
pub(crate) fn node(app: App) -> Router {
    let services = Router::new()
        .route("/v2/{*path}", any(services::pass))
        .layer(from_fn_with_state(app.clone(), leader::to_services));
    let master = Router::new()
        .route("/api/v1", post(operator_api::call))
        .layer(from_fn_with_state(app.clone(), leader::to_master));
    queries(NODE)
        .merge(queries(NODE_TAGGED).layer(from_fn(entity_tag::add)))
        .merge(services)
        .merge(master)
        .merge(policies())
        .merge(cluster())
        .merge(kept_by_hand())
        .route("/v1/version", get(node::version))
        .route("/v1/metrics", get(vips::metrics))
        .route("/v1/hosts/{host}", get(mesos_dns::node_hosts))
        .route("/v1/hosts/{host}/ports", get(mesos_dns::not_there))
        .route("/v1/services/{service}", get(mesos_dns::node_services))
        .route("/v1/config", get(mesos_dns::not_there))
        .route("/v1/enumerate", get(mesos_dns::not_there))
        .route("/v1/vip-plan", any(services::pass_vip))
        .route("/", index("node", &[NODE_TAGGED, NODE], NODE_CALLS))
        .fallback(no_route)
        .with_state(app)
}

/// What every handler holds.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// The way to the core.
    pub core: CoreHandle,
    /// What a client may take.
    pub limits: Arc<Limits>,
    /// When streams have to end.
    pub closing: Closing,
}

/// The whole body, if it is no longer than `limit` bytes and comes in time.
pub(crate) async fn read_body(
    body: Body,
    limit: usize,
    wait: Duration,
) -> Result<Bytes, HttpError> {
    // A body that says that it is too long is refused before it is sent.
    if usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX) > limit {
        return Err(HttpError::TooLarge { limit });
    }
    match tokio::time::timeout(wait, Limited::new(body, limit).collect()).await {
        Err(_) => Err(HttpError::SlowBody),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(HttpError::TooLarge { limit }),
        Ok(Err(_)) => Err(HttpError::BrokenBody),
    }
}

/// Network policies, which the leading master keeps.
fn policies() -> Router<App> {
    Router::new()
        .route("/v1/policies", any(services::pass_policies))
        .route("/v1/policies/{*id}", any(services::pass_policies))
        .layer(from_fn(changes_by_socket))
}

/// The cluster of nodes, and what plugins tell this one.
fn cluster() -> Router<App> {
    Router::new()
        .route("/v1/cluster/{*path}", any(services::pass_cluster))
        .route("/v1/cni/addresses", post(services::pass_addresses))
        .route("/v1/cni/attached", post(services::pass_attached))
        .layer(from_fn(changes_by_socket))
}

/// What people set by hand on this node.
fn kept_by_hand() -> Router<App> {
    Router::new()
        .route("/v1/dns-records", any(services::pass_dns))
        .route("/v1/dns-records/{*record}", any(services::pass_dns))
        .route("/v1/vip-services", any(services::pass_vip))
        .route("/v1/vip-services/{*service}", any(services::pass_vip))
        .layer(from_fn(changes_from_here))
}

fn queries(table: &[(&str, ToQuery)]) -> Router<App> {
    asking(table, Jsonp::Ignored)
}

fn queries_of_mesos(table: &[(&str, ToQuery)]) -> Router<App> {
    asking(table, Jsonp::Given)
}

fn asking(table: &[(&str, ToQuery)], jsonp: Jsonp) -> Router<App> {
    table
        .iter()
        .fold(Router::new(), |router, (path, query)| router.route(path, asks(*query, jsonp)))
}

/// What there is on a listener, for people who look at its `/`.
fn index(part: &str, tables: &[&[(&str, ToQuery)]], calls: &[&str]) -> MethodRouter<App> {
    let questions = tables.iter().flat_map(|table| table.iter());
    let questions = questions.filter(|(path, _)| !path.ends_with(".json"));
    let mut routes: Vec<String> = questions.map(|(path, _)| format!("GET {path}")).collect();
    routes.extend(calls.iter().map(|call| (*call).to_owned()));
    let document = json!({
        "service": "mizzen",
        "version": env!("CARGO_PKG_VERSION"),
        "part": part,
        "routes": routes,
    });
    get(move || std::future::ready(Json(document.clone())))
}

fn with_prefixes(routes: &Router<App>, prefixes: &[&str]) -> Router<App> {
    prefixes.iter().fold(routes.clone(), |router, prefix| router.nest(prefix, routes.clone()))
}

async fn no_route(uri: Uri) -> HttpError {
    HttpError::NoRoute { path: uri.path().to_owned() }
}
