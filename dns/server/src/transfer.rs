//! Whole zones, as AXFR has them (RFC 5936): the SOA record, every other record, the SOA
//! record again, in as many messages as it takes.
//!
//! A zone is read a page at a time, as fast as the client reads, so that changes and
//! answers go on and no copy is made. What changes meanwhile may be in it or not, all else is; the
//! serial in both SOA records is that of the beginning, so a secondary that asks for the
//! serial sees that there is more and comes again.

use crate::encode::Writer;
use crate::reply::Reply;
use crate::shared::SharedZones;
use hickory_proto::op::{Metadata, Query, ResponseCode};
use hickory_proto::rr::{RData, Record};
use hickory_server::server::Request;
use mizzen_dns_core::{Cursor, DnsName};
use std::collections::VecDeque;

/// Records that are read under one lock.
const PAGE: usize = 256;
/// Bytes of a message. Names are compressed against its first 16 KiB, and a client that
/// reads slowly makes us keep no more than this.
const MESSAGE: usize = 16 * 1024;
/// Pages without a record that are read in a row: other zones may be many times larger,
/// and other clients wait.
const EMPTY_PAGES: usize = 4;

/// A zone on its way to one client.
#[derive(Debug)]
pub(crate) struct Transfer {
    metadata: Metadata,
    query: Query,
    soa: Record,
    cursor: Cursor,
    /// Read and not sent.
    pending: VecDeque<Record>,
    stage: Stage,
}

/// The next step of a transfer.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A message to send.
    Message(Vec<u8>),
    /// Nothing was found yet; others have their turn first.
    NotYet,
    /// All was sent.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Records,
    Over,
}

impl Transfer {
    /// Begins a transfer; `None` if the name is not that of a zone.
    pub(crate) fn new(zones: &SharedZones, request: &Request, query: &Query) -> Option<Self> {
        let apex = DnsName::from_wire(query.name());
        let (soa, cursor) = zones.read(|zones| {
            let cursor = zones.transfer(&apex)?;
            Some((zones.start(&apex)?.to_message(cursor.serial())?, cursor))
        })?;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let (query, pending) = (query.clone(), VecDeque::new());
        Some(Self { metadata, query, soa, cursor, pending, stage: Stage::Begin })
    }

    /// Whether a secondary that says what it has needs nothing (RFC 1995, 2 and 4).
    pub(crate) fn is_known(&self, request: &Request) -> bool {
        let serial = |record: &Record| match &record.data {
            RData::SOA(soa) => Some(soa.serial),
            _ => None,
        };
        let known = request.authorities.iter().find_map(serial);
        // Numbers go in a circle (RFC 1982), and what is ahead of ours cannot be made up for.
        known.is_some_and(|known| known.wrapping_sub(self.cursor.serial()) < 1 << 31)
    }

    /// The zone's start alone.
    pub(crate) fn start(&self, request: &Request) -> Reply {
        let mut reply = Reply::to(request, ResponseCode::NoError);
        reply.metadata.authoritative = true;
        reply.answers.push(self.soa.clone());
        reply
    }

    /// The next message, as far as it goes without waiting.
    pub(crate) fn next_piece(&mut self, zones: &SharedZones) -> Piece {
        if self.stage == Stage::Over {
            return Piece::Over;
        }
        let mut writer = Writer::new(MESSAGE);
        let (mut questions, mut answers) = (0, 0);
        if self.stage == Stage::Begin {
            // Only the first message has the question (RFC 5936, 2.2.1).
            questions += u16::from(writer.keep(|writer| writer.question(&self.query)));
            answers += writer.records([&self.soa]);
            self.stage = Stage::Records;
        }
        while self.fill(zones) {
            let Some(record) = self.pending.front() else { break };
            let written = writer.records([record]);
            if written == 0 && answers > 0 {
                // The message is full; one that has no room in an empty one has none.
                return Piece::Message(writer.finish(self.metadata, [questions, answers, 0, 0]));
            }
            answers += written;
            self.pending.pop_front();
        }
        if self.cursor.is_done() && self.pending.is_empty() && writer.records([&self.soa]) == 1 {
            answers += 1;
            self.stage = Stage::Over;
        }
        match answers {
            0 => Piece::NotYet,
            _ => Piece::Message(writer.finish(self.metadata, [questions, answers, 0, 0])),
        }
    }

    /// Reads on if nothing is left; returns whether there is something.
    fn fill(&mut self, zones: &SharedZones) -> bool {
        for _ in 0..EMPTY_PAGES {
            if !self.pending.is_empty() || self.cursor.is_done() {
                break;
            }
            let page = zones.read(|zones| zones.page(&mut self.cursor, PAGE));
            let serial = self.cursor.serial();
            self.pending.extend(page.iter().filter_map(|record| record.to_message(serial)));
        }
        !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Message;
    use hickory_proto::rr::{Name, RecordType};
    use hickory_server::net::xfer::Protocol;
    use mizzen_dns_core::{Data, Options, OwnerKey, Zones};
    use std::collections::BTreeSet;

    fn zones(count: u16) -> SharedZones {
        let mut zones = Zones::new(&Options::default());
        for number in 0..count {
            let [high, low] = number.to_be_bytes();
            let name = DnsName::parse(&format!("t{number}.m.mesos")).expect("a name");
            let data = Data::A([10, 0, high, low].into());
            let record = mizzen_dns_core::Record::new(name, 5, data);
            zones.set(OwnerKey::Static(number.to_string()), vec![record]);
        }
        SharedZones::new(zones)
    }

    fn begin(zones: &SharedZones, apex: &str) -> Option<Transfer> {
        let mut message = Message::query();
        let query = Query::query(Name::from_ascii(apex).expect("a name"), RecordType::AXFR);
        message.add_query(query.clone());
        let bytes = message.to_vec().expect("it is encoded");
        let client = ([127, 0, 0, 1], 4000).into();
        let request = Request::from_bytes(bytes, client, Protocol::Tcp).expect("a request");
        Transfer::new(zones, &request, &query)
    }

    #[test]
    fn a_zone_comes_whole_between_its_starts() {
        for count in [0, 1, 3000] {
            let zones = zones(count);
            let mut transfer = begin(&zones, "mesos.").expect("a zone");
            let mut records: Vec<Record> = Vec::new();
            let mut messages = 0;
            loop {
                let bytes = match transfer.next_piece(&zones) {
                    Piece::Message(bytes) => bytes,
                    Piece::NotYet => continue,
                    Piece::Over => break,
                };
                assert!(bytes.len() <= MESSAGE);
                let message = Message::from_vec(&bytes).expect("a message");
                assert_eq!(message.queries.len(), usize::from(messages == 0));
                assert!(!message.answers.is_empty());
                records.extend(message.answers);
                messages += 1;
            }
            assert!(count < 3000 || messages > 3, "{messages}");
            assert_eq!(records.first(), records.last());
            let starts = records.iter().filter(|record| record.record_type() == RecordType::SOA);
            assert_eq!(starts.count(), 2);
            let addresses: BTreeSet<String> = records
                .iter()
                .filter(|record| record.record_type() == RecordType::A)
                .filter(|record| record.name.to_ascii().starts_with('t'))
                .map(|record| record.data.to_string())
                .collect();
            assert_eq!(addresses.len(), usize::from(count));
        }
    }

    #[test]
    fn only_zones_are_transferred() {
        let zones = zones(1);
        for name in ["m.mesos.", "t0.m.mesos.", "example.com.", "."] {
            assert!(begin(&zones, name).is_none(), "{name}");
        }
    }
}
