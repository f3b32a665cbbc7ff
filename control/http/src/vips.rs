//! VIPs as people see them: Minuteman's HTTP, metrics, explanations.

use crate::core::{Explained, MetricsEncoding, Query};
use crate::error::HttpError;
use crate::query::{Params, ask, body_of};
use crate::routes::App;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

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

/// `/v1/explain?vip=`, `?client=…&vip=…` or `?connection=`.
pub fn explain(params: &Params) -> Result<Query, HttpError> {
    let [connection, client, vip] = ["connection", "client", "vip"].map(|name| params.text(name));
    Ok(Query::Explain(match (connection, client, vip) {
        (Some(connection), ..) => Explained::Connection(connection),
        (None, Some(client), Some(vip)) => Explained::Connection(format!("{client}->{vip}")),
        (None, None, Some(vip)) => Explained::Vip(vip),
        (None, _, None) => {
            let (status, text) = (StatusCode::BAD_REQUEST, EXPLAINED.to_owned());
            return Err(HttpError::Refused { status, text });
        }
    }))
}

/// What can be asked to be explained.
const EXPLAINED: &str = "Expecting 'vip=NAME:PORT', 'client=IP:PORT&vip=NAME:PORT' or \
    'connection=IP:PORT-%3ENAME:PORT' in the query";

/// `/v1/metrics`, piece by piece: text, or messages if the scraper prefers them.
pub async fn metrics(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, HttpError> {
    let encoding = encoding(&headers);
    let pieces = app.core.metrics(encoding, app.limits.reply_wait).await?;
    let media_type = match encoding {
        MetricsEncoding::Text => TEXT,
        MetricsEncoding::Protobuf => PROTOBUF,
    };
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(media_type))];
    Ok((headers, body_of(pieces)))
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Messages have native histograms besides the classic ones; who takes both alike is given text.
fn encoding(headers: &HeaderMap) -> MetricsEncoding {
    let (mut text, mut protobuf) = (0.0, 0.0);
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    for range in lines.flat_map(|line| line.split(',')) {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let name = parts.next().unwrap_or_default();
        let parameters: Vec<String> = parts.collect();
        let has = |wanted: &str| parameters.iter().any(|parameter| parameter == wanted);
        let quality = parameters.iter().find_map(|parameter| parameter.strip_prefix("q="));
        let quality = quality.and_then(|text| text.parse().ok()).unwrap_or(1.0_f32);
        match name.as_str() {
            "application/vnd.google.protobuf"
                if has("proto=io.prometheus.client.metricfamily") && has("encoding=delimited") =>
            {
                protobuf = quality;
            }
            "text/plain" => text = quality,
            _ => {}
        }
    }
    if protobuf > text { MetricsEncoding::Protobuf } else { MetricsEncoding::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_are_given_what_they_prefer() {
        use MetricsEncoding::{Protobuf, Text};
        let messages = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        #[rustfmt::skip]
        let table = [
            (String::new(),                                                            Text),
            ("*/*".to_owned(),                                                         Text),
            (messages.to_owned(),                                                      Protobuf),
            (messages.replace(';', " ; "),                                             Protobuf),
            (format!("{messages};q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"),     Protobuf),
            (format!("text/plain;version=0.0.4;q=0.6,{messages};q=0.3"),               Text),
            (format!("text/plain,{messages}"),                                         Text),
            ("application/vnd.google.protobuf;encoding=compact-text".to_owned(),       Text),
        ];
        for (accept, want) in table {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::try_from(&accept).unwrap());
            assert_eq!(encoding(&headers), want, "{accept}");
        }
    }
}
