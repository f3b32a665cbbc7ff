//! The versions of the CNI specification that we speak.

use std::fmt;
use std::str::FromStr;

/// A version of the specification, in the order of publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecVersion {
    /// Chained plugins, interfaces in results.
    V0_3_1,
    /// Adds CHECK.
    V0_4_0,
    /// Addresses no longer say their family.
    V1_0_0,
    /// Adds GC and STATUS, and the MTU of interfaces.
    V1_1_0,
}

impl SpecVersion {
    /// All versions, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// What an answer is written in when the question's version cannot be read.
    pub const FALLBACK: Self = Self::V1_0_0;

    /// The version as configurations write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version that we do not speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CNI version `{found}` is not one of 0.3.1, 0.4.0, 1.0.0, 1.1.0")]
pub struct UnknownVersion {
    /// What was asked for.
    pub found: String,
}

impl FromStr for SpecVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let known = Self::ALL.into_iter().find(|version| version.as_str() == text);
        known.ok_or_else(|| UnknownVersion { found: text.to_owned() })
    }
}
