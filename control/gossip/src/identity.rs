//! What a node proves itself by.

use crate::authority::PUBLIC_KEY;
use crate::certificate::{Certificate, Root, TrustError, is_authority_credential};
use crate::issued::{Expulsions, Issued};
use crate::text;
use mizzen_membership::exchange::Keys;
use mizzen_types::ids::OwnerId;
use parking_lot::RwLock;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The secret key of a node.
#[derive(Clone)]
pub struct NodeKey(Arc<Pair>);

struct Pair {
    /// Signs, which never fails for a key of this kind.
    key: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey(…)")
    }
}

impl NodeKey {
    /// A new one.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if the machine has no randomness.
    pub fn generate() -> Result<Self, TrustError> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        Self::from_bytes(made.map_err(|_| TrustError::Secret { request: "make" })?.as_ref())
    }

    /// To be kept where nobody else can read it (PKCS #8).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.pkcs8.clone()
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if it is not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrustError> {
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
            .map_err(|_| TrustError::Secret { request: "read" })?;
        Ok(Self(Arc::new(Pair { key, pkcs8: bytes.to_vec() })))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> [u8; PUBLIC_KEY] {
        let mut key = [0; PUBLIC_KEY];
        key.copy_from_slice(self.0.key.public_key().as_ref());
        key
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.key.sign(message).as_ref().to_vec()
    }

    pub(crate) fn to_tls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.to_bytes()))
    }
}

/// A node's place in a cluster.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Its name.
    pub node: OwnerId,
    /// Its key.
    pub key: NodeKey,
    /// Its certificate.
    pub certificate: Certificate,
    /// The authority's.
    pub root: Root,
}

/// The same as it is kept, with what the authority issued.
#[derive(Serialize, Deserialize)]
struct Kept {
    node: OwnerId,
    #[serde(with = "text::bytes")]
    key: Vec<u8>,
    certificate: Certificate,
    #[serde(with = "text::bytes")]
    root: Vec<u8>,
    #[serde(flatten)]
    issued: Issued,
}

impl Credentials {
    /// To be kept where nobody else can read it, with what the authority issued.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if it cannot be written.
    pub fn to_bytes(&self, issued: &Issued) -> Result<Vec<u8>, TrustError> {
        let kept = Kept {
            node: self.node.clone(),
            key: self.key.to_bytes(),
            certificate: self.certificate.clone(),
            root: self.root.der().to_vec(),
            issued: issued.clone(),
        };
        serde_json::to_vec(&kept).map_err(|_| TrustError::Secret { request: "write" })
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if it is not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, Issued), TrustError> {
        let unreadable = |_| TrustError::Secret { request: "read" };
        let kept: Kept = serde_json::from_slice(bytes).map_err(unreadable)?;
        let key = NodeKey::from_bytes(&kept.key)?;
        let (node, certificate) = (kept.node, kept.certificate);
        let root = Root::new(kept.root);
        Ok((Self { node, key, certificate, root }, kept.issued))
    }
}

/// Signs a node's logs and judges those of others.
#[derive(Debug, Clone)]
pub struct Signer {
    key: NodeKey,
    credential: Arc<RwLock<Vec<u8>>>,
    root: Root,
    /// Of these nothing counts, whenever they said it.
    expulsions: Arc<RwLock<Expulsions>>,
}

impl Signer {
    /// With a node's credentials.
    #[must_use]
    pub fn new(credentials: &Credentials) -> Self {
        let credential = Arc::new(RwLock::new(credentials.certificate.credential()));
        let (key, root) = (credentials.key.clone(), credentials.root.clone());
        Self { key, credential, root, expulsions: Arc::default() }
    }

    /// Nothing counts any more that these nodes say.
    pub fn expel(&self, expulsions: &Expulsions) {
        *self.expulsions.write() = expulsions.clone();
    }

    /// What is signed from now on goes with another certificate of the same key.
    pub fn renew(&self, certificate: &Certificate) {
        *self.credential.write() = certificate.credential();
    }
}

impl Keys for Signer {
    fn credential(&self) -> Vec<u8> {
        self.credential.read().clone()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message)
    }

    fn verify(&self, node: &OwnerId, credential: &[u8], message: &[u8], signature: &[u8]) -> bool {
        !self.expulsions.read().has(node)
            && self.root.check_credential(node, credential, message, signature).is_ok()
    }

    fn is_authority(&self, credential: &[u8]) -> bool {
        is_authority_credential(credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, Standing};
    use mizzen_types::time::Wall;
    use rustls::pki_types::{CertificateDer, UnixTime};
    use std::time::Duration;

    const NOW: Wall = Wall(1_800_000_000_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn credentials(authority: &Authority, node: &str) -> Credentials {
        let (node, key) = (OwnerId::from(node), NodeKey::generate().unwrap());
        let made = authority.certify(&node, &key.public(), Standing::Member, (NOW, DAY));
        let root = authority.root().clone();
        Credentials { node, key, certificate: made.unwrap(), root }
    }

    #[test]
    fn a_signature_is_that_of_its_node_and_of_nothing_else() {
        let authority = Authority::generate(NOW).unwrap();
        let other = Authority::generate(NOW).unwrap();
        let a = Signer::new(&credentials(&authority, "a"));
        let b = Signer::new(&credentials(&authority, "b"));
        let stranger = Signer::new(&credentials(&other, "a"));
        let signature = a.sign(b"text");
        assert!(b.verify(&"a".into(), &a.credential(), b"text", &signature));
        assert!(!b.verify(&"b".into(), &a.credential(), b"text", &signature), "of another");
        assert!(!b.verify(&"a".into(), &a.credential(), b"texts", &signature), "other text");
        assert!(!b.verify(&"a".into(), &b.credential(), b"text", &signature), "other key");
        let foreign = stranger.sign(b"text");
        assert!(!b.verify(&"a".into(), &stranger.credential(), b"text", &foreign));
        for length in [0, 7, 8, 60] {
            assert!(!b.verify(&"a".into(), &a.credential()[..length], b"text", &signature));
        }
    }

    #[test]
    fn only_the_authority_s_node_speaks_with_its_word() {
        let authority = Authority::generate(NOW).unwrap();
        let member = credentials(&authority, "a");
        let first =
            authority.certify(&member.node, &member.key.public(), Standing::Authority, (NOW, DAY));
        let signer = Signer::new(&member);
        assert!(!signer.is_authority(&signer.credential()) && !signer.is_authority(b"short"));
        assert!(signer.is_authority(&first.unwrap().credential()));
    }

    #[test]
    fn a_certificate_ends_and_what_was_signed_stays() {
        let authority = Authority::generate(NOW).unwrap();
        let a = credentials(&authority, "a");
        let der = CertificateDer::from(a.certificate.der.clone());
        let at = |wall: Wall| UnixTime::since_unix_epoch(Duration::from_nanos(wall.0));
        assert!(authority.root().check(&der, at(NOW)).is_ok());
        let late = Wall(NOW.0 + 2 * DAY.as_nanos() as u64);
        assert!(authority.root().check(&der, at(late)).is_err());
        let signer = Signer::new(&a);
        // Judging a signature asks no clock at all.
        assert!(signer.verify(&a.node, &signer.credential(), b"old", &signer.sign(b"old")));
    }

    #[test]
    fn what_is_kept_comes_back_and_says_nothing_in_logs() {
        let authority = Authority::generate(NOW).unwrap();
        let again = Authority::from_bytes(&authority.to_bytes().unwrap()).unwrap();
        let a = credentials(&again, "a");
        let epoch = again.new_epoch(1, NOW).unwrap();
        let expulsions = again.expel(&Expulsions::default(), &"b".into(), 1, NOW).unwrap();
        let issued = Issued { epochs: vec![epoch], expulsions };
        let (b, kept) = Credentials::from_bytes(&a.to_bytes(&issued).unwrap()).unwrap();
        assert_eq!((b.key.public(), b.node, kept), (a.key.public(), a.node.clone(), issued));
        let (text, secret) = (format!("{a:?} {again:?}"), text::encode(&a.key.to_bytes()));
        assert!(!text.contains(&secret) && text.contains("NodeKey(…)"));
    }

    #[test]
    fn names_that_are_no_dns_names_get_no_certificate() {
        let authority = Authority::generate(NOW).unwrap();
        let key = NodeKey::generate().unwrap();
        for name in ["", "A", "a.b", "a/master", "-a", &"a".repeat(64)] {
            let made = authority.certify(&name.into(), &key.public(), Standing::Member, (NOW, DAY));
            assert!(matches!(made, Err(TrustError::Name(_))), "{name}");
        }
    }
}
