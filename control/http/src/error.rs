//! Why a request is refused, as a status and a sentence.

use crate::core::CoreError;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use mizzen_api::codec::DecodeError;
use mizzen_types::error::chain;
use std::net::SocketAddr;

/// The two encodings, as the texts below name them.
const BOTH_TYPES: &str = "'application/json' or 'application/x-protobuf'";

/// A refusal; its text, with its cause, is the answer's body.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No such route.
    #[error("There is nothing at {path}")]
    NoRoute {
        /// What was asked for.
        path: String,
    },
    /// A call without a content type.
    #[error("Expecting 'Content-Type' to be present")]
    NoContentType,
    /// A call in an encoding that is not spoken here.
    #[error("Expecting 'Content-Type' of {BOTH_TYPES}, not '{found}'")]
    ContentType {
        /// What the header says.
        found: String,
    },
    /// A client that takes no encoding that is spoken here.
    #[error("Expecting 'Accept' to allow {BOTH_TYPES}")]
    NotAcceptable,
    /// A body that is no call.
    #[error("{}", decode_text(.name, .error))]
    Decode {
        /// What it should be: `scheduler::Call`.
        name: &'static str,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A call whose parts do not fit together.
    #[error("Failed to validate scheduler::Call: {reason}")]
    Call {
        /// What is wrong with it.
        reason: String,
    },
    /// A call of a type that nobody knows.
    #[error("This type of call is not implemented")]
    UnknownCall,
    /// A SUBSCRIBE that names a stream.
    #[error("Subscribe calls should not include the 'Mesos-Stream-Id' header")]
    StreamIdOnSubscribe,
    /// The core refused.
    #[error("{text}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words.
        text: String,
    },
    /// A body above the limit.
    #[error("The body is longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A body that broke off.
    #[error("The body is incomplete")]
    BrokenBody,
    /// A body that took too long.
    #[error("The body did not arrive in time")]
    SlowBody,
    /// A path that is not percent-encoded UTF-8.
    #[error("The path is not percent-encoded UTF-8")]
    Path,
    /// A query parameter that is missing.
    #[error("Expecting '{name}=value' in the query")]
    NoParameter {
        /// Its name.
        name: &'static str,
    },
    /// A query parameter that cannot be read.
    #[error("Cannot read '{name}={value}' of the query: expecting {expected}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A query that is no list of parameters.
    #[error("Cannot read the query")]
    Query,
    /// A request that should have named its host.
    #[error("Expecting 'Host' to be present")]
    NoHost,
    /// A change that came over the network.
    #[error(
        "This is changed from a node's own machine only: by the command line `mizzen`, or with the \
         same request at the node's socket or its loopback address"
    )]
    NotFromHere,
    /// A change that a browser asks for on behalf of another site.
    #[error(
        "A page of another site cannot change anything here; programs ask without the headers \
         Origin and Sec-Fetch-Site, and of a loopback address by its number or as localhost"
    )]
    OtherSite,
    /// A change that root asks for.
    #[error(
        "This is changed at the node's socket only, which is root's: by the command line `mizzen`, \
         or with `curl --unix-socket`"
    )]
    NotBySocket,
    /// What was asked for is the leading master's.
    #[error("No master leads at the moment")]
    NoLeader,
    /// The leading master did not answer.
    #[error("The leading master at {address} does not answer")]
    Leader {
        /// Where it should be.
        address: SocketAddr,
        /// What happened.
        source: std::io::Error,
    },
    /// A request came back that was passed on.
    #[error("The node that should lead says that another one does")]
    Loop,
    /// An answer of ours that is no HTTP.
    #[error("The answer cannot be written")]
    Answer,
    /// The core did not answer.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl HttpError {
    /// The status that goes with it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute { .. } => StatusCode::NOT_FOUND,
            Self::ContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::NotFromHere | Self::NotBySocket | Self::OtherSite => StatusCode::FORBIDDEN,
            Self::UnknownCall => StatusCode::NOT_IMPLEMENTED,
            Self::Refused { status, .. } => *status,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Answer => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Core(_) | Self::NoLeader => StatusCode::SERVICE_UNAVAILABLE,
            Self::Leader { .. } | Self::Loop => StatusCode::BAD_GATEWAY,
            Self::NoContentType
            | Self::Decode { .. }
            | Self::Call { .. }
            | Self::StreamIdOnSubscribe
            | Self::BrokenBody
            | Self::Path
            | Self::NoParameter { .. }
            | Self::Parameter { .. }
            | Self::Query
            | Self::NoHost => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        // Most refusals come before the body was read; what is left of it on the
        // connection is not worth keeping that open, and the client is told so.
        let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CONNECTION, "close")];
        (self.status(), headers, format!("{}\n", chain(&self))).into_response()
    }
}

fn decode_text(name: &str, error: &DecodeError) -> String {
    match error {
        DecodeError::Syntax(reason) => format!("Failed to parse body into JSON: {reason}"),
        DecodeError::Convert(reason) => {
            format!("Failed to convert JSON into {name}: {reason}")
        }
        DecodeError::Protobuf(reason) => {
            format!("Failed to parse body into {name}: {reason}")
        }
        DecodeError::Missing { path } => {
            format!("Failed to validate {name}: Not initialized: {path}")
        }
    }
}
