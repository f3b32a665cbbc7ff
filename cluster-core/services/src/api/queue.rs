//! `/v2/queue`: what waits, and why.

use super::{Answer, Reply, read};
use crate::problem::Refusal;
use crate::scheduler::Services;
use mizzen_types::time::Now;
use serde_json::{Value, json};

impl Services {
    pub(super) fn list_queue(&self, now: Now) -> Reply {
        let item = |service: &crate::service::Service| {
            let (app, queue) = (service.app.as_ref()?, service.queue.as_ref()?);
            let left = service.backoff.ready_at(now.mono).map(|ready| ready.since(now.mono));
            let seconds = left.unwrap_or_default().as_secs_f64().ceil();
            Some(json!({
                "app": app,
                "count": queue.count,
                "since": queue.since,
                "delay": {"timeLeftSeconds": whole(seconds), "overdue": left.is_none()},
                "processedOffersSummary": queue.summary(),
            }))
        };
        let items: Vec<Value> = self.services.values().filter_map(item).collect();
        Reply::json(200, json!({"queue": items}))
    }

    /// Every app that is not as wanted, with the reason in words.
    pub(super) fn list_why(&self, now: Now) -> Reply {
        let why = |(id, service): (&crate::app_id::AppId, &crate::service::Service)| {
            let why = service.why(self.connected, now.mono)?;
            Some(json!({"id": id, "why": why}))
        };
        let list: Vec<Value> = self.services.iter().filter_map(why).collect();
        Reply::json(200, list)
    }

    pub(super) fn delete_delay(&mut self, id: &[&str], now: Now) -> Answer {
        let id = read::app_id(id)?;
        let waits = self.services.get(&id).is_some_and(|service| service.queue.is_some());
        if !waits {
            return Err(Refusal::other(404, format!("Application {id} not found in tasks queue")));
        }
        self.reset_delay(&id, now);
        Ok(Reply { status: 204, headers: Vec::new(), body: super::Body::Empty })
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}
