//! Addresses of links.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A link-layer address of 6 bytes, written `70:b3:d5:80:00:05`, in JSON too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is no link-layer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a link-layer address is six hexadecimal bytes with colons between them")]
pub struct MacError;

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let octets: Result<Vec<u8>, _> =
            text.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
        octets.map_err(|_| MacError)?.try_into().map(Self).map_err(|_| MacError)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_as_text_and_back() {
        let mac = Mac([0x70, 0xb3, 0xd5, 0x80, 0, 5]);
        assert_eq!(mac.to_string(), "70:b3:d5:80:00:05");
        assert_eq!("70:B3:d5:80:0:5".parse(), Ok(mac));
        let json = serde_json::to_string(&mac).unwrap();
        assert_eq!(json, r#""70:b3:d5:80:00:05""#);
        assert_eq!(serde_json::from_str::<Mac>(&json).unwrap(), mac);
        let error = serde_json::from_str::<Mac>(r#""70:b3""#).unwrap_err();
        assert!(error.to_string().starts_with(&MacError.to_string()), "{error}");
        for bad in ["", "70:b3:d5", "g", "70:b3:d5:80:00:05:06", "70:b3:d5:80:00:100"] {
            assert_eq!(bad.parse::<Mac>(), Err(MacError), "{bad}");
        }
    }
}
