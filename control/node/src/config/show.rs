//! A configuration as TOML, and the difference between two.

use super::keys::{Applies, KEYS};
use super::{Config, Origin};
use std::collections::BTreeMap;
use toml::Value;

/// A key whose value is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: &'static str,
    /// Its value before, as TOML.
    pub old: String,
    /// Its value now, as TOML.
    pub new: String,
    /// When it takes effect.
    pub applies: Applies,
}

pub(super) fn difference(old: &Config, new: &Config) -> Vec<Change> {
    let (old, new) = (flat(old), flat(new));
    let text = |values: &BTreeMap<String, Value>, key: &str| {
        values.get(key).map(Value::to_string).unwrap_or_default()
    };
    KEYS.iter()
        .map(|key| Change {
            key: key.path,
            old: text(&old, key.path),
            new: text(&new, key.path),
            applies: key.applies,
        })
        .filter(|change| change.old != change.new)
        .collect()
}

pub(super) fn annotated(config: &Config) -> String {
    let values = flat(config);
    let mut lines = Vec::new();
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            lines.push((String::new(), None));
            lines.push((format!("[{section}]"), None));
        }
        let name = key.path.rsplit('.').next().unwrap_or(key.path);
        let value = values.get(key.path).map(Value::to_string).unwrap_or_default();
        lines.push((format!("{name} = {value}"), config.origins.get(key.path)));
    }
    align(&lines)
}

/// Puts the origins one below the other.
fn align(lines: &[(String, Option<&Origin>)]) -> String {
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(48);
    let mut text = String::new();
    for (line, origin) in lines {
        match origin {
            Some(origin) => text.push_str(&format!("{line:width$}  # {origin}\n")),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

/// All values by the path of their key.
pub(super) fn flat(config: &Config) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    if let Ok(Value::Table(table)) = Value::try_from(config) {
        for (name, value) in table {
            match value {
                Value::Table(section) => values.extend(
                    section.into_iter().map(|(inner, value)| (format!("{name}.{inner}"), value)),
                ),
                value => {
                    values.insert(name, value);
                }
            }
        }
    }
    values
}
