//! Amounts by name only, without any property.

use super::{ResourceError, Scalar, Value};
use std::fmt;
use std::sync::Arc;

/// Name → amount, sorted by name; what is not there is zero, and zero is not there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Quantities(Vec<(Arc<str>, Scalar)>);

impl Quantities {
    /// Nothing of anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much there is of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Scalar {
        self.find(name).map_or(Scalar::ZERO, |at| self.0[at].1)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Scalar)> + '_ {
        self.0.iter().map(|(name, scalar)| (name, *scalar))
    }

    /// Adds to one name; nothing happens unless `scalar` is positive.
    pub fn add_one(&mut self, name: &Arc<str>, scalar: Scalar) {
        if !scalar.is_positive() {
            return;
        }
        match self.find(name) {
            Ok(at) => self.0[at].1 = self.0[at].1.plus(scalar),
            Err(at) => self.0.insert(at, (Arc::clone(name), scalar)),
        }
    }

    /// Takes from one name, down to nothing.
    pub fn subtract_one(&mut self, name: &str, scalar: Scalar) {
        let Ok(at) = self.find(name) else { return };
        self.0[at].1 = self.0[at].1.minus(scalar);
        if !self.0[at].1.is_positive() {
            self.0.remove(at);
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, scalar) in other.iter() {
            self.add_one(name, scalar);
        }
    }

    /// Takes all of `other`, each down to nothing.
    pub fn subtract(&mut self, other: &Self) {
        for (name, scalar) in other.iter() {
            self.subtract_one(name, scalar);
        }
    }

    /// Whether there is at least as much of everything.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.iter().all(|(name, scalar)| self.get(name) >= scalar)
    }

    /// Reads `cpus:4;mem:1024`.
    ///
    /// # Errors
    ///
    /// [`ResourceError`] names the first part that is no name and number.
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        let mut quantities = Self::new();
        for token in text.split(';').filter(|token| !token.trim().is_empty()) {
            let bad = || ResourceError::Token(token.to_owned());
            let (name, value) = token.split_once(':').ok_or_else(bad)?;
            match Value::parse(value)? {
                Some(Value::Scalar(scalar)) if !name.trim().is_empty() => {
                    quantities.add_one(&Arc::from(name.trim()), scalar);
                }
                _ => return Err(bad()),
            }
        }
        Ok(quantities)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_ref().cmp(name))
    }
}

impl fmt::Display for Quantities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.iter().map(|(name, scalar)| format!("{name}:{scalar}")).collect();
        f.write_str(&parts.join(";"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_not_there_and_nothing_goes_below() {
        let of = |text| Quantities::parse(text).unwrap();
        let mut quantities = of(" mem : 10 ; cpus:3.14;disk:0");
        assert_eq!(quantities.to_string(), "cpus:3.14;mem:10");
        quantities.subtract(&of("cpus:9;mem:4;gpus:1"));
        assert_eq!(quantities, of("mem:6"));
        assert!(quantities.contains(&of("mem:6")) && !quantities.contains(&of("mem:6;cpus:0.001")));
        for text in ["cpus", ":1", "cpus:-1", "ports:[1-2]", "cpus:nan"] {
            assert!(Quantities::parse(text).is_err(), "{text}");
        }
    }
}
