//! What one node asks another over their stream: logs of tasks that run there, and changes of
//! policies, which the leading master keeps. Every member may ask: agents show the same logs to
//! whoever reaches their port, and people on any node may set policies.

mod waiting;

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
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::debug;
use waiting::{Waiting, Wish};

pub(crate) use waiting::Asking;

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

/// A change that a peer passed on.
#[derive(Debug)]
pub(crate) struct AskedChange {
    peer: OwnerId,
    number: u64,
    request: ServicesRequest,
    /// Counts against what the peer may have waiting.
    leave: OwnedSemaphorePermit,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Found(Value),
    NotThere(String),
    Bad(String),
    Away(String),
}

impl From<QueryReply> for Answer {
    fn from(reply: QueryReply) -> Self {
        match reply {
            QueryReply::Json(value) => Self::Found(value),
            QueryReply::NotFound(text) => Self::NotThere(text),
            QueryReply::Bad(text) => Self::Bad(text),
            QueryReply::Away(text) => Self::Away(text),
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
            Answer::Away(text) => Self::Away(text),
        }
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
        let told = self.view.facts().chain(self.view.hidden_facts());
        let told = told.filter_map(|(owner, key, fact)| match (key, fact) {
            (Key::Task(_, id), Fact::Task(_)) => Some((owner, id)),
            _ => None,
        });
        let mut told =
            told.chain(self.view.tasks_out().map(|(owner, fact)| (owner, &fact.task_id)));
        let runs = told.find(|(owner, id)| id.as_str() == task && *owner != me);
        let runs = runs.map(|(owner, _)| owner.clone());
        let node = runs.or_else(|| self.asking.ran_on(task).cloned())?;
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
        if let Some(silence) = self.silence_of(node, now) {
            return drop(reply.send(QueryReply::Away(silence.to_string())));
        }
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
                let Some(leave) = self.asking.admit(peer, Wish::Look) else {
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
                let request = ServicesRequest { method, path, query, accept, body };
                let Some(leave) = self.asking.admit(peer, Wish::Change) else {
                    let text = "the master's node has many changes to make; ask again";
                    return self.tell_of_change(peer, number, refuse(503, text).reply(), now);
                };
                let asked = Box::new(AskedChange { peer: peer.clone(), number, request, leave });
                // What changes something is not begun while peers are still heard.
                let _ = self.inputs.send(Input::ChangeAsked(asked));
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
    pub(crate) fn change_for_peer(&mut self, asked: AskedChange, now: Now) {
        let AskedChange { peer, number, request, leave } = asked;
        let reply = match self.master {
            Some(_) => self.policies_request(&request),
            None => refuse(502, "the node that should lead says that it does not").reply(),
        };
        drop(leave);
        self.tell_of_change(&peer, number, reply, now);
    }

    fn tell_of_change(&mut self, peer: &OwnerId, number: u64, reply: ServicesReply, now: Now) {
        let ServicesReply { status, headers, body } = reply;
        let body = String::from_utf8_lossy(&body).into_owned();
        self.say_to_node(peer, &Word::Changed { number, status, headers, body }, now);
    }

    fn say_to_node(&mut self, node: &OwnerId, word: &Word, now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        let sent = serde_json::to_vec(word).map_err(|error| chain(&error)).and_then(|bytes| {
            members.send(node, Channel::Question, &bytes, now).map_err(|error| chain(&error))
        });
        if let Err(error) = sent {
            debug!(%node, error, "a question or an answer is not sent");
            self.lose_node(node);
        }
    }

    /// A node is not reached: who waits for an answer of it waits in vain.
    pub(crate) fn lose_node(&mut self, node: &OwnerId) {
        let name = self.name_of(node).to_owned();
        self.asking.lose(node, &name);
    }
}
