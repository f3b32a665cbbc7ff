//! The node's share of the overlay: its bridge, its network configuration, and
//! which traffic leaves it under the node's own address.

use ipnet::Ipv4Net;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// CNI specification that the configuration follows.
const CNI_VERSION: &str = "1.0.0";

/// What the node's overlay should look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlaySpec {
    /// Name of the network, as tasks ask for it.
    pub name: String,
    /// The whole overlay; traffic inside it keeps its source.
    pub network: Ipv4Net,
    /// This node's part of it.
    pub subnet: Ipv4Net,
    /// The bridge that its containers hang on.
    pub bridge: String,
    /// Largest packet on it, in bytes.
    pub mtu: u32,
    /// Where leases are kept.
    pub leases: PathBuf,
    /// The resolver that containers are told of.
    pub resolver: Option<Ipv4Addr>,
}

impl OverlaySpec {
    /// The bridge's own address: the first one of the subnet.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()).saturating_add(1))
    }

    /// The gateway with the subnet's prefix length.
    #[must_use]
    pub fn gateway_net(&self) -> Ipv4Net {
        Ipv4Net::new(self.gateway(), self.subnet.prefix_len()).unwrap_or(self.subnet)
    }

    /// The configuration that CNI callers hand to the plugin.
    #[must_use]
    pub fn cni_configuration(&self) -> Value {
        let mut configuration = json!({
            "cniVersion": CNI_VERSION,
            "name": self.name,
            "type": "mizzen-overlay",
            "bridge": self.bridge,
            "mtu": self.mtu,
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "mizzen-ipam",
                "subnet": self.subnet,
                "gateway": self.gateway(),
                "dataDir": self.leases,
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        });
        if let (Some(resolver), Some(object)) = (self.resolver, configuration.as_object_mut()) {
            object.insert("dns".to_owned(), json!({ "nameservers": [resolver] }));
        }
        configuration
    }

    /// What configurations that only name the overlay are completed with, and the plugins
    /// read while the daemon is away (`overlays.json` beside the leases, format 1).
    #[must_use]
    pub fn cni_state(&self) -> Value {
        let nameservers: Vec<Ipv4Addr> = self.resolver.into_iter().collect();
        json!({
            "version": 1,
            "overlays": {
                self.name.as_str(): {
                    "bridge": self.bridge,
                    "mtu": self.mtu,
                    "blocks": [{ "subnet": self.subnet, "gateway": self.gateway() }],
                    "nameservers": nameservers,
                },
            },
        })
    }

    /// Where the plugins find that state.
    #[must_use]
    pub fn cni_state_file(&self) -> PathBuf {
        self.leases.join("overlays.json")
    }

    /// Where other callers of CNI find that configuration, below a directory.
    #[must_use]
    pub fn configuration_file(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.conf", self.name))
    }
}

/// The node's subnet if nobody allocates one: the first of its size.
#[must_use]
pub fn first_subnet(network: Ipv4Net, prefix: u8) -> Option<Ipv4Net> {
    network.subnets(prefix).ok()?.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_the_first_address() {
        let spec = OverlaySpec {
            name: "dcos".into(),
            network: "9.0.0.0/8".parse().unwrap(),
            subnet: first_subnet("9.0.0.0/8".parse().unwrap(), 24).unwrap(),
            bridge: "m-dcos".into(),
            mtu: 1420,
            leases: "/l".into(),
            resolver: Some(Ipv4Addr::new(198, 51, 100, 1)),
        };
        assert_eq!(spec.gateway_net().to_string(), "9.0.0.1/24");
        let configuration = spec.cni_configuration();
        assert_eq!(configuration["ipam"]["subnet"], "9.0.0.0/24");
        assert_eq!(configuration["dns"]["nameservers"][0], "198.51.100.1");
    }
}
