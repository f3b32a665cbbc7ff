//! The text form: `cpus:4;mem(web):1024;ports:[31000-32000]`.

use super::{
    ANY_ROLE, Reservation, ReservationKind, Resource, ResourceError, Resources, RoleError, Value,
    check_role,
};
use std::collections::BTreeMap;
use std::fmt;
use std::mem::Discriminant;
use std::sync::Arc;

impl Resources {
    /// Reads the text form; what names no role is unreserved.
    ///
    /// # Errors
    ///
    /// See [`Resources::parse_for`].
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        Self::parse_for(text, ANY_ROLE)
    }

    /// Reads the text form; what names no role is reserved for `default_role`,
    /// unless that is [`ANY_ROLE`].
    ///
    /// # Errors
    ///
    /// [`ResourceError`] names the first part that is no resource, and a name that
    /// comes with values of different types.
    pub fn parse_for(text: &str, default_role: &str) -> Result<Self, ResourceError> {
        let mut kinds: BTreeMap<Arc<str>, Discriminant<Value>> = BTreeMap::new();
        let mut resources = Self::new();
        for token in text.split(';').filter(|token| !token.trim().is_empty()) {
            let resource = parse_one(token, default_role)?;
            let kind = std::mem::discriminant(&resource.value);
            if *kinds.entry(Arc::clone(&resource.name)).or_insert(kind) != kind {
                return Err(ResourceError::MixedTypes(resource.name.to_string()));
            }
            resources.add_one(resource);
        }
        Ok(resources)
    }
}

fn parse_one(token: &str, default_role: &str) -> Result<Resource, ResourceError> {
    let bad = || ResourceError::Token(token.trim().to_owned());
    let (head, value) = token.split_once(':').ok_or_else(bad)?;
    if value.contains(':') {
        return Err(bad());
    }
    let (name, role) = match head.trim().split_once('(') {
        None => (head.trim(), default_role),
        Some((name, role)) => (name.trim(), role.strip_suffix(')').ok_or_else(bad)?.trim()),
    };
    if name.is_empty() || name.contains(')') {
        return Err(bad());
    }
    let value = Value::parse(value)?.ok_or_else(bad)?;
    let mut resource = Resource::new(name, value);
    if role != ANY_ROLE {
        let named = |source: RoleError| ResourceError::Role { name: name.to_owned(), source };
        check_role(role).map_err(named)?;
        resource.reservations.push(Reservation::fixed(role));
    }
    resource.check()?;
    Ok(resource)
}

impl fmt::Display for Resources {
    /// As Mesos prints them: `cpus:4; ports:[1-2, 5-6]`, `{}` if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("{}");
        }
        for (at, (resource, copies)) in self.iter_copies().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            resource.fmt(f)?;
            if resource.shared {
                write!(f, "<{copies}>")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(role) = &self.allocation {
            write!(f, "(allocated: {role})")?;
        }
        if !self.reservations.is_empty() {
            let stack: Vec<_> = self.reservations.iter().map(describe).collect();
            write!(f, "(reservations: [{}])", stack.join(","))?;
        }
        if let Some(persistence) = self.disk.as_ref().and_then(|disk| disk.persistence.as_ref()) {
            write!(f, "[{}]", persistence.id)?;
        }
        if self.revocable {
            f.write_str("{REV}")?;
        }
        if self.shared {
            f.write_str("<SHARED>")?;
        }
        write!(f, ":{}", self.value)
    }
}

fn describe(reservation: &Reservation) -> String {
    let kind = match reservation.kind {
        ReservationKind::Static => "STATIC",
        ReservationKind::Dynamic => "DYNAMIC",
    };
    let principal = reservation.principal.as_ref().map(|p| format!(",{p}")).unwrap_or_default();
    format!("({kind},{}{principal})", reservation.role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back() {
        #[rustfmt::skip]
        let table: &[(&str, &str)] = &[
            ("cpus:45.55;ports:[10000-20000, 30000-50000];disks:{sda1}", "cpus:45.55; ports:[10000-20000, 30000-50000]; disks:{sda1}"),
            (" cpus : 4 ; mem:1024;",  "cpus:4; mem:1024"),
            ("cpus:1.2345",            "cpus:1.235"),
            ("cpus:0",                 "{}"),
            ("cpus:1;cpus:2",          "cpus:3"),
            ("cpus(web):2",            "cpus(reservations: [(STATIC,web)]):2"),
        ];
        for (text, want) in table {
            assert_eq!(Resources::parse(text).unwrap().to_string(), *want, "{text}");
        }
        let reserved = Resources::parse_for("cpus:1;mem(*):2", "web").unwrap();
        assert_eq!(reserved, Resources::parse("cpus(web):1;mem:2").unwrap());
    }

    #[test]
    fn bad_text_is_refused_by_name() {
        #[rustfmt::skip]
        let table: &[(&str, &str)] = &[
            ("cpus",                  "bad resource 'cpus'"),
            ("cpus:1:2",              "bad resource 'cpus:1:2'"),
            ("cpus:-1",               "bad resource 'cpus:-1'"),
            ("cpus:nan",              "bad resource"),
            ("cpus:abc",              "bad resource"),
            (":1",                    "bad resource"),
            ("cpus(a:1",              "bad resource"),
            ("cpus(a b):1",           "bad role"),
            ("ports:[1-2",            "bad value"),
            ("ports:[1-5,4-6]",       "overlap"),
            ("cpus:1;cpus:[1-2]",     "different types"),
            ("gpus:0.5",              "whole number"),
        ];
        for (text, want) in table {
            let error = Resources::parse(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
