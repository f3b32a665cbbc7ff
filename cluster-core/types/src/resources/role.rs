//! Names of roles: slash-separated paths in a tree.

/// The role of what nobody reserved.
pub const ANY_ROLE: &str = "*";

/// Why a text is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// Nothing there.
    #[error("a role name must not be empty")]
    Empty,
    /// A slash at an end, or two together.
    #[error("role '{0}' has an empty component")]
    EmptyComponent(String),
    /// `.`, `..` or `*` as a component.
    #[error("role '{role}' must not have the component '{component}'")]
    Component {
        /// The whole name.
        role: String,
        /// What is not allowed in it.
        component: String,
    },
    /// A component that looks like an option.
    #[error("a component of role '{0}' starts with '-'")]
    Dash(String),
    /// White space or DEL.
    #[error("role {role:?} contains the invalid character {character:?}")]
    Character {
        /// The whole name.
        role: String,
        /// What is not allowed in it.
        character: char,
    },
}

/// Checks the name of a role.
///
/// # Errors
///
/// [`RoleError`] names the first rule that `role` breaks.
pub fn check_role(role: &str) -> Result<(), RoleError> {
    if role == ANY_ROLE {
        return Ok(());
    }
    if role.is_empty() {
        return Err(RoleError::Empty);
    }
    for component in role.split('/') {
        if component.is_empty() {
            return Err(RoleError::EmptyComponent(role.to_owned()));
        }
        if matches!(component, "." | ".." | ANY_ROLE) {
            return Err(RoleError::Component {
                role: role.to_owned(),
                component: component.to_owned(),
            });
        }
        if component.starts_with('-') {
            return Err(RoleError::Dash(role.to_owned()));
        }
    }
    let refused = |c: &char| matches!(c, '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ' | '\x7f');
    match role.chars().find(refused) {
        Some(character) => Err(RoleError::Character { role: role.to_owned(), character }),
        None => Ok(()),
    }
}

/// Whether `role` lies strictly below `ancestor`: `a/b` below `a`.
#[must_use]
pub fn is_below(role: &str, ancestor: &str) -> bool {
    role.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles() {
        #[rustfmt::skip]
        let table: &[(&str, bool)] = &[
            ("*", true), ("web", true), ("a/b/c", true), ("foo_123", true), ("a.b", true), ("a-b", true), ("...", true),
            ("", false), ("/a", false), ("a/", false), ("a//b", false), ("a/*", false), (".", false),
            ("a/..", false), ("-a", false), ("a/-b", false), ("a b", false), ("a\t", false), ("a\x7f", false),
        ];
        for (role, valid) in table {
            assert_eq!(check_role(role).is_ok(), *valid, "{role:?}");
        }
        assert!(is_below("a/b", "a") && !is_below("a", "a") && !is_below("ab/c", "a"));
    }
}
