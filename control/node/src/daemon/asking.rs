//! What one node asks another over their stream: logs of tasks that run there, and changes of
//! policies, which the leading master keeps. Every member may ask: agents show the same logs to
//! whoever reaches their port, and people on any node may set policies.

use super::clock;
use super::core::{Core, Input};
use super::replies::{Refusal, refuse};
use mizzen_gossip::transport::Channel;
use mizzen_http::core::{Query, QueryReply, ServicesReply, ServicesRequest};
use mizzen_types::error::chain;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Now;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::debug;

/// So many questions may wait for other nodes; the oldest one gives way.
const WAITING: usize = 256;
/// So many questions of one peer are looked into at once, each by a thread.
const AT_ONCE: usize = 8;
/// So many tasks of other nodes are remembered after they were asked about.
const REMEMBERED: usize = 256;

/// Questions that wait for other nodes.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    number: u64,
    waiting: BTreeMap<u64, (OwnerId, Waiting)>,
    /// Threads that each peer may still have at work.
    threads: BTreeMap<OwnerId, Arc<Semaphore>>,
    /// Where tasks ran that were asked about: what they wrote last is read after their end.
    ran: VecDeque<(String, OwnerId)>,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Waiting {
    Logs(oneshot::Sender<QueryReply>),
    Change(oneshot::Sender<ServicesReply>),
}

/// What is said on [`Channel::Question`].
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Logs {
        number: u64,
        task: String,
        stream: String,
        offset: Option<i64>,
        length: Option<u64>,
    },
    Answer {
        number: u64,
        answer: Answer,
    },
    /// A policy is to be set or removed.
    Change {
        number: u64,
        method: String,
        path: String,
        body: String,
    },
    Changed {
        number: u64,
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Found(Value),
    NotThere(String),
    Bad(String),
}

impl From<QueryReply> for Answer {
    fn from(reply: QueryReply) -> Self {
        match reply {
            QueryReply::Json(value) => Self::Found(value),
            QueryReply::NotFound(text) => Self::NotThere(text),
            QueryReply::Bad(text) => Self::Bad(text),
            // Only documents answer what is asked here.
            QueryReply::Text(..) | QueryReply::File(_) | QueryReply::Pieces(_) => {
                Self::Bad("the answer is none for another node".to_owned())
            }
        }
    }
}

impl From<Answer> for QueryReply {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Found(value) => Self::Json(value),
            Answer::NotThere(text) => Self::NotFound(text),
            Answer::Bad(text) => Self::Bad(text),
        }
    }
}

impl Waiting {
    fn is_gone(&self) -> bool {
        match self {
            Self::Logs(reply) => reply.is_closed(),
            Self::Change(reply) => reply.is_closed(),
        }
    }

    /// There will be no answer. A client that went away meanwhile is no concern, here and below.
    fn give_up(self, node: &OwnerId) {
        let text = format!("node {node} does not answer");
        match self {
            Self::Logs(reply) => drop(reply.send(QueryReply::NotFound(text))),
            Self::Change(reply) => {
                let text = format!("{text}; the change may have reached it");
                drop(reply.send(refuse(503, text).reply()));
            }
        }
    }
}

impl Asking {
    /// Another question, and its number.
    fn wait(&mut self, node: &OwnerId, reply: Waiting) -> u64 {
        self.waiting.retain(|_, (_, reply)| !reply.is_gone());
        while self.waiting.len() >= WAITING {
            self.waiting.pop_first();
        }
        self.number += 1;
        self.waiting.insert(self.number, (node.clone(), reply));
        self.number
    }

    /// The answer to a question came from a node, if it was asked.
    fn answer(&mut self, node: &OwnerId, number: u64, answer: QueryReply) {
        if let Some(Waiting::Logs(reply)) = self.take(node, number) {
            let _ = reply.send(answer);
        }
    }

    /// What became of a change came from a node, if it was asked for it.
    fn changed(&mut self, node: &OwnerId, number: u64, answer: ServicesReply) {
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

    /// A node is not reached: what it was asked is not answered any more.
    pub(crate) fn lose(&mut self, node: &OwnerId) {
        let lost = self.waiting.extract_if(.., |_, (asked, _)| asked == node);
        for (_, (_, reply)) in lost {
            reply.give_up(node);
        }
        self.threads.retain(|peer, left| peer != node || left.available_permits() < AT_ONCE);
    }

    /// Leave to look into a question of a peer, given back when it is dropped; none while as
    /// many of its questions are looked into as may be.
    fn admit(&mut self, peer: &OwnerId) -> Option<OwnedSemaphorePermit> {
        let left = self.threads.entry(peer.clone());
        let left = left.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)));
        Arc::clone(left).try_acquire_owned().ok()
    }

    fn remember(&mut self, task: &str, node: &OwnerId) {
        self.ran.retain(|(known, _)| known != task);
        self.ran.truncate(REMEMBERED - 1);
        self.ran.push_front((task.to_owned(), node.clone()));
    }
}

impl Core {
    /// The other node that has the answer to a question, if it is one of these.
    pub(crate) fn whom_to_ask(&mut self, query: &Query) -> Option<OwnerId> {
        let Query::Logs { task, .. } = query else { return None };
        let is_here =
            self.agent.as_ref().is_some_and(|agent| agent.sandbox_of(task.as_str()).is_some());
        if is_here || self.members.is_none() {
            return None;
        }
        let me = self.node_log.owner();
        let runs = self.view.facts().find_map(|(owner, key, fact)| match (key, fact) {
            (Key::Task(_, id), Fact::Task(_)) if id.as_str() == task && owner != me => {
                Some(owner.clone())
            }
            _ => None,
        });
        let ran = || self.asking.ran.iter().find(|(known, _)| known == task);
        let node = runs.or_else(|| ran().map(|(_, node)| node.clone()))?;
        self.asking.remember(task, &node);
        Some(node)
    }

    /// Passes a question on to a node that [`Self::whom_to_ask`] named.
    pub(crate) fn ask_node(
        &mut self,
        node: &OwnerId,
        query: Query,
        reply: oneshot::Sender<QueryReply>,
        now: Now,
    ) {
        let Query::Logs { task, stream, offset, length } = query else { return };
        let number = self.asking.wait(node, Waiting::Logs(reply));
        self.say_to_node(node, &Word::Logs { number, task, stream, offset, length }, now);
    }

    /// Answers a request about policies, or has the master of another node do it.
    pub(crate) fn serve_policies(
        &mut self,
        request: ServicesRequest,
        reply: oneshot::Sender<ServicesReply>,
    ) {
        let answer = match self.who_changes(&request) {
            Ok(Some(node)) => return self.ask_to_change(&node, request, reply, clock::now()),
            Ok(None) => self.policies_request(&request),
            Err(refusal) => refusal.reply(),
        };
        let _ = reply.send(answer);
    }

    /// The node whose master keeps policies, if a request changes one and that is another node.
    fn who_changes(&self, request: &ServicesRequest) -> Result<Option<OwnerId>, Refusal> {
        let reads = matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS");
        if reads || self.master.is_some() || self.members.is_none() {
            return Ok(None);
        }
        match self.links.leading_node() {
            Some(node) => Ok(Some(node.clone())),
            None => Err(refuse(503, "No master leads at the moment")),
        }
    }

    fn ask_to_change(
        &mut self,
        node: &OwnerId,
        request: ServicesRequest,
        reply: oneshot::Sender<ServicesReply>,
        now: Now,
    ) {
        let ServicesRequest { method, path, body, .. } = request;
        let Ok(body) = String::from_utf8(body) else {
            return drop(reply.send(refuse(400, "the body is no text").reply()));
        };
        let number = self.asking.wait(node, Waiting::Change(reply));
        self.say_to_node(node, &Word::Change { number, method, path, body }, now);
    }

    /// A peer asks something, or answers.
    pub(crate) fn hear_question(&mut self, peer: &OwnerId, bytes: &[u8], now: Now) {
        match serde_json::from_slice(bytes) {
            Ok(Word::Logs { number, task, stream, offset, length }) => {
                let Some(leave) = self.asking.admit(peer) else {
                    let answer = Answer::Bad("the task's node is busy; ask again".to_owned());
                    return self.say_to_node(peer, &Word::Answer { number, answer }, now);
                };
                let Ok(look) = self.look_up(Query::Logs { task, stream, offset, length }) else {
                    return;
                };
                let (inputs, peer) = (self.inputs.clone(), peer.clone());
                drop(tokio::task::spawn_blocking(move || {
                    let answer = look();
                    drop(leave);
                    // If the loop has ended, nobody waits.
                    inputs.send(Input::LookedUp(peer, number, answer))
                }));
            }
            Ok(Word::Answer { number, answer }) => self.asking.answer(peer, number, answer.into()),
            Ok(Word::Change { number, method, path, body }) => {
                let (query, accept, body) = (String::new(), String::new(), body.into_bytes());
                let request = Box::new(ServicesRequest { method, path, query, accept, body });
                // What changes something is not begun while peers are still heard.
                let _ = self.inputs.send(Input::ChangeAsked(peer.clone(), number, request));
            }
            Ok(Word::Changed { number, status, headers, body }) => {
                let answer = ServicesReply { status, headers, body: body.into_bytes() };
                self.asking.changed(peer, number, answer);
            }
            // Of a later version; who waits for an answer gives up.
            Err(error) => debug!(%peer, error = chain(&error), "a question that is not understood"),
        }
    }

    /// What a peer asked is found.
    pub(crate) fn answer_peer(&mut self, peer: &OwnerId, number: u64, reply: QueryReply, now: Now) {
        self.say_to_node(peer, &Word::Answer { number, answer: reply.into() }, now);
    }

    /// A peer asks this node's master to change a policy.
    pub(crate) fn change_for_peer(
        &mut self,
        peer: &OwnerId,
        number: u64,
        request: &ServicesRequest,
        now: Now,
    ) {
        let ServicesReply { status, headers, body } = match self.master {
            Some(_) => self.policies_request(request),
            None => refuse(502, "the node that should lead says that it does not").reply(),
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        self.say_to_node(peer, &Word::Changed { number, status, headers, body }, now);
    }

    fn say_to_node(&mut self, node: &OwnerId, word: &Word, now: Now) {
        let bytes = serde_json::to_vec(word).unwrap_or_default();
        let Some(members) = self.members.as_mut() else { return };
        if let Err(error) = members.send(node, Channel::Question, &bytes, now) {
            debug!(%node, error = chain(&error), "a question or an answer is not sent");
            self.asking.lose(node);
        }
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
        asking.lose(&node("b"));
        assert!(answer.try_recv().is_err());
        asking.lose(&node("a"));
        assert!(matches!(answer.try_recv().unwrap(), QueryReply::NotFound(_)));
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
        asking.lose(&node("a"));
        let said = answer.try_recv().unwrap();
        let text = String::from_utf8(said.body).unwrap();
        assert!(said.status == 503 && text.contains("may have reached it"), "{text}");
    }

    #[test]
    fn one_peer_has_so_many_threads_at_work_and_no_more() {
        let mut asking = Asking::default();
        let at_work: Vec<_> = (0..AT_ONCE).filter_map(|_| asking.admit(&node("a"))).collect();
        assert_eq!(at_work.len(), AT_ONCE);
        assert!(asking.admit(&node("a")).is_none(), "one too many");
        assert!(asking.admit(&node("b")).is_some(), "another peer's are its own");
        asking.lose(&node("a"));
        assert!(asking.admit(&node("a")).is_none(), "a new stream has no more");
        drop(at_work);
        assert!(asking.admit(&node("a")).is_some());
        asking.lose(&node("a"));
        asking.lose(&node("b"));
        assert!(asking.threads.is_empty(), "peers that are gone are forgotten");
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
