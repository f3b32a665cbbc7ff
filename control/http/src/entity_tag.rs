//! Entity tags, for answers that are asked for again and again and seldom change: who has the
//! present one already is told so and not sent it.

use crate::error::HttpError;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::hash::{DefaultHasher, Hasher};

/// Gives an answer its tag, or leaves it away where the client names that tag.
pub async fn add(request: Request, next: Next) -> Response {
    let known = request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect::<Vec<_>>();
    let answer = next.run(request).await;
    if answer.status() != StatusCode::OK {
        return answer;
    }
    tagged(answer, &known).await.unwrap_or_else(IntoResponse::into_response)
}

async fn tagged(answer: Response, known: &[HeaderValue]) -> Result<Response, HttpError> {
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| HttpError::Answer)?.to_bytes();
    let tag = tag(&body);
    head.headers.insert(ETAG, HeaderValue::from_str(&tag).map_err(|_| HttpError::Answer)?);
    if !known.iter().any(|known| names(known, &tag)) {
        return Ok(Response::from_parts(head, Body::from(body)));
    }
    head.status = StatusCode::NOT_MODIFIED;
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(CONTENT_TYPE);
    Ok(Response::from_parts(head, Body::empty()))
}

/// What the body is, so that the same one has the same tag after a restart and on every node.
fn tag(body: &Bytes) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether `If-None-Match` has this tag among others. A proxy may have called it weak.
fn names(known: &HeaderValue, tag: &str) -> bool {
    let known = known.to_str().unwrap_or_default();
    let mut each = known.split(',').map(str::trim);
    each.any(|each| each == "*" || each.strip_prefix("W/").unwrap_or(each) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_among_others() {
        let tag = tag(&Bytes::from_static(b"[]"));
        for (known, want) in [
            (tag.clone(), true),
            (format!("\"other\", {tag}"), true),
            (format!("W/{tag}"), true),
            ("*".to_owned(), true),
            (tag.replace('"', ""), false),
            ("\"other\"".to_owned(), false),
            (String::new(), false),
        ] {
            let header = HeaderValue::from_str(&known).unwrap();
            assert_eq!(names(&header, &tag), want, "{known}");
        }
    }
}
