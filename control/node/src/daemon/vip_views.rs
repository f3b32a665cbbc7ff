//! The balancer as people and old tools see it.

use super::core::Core;
use mizzen_http::core::QueryReply;
use mizzen_kernel::vips::BackendCounts;
use mizzen_types::vip::{BackendSpec, VipKey, VipSpec};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Suffix of the names of VIPs.
const L4LB: &str = "l4lb.thisdcos.directory";

impl Core {
    /// Rows of `mizzen vips`.
    pub(crate) fn vip_table(&mut self) -> Value {
        let (specs, counts) = self.vips_with_counts();
        let row = |spec: &VipSpec| {
            let backend = |backend: &BackendSpec| {
                let counts = counts.get(&(spec.key, backend.address)).copied().unwrap_or_default();
                json!({
                    "address": backend.address,
                    "task": backend.task.as_ref().map(|(_, task)| task),
                    "admitted": backend.admitted,
                    "weight": backend.weight,
                    "pending": pending(&counts),
                    "open": counts.established.saturating_sub(counts.closed),
                    "successes": counts.established,
                    "failures": counts.failed,
                })
            };
            json!({
                "vip": SocketAddr::new(spec.key.address, spec.key.port),
                "protocol": spec.key.protocol,
                "name": spec.name.as_ref().map(|name| format!("{name}.{L4LB}")),
                "backends": spec.backends.iter().map(backend).collect::<Value>(),
            })
        };
        specs.values().map(row).collect()
    }

    /// `GET /v1/vips`, as dcos-net answered it: no weight, no health.
    pub(crate) fn dcos_vips(&self) -> Value {
        let row = |spec: &VipSpec| {
            let vip = match &spec.name {
                Some(name) => format!("{name}.{L4LB}:{}", spec.key.port),
                None => SocketAddr::new(spec.key.address, spec.key.port).to_string(),
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
        let (specs, counts) = self.vips_with_counts();
        let vips: Map<String, Value> = specs
            .values()
            .map(|spec| {
                let vip = SocketAddr::new(spec.key.address, spec.key.port).to_string();
                (vip, minuteman_backends(spec, &counts))
            })
            .collect();
        json!({ "vips": vips })
    }

    /// `GET /vip/<ip:port>`.
    pub(crate) fn minuteman_vip(&mut self, text: &str) -> QueryReply {
        let Ok(asked) = text.parse::<SocketAddr>() else {
            return QueryReply::Json(json!({ "error": "invalid_vip" }));
        };
        let (specs, counts) = self.vips_with_counts();
        let found = specs.values().find(|spec| socket(&spec.key) == asked);
        QueryReply::Json(match found {
            Some(spec) if !spec.backends.is_empty() => minuteman_backends(spec, &counts),
            _ => json!({ "error": "no_backends" }),
        })
    }

    /// `GET /backend/<ip:port>`.
    pub(crate) fn minuteman_backend(&mut self, text: &str) -> QueryReply {
        let Ok(asked) = text.parse::<SocketAddr>() else {
            return QueryReply::Json(json!({ "error": "invalid_backend" }));
        };
        let (specs, counts) = self.vips_with_counts();
        let found = specs.values().find_map(|spec| {
            let backend = spec.backends.iter().find(|backend| backend.address == asked)?;
            Some(minuteman_backend(spec, backend, &counts))
        });
        QueryReply::Json(found.unwrap_or_else(|| json!({ "error": "invalid_backend" })))
    }

    /// `GET /metrics` of Minuteman: a flat map of counters.
    pub(crate) fn minuteman_metrics(&mut self) -> Value {
        let (_, counts) = self.vips_with_counts();
        let sum =
            |of: fn(&mizzen_kernel::vips::Counts) -> u64| counts.values().map(of).sum::<u64>();
        json!({
            "mm_connect_successes_counter": { "count": sum(|c| c.established), "type": "counter" },
            "mm_connect_failures_counter": { "count": sum(|c| c.failed), "type": "counter" },
        })
    }

    /// Series of the balancer in Prometheus' text form.
    pub(crate) fn vip_series(&mut self) -> String {
        let (specs, counts) = self.vips_with_counts();
        let mut text = String::new();
        for (name, help, of) in SERIES {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n"));
            for spec in specs.values() {
                for backend in &spec.backends {
                    let counts =
                        counts.get(&(spec.key, backend.address)).copied().unwrap_or_default();
                    let (vip, protocol) = (socket(&spec.key), spec.key.protocol);
                    let (backend, value) = (backend.address, of(&counts));
                    text.push_str(&format!(
                        "{name}{{vip=\"{vip}\",protocol=\"{protocol}\",backend=\"{backend}\"}} {value}\n"
                    ));
                }
            }
        }
        text
    }

    fn vips_with_counts(&mut self) -> (BTreeMap<VipKey, VipSpec>, BackendCounts) {
        let counts = match self.vips.counts() {
            Ok(counts) => counts,
            Err(error) => {
                self.problems.report("vip", super::saves::chain(&error));
                BackendCounts::new()
            }
        };
        (self.planner.specs(), counts)
    }
}

type Series = (&'static str, &'static str, fn(&mizzen_kernel::vips::Counts) -> u64);

const SERIES: [Series; 4] = [
    ("mizzen_vip_chosen_total", "Times a backend was chosen for a connection.", |c| c.chosen),
    ("mizzen_vip_established_total", "Handshakes that completed.", |c| c.established),
    ("mizzen_vip_failed_total", "Handshakes that did not complete.", |c| c.failed),
    ("mizzen_vip_closed_total", "Established connections that ended.", |c| c.closed),
];

fn minuteman_backends(spec: &VipSpec, counts: &BackendCounts) -> Value {
    let entry = |backend: &BackendSpec| {
        (backend.address.to_string(), minuteman_backend(spec, backend, counts))
    };
    Value::Object(spec.backends.iter().map(entry).collect())
}

fn minuteman_backend(spec: &VipSpec, backend: &BackendSpec, counts: &BackendCounts) -> Value {
    let counts = counts.get(&(spec.key, backend.address)).copied().unwrap_or_default();
    json!({
        "pending_connections": pending(&counts),
        "total_failures": counts.failed,
        // Spelt as clients know it.
        "total_sucesses": counts.established,
        "is_healthy": backend.admitted,
        "latency_last_60s": {},
    })
}

/// Handshakes under way.
fn pending(counts: &mizzen_kernel::vips::Counts) -> u64 {
    counts.started.saturating_sub(counts.established).saturating_sub(counts.failed)
}

fn socket(vip: &VipKey) -> SocketAddr {
    SocketAddr::new(vip.address, vip.port)
}
