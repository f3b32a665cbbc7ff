//! The cluster's root of trust: makes the certificates of nodes and the keys of datagrams,
//! and says whose certificates count no longer.
//!
//! It is a value with a secret key. The node that makes the cluster keeps it in its store;
//! nobody needs it but nodes that join and nodes whose certificates end, so it may be away
//! for weeks.

use crate::certificate::{AUTHORITY, BEFORE, Certificate, Root, TrustError, check_name};
use crate::issued::Expulsions;
use crate::seal::Epoch;
use crate::text;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Wall;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SignatureAlgorithm,
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use time::OffsetDateTime;

/// The authority's own certificate counts so long.
const LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Length of a public key in bytes.
pub const PUBLIC_KEY: usize = 32;

/// Of which node a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Any.
    Member,
    /// The one that has the authority: joining nodes tell their tokens to no other.
    Authority,
}

/// Makes certificates.
pub struct Authority {
    key: KeyPair,
    root: Root,
    name: String,
}

/// The authority as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    #[serde(with = "text::bytes")]
    key: Vec<u8>,
    #[serde(with = "text::bytes")]
    certificate: Vec<u8>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new cluster's.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if the machine has no randomness.
    pub fn generate(now: Wall) -> Result<Self, TrustError> {
        let mut random = [0; 6];
        let refused = |_| TrustError::Secret { request: "make" };
        SystemRandom::new().fill(&mut random).map_err(refused)?;
        let name = format!("mizzen cluster {}", text::encode(&random));
        let key = generate_key()?;
        let mut params = issuer(&name);
        (params.not_before, params.not_after) = (moment(before(now)), moment(after(now, LIFE)));
        let certificate = params
            .self_signed(&key)
            .map_err(|source| TrustError::Certificate { node: name.clone(), source })?;
        Ok(Self { key, root: Root::new(certificate.der().to_vec()), name })
    }

    /// To be kept where nobody else can read it.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if it cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrustError> {
        let kept = Kept {
            name: self.name.clone(),
            key: self.key.serialize_der(),
            certificate: self.root.der().to_vec(),
        };
        serde_json::to_vec(&kept).map_err(|_| TrustError::Secret { request: "write" })
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if it is not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrustError> {
        let unreadable = |_| TrustError::Secret { request: "read" };
        let kept: Kept = serde_json::from_slice(bytes).map_err(unreadable)?;
        let key = read_key(&kept.key)?;
        Ok(Self { key, root: Root::new(kept.certificate), name: kept.name })
    }

    /// Its certificate.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// A certificate of `node` that counts for `life` from now on.
    ///
    /// # Errors
    ///
    /// [`TrustError::Name`], or [`TrustError::Certificate`].
    pub fn certify(
        &self,
        node: &OwnerId,
        public_key: &[u8; PUBLIC_KEY],
        standing: Standing,
        (now, life): (Wall, Duration),
    ) -> Result<Certificate, TrustError> {
        check_name(node)?;
        let refused = |source| TrustError::Certificate { node: node.to_string(), source };
        let names = match standing {
            Standing::Member => vec![node.to_string()],
            Standing::Authority => vec![node.to_string(), AUTHORITY.to_owned()],
        };
        let mut params = CertificateParams::new(names).map_err(refused)?;
        let (from, until) = (before(now), after(now, life));
        (params.not_before, params.not_after) = (moment(from), moment(until));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let issuer = Issuer::new(issuer(&self.name), &self.key);
        let certificate = params.signed_by(&Public(*public_key), &issuer).map_err(refused)?;
        Ok(Certificate { der: certificate.der().to_vec(), from, until })
    }

    /// A new key of datagrams.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if the machine has no randomness.
    pub fn new_epoch(&self, number: u32, now: Wall) -> Result<Epoch, TrustError> {
        let mut key = vec![0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| TrustError::Secret { request: "make" })?;
        let mut epoch = Epoch { number, made: now, key, signature: Vec::new() };
        epoch.signature = self.sign(&epoch.message())?;
        Ok(epoch)
    }

    /// The list `before` with one more node on it, whose certificates do not count any
    /// more, and neither do keys of datagrams before `first_epoch`.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if the key cannot be used.
    pub fn expel(
        &self,
        before: &Expulsions,
        node: &OwnerId,
        first_epoch: u32,
        now: Wall,
    ) -> Result<Expulsions, TrustError> {
        let mut nodes = before.nodes.clone();
        nodes.insert(node.clone(), now);
        let number = before.number + 1;
        let mut list = Expulsions { number, first_epoch, nodes, signature: Vec::new() };
        list.signature = self.sign(&list.message())?;
        Ok(list)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TrustError> {
        rcgen::SigningKey::sign(&self.key, message)
            .map_err(|source| TrustError::Key { request: "use", source })
    }
}

/// A new key of a node or of an authority.
pub(crate) fn generate_key() -> Result<KeyPair, TrustError> {
    KeyPair::generate_for(&PKCS_ED25519)
        .map_err(|source| TrustError::Key { request: "make", source })
}

/// A key as it was kept (PKCS #8).
pub(crate) fn read_key(pkcs8: &[u8]) -> Result<KeyPair, TrustError> {
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8);
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)
        .map_err(|source| TrustError::Key { request: "read", source })
}

/// A public key to be certified.
struct Public([u8; PUBLIC_KEY]);

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

fn issuer(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// Certificates know whole seconds.
fn whole(wall: Wall) -> Wall {
    Wall(wall.0 - wall.0 % 1_000_000_000)
}

fn before(now: Wall) -> Wall {
    whole(Wall(now.0.saturating_sub(BEFORE.as_nanos() as u64)))
}

fn after(now: Wall, life: Duration) -> Wall {
    whole(Wall(now.0.saturating_add(life.as_nanos() as u64)))
}

fn moment(wall: Wall) -> OffsetDateTime {
    let seconds = i64::try_from(wall.0 / 1_000_000_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
