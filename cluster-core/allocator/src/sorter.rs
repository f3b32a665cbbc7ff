//! Who is next: a tree of clients, sorted by weighted dominant share.
//!
//! Clients are paths (`a/b/c`); those of one parent compete with each other, by
//! share over weight, then by how often they were chosen, then by path. A client
//! that has children is a leaf `.` below its own node and competes with them.
//!
//! ```text
//!            root                 clients: a, a/b, c
//!          ┌──┴──┐                order, if nobody holds anything:
//!          a     c                a, a/b, c   ("a/." before "a/b")
//!        ┌─┴─┐
//!        .   b
//! ```

mod total;

use crate::node::{Change, Kind, Node};
use crate::share::{Share, Weight};
use mizzen_types::resources::{Quantities, Resources};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
pub use total::Total;

/// The tree.
#[derive(Debug)]
pub struct Sorter {
    /// Free places are `None`, and listed in `free`.
    nodes: Vec<Option<Node>>,
    free: Vec<usize>,
    by_path: BTreeMap<Arc<str>, usize>,
    clients: BTreeMap<Arc<str>, usize>,
    weights: BTreeMap<Arc<str>, Weight>,
    excluded: BTreeSet<Arc<str>>,
    /// Of the total that the shares were computed with; `None` if all are to be
    /// computed anew.
    generation: Option<u64>,
    total: Quantities,
    order: Option<Arc<[Arc<str>]>>,
}

const ROOT: usize = 0;

impl Default for Sorter {
    fn default() -> Self {
        Self::new(BTreeSet::new())
    }
}

impl Sorter {
    /// An empty tree; resources of `excluded` names do not count for shares.
    #[must_use]
    pub fn new(excluded: BTreeSet<Arc<str>>) -> Self {
        let root = Node::new(Arc::from(""), ROOT, Kind::Inner);
        Self {
            nodes: vec![Some(root)],
            free: Vec::new(),
            by_path: BTreeMap::new(),
            clients: BTreeMap::new(),
            weights: BTreeMap::new(),
            excluded,
            generation: None,
            total: Quantities::new(),
            order: None,
        }
    }

    /// Whether there is such a client.
    #[must_use]
    pub fn contains(&self, client: &str) -> bool {
        self.clients.contains_key(client)
    }

    /// How many clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are no clients.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// All clients, by name.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<str>> + '_ {
        self.clients.keys()
    }

    /// Adds a client that is not active yet; nothing happens if it is there.
    pub fn add(&mut self, client: &str) {
        if self.contains(client) {
            return;
        }
        let client: Arc<str> = Arc::from(client);
        let mut at = ROOT;
        let ends = client.match_indices('/').map(|(end, _)| end).chain([client.len()]);
        for end in ends {
            self.make_inner(at);
            at = self.child(at, &client[..end]);
        }
        if self.node(at).is_some_and(|node| node.kind == Kind::Inner && !node.children.is_empty()) {
            at = self.child(at, &format!("{client}/."));
        }
        if let Some(node) = self.node_mut(at) {
            node.kind = Kind::Inactive;
            node.client = Arc::clone(&client);
        }
        self.clients.insert(client, at);
        self.forget_order();
    }

    /// Removes a client and all that it holds.
    pub fn remove(&mut self, client: &str) {
        let Some(leaf) = self.clients.remove(client) else { return };
        let held = self.node(leaf).map(|node| node.held.clone()).unwrap_or_default();
        for (agent, resources) in held {
            self.change(leaf, &agent, &resources, Change::Subtract);
        }
        self.prune(leaf);
        self.forget_order();
    }

    /// Lets a client take part in the order.
    pub fn activate(&mut self, client: &str) {
        self.set_kind(client, Kind::Active);
    }

    /// Leaves a client out of the order; what it holds goes on to count.
    pub fn deactivate(&mut self, client: &str) {
        self.set_kind(client, Kind::Inactive);
    }

    /// Sets the weight of a path, whether or not there is such a client.
    pub fn set_weight(&mut self, path: &str, weight: Weight) {
        if weight == Weight::DEFAULT {
            self.weights.remove(path);
        } else {
            self.weights.insert(Arc::from(path), weight);
        }
        self.forget_order();
    }

    /// The weight of a path.
    #[must_use]
    pub fn weight(&self, path: &str) -> Weight {
        self.weights.get(path).copied().unwrap_or(Weight::DEFAULT)
    }

    /// A client was chosen and now holds these too.
    pub fn allocated(&mut self, client: &str, agent: &str, resources: &Resources) {
        let Some(leaf) = self.clients.get(client).copied() else { return };
        self.change(leaf, agent, resources, Change::Choose);
    }

    /// A client holds these no more.
    pub fn unallocated(&mut self, client: &str, agent: &str, resources: &Resources) {
        let Some(leaf) = self.clients.get(client).copied() else { return };
        self.change(leaf, agent, resources, Change::Subtract);
    }

    /// What a client holds became something else; it was not chosen for that.
    pub fn update(&mut self, client: &str, agent: &str, old: &Resources, new: &Resources) {
        let Some(leaf) = self.clients.get(client).copied() else { return };
        self.change(leaf, agent, old, Change::Subtract);
        self.change(leaf, agent, new, Change::Add);
    }

    /// What a client holds, by agent.
    #[must_use]
    pub fn held(&self, client: &str) -> Option<&BTreeMap<Arc<str>, Resources>> {
        self.clients.get(client).and_then(|leaf| self.node(*leaf)).map(|node| &node.held)
    }

    /// Scalars that a path and all below it hold; the root is the empty path.
    #[must_use]
    pub fn quantities(&self, path: &str) -> Option<&Quantities> {
        let at = if path.is_empty() { Some(&ROOT) } else { self.by_path.get(path) };
        at.and_then(|at| self.node(*at)).map(|node| &node.quantities)
    }

    /// Dominant share of a path and all below it, before its weight.
    #[must_use]
    pub fn share(&self, path: &str, total: &Total) -> Option<Share> {
        let quantities = self.quantities(path)?;
        Some(Share::dominant(quantities, &total.quantities, &self.excluded))
    }

    /// Active clients, the one to be served first in front.
    pub fn order(&mut self, total: &Total) -> Arc<[Arc<str>]> {
        if self.generation != Some(total.generation) {
            self.total = total.quantities.clone();
            self.sort_all();
            self.generation = Some(total.generation);
            self.order = None;
        }
        if let Some(order) = &self.order {
            return Arc::clone(order);
        }
        let mut found = Vec::with_capacity(self.clients.len());
        self.collect(ROOT, &mut found);
        let order: Arc<[Arc<str>]> = Arc::from(found);
        self.order = Some(Arc::clone(&order));
        order
    }

    fn node(&self, at: usize) -> Option<&Node> {
        self.nodes.get(at).and_then(Option::as_ref)
    }

    fn node_mut(&mut self, at: usize) -> Option<&mut Node> {
        self.nodes.get_mut(at).and_then(Option::as_mut)
    }

    fn insert(&mut self, node: Node) -> usize {
        match self.free.pop() {
            Some(at) => {
                self.nodes[at] = Some(node);
                at
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() - 1
            }
        }
    }

    fn take(&mut self, at: usize) -> Option<Node> {
        let node = self.nodes.get_mut(at).and_then(Option::take)?;
        self.free.push(at);
        self.by_path.remove(&node.path);
        Some(node)
    }

    fn forget_order(&mut self) {
        self.generation = None;
        self.order = None;
    }

    fn set_kind(&mut self, client: &str, kind: Kind) {
        let Some(leaf) = self.clients.get(client).copied() else { return };
        let Some(node) = self.node_mut(leaf) else { return };
        if node.kind != kind {
            node.kind = kind;
            self.forget_order();
        }
    }

    /// The child of `parent` at `path`, made as an empty inner node if need be.
    fn child(&mut self, parent: usize, path: &str) -> usize {
        if let Some(at) = self.by_path.get(path) {
            return *at;
        }
        let path: Arc<str> = Arc::from(path);
        let at = self.insert(Node::new(Arc::clone(&path), parent, Kind::Inner));
        self.by_path.insert(path, at);
        if let Some(parent) = self.node_mut(parent) {
            parent.children.push(at);
        }
        at
    }

    /// Moves a client that is to get children into a leaf of its own.
    fn make_inner(&mut self, at: usize) {
        let Some(node) = self.node_mut(at) else { return };
        if node.kind == Kind::Inner {
            return;
        }
        let kind = std::mem::replace(&mut node.kind, Kind::Inner);
        let client = Arc::clone(&node.client);
        let (chosen, quantities, held) = (node.chosen, node.quantities.clone(), node.held.clone());
        for resources in node.held.values_mut() {
            *resources = resources.shared();
        }
        node.held.retain(|_, resources| !resources.is_empty());
        let leaf = self.child(at, &format!("{client}/."));
        self.clients.insert(Arc::clone(&client), leaf);
        if let Some(node) = self.node_mut(leaf) {
            (node.kind, node.client) = (kind, client);
            (node.chosen, node.quantities, node.held) = (chosen, quantities, held);
        }
    }

    /// Removes a leaf and every ancestor that has nothing below it any more; a
    /// client whose last child went becomes a leaf again.
    fn prune(&mut self, leaf: usize) {
        let mut at = leaf;
        while at != ROOT {
            let Some(node) = self.take(at) else { return };
            let Some(parent) = self.node_mut(node.parent) else { return };
            parent.children.retain(|child| *child != at);
            at = node.parent;
            if !parent.children.is_empty() {
                break;
            }
        }
        let only = self.node(at).filter(|node| node.children.len() == 1).map(|n| n.children[0]);
        let Some(only) = only.filter(|only| at != ROOT && self.is_own_leaf(*only)) else { return };
        let Some(leaf) = self.take(only) else { return };
        self.clients.insert(Arc::clone(&leaf.client), at);
        if let Some(node) = self.node_mut(at) {
            (node.kind, node.client, node.held) = (leaf.kind, leaf.client, leaf.held);
            node.children.clear();
        }
    }

    fn is_own_leaf(&self, at: usize) -> bool {
        self.node(at).is_some_and(|node| node.kind != Kind::Inner && node.client != node.path)
    }

    /// Changes what a leaf holds, up to the root, and keeps the order if it stands.
    fn change(&mut self, leaf: usize, agent: &str, resources: &Resources, change: Change) {
        let sorted = self.generation.is_some();
        let mut at = leaf;
        loop {
            let parent = self.node(at).map_or(ROOT, |node| node.parent);
            let place = if sorted && at != ROOT { self.place(parent, at).ok() } else { None };
            let Some(node) = self.nodes.get_mut(at).and_then(Option::as_mut) else { return };
            node.change(agent, resources, change);
            if sorted {
                node.measure(&self.total, &self.excluded, &self.weights);
            }
            if let Some(place) = place {
                self.put_right(parent, at, place);
            }
            if at == ROOT {
                break;
            }
            at = parent;
        }
    }

    /// Moves a child whose share changed to its new place among its siblings.
    fn put_right(&mut self, parent: usize, child: usize, place: usize) {
        let Some(node) = self.node_mut(parent) else { return };
        node.children.remove(place);
        let new = self.place(parent, child).unwrap_or_else(|new| new);
        if let Some(node) = self.node_mut(parent) {
            node.children.insert(new, child);
        }
        if new != place {
            self.order = None;
        }
    }

    fn place(&self, parent: usize, child: usize) -> Result<usize, usize> {
        let (Some(parent), Some(child)) = (self.node(parent), self.node(child)) else {
            return Err(0);
        };
        parent.children.binary_search_by(|other| {
            self.node(*other).map_or(Ordering::Less, |other| other.compare(child))
        })
    }

    fn sort_all(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            node.measure(&self.total, &self.excluded, &self.weights);
        }
        for at in 0..self.nodes.len() {
            let Some(node) = self.node_mut(at) else { continue };
            let mut children = std::mem::take(&mut node.children);
            children.sort_unstable_by(|a, b| match (self.node(*a), self.node(*b)) {
                (Some(a), Some(b)) => a.compare(b),
                _ => a.cmp(b),
            });
            if let Some(node) = self.node_mut(at) {
                node.children = children;
            }
        }
    }

    fn collect(&self, at: usize, found: &mut Vec<Arc<str>>) {
        let Some(node) = self.node(at) else { return };
        match node.kind {
            Kind::Active => found.push(Arc::clone(&node.client)),
            Kind::Inactive => {}
            Kind::Inner => node.children.iter().for_each(|child| self.collect(*child, found)),
        }
    }
}

#[cfg(test)]
#[path = "sorter_tests.rs"]
mod tests;
