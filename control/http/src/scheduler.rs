//! `/api/v1/scheduler`: calls in, a stream of events out.
//!
//! The gate, in order: method, content type, body, the call's form, and for
//! SUBSCRIBE what the client accepts and that it names no stream. Whatever needs
//! the master's memory (is the framework known, is this its stream) is the
//! core's, which answers with a status and a sentence.

mod form;

use crate::closing::Closing;
use crate::core::{CoreHandle, SchedulerReply};
use crate::encoding::Encoding;
use crate::error::HttpError;
use crate::routes::{App, read_body};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use mizzen_api::recordio;
use mizzen_api::v1::scheduler::{Event, call::Type};
use std::convert::Infallible;
use tokio::sync::mpsc;

/// Names the stream that a framework's calls belong to.
pub const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");

/// POST of a call.
pub async fn call(State(app): State<App>, request: Request) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of_body(&parts.headers)?;
    let body = read_body(body, app.limits.call_body, app.limits.body_wait).await?;
    let mut call = encoding.decode(&body, "scheduler::Call")?;
    let kind = form::check(&mut call)?;

    let answer_in = match kind {
        Type::Subscribe | Type::ReconcileOperations => Encoding::to_answer_in(&parts.headers)?,
        _ => Encoding::Json,
    };
    let stream_id = stream_id(&parts.headers)?;
    if kind == Type::Subscribe && stream_id.is_some() {
        return Err(HttpError::StreamIdOnSubscribe);
    }

    let wait = app.limits.reply_wait;
    match app.core.scheduler(Box::new(call), stream_id, wait).await? {
        SchedulerReply::Accepted if kind == Type::UpdateFramework => {
            Ok(StatusCode::OK.into_response())
        }
        SchedulerReply::Accepted => Ok(StatusCode::ACCEPTED.into_response()),
        SchedulerReply::Refused { status, text } => {
            let status = StatusCode::from_u16(status).map_err(|_| HttpError::Answer)?;
            Err(HttpError::Refused { status, text })
        }
        SchedulerReply::Subscribed { stream_id, events } => {
            subscribed(app, answer_in, stream_id, events)
        }
    }
}

fn stream_id(headers: &HeaderMap) -> Result<Option<String>, HttpError> {
    let Some(value) = headers.get(STREAM_ID) else { return Ok(None) };
    let value = value.to_str().map_err(|_| HttpError::Refused {
        status: StatusCode::BAD_REQUEST,
        text: "The stream ID is no text".into(),
    })?;
    Ok(Some(value.to_owned()))
}

/// The 200 whose body is the stream.
fn subscribed(
    app: App,
    encoding: Encoding,
    stream_id: String,
    events: mpsc::Receiver<Event>,
) -> Result<Response, HttpError> {
    // From here on the core hears of the end, however it comes.
    let guard = StreamGuard { core: app.core, stream_id };
    let header = HeaderValue::try_from(&guard.stream_id).map_err(|_| HttpError::Answer)?;
    let stream = Subscription { events, encoding, closing: app.closing, _guard: guard };
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(encoding.media_type())), (STREAM_ID, header)];
    Ok((headers, Body::from_stream(stream.into_records())).into_response())
}

struct Subscription {
    events: mpsc::Receiver<Event>,
    encoding: Encoding,
    closing: Closing,
    _guard: StreamGuard,
}

impl Subscription {
    /// One item per record, because one client takes a chunk for a record.
    fn into_records(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures::stream::unfold(self, |mut stream| async move {
            let event = tokio::select! {
                event = stream.events.recv() => event?,
                () = stream.closing.wait() => return None,
            };
            let record = stream.encoding.encode(&event)?;
            Some((Ok(recordio::encode(&record).into()), stream))
        })
    }
}

/// Tells the core when the body of a stream is dropped.
struct StreamGuard {
    core: CoreHandle,
    stream_id: String,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.core.stream_closed(std::mem::take(&mut self.stream_id));
    }
}
