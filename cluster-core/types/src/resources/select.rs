//! Parts of a collection, and the same with other properties.

use super::{Quantities, Ranges, Reservation, Resource, Resources, Scalar, Value};
use crate::random::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Resources {
    /// Those for which `keep` holds.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&Resource) -> bool) -> Self {
        self.map(|resource| keep(resource).then(|| resource.clone()))
    }

    /// Those that are not reserved.
    #[must_use]
    pub fn unreserved(&self) -> Self {
        self.filter(|resource| resource.reservations.is_empty())
    }

    /// Those that are reserved for any role.
    #[must_use]
    pub fn reserved(&self) -> Self {
        self.filter(|resource| !resource.reservations.is_empty())
    }

    /// Those that are reserved for exactly this role.
    #[must_use]
    pub fn reserved_for(&self, role: &str) -> Self {
        self.filter(|resource| resource.reservation().is_some_and(|r| *r.role == *role))
    }

    /// Reserved ones by role.
    #[must_use]
    pub fn reservations(&self) -> BTreeMap<Arc<str>, Self> {
        let roles: BTreeSet<_> =
            self.iter().filter_map(|r| r.reservation().map(|r| Arc::clone(&r.role))).collect();
        roles.into_iter().map(|role| (Arc::clone(&role), self.reserved_for(&role))).collect()
    }

    /// Those that `role` can be given: unreserved, its own, or an ancestor's.
    #[must_use]
    pub fn allocatable_to(&self, role: &str) -> Self {
        self.filter(|resource| resource.is_allocatable_to(role))
    }

    /// Those that can be taken back at any time.
    #[must_use]
    pub fn revocable(&self) -> Self {
        self.filter(|resource| resource.revocable)
    }

    /// Those that cannot be taken back.
    #[must_use]
    pub fn non_revocable(&self) -> Self {
        self.filter(|resource| !resource.revocable)
    }

    /// Shared ones.
    #[must_use]
    pub fn shared(&self) -> Self {
        self.filter(|resource| resource.shared)
    }

    /// All but shared ones.
    #[must_use]
    pub fn non_shared(&self) -> Self {
        self.filter(|resource| !resource.shared)
    }

    /// Those of one name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        self.filter(|resource| *resource.name == *name)
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> BTreeSet<Arc<str>> {
        self.iter().map(|resource| Arc::clone(&resource.name)).collect()
    }

    /// Sum of the scalars of one name; shared ones once.
    #[must_use]
    pub fn scalar(&self, name: &str) -> Scalar {
        let of_name = self.iter().filter(|resource| *resource.name == *name);
        of_name.fold(Scalar::ZERO, |sum, resource| match resource.value {
            Value::Scalar(scalar) => sum.plus(scalar),
            _ => sum,
        })
    }

    /// Union of the ranges of one name.
    #[must_use]
    pub fn ranges(&self, name: &str) -> Ranges {
        let of_name = self.iter().filter(|resource| *resource.name == *name);
        of_name.fold(Ranges::default(), |sum, resource| match &resource.value {
            Value::Ranges(ranges) => sum.union(ranges),
            _ => sum,
        })
    }

    /// By the role that they are allocated to; unallocated ones are left out.
    #[must_use]
    pub fn allocations(&self) -> BTreeMap<Arc<str>, Self> {
        let roles: BTreeSet<_> = self.iter().filter_map(|r| r.allocation.clone()).collect();
        let of = |role: &Arc<str>| self.filter(|r| r.allocation.as_ref() == Some(role));
        roles.into_iter().map(|role| (Arc::clone(&role), of(&role))).collect()
    }

    /// The same, allocated to `role`.
    #[must_use]
    pub fn allocated_to(&self, role: &str) -> Self {
        let role: Arc<str> = Arc::from(role);
        self.map(|r| Some(Resource { allocation: Some(Arc::clone(&role)), ..r.clone() }))
    }

    /// The same, allocated to nobody.
    #[must_use]
    pub fn unallocated(&self) -> Self {
        self.map(|r| Some(Resource { allocation: None, ..r.clone() }))
    }

    /// The same without any reservation.
    #[must_use]
    pub fn to_unreserved(&self) -> Self {
        self.map(|r| Some(Resource { reservations: Vec::new(), ..r.clone() }))
    }

    /// The same with one more reservation on top.
    #[must_use]
    pub fn push_reservation(&self, reservation: &Reservation) -> Self {
        self.map(|resource| {
            let mut resource = resource.clone();
            resource.reservations.push(reservation.clone());
            Some(resource)
        })
    }

    /// Parts of this with the amounts of `target`: reserved as asked first, then
    /// unreserved, then anything else. `None` if there is not enough.
    #[must_use]
    pub fn find(&self, target: &Self) -> Option<Self> {
        let mut left = self.clone();
        let mut found = Self::new();
        for wanted in target.iter() {
            let part = left.find_one(wanted)?;
            left -= &part;
            found += part;
        }
        Some(found)
    }

    fn find_one(&self, wanted: &Resource) -> Option<Self> {
        let plain = |r: &Resource| Resource { reservations: Vec::new(), ..r.clone() };
        let preference = |r: &Resource| match () {
            () if r.reservations == wanted.reservations => 0,
            () if r.reservations.is_empty() => 1,
            () => 2,
        };
        let mut missing = plain(wanted);
        let mut candidates: Vec<_> = self.iter().filter(|r| plain(r).same_kind(&missing)).collect();
        candidates.sort_by_key(|r| preference(r));
        let mut found = Self::new();
        for resource in candidates {
            if resource.value.contains(&missing.value) {
                let reservations = resource.reservations.clone();
                found.add_one(Resource { reservations, ..missing });
                return Some(found);
            }
            if missing.value.contains(&resource.value) && resource.is_divisible() {
                missing.value.subtract(&resource.value);
                found.add_one(resource.clone());
            }
        }
        None
    }

    /// Cuts scalars so that their amounts stay within `target`; what `target` does
    /// not name goes, indivisible ones that do not fit go whole. `dice` decides
    /// which of several are cut.
    #[must_use]
    pub fn shrink(&self, target: &Quantities, dice: &mut Dice) -> Self {
        self.cut(dice, |name| Some(target.get(name)))
    }

    /// The same for limits: what `limit` answers `None` for stays whole.
    #[must_use]
    pub fn cut(&self, dice: &mut Dice, limit: impl Fn(&str) -> Option<Scalar>) -> Self {
        let mut order: Vec<_> = self.iter_copies().collect();
        dice.shuffle(&mut order);
        let mut used = Quantities::new();
        let mut result = Self::new();
        for (resource, copies) in order {
            let Some(limit) = limit(&resource.name) else {
                result.add_copies(resource.clone(), copies);
                continue;
            };
            if let Some(piece) = piece(resource, limit.minus(used.get(&resource.name))) {
                used.add_one(&piece.name, piece.value.quantity());
                result.add_copies(piece, copies);
            }
        }
        result
    }
}

fn piece(resource: &Resource, room: Scalar) -> Option<Resource> {
    let Value::Scalar(scalar) = resource.value else { return None };
    if !room.is_positive() {
        return None;
    }
    if scalar <= room {
        return Some(resource.clone());
    }
    let value = Value::Scalar(room);
    (resource.is_divisible() && !resource.shared).then(|| Resource { value, ..resource.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, DiskKind, DiskSource};
    use super::*;

    fn of(text: &str) -> Resources {
        Resources::parse(text).unwrap()
    }

    #[test]
    fn parts_by_role() {
        let all = of("cpus:1;cpus(a):2;cpus(a/b):4;cpus(a/bx):8;mem(a/bx/c):16");
        #[rustfmt::skip]
        let table: &[(&str, &str)] = &[
            ("*",      "cpus:1"),
            ("a",      "cpus:1;cpus(a):2"),
            ("a/b",    "cpus:1;cpus(a):2;cpus(a/b):4"),
            ("a/bx/c", "cpus:1;cpus(a):2;cpus(a/bx):8;mem(a/bx/c):16"),
        ];
        for (role, want) in table {
            assert_eq!(all.allocatable_to(role), of(want), "{role}");
        }
        assert_eq!(all.reserved_for("a"), of("cpus(a):2"));
        assert_eq!(all.unreserved(), of("cpus:1"));
        assert_eq!(all.to_unreserved(), of("cpus:15;mem:16"));
        let allocated = of("cpus:1").allocated_to("a") + &of("cpus:2").allocated_to("b");
        assert_eq!(allocated.len(), 2);
        assert_eq!(allocated.allocations()["b"].unallocated(), of("cpus:2"));
    }

    #[test]
    fn finding_prefers_the_reservation_asked_for() {
        #[rustfmt::skip]
        let table: &[(&str, &str, Option<&str>)] = &[
            ("cpus(role1):2;mem(role1):10;cpus:4;mem:20", "cpus(role1):3;mem(role1):15", Some("cpus(role1):2;mem(role1):10;cpus:1;mem:5")),
            ("cpus(role1):1;cpus:2",   "cpus(role1):4", None),
            ("cpus(role1):5;cpus:1",   "cpus:3",        Some("cpus:1;cpus(role1):2")),
            ("ports:[1-5]",            "ports:[2-3]",   Some("ports:[2-3]")),
        ];
        for (all, target, want) in table {
            assert_eq!(of(all).find(&of(target)), want.map(of), "{target} in {all}");
        }
    }

    #[test]
    fn shrinking_cuts_and_drops() {
        let target = |text| Quantities::parse(text).unwrap();
        #[rustfmt::skip]
        let table: &[(&str, &str, &str)] = &[
            ("",                      "",           ""),
            ("cpus:2;mem:10",         "cpus:1",     "cpus:1"),
            ("cpus:2;mem:10",         "cpus:5;mem:4", "cpus:2;mem:4"),
        ];
        for (all, limit, want) in table {
            let got = of(all).shrink(&target(limit), &mut Dice::new(1));
            assert_eq!(got, of(want), "{all} to {limit}");
        }

        let source = DiskSource {
            kind: DiskKind::Mount,
            root: None,
            vendor: None,
            id: None,
            metadata: Vec::new(),
            profile: None,
        };
        let mut mount = of("disk(role):10").iter().next().unwrap().clone();
        mount.disk = Some(Box::new(Disk { source: Some(source), ..Disk::default() }));
        let mount: Resources = [mount].into_iter().collect();
        let all = of("disk:10") + &mount;
        let seen: Vec<_> =
            (0..100).map(|seed| all.shrink(&target("disk:10"), &mut Dice::new(seed))).collect();
        assert!(seen.contains(&of("disk:10")) && seen.contains(&mount));
        assert!(all.shrink(&target("disk:4"), &mut Dice::new(3)).contains(&of("disk:4")));
        assert!(mount.shrink(&target("disk:4"), &mut Dice::new(3)).is_empty());
    }
}
