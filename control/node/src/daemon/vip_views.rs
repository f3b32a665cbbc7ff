//! The balancer as people and old tools see it.
//!
//! ```text
//! plan, counts ──▶ sight ──┬──▶ minuteman   61421 /vips, /vip/…, /backend/…
//! histograms ──▶ recent ───┼──▶ table       mizzen vips
//!      └───────────────────┼──▶ metrics ──▶ exposition   62080 /v1/metrics
//! sockets ─────────────────┴──▶ odds, explain, words     mizzen explain
//! ```
//!
//! Everything below is a function of what was read at one moment; only this file reads.

mod asked;
mod explain;
mod exposition;
mod messages;
mod metrics;
mod minuteman;
mod odds;
mod recent;
mod sight;
mod spread;
mod table;
mod words;

use super::clock;
use super::core::Core;
use super::saves::chain;
use asked::{End, Pair};
use exposition::{Gone, Writer};
use metrics::{Exposed, single};
use mizzen_http::core::{Explained, MetricsEncoding, MetricsReply, QueryReply};
use mizzen_kernel::vips::{Latencies, Socket};
use mizzen_types::time::{Mono, Now};
use mizzen_types::vip::{BackendSpec, Protocol, VipSpec};
use recent::Recent;
use serde_json::{Value, json};
use sight::{Seen, Sight};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How often silent flows of datagrams are looked for.
const EXPIRY: Duration = Duration::from_secs(60);
/// Pieces of an answer that wait for their reader.
const PIECES: usize = 4;

/// What the balancer's views remember.
#[derive(Debug, Default)]
pub(crate) struct VipViews {
    recent: Recent,
    expire_at: Mono,
    /// Whether there was a service of datagrams when flows were last looked for.
    had_flows: bool,
}

impl VipViews {
    /// When [`Core::attend_vips`] is to be called.
    pub(crate) fn deadline(&self) -> Mono {
        self.expire_at.min(self.recent.deadline())
    }
}

impl Core {
    /// Does what is to be done from time to time: notes latencies, ends silent flows.
    pub(crate) fn attend_vips(&mut self, now: Now) {
        if self.vip_views.expire_at <= now.mono {
            self.vip_views.expire_at = now.mono + EXPIRY;
            let has_flows = self.planner.keys().any(|key| key.protocol == Protocol::Udp);
            // Flows of the last such service outlive it by their time-out.
            if has_flows || self.vip_views.had_flows {
                self.vips.expire_flows();
            }
            self.vip_views.had_flows = has_flows;
        }
        if self.vip_views.recent.deadline() <= now.mono {
            self.note_latencies(now.mono);
        }
    }

    /// Rows of `mizzen vips`.
    pub(crate) fn vip_table(&mut self, filter: Option<&str>) -> Value {
        let sight = self.look_at_vips();
        self.with_minute(|minute| table::rows(&sight, filter, minute))
    }

    /// `GET /v1/vips`, as dcos-net answered it: no weight, no health.
    pub(crate) fn dcos_vips(&self) -> Value {
        let row = |spec: &VipSpec| {
            let seen = sight::socket(&spec.key);
            let vip = match &spec.name {
                Some(name) => format!("{}:{}", sight::full_name(name), spec.key.port),
                None => seen.to_string(),
            };
            let backend = |backend: &BackendSpec| json!({ "ip": backend.address.ip(), "port": backend.address.port() });
            let backends: Value =
                spec.backends.iter().filter(|backend| backend.admitted).map(backend).collect();
            json!({ "vip": vip, "protocol": spec.key.protocol, "backend": backends })
        };
        self.planner.specs().values().map(row).collect()
    }

    /// `GET /vips`, as Minuteman answered it.
    pub(crate) fn minuteman_vips(&mut self) -> Value {
        let sight = self.look_at_vips();
        self.with_minute(|minute| minuteman::vips(&sight, minute))
    }

    /// `GET /vip/<ip:port>`.
    pub(crate) fn minuteman_vip(&mut self, text: &str) -> QueryReply {
        let Ok(asked) = text.parse::<SocketAddr>() else {
            return QueryReply::Json(json!({ "error": "invalid_vip" }));
        };
        let sight = self.look_at_vips();
        let mut found = serde_json::Map::new();
        for seen in sight.vips.iter().filter(|seen| seen.socket() == asked) {
            found.extend(self.with_minute(|minute| minuteman::vip(seen, &sight.tuning, minute)));
        }
        QueryReply::Json(match found.is_empty() {
            true => json!({ "error": "no_backends" }),
            false => Value::Object(found),
        })
    }

    /// `GET /backend/<ip:port>`.
    pub(crate) fn minuteman_backend(&mut self, text: &str) -> QueryReply {
        let Ok(asked) = text.parse::<SocketAddr>() else {
            return QueryReply::Json(json!({ "error": "invalid_backend" }));
        };
        let sight = self.look_at_vips();
        let found =
            sight.vips.iter().find_map(|seen| {
                let (spec, counts) = seen.backends().find(|(spec, _)| spec.address == asked)?;
                Some(self.with_minute(|minute| {
                    minuteman::one(seen, spec, counts, &sight.tuning, minute)
                }))
            });
        QueryReply::Json(found.unwrap_or_else(|| json!({ "error": "invalid_backend" })))
    }

    /// `GET /metrics` of Minuteman: a flat map of counters.
    pub(crate) fn minuteman_metrics(&mut self) -> Value {
        minuteman::metrics(&self.look_at_vips())
    }

    /// `GET /v1/metrics`. It is written by a thread of its own, as fast as it is read.
    pub(crate) fn serve_metrics(
        &mut self,
        encoding: MetricsEncoding,
        reply: oneshot::Sender<MetricsReply>,
    ) {
        let sight = self.look_at_vips();
        let read = |seen: &Seen| match metrics::has_latencies(seen) {
            true => self.vips.latencies(&seen.spec.key).unwrap_or_default(),
            false => BTreeMap::new(),
        };
        let histograms = sight.vips.iter().map(read).collect();
        let exposed = Exposed { sight, histograms, singles: self.singles() };
        let (sender, pieces) = mpsc::channel(PIECES);
        if reply.send(pieces).is_err() {
            return;
        }
        drop(tokio::task::spawn_blocking(move || {
            let mut put = |piece: Vec<u8>| sender.blocking_send(piece.into()).map_err(|_| Gone);
            // A scraper that went away needs no more.
            let _ = exposed.write(&mut Writer::new(encoding, &mut put));
        }));
    }

    /// `GET /v1/explain`.
    pub(crate) fn explain(&mut self, asked: &Explained) -> QueryReply {
        match asked {
            Explained::Vip(text) => match text.parse() {
                Ok(end) => self.explain_vip(&end),
                Err(error) => QueryReply::Bad(error.to_string()),
            },
            Explained::Connection(text) => match text.parse() {
                Ok(pair) => self.explain_connection(&pair),
                Err(error) => QueryReply::Bad(error.to_string()),
            },
        }
    }

    fn explain_vip(&mut self, end: &End) -> QueryReply {
        let sight = self.look_at_vips();
        let found = sight.vips.iter().filter(|seen| end.is_vip(seen));
        let vips: Vec<Value> = found.map(|seen| explain::vip(seen, &sight)).collect();
        if vips.is_empty() {
            return QueryReply::NotFound(words::nothing_there(end, &sight));
        }
        QueryReply::Json(json!({ "engine": self.vips.engine(), "vips": vips }))
    }

    fn explain_connection(&mut self, pair: &Pair) -> QueryReply {
        let sight = self.look_at_vips();
        let sockets = self.vips.sockets();
        let is_meant = |socket: &&Socket| {
            let leads = pair.to.socket().is_some_and(|to| to == socket.backend)
                || explain::find(&sight, socket).is_some_and(|seen| pair.to.is_vip(seen))
                || pair.to.socket().is_some_and(|to| to == socket.vip.socket);
            leads && socket.local == Some(pair.from)
        };
        // Addresses may be used again, and in several network namespaces at once.
        let found =
            sockets.iter().filter(is_meant).min_by_key(|socket| (!socket.is_open, socket.age));
        let Some(socket) = found else {
            let engine = self.vips.engine();
            return QueryReply::NotFound(words::unknown(pair, &sight, &sockets, engine));
        };
        let vips = explain::find(&sight, socket).map(|seen| explain::vip(seen, &sight));
        QueryReply::Json(json!({
            "engine": self.vips.engine(),
            "connection": explain::connection(socket, &sight),
            "vips": vips.into_iter().collect::<Vec<_>>(),
        }))
    }

    /// Everything that is planned and counted, now.
    fn look_at_vips(&mut self) -> Sight {
        let now = clock::now();
        self.vip_views.recent.ask(now.mono);
        let counts = self.vips.counts().unwrap_or_else(|error| {
            self.problems.report("vip", chain(&error));
            BTreeMap::new()
        });
        // What cannot be read is absent; the failure above has told why.
        let refusals = self.vips.refusals().unwrap_or_default();
        Sight::new(self.planner.specs(), counts, &refusals, self.vips.tuning())
    }

    /// Lets `view` ask for the latencies of the last minute; each service is read once, and only if it
    /// had connections.
    fn with_minute<T>(&self, view: impl FnOnce(minuteman::Minute<'_>) -> T) -> T {
        let now = clock::now().mono;
        let recent = &self.vip_views.recent;
        let read = RefCell::new((None, BTreeMap::new()));
        view(&|seen: &Seen, backend: SocketAddr| -> Option<Latencies> {
            let key = seen.spec.key;
            if !recent.is_recent(&key, seen.established(), now) {
                return None;
            }
            let mut read = read.borrow_mut();
            if read.0 != Some(key) {
                *read = (Some(key), self.vips.latencies(&key).unwrap_or_default());
            }
            let (handshakes, _) = read.1.get(&backend)?;
            let minute = recent.last_minute(&key, backend, handshakes, now);
            (spread::samples(&minute) > 0).then_some(minute)
        })
    }

    fn note_latencies(&mut self, now: Mono) {
        let mut established = BTreeMap::new();
        for ((key, _), counts) in self.vips.counts().unwrap_or_default() {
            *established.entry(key).or_insert(0) += counts.established;
        }
        let handshakes = |found: BTreeMap<SocketAddr, (Latencies, Latencies)>| {
            found.into_iter().map(|(backend, (handshakes, _))| (backend, handshakes)).collect()
        };
        let vips = &self.vips;
        self.vip_views.recent.note(now, established.into_iter(), |key| {
            vips.latencies(key).map(handshakes).unwrap_or_default()
        });
    }

    /// Gauges of other parts.
    fn singles(&self) -> Vec<metrics::Single> {
        let records = self.names.size().map_or(0, |(_, records)| records);
        let tasks = self.agent.as_ref().map_or(0, mizzen_agent::Agent::live_tasks);
        let uptime = clock::now().mono.since(self.started.mono).as_secs();
        vec![
            single(
                "mizzen_names_records",
                "Records that the resolver answers from.",
                records as u64,
            ),
            single("mizzen_agent_tasks", "Tasks that have not ended.", tasks as u64),
            single("mizzen_node_uptime_seconds", "Time since the daemon started.", uptime),
        ]
    }
}
