//! A message on its way out, cut to what its transport takes.
//!
//! Both encoders, hickory's for UDP and the one below for TCP, get the same [`Reply`].
//! It is cut here and not by an encoder, because hickory's would leave out the OPT
//! record of a full message and mark one as truncated that only lost additional records.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Header, HeaderCounts, LowerQuery, Metadata, ResponseCode};
use hickory_proto::rr::{Name, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;

/// Largest UDP message that we send or ask for, in bytes: it passes any path without
/// fragments. hickory's encoder needs it small, too: it compresses only 120 names.
pub(crate) const UDP_PAYLOAD: u16 = 1232;
/// UDP messages for clients that say nothing about their size (RFC 1035, 2.3.4).
const UDP_PLAIN: u16 = 512;
/// The smallest record: a pointer for its name and an IPv4 address.
const SMALLEST_RECORD: usize = 16;
const HEADER: usize = 12;
const OPT: usize = 11;
/// Where the question's name stands in a message, as a pointer (RFC 1035, 4.1.4).
const QUESTION_POINTER: u16 = 0xc000 | 12;

/// What will be sent.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) metadata: Metadata,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    pub(crate) edns: Option<Edns>,
}

impl Reply {
    /// An empty reply, with an OPT record if the request has one (RFC 6891, 6.1.1).
    pub(crate) fn to(request: &Request, code: ResponseCode) -> Self {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = code;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().min(UDP_PAYLOAD));
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            edns.set_rcode_high(code.high());
            edns
        });
        let (answers, authorities, additionals) = (Vec::new(), Vec::new(), Vec::new());
        Self { metadata, answers, authorities, additionals, edns }
    }

    /// Leaves out what does not fit: first additional records, which nobody misses,
    /// then answers, of which the client is told by the TC bit.
    pub(crate) fn fit(&mut self, request: &Request) {
        let question = question_name(request);
        let mut room = usize::from(limit(request)).saturating_sub(HEADER);
        room = room.saturating_sub(request.queries.as_bytes().len());
        room = room.saturating_sub(self.edns.as_ref().map_or(0, |_| OPT));
        if request.protocol() == Protocol::Udp {
            // hickory's encoder writes the first owner's name in full.
            room = room.saturating_sub(question.map_or(0, Name::len));
        }
        let cut = keep(&mut self.answers, question, &mut room)
            || keep(&mut self.authorities, question, &mut room);
        if cut || self.metadata.truncation {
            self.metadata.truncation = true;
            self.additionals.clear();
        }
        keep(&mut self.additionals, question, &mut room);
    }

    /// The message for TCP.
    pub(crate) fn encode(&self, queries: &[LowerQuery]) -> Result<Vec<u8>, ProtoError> {
        let mut bytes = Vec::with_capacity(usize::from(UDP_PLAIN));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        let opt = usize::from(self.edns.is_some());
        let counts = HeaderCounts {
            queries: count(queries.len()),
            answers: count(self.answers.len()),
            authorities: count(self.authorities.len()),
            additionals: count(self.additionals.len() + opt),
        };
        Header { metadata: self.metadata, counts }.emit(&mut encoder)?;
        for query in queries {
            query.original().emit(&mut encoder)?;
        }
        let question = queries.first().map(|query| query.original().name());
        for record in self.answers.iter().chain(&self.authorities).chain(&self.additionals) {
            emit(record, question, &mut encoder)?;
        }
        if let Some(edns) = &self.edns {
            edns.emit(&mut encoder)?;
        }
        Ok(bytes)
    }
}

/// How many records are worth making for a request.
pub(crate) fn record_room(request: &Request) -> usize {
    usize::from(limit(request)) / SMALLEST_RECORD
}

/// Bytes that the transport takes.
fn limit(request: &Request) -> u16 {
    match (request.protocol(), &request.edns) {
        (Protocol::Udp, Some(edns)) => edns.max_payload().clamp(UDP_PLAIN, UDP_PAYLOAD),
        (Protocol::Udp, None) => UDP_PLAIN,
        _ => u16::MAX,
    }
}

fn question_name(request: &Request) -> Option<&Name> {
    request.queries.queries().first().map(|query| query.original().name())
}

/// Keeps the records that fit into `room` and takes their bytes from it. Returns whether
/// some had to go.
fn keep(records: &mut Vec<Record>, question: Option<&Name>, room: &mut usize) -> bool {
    let before = records.len();
    let fitting = records
        .iter()
        .take_while(|record| match room.checked_sub(size(record, question)) {
            Some(rest) => {
                *room = rest;
                true
            }
            None => false,
        })
        .count();
    records.truncate(fitting);
    fitting < before
}

/// Bytes of a record whose name is a pointer if it is the question's, and whose data is
/// not compressed. A record that cannot be written fits nowhere.
fn size(record: &Record, question: Option<&Name>) -> usize {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    match emit(record, question, &mut encoder) {
        Ok(()) => bytes.len(),
        Err(_) => usize::MAX,
    }
}

fn emit(
    record: &Record,
    question: Option<&Name>,
    encoder: &mut BinEncoder<'_>,
) -> Result<(), ProtoError> {
    match question {
        Some(name) if record.name.eq_case(name) => encoder.emit_u16(QUESTION_POINTER)?,
        _ => record.name.emit(encoder)?,
    }
    record.record_type().emit(encoder)?;
    record.dns_class.emit(encoder)?;
    encoder.emit_u32(record.ttl)?;
    let length = encoder.place::<u16>()?;
    record.data.emit(encoder)?;
    let written = encoder.len_since_place(&length);
    length.replace(encoder, count(written))
}

fn count(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
