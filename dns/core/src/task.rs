//! The records of one task: Mesos-DNS' and the dispatcher's.
//!
//! With `t` = the task's label, `fw` = its framework's fragment and `c` = the label of
//! this task alone (see [`canonical_label`]):
//!
//! ```text
//! t.fw.mesos  c.fw.mesos               its address, by the order of the address sources
//! t.fw.slave.mesos  c.fw.slave.mesos   its agent's address
//! _t._tcp.fw.slave.mesos  (_udp)       SRV: its host ports
//! _t._tcp.fw.mesos  (_udp)             SRV: its host ports, or what it announces
//! _port._t._tcp.fw.mesos               SRV: an announced port that has a name
//! t.fw.{agentip,containerip,autoip}.dcos.thisdcos.directory
//! 5.1.0.9.in-addr.arpa                 PTR: c.fw.mesos, of an address of its own
//! vip.fw.l4lb.thisdcos.directory       HTTPS: a VIP of a port that is called `https`
//! ```
//!
//! Mesos-DNS answers a discovery name also as it was written, dots and all (`web.group`
//! beside `web-group`), and configurations have both; so do we, in its zone.

use crate::mangle::{
    LabelRules, canonical_label, canonical_tail, domain_fragment, label, vip_name,
};
use crate::name::DnsName;
use crate::options::{IpSource, Mode, Options};
use crate::record::{Binding, Data, Record, Withheld};
use crate::records::{Area, Draft};
use crate::reserved::is_of_agents;
use crate::reverse::is_held;
use crate::statics::{DCOS_ZONE, VIP_ZONE};
use mizzen_types::fact::{Health, PortFact, TaskFact, TaskPhase};
use mizzen_types::vip::{Distance, VipText};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The name of a port whose VIP speaks HTTPS.
const HTTPS: &str = "https";
/// The port of that scheme.
const HTTPS_PORT: u16 = 443;
/// Most VIPs of one task that are looked at.
const MAX_VIPS: usize = 64;

/// The records of a task, marked if it takes no clients.
pub(crate) fn task_records(task: &TaskFact, options: &Options, distance: Distance) -> Vec<Record> {
    let mut draft = Draft::new(options, distance, withheld(task, options));
    let asked = task.discovery_name.as_deref().unwrap_or(&task.name);
    let own = mesos_records(&mut draft, task, asked);
    let in_container = dcos_records(&mut draft, task, asked);
    https_records(&mut draft, task);
    // The name that leads back to the container's addresses.
    let back = match source(task, &options.ip_sources).kind {
        IpSource::Container => own.or(in_container),
        IpSource::Host => in_container,
    };
    if let Some(name) = back {
        pointers(&mut draft, task, &name, distance);
    }
    draft.records
}

/// What one spelling of a task's names is put together from.
struct Spelling<'a> {
    label: &'a str,
    canonical: &'a str,
    framework: &'a str,
}

/// Where a task's own name leads.
struct Source {
    kind: IpSource,
    addresses: Vec<IpAddr>,
}

fn withheld(task: &TaskFact, options: &Options) -> Option<Withheld> {
    match task.phase {
        TaskPhase::Staging | TaskPhase::Starting => return Some(Withheld::Starting),
        TaskPhase::Killing if !options.serve_killing => return Some(Withheld::Killing),
        TaskPhase::Draining if !options.serve_killing => return Some(Withheld::Draining),
        TaskPhase::Killing | TaskPhase::Draining | TaskPhase::Running => {}
    }
    (task.health == Health::Unhealthy && !options.serve_unhealthy).then_some(Withheld::Unhealthy)
}

fn source(task: &TaskFact, order: &[IpSource]) -> Source {
    let host = Source { kind: IpSource::Host, addresses: vec![task.host_address] };
    for kind in order {
        match kind {
            IpSource::Host => return host,
            IpSource::Container if task.reachable_addresses().is_empty() => {}
            IpSource::Container => {
                return Source { kind: *kind, addresses: task.reachable_addresses().to_vec() };
            }
        }
    }
    // An order that leaves out the host must not hide a task that is on its network.
    host
}

/// The names in the zone of tasks; returns the one that is this task's alone.
fn mesos_records(draft: &mut Draft<'_>, task: &TaskFact, asked: &str) -> Option<DnsName> {
    let rules = draft.options.labels;
    let (framework, mangled) = (domain_fragment(&task.framework_name, rules), label(asked, rules));
    if framework.is_empty() || mangled.is_empty() {
        return None;
    }
    let reserved = is_of_agents(&framework).then_some(Withheld::Reserved);
    let before = reserved.map(|reserved| draft.withhold(Some(reserved)));
    let (id, agent) = (task.task_id.as_str(), task.agent_id.as_str());
    let canonical = canonical_label(&mangled, id, agent);
    let spelling = Spelling { label: &mangled, canonical: &canonical, framework: &framework };
    let own = spelled(draft, task, &spelling);
    if let Some(written) = unmangled(task, &mangled) {
        let canonical = format!("{written}{}", canonical_tail(id, agent));
        spelled(draft, task, &Spelling { label: &written, canonical: &canonical, ..spelling });
    }
    if let Some(before) = before {
        draft.withhold(before);
        return None;
    }
    own
}

/// The discovery name as it was written, if it is another one and a name at all.
fn unmangled(task: &TaskFact, mangled: &str) -> Option<String> {
    let written = DnsName::parse(task.discovery_name.as_deref()?).ok()?;
    let plain = written.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let differs = written.as_str() != mangled && !written.as_str().is_empty();
    (plain && differs).then(|| written.as_str().to_owned())
}

fn spelled(draft: &mut Draft<'_>, task: &TaskFact, spelling: &Spelling<'_>) -> Option<DnsName> {
    let Spelling { label, canonical, framework } = spelling;
    let domain = draft.options.domain.as_str();
    let source = source(task, &draft.options.ip_sources);
    let names = [*label, canonical].map(|first| {
        [
            draft.name(format_args!("{first}.{framework}.{domain}")),
            draft.name(format_args!("{first}.{framework}.slave.{domain}")),
        ]
    });
    for [own, at_agent] in &names {
        draft.addresses(Area::Domain, own.as_ref(), &source.addresses);
        draft.addresses(Area::Domain, at_agent.as_ref(), &[task.host_address]);
    }
    let [_, [own, at_agent]] = names;
    host_services(draft, task, spelling, at_agent.as_ref());
    if task.discovery_name.is_some() {
        for port in &task.ports {
            announced_services(draft, port, spelling, source.kind, own.as_ref());
        }
    }
    own
}

fn host_services(
    draft: &mut Draft<'_>,
    task: &TaskFact,
    spelling: &Spelling<'_>,
    target: Option<&DnsName>,
) {
    let Spelling { label, framework, .. } = spelling;
    let domain = draft.options.domain.as_str();
    let mut names = Vec::new();
    for protocol in ["tcp", "udp"] {
        names.push(draft.name(format_args!("_{label}._{protocol}.{framework}.slave.{domain}")));
        if task.discovery_name.is_none() {
            names.push(draft.name(format_args!("_{label}._{protocol}.{framework}.{domain}")));
        }
    }
    for port in &task.host_ports {
        if !draft.has_room() {
            break;
        }
        for name in &names {
            draft.service(name.as_ref(), *port, target);
        }
    }
}

fn announced_services(
    draft: &mut Draft<'_>,
    port: &PortFact,
    spelling: &Spelling<'_>,
    kind: IpSource,
    target: Option<&DnsName>,
) {
    if !draft.has_room() {
        return;
    }
    let Spelling { label: task, framework, .. } = spelling;
    let (rules, domain) = (draft.options.labels, draft.options.domain.as_str());
    let number = match (kind, draft.options.mode) {
        // The agent's address has to go with the agent's port, which Mesos-DNS did not do.
        (IpSource::Host, Mode::Strict) => port.host_port.unwrap_or(port.number),
        (IpSource::Host, Mode::Legacy) | (IpSource::Container, _) => port.number,
    };
    let port_label = port.name.as_deref().map(|name| label(name, rules)).unwrap_or_default();
    for protocol in protocols(&port.protocol, rules) {
        let name = draft.name(format_args!("_{task}._{protocol}.{framework}.{domain}"));
        draft.service(name.as_ref(), number, target);
        if !port_label.is_empty() {
            let name =
                draft.name(format_args!("_{port_label}._{task}._{protocol}.{framework}.{domain}"));
            draft.service(name.as_ref(), number, target);
        }
    }
}

/// `tcp,udp` means both here; Mesos-DNS made a useless `_tcpudp` of it.
fn protocols(text: &str, rules: LabelRules) -> BTreeSet<String> {
    let named: BTreeSet<String> = text
        .split(',')
        .map(|piece| label(piece, rules))
        .filter(|piece| !piece.is_empty())
        .collect();
    if named.is_empty() { ["tcp", "udp"].map(str::to_owned).into() } else { named }
}

/// The dispatcher's names, which know one way of mangling only; returns that of the
/// container's addresses.
fn dcos_records(draft: &mut Draft<'_>, task: &TaskFact, asked: &str) -> Option<DnsName> {
    let rules = LabelRules::Rfc1123;
    let (framework, label) = (domain_fragment(&task.framework_name, rules), label(asked, rules));
    if framework.is_empty() || label.is_empty() {
        return None;
    }
    let host = [task.host_address];
    let container: &[IpAddr] =
        if task.container_addresses.is_empty() { &host } else { &task.container_addresses };
    let reached_at_host = task.ports.iter().any(|port| port.host_port.is_some());
    let only_at_host = reached_at_host || task.reachable_addresses().is_empty();
    let auto = if only_at_host { &host } else { container };
    let mut add = |kind: &str, addresses: &[IpAddr]| {
        let name = draft.name(format_args!("{label}.{framework}.{kind}.{DCOS_ZONE}"));
        draft.addresses(Area::Directory, name.as_ref(), addresses);
        name
    };
    add("agentip", &host);
    add("autoip", auto);
    add("containerip", container)
}

/// The PTR records of the task's own addresses. An address in a network that is not the
/// cluster's may be somebody else's on every other node (each has a bridge with the same
/// addresses), so it has a name on this node only. An address does not change hands
/// because a health check fails, so nothing but a start holds the name back.
fn pointers(draft: &mut Draft<'_>, task: &TaskFact, name: &DnsName, distance: Distance) {
    let starting = withheld(task, draft.options).filter(|why| *why == Withheld::Starting);
    let before = draft.withhold(starting);
    for address in task.container_addresses.iter().filter(|a| **a != task.host_address) {
        let held = is_held(&draft.options.reverse_networks, address.to_canonical());
        if held || distance == Distance::Node {
            draft.pointer(*address, name);
        }
    }
    draft.withhold(before);
}

/// HTTPS records for the VIPs of ports that say that they speak it: at the VIP's name
/// for 443 or for the only such port, and at `_port._https.` before it for others
/// (RFC 9460, 9.1). They carry no addresses, which are at the same name (7.3 there).
fn https_records(draft: &mut Draft<'_>, task: &TaskFact) {
    for (vip, ports) in https_vips(task) {
        let Some(name) = draft.name(format_args!("{vip}.{VIP_ZONE}")) else { continue };
        let binding = |target, port| {
            let (alpn, ipv4, ipv6) = (Vec::new(), Vec::new(), Vec::new());
            Data::Https(Box::new(Binding { priority: 1, target, alpn, port, ipv4, ipv6 }))
        };
        for port in ports.iter().filter(|port| **port != HTTPS_PORT) {
            if let Some(prefixed) = draft.name(format_args!("_{port}._https.{vip}.{VIP_ZONE}")) {
                draft.add(Area::Directory, &prefixed, binding(name.clone(), Some(*port)));
            }
        }
        match ports.first() {
            _ if ports.contains(&HTTPS_PORT) => {
                draft.add(Area::Directory, &name, binding(DnsName::root(), None));
            }
            Some(port) if ports.len() == 1 => {
                draft.add(Area::Directory, &name, binding(DnsName::root(), Some(*port)));
            }
            _ => {}
        }
    }
}

/// The VIPs' names with their ports that speak HTTPS, a few of them.
fn https_vips(task: &TaskFact) -> BTreeMap<String, BTreeSet<u16>> {
    let mut vips: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    let https = |port: &&PortFact| {
        port.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(HTTPS))
            && protocols(&port.protocol, LabelRules::Rfc1123).contains("tcp")
    };
    let labels = task.ports.iter().filter(https).flat_map(|port| &port.labels);
    for (_, value) in labels.filter(|(key, _)| VipText::is_key(key)).take(MAX_VIPS) {
        let Some((VipText::Name(text), port)) = VipText::read(value) else { continue };
        if let Some(name) = vip_name(text, &task.framework_name) {
            vips.entry(name).or_default().insert(port);
        }
    }
    vips
}

#[cfg(test)]
pub(crate) mod tests;
