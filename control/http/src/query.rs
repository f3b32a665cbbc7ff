//! From a GET to a [`Query`] and from its reply to an answer.

use crate::core::{Query, QueryReply};
use crate::download;
use crate::error::HttpError;
use crate::routes::App;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as QueryString, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use futures::stream;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::str::FromStr;
use tokio::sync::mpsc;

/// The parameters behind the `?`.
#[derive(Debug)]
pub struct Params(BTreeMap<String, String>);

/// Reads a question out of the parameters.
pub type ToQuery = fn(&Params) -> Result<Query, HttpError>;

impl Params {
    /// A parameter, if given and not empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A parameter that must be given.
    pub fn required(&self, name: &'static str) -> Result<String, HttpError> {
        self.text(name).ok_or(HttpError::NoParameter { name })
    }

    /// A parameter that is a number, if given.
    pub fn number<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, HttpError> {
        let Some(value) = self.text(name) else { return Ok(None) };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(HttpError::Parameter { name, value, expected: "a whole number" }),
        }
    }
}

/// Whether an answer may be a script, which pages of any site read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jsonp {
    /// As Mesos has it, with the parameter `jsonp`.
    Given,
    /// The parameter means nothing.
    Ignored,
}

/// A GET that asks a question.
pub fn asks(to_query: ToQuery, jsonp: Jsonp) -> MethodRouter<App> {
    get(
        move |State(app): State<App>,
              params: Result<QueryString<BTreeMap<String, String>>, QueryRejection>| async move {
            let QueryString(mut params) = params.map_err(|_| HttpError::Query)?;
            if jsonp == Jsonp::Ignored {
                params.remove("jsonp");
            }
            let params = Params(params);
            let reply = app.core.query(to_query(&params)?, app.limits.reply_wait).await?;
            answer(reply, &params)
        },
    )
}

/// Asks the core and answers, for routes with more than parameters.
pub async fn ask(app: &App, query: Query) -> Result<Response, HttpError> {
    let reply = app.core.query(query, app.limits.reply_wait).await?;
    answer(reply, &Params(BTreeMap::new()))
}

fn answer(reply: QueryReply, params: &Params) -> Result<Response, HttpError> {
    match reply {
        QueryReply::Json(value) => json(&value, params.text("jsonp")),
        QueryReply::NotFound(text) => {
            Err(HttpError::Refused { status: StatusCode::NOT_FOUND, text })
        }
        QueryReply::Away(text) => {
            Err(HttpError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, text })
        }
        QueryReply::Bad(text) => Err(HttpError::Refused { status: StatusCode::BAD_REQUEST, text }),
        QueryReply::Text(content_type, text) => Ok(with_type(content_type, text.into_bytes())),
        QueryReply::File(file) => Ok(download::response(file)),
        QueryReply::Pieces(pieces) => Ok(with_body("application/json", body_of(pieces.0))),
    }
}

/// JSON, or a script that calls a function with it.
fn json(value: &serde_json::Value, callback: Option<String>) -> Result<Response, HttpError> {
    let body = serde_json::to_vec(value).map_err(|_| HttpError::Answer)?;
    let Some(callback) = callback else { return Ok(with_type("application/json", body)) };
    if !callback.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$')) {
        return Err(HttpError::Parameter {
            name: "jsonp",
            value: callback,
            expected: "the name of a function",
        });
    }
    let script = [callback.as_bytes(), b"(", &body, b");"].concat();
    Ok(with_type("text/javascript", script))
}

/// A body that is sent as its pieces come.
pub fn body_of(pieces: mpsc::Receiver<Bytes>) -> Body {
    Body::from_stream(stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok::<_, Infallible>(piece), pieces))
    }))
}

fn with_type(content_type: &'static str, body: Vec<u8>) -> Response {
    with_body(content_type, Body::from(body))
}

fn with_body(content_type: &'static str, body: Body) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
