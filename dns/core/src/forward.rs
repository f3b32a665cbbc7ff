//! Whom to ask about names that are not ours.

use crate::name::{DnsName, NameError};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Resolvers by suffix, and those for the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardTable {
    zones: BTreeMap<DnsName, Vec<SocketAddr>>,
    rest: Vec<SocketAddr>,
}

impl ForwardTable {
    /// Makes a table.
    ///
    /// * `rest` — resolvers for names that no zone holds; none refuses them.
    /// * `zones` — resolvers by suffix; a suffix without resolvers is refused.
    ///
    /// # Errors
    ///
    /// [`NameError`] if a suffix is no name.
    pub fn new(
        rest: Vec<SocketAddr>,
        zones: &BTreeMap<String, Vec<SocketAddr>>,
    ) -> Result<Self, NameError> {
        let zones = zones
            .iter()
            .map(|(suffix, resolvers)| Ok((DnsName::parse(suffix)?, resolvers.clone())))
            .collect::<Result<_, NameError>>()?;
        Ok(Self { zones, rest })
    }

    /// The resolvers for `name`: those of the longest suffix that holds it.
    #[must_use]
    pub fn route(&self, name: &DnsName) -> &[SocketAddr] {
        name.lineage().find_map(|suffix| self.zones.get(suffix)).unwrap_or(&self.rest)
    }

    /// Whether anybody can be asked at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.zones.values().all(Vec::is_empty)
    }

    /// Takes out the resolvers that `unwanted` names, and returns them.
    pub fn take_out(&mut self, unwanted: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
        let mut out = Vec::new();
        for resolvers in self.zones.values_mut().chain([&mut self.rest]) {
            out.extend(resolvers.extract_if(.., |resolver| unwanted(*resolver)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_wins() {
        let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 53));
        let zones = BTreeMap::from([
            ("example.com".to_owned(), vec![at(1)]),
            ("Corp.Example.COM.".to_owned(), vec![at(2), at(3)]),
            ("blocked".to_owned(), vec![]),
        ]);
        let mut table = ForwardTable::new(vec![at(9)], &zones).expect("names");
        let table_of = |table: &ForwardTable, name| {
            table.route(&DnsName::parse(name).expect("a name")).to_vec()
        };
        #[rustfmt::skip]
        let rows: &[(&str, Vec<SocketAddr>)] = &[
            ("example.com",          vec![at(1)]),
            ("a.b.example.com",      vec![at(1)]),
            ("corp.example.com",     vec![at(2), at(3)]),
            ("x.corp.example.com",   vec![at(2), at(3)]),
            ("notexample.com",       vec![at(9)]),
            ("x.blocked",            vec![]),
            ("",                     vec![at(9)]),
        ];
        for (name, want) in rows {
            assert_eq!(table_of(&table, name), *want, "{name}");
        }
        assert_eq!(table.take_out(|resolver| resolver == at(2)), [at(2)]);
        assert_eq!(table_of(&table, "corp.example.com"), [at(3)]);
        assert!(!table.is_empty() && ForwardTable::default().is_empty());
        let bad = BTreeMap::from([("a..b".to_owned(), vec![])]);
        assert_eq!(ForwardTable::new(vec![], &bad), Err(NameError::EmptyLabel("a..b".into())));
    }
}
