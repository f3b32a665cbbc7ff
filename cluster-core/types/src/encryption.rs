//! Words of the encryption between nodes: what one says so that others send it packets that
//! nobody else can read.

use crate::text::as_text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The public half of a node's WireGuard key pair, written as WireGuard's tools do (base64).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 bytes in base64")]
pub struct KeyError;

/// Where a node takes encrypted packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireguardEnd {
    /// Whom they are encrypted for.
    pub public_key: PublicKey,
    /// UDP port, on the node's address under the tunnels.
    pub port: u16,
    /// What it does with packets that are not.
    #[serde(default, skip_serializing_if = "PlainPackets::are_taken")]
    pub plain: PlainPackets,
}

/// What a node that encrypts does with packets of tunnels that are not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainPackets {
    /// It takes them, and sends them to nodes that do not encrypt.
    #[default]
    Taken,
    /// It drops them, and sends none.
    Refused,
}

impl PlainPackets {
    /// Whether it takes them.
    #[must_use]
    pub fn are_taken(&self) -> bool {
        *self == Self::Taken
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| KeyError)?;
        bytes.try_into().map(Self).map_err(|_| KeyError)
    }
}

as_text!(PublicKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_as_text_and_back() {
        let text = r#"{"public_key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","port":64001}"#;
        let end: WireguardEnd = serde_json::from_str(text).unwrap();
        assert_eq!((end.public_key, end.plain), (PublicKey([1; 32]), PlainPackets::Taken));
        assert_eq!(serde_json::to_string(&end).unwrap(), text);
        let refusing = WireguardEnd { plain: PlainPackets::Refused, ..end };
        let text = serde_json::to_string(&refusing).unwrap();
        assert!(text.ends_with(r#""plain":"refused"}"#), "{text}");
        assert_eq!(serde_json::from_str::<WireguardEnd>(&text).unwrap(), refusing);
        for wrong in ["", "AQEB", "no base64", &"A".repeat(44)] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(KeyError), "{wrong}");
        }
    }
}
