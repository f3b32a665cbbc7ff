//! Rules about where copies may run.

use serde::{Deserialize, Serialize};

/// A rule about where copies may run: `["hostname", "UNIQUE"]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Constraint {
    /// `hostname`, `@hostname`, `@region`, `@zone` or the name of an attribute.
    pub field: String,
    /// The rule.
    pub operator: Operator,
    /// What the rule compares with.
    pub value: Option<String>,
}

/// Rules of a [`Constraint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Marathon's")]
pub enum Operator {
    Unique,
    Cluster,
    GroupBy,
    Like,
    Unlike,
    MaxPer,
    Is,
}

const OPERATORS: [(&str, Operator); 7] = [
    ("UNIQUE", Operator::Unique),
    ("CLUSTER", Operator::Cluster),
    ("GROUP_BY", Operator::GroupBy),
    ("LIKE", Operator::Like),
    ("UNLIKE", Operator::Unlike),
    ("MAX_PER", Operator::MaxPer),
    ("IS", Operator::Is),
];

impl Operator {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        OPERATORS.iter().find(|(_, operator)| *operator == self).map_or("", |(name, _)| name)
    }
}

impl TryFrom<Vec<String>> for Constraint {
    type Error = String;

    fn try_from(parts: Vec<String>) -> Result<Self, String> {
        let mut parts = parts.into_iter();
        let (Some(field), Some(word)) = (parts.next(), parts.next()) else {
            return Err("a constraint has a field, an operator and perhaps a value".to_owned());
        };
        let value = parts.next();
        if parts.next().is_some() {
            return Err("a constraint has at most three parts".to_owned());
        }
        let known = OPERATORS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word));
        let Some((_, operator)) = known else {
            let names: Vec<_> = OPERATORS.iter().map(|(name, _)| *name).collect();
            return Err(format!("'{word}' is no operator; there are {}", names.join(", ")));
        };
        Ok(Self { field, operator: *operator, value })
    }
}

impl From<Constraint> for Vec<String> {
    fn from(constraint: Constraint) -> Self {
        let mut parts = vec![constraint.field, constraint.operator.name().to_owned()];
        parts.extend(constraint.value);
        parts
    }
}
