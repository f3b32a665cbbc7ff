//! Names by HTTP: Mesos-DNS' own listener, and the dispatcher's part of the node's.

use crate::core::Query;
use crate::error::HttpError;
use crate::query::ask;
use crate::routes::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

/// `/v1/version` of Mesos-DNS.
pub async fn version() -> Json<Value> {
    Json(json!({
        "Service": "Mesos-DNS",
        "Version": concat!("mizzen ", env!("CARGO_PKG_VERSION")),
        "URL": "https://github.com/mesosphere/mesos-dns",
    }))
}

/// `/v1/hosts/{host}` of Mesos-DNS.
pub async fn hosts(
    State(app): State<App>,
    Path(host): Path<String>,
) -> Result<Response, HttpError> {
    ask(&app, Query::MesosDnsHosts(host)).await
}

/// `/v1/services/{service}` of Mesos-DNS.
pub async fn services(
    State(app): State<App>,
    Path(service): Path<String>,
) -> Result<Response, HttpError> {
    ask(&app, Query::MesosDnsServices(service)).await
}

/// `/v1/hosts/{host}` of the dispatcher.
pub async fn node_hosts(
    State(app): State<App>,
    Path(host): Path<String>,
) -> Result<Response, HttpError> {
    ask(&app, Query::Hosts(host)).await
}

/// `/v1/services/{service}` of the dispatcher.
pub async fn node_services(
    State(app): State<App>,
    Path(service): Path<String>,
) -> Result<Response, HttpError> {
    ask(&app, Query::Services(service)).await
}

/// What neither of them ever had.
pub async fn not_there() -> HttpError {
    HttpError::Refused { status: StatusCode::NOT_IMPLEMENTED, text: "Not implemented".to_owned() }
}
