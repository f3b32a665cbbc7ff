//! What must be done about the balancer's tables.

use mizzen_types::vip::{BackendSpec, VipKey, VipSpec};
use std::collections::BTreeMap;

/// One change of the balancer's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make or change a service.
    Set(VipSpec),
    /// Remove a service.
    Remove(VipKey),
}

/// What must be done so that `observed` becomes `desired`. Backends are compared
/// by address, weight and admission; which task is behind one does not matter to
/// the kernel.
#[must_use]
pub fn difference(
    desired: &BTreeMap<VipKey, VipSpec>,
    observed: &BTreeMap<VipKey, Vec<BackendSpec>>,
) -> Vec<Action> {
    let removed = observed.keys().filter(|vip| !desired.contains_key(vip));
    let changed = desired.iter().filter(|(vip, spec)| match observed.get(vip) {
        Some(backends) => !same(&spec.backends, backends),
        None => true,
    });
    removed
        .map(|vip| Action::Remove(*vip))
        .chain(changed.map(|(_, spec)| Action::Set(spec.clone())))
        .collect()
}

fn same(wanted: &[BackendSpec], observed: &[BackendSpec]) -> bool {
    let essence = |backend: &BackendSpec| (backend.address, backend.weight, backend.admitted);
    let mut observed: Vec<_> = observed.iter().map(essence).collect();
    observed.sort_unstable();
    wanted.iter().map(essence).eq(observed)
}
