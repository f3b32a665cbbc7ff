//! `/overlay-agent/overlay` in protobuf, for those who ask for it: DC/OS' own network daemon
//! did. The core answers in JSON, whose names are those of the messages.

use crate::encoding::Encoding;
use crate::error::HttpError;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use prost::{Enumeration, Message};
use serde::{Deserialize, Deserializer};

/// What an agent has of the overlays.
#[derive(Clone, PartialEq, Message, Deserialize)]
struct AgentInfo {
    #[prost(string, required, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    overlays: Vec<AgentOverlay>,
    #[prost(uint32, optional, tag = "3")]
    configuration_attempts: Option<u32>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
struct AgentOverlay {
    #[prost(message, required, tag = "1")]
    info: Overlay,
    #[prost(string, optional, tag = "2")]
    subnet: Option<String>,
    #[prost(message, optional, tag = "3")]
    mesos_bridge: Option<Bridge>,
    #[prost(message, optional, tag = "4")]
    docker_bridge: Option<Bridge>,
    #[prost(message, required, tag = "5")]
    backend: Backend,
    #[prost(message, optional, tag = "6")]
    state: Option<State>,
    #[prost(string, optional, tag = "7")]
    subnet6: Option<String>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
struct Overlay {
    #[prost(string, required, tag = "1")]
    name: String,
    #[prost(string, optional, tag = "2")]
    subnet: Option<String>,
    #[prost(uint32, optional, tag = "3")]
    prefix: Option<u32>,
    #[prost(string, optional, tag = "4")]
    subnet6: Option<String>,
    #[prost(uint32, optional, tag = "5")]
    prefix6: Option<u32>,
    #[prost(bool, optional, tag = "6")]
    enabled: Option<bool>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
struct Bridge {
    #[prost(string, required, tag = "1")]
    name: String,
    #[prost(string, optional, tag = "2")]
    ip: Option<String>,
    #[prost(string, optional, tag = "3")]
    ip6: Option<String>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
struct Backend {
    #[prost(message, optional, tag = "1")]
    vxlan: Option<Vxlan>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
struct Vxlan {
    #[prost(uint32, required, tag = "1")]
    vni: u32,
    #[prost(string, required, tag = "2")]
    vtep_name: String,
    /// Empty where the tunnels have IPv6 addresses only.
    #[serde(default)]
    #[prost(string, required, tag = "3")]
    vtep_ip: String,
    #[prost(string, required, tag = "4")]
    vtep_mac: String,
    #[prost(string, optional, tag = "5")]
    vtep_ip6: Option<String>,
    #[prost(uint32, optional, tag = "6")]
    vtep_mtu: Option<u32>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
struct State {
    #[serde(deserialize_with = "status")]
    #[prost(enumeration = "Status", optional, tag = "1")]
    status: Option<i32>,
    #[prost(string, optional, tag = "2")]
    error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
enum Status {
    Invalid = 0,
    Ok = 1,
    Failed = 2,
    Configuring = 3,
}

/// Lets an answer through as it is, or writes it in protobuf if the client takes that alone.
pub(crate) async fn encode(request: Request, next: Next) -> Response {
    // Whatever else clients take, they always were given JSON.
    let encoding = Encoding::to_answer_in(request.headers()).unwrap_or(Encoding::Json);
    let answer = next.run(request).await;
    match encoding {
        Encoding::Protobuf if answer.status() == StatusCode::OK => {
            in_protobuf(answer).await.unwrap_or_else(HttpError::into_response)
        }
        _ => answer,
    }
}

async fn in_protobuf(answer: Response) -> Result<Response, HttpError> {
    let (mut head, body) = answer.into_parts();
    let json = body.collect().await.map_err(|_| HttpError::Answer)?.to_bytes();
    let message: AgentInfo = serde_json::from_slice(&json).map_err(|_| HttpError::Answer)?;
    head.headers.remove(CONTENT_LENGTH);
    let kind = HeaderValue::from_static(Encoding::Protobuf.media_type());
    head.headers.insert(CONTENT_TYPE, kind);
    Ok(Response::from_parts(head, Body::from(message.encode_to_vec())))
}

fn status<'de, D: Deserializer<'de>>(json: D) -> Result<Option<i32>, D::Error> {
    let status = match String::deserialize(json)?.as_str() {
        "STATUS_OK" => Status::Ok,
        "STATUS_FAILED" => Status::Failed,
        "STATUS_CONFIGURING" => Status::Configuring,
        _ => Status::Invalid,
    };
    Ok(Some(status.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_of_the_json_is_in_the_message() {
        let vxlan = json!({
            "vni": 1024, "vtep_name": "vtep1024", "vtep_ip": "44.128.0.6/20",
            "vtep_mac": "70:b3:d5:80:00:06", "vtep_mtu": 1420,
        });
        let entry = |block: &str| {
            json!({
                "info": { "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24, "enabled": true },
                "subnet": block,
                "backend": { "vxlan": vxlan },
                "mesos_bridge": { "name": "m-dcos", "ip": "9.0.5.0/25" },
                "state": { "status": "STATUS_FAILED", "error": "no link" },
            })
        };
        let overlays = [entry("9.0.5.0/24"), entry("9.0.9.0/24")];
        let json = json!({ "ip": "10.0.3.46", "configuration_attempts": 1, "overlays": overlays });
        let message: AgentInfo = serde_json::from_value(json).unwrap();
        let overlay = &message.overlays[0];
        assert_eq!(message.overlays[1].subnet.as_deref(), Some("9.0.9.0/24"));
        assert_eq!(overlay.state.as_ref().unwrap().status(), Status::Failed);
        assert_eq!(overlay.backend.vxlan.as_ref().unwrap().vtep_mtu, Some(1420));
        assert_eq!(overlay.mesos_bridge.as_ref().unwrap().ip6, None);
        // As a foreign reader takes them apart: field 1 is the address, field 3 the attempts.
        let bytes = message.encode_to_vec();
        assert!(bytes.starts_with(b"\x0a\x0910.0.3.46\x12"), "{bytes:x?}");
        assert!(bytes.ends_with(&[0x18, 1]), "{bytes:x?}");
        assert_eq!(AgentInfo::decode(&bytes[..]).unwrap(), message);
    }
}
