//! Minuteman's HTTP: one VIP, one backend.

use crate::core::Query;
use crate::error::HttpError;
use crate::query::ask;
use crate::routes::App;
use axum::extract::{Path, State};
use axum::response::Response;

/// `/vip/IP:PORT`.
pub async fn vip(State(app): State<App>, Path(at): Path<String>) -> Result<Response, HttpError> {
    ask(&app, Query::MinutemanVip(at)).await
}

/// `/backend/IP:PORT`.
pub async fn backend(
    State(app): State<App>,
    Path(at): Path<String>,
) -> Result<Response, HttpError> {
    ask(&app, Query::MinutemanBackend(at)).await
}
