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
//! ```

use crate::mangle::{canonical_label, domain_fragment, label};
use crate::name::DnsName;
use crate::options::{IpSource, Options};
use crate::record::{Record, Withheld};
use crate::records::Draft;
use crate::statics::DCOS_ZONE;
use mizzen_types::fact::{Health, PortFact, TaskFact, TaskPhase};
use std::net::IpAddr;

/// The records of a task, marked if it takes no clients.
pub(crate) fn task_records(task: &TaskFact, options: &Options) -> Vec<Record> {
    let mut draft = Draft::new(options, withheld(task, options));
    let framework = domain_fragment(&task.framework_name, options.labels);
    let asked = task.discovery_name.as_deref().unwrap_or(&task.name);
    let mangled = label(asked, options.labels);
    if framework.is_empty() || mangled.is_empty() {
        return draft.records;
    }
    let names = Names::new(task, &framework, &mangled, options);
    mesos_records(&mut draft, task, &names);
    dcos_records(&mut draft, task, &names);
    if let Some(unmangled) = unmangled(task, &mangled) {
        mesos_records(&mut draft, task, &Names { label: &unmangled, ..names });
        // What does not depend on the label was made twice.
        draft.records.sort();
        draft.records.dedup();
    }
    draft.records
}

/// What a task's names are put together from.
struct Names<'a> {
    label: &'a str,
    framework: &'a str,
    canonical: String,
    source: Source,
}

/// Where a task's own name leads.
struct Source {
    kind: IpSource,
    addresses: Vec<IpAddr>,
}

impl<'a> Names<'a> {
    fn new(task: &TaskFact, framework: &'a str, label: &'a str, options: &Options) -> Self {
        let canonical = canonical_label(label, task.task_id.as_str(), task.agent_id.as_str());
        Self { label, framework, canonical, source: source(task, &options.ip_sources) }
    }
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

/// Mesos-DNS also answered the discovery name as it was written, dots and all
/// (`web.group` beside `web-group`), and configurations have both.
fn unmangled(task: &TaskFact, mangled: &str) -> Option<String> {
    let written = DnsName::parse(task.discovery_name.as_deref()?).ok()?;
    let plain = written.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let differs = written.as_str() != mangled && !written.as_str().is_empty();
    (plain && differs).then(|| written.as_str().to_owned())
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

fn mesos_records(draft: &mut Draft<'_>, task: &TaskFact, names: &Names<'_>) {
    let Names { label, framework, canonical, source } = names;
    let domain = draft.options.domain.as_str();
    for name in [*label, canonical] {
        draft.addresses(&format!("{name}.{framework}.{domain}"), &source.addresses);
        draft.addresses(&format!("{name}.{framework}.slave.{domain}"), &[task.host_address]);
    }
    let agent = format!("{canonical}.{framework}.slave.{domain}");
    for protocol in ["tcp", "udp"] {
        for port in &task.host_ports {
            draft.service(
                &format!("_{label}._{protocol}.{framework}.slave.{domain}"),
                *port,
                &agent,
            );
            if task.discovery_name.is_none() {
                draft.service(&format!("_{label}._{protocol}.{framework}.{domain}"), *port, &agent);
            }
        }
    }
    if task.discovery_name.is_some() {
        for port in &task.ports {
            port_records(draft, port, names);
        }
    }
}

fn port_records(draft: &mut Draft<'_>, port: &PortFact, names: &Names<'_>) {
    let Names { label: task, framework, canonical, source } = names;
    let (rules, domain) = (draft.options.labels, draft.options.domain.as_str());
    let target = format!("{canonical}.{framework}.{domain}");
    let number = match source.kind {
        // The agent's address has to go with the agent's port.
        IpSource::Host => port.host_port.unwrap_or(port.number),
        IpSource::Container => port.number,
    };
    let port_label = port.name.as_deref().map(|name| label(name, rules)).unwrap_or_default();
    for protocol in protocols(&port.protocol, draft.options) {
        let name = format!("_{task}._{protocol}.{framework}.{domain}");
        draft.service(&name, number, &target);
        if !port_label.is_empty() {
            draft.service(&format!("_{port_label}.{name}"), number, &target);
        }
    }
}

/// `tcp,udp` means both here; Mesos-DNS made a useless `_tcpudp` of it.
fn protocols(text: &str, options: &Options) -> Vec<String> {
    let named: Vec<String> = text
        .split(',')
        .map(|piece| label(piece, options.labels))
        .filter(|piece| !piece.is_empty())
        .collect();
    if named.is_empty() { vec!["tcp".to_owned(), "udp".to_owned()] } else { named }
}

fn dcos_records(draft: &mut Draft<'_>, task: &TaskFact, names: &Names<'_>) {
    let host = [task.host_address];
    let container: &[IpAddr] =
        if task.container_addresses.is_empty() { &host } else { &task.container_addresses };
    let reached_at_host = task.ports.iter().any(|port| port.host_port.is_some());
    let auto = if reached_at_host { &host } else { container };
    let stem = format!("{}.{}", names.label, names.framework);
    draft.addresses(&format!("{stem}.agentip.{DCOS_ZONE}"), &host);
    draft.addresses(&format!("{stem}.containerip.{DCOS_ZONE}"), container);
    draft.addresses(&format!("{stem}.autoip.{DCOS_ZONE}"), auto);
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
        let records = task_records(task, options);
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
        let (dash, dot) = (format!("web-group-{hash}-s3"), "web.group");
        let options = Options::default();
        #[rustfmt::skip]
        assert_eq!(lines(&discovered(), &options, "marathon.mesos. 5 IN SRV"), [
            format!("_http._web-group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dash}.marathon.mesos."),
            format!("_http._web.group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dash}.marathon.mesos."),
            format!("_web-group._tcp.marathon.mesos. 5 IN SRV 0 1 53 {dash}.marathon.mesos."),
            format!("_web-group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dash}.marathon.mesos."),
            format!("_web-group._udp.marathon.mesos. 5 IN SRV 0 1 53 {dash}.marathon.mesos."),
            format!("_web.group._tcp.marathon.mesos. 5 IN SRV 0 1 53 {dash}.marathon.mesos."),
            format!("_web.group._tcp.marathon.mesos. 5 IN SRV 0 1 80 {dash}.marathon.mesos."),
            format!("_web.group._udp.marathon.mesos. 5 IN SRV 0 1 53 {dash}.marathon.mesos."),
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
            let records = task_records(&task, options);
            assert!(!records.is_empty());
            assert!(records.iter().all(|r| r.withheld == want), "{phase:?} {health:?}");
        }
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
            assert_eq!(task_records(&task, &Options::default()).len(), want, "{framework}");
        }
        let mut long = task("web.1", "web");
        long.framework_name =
            ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)].join(".");
        assert!(task_records(&long, &Options::default()).is_empty(), "no name can hold it");
    }

    #[test]
    fn a_discovery_name_that_is_no_name_is_only_mangled() {
        for written in ["a b", "a..b", "a/b", "ä", "a\\046b"] {
            let mut task = task("web.1", "web");
            task.discovery_name = Some(written.into());
            let names: Vec<String> = task_records(&task, &Options::default())
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
