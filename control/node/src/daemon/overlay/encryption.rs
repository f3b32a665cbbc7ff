//! Encryption between nodes: the node's secret key, which stays in its store, and whether the
//! kernel can use it.

use super::super::build;
use super::super::core::Core;
use crate::config::{Config, Role};
use anyhow::Context;
use mizzen_kernel::tunnels::encryption::{handshakes, prepare};
use mizzen_netlink::{KEY_BYTES, NetlinkError, PrivateKey, WireguardSpec};
use mizzen_plan::overlay::{EncryptedPeer, OwnEncryption, Trust, encryption_mtu};
use mizzen_store::Store;
use mizzen_types::encryption::{PlainPackets, PublicKey, WireguardEnd};
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::SystemTime;
use tracing::info;

/// Key of the secret key in the store.
const KEY: &str = "overlay/wireguard-key";
/// The part's name in problems.
pub(super) const ENCRYPTION: &str = "overlay encryption";

/// When each peer of the link shook hands last.
pub(super) type Handshakes = BTreeMap<PublicKey, Option<SystemTime>>;

/// What is asked for, and what the kernel made of it.
#[derive(Debug, Default)]
pub(crate) struct EncryptionPart {
    /// The secret key and what becomes of plain packets, if there is to be encryption.
    wanted: Option<(PrivateKey, PlainPackets)>,
    /// The public half, once the kernel has the link.
    public_key: Option<PublicKey>,
}

impl EncryptionPart {
    /// With the key of a former process, or a new one.
    pub(super) fn open(store: &Store, config: &Config) -> anyhow::Result<Self> {
        let asked = config.overlay.encryption.filter(|_| config.has(Role::Overlay));
        let Some(plain) = asked else { return Ok(Self::default()) };
        Ok(Self { wanted: Some((kept_key(store)?, plain)), public_key: None })
    }

    /// The secret key, if there is to be encryption.
    pub(super) fn key(&self) -> Option<PrivateKey> {
        self.wanted.as_ref().map(|(key, _)| key.clone())
    }

    /// Whether encryption is asked for and cannot be had.
    pub(super) fn is_missing(&self) -> bool {
        self.wanted.is_some() && self.public_key.is_none()
    }

    /// Whether the node must say and reach nothing, because it could only do so in plain.
    pub(super) fn holds_back(&self) -> bool {
        let refuses = |(_, plain): &(_, PlainPackets)| *plain == PlainPackets::Refused;
        self.is_missing() && self.wanted.as_ref().is_some_and(refuses)
    }

    /// What the node encrypts by, once it can.
    pub(super) fn own(&self, config: &Config) -> Option<OwnEncryption> {
        let (_, plain) = self.wanted.as_ref()?;
        let (public_key, port) = (self.public_key?, config.overlay.encryption_port);
        let end = WireguardEnd { public_key, port, plain: *plain };
        Some(OwnEncryption { end, link: config.instance.encryption_link() })
    }
}

/// The key of a former process; otherwise a new one, on the disk before it is used.
fn kept_key(store: &Store) -> anyhow::Result<PrivateKey> {
    if let Some(kept) = store.get(KEY)? {
        let bytes: Result<[u8; KEY_BYTES], _> = kept.try_into();
        let bytes = bytes.ok().context("the node's key for encryption is damaged in its store")?;
        return Ok(PrivateKey(bytes));
    }
    let mut bytes = [0; KEY_BYTES];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.ok().context("the system gives no randomness for the node's key")?;
    store.write(&[(KEY.to_owned(), Some(bytes.to_vec()))])?;
    info!("a new key for encryption between nodes");
    Ok(PrivateKey(bytes))
}

impl Core {
    /// Makes the link that encrypts, if there is to be one and there was none so far.
    pub(super) fn prepare_encryption(&mut self) {
        let Some((private_key, plain)) = self.overlay.encryption.wanted.clone() else { return };
        if !self.overlay.encryption.is_missing() {
            return;
        }
        let spec = WireguardSpec {
            name: self.config.instance.encryption_link(),
            address: self.config.address,
            mtu: encryption_mtu(self.config.address, self.overlay.underlay_mtu),
            port: self.config.overlay.encryption_port,
            private_key,
            alias: build::mark(&self.config),
        };
        match prepare(&spec) {
            Ok(public_key) => {
                info!(link = spec.name, %public_key, "packets to other nodes are encrypted");
                self.overlay.encryption.public_key = Some(public_key);
                self.problems.solve(ENCRYPTION);
            }
            Err(error) => self.problems.report(ENCRYPTION, complaint(&error, plain)),
        }
    }

    /// Handshakes of the link that encrypts; none if there is no such link.
    pub(super) fn handshakes(&self) -> Handshakes {
        let encryption = self.overlay.encryption.own(&self.config);
        let found = encryption.map(|encryption| handshakes(&encryption.link));
        found.and_then(Result::ok).unwrap_or_default()
    }

    /// What people read of it.
    pub(super) fn encryption_view(&self) -> Value {
        let Some((_, plain)) = &self.overlay.encryption.wanted else { return Value::Null };
        json!({
            "mode": crate::config::encryption_word(Some(*plain)),
            "link": self.config.instance.encryption_link(),
            "port": self.config.overlay.encryption_port,
            "public_key": self.overlay.encryption.public_key,
        })
    }

    /// How packets to a node travel that is reached, and when hands were shaken.
    pub(super) fn peer_encryption_view(&self, node: &OwnerId, handshakes: &Handshakes) -> Value {
        let reached = self.overlay.peers.entries().find(|(of, _)| *of == node);
        let Some((_, entries)) = reached else { return Value::Null };
        let Some(peer) = &entries.encryption else {
            return json!({ "state": way_of_packets(None, handshakes) });
        };
        let last = handshakes.get(&peer.public_key).copied().flatten();
        let age = last.and_then(|at| SystemTime::now().duration_since(at).ok());
        let state = way_of_packets(Some(peer), handshakes);
        json!({ "state": state, "handshake_seconds": age.map(|age| age.as_secs()) })
    }

    /// How many nodes packets are encrypted for.
    pub(super) fn encrypted_peers(&self) -> u64 {
        let handshakes = self.handshakes();
        let peers = self.overlay.peers.entries().filter_map(|(_, entries)| entries.encryption);
        peers.filter(|peer| is_encrypted(peer, &handshakes)).count() as u64
    }
}

/// How packets to a node travel: `encrypted`, `waiting` (plain until hands were shaken) or `plain`.
pub(super) fn way_of_packets(
    peer: Option<&EncryptedPeer>,
    handshakes: &Handshakes,
) -> &'static str {
    match peer {
        None => "plain",
        Some(peer) if is_encrypted(peer, handshakes) => "encrypted",
        Some(_) => "waiting",
    }
}

fn is_encrypted(peer: &EncryptedPeer, handshakes: &Handshakes) -> bool {
    let shook = handshakes.get(&peer.public_key).copied().flatten().is_some();
    shook || peer.trust == Trust::AtOnce
}

fn complaint(error: &NetlinkError, plain: PlainPackets) -> String {
    let why = match error.is_unsupported() {
        true => "this machine's kernel has no WireGuard".to_owned(),
        false => chain(error),
    };
    match plain {
        PlainPackets::Refused => format!(
            "{why}: no packets are exchanged with containers of other nodes, because overlay.encryption is `wireguard`"
        ),
        PlainPackets::Taken => format!("{why}: packets to other nodes are not encrypted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store.redb")).unwrap();
        let key = kept_key(&store).unwrap();
        assert_ne!(key, PrivateKey([0; KEY_BYTES]));
        assert_eq!(kept_key(&store).unwrap(), key);
        store.write(&[(KEY.to_owned(), Some(vec![1, 2, 3]))]).unwrap();
        let refused = kept_key(&store).unwrap_err().to_string();
        assert!(refused.contains("damaged"), "never another key in silence: {refused}");
    }

    #[test]
    fn packets_are_encrypted_when_hands_were_shaken_or_always() {
        let peer = |trust| EncryptedPeer {
            public_key: PublicKey([3; KEY_BYTES]),
            endpoint: "10.0.0.2:64001".parse().unwrap(),
            trust,
        };
        let none = Handshakes::new();
        let shook = |at| Handshakes::from([(PublicKey([3; KEY_BYTES]), at)]);
        for (peer, handshakes, want) in [
            (None, &none, "plain"),
            (Some(peer(Trust::AtOnce)), &none, "encrypted"),
            (Some(peer(Trust::AfterHandshake)), &none, "waiting"),
            (Some(peer(Trust::AfterHandshake)), &shook(None), "waiting"),
            (Some(peer(Trust::AfterHandshake)), &shook(Some(SystemTime::now())), "encrypted"),
        ] {
            assert_eq!(way_of_packets(peer.as_ref(), handshakes), want, "{peer:?}");
        }
    }

    #[test]
    fn a_node_that_cannot_encrypt_is_plain_only_if_it_may() {
        let part = |plain, public_key| EncryptionPart {
            wanted: Some((PrivateKey([1; KEY_BYTES]), plain)),
            public_key,
        };
        let public = Some(PublicKey([2; KEY_BYTES]));
        for (plain, public_key, held) in [
            (PlainPackets::Refused, None, true),
            (PlainPackets::Refused, public, false),
            (PlainPackets::Taken, None, false),
            (PlainPackets::Taken, public, false),
        ] {
            assert_eq!(part(plain, public_key).holds_back(), held, "{plain:?} {public_key:?}");
        }
        assert!(!EncryptionPart::default().holds_back());
    }
}
