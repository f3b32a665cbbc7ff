//! What is wrong with a request, in the shape of Marathon's error bodies.

use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which member: `/healthChecks(0)/path`; `/` is the whole.
    pub path: String,
    /// What is wrong with it.
    pub error: String,
}

impl Problem {
    /// A problem with the member at `path`.
    pub fn new(path: impl Into<String>, error: impl Into<String>) -> Self {
        Self { path: path.into(), error: error.into() }
    }

    /// The same where an app is one of a list.
    #[must_use]
    pub fn of_app(self, index: usize, id: &impl std::fmt::Display) -> Self {
        let path = format!("/({index}){}", self.path);
        let error = format!("{} (app '{id}')", self.error);
        Self { path: path.trim_end_matches('/').to_owned(), error }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The body is no JSON.
    #[error("Invalid JSON")]
    NotJson(
        /// The parser's words, with line and column.
        String,
    ),
    /// The body is JSON and makes no sense.
    #[error("Object is not valid")]
    Invalid(Vec<Problem>),
    /// Other deployments change the same apps.
    #[error(
        "App is locked by one or more deployments. Override with the option '?force=true'. \
         View details at '/v2/deployments/<DEPLOYMENT_ID>'."
    )]
    Locked(
        /// Their ids.
        Vec<String>,
    ),
    /// Anything else.
    #[error("{message}")]
    Other {
        /// HTTP status.
        status: u16,
        /// What is wrong.
        message: String,
    },
}

impl Refusal {
    /// A refusal with a status and a sentence.
    pub fn other(status: u16, message: impl Into<String>) -> Self {
        Self::Other { status, message: message.into() }
    }

    /// There is no such app.
    pub fn no_app(id: &impl std::fmt::Display) -> Self {
        Self::other(404, format!("App '{id}' does not exist"))
    }

    /// One problem with one member.
    pub fn invalid(path: impl Into<String>, error: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem::new(path, error)])
    }

    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NotJson(_) => 400,
            Self::Invalid(_) => 422,
            Self::Locked(_) => 409,
            Self::Other { status, .. } => *status,
        }
    }

    /// The body: `{message, details: [{path, errors}]}`.
    #[must_use]
    pub fn body(&self) -> Value {
        let message = self.to_string();
        match self {
            Self::NotJson(words) => {
                json!({"message": message, "details": [{"path": "/", "errors": [words]}]})
            }
            Self::Invalid(problems) => json!({"message": message, "details": details(problems)}),
            Self::Locked(ids) => {
                let deployments: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
                json!({"message": message, "deployments": deployments})
            }
            Self::Other { .. } => json!({"message": message}),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Invalid(vec![problem])
    }
}

#[derive(Serialize)]
struct Detail<'a> {
    path: &'a str,
    errors: Vec<&'a str>,
}

fn details(problems: &[Problem]) -> Vec<Detail<'_>> {
    let mut by_path: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for problem in problems {
        by_path.entry(&problem.path).or_default().push(&problem.error);
    }
    by_path.into_iter().map(|(path, errors)| Detail { path, errors }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_shape_that_clients_know() {
        let invalid = Refusal::Invalid(vec![
            Problem::new("/mem", "must not be negative"),
            Problem::new("/cpus", "must not be negative"),
            Problem::new("/mem", "must be less"),
        ]);
        assert_eq!(invalid.status(), 422);
        assert_eq!(
            invalid.body(),
            json!({"message": "Object is not valid", "details": [
                {"path": "/cpus", "errors": ["must not be negative"]},
                {"path": "/mem", "errors": ["must not be negative", "must be less"]},
            ]})
        );
        let locked = Refusal::Locked(vec!["d1".to_owned()]);
        assert_eq!((locked.status(), &locked.body()["deployments"]), (409, &json!([{"id": "d1"}])));
    }
}
