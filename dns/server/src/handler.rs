//! The full road: from the bytes of any message to its reply, the same for every
//! transport.
//!
//! What the short road does not understand, or has no answer for, comes here: the message
//! is taken apart, checked by RFC 8906's list, and answered from the zones, by upstreams
//! or with the reason why not.

use crate::alias;
use crate::edns::{Identity, has_cookie};
use crate::encode::{bare, encode, wire_options};
use crate::metrics::Tally;
use crate::query_log::{Logged, QueryLog};
use crate::reply::{ExtendedError, Reply, UDP_PAYLOAD, limit, record_room};
use crate::rules::{Rules, SharedRules};
use crate::shared::SharedZones;
use crate::transfer::Transfer;
use crate::upstream::wire_name;
use hickory_proto::op::{Header, LowerQuery, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use mizzen_dns_core::{Absence, Answer, Asked, Asker, DnsName, End, Opt, answer};
use mizzen_types::time::Wall;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The only version of EDNS (RFC 6891).
const EDNS_VERSION: u8 = 0;
/// Between two looks whether all names are there that a transfer is to have.
const LOOK: Duration = Duration::from_millis(10);
/// The flag in the fourth byte of a message.
const RECURSION_AVAILABLE: u8 = 0x80;

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) zones: Arc<SharedZones>,
    pub(crate) rules: SharedRules,
    pub(crate) identity: Identity,
    pub(crate) log: Arc<QueryLog>,
    /// Counts answers, for their rotation.
    turn: AtomicU64,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It deserves no answer: it is none of ours to answer, or too short to have a number.
    Nothing,
    /// This is sent.
    Reply(Vec<u8>, Tally),
    /// A whole zone is sent, in many messages.
    Transfer(Box<Transfer>, Tally),
}

/// A message that was looked at.
enum Opened {
    Nothing,
    Unreadable(Metadata, ResponseCode),
    Request(Box<Request>),
}

/// What the zones know of a question.
enum Known {
    Reply(Reply),
    /// Only that the name stands for this one, which is somebody else's.
    Alias(Reply, Name),
    /// The name is somebody else's.
    Nothing,
}

/// What a request deserves.
enum Response {
    Reply(Reply),
    /// An answer of an upstream's, with the options of our own in it.
    Relayed(Vec<u8>),
    Transfer(Box<Transfer>),
}

impl Handler {
    pub(crate) fn new(zones: Arc<SharedZones>, rules: Rules, identity: Identity) -> Self {
        let (log, turn) = (Arc::default(), AtomicU64::new(0));
        Self { zones, rules: SharedRules::new(rules), identity, log, turn }
    }

    /// Takes a message the whole way.
    pub(crate) async fn take(
        &self,
        message: Vec<u8>,
        client: SocketAddr,
        protocol: Protocol,
    ) -> Outcome {
        let begin = Instant::now();
        let request = match open(message, client, protocol) {
            Opened::Nothing => return Outcome::Nothing,
            Opened::Unreadable(asked, code) => {
                return Outcome::Reply(bare(&asked, code), Tally::bare(code.into()));
            }
            Opened::Request(request) => request,
        };
        let (bytes, code, reason) = match self.respond(&request).await {
            Response::Reply(reply) => {
                let queries: Vec<Query> =
                    request.queries.queries().iter().map(|q| q.original().clone()).collect();
                let code = reply.metadata.response_code.into();
                (encode(&reply, &queries, limit(&request)), code, reply.reason)
            }
            Response::Relayed(bytes) if bytes.is_empty() => return Outcome::Nothing,
            Response::Relayed(bytes) => {
                let code = bytes.get(3).map_or(0, |byte| u16::from(byte & 0x0f));
                let query = request.queries.queries().first();
                let reason = query
                    .and_then(|query| refusal(code, query.original().name(), &self.rules.get()));
                (bytes, code, reason)
            }
            Response::Transfer(transfer) => {
                return Outcome::Transfer(transfer, self.tally(&request, 0));
            }
        };
        self.write_log(&request, code, begin);
        let tally = Tally { reason, ..self.tally(&request, code) };
        Outcome::Reply(bytes, tally)
    }

    async fn respond(&self, request: &Request) -> Response {
        let rules = self.rules.get();
        let options = match self.identity.options(request) {
            Ok(options) => options,
            Err(_) => return Response::Reply(Reply::to(request, ResponseCode::FormErr)),
        };
        let mut reply = match checked(request) {
            Err(code) => Reply::to(request, code),
            Ok(None) => Reply::to(request, ResponseCode::NoError),
            Ok(Some(query)) if is_transfer(query) => {
                match self.transfer(request, query, &rules).await {
                    Response::Reply(reply) => reply,
                    other => return other,
                }
            }
            Ok(Some(query)) => match self.lookup(request, query, &rules) {
                Known::Reply(reply) => reply,
                Known::Alias(reply, target) => {
                    alias::follow(reply, request, query.original(), &target, &rules).await
                }
                Known::Nothing => {
                    return Response::Relayed(relay(request, query, &options, &rules).await);
                }
            },
        };
        reply.metadata.recursion_available = rules.recursion_available();
        if let Some(edns) = &mut reply.edns {
            edns.options.extend(options);
        }
        Response::Reply(reply)
    }

    fn lookup(&self, request: &Request, query: &LowerQuery, rules: &Rules) -> Known {
        let asked = Asked {
            question: query.original(),
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
            room: record_room(request),
            now: wall(),
        };
        Known::Reply(match self.zones.read(|zones| answer(zones, asked)) {
            Answer::Records { answers, additionals, cut, end } => {
                let mut reply = Reply::to(request, ResponseCode::NoError);
                reply.metadata.authoritative = true;
                reply.metadata.truncation = cut;
                (reply.answers, reply.additionals) = (answers, additionals);
                match end {
                    End::Elsewhere(target) if may_ask(request, rules) => {
                        return Known::Alias(reply, target);
                    }
                    End::Nothing(absence) => deny(reply, absence),
                    End::Here | End::Elsewhere(_) => reply,
                }
            }
            Answer::Nothing(absence) => deny(Reply::to(request, ResponseCode::NoError), absence),
            Answer::Refused => Reply::to(request, ResponseCode::Refused)
                .because(ExtendedError::NotSupported, "no data is of this type or class"),
            Answer::Forward if !rules.access.may_forward(request.src().ip()) => {
                Reply::to(request, ResponseCode::Refused)
                    .because(ExtendedError::Prohibited, "not a client of this resolver")
            }
            Answer::Forward => return Known::Nothing,
        })
    }

    /// AXFR, and IXFR, which is answered as AXFR (RFC 1995, 4) unless the client has it all.
    async fn transfer(&self, request: &Request, query: &LowerQuery, rules: &Rules) -> Response {
        let refused = |why, text| {
            Response::Reply(Reply::to(request, ResponseCode::Refused).because(why, text))
        };
        if !rules.access.may_transfer(request.src().ip()) {
            return refused(ExtendedError::Prohibited, "zones are not for this client");
        }
        let by_udp = request.protocol() == Protocol::Udp;
        let is_whole = query.query_type() == RecordType::AXFR;
        if by_udp && is_whole {
            return refused(ExtendedError::NotSupported, "zones are transferred by TCP");
        }
        while !self.zones.is_whole() {
            tokio::time::sleep(LOOK).await;
        }
        match Transfer::new(&self.zones, request, query.original()) {
            // The zone's start alone tells that there is no more, or sends to TCP (RFC 1995, 2).
            Some(transfer) if by_udp || !is_whole && transfer.is_known(request) => {
                Response::Reply(transfer.start(request))
            }
            Some(transfer) => Response::Transfer(Box::new(transfer)),
            None => refused(ExtendedError::Prohibited, "not a zone of this server"),
        }
    }

    fn tally(&self, request: &Request, code: u16) -> Tally {
        let Some(query) = request.queries.queries().first() else { return Tally::bare(code) };
        let name = DnsName::from_wire(query.original().name());
        let zone = self.zones.read(|zones| zones.zone_holding(&name));
        Tally { zone, kind: Some(query.query_type().into()), code, reason: None }
    }

    fn write_log(&self, request: &Request, code: u16, begin: Instant) {
        let Some(query) = request.queries.queries().first().filter(|_| self.log.is_on()) else {
            return;
        };
        let name = DnsName::from_wire(query.original().name());
        if self.log.wants(&name) {
            self.log.write(&Logged {
                client: request.src(),
                transport: if request.protocol() == Protocol::Udp { "udp" } else { "tcp" },
                name: &name,
                kind: query.query_type(),
                code,
                took: begin.elapsed(),
            });
        }
    }
}

/// Whether upstreams are asked for what an alias leads to. Who may not ask them, or does not
/// want it, is told as much as a server without upstreams would.
fn may_ask(request: &Request, rules: &Rules) -> bool {
    request.metadata.recursion_desired
        && rules.recursion_available()
        && rules.access.may_forward(request.src().ip())
}

/// The answer of upstreams, with the options of our own in it.
async fn relay(
    request: &Request,
    query: &LowerQuery,
    options: &[(u16, Vec<u8>)],
    rules: &Rules,
) -> Vec<u8> {
    let question = query.original();
    let (name, options) = (wire_name(question.name()), wire_options(options));
    let asker = asker(request, question, &name, &options);
    let mut reply = rules.forwarder.relay(&asker, request.src().ip()).await;
    if !rules.recursion_available()
        && let Some(flags) = reply.get_mut(3)
    {
        *flags &= !RECURSION_AVAILABLE;
    }
    reply
}

/// Why a name of others is refused: there is nobody to ask. Upstreams that refuse it have
/// reasons of their own.
pub(crate) fn refusal(code: u16, name: &Name, rules: &Rules) -> Option<ExtendedError> {
    let refused = code == u16::from(ResponseCode::Refused);
    let nobody = || rules.forwarder.has_nobody_for(&DnsName::from_wire(name));
    (refused && nobody()).then_some(ExtendedError::NotAuthoritative)
}

/// Who asks upstreams for `name` with a request.
///
/// * `options` — for the reply's OPT record.
pub(crate) fn asker<'a>(
    request: &Request,
    question: &Query,
    name: &'a [u8],
    options: &'a [u8],
) -> Asker<'a> {
    let opt = request.edns.as_ref().map(|edns| Opt {
        payload: UDP_PAYLOAD,
        dnssec_ok: edns.flags().dnssec_ok,
        options,
    });
    Asker {
        id: request.metadata.id,
        name,
        kind: question.query_type().into(),
        class: question.query_class().into(),
        recursion_desired: request.metadata.recursion_desired,
        checking_disabled: request.metadata.checking_disabled,
        room: usize::from(limit(request)),
        opt,
    }
}

/// Reads a message as far as it can be read.
fn open(message: Vec<u8>, client: SocketAddr, protocol: Protocol) -> Opened {
    let Ok(Header { metadata, counts }) = Header::read(&mut BinDecoder::new(&message)) else {
        return Opened::Nothing;
    };
    // A reply that is answered begins a conversation of two servers without an end.
    if metadata.message_type == MessageType::Response {
        return Opened::Nothing;
    }
    let code = match metadata.op_code {
        OpCode::Query => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    // Nobody asks two questions at once; memory is not set aside for 65,535.
    if counts.queries > 1 {
        return Opened::Unreadable(metadata, code);
    }
    match Request::from_bytes(message, client, protocol) {
        Ok(request) => Opened::Request(Box::new(request)),
        Err(_) => Opened::Unreadable(metadata, code),
    }
}

/// The question of a request that may be asked here; none if it only wants a cookie.
fn checked(request: &Request) -> Result<Option<&LowerQuery>, ResponseCode> {
    if request.version() > EDNS_VERSION {
        return Err(ResponseCode::BADVERS);
    }
    if request.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    match request.queries.queries() {
        [query] => Ok(Some(query)),
        [] if has_cookie(request) => Ok(None),
        _ => Err(ResponseCode::FormErr),
    }
}

/// What ages are counted to.
fn wall() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Wall(since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
}

fn is_transfer(query: &LowerQuery) -> bool {
    matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR)
}

/// Says in a reply that what is asked for is not there.
fn deny(mut reply: Reply, absence: Absence) -> Reply {
    let (code, soa) = match absence {
        Absence::NoData { soa } => (ResponseCode::NoError, soa),
        Absence::NxDomain { soa } => (ResponseCode::NXDomain, soa),
    };
    reply.metadata.response_code = code;
    reply.metadata.authoritative = true;
    reply.authorities.extend(soa);
    reply
}

#[cfg(test)]
mod tests;
