//! `GET /v1/dns` of a name in no zone of ours, or of an alias of one: it is asked for, as any
//! program on the node would ask.

use mizzen_dns_core::RecordType;
use mizzen_dns_server::{Answered, AnsweredRecord, Whom, ask};
use mizzen_http::core::QueryReply;
use mizzen_types::error::chain;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::oneshot;

/// Longer than the resolver asks its upstreams.
const LIMIT: Duration = Duration::from_secs(6);

/// The name that is to be asked for, if what the zones say ends with a name of others.
pub(crate) fn onward(document: &Value) -> Option<String> {
    document["onward"].as_str().map(str::to_owned)
}

/// Asks the node's resolver for `name` and completes `document` with what comes back.
///
/// * `whom` — who will know it.
pub(crate) fn complete(
    mut document: Value,
    name: String,
    (resolver, whom): (SocketAddr, Option<Whom>),
    kind: Option<RecordType>,
    reply: oneshot::Sender<QueryReply>,
) {
    tokio::spawn(async move {
        let answer = ask(resolver, &name, kind.unwrap_or(RecordType::A), LIMIT).await;
        tell(&mut document, whom.as_ref());
        match answer {
            Ok(answer) => fill(&mut document, &answer, whom.as_ref()),
            Err(error) => {
                document["rcode"] = json!("SERVFAIL");
                document["left_out"] = json!([{ "why": chain(&error) }]);
            }
        }
        // A client that went away meanwhile is no concern.
        let _ = reply.send(QueryReply::Json(document));
    });
}

/// Says who is asked.
fn tell(document: &mut Value, whom: Option<&Whom>) {
    let local = whom.is_some_and(|whom| whom.local);
    document["forwarded"] = json!(!local);
    document["local"] = json!(local);
    document["forward_zone"] = json!(whom.and_then(|whom| whom.zone.as_deref()));
    let upstreams = whom.filter(|_| !local).map(|whom| whom.upstreams.iter());
    document["upstreams"] = upstreams.into_iter().flatten().map(ToString::to_string).collect();
}

fn fill(document: &mut Value, answer: &Answered, whom: Option<&Whom>) {
    let source = whom.map_or_else(|| "an upstream".to_owned(), source);
    let record = |record: &AnsweredRecord| {
        json!({
            "name": record.name,
            "type": record.kind,
            "ttl": record.ttl,
            "data": record.data,
            "source": source,
            "age_seconds": whom.map(|whom| whom.kept.unwrap_or(0)),
            "forwarded": true,
        })
    };
    document["rcode"] = json!(answer.code);
    if let Some(answers) = document["answers"].as_array_mut() {
        answers.extend(answer.records.iter().map(record));
    }
}

/// Where an answer comes from.
fn source(whom: &Whom) -> String {
    let upstreams: Vec<String> = whom.upstreams.iter().map(ToString::to_string).collect();
    match (whom.local, whom.kept) {
        (true, _) => "this node".to_owned(),
        (false, None) => upstreams.join(" or "),
        (false, Some(_)) => format!("cache, from {}", upstreams.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_answer_comes_from() {
        let whom = |kept, local, upstreams: &[&str]| Whom {
            zone: None,
            upstreams: upstreams.iter().map(|text| text.parse().unwrap()).collect(),
            local,
            kept,
        };
        let two = ["192.0.2.1", "tls://192.0.2.2#dns.example"];
        let both = "192.0.2.1:53 or tls://192.0.2.2:853#dns.example";
        assert_eq!(source(&whom(None, false, &two)), both);
        assert_eq!(source(&whom(Some(9), false, &two[..1])), "cache, from 192.0.2.1:53");
        assert_eq!(source(&whom(None, true, &two)), "this node");
    }
}
