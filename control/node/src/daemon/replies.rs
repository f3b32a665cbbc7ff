//! Answers to requests that are taken apart in the loop: what is kept by hand.

use mizzen_http::core::ServicesReply;
use serde::Serialize;

/// An answer that is not what was asked for.
pub(crate) struct Refusal {
    status: u16,
    text: String,
    /// Methods that are allowed, where this one is not.
    allow: Option<&'static str>,
}

/// An answer, or why there is none.
pub(crate) type Answer = Result<ServicesReply, Refusal>;

impl Refusal {
    /// The refusal as a reply.
    pub(crate) fn reply(self) -> ServicesReply {
        let kind = ("Content-Type", "text/plain; charset=utf-8");
        let allow = self.allow.map(|methods| ("Allow", methods));
        let headers = [kind].into_iter().chain(allow).map(|(n, v)| header(n, v)).collect();
        let body = format!("{}\n", self.text).into_bytes();
        ServicesReply { status: self.status, headers, body }
    }
}

/// A refusal with a status and a sentence.
pub(crate) fn refuse(status: u16, text: impl Into<String>) -> Refusal {
    Refusal { status, text: text.into(), allow: None }
}

/// Whether a method is one of those `allowed`, which are separated by commas.
pub(crate) fn only(method: &str, allowed: &'static str) -> Result<(), Refusal> {
    if allowed.split(", ").any(|allowed| allowed == method) {
        return Ok(());
    }
    let refusal = refuse(405, format!("{method} is not allowed here, but {allowed}"));
    Err(Refusal { allow: Some(allowed), ..refusal })
}

/// A request that cannot be understood.
pub(crate) fn bad(error: impl std::fmt::Display) -> Refusal {
    refuse(400, error.to_string())
}

/// A document.
pub(crate) fn json(status: u16, value: &impl Serialize) -> ServicesReply {
    let headers = vec![header("Content-Type", "application/json")];
    // Nothing that is shown has keys that are no texts, so there is no error to tell of.
    ServicesReply { status, headers, body: serde_json::to_vec(value).unwrap_or_default() }
}

/// Done, with nothing to say.
pub(crate) fn empty(status: u16) -> ServicesReply {
    ServicesReply { status, headers: Vec::new(), body: Vec::new() }
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
