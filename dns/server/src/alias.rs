//! Names of ours that stand for somebody else's.
//!
//! Whoever asks a resolver wants what is at the end (RFC 1034, 5.3.3), and most clients
//! look no further than its answer. So the target is asked for like any name of others,
//! by way of the cache, and its records follow the alias. That happens once for a question:
//! what upstreams say of further aliases is taken as it is.

use crate::handler::{asker, refusal};
use crate::reply::{EXTENDED_ERROR, Reply};
use crate::rules::Rules;
use crate::upstream::wire_name;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_server::server::Request;
use mizzen_dns_core::Asker;

/// Completes the `reply` to a question whose answer ends in an alias for `target`.
pub(crate) async fn follow(
    mut reply: Reply,
    request: &Request,
    question: &Query,
    target: &Name,
    rules: &Rules,
) -> Reply {
    let name = wire_name(target);
    // It is cut to what the client takes when all of it is there.
    let room = usize::from(u16::MAX);
    let asker = Asker { room, ..asker(request, question, &name, &[]) };
    let answer = rules.forwarder.relay(&asker, request.src().ip()).await;
    match Message::from_vec(&answer) {
        Ok(answer) => {
            reply.reason = refusal(answer.metadata.response_code.into(), target, rules);
            append(&mut reply, answer);
        }
        Err(_) => reply.metadata.response_code = ResponseCode::ServFail,
    }
    reply
}

/// The response code is that of the chain's end (RFC 6604, 3); whose the first name is says
/// whether the reply has authority (RFC 1035, 4.1.1).
fn append(reply: &mut Reply, answer: Message) {
    reply.metadata.response_code = answer.metadata.response_code;
    reply.metadata.truncation |= answer.metadata.truncation;
    reply.answers.extend(answer.answers);
    reply.authorities.extend(answer.authorities);
    reply.additionals.extend(answer.additionals);
    let (Some(said), Some(edns)) = (answer.edns, &mut reply.edns) else { return };
    edns.options.extend(said.options().as_ref().iter().filter_map(|(_, option)| match option {
        EdnsOption::Unknown(EXTENDED_ERROR, data) => Some((EXTENDED_ERROR, data.clone())),
        _ => None,
    }));
}
