//! Answers of upstreams for tests.

use super::{Relayed, Sent};
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// `www.example.com.` as it is sent.
pub(crate) const NAME: &[u8] = b"\x03wWw\x07example\x03com\x00";

pub(crate) fn sent() -> Sent<'static> {
    Sent { id: 7, name: NAME, kind: 1, class: 1 }
}

pub(crate) fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

/// An answer without records to the question of [`sent`].
pub(crate) fn reply() -> Message {
    let mut reply = Message::response(7, OpCode::Query);
    reply.add_query(Query::query(name("wWw.example.com."), RecordType::A));
    reply
}

pub(crate) fn address(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A([192, 0, 2, last].into())))
}

pub(crate) fn soa(owner: &str, ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(name("ns.example."), name("who.example."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name(owner), ttl, RData::SOA(soa))
}

pub(crate) fn read(message: &Message) -> Relayed {
    let bytes = message.to_vec().expect("it is encoded");
    Relayed::read(&bytes, &sent()).expect("it answers")
}

/// An answer with one address.
pub(crate) fn answer(ttl: u32) -> Relayed {
    let mut reply = reply();
    reply.add_answer(address("www.example.com.", ttl, 1));
    read(&reply)
}

/// The name does not exist.
pub(crate) fn negative(ttl: u32, minimum: u32) -> Relayed {
    let mut reply = reply();
    reply.metadata.response_code = ResponseCode::NXDomain;
    reply.add_authority(soa("example.com.", ttl, minimum));
    read(&reply)
}
