//! Replies to bytes, with names compressed (RFC 1035, 4.1.4) in time that grows with the
//! message only. hickory's own encoder stops compressing after 120 names.
//!
//! What does not fit is left out: first additional records, which nobody misses, then
//! answers, of which the client is told by the TC bit.

use crate::reply::{Reply, ReplyEdns, UDP_PAYLOAD};
use hickory_proto::op::{Metadata, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use std::collections::HashMap;

/// Bytes of a message's header.
pub(crate) const HEADER: usize = 12;
/// Bytes of an OPT record without options.
const OPT: usize = 11;
/// Number of the OPT type.
const OPT_TYPE: u16 = 41;
/// The flag of an OPT record that asks for DNSSEC records.
const DNSSEC_OK: u16 = 0x8000;
/// Where pointers reach: they have 14 bits.
const POINTER_REACH: usize = 0x4000;
/// The two bits that tell a pointer from a label.
const POINTER: u16 = 0xc000;
/// Longest run of labels that later names may point to: ours have seven at most, and
/// the work that a name of 127 labels makes is bounded by this.
const MAX_SHARED_LABELS: usize = 16;

/// Writes a reply of at most `limit` bytes.
pub(crate) fn encode(reply: &Reply, queries: &[Query], limit: u16) -> Vec<u8> {
    let mut writer = Writer::new(usize::from(limit));
    writer.reserve(reply.edns.as_ref().map_or(0, opt_length));
    let mut metadata = reply.metadata;
    let mut counts = [0; 4];
    for query in queries {
        counts[0] += u16::from(writer.keep(|writer| writer.question(query)));
    }
    let mut whole = true;
    for (section, records) in [&reply.answers, &reply.authorities].into_iter().enumerate() {
        let written = if whole { writer.records(records) } else { 0 };
        whole &= usize::from(written) == records.len();
        counts[section + 1] = written;
    }
    metadata.truncation |= !whole;
    if !metadata.truncation {
        counts[3] = writer.records(&reply.additionals);
    }
    if let Some(edns) = &reply.edns {
        writer.opt(edns, metadata.response_code);
        counts[3] = counts[3].saturating_add(1);
    }
    writer.finish(metadata, counts)
}

/// A header that says what went wrong, for a request that cannot be read further.
pub(crate) fn bare(asked: &Metadata, code: ResponseCode) -> Vec<u8> {
    let mut metadata = Metadata::response_from_request(asked);
    metadata.response_code = code;
    Writer::new(HEADER).finish(metadata, [0; 4])
}

/// Options as an OPT record has them.
pub(crate) fn wire_options(options: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, data) in options {
        bytes.extend_from_slice(&code.to_be_bytes());
        bytes.extend_from_slice(&short(data.len()).to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

/// A message while it is written.
pub(crate) struct Writer {
    bytes: Vec<u8>,
    /// Where endings of names stand, by their labels as they are written. Capitals
    /// count: a client that mixes them wants its own back.
    names: HashMap<Vec<u8>, u16>,
    limit: usize,
}

impl Writer {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: vec![0; HEADER], names: HashMap::new(), limit }
    }

    /// Keeps room for what will be written last.
    fn reserve(&mut self, bytes: usize) {
        self.limit = self.limit.saturating_sub(bytes);
    }

    /// Writes the records that fit, until the first that does not; returns how many.
    pub(crate) fn records<'r>(&mut self, records: impl IntoIterator<Item = &'r Record>) -> u16 {
        let mut count = 0;
        for record in records {
            if count == u16::MAX || !self.keep(|writer| writer.record(record)) {
                break;
            }
            count += 1;
        }
        count
    }

    /// Does something, and undoes it if it failed or the message became too long.
    pub(crate) fn keep(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> bool {
        let mark = self.bytes.len();
        if write(self).is_some() && self.bytes.len() <= self.limit {
            return true;
        }
        self.bytes.truncate(mark);
        self.names.retain(|_, at| usize::from(*at) < mark);
        false
    }

    pub(crate) fn question(&mut self, query: &Query) -> Option<()> {
        self.name(query.name(), Sharing::Both);
        self.number(query.query_type().into());
        self.number(query.query_class().into());
        Some(())
    }

    fn record(&mut self, record: &Record) -> Option<()> {
        self.name(&record.name, Sharing::Both);
        self.number(record.record_type().into());
        self.number(record.dns_class.into());
        self.bytes.extend_from_slice(&record.ttl.to_be_bytes());
        let length_at = self.bytes.len();
        self.number(0);
        self.data(&record.data)?;
        let length = u16::try_from(self.bytes.len() - length_at - 2).ok()?;
        self.bytes.get_mut(length_at..length_at + 2)?.copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    /// Names in data are compressed where RFC 1035 has them, and nowhere else (RFC 3597, 4).
    fn data(&mut self, data: &RData) -> Option<()> {
        match data {
            RData::CNAME(name) => self.name(name, Sharing::Both),
            RData::NS(name) => self.name(name, Sharing::Both),
            RData::PTR(name) => self.name(name, Sharing::Both),
            RData::MX(mx) => {
                self.number(mx.preference);
                self.name(&mx.exchange, Sharing::Both);
            }
            RData::SOA(soa) => {
                self.name(&soa.mname, Sharing::Both);
                self.name(&soa.rname, Sharing::Both);
                self.bytes.extend_from_slice(&soa.serial.to_be_bytes());
                for timer in [soa.refresh, soa.retry, soa.expire] {
                    self.bytes.extend_from_slice(&timer.to_be_bytes());
                }
                self.bytes.extend_from_slice(&soa.minimum.to_be_bytes());
            }
            RData::SRV(srv) => {
                for number in [srv.priority, srv.weight, srv.port] {
                    self.number(number);
                }
                self.name(&srv.target, Sharing::Given);
            }
            RData::A(address) => self.bytes.extend_from_slice(&address.octets()),
            RData::AAAA(address) => self.bytes.extend_from_slice(&address.octets()),
            other => {
                let mut bytes = Vec::new();
                let mut encoder = BinEncoder::new(&mut bytes);
                encoder.set_name_encoding(NameEncoding::Uncompressed);
                other.emit(&mut encoder).ok()?;
                self.bytes.extend_from_slice(&bytes);
            }
        }
        Some(())
    }

    fn name(&mut self, name: &Name, sharing: Sharing) {
        let mut wire = Vec::with_capacity(name.len() + 1);
        let mut starts = Vec::with_capacity(usize::from(name.num_labels()));
        for label in name.iter() {
            starts.push(wire.len());
            // A label is 63 bytes at most, so its length is one byte.
            wire.push(u8::try_from(label.len()).unwrap_or_default());
            wire.extend_from_slice(label);
        }
        let begin = self.bytes.len();
        let shared = starts.len().saturating_sub(MAX_SHARED_LABELS);
        for &start in starts.get(shared..).unwrap_or_default() {
            let Some(ending) = wire.get(start..) else { continue };
            if sharing == Sharing::Both
                && let Some(&at) = self.names.get(ending)
            {
                self.bytes.extend_from_slice(wire.get(..start).unwrap_or_default());
                self.number(POINTER | at);
                return;
            }
            let at = begin + start;
            if at < POINTER_REACH && !self.names.contains_key(ending) {
                self.names.insert(ending.to_vec(), u16::try_from(at).unwrap_or_default());
            }
        }
        self.bytes.extend_from_slice(&wire);
        self.bytes.push(0);
    }

    fn number(&mut self, number: u16) {
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    fn opt(&mut self, edns: &ReplyEdns, code: ResponseCode) {
        self.bytes.push(0);
        self.number(OPT_TYPE);
        self.number(UDP_PAYLOAD);
        // What was the TTL: the code's upper bits, the version, the flags.
        self.bytes.extend_from_slice(&[code.high(), 0]);
        self.number(if edns.dnssec_ok { DNSSEC_OK } else { 0 });
        self.number(short(opt_length(edns) - OPT));
        self.bytes.extend_from_slice(&wire_options(&edns.options));
    }

    /// The message, with its header.
    pub(crate) fn finish(mut self, metadata: Metadata, counts: [u16; 4]) -> Vec<u8> {
        if let Some(header) = self.bytes.first_chunk_mut::<HEADER>() {
            *header = header_of(metadata, counts);
        }
        self.bytes
    }
}

/// Whether a name may be written as a pointer, or only be pointed to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Both,
    Given,
}

fn header_of(metadata: Metadata, counts: [u16; 4]) -> [u8; HEADER] {
    let bit = |set: bool, at: u8| u8::from(set) << at;
    let [id_high, id_low] = metadata.id.to_be_bytes();
    let upper = 0x80
        | (u8::from(metadata.op_code) & 0x0f) << 3
        | bit(metadata.authoritative, 2)
        | bit(metadata.truncation, 1)
        | bit(metadata.recursion_desired, 0);
    let lower = bit(metadata.recursion_available, 7)
        | bit(metadata.authentic_data, 5)
        | bit(metadata.checking_disabled, 4)
        | metadata.response_code.low();
    let [q, a, n, r] = counts.map(u16::to_be_bytes);
    [id_high, id_low, upper, lower, q[0], q[1], a[0], a[1], n[0], n[1], r[0], r[1]]
}

fn opt_length(edns: &ReplyEdns) -> usize {
    OPT + edns.options.iter().map(|(_, data)| 4 + data.len()).sum::<usize>()
}

fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, MessageType, OpCode};
    use hickory_proto::rr::RecordType;
    use hickory_proto::rr::rdata::{A, CNAME, MX, SOA, SRV, TXT};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn reply(answers: Vec<Record>) -> Reply {
        let mut metadata = Metadata::new(7, MessageType::Response, OpCode::Query);
        metadata.authoritative = true;
        Reply {
            metadata,
            answers,
            authorities: vec![],
            additionals: vec![],
            edns: None,
            reason: None,
        }
    }

    fn many(count: u32) -> Vec<Record> {
        let srv = |n: u32| {
            let data = SRV::new(0, 1, 80, name(&format!("t{n}.m.mesos.")));
            Record::from_rdata(name("_Web._tcp.m.mesos."), 5, RData::SRV(data))
        };
        (0..count).map(srv).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let soa = SOA::new(name("ns.mesos."), name("root.ns.mesos."), 9, 60, 180, 86_400, 1);
        let web = name("wEb.m.mesos.");
        let mut sent = reply(vec![
            Record::from_rdata(web.clone(), 5, RData::CNAME(CNAME(name("a.m.mesos.")))),
            Record::from_rdata(name("a.m.mesos."), 5, RData::A(A([10, 0, 0, 1].into()))),
            Record::from_rdata(web.clone(), 5, RData::MX(MX::new(10, name("mx.m.mesos.")))),
            Record::from_rdata(web.clone(), 5, RData::TXT(TXT::new(vec!["x".into()]))),
        ]);
        sent.authorities.push(Record::from_rdata(name("mesos."), 1, RData::SOA(soa)));
        sent.additionals = many(2);
        let edns = ReplyEdns { dnssec_ok: true, options: vec![(10, vec![1; 24])] };
        sent.edns = Some(edns);
        let query = Query::query(web, RecordType::A);
        let bytes = encode(&sent, std::slice::from_ref(&query), u16::MAX);
        let read = Message::from_vec(&bytes).expect("a message");
        assert_eq!(read.queries, [query]);
        assert_eq!(read.answers, sent.answers);
        assert_eq!(read.authorities, sent.authorities);
        assert_eq!(read.additionals, sent.additionals);
        assert!(read.answers[0].name.eq_case(&sent.answers[0].name), "capitals are kept");
        let edns = read.edns.expect("an OPT record");
        assert!(edns.flags().dnssec_ok && edns.max_payload() == 1232);
        assert!(read.metadata.authoritative && !read.metadata.truncation);
        assert!(bytes.windows(5).filter(|window| window == b"mesos").count() <= 4, "compressed");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_told() {
        for limit in 40..1300 {
            let mut sent = reply(many(30));
            sent.additionals = many(3);
            sent.edns = Some(ReplyEdns::default());
            let query = Query::query(name("_Web._tcp.m.mesos."), RecordType::SRV);
            let bytes = encode(&sent, &[query], limit);
            assert!(bytes.len() <= usize::from(limit).max(HEADER + OPT), "{limit}");
            let read = Message::from_vec(&bytes).expect("a message");
            assert_eq!(read.metadata.truncation, read.answers.len() < 30, "{limit}");
            assert!(!read.metadata.truncation || read.additionals.is_empty());
            assert!(read.edns.is_some());
        }
    }

    #[test]
    fn two_thousand_services_fit_into_one_message() {
        let bytes = encode(&reply(many(2_000)), &[], u16::MAX);
        let read = Message::from_vec(&bytes).expect("a message");
        assert_eq!((read.answers.len(), read.metadata.truncation), (2_000, false));
    }
}
