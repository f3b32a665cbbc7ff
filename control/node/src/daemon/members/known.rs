//! What is known of nodes, by their ids, names and addresses.

use super::Members;
use crate::daemon::core::Core;
use mizzen_membership::nodes::Node;
use mizzen_types::fact::NodeFact;
use mizzen_types::ids::OwnerId;
use std::net::IpAddr;

impl Members {
    /// What a node says of itself.
    pub(super) fn fact_of(&self, node: &OwnerId) -> Option<&NodeFact> {
        self.membership.nodes().get(node)?.fact.as_deref()
    }

    /// The host name of a node, if it has said it.
    pub(crate) fn hostname(&self, node: &OwnerId) -> Option<&str> {
        self.fact_of(node).map(|fact| fact.hostname.as_str())
    }

    /// Nodes that say, or said when they were heard, that this is their address.
    pub(crate) fn nodes_at(&self, address: IpAddr) -> impl Iterator<Item = &OwnerId> {
        let nodes = self.membership.nodes().iter();
        let is_there =
            move |node: &&Node| node.fact.as_ref().is_some_and(|fact| fact.address == address);
        nodes.filter(is_there).map(|node| node.identity.node())
    }

    /// The node with this id or, if it is the only one, this host name; dead ones as well.
    pub(crate) fn known(&self, name: &str) -> Option<(OwnerId, NodeFact)> {
        let nodes = self.membership.nodes().iter();
        let known = nodes.filter_map(|node| Some((node.identity.node(), node.fact.as_deref()?)));
        let is_named =
            |(id, fact): &(&OwnerId, &NodeFact)| id.as_str() == name || fact.hostname == name;
        let mut named = known.filter(is_named);
        let (id, fact) = named.next()?;
        named.next().is_none().then(|| (id.clone(), fact.clone()))
    }

    /// Where a peer is.
    pub(crate) fn address_of(&self, peer: &OwnerId) -> Option<IpAddr> {
        self.membership.nodes().get(peer).map(|node| node.identity.address.ip())
    }
}

impl Core {
    /// What people call a node: its host name, or its id as long as that is not known.
    pub(crate) fn name_of<'a>(&'a self, node: &'a OwnerId) -> &'a str {
        let hostname = self.members.as_ref().and_then(|members| members.hostname(node));
        hostname.unwrap_or(node.as_str())
    }

    /// Another node by its id or host name.
    pub(crate) fn find_node(&self, name: &str) -> Option<(OwnerId, NodeFact)> {
        self.members.as_ref()?.known(name)
    }
}
