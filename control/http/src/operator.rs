//! The classic endpoints of master and agent.

use crate::core::{Order, Query, TasksFilter};
use crate::error::HttpError;
use crate::query::Params;
use crate::routes::App;
use axum::Json;
use axum::extract::State;
use axum::http::header::{HOST, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// `/tasks` lists so many unless it is asked for more.
const DEFAULT_TASKS: usize = 100;

/// `/health`: 200 without a body while the core lives.
pub async fn health(State(app): State<App>) -> StatusCode {
    if app.core.is_running() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// `/version`.
pub async fn version() -> Json<Value> {
    let time = build_time();
    let date = jiff::Timestamp::from_second(time)
        .map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_default();
    Json(json!({
        "version": mizzen_api::MESOS_VERSION,
        "build_date": date,
        "build_time": time,
        "build_user": "mizzen",
    }))
}

/// `/redirect`: to the leading master, which is this one, under the name that
/// the client knows it by.
pub async fn redirect(headers: HeaderMap) -> Result<Response, HttpError> {
    let host = headers.get(HOST).ok_or(HttpError::NoHost)?;
    let location = HeaderValue::from_bytes(&[b"//", host.as_bytes()].concat())
        .map_err(|_| HttpError::NoHost)?;
    Ok((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response())
}

/// `/tasks` of the master.
pub fn tasks(params: &Params) -> Result<Query, HttpError> {
    let order = match params.text("order").as_deref() {
        None | Some("des") => Order::Descending,
        Some("asc") => Order::Ascending,
        Some(other) => {
            let value = other.to_owned();
            let expected = "'asc' or 'des'";
            return Err(HttpError::Parameter { name: "order", value, expected });
        }
    };
    Ok(Query::MasterTasks(TasksFilter {
        framework_id: params.text("framework_id"),
        task_id: params.text("task_id"),
        limit: params.number("limit")?.unwrap_or(DEFAULT_TASKS),
        offset: params.number("offset")?.unwrap_or(0),
        order,
    }))
}

/// `/files/read` of the agent.
pub fn files_read(params: &Params) -> Result<Query, HttpError> {
    Ok(Query::FilesRead {
        path: params.required("path")?,
        offset: params.number("offset")?,
        length: params.number("length")?,
    })
}

/// `/files/browse` of the agent.
pub fn files_browse(params: &Params) -> Result<Query, HttpError> {
    Ok(Query::FilesBrowse { path: params.required("path")? })
}

/// `/files/download` of the agent.
pub fn files_download(params: &Params) -> Result<Query, HttpError> {
    Ok(Query::FilesDownload { path: params.required("path")? })
}

/// Seconds since the epoch, as reproducible builds say it; 0 if they do not.
fn build_time() -> i64 {
    option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()).unwrap_or(0)
}
