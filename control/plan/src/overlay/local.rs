//! The node's own share of the overlays: bridges, network configurations, and which traffic
//! leaves them under the node's own address.

use ipnet::IpNet;
use mizzen_types::overlay::{Habits, OverlayGrant, OverlayShare};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// CNI specification that the configuration follows.
const CNI_VERSION: &str = "1.0.0";

/// What the node's share of one overlay should look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlaySpec {
    /// Name of the network, as tasks ask for it.
    pub name: String,
    /// The whole overlay, at most one network of each family; traffic inside it keeps its
    /// source.
    pub networks: Vec<IpNet>,
    /// This node's part of it.
    pub blocks: Vec<IpNet>,
    /// The bridge that its containers hang on.
    pub bridge: String,
    /// A second bridge, for another runtime, with blocks of its own.
    pub second: Option<SecondBridge>,
    /// The link by which traffic goes to other nodes.
    pub tunnel: String,
    /// Largest packet on it, in bytes.
    pub mtu: u32,
    /// Where leases are kept.
    pub leases: PathBuf,
    /// The resolver that containers are told of.
    pub resolver: Option<Ipv4Addr>,
}

/// A bridge for a runtime that gives addresses away by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondBridge {
    /// Its name: `d-dcos`.
    pub bridge: String,
    /// Its blocks.
    pub blocks: Vec<IpNet>,
}

/// How a node calls its links, and where its files lie.
pub struct Naming<'a> {
    /// The bridge of an overlay.
    pub bridge: &'a dyn Fn(&str) -> String,
    /// Its second bridge.
    pub second: &'a dyn Fn(&str) -> String,
    /// The end of the tunnels of one number.
    pub tunnel: &'a dyn Fn(u32) -> String,
    /// Where leases are kept.
    pub leases: PathBuf,
    /// The resolver that containers are told of.
    pub resolver: Option<Ipv4Addr>,
}

/// What a node makes of what the master gave it.
#[must_use]
pub fn specs(grant: &OverlayGrant, naming: &Naming<'_>) -> Vec<OverlaySpec> {
    grant.shares.iter().map(|share| spec(share, grant.habits, naming)).collect()
}

fn spec(share: &OverlayShare, habits: Habits, naming: &Naming<'_>) -> OverlaySpec {
    let overlay = &share.overlay;
    let halves = |at: usize| {
        let half = |block: &IpNet| block.subnets(block.prefix_len() + 1).ok()?.nth(at);
        share.blocks.iter().filter_map(half).collect()
    };
    let (blocks, second) = match habits {
        Habits::Ours => (share.blocks.clone(), None),
        Habits::Dcos => {
            let bridge = (naming.second)(&overlay.name);
            (halves(0), Some(SecondBridge { bridge, blocks: halves(1) }))
        }
    };
    OverlaySpec {
        name: overlay.name.clone(),
        networks: overlay.networks.clone(),
        blocks,
        bridge: (naming.bridge)(&overlay.name),
        second,
        tunnel: (naming.tunnel)(overlay.vni),
        mtu: overlay.mtu,
        leases: naming.leases.clone(),
        resolver: naming.resolver,
    }
}

impl OverlaySpec {
    /// The bridge's own addresses: the first one of each block.
    #[must_use]
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.blocks.iter().map(gateway).collect()
    }

    /// The configuration that CNI callers hand to the plugin.
    #[must_use]
    pub fn cni_configuration(&self) -> Value {
        let plugin = BridgePlugin {
            bridge: &self.bridge,
            mtu: self.mtu,
            blocks: &self.blocks,
            leases: &self.leases,
            resolver: self.resolver,
        };
        let mut configuration = plugin.configuration();
        configuration["cniVersion"] = json!(CNI_VERSION);
        configuration["name"] = json!(self.name);
        configuration
    }

    /// Where other callers of CNI find that configuration, below a directory.
    #[must_use]
    pub fn configuration_file(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.conf", self.name))
    }

    fn state(&self) -> Value {
        let block = |block: &IpNet| json!({ "subnet": block, "gateway": gateway(block) });
        let nameservers: Vec<Ipv4Addr> = self.resolver.into_iter().collect();
        json!({
            "bridge": self.bridge,
            "mtu": self.mtu,
            "blocks": self.blocks.iter().map(block).collect::<Vec<_>>(),
            "nameservers": nameservers,
        })
    }
}

/// What `mizzen-overlay` is told when it is told all.
pub(super) struct BridgePlugin<'a> {
    pub(super) bridge: &'a str,
    pub(super) mtu: u32,
    pub(super) blocks: &'a [IpNet],
    pub(super) leases: &'a Path,
    pub(super) resolver: Option<Ipv4Addr>,
}

impl BridgePlugin<'_> {
    pub(super) fn configuration(&self) -> Value {
        let mut ipam = json!({ "type": "mizzen-ipam", "dataDir": self.leases });
        match self.blocks {
            [block] => {
                ipam["subnet"] = json!(block);
                ipam["gateway"] = json!(gateway(block));
            }
            blocks => ipam["ranges"] = ranges(blocks),
        }
        ipam["routes"] = default_routes(self.blocks);
        let mut configuration = json!({
            "type": "mizzen-overlay",
            "bridge": self.bridge,
            "mtu": self.mtu,
            "isGateway": true,
            "hairpinMode": true,
            "ipam": ipam,
        });
        if let Some(resolver) = self.resolver {
            configuration["dns"] = json!({ "nameservers": [resolver] });
        }
        configuration
    }
}

/// The network of an overlay, which it only names: the plugin completes it with what
/// [`cni_state`] says at the time. `port_table` has the ports of the host that lead to
/// its containers.
#[must_use]
pub fn named_configuration(overlay: &str, leases: &Path, port_table: &str) -> Value {
    let main = json!({
        "type": "mizzen-overlay",
        "overlay": overlay,
        "ipam": { "type": "mizzen-ipam", "dataDir": leases },
    });
    with_ports(overlay, &main, port_table, leases)
}

/// A network of a plugin that gives an address, and of the one that publishes ports.
pub(super) fn with_ports(name: &str, main: &Value, port_table: &str, leases: &Path) -> Value {
    let ports = json!({
        "type": "mizzen-portmap",
        "table": port_table,
        "dataDir": leases,
        "capabilities": { "portMappings": true },
    });
    json!({ "cniVersion": CNI_VERSION, "name": name, "plugins": [main, ports] })
}

/// What configurations that only name an overlay are completed with, and the plugins read
/// while the daemon is away (format 1). On `socket` they tell the daemon of containers.
#[must_use]
pub fn cni_state(specs: &[OverlaySpec], socket: &Path) -> Value {
    let shares = specs.iter().map(|spec| (spec.name.clone(), spec.state()));
    json!({ "version": 1, "overlays": shares.collect::<Map<_, _>>(), "socket": socket })
}

/// Where the plugins find that state, beside the leases.
#[must_use]
pub fn cni_state_file(leases: &Path) -> PathBuf {
    leases.join("overlays.json")
}

/// The first address of a block.
#[must_use]
pub fn gateway(block: &IpNet) -> IpAddr {
    match block.network() {
        IpAddr::V4(first) => Ipv4Addr::from(u32::from(first).saturating_add(1)).into(),
        IpAddr::V6(first) => Ipv6Addr::from(u128::from(first).saturating_add(1)).into(),
    }
}

/// The first address of a block with the length of its prefix.
#[must_use]
pub fn gateway_net(block: &IpNet) -> IpNet {
    IpNet::new(gateway(block), block.prefix_len()).unwrap_or(*block)
}

/// One address of each family: a list of blocks for each.
fn ranges(blocks: &[IpNet]) -> Value {
    let range = |block: &IpNet| json!({ "subnet": block, "gateway": gateway(block) });
    let of = |v6: bool| -> Vec<Value> {
        blocks.iter().filter(|block| block.addr().is_ipv6() == v6).map(range).collect()
    };
    json!([of(false), of(true)].into_iter().filter(|set| !set.is_empty()).collect::<Vec<_>>())
}

fn default_routes(blocks: &[IpNet]) -> Value {
    let has = |v6: bool| blocks.iter().any(|block| block.addr().is_ipv6() == v6);
    let routes = [(false, "0.0.0.0/0"), (true, "::/0")].into_iter().filter(|(v6, _)| has(*v6));
    routes.map(|(_, dst)| json!({ "dst": dst })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_types::overlay::{Overlay, Vtep};

    fn made(habits: Habits, blocks: &[&str]) -> OverlaySpec {
        let nets = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let networks = nets(&["9.0.0.0/8", "fd01:b::/64"]);
        let overlay = Overlay { name: "dcos".into(), vni: 1024, networks, mtu: 1420 };
        let vtep = Vtep { addresses: Vec::new(), mac: "70:b3:d5:80:00:01".parse().unwrap() };
        let shares = vec![OverlayShare { overlay, blocks: nets(blocks) }];
        let grant = OverlayGrant { vtep, port: 64_000, habits, shares };
        let naming = Naming {
            bridge: &|name| format!("m-{name}"),
            second: &|name| format!("d-{name}"),
            tunnel: &|vni| format!("vtep{vni}"),
            leases: "/l".into(),
            resolver: Some(Ipv4Addr::new(198, 51, 100, 1)),
        };
        specs(&grant, &naming).remove(0)
    }

    #[test]
    fn the_gateway_is_the_first_address() {
        let spec = made(Habits::Ours, &["9.0.0.0/24"]);
        assert_eq!(gateway_net(&spec.blocks[0]).to_string(), "9.0.0.1/24");
        let configuration = spec.cni_configuration();
        assert_eq!(configuration["ipam"]["subnet"], "9.0.0.0/24");
        assert_eq!(configuration["dns"]["nameservers"][0], "198.51.100.1");
        assert_eq!((spec.bridge.as_str(), spec.tunnel.as_str()), ("m-dcos", "vtep1024"));
    }

    #[test]
    fn several_blocks_of_both_families() {
        let spec = made(Habits::Ours, &["9.0.0.0/24", "fd01:b::/80", "9.0.7.0/24"]);
        let ranges = &spec.cni_configuration()["ipam"]["ranges"];
        assert_eq!(ranges[0][1]["subnet"], "9.0.7.0/24");
        assert_eq!(ranges[1][0]["gateway"], "fd01:b::1");
        let state = cni_state(&[spec], Path::new("/run/mizzen/mizzen.sock"));
        assert_eq!(state["socket"], "/run/mizzen/mizzen.sock");
        assert_eq!(state["overlays"]["dcos"]["blocks"][2]["gateway"], "9.0.7.1");
    }

    #[test]
    fn halves_as_dcos_has_them() {
        let spec = made(Habits::Dcos, &["9.0.5.0/24"]);
        assert_eq!(spec.blocks[0].to_string(), "9.0.5.0/25");
        let second = spec.second.unwrap();
        assert_eq!(
            (second.bridge.as_str(), second.blocks[0].to_string().as_str()),
            ("d-dcos", "9.0.5.128/25")
        );
    }
}
