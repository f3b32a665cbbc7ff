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
            IpSource::Container if task.container_addresses.is_empty() => {}
            IpSource::Container => {
                return Source { kind: *kind, addresses: task.container_addresses.clone() };
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
    let auto = if reached_at_host { &host } else { container };
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
pub(crate) mod tests {
    use super::*;
    use mizzen_types::time::Wall;
    use std::collections::BTreeMap;

    /// A running task on the host's network with one host port.
    pub(crate) fn task(id: &str, name: &str) -> TaskFact {
        TaskFact {
            task_id: id.into(),
            framework_id: "m-0001".into(),
            framework_name: "marathon".into(),
            agent_id: "m-S3".into(),
            container_id: "c1".into(),
            name: name.into(),
            discovery_name: None,
            phase: TaskPhase::Running,
            health: Health::Unchecked,
            host_address: "10.0.0.2".parse().unwrap(),
            container_addresses: Vec::new(),
            host_ports: vec![31042],
            ports: Vec::new(),
            labels: BTreeMap::new(),
            launched: Wall(0),
        }
    }

    pub(crate) fn port(
        number: u16,
        host_port: Option<u16>,
        name: &str,
        protocol: &str,
    ) -> PortFact {
        let name = (!name.is_empty()).then(|| name.to_owned());
        PortFact { number, host_port, name, protocol: protocol.into(), labels: BTreeMap::new() }
    }

    fn lines(task: &TaskFact, options: &Options, filter: &str) -> Vec<String> {
        let records = task_records(task, options, Distance::Far);
        let mut lines: Vec<String> = records.iter().map(ToString::to_string).collect();
        lines.retain(|line| line.contains(filter));
        lines.sort();
        lines
    }

    #[test]
    fn a_task_on_the_host_has_all_its_old_names() {
        #[rustfmt::skip]
        assert_eq!(lines(&task("web.1", "web"), &Options::default(), ""), [
            "_web._tcp.marathon.mesos. 5 IN SRV 0 1 31042 web-e844k-s3.marathon.slave.mesos.",
            "_web._tcp.marathon.slave.mesos. 5 IN SRV 0 1 31042 web-e844k-s3.marathon.slave.mesos.",
            "_web._udp.marathon.mesos. 5 IN SRV 0 1 31042 web-e844k-s3.marathon.slave.mesos.",
            "_web._udp.marathon.slave.mesos. 5 IN SRV 0 1 31042 web-e844k-s3.marathon.slave.mesos.",
            "web-e844k-s3.marathon.mesos. 5 IN A 10.0.0.2",
            "web-e844k-s3.marathon.slave.mesos. 5 IN A 10.0.0.2",
            "web.marathon.agentip.dcos.thisdcos.directory. 5 IN A 10.0.0.2",
            "web.marathon.autoip.dcos.thisdcos.directory. 5 IN A 10.0.0.2",
            "web.marathon.containerip.dcos.thisdcos.directory. 5 IN A 10.0.0.2",
            "web.marathon.mesos. 5 IN A 10.0.0.2",
            "web.marathon.slave.mesos. 5 IN A 10.0.0.2",
        ]);
    }

    fn discovered() -> TaskFact {
        let mut task = task("web.1", "ignored");
        task.discovery_name = Some("Web.Group".into());
        task.container_addresses = vec!["9.0.1.5".parse().unwrap(), "fd01:b::5".parse().unwrap()];
        task.ports = vec![port(80, Some(31042), "http", "tcp"), port(53, None, "", "tcp,udp")];
        task
    }

    #[test]
    fn discovery_info_decides_names_and_ports() {
        let hash = crate::mangle::task_hash("web.1");
        let (dash, dot) = (format!("web-group-{hash}-s3"), format!("web.group-{hash}-s3"));
        let options = Options::default();
        #[rustfmt::skip]
        assert_eq!(lines(&discovered(), &options, "marathon.mesos. 5 IN SRV"), [
            format!("_http._web-group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dash}.marathon.mesos."),
            format!("_http._web.group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dot}.marathon.mesos."),
            format!("_web-group._tcp.marathon.mesos. 5 IN SRV 0 1 53 {dash}.marathon.mesos."),
            format!("_web-group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dash}.marathon.mesos."),
            format!("_web-group._udp.marathon.mesos. 5 IN SRV 0 1 53 {dash}.marathon.mesos."),
            format!("_web.group._tcp.marathon.mesos. 5 IN SRV 0 1 53 {dot}.marathon.mesos."),
            format!("_web.group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dot}.marathon.mesos."),
            format!("_web.group._udp.marathon.mesos. 5 IN SRV 0 1 53 {dot}.marathon.mesos."),
        ]);
        #[rustfmt::skip]
        assert_eq!(lines(&discovered(), &options, " A"), [
            format!("{dash}.marathon.mesos. 5 IN A 9.0.1.5"),
            format!("{dash}.marathon.mesos. 5 IN AAAA fd01:b::5"),
            format!("{dash}.marathon.slave.mesos. 5 IN A 10.0.0.2"),
            "web-group.marathon.agentip.dcos.thisdcos.directory. 5 IN A 10.0.0.2".into(),
            "web-group.marathon.autoip.dcos.thisdcos.directory. 5 IN A 10.0.0.2".into(),
            "web-group.marathon.containerip.dcos.thisdcos.directory. 5 IN A 9.0.1.5".into(),
            "web-group.marathon.containerip.dcos.thisdcos.directory. 5 IN AAAA fd01:b::5".into(),
            "web-group.marathon.mesos. 5 IN A 9.0.1.5".into(),
            "web-group.marathon.mesos. 5 IN AAAA fd01:b::5".into(),
            "web-group.marathon.slave.mesos. 5 IN A 10.0.0.2".into(),
            format!("{dot}.marathon.mesos. 5 IN A 9.0.1.5"),
            format!("{dot}.marathon.mesos. 5 IN AAAA fd01:b::5"),
            format!("{dot}.marathon.slave.mesos. 5 IN A 10.0.0.2"),
            "web.group.marathon.mesos. 5 IN A 9.0.1.5".into(),
            "web.group.marathon.mesos. 5 IN AAAA fd01:b::5".into(),
            "web.group.marathon.slave.mesos. 5 IN A 10.0.0.2".into(),
        ]);
    }

    #[test]
    fn the_order_of_sources_picks_the_address_and_its_port() {
        use IpSource::{Container, Host};
        let on_host = task("web.1", "web-group");
        type Row = (&'static [IpSource], TaskFact, &'static [&'static str], &'static [u16]);
        #[rustfmt::skip]
        let table: &[Row] = &[
            (&[Container, Host], discovered(), &["9.0.1.5", "fd01:b::5"], &[53, 80]),
            (&[Host, Container], discovered(), &["10.0.0.2"],             &[53, 31042]),
            (&[Container, Host], on_host.clone(), &["10.0.0.2"],          &[31042]),
            (&[Container],       on_host.clone(), &["10.0.0.2"],          &[31042]),
            (&[],                on_host,         &["10.0.0.2"],          &[31042]),
        ];
        for (order, task, addresses, ports) in table {
            let options = Options { ip_sources: order.to_vec(), ..Options::default() };
            let a = lines(task, &options, "web-group.marathon.mesos. 5 IN A");
            let got: Vec<&str> = a.iter().filter_map(|line| line.split(' ').next_back()).collect();
            assert_eq!(got, *addresses, "{order:?}");
            let srv = lines(task, &options, "_web-group._tcp.marathon.mesos. 5 IN SRV");
            let mut got: Vec<u16> = srv
                .iter()
                .filter(|line| line.starts_with("_web-group"))
                .filter_map(|line| line.split(' ').nth(6)?.parse().ok())
                .collect();
            got.sort_unstable();
            assert_eq!(got, *ports, "{order:?}");
        }
    }

    #[test]
    fn what_takes_no_clients_is_marked() {
        use Health as H;
        use TaskPhase as P;
        let (default, all) = (
            Options::default(),
            Options { serve_unhealthy: true, serve_killing: true, ..Options::default() },
        );
        #[rustfmt::skip]
        let table = [
            (P::Staging,  H::Unchecked, &default, Some(Withheld::Starting)),
            (P::Starting, H::Unchecked, &all,     Some(Withheld::Starting)),
            (P::Running,  H::Unchecked, &default, None),
            (P::Running,  H::Unknown,   &default, None),
            (P::Running,  H::Healthy,   &default, None),
            (P::Running,  H::Unhealthy, &default, Some(Withheld::Unhealthy)),
            (P::Running,  H::Unhealthy, &all,     None),
            (P::Killing,  H::Healthy,   &default, Some(Withheld::Killing)),
            (P::Killing,  H::Unhealthy, &all,     None),
            (P::Draining, H::Healthy,   &default, Some(Withheld::Draining)),
            (P::Draining, H::Healthy,   &all,     None),
        ];
        for (phase, health, options, want) in table {
            let mut task = task("web.1", "web");
            (task.phase, task.health) = (phase, health);
            let records = task_records(&task, options, Distance::Far);
            assert!(!records.is_empty());
            assert!(records.iter().all(|r| r.withheld == want), "{phase:?} {health:?}");
        }
    }

    fn pointer(task: &TaskFact, options: &Options, distance: Distance) -> Vec<String> {
        let records = task_records(task, options, distance);
        let mut lines: Vec<String> = records
            .iter()
            .filter(|r| r.name.as_str().ends_with(".arpa"))
            .map(ToString::to_string)
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn addresses_lead_back_to_what_leads_to_them() {
        let one = format!("web-group-{}-s3.marathon.mesos.", crate::mangle::task_hash("web.1"));
        let v6 = crate::reverse_name("fd01:b::5".parse().unwrap());
        let options = Options::default();
        assert_eq!(
            pointer(&discovered(), &options, Distance::Far),
            [format!("{v6} 5 IN PTR {one}"), format!("5.1.0.9.in-addr.arpa. 5 IN PTR {one}"),]
        );
        let by_host = Options { ip_sources: vec![IpSource::Host], ..Options::default() };
        assert_eq!(
            pointer(&discovered(), &by_host, Distance::Far)[1],
            "5.1.0.9.in-addr.arpa. 5 IN PTR web-group.marathon.containerip.dcos.thisdcos.directory.",
        );
        assert!(pointer(&task("web.1", "web"), &options, Distance::Node).is_empty(), "its node's");
        let mut bridged = task("web.1", "web");
        bridged.container_addresses = vec!["172.17.0.2".parse().unwrap()];
        assert!(pointer(&bridged, &options, Distance::Far).is_empty(), "many have that address");
        let hash = crate::mangle::task_hash("web.1");
        assert_eq!(
            pointer(&bridged, &options, Distance::Node),
            [
                format!("2.0.17.172.in-addr.arpa. 5 IN PTR web-{hash}-s3.marathon.mesos."),
                "2.0.17.172.in-addr.arpa. 5 IN SOA ns.spartan. hostmaster.spartan.".to_owned(),
            ]
        );
    }

    #[test]
    fn an_address_keeps_its_name_while_its_task_is_unwell() {
        use Health as H;
        use TaskPhase as P;
        let table = [
            (P::Running, H::Unhealthy, None),
            (P::Killing, H::Healthy, None),
            (P::Starting, H::Unchecked, Some(Withheld::Starting)),
        ];
        for (phase, health, want) in table {
            let mut task = discovered();
            (task.phase, task.health) = (phase, health);
            let records = task_records(&task, &Options::default(), Distance::Far);
            let found = records.iter().find(|r| matches!(r.data, Data::Ptr(_))).unwrap();
            assert_eq!(found.withheld, want, "{phase:?} {health:?}");
        }
    }

    #[test]
    fn vips_of_https_ports_say_so() {
        let vip_port = |number: u16, name: &str, vip: &str| {
            let labels = BTreeMap::from([("VIP_0".to_owned(), vip.to_owned())]);
            PortFact { labels, ..port(number, None, name, "tcp") }
        };
        #[rustfmt::skip]
        let table: &[(&[PortFact], &[&str])] = &[
            (&[vip_port(80, "http", "/web:80")], &[]),
            (&[vip_port(443, "https", "/web:443"), vip_port(8443, "HTTPS", "/web:8443")], &[
                "_8443._https.web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 web.marathon.l4lb.thisdcos.directory. port=8443",
                "web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 .",
            ]),
            (&[vip_port(9, "https", "/web:8443")], &[
                "_8443._https.web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 web.marathon.l4lb.thisdcos.directory. port=8443",
                "web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 . port=8443",
            ]),
            (&[vip_port(1, "https", "/web:1"), vip_port(2, "https", "/web:2")], &[
                "_1._https.web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 web.marathon.l4lb.thisdcos.directory. port=1",
                "_2._https.web.marathon.l4lb.thisdcos.directory. 5 IN HTTPS 1 web.marathon.l4lb.thisdcos.directory. port=2",
            ]),
            (&[vip_port(443, "https", "11.1.2.3:443"), vip_port(443, "https", "web")], &[]),
        ];
        for (ports, want) in table {
            let mut task = task("web.1", "web");
            task.ports = ports.to_vec();
            assert_eq!(lines(&task, &Options::default(), "IN HTTPS"), *want);
        }
    }

    #[test]
    fn a_framework_does_not_speak_for_agents() {
        for (framework, want) in [
            ("slave", Some(Withheld::Reserved)),
            ("Web.Slave", Some(Withheld::Reserved)),
            ("slave.web", None),
            ("leader", None),
        ] {
            let mut task = discovered();
            task.framework_name = framework.into();
            let records = task_records(&task, &Options::default(), Distance::Far);
            let of = |suffix: &str| {
                let found: Vec<_> =
                    records.iter().filter(|r| r.name.as_str().ends_with(suffix)).collect();
                assert!(!found.is_empty());
                assert!(found.iter().all(|r| r.withheld == found[0].withheld));
                found[0].withheld
            };
            assert_eq!((of(".mesos"), of(".dcos.thisdcos.directory")), (want, None), "{framework}");
            let back = pointer(&task, &Options::default(), Distance::Far);
            assert_eq!(back[0].contains("containerip"), want.is_some(), "{back:?}");
        }
    }

    #[test]
    fn ten_thousand_ports_are_a_thousand_records() {
        let mut many = task("web.1", "web");
        many.host_ports = (1..=10_000).collect();
        assert_eq!(lines(&many, &Options::default(), "IN SRV").len(), 1024);
        many.discovery_name = Some("web".into());
        many.host_ports.truncate(2);
        many.ports = (1..=10_000).map(|number| port(number, None, "x", "tcp")).collect();
        assert_eq!(lines(&many, &Options::default(), "IN SRV").len(), 1024);
    }

    #[test]
    fn in_legacy_mode_the_announced_number_stands_with_the_agent_too() {
        let options =
            |mode| Options { mode, ip_sources: vec![IpSource::Host], ..Options::default() };
        let strict = lines(&discovered(), &options(Mode::Strict), "_http._web-group._tcp");
        assert!(strict[0].contains("SRV 0 1 31042 "), "{strict:?}");
        let legacy = lines(&discovered(), &options(Mode::Legacy), "_http._web-group._tcp");
        assert!(legacy[0].contains(" 60 IN SRV 0 1 80 "), "{legacy:?}");
    }

    #[test]
    fn rfc_952_is_for_mesos_names_only() {
        let options = Options { labels: LabelRules::Rfc952, ..Options::default() };
        let long = task("web.1", &format!("4{}", "w".repeat(40)));
        let names = lines(&long, &options, " A ");
        let label = "w".repeat(24);
        assert!(names.contains(&format!("{label}.marathon.mesos. 5 IN A 10.0.0.2")), "{names:?}");
        let label = format!("4{}", "w".repeat(40));
        let name = format!("{label}.marathon.agentip.dcos.thisdcos.directory. 5 IN A 10.0.0.2");
        assert!(names.contains(&name), "{names:?}");
    }

    #[test]
    fn names_that_are_none_make_no_records() {
        let huge = "x".repeat(10_000);
        #[rustfmt::skip]
        let table = [
            ("..",              "marathon", 0),
            ("\0\0",            "marathon", 0),
            ("web",             "///",      0),
            // A label of 63 has no room for the underscore of SRV names.
            (huge.as_str(),     "marathon", 7),
            ("web.other.mesos", "marathon", 11),
        ];
        for (name, framework, want) in table {
            let mut task = task("web.1", name);
            task.framework_name = framework.into();
            assert_eq!(
                task_records(&task, &Options::default(), Distance::Far).len(),
                want,
                "{framework}"
            );
        }
        let mut long = task("web.1", "web");
        long.framework_name =
            ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)].join(".");
        assert!(
            task_records(&long, &Options::default(), Distance::Far).is_empty(),
            "no name can hold it"
        );
    }

    #[test]
    fn a_discovery_name_that_is_no_name_is_only_mangled() {
        for written in ["a b", "a..b", "a/b", "ä", "a\\046b"] {
            let mut task = task("web.1", "web");
            task.discovery_name = Some(written.into());
            let names: Vec<String> = task_records(&task, &Options::default(), Distance::Far)
                .iter()
                .map(|r| r.name.to_string())
                .collect();
            assert!(
                names.iter().all(|name| name.starts_with('a') || name.starts_with("_a")),
                "{names:?}"
            );
            assert!(!names.iter().any(|name| name.contains(written)), "{names:?}");
        }
    }
}
