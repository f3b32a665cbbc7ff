//! What people and old tools read of the overlays.

use super::encryption::{ENCRYPTION, Handshakes};
use super::share::leases;
use super::{ADDRESSES, NETWORK, PEERS, TUNNELS};
use crate::daemon::build::overlay_specs;
use crate::daemon::clock;
use crate::daemon::core::Core;
use crate::daemon::queries::role_is_off;
use crate::daemon::replies::{Answer, json as document, refuse};
use crate::daemon::vip_views::metrics::{Single, single, total};
use mizzen_http::core::{OperatorReply, QueryReply};
use mizzen_master::ReleaseError;
use mizzen_master::overlay::{AdoptError, agent_state};
use mizzen_plan::overlay::{OverlaySpec, is_foreign};
use mizzen_types::ids::OwnerId;
use mizzen_types::overlay::NodeOverlay;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

impl Core {
    /// `GET /overlay-master/state`.
    pub(crate) fn overlay_master_state(&self) -> QueryReply {
        match self.master.as_ref().and_then(mizzen_master::Master::overlays) {
            Some(overlays) => QueryReply::Json(overlays.state()),
            None => role_is_off("master"),
        }
    }

    /// `GET /overlay-agent/overlay`.
    pub(crate) fn overlay_agent_state(&self) -> QueryReply {
        let problem = [TUNNELS, NETWORK, "network"].iter().find_map(|part| self.problems.of(part));
        QueryReply::Json(match &self.overlay.grant {
            Some(grant) => agent_state(self.config.address, grant, |_| problem.map(str::to_owned)),
            None => json!({
                "ip": self.config.address, "configuration_attempts": 0, "overlays": [],
            }),
        })
    }

    /// `POST /overlay-master/agents/delete`: agents at these addresses are gone for good.
    pub(crate) fn delete_overlay_agents(&mut self, addresses: &[IpAddr]) -> OperatorReply {
        let refused = |status, text| OperatorReply::Refused { status, text };
        if let Some(address) = addresses.iter().find(|address| self.is_said(**address)) {
            let text = format!("a node with the address {address} is alive");
            return refused(409, text);
        }
        let Some(master) = self.master.as_mut() else {
            return refused(404, "this node does not have the role `master`".to_owned());
        };
        // Who was marked gone has nothing left that could be freed.
        let is_left = |address: &&IpAddr| {
            let mut nodes = self.members.iter().flat_map(|members| members.nodes_at(**address));
            master.overlays().is_none_or(|all| all.agents_at(**address).next().is_some())
                || !nodes.any(|node| master.is_node_gone(node))
        };
        let left: Vec<IpAddr> = addresses.iter().filter(is_left).copied().collect();
        match master.release_agents(&left) {
            Ok(()) => {
                self.settle();
                OperatorReply::Done
            }
            Err(error @ ReleaseError::Present { .. }) => refused(409, error.to_string()),
            Err(error) => refused(404, error.to_string()),
        }
    }

    /// `POST /v1/cluster/overlay-agents`: the agents of a DC/OS cluster, in the form of its
    /// `/overlay-master/state`, keep what they have.
    pub(crate) fn adopt_overlay_agents(&mut self, state: &[u8]) -> Answer {
        let Some(master) = self.master.as_mut() else {
            let leader = self.links.leader().map(|leader| leader.hostname.as_str());
            let leader = leader.unwrap_or("nobody, at present");
            return Err(refuse(409, format!("the master has to be told so; {leader} leads")));
        };
        let adopted = master.adopt_foreign_agents(state).map_err(|error| match error {
            AdoptError::Form(_) | AdoptError::Nobody => refuse(400, error.to_string()),
            AdoptError::Habits | AdoptError::Agent { .. } => refuse(409, error.to_string()),
        })?;
        self.settle();
        Ok(document(200, &adopted))
    }

    /// `GET /v1/overlay`: everything, for `mizzen overlay`.
    pub(crate) fn overlay_view(&self) -> Value {
        let now = clock::now();
        let grant = self.overlay.grant.as_ref();
        let specs = grant.map(|grant| overlay_specs(&self.config, grant)).unwrap_or_default();
        let registry = self.master.as_ref().and_then(mizzen_master::Master::overlays);
        let parts = [TUNNELS, ENCRYPTION, PEERS, NETWORK, ADDRESSES];
        let problems: Vec<&str> = parts.iter().filter_map(|part| self.problems.of(part)).collect();
        let (peers, handshakes) = (self.overlay.peers.facts(), self.handshakes());
        json!({
            "vtep": grant.map(|grant| &grant.vtep),
            "port": grant.map(|grant| grant.port),
            "underlay": self.config.address,
            "underlay_mtu": self.overlay.underlay_mtu,
            "overlays": specs.iter().map(|spec| self.share(spec)).collect::<Vec<_>>(),
            "encryption": self.encryption_view(),
            "peers": peers.map(|(n, fact)| self.peer(n, fact, &handshakes)).collect::<Vec<_>>(),
            "registry": registry.map(|registry| registry.summary(now.wall)),
            "problems": problems,
        })
    }

    /// What is counted, for the node's metrics.
    pub(crate) fn overlay_singles(&self) -> [Single; 5] {
        let peers = &self.overlay.peers;
        let shares = self.overlay.grant.iter().flat_map(|grant| &grant.shares);
        let blocks = shares.map(|share| share.blocks.len() as u64).sum();
        [
            single("mizzen_overlay_blocks", "Blocks of overlays that the node has.", blocks),
            single(
                "mizzen_overlay_peers",
                "Other nodes whose containers are reached through tunnels.",
                peers.entries().count() as u64,
            ),
            single(
                "mizzen_overlay_encrypted_peers",
                "Other nodes to which packets are encrypted.",
                self.encrypted_peers(),
            ),
            single(
                "mizzen_overlay_refused_claims",
                "Claims of other nodes that are not believed.",
                peers.problems().count() as u64,
            ),
            total(
                "mizzen_overlay_tunnel_changes_total",
                "Links, routes, neighbours and forwarding entries of tunnels that were made, mended or removed.",
                self.overlay.changed,
            ),
        ]
    }

    fn share(&self, spec: &OverlaySpec) -> Value {
        let vni = self.overlay.grant.iter().flat_map(|grant| &grant.shares);
        let vni = vni.map(|share| &share.overlay).find(|overlay| overlay.name == spec.name);
        let second = spec.second.as_ref();
        json!({
            "name": spec.name,
            "vni": vni.map(|overlay| overlay.vni),
            "networks": spec.networks,
            "blocks": spec.blocks,
            "bridge": spec.bridge,
            "second": second.map(|s| json!({ "bridge": s.bridge, "blocks": s.blocks })),
            "tunnel": spec.tunnel,
            "mtu": spec.mtu,
            "leases": leases(spec).len(),
        })
    }

    fn peer(&self, node: &OwnerId, fact: &NodeOverlay, handshakes: &Handshakes) -> Value {
        // The dead have their names as well.
        let hostname = self.members.as_ref().and_then(|members| members.hostname(node));
        let blocks = fact.shares.iter().map(|share| (share.name.clone(), json!(share.blocks)));
        let problems = self.overlay.peers.problems().filter(|(of, _)| *of == node);
        let reached = self.overlay.peers.entries().find(|(of, _)| *of == node);
        let mtu = reached.and_then(|(_, entries)| entries.routes.iter().find_map(|r| r.mtu));
        json!({
            "node": node,
            "hostname": hostname,
            "underlay": fact.underlay,
            "vtep": fact.vtep,
            "mac": fact.mac,
            "blocks": blocks.collect::<Map<_, _>>(),
            "alive": !self.overlay.peers.is_dead(node),
            "foreign": is_foreign(node),
            "reached": reached.is_some(),
            "path_mtu": self.overlay.peers.path_mtu(node),
            "mtu": mtu,
            "encryption": self.peer_encryption_view(node, handshakes),
            "problems": problems.map(|(_, problem)| problem.to_string()).collect::<Vec<_>>(),
        })
    }

    /// Whether a node that is alive says that it has this address, and blocks.
    fn is_said(&self, address: IpAddr) -> bool {
        let fact = |(node, fact): (&OwnerId, &NodeOverlay)| {
            let speaks = !self.overlay.peers.is_dead(node) && !is_foreign(node);
            speaks && fact.underlay.contains(&address)
        };
        self.overlay.peers.facts().any(fact)
            || self.overlay.grant.is_some() && self.config.address == address
    }
}
