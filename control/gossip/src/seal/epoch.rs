//! The key that all nodes share for a while.

use crate::certificate::BEFORE;
use crate::text;
use mizzen_types::time::Wall;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Said with everything that is derived or signed, so that it cannot stand for anything else.
const DERIVE: &[u8] = b"mizzen datagram key 1";
const SIGN: &[u8] = b"mizzen datagram epoch 1";

/// A key of datagrams, signed by the authority.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Grows by one with each.
    pub number: u32,
    /// When it was made, by the authority's clock.
    pub made: Wall,
    #[serde(with = "text::bytes")]
    pub(crate) key: Vec<u8>,
    #[serde(with = "text::bytes")]
    pub(crate) signature: Vec<u8>,
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoch").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Epoch {
    /// Whether the next key is made: this one has been there for `rotation`, or was made by a
    /// clock that was ahead, and would stay until that time has come once more.
    #[must_use]
    pub fn is_due(&self, rotation: Duration, now: Wall) -> bool {
        let age = Duration::from_nanos(now.0.saturating_sub(self.made.0));
        let ahead = Duration::from_nanos(self.made.0.saturating_sub(now.0));
        age >= rotation || ahead > BEFORE
    }

    /// What the authority signs.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut message = SIGN.to_vec();
        message.extend_from_slice(&self.number.to_be_bytes());
        message.extend_from_slice(&self.made.0.to_be_bytes());
        message.extend_from_slice(&self.key);
        message
    }

    pub(super) fn derive(&self, sender: &[u8; 8]) -> Option<LessSafeKey> {
        let prk = Prk::new_less_safe(HKDF_SHA256, &self.key);
        let info = [DERIVE, sender];
        let okm = prk.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}
