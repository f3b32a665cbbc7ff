//! What a framework must be before it can subscribe.

use crate::framework::roles_of;
use crate::subscription::is_multi_role;
use mizzen_api::v1;
use mizzen_types::ids::check_id;
use mizzen_types::resources::check_role;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A duration has nanoseconds in 64 bits.
const LONGEST_SECONDS: f64 = 9.2e9;

/// Checks a framework's description and the roles in which it wants no offers.
pub(crate) fn check(info: &v1::FrameworkInfo, suppressed: &[String]) -> Result<(), String> {
    check_roles(info)?;
    if let Some(id) = &info.id {
        check_id(&id.value).map_err(|error| format!("Framework has an invalid ID: {error}"))?;
    }
    check_filters(info)?;
    let timeout = info.failover_timeout();
    if timeout.is_nan() || timeout.abs() > LONGEST_SECONDS {
        return Err(format!("The framework failover_timeout ({timeout}) is invalid"));
    }
    let roles = roles_of(info);
    match suppressed.iter().find(|role| !roles.contains(role.as_str())) {
        Some(role) => {
            Err(format!("Suppressed role '{role}' is not contained in the framework's roles"))
        }
        None => Ok(()),
    }
}

fn check_roles(info: &v1::FrameworkInfo) -> Result<(), String> {
    if is_multi_role(info) {
        if info.role.is_some() {
            return Err("'FrameworkInfo.role' must not be set when MULTI_ROLE is enabled".into());
        }
    } else if !info.roles.is_empty() {
        return Err("'FrameworkInfo.roles' must not be set when MULTI_ROLE is not enabled".into());
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = info.roles.iter().find(|role| !seen.insert(role.as_str())) {
        return Err(format!("'FrameworkInfo.roles' contains duplicate items: {twice}"));
    }
    let bad = |role: &Arc<str>| check_role(role).err();
    match roles_of(info).iter().find_map(bad) {
        Some(error) => Err(format!("Framework has an invalid role: {error}")),
        None => Ok(()),
    }
}

fn check_filters(info: &v1::FrameworkInfo) -> Result<(), String> {
    for (role, filters) in &info.offer_filters {
        let minimum = filters.min_allocatable_resources.as_ref();
        for set in minimum.map_or(&[][..], |minimum| &minimum.quantities) {
            if set.quantities.is_empty() {
                return Err(format!("Invalid offer filters of role '{role}': empty quantities"));
            }
            for (name, scalar) in &set.quantities {
                let value = scalar.value;
                if !value.is_finite() || value < 0.0 || value.is_subnormal() {
                    return Err(format!(
                        "Invalid offer filters of role '{role}': {value} of '{name}'"
                    ));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::framework_info::{Capability, capability::Type};

    #[test]
    fn roles_and_times() {
        let plain = |role: &str| v1::FrameworkInfo {
            role: Some(role.to_owned()),
            ..v1::FrameworkInfo::default()
        };
        let multi = |roles: &[&str]| v1::FrameworkInfo {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            capabilities: vec![Capability { r#type: Some(Type::MultiRole.into()) }],
            ..v1::FrameworkInfo::default()
        };
        let timeout = |seconds| v1::FrameworkInfo {
            failover_timeout: Some(seconds),
            ..v1::FrameworkInfo::default()
        };
        let named = |id: &str| v1::FrameworkInfo {
            id: Some(v1::FrameworkId { value: id.to_owned() }),
            ..v1::FrameworkInfo::default()
        };
        #[rustfmt::skip]
        let table: &[(v1::FrameworkInfo, &[&str], Option<&str>)] = &[
            (v1::FrameworkInfo::default(), &[],    None),
            (v1::FrameworkInfo::default(), &["*"], None),
            (plain("web"),                 &["*"], Some("Suppressed role '*'")),
            (plain("a b"),                 &[],    Some("invalid role")),
            (multi(&["a", "a/b"]),         &["a"], None),
            (multi(&[]),                   &[],    None),
            (multi(&["a", "a"]),           &[],    Some("duplicate")),
            (v1::FrameworkInfo { role: Some("x".into()), ..multi(&["a"]) }, &[], Some("must not be set")),
            (v1::FrameworkInfo { roles: vec!["x".into()], ..plain("a") },   &[], Some("must not be set")),
            (timeout(1e9),                 &[],    None),
            (timeout(f64::NAN),            &[],    Some("failover_timeout")),
            (timeout(1e10),                &[],    Some("failover_timeout")),
            (named("a/b"),                 &[],    Some("invalid ID")),
        ];
        for (info, suppressed, want) in table {
            let suppressed: Vec<String> = suppressed.iter().map(|r| (*r).to_owned()).collect();
            let got = check(info, &suppressed).err();
            match want {
                None => assert_eq!(got, None, "{info:?}"),
                Some(part) => assert!(got.clone().is_some_and(|t| t.contains(part)), "{got:?}"),
            }
        }
    }
}
