//! What a changed fact changes.

use super::Planner;
use super::problem::LabelError;
use super::source::{ServiceKey, Standing, Target};
use super::table::Families;
use mizzen_types::vip::{BackendSpec, VipKey, VipPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A named VIP that needs its address written into the owner log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `label.framework`, mangled.
    pub name: String,
    /// Its address from now on.
    pub address: IpAddr,
}

/// What a changed fact changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Services that must be looked at again with [`Planner::spec`].
    pub changed: BTreeSet<VipKey>,
    /// Those of them of which nothing else can differ than their policy and these backends:
    /// [`Planner::backends`] says what they are now.
    pub backends: BTreeMap<VipKey, BTreeSet<SocketAddr>>,
    /// Addresses that were claimed just now, and those that this node's log has to say
    /// instead of what it says.
    pub claims: Vec<Claim>,
    /// What is wrong with the task's labels and was not before.
    pub problems: Vec<LabelError>,
}

/// What some backends of a VIP should look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipBackends {
    /// Each by its address; without anything if it is to go.
    pub backends: Vec<(SocketAddr, Option<BackendSpec>)>,
    /// How one of all backends is chosen.
    pub policy: VipPolicy,
}

impl Planner {
    /// Notes the VIPs that the services of these standings had or have, and those of their
    /// names' other services that came or went because the name's families did.
    ///
    /// * `former` — the families of the names before.
    pub(super) fn note_changed(
        &self,
        standings: &[Standing],
        former: &BTreeMap<String, Families>,
        effects: &mut Effects,
    ) {
        let mut whole = BTreeSet::new();
        for Standing { service, shares, .. } in standings {
            let vips: Vec<VipKey> = match &service.target {
                Target::Address(_) => self.keys_of(service).collect(),
                Target::Name(name) => {
                    let before = former.get(name).copied().unwrap_or_default();
                    let after = self.table.families(name);
                    let Some(held) = self.claims.address_of(name) else { continue };
                    if before != after {
                        let all = self.table.of_name(name);
                        whole.extend(all.flat_map(|other| keys_in(other, held, before.or(after))));
                        whole.extend(keys_in(service, held, before.or(after)));
                    }
                    keys_in(service, held, before.or(after)).collect()
                }
            };
            for vip in vips {
                let backends = effects.backends.entry(vip).or_default();
                backends.extend(shares.iter().map(|(address, _)| *address));
            }
        }
        effects.changed.extend(effects.backends.keys());
        effects.backends.retain(|vip, _| !whole.contains(vip));
        effects.changed.extend(whole);
    }

    pub(super) fn families_of(
        &self,
        services: &BTreeSet<Arc<ServiceKey>>,
    ) -> BTreeMap<String, Families> {
        let families = |service: &Arc<ServiceKey>| match &service.target {
            Target::Name(name) => Some((name.clone(), self.table.families(name))),
            Target::Address(_) => None,
        };
        services.iter().filter_map(families).collect()
    }
}

/// The VIPs of a service of a name that holds this address.
pub(super) fn keys_in(
    service: &ServiceKey,
    held: Ipv4Addr,
    families: Families,
) -> impl Iterator<Item = VipKey> + use<> {
    let (port, protocol) = (service.port, service.protocol);
    families.addresses(held).into_iter().map(move |address| VipKey { address, port, protocol })
}
