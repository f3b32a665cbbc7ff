//! What a change of facts would change, without changing anything.

use super::{Planner, Problem};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::vip::{VipKey, VipSpec};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What would come of some facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// VIPs that would be made, changed or removed, in the order of addresses.
    pub changes: Vec<VipChange>,
    /// Names whose addresses would be others, in the order of names.
    pub names: Vec<NameChange>,
    /// What would be wrong that is not wrong now.
    pub problems: Vec<Problem>,
}

/// A name that would come, move or go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameChange {
    /// `label.framework`.
    pub name: String,
    /// Its addresses.
    pub before: Vec<IpAddr>,
    /// Its addresses then.
    pub after: Vec<IpAddr>,
}

/// One VIP that would be made, changed or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipChange {
    /// Which one.
    pub key: VipKey,
    /// As it is; `None` if it would be made.
    pub before: Option<VipSpec>,
    /// As it would be; `None` if it would be removed.
    pub after: Option<VipSpec>,
}

impl Planner {
    /// What would change if these facts were said, in this order. It is found out by
    /// saying them to a copy, so it is what would happen and costs as much memory.
    #[must_use]
    pub fn preview(&self, facts: &[(OwnerId, Key, Option<Fact>)]) -> Preview {
        let mut planner = self.clone();
        let mut touched = BTreeSet::new();
        for (owner, key, fact) in facts {
            touched.extend(planner.apply(owner, key, fact.as_ref()).changed);
        }
        let names: BTreeSet<&str> = touched
            .iter()
            .flat_map(|key| [self.name_of(key), planner.name_of(key)])
            .flatten()
            .collect();
        let names = names
            .into_iter()
            .map(|name| NameChange {
                name: name.to_owned(),
                before: self.addresses_of(name),
                after: planner.addresses_of(name),
            })
            .filter(|change| change.before != change.after)
            .collect();
        let changes = touched
            .iter()
            .map(|key| VipChange { key: *key, before: self.spec(key), after: planner.spec(key) })
            .filter(|change| change.before != change.after)
            .collect();
        let known = self.problems();
        let problems = planner.problems().into_iter().filter(|new| !known.contains(new)).collect();
        Preview { changes, names, problems }
    }
}
