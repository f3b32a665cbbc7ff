//! `/v2`: passed to the service scheduler as it is. Likewise what is registered or set by hand.

use crate::core::{Addressee, ServicesReply, ServicesRequest};
use crate::error::HttpError;
use crate::routes::{App, read_body};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::ACCEPT;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

/// Any method, any path, for the service scheduler.
pub async fn pass(State(app): State<App>, request: Request) -> Result<Response, HttpError> {
    pass_to(&app, Addressee::Services, request, app.limits.services_body).await
}

/// Any method, any path below `/v1/vip-services`, and `/v1/vip-plan`.
pub async fn pass_vip(State(app): State<App>, request: Request) -> Result<Response, HttpError> {
    pass_to(&app, Addressee::VipServices, request, app.limits.vip_services_body).await
}

/// Any method, any path below `/v1/dns-records`.
pub async fn pass_dns(State(app): State<App>, request: Request) -> Result<Response, HttpError> {
    pass_to(&app, Addressee::DnsRecords, request, app.limits.services_body).await
}

/// Any method, any path below `/v1/cluster`.
pub async fn pass_cluster(State(app): State<App>, request: Request) -> Result<Response, HttpError> {
    pass_to(&app, Addressee::Cluster, request, app.limits.services_body).await
}

/// Any method, any path below `/v1/policies`.
pub async fn pass_policies(
    State(app): State<App>,
    request: Request,
) -> Result<Response, HttpError> {
    pass_to(&app, Addressee::Policies, request, app.limits.services_body).await
}

/// A CNI plugin connected a container of another runtime.
pub async fn pass_attached(
    State(app): State<App>,
    request: Request,
) -> Result<Response, HttpError> {
    pass_to(&app, Addressee::Attached, request, app.limits.services_body).await
}

/// A CNI plugin found all addresses leased.
pub async fn pass_addresses(
    State(app): State<App>,
    request: Request,
) -> Result<Response, HttpError> {
    pass_to(&app, Addressee::Addresses, request, app.limits.services_body).await
}

async fn pass_to(
    app: &App,
    to: Addressee,
    request: Request,
    limit: usize,
) -> Result<Response, HttpError> {
    let request = whole(app, request, limit).await?;
    let reply = app.core.pass(to, request, app.limits.reply_wait).await?;
    response(reply).ok_or(HttpError::Answer)
}

async fn whole(app: &App, request: Request, limit: usize) -> Result<ServicesRequest, HttpError> {
    let (parts, body) = request.into_parts();
    let path = plain_path(parts.uri.path()).ok_or(HttpError::Path)?;
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let accept = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let accept = accept.unwrap_or_default().to_owned();
    let body = read_body(body, limit, app.limits.body_wait).await?.into();
    Ok(ServicesRequest { method: parts.method.to_string(), path, query, accept, body })
}

fn response(reply: ServicesReply) -> Option<Response> {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).ok()?;
    for (name, value) in reply.headers {
        let name: HeaderName = name.parse().ok()?;
        response.headers_mut().append(name, HeaderValue::try_from(value).ok()?);
    }
    Some(response)
}

/// Decodes `%XX` and makes runs of `/` one: clients append `/web` to `/v2/apps/`.
fn plain_path(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut plain = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            byte => byte,
        };
        if byte != b'/' || plain.last() != Some(&b'/') {
            plain.push(byte);
        }
    }
    String::from_utf8(plain).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| value.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::plain_path;

    #[test]
    fn paths() {
        #[rustfmt::skip]
        let table = [
            ("/v2/apps",                  Some("/v2/apps")),
            ("/v2/apps//web",             Some("/v2/apps/web")),
            ("//v2///apps//a//b//",       Some("/v2/apps/a/b/")),
            ("/v2/apps/%2Fa%2fb/tasks",   Some("/v2/apps/a/b/tasks")),
            ("/v2/apps/%C3%BC%20x",       Some("/v2/apps/ü x")),
            ("/v2/apps/%25",              Some("/v2/apps/%")),
            ("/v2/apps/%2",               None),
            ("/v2/apps/%zz",              None),
            ("/v2/apps/%+1",              None),
            ("/v2/apps/%ff",              None),
        ];
        for (path, want) in table {
            assert_eq!(plain_path(path).as_deref(), want, "{path}");
        }
    }
}
