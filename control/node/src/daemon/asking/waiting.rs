//! Questions that wait for other nodes.

use crate::daemon::replies::refuse;
use mizzen_http::core::{QueryReply, ServicesReply};
use mizzen_types::ids::OwnerId;
use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// So many questions may wait for other nodes; the oldest one gives way.
const WAITING: usize = 256;
/// So many questions of one peer are looked into at once, each by a thread.
const AT_ONCE: usize = 8;
/// So many changes that one peer passes on may wait for the loop at once.
const CHANGES: usize = 64;
/// So many tasks of other nodes are remembered after they were asked about.
const REMEMBERED: usize = 256;

/// Questions that wait for other nodes.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    number: u64,
    waiting: BTreeMap<u64, (OwnerId, Waiting)>,
    /// What may still be done for each peer.
    bounds: BTreeMap<OwnerId, Bounds>,
    /// Where tasks ran that were asked about: what they wrote last is read after their end.
    ran: VecDeque<(String, OwnerId)>,
}

/// What may be done for one peer at once.
#[derive(Debug)]
struct Bounds {
    /// Threads at work.
    threads: Arc<Semaphore>,
    /// Changes that wait.
    changes: Arc<Semaphore>,
}

/// What a peer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Something is to be looked up.
    Look,
    /// Something is to be changed.
    Change,
}

impl Default for Bounds {
    fn default() -> Self {
        let [threads, changes] = [AT_ONCE, CHANGES].map(|most| Arc::new(Semaphore::new(most)));
        Self { threads, changes }
    }
}

impl Bounds {
    fn is_idle(&self) -> bool {
        self.threads.available_permits() == AT_ONCE && self.changes.available_permits() == CHANGES
    }
}

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Waiting {
    Logs(oneshot::Sender<QueryReply>),
    Change(oneshot::Sender<ServicesReply>),
}

impl Waiting {
    fn is_gone(&self) -> bool {
        match self {
            Self::Logs(reply) => reply.is_closed(),
            Self::Change(reply) => reply.is_closed(),
        }
    }

    /// There will be no answer. A client that went away meanwhile is no concern, here and below.
    fn give_up(self, name: &str) {
        let text = format!("node {name} does not answer");
        match self {
            Self::Logs(reply) => drop(reply.send(QueryReply::Away(text))),
            Self::Change(reply) => {
                let text = format!("{text}; the change may have reached it");
                drop(reply.send(refuse(503, text).reply()));
            }
        }
    }
}

impl Asking {
    /// Another question, and its number.
    pub(super) fn wait(&mut self, node: &OwnerId, reply: Waiting) -> u64 {
        self.waiting.retain(|_, (_, reply)| !reply.is_gone());
        while self.waiting.len() >= WAITING {
            self.waiting.pop_first();
        }
        self.number += 1;
        self.waiting.insert(self.number, (node.clone(), reply));
        self.number
    }

    /// The answer to a question came from a node, if it was asked.
    pub(super) fn answer(&mut self, node: &OwnerId, number: u64, answer: QueryReply) {
        if let Some(Waiting::Logs(reply)) = self.take(node, number) {
            let _ = reply.send(answer);
        }
    }

    /// What became of a change came from a node, if it was asked for it.
    pub(super) fn changed(&mut self, node: &OwnerId, number: u64, answer: ServicesReply) {
        if let Some(Waiting::Change(reply)) = self.take(node, number) {
            let _ = reply.send(answer);
        }
    }

    fn take(&mut self, node: &OwnerId, number: u64) -> Option<Waiting> {
        match self.waiting.entry(number) {
            Entry::Occupied(asked) if asked.get().0 == *node => Some(asked.remove().1),
            _ => None,
        }
    }

    /// A node, of which people speak by a name, is not reached: what it was asked is not
    /// answered any more.
    pub(super) fn lose(&mut self, node: &OwnerId, name: &str) {
        let lost = self.waiting.extract_if(.., |_, (asked, _)| asked == node);
        for (_, (_, reply)) in lost {
            reply.give_up(name);
        }
        self.bounds.retain(|peer, bounds| peer != node || !bounds.is_idle());
    }

    /// Leave to do what a peer wishes, given back when it is dropped; none while as much of
    /// that kind is done for it as may be.
    pub(super) fn admit(&mut self, peer: &OwnerId, wish: Wish) -> Option<OwnedSemaphorePermit> {
        let bounds = self.bounds.entry(peer.clone()).or_default();
        let left = match wish {
            Wish::Look => &bounds.threads,
            Wish::Change => &bounds.changes,
        };
        Arc::clone(left).try_acquire_owned().ok()
    }

    /// The node where a task ran when it was asked about.
    pub(super) fn ran_on(&self, task: &str) -> Option<&OwnerId> {
        self.ran.iter().find(|(known, _)| known == task).map(|(_, node)| node)
    }

    pub(super) fn remember(&mut self, task: &str, node: &OwnerId) {
        self.ran.retain(|(known, _)| known != task);
        self.ran.truncate(REMEMBERED - 1);
        self.ran.push_front((task.to_owned(), node.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str) -> OwnerId {
        name.into()
    }

    #[test]
    fn answers_reach_who_asked_and_come_from_who_was_asked() {
        let mut asking = Asking::default();
        let (reply, mut answer) = oneshot::channel();
        let number = asking.wait(&node("a"), Waiting::Logs(reply));
        asking.answer(&node("b"), number, QueryReply::Json(json!("forged")));
        assert!(answer.try_recv().is_err());
        asking.answer(&node("a"), number, QueryReply::Json(json!("good")));
        assert_eq!(answer.try_recv().unwrap(), QueryReply::Json(json!("good")));

        let (reply, mut answer) = oneshot::channel();
        asking.wait(&node("a"), Waiting::Logs(reply));
        asking.lose(&node("b"), "b");
        assert!(answer.try_recv().is_err());
        asking.lose(&node("a"), "a");
        assert!(matches!(answer.try_recv().unwrap(), QueryReply::Away(_)));
    }

    #[test]
    fn who_asked_for_a_change_hears_what_became_of_it_or_that_nobody_knows() {
        let mut asking = Asking::default();
        let done = refuse(409, "no room").reply();
        let (reply, mut answer) = oneshot::channel();
        let number = asking.wait(&node("a"), Waiting::Change(reply));
        asking.changed(&node("a"), number, done.clone());
        assert_eq!(answer.try_recv().unwrap(), done);

        let (reply, mut answer) = oneshot::channel();
        asking.wait(&node("a"), Waiting::Change(reply));
        asking.lose(&node("a"), "a");
        let said = answer.try_recv().unwrap();
        let text = String::from_utf8(said.body).unwrap();
        assert!(said.status == 503 && text.contains("may have reached it"), "{text}");
    }

    #[test]
    fn one_peer_has_so_many_threads_at_work_and_no_more() {
        let mut asking = Asking::default();
        let at_work: Vec<_> =
            (0..AT_ONCE).filter_map(|_| asking.admit(&node("a"), Wish::Look)).collect();
        assert_eq!(at_work.len(), AT_ONCE);
        assert!(asking.admit(&node("a"), Wish::Look).is_none(), "one too many");
        assert!(asking.admit(&node("b"), Wish::Look).is_some(), "another peer's are its own");
        asking.lose(&node("a"), "a");
        assert!(asking.admit(&node("a"), Wish::Look).is_none(), "a new stream has no more");
        drop(at_work);
        assert!(asking.admit(&node("a"), Wish::Look).is_some());
        asking.lose(&node("a"), "a");
        asking.lose(&node("b"), "b");
        assert!(asking.bounds.is_empty(), "peers that are gone are forgotten");
    }

    #[test]
    fn neither_questions_nor_memories_grow_without_end() {
        let mut asking = Asking::default();
        let mut answers = Vec::new();
        for number in 0..1000 {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            asking.wait(&node("a"), Waiting::Logs(reply));
            asking.remember(&format!("task{number}"), &node("a"));
        }
        assert_eq!((asking.waiting.len(), asking.ran.len()), (WAITING, REMEMBERED));
        assert_eq!(asking.ran[0].0, "task999");
        drop(answers);
        let (reply, _answer) = oneshot::channel();
        asking.wait(&node("a"), Waiting::Logs(reply));
        assert_eq!(asking.waiting.len(), 1, "who went away is forgotten");
    }
}
