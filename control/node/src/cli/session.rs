//! A conversation of one command with the node.

use super::error::CliError;
use super::table::Paint;
use crate::args::Output;
use mizzen_http::client::{Client, ClientError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Write;

/// The node, and how the answers are shown.
pub(super) struct Session {
    /// The way to the node.
    pub client: Client,
    /// What stdout wants.
    pub paint: Paint,
}

impl Session {
    /// Asks for a document.
    pub async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.client.get_json(path).await.map_err(|error| match error {
            ClientError::Status { status, text } => refused(status, text.as_bytes()),
            other => other.into(),
        })
    }

    /// Asks for a document and reads it.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        understand(path, self.get(path).await?)
    }

    /// Sends a change; the node's refusal is the error.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CliError> {
        let body = body.map(|body| body.to_string().into_bytes());
        let (status, answer) = self.client.request(method, path, body).await?;
        if !(200..300).contains(&status) {
            return Err(refused(status, &answer));
        }
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    /// Asks for a document and prints it: as it is, or as `render` has it.
    pub async fn show<T: DeserializeOwned>(
        &self,
        path: &str,
        output: Output,
        render: impl FnOnce(&T, Paint) -> String,
    ) -> Result<(), CliError> {
        let value = self.get(path).await?;
        if output.json {
            return print_json(&value);
        }
        print(&render(&understand(path, value)?, self.paint))
    }
}

/// Reads a document.
pub(super) fn understand<T: DeserializeOwned>(path: &str, value: Value) -> Result<T, CliError> {
    serde_json::from_value(value)
        .map_err(|source| CliError::Answer { path: path.to_owned(), source })
}

/// Prints a document as JSON.
pub(super) fn print_json(value: &Value) -> Result<(), CliError> {
    print(&format!("{value:#}\n"))
}

/// Prints; a reader that went away (`| head`) ends the command.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(CliError::Print)
}

/// A path's segment with everything else than letters, digits and `-._~/`
/// percent-encoded.
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn refused(status: u16, body: &[u8]) -> CliError {
    let reason = reason(body).unwrap_or_else(|| format!("status {status}"));
    CliError::Refused { status, reason }
}

/// The words in a body: Marathon's `message` with its details, or plain text.
fn reason(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let text = text.trim();
        return (!text.is_empty()).then(|| text.to_owned());
    };
    let mut reason = value.get("message")?.as_str()?.to_owned();
    for detail in value.get("details").and_then(Value::as_array).into_iter().flatten() {
        let path = detail.get("path").and_then(Value::as_str).unwrap_or_default();
        for error in detail.get("errors").and_then(Value::as_array).into_iter().flatten() {
            let error = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            reason.push_str(&format!("\n  {path}: {error}"));
        }
    }
    Some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_readable() {
        let body = br#"{"message":"Object is not valid","details":[
            {"path":"/cpus","errors":["must be >= 0"]},{"path":"/id","errors":["must not be empty"]}]}"#;
        let want = "Object is not valid\n  /cpus: must be >= 0\n  /id: must not be empty";
        assert_eq!(reason(body).as_deref(), Some(want));
        assert_eq!(reason(b" no such task\n").as_deref(), Some("no such task"));
        assert_eq!(reason(b""), None);
        assert_eq!(reason(b"{}"), None);
    }

    #[test]
    fn names_in_paths() {
        assert_eq!(encode("a b/ü?"), "a%20b/%C3%BC%3F");
    }
}
