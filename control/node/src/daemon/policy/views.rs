//! Policies as people see them: lists, what is counted, what was refused, and why.

use super::drops::Drop;
use crate::daemon::core::Core;
use mizzen_http::core::QueryReply;
use mizzen_kernel::policy::PolicyPlace;
use mizzen_plan::policy::document::show;
use mizzen_plan::policy::explain::{Question, decider, explain, word};
use mizzen_plan::policy::protocol_word;
use mizzen_types::policy::PolicyProtocol;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

impl Core {
    /// `GET /v1/policies`: all of them, what was counted, and whether they are in force.
    pub(super) fn policies_view(&self) -> Value {
        let policies = self.policy.planner.policies().iter();
        let policies: Vec<_> = policies.map(|(id, policy)| show(id, policy)).collect();
        let counts: Vec<Value> = self
            .policy_counts()
            .into_iter()
            .map(|(by, count)| {
                json!({
                    "by": by, "allowed": count.allowed, "refused": count.refused,
                    "would_refuse": count.would_refuse,
                })
            })
            .collect();
        json!({
            "enforced": self.policy.unenforced.is_none(),
            "problem": self.policy.unenforced,
            "policies": policies,
            "counts": counts,
        })
    }

    /// What `mizzen status` says of policies.
    pub(crate) fn policy_status(&self) -> Value {
        let planner = &self.policy.planner;
        json!({
            "policies": planner.policies().len(),
            "enforced": self.policy.unenforced.is_none(),
            "classes": planner.class_count(),
            "rulings": planner.wanted().rulings.len(),
        })
    }

    /// `GET /v1/policy-drops?after=`: what was refused on this node.
    pub(crate) fn policy_drops(&self, after: u64) -> QueryReply {
        let drops = &self.policy.drops;
        let rows: Vec<Value> = drops.after(after).map(|drop| self.drop_row(drop)).collect();
        QueryReply::Json(
            json!({ "drops": rows, "count": drops.count(), "untold": self.untold_refusals() }),
        )
    }

    fn drop_row(&self, drop: &Drop) -> Value {
        let (refusal, planner) = (&drop.refusal, &self.policy.planner);
        let end = |at: SocketAddr| {
            let port = (at.port() > 0).then_some(at.port());
            json!({ "address": at.ip(), "port": port, "task": planner.name_of(at.ip()) })
        };
        let protocol = protocol_word(refusal.protocol).map(PolicyProtocol::word);
        json!({
            "number": drop.number,
            "at": drop.at.as_secs_f64(),
            "from": end(refusal.from),
            "to": end(refusal.to),
            "protocol": protocol.map_or_else(|| refusal.protocol.to_string(), str::to_owned),
            "verdict": word(refusal.verdict),
            "place": place(refusal.place),
            "by": decider(planner, refusal.rule),
        })
    }

    /// `GET /v1/policy-explain?from=&to=`: what becomes of connections between two ends.
    pub(crate) fn explain_policy(&self, from: &str, to: &str) -> QueryReply {
        let asked = || -> Result<Question, String> {
            let (to, ports) = target(to)?;
            let (from, to) = (self.address_called(from)?, self.address_called(to)?);
            match self.backends_behind(to) {
                None => Ok(Question { from, to, ports }),
                Some(backends) => Err(format!(
                    "{to} is the address of a VIP, and policies judge the backend that is chosen; \
                     ask for one of them: {backends}"
                )),
            }
        };
        match asked() {
            Ok(question) => {
                let mut answer = json!(explain(&self.policy.planner, &question));
                answer["enforced"] = self.policy.unenforced.is_none().into();
                QueryReply::Json(answer)
            }
            Err(text) => QueryReply::Bad(text),
        }
    }

    /// Where connections to an address go, in words; none if it is no VIP's.
    fn backends_behind(&self, address: IpAddr) -> Option<String> {
        let planner = &self.vips.planner;
        let of_vip = planner.keys().filter(|vip| vip.address == address);
        let specs: Vec<_> = of_vip.filter_map(|vip| planner.spec(&vip)).collect();
        let backends: BTreeSet<String> = specs
            .iter()
            .flat_map(|spec| spec.backends.iter().map(|backend| backend.address.to_string()))
            .collect();
        let list = Vec::from_iter(backends).join(", ");
        (!specs.is_empty())
            .then(|| if list.is_empty() { "there are none".to_owned() } else { list })
    }

    /// An address, or the first one of whoever is called so.
    fn address_called(&self, text: &str) -> Result<IpAddr, String> {
        let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = literal.unwrap_or(text).parse::<IpAddr>() {
            return Ok(address.to_canonical());
        }
        if text == "host" {
            return Ok(self.config.address);
        }
        let found = self.policy.planner.addresses_called(text);
        found.into_iter().next().ok_or_else(|| {
            format!("`{text}` is neither an address nor `host` nor a task, app or name of a task with an address of its own")
        })
    }
}

fn place(place: PolicyPlace) -> &'static str {
    match place {
        PolicyPlace::Socket => "socket",
        PolicyPlace::Sender => "sender",
        PolicyPlace::Tunnel => "tunnel",
        PolicyPlace::Receiver => "receiver",
    }
}

type Ports = Option<(PolicyProtocol, u16)>;

/// `DST`, `DST:PORT`, `DST:PORT/PROTOCOL`, `DST/icmp`; an IPv6 address with a port is in brackets.
fn target(text: &str) -> Result<(&str, Ports), String> {
    if let Some(host) = text.strip_suffix("/icmp") {
        return Ok((host, Some((PolicyProtocol::Icmp, 0))));
    }
    let (left, protocol) = match text.rsplit_once('/') {
        Some((left, "tcp")) => (left, PolicyProtocol::Tcp),
        Some((left, "udp")) => (left, PolicyProtocol::Udp),
        _ => (text, PolicyProtocol::Tcp),
    };
    let plain = left.parse::<IpAddr>().is_ok();
    match left.rsplit_once(':').filter(|_| !plain) {
        None if left.len() == text.len() => Ok((left, None)),
        None => Err(format!("`{text}` has a protocol and no port")),
        Some((host, port)) => {
            let port: u16 =
                port.parse().map_err(|_| format!("`{port}` is not a port (1 to 65535)"))?;
            Ok((host, Some((protocol, port))))
        }
    }
}
