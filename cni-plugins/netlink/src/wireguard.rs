//! Links of kind `wireguard`: packets that leave by one are encrypted for whoever their
//! destination is allowed to be, and what arrives by it is from whom it says.
//!
//! The link itself is made by rtnetlink, its keys and peers are set by generic netlink. The
//! kernel computes the public key from the secret one, so no other code does.

mod device;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo};

use crate::address::DuplicateDetection;
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::{LinkChange, LinkState, named, object};
use crate::{Ensured, ensure_sysctl};

pub use device::Wireguard;

/// Length of keys, in bytes.
pub const KEY_BYTES: usize = 32;

/// The secret half of a key pair. Nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(pub [u8; KEY_BYTES]);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A link that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireguardSpec {
    /// Interface name, at most 15 bytes.
    pub name: String,
    /// This machine's address, inside as outside.
    pub address: IpAddr,
    /// Largest packet inside, in bytes.
    pub mtu: u32,
    /// UDP port on which encrypted packets arrive.
    pub port: u16,
    /// Its secret key.
    pub private_key: PrivateKey,
    /// Owner's mark. A link without it is not ours.
    pub alias: String,
}

/// Another machine, as a link is to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireguardPeer {
    /// Whom packets are encrypted for.
    pub public_key: [u8; KEY_BYTES],
    /// Where they are sent.
    pub endpoint: SocketAddr,
    /// The one address that it has inside.
    pub allowed: IpAddr,
    /// Seconds between packets that are sent with nothing else to send; 0 for none. The
    /// first one makes the two shake hands.
    pub keepalive: u16,
}

/// Another machine, as a link knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireguardPeerState {
    /// Whom packets are encrypted for.
    pub public_key: [u8; KEY_BYTES],
    /// Where it was heard from last, or is said to be.
    pub endpoint: Option<SocketAddr>,
    /// Its addresses inside.
    pub allowed: Vec<IpAddr>,
    /// Seconds between packets that are sent with nothing else to send; 0 for none.
    pub keepalive: u16,
    /// When the two shook hands last.
    pub handshake: Option<SystemTime>,
}

/// A link's keys and peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireguardState {
    /// Computed by the kernel; `None` of a link without keys.
    pub public_key: Option<[u8; KEY_BYTES]>,
    /// UDP port on which encrypted packets arrive.
    pub port: u16,
    /// Peers, in no order.
    pub peers: Vec<WireguardPeerState>,
    private_key: Option<PrivateKey>,
}

/// A change of a link's peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireguardChange {
    /// This one is to be as it says here; an address of another one becomes this one's.
    Set(WireguardPeer),
    /// The one with this key is forgotten.
    Remove([u8; KEY_BYTES]),
}

impl Netlink {
    /// Makes sure that a link exists, is up, and has its keys; its peers are left alone. The
    /// calling thread must be in the network namespace of this conversation.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::is_unsupported`] if the kernel has no WireGuard;
    /// [`NetlinkError::Foreign`] if the name is taken by a link without our mark; otherwise
    /// the kernel's refusal.
    pub fn ensure_wireguard(
        &mut self,
        spec: &WireguardSpec,
    ) -> Result<Ensured<LinkState>, NetlinkError> {
        let Some(mut link) = self.observe_link(&spec.name)? else {
            return self.create_wireguard(spec).map(Ensured::Created);
        };
        let kind = link.kind.as_deref() == Some(KIND);
        if !kind || link.alias.as_deref() != Some(&spec.alias) {
            return Err(NetlinkError::Foreign { object: object(&spec.name), attribute: "mark" });
        }
        let mut repaired = Wireguard::open()?.ensure_keys(spec)?;
        let change = difference(&link, spec);
        if change != LinkChange::new() {
            self.set_link(&spec.name, &change)?;
            link = self.expect_link(&spec.name)?;
            repaired = true;
        }
        repaired |= self.take_detours(&link, spec)?;
        Ok(if repaired { Ensured::Repaired(link) } else { Ensured::Unchanged(link) })
    }

    fn create_wireguard(&mut self, spec: &WireguardSpec) -> Result<LinkState, NetlinkError> {
        let mut message = named(&spec.name, [LinkAttribute::Mtu(spec.mtu)]);
        let kind = vec![LinkInfo::Kind(InfoKind::Wireguard)];
        message.attributes.push(LinkAttribute::LinkInfo(kind));
        let request = RouteNetlinkMessage::NewLink(message);
        let created = self.connection.change(request, NLM_F_CREATE | NLM_F_EXCL);
        created.map_err(|refusal| refusal.to("create", object(&spec.name)))?;
        // The kernel ignores a mark in the request that creates a link; without one it would
        // be nobody's. Without keys it takes nothing.
        let finish = |netlink: &mut Self| {
            netlink.set_link(&spec.name, &LinkChange::new().alias(&spec.alias))?;
            Wireguard::open()?.ensure_keys(spec)?;
            netlink.set_link(&spec.name, &LinkChange::new().up())?;
            let link = netlink.expect_link(&spec.name)?;
            netlink.take_detours(&link, spec)?;
            Ok(link)
        };
        let made = finish(self);
        if made.is_err() {
            let _ = self.remove_link(&spec.name);
        }
        made
    }

    /// Packets inside come from addresses whose route leads elsewhere, because only those to one
    /// port take this link. The kernel drops them if it is told to be strict about IPv4 (1), or
    /// to be loose (2) on a link without an address. Of the machine's word and the link's, the
    /// larger one counts.
    fn take_detours(
        &mut self,
        link: &LinkState,
        spec: &WireguardSpec,
    ) -> Result<bool, NetlinkError> {
        if spec.address.is_ipv6() {
            return Ok(false);
        }
        let setting = format!("net/ipv4/conf/{}/rp_filter", spec.name);
        let loose = ensure_sysctl(&setting, "2")?;
        let alone = IpNet::from(spec.address);
        let address = self.ensure_address(link.index, alone, DuplicateDetection::Off)?;
        Ok([loose, address].iter().any(|made| !matches!(made, Ensured::Unchanged(()))))
    }
}

/// The kernel's word for the kind of link.
const KIND: &str = "wireguard";

fn difference(link: &LinkState, spec: &WireguardSpec) -> LinkChange {
    let mut change = LinkChange::new();
    if !link.up {
        change = change.up();
    }
    if link.mtu != spec.mtu {
        change = change.mtu(spec.mtu);
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_are_not_shown() {
        let state =
            WireguardState { private_key: Some(PrivateKey([7; 32])), ..WireguardState::default() };
        let shown = format!("{state:?}");
        assert!(shown.contains("PrivateKey(..)") && !shown.contains('7'), "{shown}");
    }
}
