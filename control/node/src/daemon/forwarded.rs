//! `GET /v1/dns` of a name in no zone of ours: it is asked, as any program on the node
//! would ask.

use super::saves::chain;
use mizzen_dns_core::RecordType;
use mizzen_dns_server::{Answered, AnsweredRecord, ask};
use mizzen_http::core::QueryReply;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::oneshot;

/// Longer than the resolver asks its upstreams.
const LIMIT: Duration = Duration::from_secs(6);

/// Whether what the zones say of a name is that it is none of theirs.
pub(crate) fn is_forwarded(document: &Value) -> bool {
    document["rcode"] == "FORWARDED"
}

/// Asks the node's resolver and completes `document` with what comes back.
pub(crate) fn complete(
    mut document: Value,
    resolver: SocketAddr,
    kind: Option<RecordType>,
    reply: oneshot::Sender<QueryReply>,
) {
    tokio::spawn(async move {
        let name = document["name"].as_str().unwrap_or_default().to_owned();
        let answer = ask(resolver, &name, kind.unwrap_or(RecordType::A), LIMIT).await;
        document["forwarded"] = json!(true);
        match answer {
            Ok(answer) => fill(&mut document, &answer),
            Err(error) => {
                document["rcode"] = json!("SERVFAIL");
                document["left_out"] = json!([{ "why": chain(&error) }]);
            }
        }
        // A client that went away meanwhile is no concern.
        let _ = reply.send(QueryReply::Json(document));
    });
}

fn fill(document: &mut Value, answer: &Answered) {
    let record = |record: &AnsweredRecord| {
        json!({
            "name": record.name,
            "type": record.kind,
            "ttl": record.ttl,
            "data": record.data,
            "source": "an upstream",
        })
    };
    document["rcode"] = json!(answer.code);
    document["answers"] = answer.records.iter().map(record).collect();
}
