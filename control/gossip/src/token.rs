//! Tokens: what lets a new node in.
//!
//! A token names the cluster by its authority's fingerprint, so that the joining node
//! knows whom it may tell the token's secret. The authority's node keeps a hash of it.

use crate::authority::PUBLIC_KEY;
use crate::certificate::{Root, TrustError};
use crate::text;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Wall;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What tokens begin with.
const PREFIX: &str = "mzn1_";
const ID: usize = 8;
const SECRET: usize = 16;
const FINGERPRINT: usize = 32;
/// Records of tokens that ended are kept so long, to say so to those who come late.
const KEEP: Duration = Duration::from_secs(86_400);

/// What a person copies from one node to another.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: [u8; ID],
    secret: [u8; SECRET],
    fingerprint: [u8; FINGERPRINT],
    /// When it ends.
    pub expires: Wall,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no token; `mizzen join-token` prints one")]
pub struct NoToken;

impl Token {
    /// The token as text. It is a secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        let seconds = (self.expires.0 / 1_000_000_000).to_be_bytes();
        let parts = [&self.id[..], &self.secret, &self.fingerprint, &seconds];
        format!("{PREFIX}{}", text::encode(&parts.concat()))
    }

    /// What [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    ///
    /// [`NoToken`].
    pub fn parse(text: &str) -> Result<Self, NoToken> {
        let coded = text.trim().strip_prefix(PREFIX).ok_or(NoToken)?;
        let bytes = text::decode(coded).ok_or(NoToken)?;
        let (id, rest) = bytes.split_first_chunk::<ID>().ok_or(NoToken)?;
        let (secret, rest) = rest.split_first_chunk::<SECRET>().ok_or(NoToken)?;
        let (fingerprint, rest) = rest.split_first_chunk::<FINGERPRINT>().ok_or(NoToken)?;
        let seconds: [u8; 8] = rest.try_into().map_err(|_| NoToken)?;
        let expires = u64::from_be_bytes(seconds).checked_mul(1_000_000_000).ok_or(NoToken)?;
        let expires = Wall(expires);
        Ok(Self { id: *id, secret: *secret, fingerprint: *fingerprint, expires })
    }

    /// What it is called; no secret.
    #[must_use]
    pub fn id(&self) -> String {
        text::encode(&self.id)
    }

    pub(crate) fn secret(&self) -> String {
        text::encode(&self.secret)
    }

    /// SHA-256 of the authority's certificate.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; FINGERPRINT] {
        &self.fingerprint
    }
}

/// Why nobody comes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such token.
    #[error("the token is not known")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// As many nodes as may have come in by it.
    #[error("the token was used")]
    Used,
    /// Another key has the node's name.
    #[error("another node has the same id; a copied state directory needs a new one")]
    Taken,
    /// The node was thrown out.
    #[error("the node was expelled; with a new state directory it can join as another one")]
    Expelled,
    /// The request was not signed by the key that it is about.
    #[error("the request is not signed by its key")]
    Unsigned,
    /// This node cannot take anybody in at the moment.
    #[error("the authority's node cannot take it in: {0}")]
    Unable(String),
}

/// Who wants in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applicant {
    /// Id of its token.
    pub token: String,
    /// The token's secret.
    pub(crate) secret: String,
    /// What it calls itself.
    pub node: OwnerId,
    #[serde(with = "text::bytes")]
    pub(crate) public_key: Vec<u8>,
    /// Of all of that, by that key.
    #[serde(with = "text::bytes")]
    pub(crate) signature: Vec<u8>,
}

impl std::fmt::Debug for Applicant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applicant").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Applicant {
    /// The key that is to be certified.
    #[must_use]
    pub fn public_key(&self) -> Option<[u8; PUBLIC_KEY]> {
        self.public_key.as_slice().try_into().ok()
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        let parts =
            [&self.token, &self.secret, self.node.as_str(), &text::encode(&self.public_key)];
        format!("mizzen join 1\n{}", parts.join("\n")).into_bytes()
    }
}

/// What the authority's node knows of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// SHA-256 of the secret.
    #[serde(with = "text::bytes")]
    hash: Vec<u8>,
    /// When it ends.
    pub expires: Wall,
    /// So many nodes may come in by it.
    pub uses: u32,
    /// Those that did.
    pub used_by: Vec<OwnerId>,
}

impl TokenRecord {
    /// Whether a node that was not there before may come in by it.
    #[must_use]
    pub fn is_open(&self, now: Wall) -> bool {
        now < self.expires && self.used_by.len() < self.uses as usize
    }
}

/// The tokens of a cluster, and whose key has which name.
#[derive(Debug, Default)]
pub struct Tokens {
    records: BTreeMap<String, TokenRecord>,
    names: BTreeMap<OwnerId, Vec<u8>>,
}

impl Tokens {
    /// Takes in a record of before.
    pub fn adopt(&mut self, id: String, record: TokenRecord) {
        self.records.insert(id, record);
    }

    /// Takes in that a key has a name.
    pub fn adopt_name(&mut self, node: OwnerId, public_key: Vec<u8>) {
        self.names.insert(node, public_key);
    }

    /// The record of a token.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&TokenRecord> {
        self.records.get(id)
    }

    /// All tokens that may be used or were used lately, by id. No secret is among it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TokenRecord)> {
        self.records.iter().map(|(id, record)| (id.as_str(), record))
    }

    /// Has a token let nobody in any more. Whether there was one; those that came in by it stay.
    pub fn revoke(&mut self, id: &str) -> bool {
        self.records.remove(id).is_some()
    }

    /// Whether a key was certified as that of a node.
    #[must_use]
    pub fn is_key_of(&self, node: &OwnerId, public_key: &[u8]) -> bool {
        self.names.get(node).is_some_and(|key| key == public_key)
    }

    /// Whether any key is known of a node.
    #[must_use]
    pub fn has_name(&self, node: &OwnerId) -> bool {
        self.names.contains_key(node)
    }

    /// Makes a token that lets `uses` nodes in during `ttl`.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if the machine has no randomness.
    pub fn make(
        &mut self,
        root: &Root,
        (ttl, uses): (Duration, u32),
        now: Wall,
    ) -> Result<Token, TrustError> {
        let mut random = [0; ID + SECRET];
        let refused = |_| TrustError::Secret { request: "make" };
        SystemRandom::new().fill(&mut random).map_err(refused)?;
        let (mut id, mut secret) = ([0; ID], [0; SECRET]);
        id.copy_from_slice(&random[..ID]);
        secret.copy_from_slice(&random[ID..]);
        let end = now.0.saturating_add(ttl.as_nanos() as u64);
        let expires = Wall(end.div_ceil(1_000_000_000) * 1_000_000_000);
        let token = Token { id, secret, fingerprint: root.fingerprint(), expires };
        let hash = digest(&SHA256, &secret).as_ref().to_vec();
        let record = TokenRecord { hash, expires, uses, used_by: Vec::new() };
        self.records.insert(token.id(), record);
        Ok(token)
    }

    /// Whether somebody may come in; if so, its token is used up by one, unless it came
    /// in by it before and did not hear of it. Both the token's record and the name are
    /// to be kept before it is told.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn admit(&mut self, applicant: &Applicant, now: Wall) -> Result<(), Refusal> {
        let record = self.records.get_mut(&applicant.token).ok_or(Refusal::Unknown)?;
        let secret = text::decode(&applicant.secret).ok_or(Refusal::Unknown)?;
        if digest(&SHA256, &secret).as_ref() != record.hash {
            return Err(Refusal::Unknown);
        }
        if record.expires <= now {
            return Err(Refusal::Expired);
        }
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ED25519,
            &applicant.public_key,
        );
        key.verify(&applicant.message(), &applicant.signature).map_err(|_| Refusal::Unsigned)?;
        if self.names.get(&applicant.node).is_some_and(|key| *key != applicant.public_key) {
            return Err(Refusal::Taken);
        }
        if !record.used_by.contains(&applicant.node) {
            if record.used_by.len() >= record.uses as usize {
                return Err(Refusal::Used);
            }
            record.used_by.push(applicant.node.clone());
        }
        self.names.insert(applicant.node.clone(), applicant.public_key.clone());
        Ok(())
    }

    /// Drops tokens that ended long ago, and names them.
    pub fn forget(&mut self, now: Wall) -> Vec<String> {
        let over = |record: &TokenRecord| record.expires.0 + KEEP.as_nanos() as u64 <= now.0;
        let gone: Vec<String> =
            self.records.iter().filter(|(_, r)| over(r)).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.records.remove(id);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use crate::identity::NodeKey;
    use crate::join::apply;

    const NOW: Wall = Wall(1_800_000_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn later(span: Duration) -> Wall {
        Wall(NOW.0 + span.as_nanos() as u64)
    }

    #[test]
    fn a_token_comes_back_from_text_and_its_secret_is_not_kept() {
        let root = Authority::generate(NOW).unwrap().root().clone();
        let mut tokens = Tokens::default();
        let token = tokens.make(&root, (HOUR, 1), NOW).unwrap();
        assert_eq!(Token::parse(&format!(" {}\n", token.to_text())), Ok(token.clone()));
        assert_eq!(token.fingerprint(), &root.fingerprint());
        let kept = serde_json::to_string(tokens.get(&token.id()).unwrap()).unwrap();
        let shown = format!("{token:?}");
        assert!(!kept.contains(&token.secret()) && !shown.contains(&token.secret()));
        for text in ["", "mzn1_", "mzn1_AAAA", &token.to_text()[..40], "mzn2_AAAA"] {
            assert_eq!(Token::parse(text), Err(NoToken), "{text}");
        }
    }

    #[test]
    fn who_may_come_in() {
        let root = Authority::generate(NOW).unwrap().root().clone();
        let mut tokens = Tokens::default();
        let token = tokens.make(&root, (HOUR, 1), NOW).unwrap();
        let (key, other) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let a = apply(&token, &"a".into(), &key);

        let stranger = Tokens::default().make(&root, (HOUR, 1), NOW).unwrap();
        assert_eq!(tokens.admit(&apply(&stranger, &"a".into(), &key), NOW), Err(Refusal::Unknown));
        let guessed = Applicant { secret: text::encode(&[7; SECRET]), ..a.clone() };
        assert_eq!(tokens.admit(&guessed, NOW), Err(Refusal::Unknown));
        let stolen = Applicant { public_key: other.public().to_vec(), ..a.clone() };
        assert_eq!(tokens.admit(&stolen, NOW), Err(Refusal::Unsigned));
        assert_eq!(tokens.admit(&a, later(HOUR)), Err(Refusal::Expired));

        assert_eq!(tokens.admit(&a, NOW), Ok(()));
        assert_eq!(tokens.admit(&a, NOW), Ok(()), "it did not hear of it");
        assert_eq!(tokens.admit(&apply(&token, &"b".into(), &other), NOW), Err(Refusal::Used));

        let second = tokens.make(&root, (HOUR, 2), NOW).unwrap();
        assert_eq!(tokens.admit(&apply(&second, &"a".into(), &other), NOW), Err(Refusal::Taken));
        assert_eq!(tokens.admit(&apply(&second, &"b".into(), &other), NOW), Ok(()));

        let third = tokens.make(&root, (HOUR, 1), NOW).unwrap();
        let is_open =
            |tokens: &Tokens, token: &Token, at| tokens.get(&token.id()).unwrap().is_open(at);
        let open = [&token, &second, &third].map(|token| is_open(&tokens, token, NOW));
        assert_eq!(open, [false, true, true], "used up, used by one of two, new");
        assert!(!is_open(&tokens, &third, later(HOUR)));
        assert!(tokens.revoke(&third.id()) && !tokens.revoke(&third.id()));
        let late = apply(&third, &"c".into(), &NodeKey::generate().unwrap());
        assert_eq!(tokens.admit(&late, NOW), Err(Refusal::Unknown));
        assert_eq!(tokens.iter().count(), 2);

        assert_eq!(tokens.forget(later(HOUR)), Vec::<String>::new());
        assert_eq!(tokens.forget(later(25 * HOUR)).len(), 2);
    }
}
