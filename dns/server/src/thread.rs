//! What one serving thread works with, and its way with one question.

use crate::fair::Room;
use crate::forward::CachedReply;
use crate::handler::Handler;
use crate::metrics::{Counters, Road, Tally};
use crate::rules::SeenRules;
use crate::sockets::Transport;
use mizzen_dns_core::{DnsName, PlainAnswer, PlainQuestion, PlainTurn, Seed, ZoneNumber, Zones};
use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

/// One thread's part of a server.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) handler: Arc<Handler>,
    pub(crate) counters: Arc<Counters>,
    /// For datagrams on the full road.
    pub(crate) room: Arc<Room>,
    /// Counts questions on the short road, for the rotation of answers.
    turn: Cell<u64>,
    /// The key by which questions to the zones are read.
    seed: Cell<Seed>,
    rules: SeenRules,
}

impl Thread {
    /// * `first_turn` — where the thread's rotation begins; that of another thread lies
    ///   elsewhere.
    pub(crate) fn new(
        handler: Arc<Handler>,
        counters: Arc<Counters>,
        room: Arc<Room>,
        first_turn: u64,
    ) -> Self {
        let seed = Cell::new(handler.zones.read(Zones::seed));
        let rules = SeenRules::new(&handler.rules);
        Self { handler, counters, room, turn: Cell::new(first_turn), seed, rules }
    }

    /// The turn of the next `count` questions.
    fn next_turn(&self, count: usize) -> PlainTurn {
        let number = self.turn.get();
        self.turn.set(number.wrapping_add(count as u64));
        let recursion_available = self.rules.get(&self.handler.rules).recursion_available();
        PlainTurn { number, recursion_available }
    }

    /// Reads a plain question that the short road may answer.
    pub(crate) fn plain<'a>(&self, message: &'a [u8]) -> Option<PlainQuestion<'a>> {
        let question = PlainQuestion::parse(message, self.seed.get())?;
        (!self.handler.log.is_on() || !self.is_logged(&question)).then_some(question)
    }

    /// Answers what is plain and ours, all under one lock. Questions, buffers and answers
    /// go by place.
    pub(crate) fn answer_plain<B: AsMut<[u8]>>(
        &self,
        questions: &[PlainQuestion<'_>],
        transport: Transport,
        replies: &mut [B],
        answers: &mut [PlainAnswer],
    ) {
        let turn = self.next_turn(questions.len());
        self.handler.zones.read(|zones| {
            // Zones that took the place of others have another key; what was read by the
            // old one goes by the full road.
            if self.seed.replace(zones.seed()) == zones.seed() {
                zones.answer_plain(questions, turn, replies, answers);
            }
        });
        for (question, answer) in questions.iter().zip(answers) {
            if let PlainAnswer::Done { zone, code, .. } = answer {
                self.count(transport, Road::Short, question, Some(*zone), u16::from(*code));
            }
        }
    }

    /// Answers a plain question about a name that is somebody else's, if the answer is
    /// known; returns its length.
    pub(crate) fn answer_from_cache(
        &self,
        question: &PlainQuestion<'_>,
        transport: Transport,
        client: IpAddr,
        reply: &mut [u8],
    ) -> Option<usize> {
        let rules = self.rules.get(&self.handler.rules);
        if !rules.access.may_forward(client) {
            return None;
        }
        let CachedReply { length, code } = rules.forwarder.cached(question, reply)?;
        self.count(transport, Road::Cache, question, None, code);
        Some(length)
    }

    /// Counts an answer to a plain question.
    fn count(
        &self,
        transport: Transport,
        road: Road,
        question: &PlainQuestion<'_>,
        zone: Option<ZoneNumber>,
        code: u16,
    ) {
        let tally = Tally { zone, kind: Some(question.kind()), code, reason: None };
        self.counters.answered(transport, road, tally);
    }

    fn is_logged(&self, question: &PlainQuestion<'_>) -> bool {
        self.handler.log.wants(&name_of(question))
    }
}

/// The text of a plain question's name.
fn name_of(question: &PlainQuestion<'_>) -> DnsName {
    let mut labels = Vec::new();
    let mut rest = question.name();
    while let Some((&length, tail)) = rest.split_first()
        && length > 0
        && let Some((label, tail)) = tail.split_at_checked(usize::from(length))
    {
        labels.push(label);
        rest = tail;
    }
    let name = hickory_proto::rr::Name::from_labels(labels).unwrap_or_default();
    DnsName::from_wire(&name)
}
