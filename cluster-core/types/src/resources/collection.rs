//! The collection: sums, differences, what contains what.

use super::{Quantities, Resource, Value};
use std::ops::{Add, AddAssign, Sub, SubAssign};

/// Resources of which equal ones are merged and none is empty.
///
/// The order is that of arrival and does not count for equality.
#[derive(Debug, Clone, Default)]
pub struct Resources(Vec<Held>);

/// A resource, and for a shared one how many copies of it.
#[derive(Debug, Clone)]
struct Held {
    resource: Resource,
    copies: u32,
}

impl Held {
    fn can_add(&self, other: &Resource) -> bool {
        if self.resource.shared {
            return self.resource == *other;
        }
        self.resource.same_kind(other) && self.resource.is_divisible()
    }

    fn can_subtract(&self, other: &Resource) -> bool {
        if self.resource.shared || !self.resource.is_divisible() {
            return self.resource == *other;
        }
        self.resource.same_kind(other)
    }

    fn contains(&self, other: &Self) -> bool {
        if self.resource.shared {
            return self.copies >= other.copies && self.resource == other.resource;
        }
        if !self.resource.is_divisible() {
            return self.resource == other.resource;
        }
        self.resource.same_kind(&other.resource)
            && self.resource.value.contains(&other.resource.value)
    }

    fn is_empty(&self) -> bool {
        self.copies == 0 || self.resource.value.is_empty()
    }
}

impl Resources {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many separate resources there are; copies of one count once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The separate resources; a shared one once, whatever its copies.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> + '_ {
        self.0.iter().map(|held| &held.resource)
    }

    /// The separate resources with the number of their copies.
    pub fn iter_copies(&self) -> impl Iterator<Item = (&Resource, u32)> + '_ {
        self.0.iter().map(|held| (&held.resource, held.copies))
    }

    /// How many of exactly this there are: copies of a shared one, else 0 or 1.
    #[must_use]
    pub fn count(&self, resource: &Resource) -> u32 {
        self.0.iter().find(|held| held.resource == *resource).map_or(0, |held| held.copies)
    }

    /// Adds one resource; an empty one changes nothing.
    pub fn add_one(&mut self, resource: Resource) {
        self.add_held(Held { resource, copies: 1 });
    }

    /// Takes one resource away, as far as there is one of its kind.
    pub fn subtract_one(&mut self, resource: &Resource) {
        self.subtract_copies(resource, 1);
    }

    /// Whether each part of `other` is in one part of this.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        if other.0.iter().any(|held| held.resource.is_persistent_volume()) {
            let mut left = self.clone();
            return other.0.iter().all(|held| {
                let found = left.0.iter().any(|mine| mine.contains(held));
                if found && held.resource.is_persistent_volume() {
                    left.subtract_copies(&held.resource, held.copies);
                }
                found
            });
        }
        other.0.iter().all(|held| self.0.iter().any(|mine| mine.contains(held)))
    }

    /// Whether `resource` is in one part of this.
    #[must_use]
    pub fn contains_one(&self, resource: &Resource) -> bool {
        let wanted = Held { resource: resource.clone(), copies: 1 };
        wanted.is_empty() || self.0.iter().any(|mine| mine.contains(&wanted))
    }

    /// Amounts by name; ranges and sets count their members, shared ones once.
    #[must_use]
    pub fn quantities(&self) -> Quantities {
        let mut sum = Quantities::new();
        for resource in self.iter() {
            sum.add_one(&resource.name, resource.value.quantity());
        }
        sum
    }

    /// Amounts of scalars by name; shared ones once.
    #[must_use]
    pub fn scalar_quantities(&self) -> Quantities {
        let mut sum = Quantities::new();
        for resource in self.iter() {
            if let Value::Scalar(scalar) = resource.value {
                sum.add_one(&resource.name, scalar);
            }
        }
        sum
    }

    /// Adds `copies` of a shared resource, or one of any other.
    pub fn add_copies(&mut self, resource: Resource, copies: u32) {
        let copies = if resource.shared { copies } else { copies.min(1) };
        self.add_held(Held { resource, copies });
    }

    /// Keeps what `keep` says, changed by `change`.
    pub(super) fn map(&self, mut change: impl FnMut(&Resource) -> Option<Resource>) -> Self {
        let mut result = Self::new();
        for held in &self.0 {
            if let Some(resource) = change(&held.resource) {
                result.add_held(Held { resource, copies: held.copies });
            }
        }
        result
    }

    fn add_held(&mut self, other: Held) {
        if other.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|held| held.can_add(&other.resource)) {
            Some(held) if held.resource.shared => {
                held.copies = held.copies.saturating_add(other.copies);
            }
            Some(held) => held.resource.value.add(&other.resource.value),
            None => self.0.push(other),
        }
    }

    fn subtract_copies(&mut self, resource: &Resource, copies: u32) {
        let Some(at) = self.0.iter().position(|held| held.can_subtract(resource)) else { return };
        let held = &mut self.0[at];
        if held.resource.shared {
            held.copies = held.copies.saturating_sub(copies);
        } else {
            held.resource.value.subtract(&resource.value);
        }
        if held.is_empty() {
            self.0.remove(at);
        }
    }
}

impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        self.contains(other) && other.contains(self)
    }
}

impl FromIterator<Resource> for Resources {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        let mut result = Self::new();
        for resource in resources {
            result.add_one(resource);
        }
        result
    }
}

impl AddAssign<&Self> for Resources {
    fn add_assign(&mut self, other: &Self) {
        for held in &other.0 {
            self.add_held(held.clone());
        }
    }
}

impl AddAssign for Resources {
    fn add_assign(&mut self, other: Self) {
        for held in other.0 {
            self.add_held(held);
        }
    }
}

impl SubAssign<&Self> for Resources {
    fn sub_assign(&mut self, other: &Self) {
        for held in &other.0 {
            self.subtract_copies(&held.resource, held.copies);
        }
    }
}

impl Add<&Self> for Resources {
    type Output = Self;

    fn add(mut self, other: &Self) -> Self {
        self += other;
        self
    }
}

impl Sub<&Self> for Resources {
    type Output = Self;

    fn sub(mut self, other: &Self) -> Self {
        self -= other;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, DiskKind, DiskSource, Persistence, Reservation};
    use super::*;

    fn of(text: &str) -> Resources {
        Resources::parse(text).unwrap()
    }

    fn volume(id: &str, shared: bool) -> Resource {
        let persistence = Some(Persistence { id: id.to_owned(), principal: None });
        let mut resource = of("disk:10").iter().next().unwrap().clone();
        resource.reservations = vec![Reservation::fixed("role")];
        resource.disk = Some(Box::new(Disk { persistence, ..Disk::default() }));
        resource.shared = shared;
        resource
    }

    #[test]
    fn sums_and_differences() {
        #[rustfmt::skip]
        let table: &[(&str, &str, &str, &str)] = &[
            // a                       b                        a + b                       a - b
            ("cpus:2;mem:10",          "cpus:1;mem:10",         "cpus:3;mem:20",            "cpus:1"),
            ("cpus:1",                 "cpus:2",                "cpus:3",                   ""),
            ("cpus:1",                 "mem:2",                 "cpus:1;mem:2",             "cpus:1"),
            ("cpus(a):1",              "cpus:1",                "cpus(a):1;cpus:1",         "cpus(a):1"),
            ("ports:[1-10]",           "ports:[5-20]",          "ports:[1-20]",             "ports:[1-4]"),
            ("disks:{a,b}",            "disks:{b,c}",           "disks:{a,b,c}",            "disks:{a}"),
            ("cpus:50;mem:4096",       "cpus:0.5;mem:1024",     "cpus:50.5;mem:5120",       "cpus:49.5;mem:3072"),
            ("cpus:0",                 "",                      "",                         ""),
        ];
        for (a, b, sum, difference) in table {
            assert_eq!(of(a) + &of(b), of(sum), "{a} + {b}");
            assert_eq!(of(a) - &of(b), of(difference), "{a} - {b}");
        }
    }

    #[test]
    fn what_contains_what() {
        #[rustfmt::skip]
        let table: &[(&str, &str, bool)] = &[
            ("cpus:1;mem:4096",  "cpus:1;mem:3072", true),
            ("cpus:1",           "cpus:1.0004",     true),
            ("cpus:1",           "cpus:1.001",      false),
            ("cpus:2",           "cpus(a):1",       false),
            ("ports:[1-9]",      "ports:[2-3,5-6]", true),
            ("ports:[1-3]",      "ports:[2-4]",     false),
            ("",                 "",                true),
            ("cpus:1",           "",                true),
        ];
        for (a, b, want) in table {
            assert_eq!(of(a).contains(&of(b)), *want, "{a} contains {b}");
        }
    }

    #[test]
    fn sums_stay_exact() {
        let step = of("cpus:1.001");
        let mut sum = step.clone();
        for _ in 0..1000 {
            sum += &step;
        }
        for _ in 0..1000 {
            sum -= &step;
        }
        assert_eq!(sum, step);
    }

    #[test]
    fn volumes_and_whole_disks_never_merge() {
        let mut resources = Resources::new();
        resources.add_one(volume("1", false));
        resources.add_one(volume("2", false));
        assert_eq!(resources.len(), 2);
        resources.subtract_one(&volume("1", false));
        assert_eq!(resources.len(), 1);
        assert!(!resources.contains_one(&volume("1", false)));

        let source = |kind, id: Option<&str>| DiskSource {
            kind,
            root: None,
            vendor: None,
            id: id.map(str::to_owned),
            metadata: Vec::new(),
            profile: None,
        };
        #[rustfmt::skip]
        let table = [
            (source(DiskKind::Path, None), 1), (source(DiskKind::Raw, None), 1),
            (source(DiskKind::Raw, Some("x")), 2), (source(DiskKind::Mount, None), 2), (source(DiskKind::Block, None), 2),
        ];
        for (source, size) in table {
            let mut disk = of("disk:1").iter().next().unwrap().clone();
            disk.disk = Some(Box::new(Disk { source: Some(source.clone()), ..Disk::default() }));
            let both: Resources = [disk.clone(), disk].into_iter().collect();
            assert_eq!(both.len(), size, "{source:?}");
        }
    }

    #[test]
    fn shared_volumes_are_counted_in_copies() {
        let mut resources = Resources::new();
        resources.add_copies(volume("1", true), 3);
        assert_eq!(resources.len(), 1);
        assert_eq!(resources.count(&volume("1", true)), 3);
        assert_eq!(resources.quantities(), Quantities::parse("disk:10").unwrap());
        resources.subtract_one(&volume("1", true));
        assert_eq!(resources.count(&volume("1", true)), 2);
        assert_ne!(resources, [volume("1", true)].into_iter().collect());
    }
}
