//! Keys and peers of a link, by generic netlink.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlHeader, GenlMessage};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardCmd, WireguardMessage, WireguardPeer as PeerMessage, WireguardPeerAttribute,
    WireguardPeerFlags,
};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::{
    KEY_BYTES, KIND, PrivateKey, WireguardChange, WireguardPeer, WireguardPeerState, WireguardSpec,
    WireguardState,
};
use crate::attributes::attributes_after;
use crate::connection::Connection;
use crate::error::NetlinkError;
use crate::link::object;

/// Changes that travel in one request, which must not be longer than a datagram.
const MANY: usize = 64;

/// A conversation about keys and peers, in one network namespace.
pub struct Wireguard {
    connection: Connection,
    /// The kernel's number for such conversations.
    family: u16,
}

impl Wireguard {
    /// Opens a conversation in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket; [`NetlinkError::is_absent`] if it
    /// has no WireGuard.
    pub fn open() -> Result<Self, NetlinkError> {
        let mut connection = Connection::open(NETLINK_GENERIC)?;
        let ask = GenlMessage::from_payload(GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(KIND.to_owned())],
        });
        let family = || format!("generic netlink family `{KIND}`");
        let found = connection.get(ask, read_family);
        let found = found.map_err(|refusal| refusal.to("look up", family()))?;
        let family = found.ok_or_else(|| NetlinkError::Vanished { object: family() })?;
        Ok(Self { connection, family })
    }

    /// What a link has.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`]; [`NetlinkError::is_absent`] if there is no such link.
    pub fn observe(&mut self, link: &str) -> Result<WireguardState, NetlinkError> {
        let request = self.message(WireguardCmd::GetDevice, link, Vec::new());
        let parts = self.connection.dump(request, read_part);
        let parts = parts.map_err(|refusal| refusal.to("look up the peers of", object(link)))?;
        let mut state = WireguardState::default();
        for attribute in parts.into_iter().flatten() {
            match attribute {
                WireguardAttribute::PublicKey(key) => state.public_key = Some(key),
                WireguardAttribute::PrivateKey(key) => state.private_key = Some(PrivateKey(key)),
                WireguardAttribute::ListenPort(port) => state.port = port,
                WireguardAttribute::Peers(peers) => {
                    peers.iter().filter_map(read_peer).for_each(|peer| add(&mut state.peers, peer));
                }
                _ => {}
            }
        }
        Ok(state)
    }

    /// Carries out changes of a link's peers, in order.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] with the kernel's answer; some changes may have been made.
    pub fn change_peers(
        &mut self,
        link: &str,
        changes: &[WireguardChange],
    ) -> Result<(), NetlinkError> {
        for some in changes.chunks(MANY) {
            let peers = WireguardAttribute::Peers(some.iter().map(write_peer).collect());
            let request = self.message(WireguardCmd::SetDevice, link, vec![peers]);
            let changed = self.connection.change(request, 0);
            changed.map_err(|refusal| refusal.to("change the peers of", object(link)))?;
        }
        Ok(())
    }

    /// Gives a link its secret key and its port; says whether it had others.
    pub(super) fn ensure_keys(&mut self, spec: &WireguardSpec) -> Result<bool, NetlinkError> {
        let found = self.observe(&spec.name)?;
        let wanted = clamped(&spec.private_key);
        if found.port == spec.port && found.private_key.as_ref() == Some(&wanted) {
            return Ok(false);
        }
        let attributes = vec![
            WireguardAttribute::PrivateKey(wanted.0),
            WireguardAttribute::ListenPort(spec.port),
        ];
        let request = self.message(WireguardCmd::SetDevice, &spec.name, attributes);
        let changed = self.connection.change(request, 0);
        changed.map_err(|refusal| refusal.to("set the keys of", object(&spec.name)))?;
        Ok(true)
    }

    fn message(
        &self,
        cmd: WireguardCmd,
        link: &str,
        further: Vec<WireguardAttribute>,
    ) -> GenlMessage<WireguardMessage> {
        let mut attributes = vec![WireguardAttribute::IfName(link.to_owned())];
        attributes.extend(further);
        let mut message = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
        message.set_resolved_family_id(self.family);
        message
    }
}

/// A secret key as the kernel keeps it: some bits of every one are fixed.
fn clamped(key: &PrivateKey) -> PrivateKey {
    let mut bytes = key.0;
    let [first, .., last] = &mut bytes;
    *first &= 248;
    *last = (*last & 127) | 64;
    PrivateKey(bytes)
}

fn read_family(payload: &[u8]) -> Result<u16, DecodeError> {
    let header = GenlHeader::parse(payload)?;
    let mut attributes = attributes_after(&header, payload, |nla| GenlCtrlAttrs::parse(nla));
    let family = attributes.drain(..).find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(id) => Some(id),
        _ => None,
    });
    family.ok_or_else(|| "a family without a number".into())
}

fn read_part(payload: &[u8]) -> Result<Vec<WireguardAttribute>, DecodeError> {
    let header = GenlHeader::parse(payload)?;
    Ok(attributes_after(&header, payload, |nla| WireguardAttribute::parse(nla)))
}

fn read_peer(message: &PeerMessage) -> Option<WireguardPeerState> {
    let mut key: Option<[u8; KEY_BYTES]> = None;
    let (mut endpoint, mut allowed, mut keepalive, mut handshake) = (None, Vec::new(), 0, None);
    for attribute in &message.0 {
        match attribute {
            WireguardPeerAttribute::PublicKey(found) => key = Some(*found),
            WireguardPeerAttribute::Endpoint(found) => endpoint = Some(*found),
            WireguardPeerAttribute::PersistentKeepalive(found) => keepalive = *found,
            WireguardPeerAttribute::AllowedIps(found) => {
                allowed = found.iter().filter_map(read_allowed).collect();
            }
            // Zero is never.
            WireguardPeerAttribute::LastHandshake(at) => {
                let seconds = u64::try_from(at.seconds).unwrap_or(0);
                let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
                handshake = Some(at).filter(|_| seconds > 0);
            }
            _ => {}
        }
    }
    let public_key = key?;
    Some(WireguardPeerState { public_key, endpoint, allowed, keepalive, handshake })
}

fn read_allowed(message: &WireguardAllowedIp) -> Option<IpAddr> {
    message.0.iter().find_map(|attribute| match attribute {
        WireguardAllowedIpAttr::IpAddr(address) => Some(*address),
        _ => None,
    })
}

/// A peer with many addresses is told in several parts.
fn add(peers: &mut Vec<WireguardPeerState>, peer: WireguardPeerState) {
    match peers.last_mut() {
        Some(last) if last.public_key == peer.public_key => last.allowed.extend(peer.allowed),
        _ => peers.push(peer),
    }
}

fn write_peer(change: &WireguardChange) -> PeerMessage {
    PeerMessage(match change {
        WireguardChange::Remove(key) => vec![
            WireguardPeerAttribute::PublicKey(*key),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe),
        ],
        WireguardChange::Set(peer) => vec![
            WireguardPeerAttribute::PublicKey(peer.public_key),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
            WireguardPeerAttribute::Endpoint(peer.endpoint),
            WireguardPeerAttribute::AllowedIps(vec![write_allowed(peer)]),
            // Last: the first packet is sent as soon as the kernel reads this.
            WireguardPeerAttribute::PersistentKeepalive(peer.keepalive),
        ],
    })
}

fn write_allowed(peer: &WireguardPeer) -> WireguardAllowedIp {
    let (family, length) = match peer.allowed {
        IpAddr::V4(_) => (WireguardAddressFamily::Ipv4, 32),
        IpAddr::V6(_) => (WireguardAddressFamily::Ipv6, 128),
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(peer.allowed),
        WireguardAllowedIpAttr::Cidr(length),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::NetlinkSerializable;

    #[test]
    fn a_full_request_fits_a_message() {
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        let endpoint = (six, 64_001).into();
        let peer = WireguardPeer { public_key: [9; 32], endpoint, allowed: six, keepalive: 25 };
        let many = vec![write_peer(&WireguardChange::Set(peer.clone())); MANY];
        let attributes = vec![WireguardAttribute::Peers(many)];
        let message = WireguardMessage { cmd: WireguardCmd::SetDevice, attributes };
        let length = NetlinkSerializable::buffer_len(&GenlMessage::from_payload(message));
        assert!(length < usize::from(u16::MAX) / 2, "{length}");
    }

    #[test]
    fn a_peer_in_several_parts_is_one() {
        let part = |last: u8| WireguardPeerState {
            public_key: [1; 32],
            endpoint: None,
            allowed: vec![[10, 0, 0, last].into()],
            keepalive: 0,
            handshake: None,
        };
        let mut peers = Vec::new();
        for peer in [part(1), part(2), WireguardPeerState { public_key: [2; 32], ..part(3) }] {
            add(&mut peers, peer);
        }
        assert_eq!((peers.len(), peers[0].allowed.len()), (2, 2));
    }

    #[test]
    fn keys_are_kept_as_the_kernel_keeps_them() {
        let PrivateKey(low) = clamped(&PrivateKey([0; 32]));
        let PrivateKey(high) = clamped(&PrivateKey([255; 32]));
        assert_eq!((low[0], low[31], high[0], high[31]), (0, 64, 248, 127));
        assert_eq!(clamped(&PrivateKey(high)), PrivateKey(high));
    }
}
