//! The nodes of the cluster as a person sees them.

use super::Members;
use crate::daemon::clock;
use crate::daemon::core::Core;
use mizzen_membership::nodes::Node;
use mizzen_membership::swim::State;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Now, Wall};
use serde_json::{Value, json};

impl Core {
    /// `GET /v1/cluster/nodes`: all nodes in the order of their host names. A node that is
    /// alone is the only one.
    pub(super) fn list_nodes(&self) -> Value {
        let now = clock::now();
        let Some(members) = &self.members else {
            return json!([{
                "id": self.node_log.owner(), "hostname": self.config.hostname,
                "address": self.config.address, "listen": null,
                "zone": Some(&self.config.zone).filter(|zone| !zone.is_empty()),
                "state": word(State::Alive), "here": true, "authority": false,
                "since_seconds": now.mono.since(self.started.mono).as_secs(),
                "silent_seconds": null, "round_trip_ms": null, "path_mtu": null,
                "clock_ahead_seconds": null, "subnets": [],
                "problems": self.said(self.node_log.owner(), now).collect::<Vec<_>>(),
            }]);
        };
        let mut all: Vec<Value> =
            members.membership.nodes().iter().map(|node| self.show(members, node, now)).collect();
        all.sort_by_cached_key(|node| {
            (node["hostname"].as_str().map(str::to_owned), node["id"].as_str().map(str::to_owned))
        });
        all.into()
    }

    fn show(&self, members: &Members, node: &Node, now: Now) -> Value {
        let fact = node.fact.as_ref();
        let here = node.identity.node() == members.membership.me().node();
        let shares = fact.and_then(|fact| fact.overlay.as_ref()).map(|overlay| &overlay.shares);
        let blocks = shares.into_iter().flatten().flat_map(|share| &share.blocks);
        let subnets: Vec<String> = blocks.map(ToString::to_string).collect();
        let standing = members.problems_of(node, here).into_iter();
        let standing = standing.map(|text| problem(&text, node.age(now).as_secs()));
        let problems = standing.chain(self.said(node.identity.node(), now));
        json!({
            "id": node.identity.node(),
            "hostname": fact.map(|fact| &fact.hostname),
            "address": fact.map_or_else(|| node.identity.address.ip(), |fact| fact.address),
            "listen": node.identity.address,
            "zone": node.zone(),
            "state": word(node.state),
            "here": here,
            "authority": fact.is_some_and(|fact| fact.authority),
            "since_seconds": node.age(now).as_secs(),
            "silent_seconds": node.silent_for(now).map(|span| span.as_secs()),
            "round_trip_ms": node.round_trip.map(|span| span.as_secs_f64() * 1000.0),
            "path_mtu": self.overlay.peers.path_mtu(node.identity.node()),
            "subnets": subnets,
            "clock_ahead_seconds": members.clocks.ahead(node.identity.node()),
            "problems": problems.collect::<Vec<_>>(),
        })
    }

    /// What a node says is wrong with it.
    fn said(&self, node: &OwnerId, now: Now) -> impl Iterator<Item = Value> {
        let age = move |since: Wall| now.wall.0.saturating_sub(since.0) / 1_000_000_000;
        self.problems_said_by(node).iter().map(move |said| problem(&said.text, age(said.since)))
    }

    /// What `mizzen status` says of other nodes.
    pub(crate) fn cluster_status(&self) -> Option<Value> {
        let members = self.members.as_ref()?;
        let nodes = members.membership.nodes();
        Some(json!({
            "listen": members.membership.me().address,
            "alive": nodes.count(State::Alive), "suspect": nodes.count(State::Suspect),
            "dead": nodes.count(State::Dead), "left": nodes.count(State::Left),
            "authority": members.has_authority(),
        }))
    }
}

impl Members {
    fn problems_of(&self, node: &Node, here: bool) -> Vec<String> {
        let mut problems = Vec::new();
        match node.state {
            State::Alive | State::Left => {}
            State::Suspect => problems.push("does not answer".to_owned()),
            State::Dead => problems.push("did not answer and is out".to_owned()),
        }
        if node.fact.is_none() && node.is_here() {
            problems.push("its facts have not come yet".to_owned());
        }
        if node.is_here() {
            let sharing = self.membership.nodes().sharing(node);
            problems.extend(
                sharing.iter().map(|other| {
                    format!("listens at the same address as {}", other.identity.node())
                }),
            );
        }
        if here && self.membership.is_refused() {
            problems.push("another process has this node's id".to_owned());
        }
        problems
    }
}

fn problem(text: &str, since_seconds: u64) -> Value {
    json!({ "problem": text, "since_seconds": since_seconds })
}

fn word(state: State) -> &'static str {
    match state {
        State::Alive => "alive",
        State::Suspect => "suspect",
        State::Dead => "dead",
        State::Left => "left",
    }
}
