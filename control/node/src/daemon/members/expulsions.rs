//! Nodes that are thrown out: from one moment to the next their certificates count no longer.

use super::admissions::alone;
use super::{CLUSTER, CREDENTIALS, Members};
use crate::daemon::clock;
use crate::daemon::core::Core;
use crate::daemon::replies::{Answer, Refusal as Refused, bad, json, refuse};
use mizzen_gossip::TrustError;
use mizzen_gossip::issued::{Issued, MAX_EXPELLED};
use mizzen_membership::nodes::Node;
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Now, Wall};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tracing::{info, warn};

/// Fewer letters of an id could be a slip.
const SHORTEST: usize = 4;

/// What a node says that was thrown out.
pub(super) const EXPELLED: &str = "this node was expelled from its cluster: no other node speaks \
                                   with it; with a new state directory and a new token it can \
                                   join again";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unwanted {
    node: String,
}

impl Core {
    /// `POST /v1/cluster/expel`.
    pub(super) fn expel_node(&mut self, body: &[u8]) -> Answer {
        let Unwanted { node } = serde_json::from_slice(body).map_err(bad)?;
        let (now, life) = (clock::now(), self.config.cluster.certificate_life);
        let patience = self.patience();
        let members = self.members.as_mut().ok_or_else(alone)?;
        if !members.has_authority() {
            return Err(members.authority_elsewhere());
        }
        let node = members.find(&node)?;
        if node == members.credentials.node {
            return Err(refuse(409, "this node has the cluster's authority and stays in it"));
        }
        if members.may_lag(patience, now) && !members.is_told && members.has_others(&node) {
            let text = "this node has just started and heard of no other yet whom it expelled \
                        before: try again in a moment";
            return Err(refuse(503, text));
        }
        let issued = members.expulsion_of(&node, life, now)?;
        // It is out even if this process ends before anybody hears of it.
        let kept = members.credentials.to_bytes(&issued).map_err(|error| unable(&error))?;
        self.store
            .write(&[(CREDENTIALS.to_owned(), Some(kept))])
            .map_err(|error| refuse(503, chain(&error)))?;
        members.transport.learn(&issued, now).map_err(|error| unable(&error))?;
        info!(%node, "a node is expelled");
        self.settle();
        Ok(json(200, &json!({ "expelled": node })))
    }

    /// The authority expelled a node: whatever that says, or said, is nothing any more.
    pub(super) fn follow_expulsion(&mut self, node: &OwnerId, now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        if *node == members.credentials.node {
            return self.problems.report(CLUSTER, EXPELLED.to_owned());
        }
        warn!(%node, "the authority expelled a node");
        members.signer.expel(&members.transport.issued().expulsions);
        members.membership.expel(node, now);
    }
}

impl Members {
    /// Whether this node itself was thrown out.
    pub(super) fn is_expelled(&self) -> bool {
        self.transport.issued().expulsions.has(&self.credentials.node)
    }

    /// The node that a person means: by its id, the beginning of that, or its host's name.
    fn find(&self, name: &str) -> Result<OwnerId, Refused> {
        let is_meant = |node: &&Node| {
            let id = node.identity.node().as_str();
            let hostname = node.fact.as_ref().map(|fact| fact.hostname.as_str());
            hostname == Some(name) || id == name || name.len() >= SHORTEST && id.starts_with(name)
        };
        let meant: Vec<&OwnerId> =
            self.membership.nodes().iter().filter(is_meant).map(|n| n.identity.node()).collect();
        match meant.as_slice() {
            [node] => Ok((*node).clone()),
            [] => Err(refuse(404, format!("there is no node `{name}`; see `mizzen nodes`"))),
            nodes => {
                let ids: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
                Err(refuse(409, format!("`{name}` may be any of {}: give its id", ids.join(", "))))
            }
        }
    }

    /// Whether nodes are alive beside this one and another.
    fn has_others(&self, other: &OwnerId) -> bool {
        let mut here = self.membership.nodes().iter().filter(|node| node.is_here());
        here.any(|node| ![other, &self.credentials.node].contains(&node.identity.node()))
    }

    /// What the authority issues to expel a node: a list, and a key that the node does not
    /// know.
    fn expulsion_of(&self, node: &OwnerId, life: Duration, now: Now) -> Result<Issued, Refused> {
        let desk = self.desk.as_ref().ok_or_else(|| self.authority_elsewhere())?;
        let mut issued = self.transport.issued();
        // Whose certificates have ended need not be kept out. An authority from a backup, which
        // had not heard of this list yet, may have renewed one meanwhile.
        let counts = |at: &Wall| Duration::from_nanos(now.wall.0.saturating_sub(at.0)) < 2 * life;
        issued.expulsions.nodes.retain(|_, at| counts(at));
        if issued.expulsions.nodes.len() >= MAX_EXPELLED {
            let text = format!("{MAX_EXPELLED} expelled nodes have certificates that still count");
            return Err(refuse(409, text));
        }
        let number = issued.epochs.last().map_or(1, |epoch| epoch.number + 1);
        let epoch = desk.authority.new_epoch(number, now.wall).map_err(|error| unable(&error))?;
        let list = desk.authority.expel(&issued.expulsions, node, number, now.wall);
        Ok(Issued { epochs: vec![epoch], expulsions: list.map_err(|error| unable(&error))? })
    }
}

fn unable(error: &TrustError) -> Refused {
    refuse(500, chain(error))
}
