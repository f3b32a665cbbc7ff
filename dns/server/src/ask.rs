//! A question of our own to a resolver, for people who want to see its answer.

use crate::upstream::{Exchange, UpstreamError};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::Record;
use mizzen_dns_core::{DnsName, NameError, RecordType};
use std::net::SocketAddr;
use std::time::Duration;

/// What a resolver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Its response code, as RFC 1035 and `dig` write it: `NOERROR`, `NXDOMAIN`.
    pub code: String,
    /// Its answers.
    pub records: Vec<AnsweredRecord>,
}

/// One record of an answer, as zone files write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredRecord {
    /// Whose it is.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// Its data.
    pub data: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The name is none.
    #[error("`{name}` cannot be asked for")]
    Name {
        /// As asked for.
        name: String,
        /// What is wrong with it; nothing is known of a name that has no wire form.
        #[source]
        source: Option<NameError>,
    },
    /// The resolver did not answer.
    #[error("no answer from {resolver}")]
    NoAnswer {
        /// Who was asked.
        resolver: SocketAddr,
        /// What happened.
        #[source]
        source: UpstreamError,
    },
}

/// Asks `resolver` for the records of `name`, by UDP and, if the answer was cut, by TCP;
/// waits `limit` for each.
///
/// # Errors
///
/// [`AskError`]; whatever its code, an answer is none.
pub async fn ask(
    resolver: SocketAddr,
    name: &str,
    kind: RecordType,
    limit: Duration,
) -> Result<Answered, AskError> {
    let refused = |source| AskError::Name { name: name.to_owned(), source };
    let wire = DnsName::parse(name).map_err(|error| refused(Some(error)))?.to_wire();
    let question = Query::query(wire.ok_or_else(|| refused(None))?, kind);
    let answer = Exchange::of_ours(question).run(resolver, limit).await;
    let answer = answer.map_err(|source| AskError::NoAnswer { resolver, source })?;
    Ok(answered(&answer))
}

fn answered(answer: &Message) -> Answered {
    let record = |record: &Record| AnsweredRecord {
        name: record.name.to_ascii(),
        kind: record.record_type().to_string(),
        ttl: record.ttl,
        data: record.data.to_string(),
    };
    let records = answer.answers.iter().map(record).collect();
    Answered { code: code(answer.metadata.response_code), records }
}

fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
