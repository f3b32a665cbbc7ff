//! `GET /v1/ping`: one packet to another node's end of the tunnels, or to a container.

use super::encryption::{Handshakes, way_of_packets};
use crate::daemon::build::overlay_specs;
use crate::daemon::clock;
use crate::daemon::core::Core;
use crate::daemon::lookups::Lookup;
use crate::daemon::members::Silence;
use mizzen_http::core::{Measured, Query, QueryReply};
use mizzen_kernel::path_mtu::{echo, probe_path};
use mizzen_kernel::tunnels::encryption::handshakes;
use mizzen_plan::overlay::{EncryptedPeer, OverlaySpec, PeerEntries};
use mizzen_types::fact::{Fact, NodeFact, TaskFact};
use mizzen_types::ids::OwnerId;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// What is not answered in this time is lost.
const WAIT: Duration = Duration::from_secs(1);

/// Where a packet goes.
#[derive(Debug)]
struct Way {
    kind: &'static str,
    /// Host name of the node there.
    node: String,
    address: IpAddr,
    path: Path,
    /// Largest packet that the link here takes, in bytes.
    mtu: u32,
    /// The node there does not answer; its kernel may.
    silence: Option<Silence>,
}

/// By which way it goes.
#[derive(Debug)]
enum Path {
    /// It stays on this node.
    Local { bridge: String },
    /// Through a tunnel.
    Tunnel {
        link: String,
        underlay: IpAddr,
        /// The link that encrypts on the way, and the node's end there.
        encryption: Option<(String, EncryptedPeer)>,
    },
}

impl Core {
    /// How to answer this question; any other is given back.
    pub(crate) fn ping(&self, query: Query) -> Result<Lookup, Query> {
        let Query::Ping { to, measured } = query else { return Err(query) };
        Ok(match (self.way_to(&to), measured) {
            (Err(why), _) => Box::new(move || QueryReply::NotFound(why)),
            (Ok(way), Measured::RoundTrip) => Box::new(move || QueryReply::Json(round_trip(&way))),
            (Ok(way), Measured::Mtu) => Box::new(move || QueryReply::Json(path_mtu(&way))),
        })
    }

    /// The way to a node, by id or host name, or to a task, by id or container address.
    fn way_to(&self, to: &str) -> Result<Way, String> {
        let specs = self.overlay.grant.as_ref().map(|grant| overlay_specs(&self.config, grant));
        let Some(specs) = specs.filter(|specs| !specs.is_empty()) else {
            return Err(
                "this node has no share of the overlays, so it reaches nothing by them".to_owned()
            );
        };
        if to == self.node_log.owner().as_str() || to == self.config.hostname {
            return self.way_to_itself(&specs);
        }
        if let Some((node, fact)) = self.find_node(to) {
            return self.way_to_node(&specs, &node, &fact);
        }
        self.way_to_any_task(&specs, to)
    }

    /// The way to a task, also to one of a node that does not answer.
    fn way_to_any_task(&self, specs: &[OverlaySpec], to: &str) -> Result<Way, String> {
        let address: Option<IpAddr> = to.parse().ok();
        let is_meant = |task: &TaskFact| {
            task.task_id.as_str() == to
                || address.is_some_and(|address| task.container_addresses.contains(&address))
        };
        let task = self.view.facts().find_map(|(owner, _, fact)| match fact {
            Fact::Task(task) if is_meant(task) => Some((owner, &**task)),
            _ => None,
        });
        let silent = || {
            let mut tasks = self.silent_tasks(clock::now());
            tasks.find_map(|(owner, task, _)| is_meant(task).then_some((owner, task)))
        };
        match task.or_else(silent) {
            Some((owner, task)) => self.way_to_task(specs, owner, task),
            None => Err(format!("`{to}` is neither a node nor a task of this cluster")),
        }
    }

    fn way_to_itself(&self, specs: &[OverlaySpec]) -> Result<Way, String> {
        let spec = specs.first().and_then(|spec| Some((spec, *spec.gateways().first()?)));
        let Some((spec, address)) = spec else {
            return Err("this node has no block of any overlay".to_owned());
        };
        let path = Path::Local { bridge: spec.bridge.clone() };
        let node = self.config.hostname.clone();
        Ok(Way { kind: "node", node, address, path, mtu: spec.mtu, silence: None })
    }

    fn way_to_node(
        &self,
        specs: &[OverlaySpec],
        node: &OwnerId,
        fact: &NodeFact,
    ) -> Result<Way, String> {
        let name = &fact.hostname;
        if fact.overlay.is_none() {
            return Err(format!("{name} has no share of the overlays, so no tunnel leads there"));
        }
        let entries = self.entries_of(node, name)?;
        let Some(end) = entries.neighbours.first() else {
            return Err(format!("{name} has no end of tunnels"));
        };
        self.tunnel(specs, ("node", node, name), (end.vni, end.address), entries)
    }

    fn way_to_task(
        &self,
        specs: &[OverlaySpec],
        owner: &OwnerId,
        task: &TaskFact,
    ) -> Result<Way, String> {
        let name = self.find_node(owner.as_str()).map(|(_, fact)| fact.hostname);
        let name = name.unwrap_or_else(|| task.host_address.to_string());
        let Some(address) = task.container_addresses.first().copied() else {
            return Err(format!(
                "task {} uses the network of its node: mizzen ping {name}",
                task.task_id
            ));
        };
        if owner == self.node_log.owner() {
            let is_in =
                |spec: &&OverlaySpec| spec.networks.iter().any(|net| net.contains(&address));
            let Some(spec) = specs.iter().find(is_in) else {
                return Err(format!(
                    "{address} of task {} is in none of the overlays",
                    task.task_id
                ));
            };
            let path = Path::Local { bridge: spec.bridge.clone() };
            let mtu = spec.mtu;
            return Ok(Way { kind: "task", node: name, address, path, mtu, silence: None });
        }
        let entries = self.entries_of(owner, &name)?;
        let Some(route) = entries.routes.iter().find(|route| route.destination.contains(&address))
        else {
            return Err(format!("no route leads to {address} on {name}; see `mizzen overlay`"));
        };
        self.tunnel(specs, ("task", owner, &name), (route.vni, address), entries)
    }

    fn tunnel(
        &self,
        specs: &[OverlaySpec],
        (kind, node, name): (&'static str, &OwnerId, &str),
        (vni, address): (u32, IpAddr),
        entries: &PeerEntries,
    ) -> Result<Way, String> {
        let link = self.config.instance.tunnel(vni);
        let Some(forwarding) = entries.forwarding.iter().find(|entry| entry.vni == vni) else {
            return Err(format!("no tunnel with the number {vni} leads to {name}"));
        };
        let mtu = specs.iter().filter(|spec| spec.tunnel == link).map(|spec| spec.mtu).max();
        let mtu = mtu.unwrap_or(self.config.overlay.mtu);
        let by = self.config.instance.encryption_link();
        let encryption = entries.encryption.map(|peer| (by, peer));
        let path = Path::Tunnel { link, underlay: forwarding.underlay, encryption };
        let silence = self.silence_of(node, clock::now());
        Ok(Way { kind, node: name.to_owned(), address, path, mtu, silence })
    }

    /// What leads to a node; else why nothing does.
    fn entries_of(&self, node: &OwnerId, name: &str) -> Result<&PeerEntries, String> {
        let peers = &self.overlay.peers;
        let entries = peers.entries().find(|(other, _)| *other == node);
        entries.map(|(_, entries)| entries).ok_or_else(|| {
            let problem = peers.problems().find(|(other, _)| *other == node);
            match problem {
                Some((_, problem)) => format!("no tunnel leads to {name}: it {problem}"),
                None => format!(
                    "no tunnel leads to {name}, which has no block of an overlay of this node"
                ),
            }
        })
    }
}

fn round_trip(way: &Way) -> Value {
    let answer = echo(way.address, WAIT);
    let (span, error) = match answer {
        Ok(span) => (span, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let (kind, link, underlay) = match &way.path {
        Path::Local { bridge } => ("local", bridge, None),
        Path::Tunnel { link, underlay, .. } => ("tunnel", link, Some(underlay)),
    };
    // After the answer: the packet may have been the reason to shake hands.
    let encryption = encryption_of(&way.path);
    json!({
        "kind": way.kind,
        "node": way.node,
        "address": way.address,
        "path": { "kind": kind, "link": link, "underlay": underlay, "encryption": encryption },
        "round_trip_ms": span.map(|span| span.as_secs_f64() * 1000.0),
        "error": error,
        "silence": way.silence.as_ref().map(Silence::to_string),
    })
}

/// How packets travel, if they leave this node.
fn encryption_of(path: &Path) -> Option<&'static str> {
    let Path::Tunnel { encryption, .. } = path else { return None };
    let Some((link, peer)) = encryption else {
        return Some(way_of_packets(None, &Handshakes::new()));
    };
    Some(way_of_packets(Some(peer), &handshakes(link).unwrap_or_default()))
}

fn path_mtu(way: &Way) -> Value {
    // Who answers no large packets may answer small ones; then it is not known.
    json!({ "mtu": probe_path(way.address, way.mtu).ok().flatten() })
}
