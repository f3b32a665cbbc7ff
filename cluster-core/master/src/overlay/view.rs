//! What people and old tools read of the overlays, in the form of DC/OS' overlay modules.

use super::{OverlayDefinition, Overlays};
use ipnet::IpNet;
use mizzen_types::ids::AgentId;
use mizzen_types::overlay::{Habits, Mac, OverlayGrant, OverlayShare};
use mizzen_types::time::Wall;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Name of the device of DC/OS' tunnels.
const VTEP_NAME: &str = "vtep1024";

impl Overlays {
    /// `GET /overlay-master/state`.
    #[must_use]
    pub fn state(&self) -> Value {
        let settings = &self.settings;
        let [x, y, z] = settings.mac_prefix;
        let agents = self.agents.iter().filter_map(|(id, agent)| {
            let grant = self.grant(id)?;
            Some(agent_state(agent.address, &grant, |_| None))
        });
        json!({
            "network": {
                "vtep_subnet": settings.vtep_network,
                "vtep_subnet6": settings.vtep_network6,
                "vtep_mac_oui": Mac([x, y, z, 0, 0, 0]).to_string().to_uppercase(),
                "vtep_mtu": settings.overlays.first().map(|overlay| overlay.mtu),
                "overlays": settings.overlays.iter().map(info).collect::<Vec<_>>(),
            },
            "agents": agents.collect::<Vec<_>>(),
        })
    }

    /// What `mizzen overlay` shows of the registry.
    #[must_use]
    pub fn summary(&self, now: Wall) -> Value {
        let usage = self.usage(now).into_iter().map(|usage| {
            json!({
                "overlay": usage.overlay,
                "network": usage.network,
                "used": usage.used as f64,
                "total": usage.total as f64,
                "exhausted_in_seconds": usage.exhausted_in.map(|left| left.as_secs()),
                "waiting": usage.waiting,
            })
        });
        let agents = self.agents.iter().map(|(id, agent)| self.row(id, agent.address));
        json!({
            "usage": usage.collect::<Vec<_>>(),
            "agents": agents.collect::<Vec<_>>(),
            "problems": self.problems(now),
        })
    }

    fn row(&self, id: &AgentId, address: IpAddr) -> Value {
        let grant = self.grant(id);
        let blocks = grant.iter().flat_map(|grant| &grant.shares);
        let blocks: Map<String, Value> =
            blocks.map(|share| (share.overlay.name.clone(), json!(share.blocks))).collect();
        json!({ "agent_id": id, "address": address, "blocks": blocks })
    }
}

/// An agent in `/overlay-master/state`, and the answer of `/overlay-agent/overlay`. `failure`
/// says what went wrong with an overlay on the agent, if it knows.
///
/// An entry of the old modules has one block. Of an agent with more, each further one is in
/// another entry of the same overlay, after the first: readers that go through all of them
/// find all blocks, and those that look for an overlay by its name the one they always did.
#[must_use]
pub fn agent_state(
    address: IpAddr,
    grant: &OverlayGrant,
    failure: impl Fn(&str) -> Option<String>,
) -> Value {
    let entries = grant.shares.iter().flat_map(|share| {
        let failure = failure(&share.overlay.name);
        blocks(share).into_iter().map(move |blocks| entry(grant, share, &blocks, failure.clone()))
    });
    json!({
        "ip": address,
        "configuration_attempts": 1,
        "overlays": entries.collect::<Vec<_>>(),
    })
}

/// The first block of each family, the second of each, and so on; nothing once if there is none.
fn blocks(share: &OverlayShare) -> Vec<Vec<IpNet>> {
    let of = |v6: bool| share.blocks.iter().filter(move |net| net.addr().is_ipv6() == v6);
    let count = of(false).count().max(of(true).count()).max(1);
    let nth = |n| [of(false).nth(n), of(true).nth(n)].into_iter().flatten().copied().collect();
    (0..count).map(nth).collect()
}

/// An overlay with at most one block of each family.
fn entry(
    grant: &OverlayGrant,
    share: &OverlayShare,
    blocks: &[IpNet],
    failure: Option<String>,
) -> Value {
    let of = |v6: bool| blocks.iter().find(|net| net.addr().is_ipv6() == v6);
    let definition = &share.overlay;
    let mut vxlan = json!({
        "vni": definition.vni, "vtep_name": vtep_name(definition.vni),
        "vtep_mac": grant.vtep.mac, "vtep_mtu": definition.mtu,
    });
    for net in &grant.vtep.addresses {
        let key = if net.addr().is_ipv6() { "vtep_ip6" } else { "vtep_ip" };
        vxlan[key] = json!(net);
    }
    let network = |v6: bool| definition.networks.iter().find(|net| net.addr().is_ipv6() == v6);
    let mut info = json!({ "name": definition.name, "enabled": true });
    let mut found = json!({ "backend": { "vxlan": vxlan } });
    for (v6, subnet, prefix) in [(false, "subnet", "prefix"), (true, "subnet6", "prefix6")] {
        if let (Some(network), Some(block)) = (network(v6), of(v6)) {
            info[subnet] = json!(network);
            info[prefix] = json!(block.prefix_len());
            found[subnet] = json!(block);
        }
    }
    let halves = grant.habits == Habits::Dcos;
    found["info"] = info;
    found["mesos_bridge"] = bridge("m", definition.name.as_str(), blocks, halves.then_some(0));
    if halves {
        found["docker_bridge"] = bridge("d", definition.name.as_str(), blocks, Some(1));
    }
    found["state"] = match failure {
        None => json!({ "status": "STATUS_OK" }),
        Some(error) => json!({ "status": "STATUS_FAILED", "error": error }),
    };
    found
}

/// A bridge with its part of an entry's blocks.
fn bridge(prefix: &str, overlay: &str, blocks: &[IpNet], half: Option<usize>) -> Value {
    let mut bridge = json!({ "name": format!("{prefix}-{overlay}") });
    for block in blocks {
        let part = half.and_then(|half| half_of(block, half)).unwrap_or(*block);
        bridge[if block.addr().is_ipv6() { "ip6" } else { "ip" }] = json!(part);
    }
    bridge
}

/// The lower half of a block (0), or the upper one (1).
fn half_of(block: &IpNet, half: usize) -> Option<IpNet> {
    block.subnets(block.prefix_len() + 1).ok()?.nth(half)
}

fn vtep_name(vni: u32) -> String {
    if vni == super::FIRST_VNI { VTEP_NAME.to_owned() } else { format!("vtep{vni}") }
}

fn info(overlay: &OverlayDefinition) -> Value {
    let mut info = json!({ "name": overlay.name, "enabled": true });
    for pool in &overlay.pools {
        let keys = if pool.network.addr().is_ipv6() {
            ("subnet6", "prefix6")
        } else {
            ("subnet", "prefix")
        };
        info[keys.0] = json!(pool.network);
        info[keys.1] = json!(pool.prefix);
    }
    info
}
