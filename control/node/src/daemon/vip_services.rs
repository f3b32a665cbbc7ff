//! Services registered by hand: kept in the store, said in the owner log, and from there
//! on like those of tasks.

use super::clock;
use super::core::Core;
use super::facts::Speaker;
use super::replies::{Answer, Refusal, bad, empty, json, only, refuse};
use super::saves::{Saves, saved, written};
use crate::config::Role;
use mizzen_http::core::{ServicesReply, ServicesRequest};
use mizzen_http::server::Address;
use mizzen_plan::vip::LabelError;
use mizzen_plan::vip_service::{Shown, VIP_ZONE, read_body, show};
use mizzen_types::error::chain;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::record;
use mizzen_types::time::{Mono, Now};
use mizzen_types::vip::{Protocol, VipKey};
use mizzen_types::vip_service::{VipServiceFact, VipServiceId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use tracing::info;

/// Where services begin, in the store and on the node's port.
const PREFIX: &str = "vip-service/";
const COLLECTION: &str = "/v1/vip-services";
const PLAN: &str = "/v1/vip-plan";
/// Format of a record.
const FORMAT: u16 = 1;
/// The part's name in problems.
const RECORDS: &str = "vip services' records";
/// Those that cannot be read, in problems.
const UNREADABLE: &str = "vip services that are lost";

/// What was registered on this node.
#[derive(Debug)]
pub(crate) struct Registered {
    services: BTreeMap<VipServiceId, VipServiceFact>,
    saves: Saves,
}

impl Default for Registered {
    fn default() -> Self {
        Self { services: BTreeMap::new(), saves: Saves::new(PREFIX) }
    }
}

impl Registered {
    /// When to try again what the disk refused.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.saves.deadline()
    }
}

impl Core {
    /// Takes up what was registered on a former process.
    pub(crate) fn adopt_services(&mut self) -> anyhow::Result<()> {
        let mut lost = Vec::new();
        for (id, value) in saved(&self.store, PREFIX)? {
            let wrong = match (id.parse::<VipServiceId>(), record::read(FORMAT, &value)) {
                (Ok(id), Ok(service)) => {
                    self.register(id, service);
                    continue;
                }
                (Err(error), _) => chain(&error),
                (_, Err(error)) => chain(&error),
            };
            lost.push(format!("service {id} is not served: {wrong}"));
        }
        self.problems.report_all(UNREADABLE, &lost);
        Ok(())
    }

    /// Keeps VIPs away from where this node itself listens.
    pub(crate) fn guard_listeners(&mut self) {
        let changed = self.vips.planner.set_listeners(self.own_listeners());
        self.vips.look_at(changed);
    }

    fn own_listeners(&self) -> BTreeSet<VipKey> {
        use Protocol::{Tcp, Udp};
        let tcp = self.listeners.iter().filter_map(|(_, address)| match address {
            Address::Tcp(at) => Some((*at, Tcp)),
            Address::Unix(_) => None,
        });
        let both = self.resolver.addresses.iter().copied().chain(self.config.cluster.listen);
        let both = both.flat_map(|at| [(at, Tcp), (at, Udp)]);
        // One that listens on all addresses is asked at the node's.
        let key = |(at, protocol): (SocketAddr, Protocol)| VipKey {
            address: match at.ip().is_unspecified() {
                true => self.config.address,
                false => at.ip().to_canonical(),
            },
            port: at.port(),
            protocol,
        };
        tcp.chain(both).map(key).collect()
    }

    /// A request about services that are registered by hand.
    pub(crate) fn vip_services_request(&mut self, request: &ServicesRequest) -> ServicesReply {
        self.route_vip_services(request).unwrap_or_else(Refusal::reply)
    }

    /// Tries again what the disk refused.
    pub(crate) fn flush_registered(&mut self, now: Now) {
        if self.vips.registered.saves.is_stalled(now.mono) {
            return;
        }
        match self.vips.registered.saves.flush(&self.store, now.mono) {
            Ok(()) => self.problems.solve(RECORDS),
            Err(error) => self.problems.report(RECORDS, chain(&error)),
        }
    }

    fn route_vip_services(&mut self, request: &ServicesRequest) -> Answer {
        if !self.config.has(Role::Vip) {
            return Err(refuse(404, "this node does not have the role `vip`"));
        }
        let method = request.method.as_str();
        let path = request.path.trim_end_matches('/');
        if path == PLAN {
            only(method, "POST")?;
            return self.vip_plan(&request.body).map(|plan| json(200, &plan)).map_err(bad);
        }
        let Some(text) = path.strip_prefix(COLLECTION).map(|rest| rest.trim_start_matches('/'))
        else {
            return Err(refuse(404, format!("There is nothing at {path}")));
        };
        if text.is_empty() {
            only(method, "GET, HEAD")?;
            let services = self.vips.registered.services.iter();
            let problems = self.vips.planner.service_problems();
            let all: Vec<_> = services.map(|(id, fact)| self.shown(id, fact, &problems)).collect();
            return Ok(json(200, &all));
        }
        let id: VipServiceId = text.parse().map_err(bad)?;
        match method {
            "GET" | "HEAD" => {
                let fact = self.vips.registered.services.get(&id).ok_or_else(|| missing(&id))?;
                Ok(json(200, &self.shown(&id, fact, &self.vips.planner.service_problems())))
            }
            "PUT" => self.put_service(&id, &request.body),
            "DELETE" => self.delete_service(&id),
            other => only(other, "GET, HEAD, PUT, DELETE").map(|()| empty(204)),
        }
    }

    fn put_service(&mut self, id: &VipServiceId, body: &[u8]) -> Answer {
        let fact = read_body(id, body).map_err(bad)?;
        for vip in self.vips.planner.vips_meant(id) {
            if self.vips.planner.is_own(&vip) {
                return Err(bad(LabelError::Own { vip }));
            }
            let itself = SocketAddr::new(vip.address, vip.port);
            if fact.backends.iter().any(|backend| backend.address == itself) {
                return Err(bad(format!("backend {itself} is the VIP itself")));
            }
        }
        let former = self.vips.registered.services.get(id).cloned();
        let status = if former.is_some() { 200 } else { 201 };
        if former.as_ref() != Some(&fact) {
            self.keep(id, Some(&fact), former.as_ref())?;
            info!(service = %id, backends = fact.backends.len(), "registered");
            self.register(id.clone(), fact.clone());
            self.settle();
        }
        Ok(json(status, &self.shown(id, &fact, &self.vips.planner.service_problems())))
    }

    fn delete_service(&mut self, id: &VipServiceId) -> Answer {
        let former = self.vips.registered.services.get(id).cloned().ok_or_else(|| missing(id))?;
        self.keep(id, None, Some(&former))?;
        info!(service = %id, "no longer registered");
        self.vips.registered.services.remove(id);
        self.say(Speaker::Node, Key::VipService(id.clone()), None);
        self.settle();
        Ok(empty(204))
    }

    fn register(&mut self, id: VipServiceId, fact: VipServiceFact) {
        self.vips.registered.services.insert(id.clone(), fact.clone());
        self.say(Speaker::Node, Key::VipService(id), Some(Fact::VipService(fact)));
    }

    /// Writes a service down, or removes its record; returns once that is on the disk.
    /// If the disk refuses it may have taken it all the same, so what was there before is
    /// written again as soon as it takes anything.
    fn keep(
        &mut self,
        id: &VipServiceId,
        after: Option<&VipServiceFact>,
        before: Option<&VipServiceFact>,
    ) -> Result<(), Refusal> {
        let now = clock::now();
        let key = id.to_string();
        let (after, before) = (written(FORMAT, after)?, written(FORMAT, before)?);
        self.vips.registered.saves.push(&key, after);
        let Err(error) = self.vips.registered.saves.flush(&self.store, now.mono) else {
            self.problems.solve(RECORDS);
            return Ok(());
        };
        self.vips.registered.saves.push(&key, before);
        let words = chain(&error);
        let refusal = refuse(503, format!("the change cannot be written down: {words}"));
        self.problems.report(RECORDS, words);
        Err(refusal)
    }

    fn shown<'a>(
        &self,
        id: &VipServiceId,
        fact: &'a VipServiceFact,
        problems: &BTreeMap<VipServiceId, Vec<LabelError>>,
    ) -> Shown<'a> {
        let unnamed = id.name().filter(|_| !self.config.has(Role::Dns)).map(|name| {
            format!("this node does not have the role `dns` and answers no {name}.{VIP_ZONE}")
        });
        let problems = problems.get(id).into_iter().flatten().map(ToString::to_string);
        let mut shown = show(id, fact, &self.vips.planner.vips_of(id));
        shown.notes = unnamed.into_iter().chain(problems).collect();
        shown
    }
}

fn missing(id: &VipServiceId) -> Refusal {
    refuse(404, format!("no service {id} is registered on this node"))
}
