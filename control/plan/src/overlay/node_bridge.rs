//! The network of one node alone: a bridge whose containers are known by the node's address.
//!
//! Every node has the same addresses there, so they mean nothing elsewhere. What a container
//! sends gets the node's address; it is reached by ports that the node publishes. This is
//! the network of apps in mode `container/bridge`, and it needs neither a master nor a share.

use super::local::{BridgePlugin, gateway_net, with_ports};
use ipnet::IpNet;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// What the network should look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBridge {
    /// Name of the network, as tasks ask for it: `mesos-bridge`.
    pub name: String,
    /// Its addresses.
    pub network: IpNet,
    /// The bridge's name: `ucr-br0`.
    pub link: String,
    /// Largest packet on it, in bytes.
    pub mtu: u32,
    /// Where leases are kept.
    pub leases: PathBuf,
    /// The resolver that containers are told of.
    pub resolver: Option<Ipv4Addr>,
    /// Table of the packet filter with the ports that lead to containers.
    pub port_table: String,
}

impl NodeBridge {
    /// The bridge's own address, which is its containers' way out.
    #[must_use]
    pub fn gateway(&self) -> IpNet {
        gateway_net(&self.network)
    }

    /// The plugins that attach a container, and what they are told.
    #[must_use]
    pub fn cni_configuration(&self) -> Value {
        let main = BridgePlugin {
            bridge: &self.link,
            mtu: self.mtu,
            blocks: std::slice::from_ref(&self.network),
            leases: &self.leases,
            resolver: self.resolver,
        };
        with_ports(&self.name, &main.configuration(), &self.port_table, &self.leases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_get_an_address_and_ports() {
        let bridge = NodeBridge {
            name: "mesos-bridge".into(),
            network: "172.31.254.0/24".parse().unwrap(),
            link: "ucr-br0".into(),
            mtu: 1500,
            leases: "/l".into(),
            resolver: None,
            port_table: "mizzen-ports".into(),
        };
        assert_eq!(bridge.gateway().to_string(), "172.31.254.1/24");
        let list = bridge.cni_configuration();
        assert_eq!(list["name"], "mesos-bridge");
        let (main, ports) = (&list["plugins"][0], &list["plugins"][1]);
        assert_eq!((main["bridge"].as_str(), main["mtu"].as_u64()), (Some("ucr-br0"), Some(1500)));
        assert_eq!(main["ipam"]["gateway"], "172.31.254.1");
        assert_eq!(main["ipam"]["routes"][0]["dst"], "0.0.0.0/0");
        assert_eq!((main["name"].as_str(), main.get("dns")), (None, None));
        assert_eq!(ports["capabilities"]["portMappings"], true);
        assert_eq!((&ports["table"], &ports["dataDir"]), (&"mizzen-ports".into(), &"/l".into()));
    }
}
