//! Names that are somebody else's: asked of two upstreams at once, the first good
//! answer wins.
//!
//! The question is written anew instead of relayed: our own id, a port of our own that
//! only the upstream can answer to, our own EDNS options. What the upstream says about
//! another question, or with another id, is not heard.

use crate::reply::Reply;
use crate::upstream::{Exchange, UpstreamError};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_server::server::Request;
use mizzen_dns_core::{DnsName, ForwardTable};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::debug;

/// How many are asked at once.
const AT_ONCE: usize = 2;
/// How often the next ones are asked: clients wait for five seconds.
const ROUNDS: usize = 2;

/// Asks upstreams.
#[derive(Debug)]
pub(crate) struct Forwarder {
    table: ForwardTable<SocketAddr>,
    timeout: Duration,
    /// Bounds what waits for upstreams, in memory and in sockets.
    slots: Semaphore,
}

impl Forwarder {
    pub(crate) fn new(table: ForwardTable<SocketAddr>, timeout: Duration, slots: usize) -> Self {
        Self { table, timeout, slots: Semaphore::new(slots) }
    }

    /// Whether there is nobody to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Asks about a name that is not ours. REFUSED if there is nobody to ask, SERVFAIL
    /// if nobody answers or too many questions wait already.
    pub(crate) async fn forward(&self, request: &Request, question: &Query) -> Reply {
        let resolvers = self.table.route(&DnsName::from_wire(question.name()));
        if resolvers.is_empty() {
            return Reply::to(request, ResponseCode::Refused);
        }
        let Ok(_slot) = self.slots.try_acquire() else {
            debug!(name = %question.name(), "too many questions wait for upstreams");
            return Reply::to(request, ResponseCode::ServFail);
        };
        match self.ask(Arc::new(Exchange::new(request, question)), resolvers).await {
            Some(answer) => relay(request, answer),
            None => Reply::to(request, ResponseCode::ServFail),
        }
    }

    async fn ask(&self, exchange: Arc<Exchange>, resolvers: &[SocketAddr]) -> Option<Message> {
        let mut fallback = None;
        for round in resolvers.chunks(AT_ONCE).take(ROUNDS) {
            match self.race(&exchange, round).await {
                Some(answer) if is_good(&answer) => return Some(answer),
                answer => fallback = fallback.or(answer),
            }
        }
        fallback
    }

    /// The first good answer of the resolvers, else any answer.
    async fn race(&self, exchange: &Arc<Exchange>, resolvers: &[SocketAddr]) -> Option<Message> {
        let mut running = JoinSet::new();
        for resolver in resolvers {
            let (exchange, resolver, timeout) = (Arc::clone(exchange), *resolver, self.timeout);
            running.spawn(async move {
                let answer = exchange.run(resolver, timeout).await;
                answer.inspect_err(|error| debug!(%resolver, %error, "upstream gave no answer"))
            });
        }
        let mut fallback = None;
        while let Some(ended) = running.join_next().await {
            let answer: Option<Message> = ended.ok().and_then(Result::<_, UpstreamError>::ok);
            match answer {
                Some(answer) if is_good(&answer) => return Some(answer),
                answer => fallback = fallback.or(answer),
            }
        }
        fallback
    }
}

/// Whether an answer is one, and not the upstream's excuse.
fn is_good(answer: &Message) -> bool {
    matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

fn relay(request: &Request, answer: Message) -> Reply {
    let mut reply = Reply::to(request, answer.metadata.response_code);
    reply.metadata.authentic_data = answer.metadata.authentic_data;
    reply.metadata.truncation = answer.metadata.truncation;
    reply.answers = answer.answers;
    reply.authorities = answer.authorities;
    reply.additionals = answer.additionals;
    reply
}
