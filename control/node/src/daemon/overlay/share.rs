//! The node's own share: given by the leading master, kept on the disk, said as a fact.

use super::super::build::{self, overlay_specs};
use super::super::core::Core;
use super::super::replies::{empty, refuse};
use crate::config::Role;
use mizzen_http::core::ServicesReply;
use mizzen_kernel::leases::observe_addresses;
use mizzen_plan::overlay::OverlaySpec;
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::overlay::{NodeOverlay, OverlayClaim, OverlayGrant};
use mizzen_types::time::Mono;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Key of the share in the store.
const GRANT: &str = "overlay/grant";
/// An overlay's addresses are nearly used up when this part of them is.
const NEARLY_USED: f64 = 0.9;
/// A master that gave no further block is asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// A master that has not answered by then gives none.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// The share of a former process.
pub(crate) fn kept_grant(store: &Store) -> anyhow::Result<Option<OverlayGrant>> {
    let Some(bytes) = store.get(GRANT)? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(grant) => Ok(Some(grant)),
        Err(error) => {
            // The master says it again.
            warn!(%error, "the node's share of the overlays is unreadable");
            Ok(None)
        }
    }
}

impl Core {
    /// The master gave the node its share of the overlays.
    pub(crate) fn take_grant(&mut self, grant: OverlayGrant) {
        if !self.config.has(Role::Overlay) || self.overlay.grant.as_ref() == Some(&grant) {
            return;
        }
        let blocks = grant.shares.iter().flat_map(|share| &share.blocks);
        let blocks: Vec<String> = blocks.map(ToString::to_string).collect();
        info!(blocks = blocks.join(" "), vtep = %grant.vtep.mac, "share of the overlays");
        match serde_json::to_vec(&grant) {
            Ok(bytes) => self.node_saves.push(GRANT, Some(bytes)),
            // The node would come back with the share that it had before, and be given this one again.
            Err(error) => warn!(%error, "the node's share of the overlays cannot be written down"),
        }
        self.overlay.grant = Some(grant);
        self.overlay.asked.clear();
        if let Some(containers) = &self.containers {
            let networks = build::networks(&self.config, self.overlay.grant.as_ref());
            containers.containerizer.set_networks(networks);
        }
        if self.recovering {
            // Ready means that containers can be attached.
            let report = mizzen_kernel::network::ensure_network(&self.network_spec());
            self.note_network(&report);
            self.follow_grant();
            self.introduce();
        } else {
            // Routes bear the bridges' addresses: they come after them.
            self.overlay.expect_grant();
            self.ensure_network();
        }
    }

    /// What other nodes need to reach this node's containers.
    pub(crate) fn overlay_fact(&self) -> Option<NodeOverlay> {
        let held_back = self.overlay.encryption.holds_back();
        let grant = self.overlay.grant.as_ref().filter(|_| !held_back)?;
        let mut fact = grant.fact(vec![self.config.address], self.overlay.underlay_mtu);
        fact.wireguard = self.overlay.encryption.own(&self.config).map(|own| own.end);
        Some(fact)
    }

    /// What the agent says that it has when it registers: what it was given, and what the
    /// configuration asks for.
    pub(crate) fn overlay_claim(&self) -> OverlayClaim {
        let mut claim = self.config.overlay_claim();
        let Some(kept) = self.overlay.grant.as_ref().map(OverlayGrant::claim) else { return claim };
        claim.vtep = kept.vtep;
        for (name, blocks) in kept.blocks {
            let all = claim.blocks.entry(name).or_default();
            all.retain(|block| !blocks.contains(block));
            all.extend(blocks);
        }
        claim
    }

    /// Asks for more blocks where those that are there are nearly used up.
    pub(crate) fn want_addresses(&mut self, now: Mono) {
        self.ask_for_blocks(now);
    }

    /// A plugin found all addresses leased: it is answered when there are more and plugins can
    /// read it, or at once if there will not be any.
    pub(crate) fn get_addresses(&mut self, reply: oneshot::Sender<ServicesReply>, now: Mono) {
        match self.ask_for_blocks(now) {
            Asked::Lately => self.overlay.short.push(reply),
            // They were given, and plugins cannot read it yet.
            Asked::NotNeeded if self.overlay.passes.awaits_grant() => {
                self.overlay.short.push(reply);
            }
            Asked::NotNeeded => drop(reply.send(empty(204))),
            Asked::InVain => {
                drop(reply.send(refuse(503, "no master gives further addresses now").reply()));
            }
        }
        // Who went away meanwhile is no concern.
        self.overlay.short.retain(|reply| !reply.is_closed());
    }

    /// Plugins can read the node's share.
    pub(super) fn answer_short(&mut self) {
        for reply in self.overlay.short.drain(..) {
            let _ = reply.send(empty(204));
        }
    }

    /// Asks where it was not done lately, and says whether an answer may be on its way.
    fn ask_for_blocks(&mut self, now: Mono) -> Asked {
        let Some(grant) = &self.overlay.grant else { return Asked::InVain };
        let specs = overlay_specs(&self.config, grant);
        let short = specs.into_iter().filter(|spec| is_short(spec, &leases(spec)));
        let names: Vec<String> = short.map(|spec| spec.name).collect();
        let mut outcome = if names.is_empty() { Asked::NotNeeded } else { Asked::InVain };
        for name in names {
            let asked = self.overlay.asked.get(&name).map(|at| now.since(*at));
            if asked.is_none_or(|ago| ago >= ASK_AGAIN) {
                let Some(agent) = self.agent.as_mut() else { continue };
                if !agent.want_addresses(&name) {
                    continue;
                }
                info!(overlay = name, "addresses are nearly used up; asking for another block");
                self.overlay.asked.insert(name, now);
            }
            if asked.is_none_or(|ago| ago < ANSWERED_WITHIN || ago >= ASK_AGAIN) {
                outcome = Asked::Lately;
            }
        }
        outcome
    }
}

/// What asking the master for more blocks has come to.
enum Asked {
    /// No overlay is short of addresses.
    NotNeeded,
    /// It may answer yet.
    Lately,
    /// There is none, or it gave nothing.
    InVain,
}

/// Addresses of an overlay that have a lease on this node.
pub(super) fn leases(spec: &OverlaySpec) -> Vec<IpAddr> {
    let directory = spec.leases.join(&spec.name);
    observe_addresses(&directory).unwrap_or_else(|error| {
        warn!(error = chain(&error), "leases are not counted");
        Vec::new()
    })
}

/// Whether the IPv4 addresses of the node's blocks are nearly used up.
fn is_short(spec: &OverlaySpec, leases: &[IpAddr]) -> bool {
    let ours = |at: &&IpAddr| at.is_ipv4() && spec.blocks.iter().any(|net| net.contains(*at));
    let (used, room) = (leases.iter().filter(ours).count(), room(spec));
    room > 0.0 && used as f64 >= NEARLY_USED * room
}

/// IPv4 addresses that this node can lease of an overlay: all but the first two and the last
/// of each block.
pub(super) fn room(spec: &OverlaySpec) -> f64 {
    let bits = |net: &ipnet::IpNet| net.max_prefix_len() - net.prefix_len();
    let v4 = spec.blocks.iter().filter(|net| net.addr().is_ipv4());
    v4.map(|net| f64::from(bits(net)).exp2() - 3.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(blocks: &[&str]) -> OverlaySpec {
        OverlaySpec {
            name: "dcos".to_owned(),
            networks: Vec::new(),
            blocks: blocks.iter().map(|block| block.parse().unwrap()).collect(),
            bridge: "m-dcos".to_owned(),
            second: None,
            tunnel: "vtep1024".to_owned(),
            mtu: 1420,
            leases: "/nowhere".into(),
            resolver: None,
        }
    }

    #[test]
    fn another_block_is_asked_for_when_addresses_of_the_blocks_are_used_up() {
        let leased = |count: u8, net: &str| -> Vec<IpAddr> {
            (2..count + 2).map(|last| format!("{net}{last}").parse().unwrap()).collect()
        };
        let both = [leased(100, "9.0.0."), leased(200, "fd01:b::")].concat();
        #[rustfmt::skip]
        let table = [
            ("few of a /29",            &["9.0.0.0/29"][..],               leased(4, "9.0.0."),   false),
            ("all of a /29",            &["9.0.0.0/29"],                   leased(5, "9.0.0."),   true),
            ("most of a /24",           &["9.0.0.0/24"],                   leased(228, "9.0.0."), true),
            ("of both families",        &["9.0.0.0/24", "fd01:b::/80"],    both,                  false),
            ("half of two",             &["9.0.0.0/29", "9.0.1.0/29"],     leased(5, "9.0.0."),   false),
            ("those of a former block", &["9.0.1.0/29"],                   leased(5, "9.0.0."),   false),
            ("IPv6 alone has no end",   &["fd01:b::/80"],                  leased(200, "fd01:b::"), false),
            ("none",                    &["9.0.0.0/29"],                   vec![],                false),
        ];
        for (name, blocks, leases, want) in table {
            assert_eq!(is_short(&spec(blocks), &leases), want, "{name}");
        }
    }
}
