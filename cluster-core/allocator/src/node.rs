//! One place in the tree of a sorter.

use crate::share::{Share, Weight};
use mizzen_types::resources::{Quantities, Resources, Value};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Inner,
    Active,
    Inactive,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) path: Arc<str>,
    /// The client's own name for leaves, which is shorter than the path for `.`.
    pub(crate) client: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) parent: usize,
    pub(crate) children: Vec<usize>,
    pub(crate) share: Share,
    pub(crate) chosen: u64,
    pub(crate) quantities: Quantities,
    /// By agent: everything for leaves, shared ones only for inner nodes.
    pub(crate) held: BTreeMap<Arc<str>, Resources>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Choose,
    Add,
    Subtract,
}

impl Node {
    pub(crate) fn new(path: Arc<str>, parent: usize, kind: Kind) -> Self {
        Self {
            client: Arc::clone(&path),
            path,
            kind,
            parent,
            children: Vec::new(),
            share: Share::ZERO,
            chosen: 0,
            quantities: Quantities::new(),
            held: BTreeMap::new(),
        }
    }

    /// Computes the share again.
    pub(crate) fn measure(
        &mut self,
        total: &Quantities,
        excluded: &BTreeSet<Arc<str>>,
        weights: &BTreeMap<Arc<str>, Weight>,
    ) {
        let weight = weights.get(&self.path).copied().unwrap_or(Weight::DEFAULT);
        self.share = Share::dominant(&self.quantities, total, excluded).weighted(weight);
    }

    /// Who comes first among siblings.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let last = |node: &Self| node.kind == Kind::Inactive;
        last(self)
            .cmp(&last(other))
            .then_with(|| self.share.cmp(&other.share))
            .then_with(|| self.chosen.cmp(&other.chosen))
            .then_with(|| self.path.cmp(&other.path))
    }

    /// Adds or subtracts what a client below holds.
    pub(crate) fn change(&mut self, agent: &str, resources: &Resources, change: Change) {
        if change == Change::Choose {
            self.chosen += 1;
        }
        let before = self.held.get(agent);
        let had = |r| before.map_or(0, |held| held.count(r));
        for (resource, copies) in resources.iter_copies() {
            let Value::Scalar(scalar) = resource.value else { continue };
            if change == Change::Subtract {
                if !resource.shared || (1..=copies).contains(&had(resource)) {
                    self.quantities.subtract_one(&resource.name, scalar);
                }
            } else if !resource.shared || had(resource) == 0 {
                self.quantities.add_one(&resource.name, scalar);
            }
        }
        let shared;
        let kept = if self.kind == Kind::Inner {
            shared = resources.shared();
            &shared
        } else {
            resources
        };
        if kept.is_empty() {
            return;
        }
        if change != Change::Subtract {
            *self.held.entry(Arc::from(agent)).or_default() += kept;
        } else if let Some(held) = self.held.get_mut(agent) {
            *held -= kept;
            if held.is_empty() {
                self.held.remove(agent);
            }
        }
    }
}
