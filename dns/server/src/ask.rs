//! A question of our own to a resolver, for people who want to see its answer.

use crate::reply::UDP_PAYLOAD;
use crate::upstream::{Plain, Question, UpstreamError, wire_name};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Record;
use mizzen_dns_core::{Age, Asker, DnsName, NameError, Opt, RecordType, Unfit};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// The Internet.
const CLASS_IN: u16 = 1;

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
/// waits `limit` in all.
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
    let name = wire_name(&wire.ok_or_else(|| refused(None))?);
    let asker = Asker {
        id: 0,
        name: &name,
        kind: kind.into(),
        class: CLASS_IN,
        recursion_desired: true,
        checking_disabled: false,
        room: usize::from(u16::MAX),
        opt: Some(Opt { payload: UDP_PAYLOAD, dnssec_ok: false, options: &[] }),
    };
    let failed = |source| AskError::NoAnswer { resolver, source };
    let (plain, question) = (Plain::new(resolver), Question::new(&asker));
    let answer = timeout(limit, plain.ask(&question)).await;
    let answer = answer.unwrap_or(Err(UpstreamError::TimedOut(limit))).map_err(failed)?;
    let mut bytes = vec![0; asker.room];
    let length = answer.write(&asker, Age::Fresh(0), 0, &mut bytes).unwrap_or(0);
    let message = Message::from_vec(bytes.get(..length).unwrap_or_default());
    Ok(answered(&message.map_err(|_| failed(UpstreamError::Mismatch(Unfit::Malformed)))?))
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
