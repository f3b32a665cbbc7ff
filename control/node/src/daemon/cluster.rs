//! Effects of the master, carried out, and the gate in front of effects that rely on
//! the disk.

use super::core::Core;
use super::facts::Speaker;
use super::saves::Saves;
use super::streams::Delivery;
use mizzen_api::v1::master;
use mizzen_api::v1::scheduler::{Call, Event};
use mizzen_http::core::{OperatorReply, SchedulerReply};
use mizzen_master::{Effect, LinkId, Master};
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::time::{Mono, Now};
use tracing::warn;

/// The link between the master and the agent of this process.
pub(crate) const LOCAL_LINK: LinkId = LinkId(0);

/// The part's name in problems.
const RECORDS: &str = "master's records";
/// And of those that cannot be written at all.
const LOST: &str = "master's records that are lost";

/// Holds a part's effects back until the records in front of them are on the disk.
#[derive(Debug)]
pub(crate) struct Gate<E> {
    saves: Saves,
    held: Option<E>,
}

/// What comes through a gate.
pub(crate) enum Passed<E> {
    /// An effect that may be carried out.
    Effect(E),
    /// Nothing; whatever was saved is on the disk.
    Nothing,
    /// Nothing, because the disk refuses; the text says how.
    Stalled(Option<String>),
}

/// What a gate is to do about an effect.
pub(crate) enum Sorted<E> {
    /// Write this down, or remove it, before anything that follows.
    Record(String, Option<Vec<u8>>),
    /// Let it through once that is done.
    Held(E),
}

impl<E> Gate<E> {
    /// An open gate.
    pub(crate) fn new(saves: Saves) -> Self {
        Self { saves, held: None }
    }

    /// When to try again.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.saves.deadline()
    }

    /// Queues a record in front of whatever comes next.
    pub(crate) fn save(&mut self, key: &str, value: Option<Vec<u8>>) {
        self.saves.push(key, value);
    }

    /// Takes back the effect in front of the gate.
    pub(crate) fn withdraw(&mut self) {
        self.held = None;
    }

    /// Takes effects as they come until one has to wait for the records before it, writes these,
    /// and lets it through.
    pub(crate) fn next(
        &mut self,
        mut poll: impl FnMut() -> Option<Sorted<E>>,
        store: &Store,
        now: Mono,
    ) -> Passed<E> {
        while self.held.is_none() {
            match poll() {
                Some(Sorted::Record(key, value)) => self.saves.push(&key, value),
                Some(Sorted::Held(effect)) => self.held = Some(effect),
                None => break,
            }
        }
        self.pass(store, now)
    }

    fn pass(&mut self, store: &Store, now: Mono) -> Passed<E> {
        if self.saves.is_stalled(now) {
            return Passed::Stalled(None);
        }
        match self.saves.flush(store, now) {
            Ok(()) => self.held.take().map_or(Passed::Nothing, Passed::Effect),
            Err(error) => Passed::Stalled(Some(chain(&error))),
        }
    }
}

impl Core {
    /// Carries out what the master wants; says whether it wanted anything.
    pub(crate) fn settle_master(&mut self, now: Now) -> bool {
        let mut worked = false;
        loop {
            let Self { master, master_gate, store, .. } = self;
            let poll = || master.as_mut().and_then(Master::poll_effect).map(sorted);
            let passed = master_gate.next(poll, store, now.mono);
            let Some(effect) = self.note_records(RECORDS, passed) else { return worked };
            worked = true;
            self.carry_out_master(effect, now);
        }
    }

    /// What a gate let through; says whether the disk takes its records.
    pub(crate) fn note_records<E>(&mut self, part: &'static str, passed: Passed<E>) -> Option<E> {
        match passed {
            Passed::Effect(effect) => return Some(effect),
            Passed::Nothing => self.problems.solve(part),
            Passed::Stalled(Some(error)) => self.problems.report(part, error),
            Passed::Stalled(None) => {}
        }
        None
    }

    /// A framework calls, over HTTP.
    pub(crate) fn scheduler_call(&mut self, call: Call, stream: Option<&str>) -> SchedulerReply {
        let now = super::clock::now();
        let Some(master) = self.master.as_mut() else {
            let text = "this node is no master".to_owned();
            return SchedulerReply::Refused { status: 503, text };
        };
        let fresh = uuid::Uuid::new_v4().to_string();
        match master.scheduler_call(call, stream, fresh, now) {
            mizzen_master::SchedulerReply::Accepted => SchedulerReply::Accepted,
            mizzen_master::SchedulerReply::Refused { status, text } => {
                SchedulerReply::Refused { status, text }
            }
            mizzen_master::SchedulerReply::Subscribed { stream_id } => {
                let events = self.streams.open(&stream_id);
                SchedulerReply::Subscribed { stream_id, events }
            }
        }
    }

    /// An operator calls. While the disk refuses, nothing is changed: an answer must not
    /// promise what a restart would forget.
    pub(crate) fn operator_call(&mut self, call: master::Call) -> OperatorReply {
        let now = super::clock::now();
        let refused = |status, text: String| OperatorReply::Refused { status, text };
        let Some(master) = self.master.as_mut() else {
            return refused(404, "this node does not have the role `master`".to_owned());
        };
        if call.r#type().as_str_name().starts_with("GET_") {
            return operator_reply(master.operator_call(call, now));
        }
        if let Some(problem) = self.problems.of(RECORDS) {
            return refused(503, format!("the change cannot be written down: {problem}"));
        }
        let reply = operator_reply(master.operator_call(call, now));
        self.settle();
        match self.problems.of(RECORDS) {
            Some(problem) => refused(503, format!("the change waits for the disk: {problem}")),
            None => reply,
        }
    }

    /// The client of a stream went away.
    pub(crate) fn stream_closed(&mut self, stream: &str) {
        self.streams.close(stream);
        if let Some(master) = self.master.as_mut() {
            master.stream_closed(stream, super::clock::now());
        }
    }

    fn carry_out_master(&mut self, effect: Effect, now: Now) {
        match effect {
            Effect::Event { stream_id, event } => self.deliver(&stream_id, *event, now),
            Effect::CloseStream { stream_id } => {
                if self.streams.close(&stream_id) {
                    self.services_disconnected(now);
                }
            }
            Effect::ToAgent { link: LOCAL_LINK, message } => {
                if let Some(agent) = self.agent.as_mut() {
                    agent.handle_master(*message, now);
                }
            }
            Effect::ToAgent { link, message } => self.tell_other_agent(link, *message, now),
            Effect::Fact { key, value } => self.say(Speaker::Master, key, value.map(|fact| *fact)),
            Effect::Lost(text) => self.problems.report(LOST, text),
            // Records go to the gate before anything comes here.
            Effect::Save { key, value } => self.master_gate.save(&key, value),
        }
    }

    fn deliver(&mut self, stream: &str, event: Event, now: Now) {
        match self.streams.send(stream, event) {
            Delivery::Sent | Delivery::Closed => {}
            Delivery::Services(event) => {
                if let Some(services) = self.services.as_mut() {
                    services.handle_event(*event, now);
                }
            }
            Delivery::Lost => {
                warn!(stream, "a framework does not keep up with its events and is dropped");
                self.stream_closed(stream);
            }
        }
    }
}

fn sorted(effect: Effect) -> Sorted<Effect> {
    match effect {
        Effect::Save { key, value } => Sorted::Record(key, value),
        effect => Sorted::Held(effect),
    }
}

fn operator_reply(reply: mizzen_master::OperatorReply) -> OperatorReply {
    match reply {
        mizzen_master::OperatorReply::Done => OperatorReply::Done,
        mizzen_master::OperatorReply::Answer(response) => OperatorReply::Answer(response),
        mizzen_master::OperatorReply::Refused { status, text } => {
            OperatorReply::Refused { status, text }
        }
    }
}
