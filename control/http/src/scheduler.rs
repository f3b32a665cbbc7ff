//! `/api/v1/scheduler`: calls in, a stream of events out.
//!
//! The gate, in order: method, content type, body, the call's form, and for
//! SUBSCRIBE what the client accepts and that it names no stream. Whatever needs
//! the master's memory (is the framework known, is this its stream) is the
//! core's, which answers with a status and a sentence.

mod form;

use crate::closing::Closing;
use crate::core::{CoreHandle, SchedulerReply};
use crate::error::HttpError;
use crate::routes::{App, read_body};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use mizzen_api::v1::scheduler::{Call, Event, call::Type};
use mizzen_api::{codec, recordio};
use prost::Message;
use std::convert::Infallible;
use tokio::sync::mpsc;

/// Names the stream that a framework's calls belong to.
pub const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");

/// POST of a call.
pub async fn call(State(app): State<App>, request: Request) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of_body(&parts.headers)?;
    let body = read_body(body, app.limits.call_body, app.limits.body_wait).await?;
    let mut call = encoding.decode(&body)?;
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

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// The header says exactly one of the two; parameters are not understood.
    fn of_body(headers: &HeaderMap) -> Result<Self, HttpError> {
        let found = headers.get(CONTENT_TYPE).ok_or(HttpError::NoContentType)?.as_bytes();
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|encoding| encoding.media_type().as_bytes() == found)
            .ok_or_else(|| HttpError::ContentType {
                found: String::from_utf8_lossy(found).into_owned(),
            })
    }

    /// JSON if the client takes it, which it also does if it does not say.
    fn to_answer_in(headers: &HeaderMap) -> Result<Self, HttpError> {
        let lines: Vec<&str> =
            headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
        let wanted = if headers.contains_key(ACCEPT) { lines.join(",") } else { "*/*".into() };
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|encoding| accepts(&wanted, encoding.media_type()))
            .ok_or(HttpError::NotAcceptable)
    }

    fn decode(self, body: &[u8]) -> Result<Call, HttpError> {
        match self {
            Self::Json => codec::from_json(body),
            Self::Protobuf => codec::from_protobuf(body),
        }
        .map_err(HttpError::Decode)
    }

    fn encode(self, event: &Event) -> Option<Vec<u8>> {
        match self {
            Self::Json => serde_json::to_vec(event).ok(),
            Self::Protobuf => Some(event.encode_to_vec()),
        }
    }
}

/// Whether a list such as `text/*;q=0.5, application/json` allows a media type.
fn accepts(wanted: &str, media_type: &str) -> bool {
    let (main, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    wanted.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let matches = name == "*/*"
            || name.eq_ignore_ascii_case(media_type)
            || name.strip_suffix("/*").is_some_and(|range| range.eq_ignore_ascii_case(main));
        let refused = parts.any(|parameter| {
            let quality = parameter.strip_prefix("q=").or(parameter.strip_prefix("Q="));
            quality.and_then(|quality| quality.parse::<f32>().ok()).is_some_and(|q| q <= 0.0)
        });
        matches && !refused
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_wins_if_both_are_allowed() {
        use Encoding::{Json, Protobuf};
        #[rustfmt::skip]
        let table: &[(&[&'static str], Option<Encoding>)] = &[
            (&[],                                                     Some(Json)),
            (&["*/*"],                                                Some(Json)),
            (&["application/*"],                                      Some(Json)),
            (&["application/x-protobuf"],                             Some(Protobuf)),
            (&["application/x-protobuf, application/json;q=0.1"],     Some(Json)),
            (&["application/json;q=0, application/x-protobuf"],       Some(Protobuf)),
            (&["text/html", "Application/JSON; charset=utf-8"],       Some(Json)),
            (&["text/html"],                                          None),
            (&["text/*"],                                             None),
            (&["*/*;q=0.0"],                                          None),
            (&[""],                                                   None),
            (&[";;,,;q=x"],                                           None),
        ];
        for (lines, want) in table {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(ACCEPT, HeaderValue::from_static(line));
            }
            assert_eq!(Encoding::to_answer_in(&headers).ok(), *want, "{lines:?}");
        }
    }
}
