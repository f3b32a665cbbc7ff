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
mod dcos;
mod ejections;
mod explain;
pub(crate) mod exposition;
mod messages;
pub(crate) mod metrics;
mod minuteman;
mod odds;
mod recent;
mod sight;
mod spread;
mod table;
mod words;

use super::clock;
use super::core::Core;
use super::lookups::Lookup;
use super::problems::Problems;
use super::queries::role_is_off;
use super::vip_part::VipPart;
use crate::config::Role;
use asked::{End, Pair};
use ejections::{Ejected, LOOK};
use exposition::{Gone, Writer};
use metrics::{Exposed, single, total};
use mizzen_http::core::{Explained, MetricsEncoding, MetricsReply, Query, QueryReply};
use mizzen_kernel::vips::{EngineKind, Latencies, Socket, Vips, udp_clients};
use mizzen_types::error::chain;
use mizzen_types::time::{Mono, Now};
use mizzen_types::vip::VipKey;
use recent::{Minutes, Recent};
use serde_json::{Value, json};
use sight::{Seen, Sight};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How often silent flows are looked for.
const EXPIRY: Duration = Duration::from_secs(60);
/// Pieces of an answer that wait for their reader.
const PIECES: usize = 4;

/// What the balancer's views remember.
#[derive(Debug, Default)]
pub(crate) struct VipViews {
    recent: Recent,
    expire_at: Mono,
    /// Whether there was a service when silent flows were last looked for.
    had_vips: bool,
    /// When it is looked for ejected backends.
    look_at: Mono,
    ejected: Ejected,
}

impl VipViews {
    /// When [`VipPart::attend`] is to be called.
    pub(crate) fn deadline(&self) -> Mono {
        self.expire_at.min(self.look_at).min(self.recent.deadline())
    }
}

impl VipPart {
    /// Does what is to be done from time to time: notes latencies, ends silent flows.
    pub(crate) fn attend(&mut self, now: Now) {
        if self.views.expire_at <= now.mono {
            self.views.expire_at = now.mono + EXPIRY;
            let has_vips = self.planner.keys().next().is_some();
            // Flows of the last service outlive it by their time-out.
            if (has_vips || self.views.had_vips)
                && let Err(error) = self.balancer.expire_flows()
            {
                tracing::warn!(error = chain(&error), "cannot look for flows that fell silent");
            }
            self.views.had_vips = has_vips;
        }
        if self.views.look_at <= now.mono {
            let has_vips = self.planner.keys().next().is_some();
            self.views.look_at = now.mono + if has_vips { LOOK } else { EXPIRY };
            self.note_ejections();
        }
        if self.views.recent.deadline() <= now.mono {
            self.note_latencies(now.mono);
        }
    }

    /// Everything that is planned and counted, now.
    fn look(&mut self, problems: &mut Problems) -> Sight {
        let now = clock::now();
        self.views.recent.ask(now.mono);
        let vips = &self.balancer;
        let read = |key: &VipKey| {
            vips.standing(key).unwrap_or_else(|error| {
                problems.report("vip", chain(&error));
                None
            })
        };
        Sight::new(self.planner.specs(), read, vips.tuning())
    }

    /// The same with the latencies of the last minute.
    fn look_at_minutes(&mut self, problems: &mut Problems) -> (Sight, Minutes) {
        let sight = self.look(problems);
        let (now, vips) = (clock::now().mono, &self.balancer);
        let read = |key: &VipKey| handshakes(vips, key);
        let minutes = self.views.recent.minutes(sight.vips.iter(), now, read);
        (sight, minutes)
    }

    fn note_latencies(&mut self, now: Mono) {
        let vips = &self.balancer;
        let established = |key: VipKey| {
            let standing = vips.standing(&key).ok()??;
            Some((key, standing.backends.iter().map(|(_, counts)| counts.established).sum()))
        };
        let read = |key: &VipKey| handshakes(vips, key);
        self.views.recent.note(now, self.planner.keys().filter_map(established), read);
    }
}

impl Core {
    /// How to answer a question about VIPs; any other is given back. Everything is read at once, and
    /// written by a thread of its own.
    pub(crate) fn view_vips(&mut self, query: Query) -> Result<Lookup, Query> {
        let is_off = !self.config.has(Role::Vip);
        Ok(match query {
            Query::VipTable { .. } | Query::Explain(_) if is_off => Box::new(|| role_is_off("vip")),
            Query::VipTable { filter } => {
                let (sight, minutes) = self.vips.look_at_minutes(&mut self.problems);
                Box::new(move || written(table::rows(&sight, filter.as_deref(), &minutes)))
            }
            Query::Explain(Explained::Vip(text)) => {
                let (sight, engine) =
                    (self.vips.look(&mut self.problems), self.vips.balancer.engine());
                Box::new(move || explain_vip(&text, &sight, engine))
            }
            Query::Explain(Explained::Connection(text)) => {
                let (sight, engine) =
                    (self.vips.look(&mut self.problems), self.vips.balancer.engine());
                let sockets = self.vips.balancer.sockets();
                Box::new(move || explain_connection(&text, &sight, sockets, engine))
            }
            Query::MinutemanVips => {
                let (sight, minutes) = self.vips.look_at_minutes(&mut self.problems);
                Box::new(move || written(minuteman::vips(&sight, &minutes)))
            }
            Query::MinutemanVip(at) => {
                let (sight, minutes) = self.vips.look_at_minutes(&mut self.problems);
                Box::new(move || minuteman_vip(&at, &sight, &minutes))
            }
            Query::MinutemanBackend(at) => {
                let (sight, minutes) = self.vips.look_at_minutes(&mut self.problems);
                Box::new(move || minuteman_backend(&at, &sight, &minutes))
            }
            Query::MinutemanMetrics => {
                let (sight, minutes) = self.vips.look_at_minutes(&mut self.problems);
                Box::new(move || QueryReply::Json(minuteman::metrics(&sight, &minutes)))
            }
            Query::Vips => {
                let specs = self.vips.planner.specs();
                Box::new(move || written(dcos::vips(&specs)))
            }
            other => return Err(other),
        })
    }

    /// `GET /v1/metrics`. It is written by a thread of its own, as fast as it is read.
    pub(crate) fn serve_metrics(
        &mut self,
        encoding: MetricsEncoding,
        reply: oneshot::Sender<MetricsReply>,
    ) {
        let sight = self.vips.look(&mut self.problems);
        let read = |seen: &Seen| match metrics::has_latencies(seen) {
            true => self.vips.balancer.latencies(&seen.spec.key).unwrap_or_default(),
            false => BTreeMap::new(),
        };
        let histograms = sight.vips.iter().map(read).collect();
        let exposed = Exposed { sight, histograms, singles: self.singles() };
        let (names, members) = (self.look_at_names(), self.look_at_members());
        let policy = self.look_at_policy();
        let overlays = self.config.has(Role::Overlay).then(|| self.look_at_overlays());
        let calls = self.overlay.calls.clone();
        let (sender, pieces) = mpsc::channel(PIECES);
        if reply.send(pieces).is_err() {
            return;
        }
        drop(tokio::task::spawn_blocking(move || {
            let mut put = |piece: Vec<u8>| sender.blocking_send(piece.into()).map_err(|_| Gone);
            // A scraper that went away needs no more.
            let mut writer = Writer::new(encoding, &mut put);
            let _ = exposed
                .write(&mut writer)
                .and_then(|()| names.iter().try_for_each(|names| names.write(&mut writer)))
                .and_then(|()| members.iter().try_for_each(|members| members.write(&mut writer)))
                .and_then(|()| policy.iter().try_for_each(|policy| policy.write(&mut writer)))
                .and_then(|()| overlays.iter().try_for_each(|all| all.write(&mut writer)))
                .and_then(|()| calls.write(&mut writer));
        }));
    }

    /// What other parts count.
    fn singles(&self) -> Vec<metrics::Single> {
        let tasks = self.agent.as_ref().map_or(0, mizzen_agent::Agent::live_tasks);
        let uptime = clock::now().mono.since(self.started.mono).as_secs();
        vec![
            single("mizzen_agent_tasks", "Tasks that have not ended.", tasks as u64),
            single("mizzen_node_uptime_seconds", "Time since the daemon started.", uptime),
            single(
                "mizzen_node_problems",
                "What is wrong with the node, as `mizzen status` lists it.",
                self.health.count() as u64,
            ),
            total(
                "mizzen_vip_sockets_ended_total",
                "Sockets and flows ended because their backend had left its VIP.",
                self.vips.leaving.ended,
            ),
        ]
        .into_iter()
        .chain(self.overlay_singles())
        .chain(self.fast_path_singles())
        .collect()
    }

    /// What passed by bridges and routes.
    fn fast_path_singles(&self) -> [metrics::Single; 4] {
        let meter = self.overlay.fast_path.meter.as_ref();
        let counts = meter.and_then(|meter| meter.counts().ok()).unwrap_or_default();
        [
            total(
                "mizzen_overlay_fast_sent_packets_total",
                "Packets that containers sent straight into a tunnel.",
                counts.sent,
            ),
            total(
                "mizzen_overlay_fast_delivered_packets_total",
                "Packets that came out of a tunnel straight into a container.",
                counts.delivered,
            ),
            total(
                "mizzen_overlay_fast_beside_packets_total",
                "Packets that containers sent straight into one at the same bridge.",
                counts.beside,
            ),
            total(
                "mizzen_overlay_fast_left_packets_total",
                "Packets left to the ordinary path for their size or age.",
                counts.left,
            ),
        ]
    }
}

/// `GET /vip/<ip:port>`.
fn minuteman_vip(text: &str, sight: &Sight, minutes: &Minutes) -> QueryReply {
    let Ok(asked) = text.parse::<SocketAddr>() else {
        return QueryReply::Json(json!({ "error": "invalid_vip" }));
    };
    let found = sight.vips.iter().filter(|seen| seen.socket() == asked);
    let found: serde_json::Map<_, _> =
        found.flat_map(|seen| minuteman::vip(seen, &sight.tuning, minutes)).collect();
    QueryReply::Json(match found.is_empty() {
        true => json!({ "error": "no_backends" }),
        false => Value::Object(found),
    })
}

/// `GET /backend/<ip:port>`.
fn minuteman_backend(text: &str, sight: &Sight, minutes: &Minutes) -> QueryReply {
    let asked = text.parse::<SocketAddr>().ok();
    let found = sight.vips.iter().find_map(|seen| {
        let (spec, counts) = seen.backends().find(|(spec, _)| Some(spec.address) == asked)?;
        Some(minuteman::one(seen, spec, counts, &sight.tuning, minutes))
    });
    QueryReply::Json(found.unwrap_or_else(|| json!({ "error": "invalid_backend" })))
}

fn explain_vip(text: &str, sight: &Sight, engine: EngineKind) -> QueryReply {
    let end: End = match text.parse() {
        Ok(end) => end,
        Err(error) => return QueryReply::Bad(error.to_string()),
    };
    let found = sight.vips.iter().filter(|seen| end.is_vip(seen));
    let vips: Vec<Value> = found.map(|seen| explain::vip(seen, sight)).collect();
    match vips.is_empty() {
        true => QueryReply::NotFound(words::nothing_there(&end, sight)),
        false => QueryReply::Json(json!({ "engine": engine.word(), "vips": vips })),
    }
}

fn explain_connection(
    text: &str,
    sight: &Sight,
    mut sockets: Vec<Socket>,
    engine: EngineKind,
) -> QueryReply {
    let pair: Pair = match text.parse() {
        Ok(pair) => pair,
        Err(error) => return QueryReply::Bad(error.to_string()),
    };
    let to = pair.to.socket();
    let leads = |socket: &Socket| {
        to.is_some_and(|to| to == socket.backend || to == socket.vip.socket)
            || explain::find(sight, socket).is_some_and(|seen| pair.to.is_vip(seen))
    };
    let unnamed = |socket: &&mut Socket| socket.local.is_none() && socket.is_open && leads(socket);
    let backends = sockets.iter_mut().filter(unnamed).map(|socket| socket.backend).collect();
    let clients = udp_clients(&backends);
    for socket in sockets.iter_mut().filter(unnamed) {
        socket.local = clients.get(&socket.cookie).copied();
    }
    // Addresses may be used again, and in several network namespaces at once.
    let is_meant = |socket: &&Socket| socket.local == Some(pair.from) && leads(socket);
    let found = sockets.iter().filter(is_meant).min_by_key(|socket| (!socket.is_open, socket.age));
    let Some(socket) = found else {
        return QueryReply::NotFound(words::unknown(&pair, sight, &sockets, engine));
    };
    let vips = explain::find(sight, socket).map(|seen| explain::vip(seen, sight));
    QueryReply::Json(json!({
        "engine": engine.word(),
        "connection": explain::connection(socket, sight),
        "vips": vips.into_iter().collect::<Vec<_>>(),
    }))
}

/// Histograms of handshakes of one service; nothing if they cannot be read.
fn handshakes(vips: &Vips, key: &VipKey) -> BTreeMap<SocketAddr, Latencies> {
    let found = vips.latencies(key).unwrap_or_default().into_iter();
    found.map(|(backend, (handshakes, _))| (backend, handshakes)).collect()
}

/// A document that is written already.
fn written(json: String) -> QueryReply {
    QueryReply::Text("application/json", json)
}

/// Texts with commas between them.
fn joined(texts: impl Iterator<Item = String>) -> String {
    let mut all = String::new();
    for text in texts {
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(&text);
    }
    all
}
