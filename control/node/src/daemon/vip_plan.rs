//! `mizzen vips --plan`: what running a definition, or registering services, would change
//! about VIPs and names. Nothing is changed.
//!
//! The change is put as facts to a copy of the planner. Of a task that does not run yet
//! nobody knows the address: it stands in the copy with one of 0.0.0.0/8, which no task
//! ever has, and is shown without.

use super::clock;
use super::core::Core;
use super::vip_part::VipPart;
use mizzen_api::v1;
use mizzen_plan::vip::{NameChange, Preview, Problem, Source, VipChange};
use mizzen_plan::vip_service::{VIP_ZONE, read};
use mizzen_services::Preview as AppPreview;
use mizzen_services::app::NetworkMode;
use mizzen_types::fact::{Fact, Health, Key, PortFact, Reach, TaskFact, TaskPhase};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Wall;
use mizzen_types::vip::{BackendSpec, VipPolicy, VipSpec};
use mizzen_types::vip_service::VipServiceId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Most problems that are shown at a time.
const MAX_PROBLEMS: usize = 100;

type Said = (OwnerId, Key, Option<Fact>);

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// No JSON.
    #[error("the file is not JSON: {0}")]
    Json(serde_json::Error),
    /// JSON of another form.
    #[error("the file has neither apps (`id`) nor VIP services (`service`), or both")]
    Neither,
    /// A service that could not be registered.
    #[error("VIP service {service}: {words}")]
    Service {
        /// Which one.
        service: String,
        /// What is wrong.
        words: String,
    },
    /// An app that could not be run.
    #[error("{0}")]
    App(String),
}

impl VipPart {
    /// `GET /v1/vip-problems`: labels that do not do what they say.
    pub(crate) fn problems(&self) -> Value {
        let problems = self.planner.problems();
        let row = |problem: &Problem| {
            let task = problem.source.task();
            let service = match problem.source.as_ref() {
                Source::Service { service, .. } => Some(service.to_string()),
                Source::Task { .. } => None,
            };
            json!({
                "task": task.map(|task| &task.1),
                "framework": task.map(|task| &task.0),
                "service": service,
                "vip": problem.vip.map(|vip| vip.to_string()),
                "label": problem.error.label(),
                "problem": problem.error.to_string(),
            })
        };
        problems.iter().take(MAX_PROBLEMS).map(row).collect()
    }

    /// How many labels do not do what they say, in one sentence with the first of them.
    pub(crate) fn problem(&self) -> Option<String> {
        let problems = self.planner.problems();
        let first = problems.first()?;
        Some(match problems.len() {
            1 => format!("vip labels: {}: {}", first.source, first.error),
            n => format!(
                "vip labels: {n} problems (`mizzen vips --problems`), such as {}: {}",
                first.source, first.error
            ),
        })
    }
}

impl Core {
    /// What `body` would change.
    pub(crate) fn vip_plan(&self, body: &[u8]) -> Result<Value, PlanError> {
        let file: Value = serde_json::from_slice(body).map_err(PlanError::Json)?;
        let all = match &file {
            Value::Array(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        let have = |member: &str| all.iter().all(|entry| entry.get(member).is_some());
        let facts = match (have("service"), have("id")) {
            (true, false) => self.services_said(all)?,
            (false, true) => self.apps_said(&file)?,
            _ => return Err(PlanError::Neither),
        };
        Ok(show(&self.vips.planner.preview(&facts)))
    }

    fn services_said(&self, all: &[Value]) -> Result<Vec<Said>, PlanError> {
        let owner = self.node_log.owner();
        let said = |entry: &Value| {
            let text = entry["service"].as_str().unwrap_or_default();
            let wrong = |words: String| PlanError::Service { service: text.to_owned(), words };
            let id: VipServiceId = text.parse().map_err(|error| wrong(format!("{error}")))?;
            let fact = read(&id, entry).map_err(|error| wrong(error.to_string()))?;
            Ok((owner.clone(), Key::VipService(id), Some(Fact::VipService(fact))))
        };
        all.iter().map(said).collect()
    }

    fn apps_said(&self, file: &Value) -> Result<Vec<Said>, PlanError> {
        let Some(services) = &self.services else {
            return Err(PlanError::App("this node does not have the role `services`".to_owned()));
        };
        let refused = |refusal: mizzen_services::problem::Refusal| {
            PlanError::App(format!("{refusal}: {}", refusal.body()["details"]))
        };
        let previews = services.preview(file, clock::now()).map_err(refused)?;
        let ends: BTreeSet<&str> =
            previews.iter().flat_map(|preview| &preview.ends).map(String::as_str).collect();
        let owner = self.node_log.owner();
        let ending = self.view.facts().filter(|(_, key, _)| match key {
            Key::Task(_, task) => ends.contains(task.as_str()),
            _ => false,
        });
        let mut said: Vec<Said> =
            ending.map(|(owner, key, _)| (owner.clone(), key.clone(), None)).collect();
        let mut place = 0;
        for preview in &previews {
            for number in 1..=preview.starts {
                place += 1;
                let fact = self.task_to_be(preview, number, placeholder(place));
                let key = Key::Task(fact.framework_id.clone(), fact.task_id.clone());
                said.push((owner.clone(), key, Some(Fact::Task(Box::new(fact)))));
            }
        }
        Ok(said)
    }

    fn task_to_be(&self, preview: &AppPreview, number: u32, address: IpAddr) -> TaskFact {
        let in_container = preview.network != NetworkMode::Host;
        let ports = preview.discovery.ports.iter().flat_map(|ports| &ports.ports);
        TaskFact {
            task_id: format!("{} (new {number})", preview.app).into(),
            framework_id: "".into(),
            framework_name: self.config.services.framework_name.clone(),
            agent_id: "".into(),
            container_id: "".into(),
            name: preview.app.to_string(),
            discovery_name: None,
            phase: TaskPhase::Running,
            health: Health::Unchecked,
            host_address: address,
            container_addresses: if in_container { vec![address] } else { Vec::new() },
            container_reach: match preview.network {
                NetworkMode::Bridge => Reach::Node,
                NetworkMode::Container | NetworkMode::Host => Reach::Cluster,
            },
            host_ports: preview.host_ports.clone(),
            ports: ports.map(|port| port_to_be(port, in_container)).collect(),
            labels: preview.labels.clone(),
            launched: Wall(0),
        }
    }
}

fn port_to_be(port: &v1::Port, in_container: bool) -> PortFact {
    let number = u16::try_from(port.number).unwrap_or(0);
    let labels = port.labels.iter().flat_map(|labels| &labels.labels);
    let label = |label: &v1::Label| (label.key.clone(), label.value.clone().unwrap_or_default());
    let labels: BTreeMap<String, String> = labels.map(label).collect();
    let on_host = labels.get("network-scope").is_some_and(|scope| scope == "host");
    PortFact {
        number,
        host_port: (on_host || !in_container).then_some(number),
        name: port.name.clone(),
        protocol: port.protocol().to_owned(),
        labels,
    }
}

/// The address of a task that has none yet.
fn placeholder(number: u32) -> IpAddr {
    Ipv4Addr::from(number & 0x00ff_ffff).into()
}

fn is_placeholder(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(address) if address.octets()[0] == 0)
}

fn show(preview: &Preview) -> Value {
    let name = |change: &NameChange| {
        json!({
            "name": format!("{}.{VIP_ZONE}", change.name),
            "before": change.before,
            "after": change.after,
        })
    };
    let problems = preview.problems.iter().take(MAX_PROBLEMS);
    let words = problems.map(|problem| format!("{}: {}", problem.source, problem.error));
    json!({
        "vips": preview.changes.iter().map(vip).collect::<Value>(),
        "names": preview.names.iter().map(name).collect::<Value>(),
        "problems": words.collect::<Value>(),
    })
}

fn vip(change: &VipChange) -> Value {
    let backends = |spec: &Option<VipSpec>| -> BTreeMap<SocketAddr, BackendSpec> {
        let all = spec.iter().flat_map(|spec| &spec.backends);
        all.map(|backend| (backend.address, backend.clone())).collect()
    };
    let (before, after) = (backends(&change.before), backends(&change.after));
    let come = after.values().filter(|backend| !before.contains_key(&backend.address));
    let go = before.values().filter(|backend| !after.contains_key(&backend.address));
    let both = after.values().filter_map(|now| Some((before.get(&now.address)?, now)));
    let (differ, stay): (Vec<_>, Vec<_>) =
        both.partition(|(then, now)| shares(then) != shares(now));
    let named = change.after.as_ref().or(change.before.as_ref());
    let policy = |spec: &Option<VipSpec>| spec.as_ref().map(|spec| policy(&spec.policy));
    json!({
        "vip": SocketAddr::new(change.key.address, change.key.port),
        "protocol": change.key.protocol,
        "name": named.and_then(|spec| spec.name.as_ref()).map(|name| format!("{name}.{VIP_ZONE}")),
        "change": match (&change.before, &change.after) {
            (None, _) => "made",
            (_, None) => "removed",
            _ => "changed",
        },
        "come": come.map(backend).collect::<Value>(),
        "go": go.map(backend).collect::<Value>(),
        "differ": differ
            .iter()
            .map(|(then, now)| json!({ "before": backend(then), "after": backend(now) }))
            .collect::<Value>(),
        "stay": stay.len(),
        "policy": { "before": policy(&change.before), "after": policy(&change.after) },
    })
}

fn shares(backend: &BackendSpec) -> (u16, bool) {
    (backend.weight, backend.is_admitted())
}

fn backend(backend: &BackendSpec) -> Value {
    let port = Some(backend.address.port()).filter(|port| *port != 0);
    json!({
        "address": (!is_placeholder(backend.address)).then_some(backend.address),
        "port": port,
        "task": backend.task.as_ref().map(|task| &task.1),
        "weight": backend.weight,
        "admitted": backend.is_admitted(),
    })
}

fn policy(policy: &VipPolicy) -> Value {
    json!({
        "rule": policy.rule.word(),
        "locality": policy.locality.word(),
        "slow_start": policy.slow_start.to_string(),
        "on_removal": policy.on_removal.word(),
    })
}
