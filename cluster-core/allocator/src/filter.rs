//! What frameworks refused, and until when.
//!
//! A filter holds against an offer that it contains; more, or something else, is
//! offered all the same. It holds at least one batch interval, and for the batch
//! that falls on its very end if it was made at that of the batch before.

use mizzen_types::ids::{AgentId, FrameworkId};
use mizzen_types::resources::Resources;
use mizzen_types::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

type Place = (FrameworkId, Arc<str>, AgentId);

#[derive(Debug, Clone)]
struct Filter {
    number: u64,
    refused: Resources,
    made: Mono,
    ends: Mono,
}

type ByAgent = BTreeMap<AgentId, Vec<Filter>>;

/// All filters.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    by_framework: BTreeMap<FrameworkId, BTreeMap<Arc<str>, ByAgent>>,
    ends: BTreeMap<(Mono, u64), Place>,
    next: u64,
}

impl Filters {
    /// Remembers a refusal for `lasting` from `now`.
    pub(crate) fn add(&mut self, place: Place, refused: Resources, now: Mono, lasting: Duration) {
        let filter = Filter { number: self.next, refused, made: now, ends: now + lasting };
        self.next += 1;
        self.ends.insert((filter.ends, filter.number), place.clone());
        let (framework, role, agent) = place;
        let roles = self.by_framework.entry(framework).or_default();
        roles.entry(role).or_default().entry(agent).or_default().push(filter);
    }

    /// Whether any one filter contains all of `offer`.
    pub(crate) fn refuses(
        &self,
        framework: &FrameworkId,
        role: &str,
        agent: &AgentId,
        offer: &Resources,
    ) -> bool {
        self.by_framework
            .get(framework)
            .and_then(|roles| roles.get(role))
            .and_then(|agents| agents.get(agent))
            .is_some_and(|filters| filters.iter().any(|f| f.refused.contains(offer)))
    }

    /// When the next filter ends.
    pub(crate) fn next_end(&self) -> Option<Mono> {
        self.ends.keys().next().map(|(end, _)| *end)
    }

    /// Ends those that are over at `now`; `batch` is the time of the batch that is
    /// about to run and the one of the batch before. Returns their agents.
    pub(crate) fn expire(&mut self, now: Mono, batch: Option<(Mono, Mono)>) -> BTreeSet<AgentId> {
        let due: Vec<_> =
            self.ends.range(..=(now, u64::MAX)).map(|(key, place)| (*key, place.clone())).collect();
        let mut agents = BTreeSet::new();
        for ((end, number), (framework, role, agent)) in due {
            let Some(roles) = self.by_framework.get_mut(&framework) else { continue };
            let Some(by_agent) = roles.get_mut(&role) else { continue };
            let Some(filters) = by_agent.get_mut(&agent) else { continue };
            let holds = |filter: &Filter| {
                batch.is_some_and(|(at, before)| end >= at && filter.made >= before)
            };
            if filters.iter().any(|filter| filter.number == number && holds(filter)) {
                continue;
            }
            filters.retain(|filter| filter.number != number);
            if filters.is_empty() {
                by_agent.remove(&agent);
            }
            self.ends.remove(&(end, number));
            agents.insert(agent);
        }
        agents
    }

    /// Forgets all of a framework.
    pub(crate) fn clear_framework(&mut self, framework: &FrameworkId) {
        let roles = self.by_framework.remove(framework).unwrap_or_default();
        self.forget(roles.into_values().flat_map(BTreeMap::into_values).flatten());
    }

    /// Forgets those of a framework in one role.
    pub(crate) fn clear_role(&mut self, framework: &FrameworkId, role: &str) {
        let agents = self.by_framework.get_mut(framework).and_then(|roles| roles.remove(role));
        self.forget(agents.unwrap_or_default().into_values().flatten());
    }

    /// Forgets those on an agent.
    pub(crate) fn clear_agent(&mut self, agent: &AgentId) {
        let mut gone = Vec::new();
        for roles in self.by_framework.values_mut() {
            for agents in roles.values_mut() {
                gone.extend(agents.remove(agent).unwrap_or_default());
            }
        }
        self.forget(gone.into_iter());
    }

    /// How many hold, by role.
    pub(crate) fn count_by_role(&self) -> BTreeMap<Arc<str>, usize> {
        let mut counts = BTreeMap::new();
        for (_, role, _) in self.ends.values() {
            *counts.entry(Arc::clone(role)).or_default() += 1;
        }
        counts
    }

    fn forget(&mut self, filters: impl Iterator<Item = Filter>) {
        for filter in filters {
            self.ends.remove(&(filter.ends, filter.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Resources {
        Resources::parse(text).unwrap()
    }

    fn place() -> Place {
        ("f".into(), "role".into(), "a".into())
    }

    #[test]
    fn a_filter_holds_what_it_contains() {
        let mut filters = Filters::default();
        filters.add(place(), of("cpus:2;mem:10"), Mono(0), Duration::from_secs(5));
        #[rustfmt::skip]
        let table = [
            ("cpus:2;mem:10", true), ("cpus:1", true), ("cpus:2.001;mem:10", false), ("cpus:1;ports:[1-2]", false),
        ];
        for (offer, want) in table {
            let refused = filters.refuses(&"f".into(), "role", &"a".into(), &of(offer));
            assert_eq!(refused, want, "{offer}");
        }
        assert!(!filters.refuses(&"f".into(), "other", &"a".into(), &of("cpus:1")));
        filters.clear_role(&"f".into(), "role");
        assert_eq!(filters.next_end(), None);
    }

    #[test]
    fn one_that_ends_with_a_batch_holds_for_it_if_made_at_the_one_before() {
        let second = |s: u64| Mono(s * 1_000_000_000);
        #[rustfmt::skip]
        let table = [
            // made, lasts, now, (batch, before), still there
            (10, 1, 11, Some((11, 10)), true),
            (9,  2, 11, Some((11, 10)), false),
            (10, 1, 11, None,           false),
            (10, 1, 12, Some((12, 11)), false),
            (10, 5, 12, Some((12, 11)), true),
        ];
        for (made, lasts, now, batch, want) in table {
            let mut filters = Filters::default();
            filters.add(place(), of("cpus:1"), second(made), Duration::from_secs(lasts));
            let agents =
                filters.expire(second(now), batch.map(|(at, before)| (second(at), second(before))));
            assert_eq!(filters.next_end().is_some(), want, "{made}+{lasts} at {now}");
            assert_eq!(agents.is_empty(), want);
        }
    }
}
