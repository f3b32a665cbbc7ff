//! The error answer of a plugin.

use std::error::Error;

use serde_json::{Value, json};

use crate::version::SpecVersion;

/// Error codes of CNI; from 100 on they are the plugin's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The configuration is of a version that we do not speak.
    IncompatibleVersion = 1,
    /// The configuration asks for something that we cannot do.
    UnsupportedField = 2,
    /// Environment variables are missing or make no sense.
    InvalidEnvironment = 4,
    /// Files or sockets failed.
    Io = 5,
    /// Standard input is no JSON.
    Undecodable = 6,
    /// The configuration makes no sense.
    InvalidConfig = 7,
    /// Nothing is wrong for ever; try again.
    TryAgain = 11,
    /// STATUS: no ADD would succeed now.
    NotAvailable = 50,
    /// No address is free.
    Exhausted = 100,
    /// An address or name is somebody else's.
    Conflict = 101,
    /// The kernel refused a link, an address or a route.
    Kernel = 102,
    /// CHECK found something missing or different.
    CheckFailed = 103,
    /// Another plugin that we had to call failed.
    Delegate = 104,
}

/// The JSON of an error answer: message from the error itself, details from its causes.
#[must_use]
pub fn to_json(version: SpecVersion, code: Code, error: &dyn Error) -> Value {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    json!({
        "cniVersion": version.as_str(),
        "code": code as u32,
        "msg": error.to_string(),
        "details": causes.join(": "),
    })
}
