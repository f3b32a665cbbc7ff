//! The node's own HTTP: what the command line asks.

use crate::core::{Measured, Query};
use crate::error::HttpError;
use crate::query::Params;
use axum::Json;
use serde_json::{Value, json};

/// `/v1/version`, in the shape of dcos-net.
pub async fn version() -> Json<Value> {
    Json(json!({ "Service": "mizzen", "Version": env!("CARGO_PKG_VERSION") }))
}

/// `/v1/dns?name=&type=`.
pub fn dns(params: &Params) -> Result<Query, HttpError> {
    Ok(Query::Dns { name: params.required("name")?, record_type: params.text("type") })
}

/// `/v1/ping?to=&measure=`.
pub fn ping(params: &Params) -> Result<Query, HttpError> {
    let measured = match params.text("measure") {
        None => Measured::RoundTrip,
        Some(what) if what == "mtu" => Measured::Mtu,
        Some(value) => {
            return Err(HttpError::Parameter { name: "measure", value, expected: "`mtu`" });
        }
    };
    Ok(Query::Ping { to: params.required("to")?, measured })
}

/// `/v1/logs?task=&stream=&offset=&length=`.
pub fn logs(params: &Params) -> Result<Query, HttpError> {
    Ok(Query::Logs {
        task: params.required("task")?,
        stream: params.text("stream").unwrap_or_else(|| "stdout".into()),
        offset: params.number("offset")?,
        length: params.number("length")?,
    })
}

/// `/v1/policy-drops?after=`.
pub fn policy_drops(params: &Params) -> Result<Query, HttpError> {
    Ok(Query::PolicyDrops { after: params.number("after")?.unwrap_or_default() })
}

/// `/v1/policy-explain?from=&to=`.
pub fn policy_explain(params: &Params) -> Result<Query, HttpError> {
    Ok(Query::PolicyExplain { from: params.required("from")?, to: params.required("to")? })
}
