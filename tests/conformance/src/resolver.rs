//! The real server on loopback, asked by UDP as `dig` does.

use crate::cases::Answer;
use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mizzen_dns_core::Zones;
use mizzen_dns_server::{Server, Settings, SharedZones};
use std::net::{Ipv4Addr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for an answer that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the client can take, as `dig` says it.
const PAYLOAD: u16 = 1232;

/// A resolver without upstreams; it stops when it is dropped.
#[derive(Debug)]
pub struct Resolver {
    socket: UdpSocket,
    _server: Server,
}

impl Resolver {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// What the kernel says about sockets on loopback.
    pub fn start(zones: Zones) -> Result<Self> {
        let listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        let settings = Settings { listen, ..Settings::default() };
        let server = Server::start(&settings, Arc::new(SharedZones::new(zones)))?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server.addresses().first().context("no address")?)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, _server: server })
    }

    /// Asks a question.
    ///
    /// # Errors
    ///
    /// No answer, or none to this question.
    pub fn ask(&self, name: &str, kind: &str) -> Result<Answer> {
        let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.')))?;
        let kind = RecordType::from_str(kind)?;
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name, kind));
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        question.set_edns(edns);
        self.socket.send(&question.to_vec()?)?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let length = self.socket.recv(&mut buffer)?;
        let reply = Message::from_vec(buffer.get(..length).unwrap_or_default())?;
        ensure!(reply.metadata.id == question.metadata.id, "the answer to another question");
        ensure!(reply.queries == question.queries, "the question is not repeated as it was");
        Ok(shown(&reply))
    }
}

fn shown(reply: &Message) -> Answer {
    let metadata = &reply.metadata;
    let code = match u16::from(metadata.response_code) {
        0 => "NOERROR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        5 => "REFUSED",
        _ => "OTHER",
    };
    let mut status = code.to_owned();
    for (flag, set) in [("aa", metadata.authoritative), ("tc", metadata.truncation)] {
        if set {
            status = format!("{status} {flag}");
        }
    }
    let sections = [("an", &reply.answers), ("au", &reply.authorities), ("ad", &reply.additionals)];
    let line = |section, record: &Record| {
        let (name, ttl, kind) = (record.name.to_ascii(), record.ttl, record.record_type());
        format!("{section} {name} {ttl} {kind} {}", data(&record.data))
    };
    let lines = sections
        .into_iter()
        .flat_map(|(section, records)| records.iter().map(move |record| line(section, record)));
    Answer { status, records: lines.collect() }
}

/// As zone files write it; the serial number, which counts changes, is a star.
fn data(data: &RData) -> String {
    match data {
        RData::SOA(soa) => format!(
            "{} {} * {} {} {} {}",
            soa.mname, soa.rname, soa.refresh, soa.retry, soa.expire, soa.minimum
        ),
        other => other.to_string(),
    }
}
