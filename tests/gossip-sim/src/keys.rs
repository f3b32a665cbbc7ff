//! Signatures: quick ones that nobody could use, and real ones to see what they cost.

use mizzen_membership::exchange::Keys;
use mizzen_types::ids::OwnerId;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// As long as a certificate.
const CREDENTIAL: usize = 350;

/// Signatures that are hashes of the signer's name and the message, as long as real ones.
#[derive(Debug, Clone)]
pub struct QuickKeys(pub OwnerId);

impl Keys for QuickKeys {
    fn credential(&self) -> Vec<u8> {
        vec![7; CREDENTIAL]
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        quick(&self.0, message)
    }

    fn verify(&self, node: &OwnerId, _: &[u8], message: &[u8], signature: &[u8]) -> bool {
        quick(node, message) == signature
    }
}

fn quick(node: &OwnerId, message: &[u8]) -> Vec<u8> {
    let mut hasher = SipHasher13::new();
    hasher.write(node.as_str().as_bytes());
    hasher.write(message);
    hasher.finish128().as_bytes().repeat(4)
}

/// Ed25519, and a credential that is a public key signed by a cluster's key: two
/// signatures are checked for each head, as with certificates.
pub struct RealKeys {
    own: Ed25519KeyPair,
    credential: Vec<u8>,
    cluster: Vec<u8>,
}

impl RealKeys {
    /// The keys of a node whose seed is `seed`, in the cluster of all such nodes.
    ///
    /// # Panics
    ///
    /// If ring refuses 32 bytes as a seed.
    #[must_use]
    #[allow(clippy::expect_used, reason = "any 32 bytes are a seed")]
    pub fn new(node: &OwnerId, seed: u64) -> Self {
        let pair = |seed: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            Ed25519KeyPair::from_seed_unchecked(&bytes).expect("any 32 bytes are a seed")
        };
        let (cluster, own) = (pair(0), pair(seed + 1));
        let mut credential = own.public_key().as_ref().to_vec();
        credential.extend_from_slice(node.as_str().as_bytes());
        let signature = cluster.sign(&credential);
        let mut credential = credential[..32].to_vec();
        credential.extend_from_slice(signature.as_ref());
        credential.resize(CREDENTIAL, 0);
        Self { own, credential, cluster: cluster.public_key().as_ref().to_vec() }
    }
}

impl Keys for RealKeys {
    fn credential(&self) -> Vec<u8> {
        self.credential.clone()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.own.sign(message).as_ref().to_vec()
    }

    fn verify(&self, node: &OwnerId, credential: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let Some((key, rest)) = credential.split_at_checked(32) else { return false };
        let Some(by_cluster) = rest.get(..64) else { return false };
        let certified = [key, node.as_str().as_bytes()].concat();
        UnparsedPublicKey::new(&ED25519, &self.cluster).verify(&certified, by_cluster).is_ok()
            && UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
    }
}
