//! Resources on the wire and as values.
//!
//! The wire has three spellings of a reservation: the *stack* (`reservations`), the
//! older *pair* (`role`, `reservation`), and both together for endpoints. All are
//! read; the writer says which one it wants.

use crate::v1;
use mizzen_types::resources::{
    ANY_ROLE, Disk, DiskKind, DiskSource, DiskVolume, Label, Persistence, Reservation,
    ReservationKind, Resource, ResourceError, Resources, Scalar, Value, VolumeMode, checked_ranges,
    checked_set,
};
use std::sync::Arc;
use v1::resource::disk_info::source::Type as SourceType;
use v1::resource::reservation_info::Type as ReservationType;
use v1::value::Type as ValueType;

/// How reservations are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// `reservations` only.
    Stack,
    /// `role` and `reservation` only; what has been refined keeps its stack.
    Pair,
    /// `reservations`, and `role` and `reservation` where they can say the same.
    Endpoint,
}

/// Writes resources with stacks of reservations.
#[must_use]
pub fn to_v1(resources: &Resources) -> Vec<v1::Resource> {
    to_v1_as(resources, Spelling::Stack)
}

/// Writes resources; a shared one as often as there are copies.
#[must_use]
pub fn to_v1_as(resources: &Resources, spelling: Spelling) -> Vec<v1::Resource> {
    let mut list = Vec::with_capacity(resources.len());
    for (resource, copies) in resources.iter_copies() {
        for _ in 0..copies {
            list.push(one_to_v1(resource, spelling));
        }
    }
    list
}

/// Reads and checks resources.
///
/// # Errors
///
/// [`ResourceError`] names the first resource that is none: a negative, infinite or
/// missing amount, overlapping ranges, a bad role, reservation or disk.
pub fn from_v1(list: &[v1::Resource]) -> Result<Resources, ResourceError> {
    list.iter().map(one_from_v1).collect()
}

/// Reads and checks one resource.
///
/// # Errors
///
/// See [`from_v1`].
pub fn one_from_v1(resource: &v1::Resource) -> Result<Resource, ResourceError> {
    let mut result = Resource::new(resource.name.as_str(), value_from_v1(resource)?);
    result.provider = resource.provider_id.as_ref().map(|id| Arc::from(id.value.as_str()));
    result.reservations = reservations_from_v1(resource)?;
    result.allocation =
        resource.allocation_info.as_ref().and_then(|info| info.role.as_deref()).map(Arc::from);
    result.disk = match &resource.disk {
        Some(disk) => Some(Box::new(disk_from_v1(&resource.name, disk)?)),
        None => None,
    };
    result.revocable = resource.revocable.is_some();
    result.shared = resource.shared.is_some();
    result.check()?;
    Ok(result)
}

fn value_from_v1(resource: &v1::Resource) -> Result<Value, ResourceError> {
    let missing = || ResourceError::NoValue(resource.name.clone());
    match ValueType::try_from(resource.r#type) {
        Ok(ValueType::Scalar) => {
            let value = resource.scalar.as_ref().ok_or_else(missing)?.value;
            let name = || resource.name.clone();
            if value < 0.0 {
                return Err(ResourceError::Negative { name: name(), value });
            }
            Scalar::from_f64(value)
                .filter(|_| !value.is_subnormal())
                .map(Value::Scalar)
                .ok_or_else(|| ResourceError::NotFinite { name: name(), value })
        }
        Ok(ValueType::Ranges) => {
            let ranges = resource.ranges.as_ref().ok_or_else(missing)?;
            let ranges = ranges.range.iter().map(|range| (range.begin, range.end)).collect();
            checked_ranges(ranges).map(Value::Ranges)
        }
        Ok(ValueType::Set) => {
            let set = resource.set.as_ref().ok_or_else(missing)?;
            checked_set(set.item.iter().cloned()).map(Value::Set)
        }
        Ok(ValueType::Text) | Err(_) => Err(missing()),
    }
}

fn reservations_from_v1(resource: &v1::Resource) -> Result<Vec<Reservation>, ResourceError> {
    let bad = |reason| ResourceError::Reservation { name: resource.name.clone(), reason };
    let pair = pair_from_v1(resource)?;
    let mut stack = Vec::with_capacity(resource.reservations.len());
    for info in &resource.reservations {
        let role = info.role.as_deref().ok_or_else(|| bad("a reservation has no role"))?;
        let mut reservation = match info.r#type.map(ReservationType::try_from) {
            Some(Ok(ReservationType::Static)) => Reservation::fixed(role),
            Some(Ok(ReservationType::Dynamic)) => Reservation::dynamic(role, None),
            _ => return Err(bad("a reservation has no type")),
        };
        reservation.principal.clone_from(&info.principal);
        stack.push(reservation.with_labels(labels_from_v1(info.labels.as_ref())));
    }
    match pair {
        None => Ok(stack),
        Some(pair) if stack.is_empty() => Ok(vec![pair]),
        Some(pair) if stack == std::slice::from_ref(&pair) => Ok(stack),
        Some(_) => Err(bad("'role' and 'reservation' say something else than 'reservations'")),
    }
}

fn pair_from_v1(resource: &v1::Resource) -> Result<Option<Reservation>, ResourceError> {
    let bad = |reason| ResourceError::Reservation { name: resource.name.clone(), reason };
    let role = resource.role.as_deref().unwrap_or(ANY_ROLE);
    let Some(info) = &resource.reservation else {
        return Ok((role != ANY_ROLE).then(|| Reservation::fixed(role)));
    };
    if info.r#type.is_some() || info.role.is_some() {
        return Err(bad("'reservation' must have neither type nor role"));
    }
    if role == ANY_ROLE {
        return Err(bad("nothing can be reserved for role '*'"));
    }
    let reservation = Reservation::dynamic(role, info.principal.clone());
    Ok(Some(reservation.with_labels(labels_from_v1(info.labels.as_ref()))))
}

fn disk_from_v1(name: &str, disk: &v1::resource::DiskInfo) -> Result<Disk, ResourceError> {
    let persistence = disk
        .persistence
        .as_ref()
        .map(|p| Persistence { id: p.id.clone(), principal: p.principal.clone() });
    let volume = disk.volume.as_ref().map(|volume| DiskVolume {
        container_path: volume.container_path.clone(),
        host_path: volume.host_path.clone(),
        mode: match v1::volume::Mode::try_from(volume.mode) {
            Ok(v1::volume::Mode::Ro) => VolumeMode::ReadOnly,
            _ => VolumeMode::ReadWrite,
        },
    });
    let source = match &disk.source {
        None => None,
        Some(source) => Some(source_from_v1(name, source)?),
    };
    Ok(Disk { persistence, volume, source })
}

fn source_from_v1(
    name: &str,
    source: &v1::resource::disk_info::Source,
) -> Result<DiskSource, ResourceError> {
    let kind = match SourceType::try_from(source.r#type) {
        Ok(SourceType::Path) => DiskKind::Path,
        Ok(SourceType::Mount) => DiskKind::Mount,
        Ok(SourceType::Block) => DiskKind::Block,
        Ok(SourceType::Raw) => DiskKind::Raw,
        Ok(SourceType::Unknown) | Err(_) => {
            let reason = "its source has no type";
            return Err(ResourceError::Disk { name: name.to_owned(), reason });
        }
    };
    let path = source.path.as_ref().and_then(|path| path.root.clone());
    let mount = source.mount.as_ref().and_then(|mount| mount.root.clone());
    let mut metadata = labels_from_v1(source.metadata.as_ref());
    metadata.sort_unstable();
    Ok(DiskSource {
        kind,
        root: if kind == DiskKind::Mount { mount } else { path },
        vendor: source.vendor.clone(),
        id: source.id.clone(),
        metadata,
        profile: source.profile.clone(),
    })
}

fn labels_from_v1(labels: Option<&v1::Labels>) -> Vec<Label> {
    let labels = labels.map_or(&[][..], |labels| &labels.labels);
    labels.iter().map(|l| Label { key: l.key.clone(), value: l.value.clone() }).collect()
}

fn labels_to_v1(labels: &[Label]) -> Option<v1::Labels> {
    let one = |l: &Label| v1::Label { key: l.key.clone(), value: l.value.clone() };
    (!labels.is_empty()).then(|| v1::Labels { labels: labels.iter().map(one).collect() })
}

fn one_to_v1(resource: &Resource, spelling: Spelling) -> v1::Resource {
    let mut result = v1::Resource {
        provider_id: resource
            .provider
            .as_ref()
            .map(|id| v1::ResourceProviderId { value: id.to_string() }),
        name: resource.name.to_string(),
        allocation_info: resource
            .allocation
            .as_ref()
            .map(|role| v1::resource::AllocationInfo { role: Some(role.to_string()) }),
        disk: resource.disk.as_deref().map(disk_to_v1),
        revocable: resource.revocable.then(v1::resource::RevocableInfo::default),
        shared: resource.shared.then(v1::resource::SharedInfo::default),
        ..v1::Resource::default()
    };
    value_to_v1(&resource.value, &mut result);
    reservations_to_v1(&resource.reservations, spelling, &mut result);
    result
}

fn value_to_v1(value: &Value, result: &mut v1::Resource) {
    match value {
        Value::Scalar(scalar) => {
            result.r#type = ValueType::Scalar.into();
            result.scalar = Some(v1::value::Scalar { value: scalar.as_f64() });
        }
        Value::Ranges(ranges) => {
            result.r#type = ValueType::Ranges.into();
            let range = ranges.iter().map(|(begin, end)| v1::value::Range { begin, end }).collect();
            result.ranges = Some(v1::value::Ranges { range });
        }
        Value::Set(items) => {
            result.r#type = ValueType::Set.into();
            result.set = Some(v1::value::Set { item: items.iter().cloned().collect() });
        }
    }
}

fn reservations_to_v1(stack: &[Reservation], spelling: Spelling, result: &mut v1::Resource) {
    if spelling != Spelling::Stack {
        match stack {
            [] => result.role = Some(ANY_ROLE.to_owned()),
            [only] => {
                result.role = Some(only.role.to_string());
                if only.kind == ReservationKind::Dynamic {
                    result.reservation = Some(v1::resource::ReservationInfo {
                        principal: only.principal.clone(),
                        labels: labels_to_v1(only.labels()),
                        ..v1::resource::ReservationInfo::default()
                    });
                }
            }
            _ => {}
        }
    }
    if spelling == Spelling::Pair && stack.len() < 2 {
        return;
    }
    result.reservations = stack
        .iter()
        .map(|reservation| v1::resource::ReservationInfo {
            r#type: Some(match reservation.kind {
                ReservationKind::Static => ReservationType::Static.into(),
                ReservationKind::Dynamic => ReservationType::Dynamic.into(),
            }),
            role: Some(reservation.role.to_string()),
            principal: reservation.principal.clone(),
            labels: labels_to_v1(reservation.labels()),
        })
        .collect();
}

fn disk_to_v1(disk: &Disk) -> v1::resource::DiskInfo {
    v1::resource::DiskInfo {
        persistence: disk.persistence.as_ref().map(|p| v1::resource::disk_info::Persistence {
            id: p.id.clone(),
            principal: p.principal.clone(),
        }),
        volume: disk.volume.as_ref().map(|volume| v1::Volume {
            container_path: volume.container_path.clone(),
            host_path: volume.host_path.clone(),
            mode: match volume.mode {
                VolumeMode::ReadWrite => v1::volume::Mode::Rw.into(),
                VolumeMode::ReadOnly => v1::volume::Mode::Ro.into(),
            },
            ..v1::Volume::default()
        }),
        source: disk.source.as_ref().map(source_to_v1),
    }
}

fn source_to_v1(source: &DiskSource) -> v1::resource::disk_info::Source {
    use v1::resource::disk_info::source::{Mount, Path};
    let root = source.root.clone();
    let (kind, path, mount) = match source.kind {
        DiskKind::Path => (SourceType::Path, root.map(|root| Path { root: Some(root) }), None),
        DiskKind::Mount => (SourceType::Mount, None, root.map(|root| Mount { root: Some(root) })),
        DiskKind::Block => (SourceType::Block, None, None),
        DiskKind::Raw => (SourceType::Raw, None, None),
    };
    v1::resource::disk_info::Source {
        r#type: kind.into(),
        path,
        mount,
        vendor: source.vendor.clone(),
        id: source.id.clone(),
        metadata: labels_to_v1(&source.metadata),
        profile: source.profile.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(name: &str, value: f64) -> v1::Resource {
        v1::Resource {
            name: name.to_owned(),
            r#type: ValueType::Scalar.into(),
            scalar: Some(v1::value::Scalar { value }),
            ..v1::Resource::default()
        }
    }

    fn ranges(list: &[(u64, u64)]) -> v1::Resource {
        let range = list.iter().map(|&(begin, end)| v1::value::Range { begin, end }).collect();
        v1::Resource {
            name: "ports".to_owned(),
            r#type: ValueType::Ranges.into(),
            ranges: Some(v1::value::Ranges { range }),
            ..v1::Resource::default()
        }
    }

    #[test]
    fn every_spelling_comes_back() {
        let plain = Resources::parse("cpus:4;mem(web):1024;ports:[1-2,5-6];disks:{a,b}").unwrap();
        let dynamic = Resources::parse("disk:7").unwrap().push_reservation(
            &Reservation::dynamic("web", Some("me".into()))
                .with_labels(vec![Label { key: "a".into(), value: None }]),
        );
        let refined = dynamic.push_reservation(&Reservation::dynamic("web/eu", None));
        let all = plain + &dynamic.allocated_to("web") + &refined;
        for spelling in [Spelling::Stack, Spelling::Pair, Spelling::Endpoint] {
            let list = to_v1_as(&all, spelling);
            assert_eq!(from_v1(&list).unwrap(), all, "{spelling:?}");
        }
        let pair = to_v1_as(&dynamic, Spelling::Pair);
        assert_eq!(pair[0].role.as_deref(), Some("web"));
        assert!(pair[0].reservations.is_empty());
        assert_eq!(to_v1(&dynamic)[0].role, None);
    }

    #[test]
    fn bad_resources_are_refused_by_name() {
        let with_role =
            |role: &str| v1::Resource { role: Some(role.to_owned()), ..scalar("cpus", 1.0) };
        let contradiction = v1::Resource {
            reservations: to_v1(&Resources::parse("cpus(b):1").unwrap())[0].reservations.clone(),
            ..with_role("a")
        };
        #[rustfmt::skip]
        let table: &[(v1::Resource, &str)] = &[
            (scalar("cpus", -1.0),           "'cpus' is negative"),
            (scalar("cpus", f64::NAN),       "'cpus' has no usable amount"),
            (scalar("mem", f64::INFINITY),   "'mem' has no usable amount"),
            (scalar("mem", f64::NEG_INFINITY), "'mem' is negative"),
            (scalar("mem", 1e300),           "'mem' has no usable amount"),
            (scalar("", 1.0),                "no name"),
            (scalar("gpus", 0.5),            "whole number"),
            (ranges(&[(1, 5), (5, 9)]),      "overlap"),
            (ranges(&[(5, 1)]),              "ends before it begins"),
            (v1::Resource { scalar: None, ..scalar("cpus", 1.0) }, "no value of its type"),
            (with_role("a b"),               "bad role"),
            (contradiction,                  "something else"),
        ];
        for (resource, want) in table {
            let error = from_v1(std::slice::from_ref(resource)).unwrap_err().to_string();
            assert!(error.contains(want), "{want}: {error}");
        }
        assert!(from_v1(&[scalar("cpus", 0.0)]).unwrap().is_empty());
        assert_eq!(from_v1(&[ranges(&[(1, 2), (3, 4)])]).unwrap().to_string(), "ports:[1-4]");
    }
}
