//! How another node's packets are encrypted, and with which nodes nothing is exchanged
//! because they are not.

use super::{Own, PeerProblem};
use crate::overlay::desired::{EncryptedPeer, EncryptionEnd, Trust};
use mizzen_types::encryption::{PlainPackets, PublicKey, WireguardEnd};
use mizzen_types::overlay::NodeOverlay;
use std::net::{IpAddr, SocketAddr};

/// Bytes that WireGuard adds to a packet beside the outer IP and UDP headers: its own header
/// and the tag at the end.
const WIREGUARD: u32 = 16 + 16;
const OVERHEAD_V4: u32 = 20 + 8 + WIREGUARD;
const OVERHEAD_V6: u32 = 40 + 8 + WIREGUARD;
/// What fits any path that has the size of Ethernet, over either family.
const USUAL_MTU: u32 = 1420;

/// What this node encrypts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnEncryption {
    /// What it says of itself.
    pub end: WireguardEnd,
    /// The link that encrypts.
    pub link: String,
}

/// The largest packet before it is encrypted, in bytes, for a node at this address, by the
/// largest one that its link takes.
#[must_use]
pub fn encryption_mtu(underlay: IpAddr, underlay_mtu: Option<u32>) -> u32 {
    underlay_mtu.map_or(USUAL_MTU, |mtu| mtu.saturating_sub(overhead(underlay)))
}

/// The link that encrypts, as it should be.
pub(super) fn end(own: &Own) -> Option<EncryptionEnd> {
    let encryption = own.encryption.as_ref()?;
    Some(EncryptionEnd {
        link: encryption.link.clone(),
        port: encryption.end.port,
        mtu: encryption_mtu(own.underlay, own.underlay_mtu),
        tunnel_port: own.grant.port,
        underlay: own.underlay,
        plain: encryption.end.plain,
    })
}

/// How packets to a node at `underlay` are encrypted; `None` if they are not.
///
/// # Errors
///
/// One of the two takes no packets of the kind that the other one has.
pub(super) fn encrypted(
    own: &Own,
    fact: &NodeOverlay,
    underlay: IpAddr,
) -> Result<Option<EncryptedPeer>, PeerProblem> {
    let ours = own.encryption.as_ref().map(|encryption| encryption.end);
    let refuses = |end: &WireguardEnd| end.plain == PlainPackets::Refused;
    let (ours, theirs) = match (ours, fact.wireguard) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        (Some(ours), None) if refuses(&ours) => return Err(PeerProblem::Plain),
        (None, Some(theirs)) if refuses(&theirs) => return Err(PeerProblem::EncryptedOnly),
        _ => return Ok(None),
    };
    let trust = match refuses(&ours) || refuses(&theirs) {
        true => Trust::AtOnce,
        false => Trust::AfterHandshake,
    };
    let endpoint = SocketAddr::new(underlay, theirs.port);
    Ok(Some(EncryptedPeer { public_key: theirs.public_key, endpoint, trust }))
}

/// What a node that encrypts claims beside its end of the tunnels: its key, and that packets
/// to an address are encrypted with it.
pub(super) fn claims(fact: &NodeOverlay) -> Option<(PublicKey, &[IpAddr])> {
    fact.wireguard.map(|end| (end.public_key, fact.underlay.as_slice()))
}

/// Bytes that encryption adds to a packet to this address.
pub(super) fn overhead(underlay: IpAddr) -> u32 {
    if underlay.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 }
}
