//! Which node's word about policies counts, and what of it is new.

use mizzen_types::policy::{Policy, PolicyId};
use std::collections::{BTreeMap, BTreeSet};

/// All policies.
pub type Policies = BTreeMap<PolicyId, Policy>;

/// What the log of a master says, all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whether its node has the cluster's authority, as its certificate says.
    pub by_authority: bool,
    /// Whether it says that it leads.
    pub leads: bool,
    /// The policies in it.
    pub policies: Policies,
}

/// Who keeps the policies of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// This node's master.
    Here,
    /// Another node's.
    Elsewhere,
}

/// What is made of what a master says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: it is as before, or says nothing of policies.
    Nothing,
    /// They are these now; the ids are of those that differ from what was known.
    Followed(BTreeSet<PolicyId>),
    /// It is not the one to say so.
    Doubted,
}

/// Judges what a master says. Only the log on the node with the authority counts, and only while it
/// leads: who says nothing takes nothing back.
#[must_use]
pub fn hear(keeper: Keeper, known: &Policies, said: &Said) -> Heard {
    if keeper == Keeper::Here || !said.by_authority {
        return if said.policies.is_empty() { Heard::Nothing } else { Heard::Doubted };
    }
    if !said.leads || said.policies == *known {
        return Heard::Nothing;
    }
    let ids = known.keys().chain(said.policies.keys());
    let differs = |id: &&PolicyId| known.get(id) != said.policies.get(id);
    Heard::Followed(ids.filter(differs).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::document::read;
    use serde_json::json;

    fn policies(ids: &[&str]) -> Policies {
        let one = |id: &&str| read(&json!({"id": id, "applies_to": {}, "ingress": []})).unwrap();
        ids.iter().map(one).collect()
    }

    #[test]
    fn only_the_leading_master_of_the_authority_is_heard() {
        let followed = |ids: &[&str]| Heard::Followed(policies(ids).into_keys().collect());
        use Keeper::{Elsewhere, Here};
        #[rustfmt::skip]
        let table = [
            // keeper, authority, leads, said, what is made of it; known is `a`
            (Elsewhere, true,  true,  &["a"][..],      Heard::Nothing),
            (Elsewhere, true,  true,  &["a", "b"][..], followed(&["b"])),
            (Elsewhere, true,  true,  &["b"][..],      followed(&["a", "b"])),
            (Elsewhere, true,  true,  &[][..],         followed(&["a"])),
            (Elsewhere, true,  false, &[][..],         Heard::Nothing),
            (Elsewhere, false, true,  &["b"][..],      Heard::Doubted),
            (Elsewhere, false, true,  &[][..],         Heard::Nothing),
            (Here,      true,  true,  &["b"][..],      Heard::Doubted),
            (Here,      false, true,  &[][..],         Heard::Nothing),
        ];
        for (keeper, by_authority, leads, ids, want) in table {
            let said = Said { by_authority, leads, policies: policies(ids) };
            assert_eq!(hear(keeper, &policies(&["a"]), &said), want, "{keeper:?} {said:?}");
        }
    }
}
