//! Where fuzz targets come in: requests as the listeners' loops pass them on.

use crate::closing::closing;
use crate::core::CoreHandle;
use crate::limits::Limits;
use crate::origin::Origin;
use crate::routes::App;
use crate::server::{Part, router};
use axum::body::Body;
use axum::http::Request;
use http_body_util::{BodyExt, Limited};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;

/// More of an answer is not read.
const MAX_ANSWER: usize = 1 << 20;
/// Streams of events never end; a piece that does not come at once is not waited for.
const ANSWER_WAIT: Duration = Duration::from_millis(20);

/// A request as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body.
    pub body: &'a [u8],
}

/// The status of the answer of a listener without a socket; `None` for what hyper would
/// not take for a request.
pub async fn answer(part: Part, sent: Sent<'_>, core: CoreHandle) -> Option<u16> {
    // Routes that only the machine itself may use are tried as well.
    let request = Request::builder().method(sent.method).uri(sent.target);
    let mut request = request.extension(Origin::Socket);
    for (name, value) in sent.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(sent.body.to_vec())).ok()?;
    let (_close, closing) = closing();
    let router = router(part, App { core, limits: Arc::new(Limits::default()), closing });
    let Ok(response) = TowerToHyperService::new(router).call(request).await;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
    let _ = tokio::time::timeout(ANSWER_WAIT, body).await;
    Some(status)
}
