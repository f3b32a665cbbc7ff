//! Certificates: whose one is, and whether the cluster's authority made it.
//!
//! A node's certificate carries the node's name as its DNS name; that of the authority's
//! node carries [`AUTHORITY`] as well. All keys are Ed25519.

use crate::text;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Wall;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};

/// DNS name in the certificate of the node that has the authority.
pub const AUTHORITY: &str = "authority.mizzen.internal";
/// Signatures that are known here.
const ALGORITHMS: &[&dyn rustls::pki_types::SignatureVerificationAlgorithm] =
    &[webpki::ring::ED25519];
/// Certificates count from so long before they are made: clocks differ.
pub(crate) const BEFORE: Duration = Duration::from_secs(3600);
/// What an Ed25519 key begins with in a certificate (RFC 8410, 4).
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
/// Longest label of a DNS name.
const MAX_NAME: usize = 63;

/// A key, a certificate or a signature that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Names of nodes become DNS names.
    #[error("`{0}` cannot be the name of a node: lower case letters, digits and -, at most 63")]
    Name(String),
    /// A key could not be made or used.
    #[error("cannot {request} a key")]
    Key {
        /// What was to be done, as a verb.
        request: &'static str,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
    /// No more is said than that: ring does not, and what others say may hold the key.
    #[error("cannot {request} a key")]
    Secret {
        /// What was to be done, as a verb.
        request: &'static str,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of {node}")]
    Certificate {
        /// Whose.
        node: String,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate is not one of this cluster, or not any more.
    #[error("the certificate is not one of this cluster's, or not at this time")]
    Untrusted(#[source] webpki::Error),
    /// A certificate does not name a node.
    #[error("the certificate names no node")]
    Nameless,
    /// A signature is not that of who should have signed.
    #[error("the signature is wrong")]
    Signature,
    /// TLS refuses a key or a certificate.
    #[error("TLS refuses this node's certificate")]
    Tls(#[source] Box<rustls::Error>),
}

/// A certificate as its authority made it, with what else it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// DER.
    #[serde(with = "text::bytes")]
    pub der: Vec<u8>,
    /// From when it counts.
    pub from: Wall,
    /// Until when.
    pub until: Wall,
}

impl Certificate {
    /// How long until a new one is asked for: until the last third of its time begins. One that
    /// does not count yet is renewed at once: the clock by which it was made was ahead, and
    /// nobody takes it for months.
    #[must_use]
    pub fn renew_in(&self, now: Wall) -> Duration {
        if now < self.from {
            return Duration::ZERO;
        }
        let life =
            self.until.0.saturating_sub(self.from.0).saturating_sub(BEFORE.as_nanos() as u64);
        let at = self.until.0 - life / 3;
        Duration::from_nanos(at.saturating_sub(now.0))
    }

    /// Whether its time has come and is not over.
    #[must_use]
    pub fn counts_at(&self, now: Wall) -> bool {
        self.from <= now && now < self.until
    }

    /// Whose it is, if the authority made it and it counts at `at`.
    ///
    /// # Errors
    ///
    /// [`TrustError`].
    pub fn check(&self, root: &Root, at: Wall) -> Result<OwnerId, TrustError> {
        let der = CertificateDer::from(self.der.as_slice());
        root.check(&der, UnixTime::since_unix_epoch(Duration::from_nanos(at.0)))?;
        node_of(&der)
    }

    /// What others need to judge signatures of its key: a moment at which it counts, and
    /// itself. So what was signed stays signed when the certificate has ended.
    #[must_use]
    pub fn credential(&self) -> Vec<u8> {
        let mut bytes = (self.from.0 / 1_000_000_000 + 1).to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.der);
        bytes
    }
}

/// The authority's certificate, to check others by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(CertificateDer<'static>);

impl Root {
    /// From DER.
    #[must_use]
    pub fn new(der: Vec<u8>) -> Self {
        Self(der.into())
    }

    /// The certificate.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.0
    }

    /// SHA-256 of it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.0)
    }

    /// Whether the authority made a certificate, and at `at` it counts.
    ///
    /// # Errors
    ///
    /// [`TrustError::Untrusted`].
    pub fn check(&self, der: &CertificateDer<'_>, at: UnixTime) -> Result<(), TrustError> {
        let anchor = webpki::anchor_from_trusted_cert(&self.0).map_err(TrustError::Untrusted)?;
        let leaf = EndEntityCert::try_from(der).map_err(TrustError::Untrusted)?;
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(ALGORITHMS, &[anchor], &[], at, usage, None, None)
            .map_err(TrustError::Untrusted)?;
        Ok(())
    }

    /// Whether the authority itself signed `message`.
    ///
    /// # Errors
    ///
    /// [`TrustError::Signature`].
    pub fn check_signed(&self, message: &[u8], signature: &[u8]) -> Result<(), TrustError> {
        signed_by(&self.0, message, signature)
    }

    /// Whether `node` signed `message`, going by a [credential](Certificate::credential)
    /// that came from anywhere.
    ///
    /// # Errors
    ///
    /// [`TrustError`].
    pub fn check_credential(
        &self,
        node: &OwnerId,
        credential: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TrustError> {
        let (seconds, der) = credential.split_first_chunk::<8>().ok_or(TrustError::Nameless)?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::from_be_bytes(*seconds)));
        let der = CertificateDer::from(der);
        self.check(&der, at)?;
        if node_of(&der)? != *node {
            return Err(TrustError::Nameless);
        }
        signed_by(&der, message, signature)
    }
}

/// SHA-256 of a certificate.
#[must_use]
pub fn fingerprint(der: &CertificateDer<'_>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, der).as_ref());
    bytes
}

/// Which node a certificate is that of. Whether it is genuine is another question.
///
/// # Errors
///
/// [`TrustError::Nameless`], or that it is no certificate at all.
pub fn node_of(der: &CertificateDer<'_>) -> Result<OwnerId, TrustError> {
    let leaf = EndEntityCert::try_from(der).map_err(TrustError::Untrusted)?;
    let name = leaf.valid_dns_names().find(|name| *name != AUTHORITY);
    name.map(OwnerId::new).ok_or(TrustError::Nameless)
}

/// Whether a certificate is that of this key.
#[must_use]
pub fn is_of_key(der: &CertificateDer<'_>, public_key: &[u8]) -> bool {
    EndEntityCert::try_from(der)
        .is_ok_and(|leaf| *leaf.subject_public_key_info() == *[&ED25519, public_key].concat())
}

/// Whether a certificate is that of the authority's node.
#[must_use]
pub fn is_authority(der: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(der)
        .is_ok_and(|leaf| leaf.valid_dns_names().any(|name| name == AUTHORITY))
}

/// The same of a [`credential`](Certificate::credential).
#[must_use]
pub fn is_authority_credential(credential: &[u8]) -> bool {
    let der = credential.get(size_of::<u64>()..).unwrap_or_default();
    is_authority(&CertificateDer::from(der))
}

/// Whether a text can be the name of a node.
///
/// # Errors
///
/// [`TrustError::Name`].
pub fn check_name(node: &OwnerId) -> Result<(), TrustError> {
    let name = node.as_str();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let right = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if right { Ok(()) } else { Err(TrustError::Name(name.to_owned())) }
}

fn signed_by(der: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> Result<(), TrustError> {
    let certificate = EndEntityCert::try_from(der).map_err(TrustError::Untrusted)?;
    certificate
        .verify_signature(webpki::ring::ED25519, message, signature)
        .map_err(|_| TrustError::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn at(seconds: u64) -> Wall {
        Wall((1_800_000_000 + seconds) * 1_000_000_000)
    }

    #[test]
    fn when_a_certificate_counts_and_when_the_next_one_is_asked_for() {
        // Made after 100 days, for 90: it counts from an hour before.
        let made = 100 * DAY;
        let (from, until) = (at(made - HOUR), at(made + 90 * DAY));
        let certificate = Certificate { der: Vec::new(), from, until };
        #[rustfmt::skip]
        let table = [
            ("just made",                made,                60 * DAY,     true),
            ("a clock a little behind",  made - HOUR,         60 * DAY + HOUR, true),
            ("half of its time",         made + 45 * DAY,     15 * DAY,     true),
            ("two thirds of it",         made + 60 * DAY,     0,            true),
            ("its last second",          made + 90 * DAY - 1, 0,            true),
            ("its end",                  made + 90 * DAY,     0,            false),
            ("made by a clock ahead",    made - 61 * DAY,     0,            false),
            ("the second before it",     made - HOUR - 1,     0,            false),
        ];
        for (name, now, wait, counts) in table {
            assert_eq!(certificate.renew_in(at(now)), Duration::from_secs(wait), "{name}");
            assert_eq!(certificate.counts_at(at(now)), counts, "{name}");
        }
    }
}
