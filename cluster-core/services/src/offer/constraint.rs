//! Rules about where copies may run.

use crate::app::{App, Constraint, Operator};
use crate::instance::Instance;
use crate::why::{Reason, Rejection};
use mizzen_api::v1;
use mizzen_types::resources::Scalar;
use regex_lite::Regex;

/// Checks every rule of `app` against the agent behind `offer`. Only copies of the
/// same configuration count, so that an upgrade does not stand in its own way.
///
/// # Errors
///
/// The first rule that is broken, in words.
pub fn check<'a>(
    app: &App,
    offer: &v1::Offer,
    copies: impl Iterator<Item = &'a Instance> + Clone,
) -> Result<(), Rejection> {
    let copies = copies.filter(|copy| copy.config == app.config());
    for constraint in &app.constraints {
        let value = field(offer, &constraint.field);
        let others = copies.clone().filter_map(|copy| field_of_copy(copy, &constraint.field));
        if !holds(constraint, value.as_deref(), others) {
            let rule: Vec<String> = constraint.clone().into();
            let has = value.as_deref().unwrap_or("no such attribute");
            let words = format!(
                "the constraint '{}' does not hold where {} is {has}",
                rule.join(" "),
                constraint.field
            );
            return Err(Rejection::words(Reason::UnfulfilledConstraint, words));
        }
    }
    Ok(())
}

/// The attributes of an agent that later checks of `app` will want to know.
#[must_use]
pub fn remembered(app: &App, offer: &v1::Offer) -> Vec<(String, String)> {
    let fields = app.constraints.iter().map(|constraint| constraint.field.as_str());
    let fields = fields.filter(|name| !is_host(name) && !name.starts_with('@'));
    fields.filter_map(|name| Some((name.to_owned(), field(offer, name)?))).collect()
}

/// Region and zone of the agent behind `offer`.
#[must_use]
pub fn domain(offer: &v1::Offer) -> (Option<String>, Option<String>) {
    let fault = offer.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref());
    (fault.map(|fault| fault.region.name.clone()), fault.map(|fault| fault.zone.name.clone()))
}

fn holds(
    constraint: &Constraint,
    value: Option<&str>,
    mut others: impl Iterator<Item = String> + Clone,
) -> bool {
    let wanted = constraint.value.as_deref().unwrap_or_default();
    let Some(value) = value else { return constraint.operator == Operator::Unlike };
    match constraint.operator {
        Operator::Unique => others.all(|other| other != value),
        Operator::Cluster if wanted.is_empty() => others.all(|other| other == value),
        Operator::Cluster => value == wanted,
        Operator::Is => same(value, wanted),
        Operator::Like => matches(wanted, value) == Some(true),
        Operator::Unlike => matches(wanted, value) == Some(false),
        Operator::MaxPer => {
            let most: usize = wanted.parse().unwrap_or_default();
            others.filter(|other| other == value).count() < most
        }
        // Refused by the validation.
        Operator::GroupBy => false,
    }
}

/// Whether `pattern` describes the whole of `value`; `None` if it is no pattern.
fn matches(pattern: &str, value: &str) -> Option<bool> {
    if pattern.is_empty() {
        return None;
    }
    Some(Regex::new(&format!("^(?:{pattern})$")).ok()?.is_match(value))
}

/// Numbers are compared by their first three decimals.
fn same(value: &str, wanted: &str) -> bool {
    let number = |text: &str| text.parse().ok().and_then(Scalar::from_f64);
    match (number(value), number(wanted)) {
        (Some(a), Some(b)) => a == b,
        _ => value == wanted,
    }
}

fn is_host(field: &str) -> bool {
    matches!(field, "hostname" | "@hostname")
}

fn field(offer: &v1::Offer, name: &str) -> Option<String> {
    match name {
        name if is_host(name) => Some(offer.hostname.clone()),
        "@region" => domain(offer).0,
        "@zone" => domain(offer).1,
        name => offer.attributes.iter().find(|attribute| attribute.name == name).map(text),
    }
}

fn field_of_copy(copy: &Instance, name: &str) -> Option<String> {
    match name {
        name if is_host(name) => Some(copy.host.clone()),
        "@region" => copy.region.clone(),
        "@zone" => copy.zone.clone(),
        name => {
            copy.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        }
    }
}

/// An attribute as people write it.
fn text(attribute: &v1::Attribute) -> String {
    if let Some(text) = &attribute.text {
        return text.value.clone();
    }
    if let Some(scalar) = &attribute.scalar {
        return Scalar::from_f64(scalar.value).unwrap_or_default().to_string();
    }
    if let Some(set) = &attribute.set {
        return format!("{{{}}}", set.item.join(","));
    }
    let ranges = attribute.ranges.iter().flat_map(|ranges| &ranges.range);
    let parts: Vec<_> = ranges.map(|range| format!("{}-{}", range.begin, range.end)).collect();
    format!("[{}]", parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offer::tests::offer;
    use crate::testing::{app, instance};
    use serde_json::json;

    #[test]
    fn every_rule() {
        let mut offer = offer(1);
        offer.attributes = vec![
            v1::Attribute {
                name: "rack".to_owned(),
                text: Some(v1::value::Text { value: "r1".to_owned() }),
                ..v1::Attribute::default()
            },
            v1::Attribute {
                name: "level".to_owned(),
                scalar: Some(v1::value::Scalar { value: 2.5 }),
                ..v1::Attribute::default()
            },
        ];
        let copy = |host: &str, rack: &str| Instance {
            host: host.to_owned(),
            attributes: vec![("rack".to_owned(), rack.to_owned())],
            ..instance(host)
        };
        let here = [copy("node1", "r1")];
        let there = [copy("node2", "r2")];
        let none: [Instance; 0] = [];
        #[rustfmt::skip]
        let table: &[(&[&str], &[Instance], bool)] = &[
            (&["hostname", "UNIQUE"],            &none,  true),
            (&["hostname", "UNIQUE"],            &there, true),
            (&["@hostname", "UNIQUE"],           &here,  false),
            (&["rack", "CLUSTER", "r1"],         &none,  true),
            (&["rack", "CLUSTER", "r2"],         &none,  false),
            (&["rack", "CLUSTER"],               &here,  true),
            (&["rack", "CLUSTER"],               &there, false),
            (&["hostname", "LIKE", "node[12]"],  &none,  true),
            (&["hostname", "LIKE", "node"],      &none,  false),
            (&["hostname", "LIKE", "a|node1"],   &none,  true),
            (&["hostname", "UNLIKE", "node1"],   &none,  false),
            (&["hostname", "UNLIKE", "node2"],   &none,  true),
            (&["hostname", "MAX_PER", "1"],      &here,  false),
            (&["hostname", "MAX_PER", "2"],      &here,  true),
            (&["level", "IS", "2.50"],           &none,  true),
            (&["level", "IS", "2.6"],            &none,  false),
            (&["colour", "UNIQUE"],              &none,  false),
            (&["colour", "UNLIKE", "red"],       &none,  true),
            (&["@zone", "CLUSTER"],              &none,  false),
        ];
        for (rule, copies, want) in table {
            let app = app(json!({"constraints": [rule]}));
            let got = check(&app, &offer, copies.iter());
            assert_eq!(got.is_ok(), *want, "{rule:?}: {got:?}");
        }
    }

    #[test]
    fn copies_of_another_configuration_do_not_count() {
        let mut app = app(json!({"constraints": [["hostname", "UNIQUE"]]}));
        let old = Instance { host: "node1".to_owned(), ..instance("t") };
        assert!(check(&app, &offer(1), [&old].into_iter()).is_err());
        app.version_info.last_config_change_at = "2024-01-01T00:00:00.000Z".parse().unwrap();
        assert!(check(&app, &offer(1), [&old].into_iter()).is_ok());
    }
}
