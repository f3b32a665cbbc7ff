//! Words of the overlay: which node has which addresses, and where it is reached.
//!
//! The leading master gives each agent an [`OverlayGrant`]. The node keeps it on its disk,
//! makes its network of it, and says in its [`NodeFact`](crate::fact::NodeFact) what others
//! need to reach its containers: a [`NodeOverlay`].

use crate::encryption::WireguardEnd;
use ipnet::IpNet;
pub use mizzen_net_words::{Mac, MacError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The end of all tunnels on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtep {
    /// Its addresses with the prefix of their network, at most one of each family. Routes of
    /// other nodes lead there; nothing else uses them.
    pub addresses: Vec<IpNet>,
    /// Its link-layer address.
    pub mac: Mac,
}

/// An overlay, as the whole cluster has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// As tasks ask for it.
    pub name: String,
    /// Its number in the tunnels. Several overlays may share one.
    pub vni: u32,
    /// All of its addresses, at most one network of each family.
    pub networks: Vec<IpNet>,
    /// Largest packet in it, in bytes.
    pub mtu: u32,
}

/// A node's share of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayShare {
    /// Which overlay.
    #[serde(flatten)]
    pub overlay: Overlay,
    /// The node's blocks of its networks, in the order in which they were given.
    pub blocks: Vec<IpNet>,
}

/// What the leading master gives an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayGrant {
    /// The node's end of all tunnels.
    pub vtep: Vtep,
    /// UDP port of the tunnels.
    pub port: u16,
    /// The habits of clusters that are taken over node by node.
    #[serde(default, skip_serializing_if = "Habits::is_ours")]
    pub habits: Habits,
    /// Shares, in the order of the overlays' names.
    pub shares: Vec<OverlayShare>,
}

/// Whose habits an overlay follows where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Habits {
    /// A number of its own for each overlay; all of a block belongs to one bridge.
    #[default]
    Ours,
    /// As DC/OS: one number for all overlays, halves of blocks for `m-` and `d-` bridges, and
    /// packets from containers to other nodes travel in the tunnel (table 42).
    Dcos,
}

/// What an agent had before, when it introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OverlayClaim {
    /// Addresses of its end of the tunnels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vtep: Vec<IpAddr>,
    /// Its blocks, by the name of their overlay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blocks: BTreeMap<String, Vec<IpNet>>,
}

/// What other nodes need to reach a node's containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOverlay {
    /// Where tunnels to it end, at most one address of each family; the first that the other
    /// node can reach is taken.
    pub underlay: Vec<IpAddr>,
    /// Largest packet of the link that has those addresses, in bytes, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay_mtu: Option<u32>,
    /// Addresses of its end of the tunnels, at most one of each family.
    pub vtep: Vec<IpAddr>,
    /// Link-layer address of that end.
    pub mac: Mac,
    /// What it has of each overlay.
    pub shares: Vec<NodeShare>,
    /// Where it takes encrypted packets, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<WireguardEnd>,
}

/// What a node has of one overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShare {
    /// The overlay's name.
    pub name: String,
    /// Its number in the tunnels.
    pub vni: u32,
    /// The node's blocks.
    pub blocks: Vec<IpNet>,
}

impl OverlayGrant {
    /// What the agent says the next time that it introduces itself.
    #[must_use]
    pub fn claim(&self) -> OverlayClaim {
        let blocks = |share: &OverlayShare| (share.overlay.name.clone(), share.blocks.clone());
        OverlayClaim {
            vtep: self.vtep.addresses.iter().map(IpNet::addr).collect(),
            blocks: self.shares.iter().map(blocks).collect(),
        }
    }

    /// What other nodes are told.
    #[must_use]
    pub fn fact(&self, underlay: Vec<IpAddr>, underlay_mtu: Option<u32>) -> NodeOverlay {
        let share = |share: &OverlayShare| NodeShare {
            name: share.overlay.name.clone(),
            vni: share.overlay.vni,
            blocks: share.blocks.clone(),
        };
        NodeOverlay {
            underlay,
            underlay_mtu,
            vtep: self.vtep.addresses.iter().map(IpNet::addr).collect(),
            mac: self.vtep.mac,
            shares: self.shares.iter().map(share).collect(),
            wireguard: None,
        }
    }
}

impl Habits {
    /// Whether they are those of this program.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        *self == Self::Ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_as_text_and_back() {
        let text = r#"{"vtep":{"addresses":["44.128.0.6/20"],"mac":"70:b3:d5:80:00:06"},"port":64000,"shares":[{"name":"dcos","vni":1024,"networks":["9.0.0.0/8"],"mtu":1420,"blocks":["9.0.5.0/24"]}]}"#;
        let grant: OverlayGrant = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&grant).unwrap(), text);
        assert_eq!(grant.claim().vtep, ["44.128.0.6".parse::<IpAddr>().unwrap()]);
        let fact = grant.fact(vec!["10.0.0.1".parse().unwrap()], None);
        assert_eq!((fact.mac, &fact.shares[0].blocks), (grant.vtep.mac, &grant.shares[0].blocks));
    }
}
