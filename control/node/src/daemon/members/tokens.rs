//! Tokens by which nodes come in: made, listed, revoked. Only who makes one sees its secret.

use super::admissions::{Desk, alone};
use crate::daemon::clock;
use crate::daemon::core::Core;
use crate::daemon::credentials::TOKENS;
use crate::daemon::replies::{Answer, Refusal, bad, empty, json, refuse};
use mizzen_gossip::token::TokenRecord;
use mizzen_types::error::chain;
use mizzen_types::time::Wall;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tracing::info;

/// Tokens last at most so long.
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);

#[derive(Debug, Deserialize)]
struct Wanted {
    ttl_seconds: u64,
    uses: u32,
}

impl Core {
    /// `POST /v1/cluster/tokens`.
    pub(super) fn make_token(&mut self, body: &[u8]) -> Answer {
        let wanted: Wanted = serde_json::from_slice(body).map_err(bad)?;
        let ttl = Duration::from_secs(wanted.ttl_seconds);
        if ttl.is_zero() || ttl > MAX_TTL || wanted.uses == 0 {
            return Err(refuse(400, "a token lasts up to 30 days and lets at least one node in"));
        }
        let now = clock::now().wall;
        let desk = self.desk()?;
        let token = desk.tokens.make(desk.authority.root(), (ttl, wanted.uses), now);
        let token = token.map_err(|error| refuse(500, chain(&error)))?;
        let record = desk.tokens.get(&token.id()).map(serde_json::to_vec).transpose();
        let record = record.map_err(|error| refuse(500, chain(&error)))?;
        let mut batch = vec![(format!("{TOKENS}{}", token.id()), record)];
        batch.extend(desk.tokens.forget(now).into_iter().map(|id| (format!("{TOKENS}{id}"), None)));
        self.store.write(&batch).map_err(|error| refuse(503, chain(&error)))?;
        info!(token = token.id(), uses = wanted.uses, "a token was made");
        let document = json!({
            "token": token.to_text(), "id": token.id(), "uses": wanted.uses,
            "expires": seconds(token.expires),
            "address": self.members.as_ref().map(|members| members.membership.me().address),
        });
        Ok(json(201, &document))
    }

    /// `GET /v1/cluster/tokens`: those that let somebody in, and those that lately did not any
    /// more; the one that ends first comes first.
    pub(super) fn list_tokens(&mut self) -> Answer {
        let now = clock::now().wall;
        let mut all: Vec<(&str, &TokenRecord)> = self.desk()?.tokens.iter().collect();
        all.sort_by_key(|(id, record)| (record.expires, *id));
        let rows = all.into_iter().map(|(id, record)| row(id, record, now));
        Ok(json(200, &rows.collect::<Vec<_>>()))
    }

    /// `DELETE /v1/cluster/tokens/ID`.
    pub(super) fn revoke_token(&mut self, id: &str) -> Answer {
        if self.desk()?.tokens.get(id).is_none() {
            return Err(refuse(
                404,
                format!("there is no token `{id}`; see `mizzen join-token --list`"),
            ));
        }
        // It lets nobody in after a restart, either.
        let batch = [(format!("{TOKENS}{id}"), None)];
        self.store.write(&batch).map_err(|error| refuse(503, chain(&error)))?;
        self.desk()?.tokens.revoke(id);
        info!(token = id, "a token was revoked");
        Ok(empty(204))
    }

    fn desk(&mut self) -> Result<&mut Desk, Refusal> {
        let members = self.members.as_mut().ok_or_else(alone)?;
        let elsewhere = members.authority_elsewhere();
        members.desk.as_mut().ok_or(elsewhere)
    }
}

fn row(id: &str, record: &TokenRecord, now: Wall) -> Value {
    json!({
        "id": id,
        "uses": record.uses,
        "used_by": record.used_by,
        "expires": seconds(record.expires),
        "expires_in_seconds": record.expires.0.saturating_sub(now.0) / 1_000_000_000,
        "open": record.is_open(now),
    })
}

fn seconds(at: Wall) -> u64 {
    at.0 / 1_000_000_000
}
