//! What belongs to no container any more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::AttachmentKey;

/// What an attachment left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Host-side links.
    pub links: Vec<String>,
    /// Leases.
    pub leases: Vec<IpAddr>,
}

/// Lists what GC has to remove: what was found and whose owner is not in `valid`.
///
/// * `links` — host-side links of the network, by the mark on them.
/// * `leases` — leases of the network.
#[must_use]
pub fn plan_gc(
    valid: &BTreeSet<AttachmentKey>,
    links: &[(String, AttachmentKey)],
    leases: &[(IpAddr, AttachmentKey)],
) -> BTreeMap<AttachmentKey, Remains> {
    let mut stale: BTreeMap<AttachmentKey, Remains> = BTreeMap::new();
    for (name, key) in links.iter().filter(|(_, key)| !valid.contains(key)) {
        stale.entry(key.clone()).or_default().links.push(name.clone());
    }
    for (address, key) in leases.iter().filter(|(_, key)| !valid.contains(key)) {
        stale.entry(key.clone()).or_default().leases.push(*address);
    }
    stale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_wants_goes() {
        let key = |id: &str| AttachmentKey { container_id: id.into(), ifname: "eth0".into() };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let valid = BTreeSet::from([key("kept"), key("never-seen")]);
        let links = [("mz1".to_owned(), key("kept")), ("mz2".to_owned(), key("gone"))];
        let leases = [
            (address("9.0.5.2"), key("kept")),
            (address("9.0.5.3"), key("gone")),
            (address("9.0.5.4"), key("lease-only")),
        ];
        let plan = plan_gc(&valid, &links, &leases);
        let want = BTreeMap::from([
            (key("gone"), Remains { links: vec!["mz2".into()], leases: vec![address("9.0.5.3")] }),
            (key("lease-only"), Remains { links: vec![], leases: vec![address("9.0.5.4")] }),
        ]);
        assert_eq!(plan, want);
    }
}
