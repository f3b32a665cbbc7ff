//! The two encodings of calls and answers, and who speaks which.

use crate::error::HttpError;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use mizzen_api::codec::{self, Shaped};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// The header says exactly one of the two; parameters are not understood.
    pub(crate) fn of_body(headers: &HeaderMap) -> Result<Self, HttpError> {
        let found = headers.get(CONTENT_TYPE).ok_or(HttpError::NoContentType)?.as_bytes();
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|encoding| encoding.media_type().as_bytes() == found)
            .ok_or_else(|| HttpError::ContentType {
                found: String::from_utf8_lossy(found).into_owned(),
            })
    }

    /// JSON if the client takes it, which it also does if it does not say.
    pub(crate) fn to_answer_in(headers: &HeaderMap) -> Result<Self, HttpError> {
        let lines: Vec<&str> =
            headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
        let wanted = if headers.contains_key(ACCEPT) { lines.join(",") } else { "*/*".into() };
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|encoding| accepts(&wanted, encoding.media_type()))
            .ok_or(HttpError::NotAcceptable)
    }

    /// Reads a call; `name` is what it is called in a refusal.
    pub(crate) fn decode<M>(self, body: &[u8], name: &'static str) -> Result<M, HttpError>
    where
        M: Message + Default + DeserializeOwned + Shaped,
    {
        match self {
            Self::Json => codec::from_json(body),
            Self::Protobuf => codec::from_protobuf(body),
        }
        .map_err(|error| HttpError::Decode { name, error })
    }

    /// Writes a message; nothing if it cannot be written, of which no case is known.
    pub(crate) fn encode<M: Message + Serialize>(self, message: &M) -> Option<Vec<u8>> {
        match self {
            Self::Json => serde_json::to_vec(message).ok(),
            Self::Protobuf => Some(message.encode_to_vec()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

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
