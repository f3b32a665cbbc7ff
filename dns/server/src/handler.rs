//! From a request to its reply, the same for every transport.

use crate::forward::Forwarder;
use crate::reply::{Reply, record_room};
use crate::shared::SharedZones;
use hickory_proto::op::{Header, HeaderCounts, LowerQuery, OpCode, ResponseCode};
use hickory_proto::rr::Record;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use mizzen_dns_core::{Answer, Asked, answer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::debug;

/// The only version of EDNS (RFC 6891).
const EDNS_VERSION: u8 = 0;

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Handler {
    zones: Arc<SharedZones>,
    forwarder: Forwarder,
    /// Counts answers, for their rotation.
    turn: AtomicU64,
}

/// The handler as hickory's server takes it.
pub(crate) struct Hickory(pub(crate) Arc<Handler>);

impl Handler {
    pub(crate) fn new(zones: Arc<SharedZones>, forwarder: Forwarder) -> Self {
        Self { zones, forwarder, turn: AtomicU64::new(0) }
    }

    /// Answers from the zones or asks an upstream; always gives a reply that fits.
    pub(crate) async fn respond(&self, request: &Request) -> Reply {
        let mut reply = match checked(request) {
            Ok(query) => self.lookup(request, query).await,
            Err(code) => Reply::to(request, code),
        };
        reply.metadata.recursion_available = !self.forwarder.is_empty();
        reply.fit(request);
        reply
    }

    async fn lookup(&self, request: &Request, query: &LowerQuery) -> Reply {
        let asked = Asked {
            question: query.original(),
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
            room: record_room(request),
        };
        match self.zones.read(|zones| answer(zones, asked)) {
            Answer::Records { answers, additionals, cut } => {
                let mut reply = Reply::to(request, ResponseCode::NoError);
                reply.metadata.authoritative = true;
                reply.metadata.truncation = cut;
                (reply.answers, reply.additionals) = (answers, additionals);
                reply
            }
            Answer::NoData { soa } => negative(request, ResponseCode::NoError, soa),
            Answer::NxDomain { soa } => negative(request, ResponseCode::NXDomain, soa),
            Answer::Refused => Reply::to(request, ResponseCode::Refused),
            Answer::Forward => self.forwarder.forward(request, query.original()).await,
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Hickory {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let reply = self.0.respond(request).await;
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &reply.edns {
            builder.edns(edns);
        }
        let none: [&Record; 0] = [];
        let message = builder.build(
            reply.metadata,
            &reply.answers,
            &reply.authorities,
            none,
            &reply.additionals,
        );
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                debug!(client = %request.src(), %error, "reply not sent");
                let counts = HeaderCounts::default();
                Header { metadata: reply.metadata, counts }.into()
            }
        }
    }
}

/// The one question of a request that may be asked here.
fn checked(request: &Request) -> Result<&LowerQuery, ResponseCode> {
    if request.version() > EDNS_VERSION {
        return Err(ResponseCode::BADVERS);
    }
    if request.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    match request.queries.queries() {
        [query] => Ok(query),
        _ => Err(ResponseCode::FormErr),
    }
}

fn negative(request: &Request, code: ResponseCode, soa: Option<Record>) -> Reply {
    let mut reply = Reply::to(request, code);
    reply.metadata.authoritative = true;
    reply.authorities.extend(soa);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::ForwardSettings;
    use hickory_proto::op::{Edns, Message, Query};
    use hickory_proto::rr::{Name, RecordType};
    use hickory_proto::serialize::binary::BinEncoder;
    use hickory_server::net::xfer::Protocol;
    use mizzen_dns_core::{Data, DnsName, Options, OwnerKey, Zones};
    use proptest::prelude::*;

    fn handler(tasks: u16) -> Handler {
        let mut zones = Zones::new(&Options::default());
        let name = DnsName::parse("web.m.mesos").expect("a name");
        let service = DnsName::parse("_web._tcp.m.mesos").expect("a name");
        for task in 0..tasks {
            let [high, low] = task.to_be_bytes();
            let data = Data::A([10, 0, high, low].into());
            let srv = Data::Srv { priority: 0, weight: 1, port: task, target: name.clone() };
            let record = |name: &DnsName, data| mizzen_dns_core::Record::new(name.clone(), 5, data);
            let records = vec![record(&name, data), record(&service, srv)];
            zones.set(OwnerKey::Static(task.to_string()), records);
        }
        let zones = Arc::new(SharedZones::new(zones));
        let none = ForwardSettings::default();
        let forwarder = Forwarder::new(&none, Arc::clone(&zones), &[]).expect("a forwarder");
        Handler::new(zones, forwarder)
    }

    /// Takes bytes the whole way; returns the reply's bytes by either encoder.
    fn road(handler: &Handler, bytes: &[u8], protocol: Protocol) -> Option<Vec<u8>> {
        let client = ([127, 0, 0, 1], 4000).into();
        let request = Request::from_bytes(bytes.to_vec(), client, protocol).ok()?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let reply = runtime.block_on(handler.respond(&request));
        if protocol == Protocol::Tcp {
            return reply.encode(request.queries.queries()).ok();
        }
        let mut builder = MessageResponseBuilder::from_message_request(&request);
        if let Some(edns) = &reply.edns {
            builder.edns(edns);
        }
        let none: [&Record; 0] = [];
        let (answers, authorities) = (&reply.answers, &reply.authorities);
        let message = builder.build(reply.metadata, answers, authorities, none, &reply.additionals);
        let mut bytes = Vec::new();
        message.destructive_emit(&mut BinEncoder::new(&mut bytes)).expect("it is encoded");
        Some(bytes)
    }

    proptest! {
        #[test]
        fn no_bytes_stop_the_road(
            mut bytes in prop::collection::vec(any::<u8>(), 0..600),
            header in any::<bool>(),
        ) {
            // A plausible header leads further in than pure noise does.
            if header && bytes.len() > 12 {
                bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
            }
            let handler = handler(3);
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                road(&handler, &bytes, protocol);
            }
        }

        #[test]
        fn no_spoiled_question_stops_the_road(
            at in prop::collection::vec((0..60_usize, any::<u8>()), 1..8)
        ) {
            let mut message = Message::query();
            let name = Name::from_ascii("web.m.mesos.").expect("a name");
            message.add_query(Query::query(name, RecordType::A)).set_edns(Edns::new());
            let mut bytes = message.to_vec().expect("it is encoded");
            for (at, value) in at {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            let handler = handler(3);
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                road(&handler, &bytes, protocol);
            }
        }

        /// Whatever is asked, the reply fits what the client takes, and what had to go
        /// is announced.
        #[test]
        fn replies_fit(
            tasks in 0..400_u16,
            payload in prop::option::of(any::<u16>()),
            kind in prop::sample::select(vec![RecordType::A, RecordType::SRV]),
        ) {
            let handler = handler(tasks);
            let mut message = Message::query();
            let name = if kind == RecordType::A { "WEB.m.mesos." } else { "_web._TCP.m.mesos." };
            message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
            if let Some(payload) = payload {
                let mut edns = Edns::new();
                edns.set_max_payload(payload);
                message.set_edns(edns);
            }
            let bytes = message.to_vec().expect("it is encoded");
            let limit = payload.map_or(512, |payload| payload.clamp(512, 1232));
            let udp = road(&handler, &bytes, Protocol::Udp).expect("a reply");
            prop_assert!(udp.len() <= usize::from(limit), "{} > {limit}", udp.len());
            let udp = Message::from_vec(&udp).expect("a message");
            prop_assert_eq!(udp.metadata.truncation, udp.answers.len() < usize::from(tasks));
            prop_assert_eq!(udp.edns.is_some(), payload.is_some());
            let tcp = road(&handler, &bytes, Protocol::Tcp).expect("a reply");
            let tcp = Message::from_vec(&tcp).expect("a message");
            prop_assert_eq!(tcp.answers.len(), usize::from(tasks));
            prop_assert!(!tcp.metadata.truncation);
            prop_assert_eq!(tcp.edns.is_some(), payload.is_some());
        }
    }
}
