//! All tasks that are known, a page at a time, so that a long list never holds up the
//! loop. What a former process knew and no log has confirmed yet is known as well: it is
//! answered, too.

use super::core::Core;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::{FrameworkId, OwnerId, TaskId};
use std::collections::{BTreeMap, BTreeSet};

/// Tasks that the loop gives away at once.
pub(crate) const PAGE: usize = 256;

/// Tasks of one framework, after one.
pub(crate) type After = (FrameworkId, OwnerId, TaskId);

/// Some tasks, in the order of frameworks.
#[derive(Debug, Default)]
pub(crate) struct TaskPage {
    /// They are.
    pub(crate) facts: Vec<(OwnerId, Key, Fact)>,
    /// Where the next page begins; `None` if this is the last one.
    pub(crate) next: Option<After>,
}

impl Core {
    /// The next tasks in the order of frameworks, nodes and ids.
    pub(crate) fn task_page(&self, after: Option<After>) -> TaskPage {
        let mut facts = Vec::with_capacity(PAGE);
        let mut here = after;
        let first = FrameworkId::from("");
        let mut framework = here.as_ref().map_or(first, |(framework, ..)| framework.clone());
        let tellers = self.tellers();
        loop {
            for owner in &tellers {
                let from = match &here {
                    Some((_, at, _)) if *owner < at => continue,
                    Some((_, at, task)) if *owner == at => task.clone(),
                    _ => TaskId::from(""),
                };
                let start = Key::Task(framework.clone(), from.clone());
                for (key, fact) in self.told(owner, &start) {
                    let Key::Task(of, task) = key else { break };
                    if *of != framework {
                        break;
                    }
                    if here.as_ref().is_some_and(|(_, at, last)| at == *owner && last == task) {
                        continue;
                    }
                    facts.push(((*owner).clone(), key.clone(), fact.clone()));
                    if facts.len() >= PAGE {
                        let next = Some((framework, (*owner).clone(), task.clone()));
                        return TaskPage { facts, next };
                    }
                }
            }
            here = None;
            match self.framework_after(&tellers, &framework) {
                Some(next) => framework = next,
                None => return TaskPage { facts, next: None },
            }
        }
    }

    /// The names of all frameworks.
    pub(crate) fn framework_names(&self) -> BTreeMap<FrameworkId, String> {
        let name = |(key, fact): (&Key, &Fact)| match (key, fact) {
            (Key::Framework(id), Fact::Framework(framework)) => {
                Some((id.clone(), framework.name.clone()))
            }
            _ => None,
        };
        let start = Key::Framework(FrameworkId::from(""));
        let tellers = self.tellers();
        let all = tellers.iter().flat_map(|owner| {
            self.told(owner, &start).take_while(|(key, _)| matches!(key, Key::Framework(_)))
        });
        all.filter_map(name).collect()
    }

    fn framework_after(
        &self,
        tellers: &BTreeSet<&OwnerId>,
        framework: &FrameworkId,
    ) -> Option<FrameworkId> {
        let start = Key::Task(framework.clone(), TaskId::from("\u{10ffff}"));
        let first_of = |owner: &&OwnerId| match self.told(owner, &start).next() {
            Some((Key::Task(framework, _), _)) => Some(framework.clone()),
            _ => None,
        };
        tellers.iter().filter_map(first_of).min()
    }

    /// Whose facts are known.
    fn tellers(&self) -> BTreeSet<&OwnerId> {
        self.view.owners().chain(self.names.stale_owners()).collect()
    }

    /// The facts of one owner from a key on, in the order of keys.
    fn told<'a>(
        &'a self,
        owner: &'a OwnerId,
        from: &'a Key,
    ) -> impl Iterator<Item = (&'a Key, &'a Fact)> {
        let mut sure = self.view.facts_from(owner, from).peekable();
        let mut stale = self.names.stale_from(owner, from).peekable();
        std::iter::from_fn(move || match (sure.peek(), stale.peek()) {
            (Some((sure_key, _)), Some((stale_key, _))) if stale_key < sure_key => stale.next(),
            (Some(_), _) => sure.next(),
            (None, _) => stale.next(),
        })
    }
}
