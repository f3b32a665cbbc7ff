//! From one fact its records, and from nothing else.
//!
//! Each fact's records can therefore be replaced alone. The name of a VIP is not made
//! from its claim, because an address stays claimed while nothing stands behind it:
//! whoever computes the VIPs calls [`vip_records`] for those that exist.

use crate::mangle::domain_fragment;
use crate::name::DnsName;
use crate::options::Options;
use crate::record::{Data, Record, Withheld};
use crate::statics::{DCOS_ZONE, VIP_ZONE};
use crate::task::task_records;
use mizzen_types::fact::{Fact, FrameworkFact, Key, LeaderFact, NodeFact};
use std::net::IpAddr;

/// The records of a fact, the withheld ones included and marked.
///
/// A text of which no legal name can be made gives no record.
#[must_use]
pub fn records_of(key: &Key, fact: &Fact, options: &Options) -> Vec<Record> {
    let mut draft = Draft::new(options, None);
    match (key, fact) {
        (Key::Task(..), Fact::Task(task)) => return task_records(task, options),
        (Key::Node, Fact::Node(node)) => node_records(&mut draft, node),
        (Key::Leader, Fact::Leader(leader)) => leader_records(&mut draft, leader),
        (Key::Framework(_), Fact::Framework(framework)) => {
            framework_records(&mut draft, framework);
        }
        _ => {}
    }
    draft.records
}

/// The records of a named VIP.
///
/// * `name` — `label.framework` as [`crate::mangle::vip_name`] makes it.
/// * `addresses` — its IPv4 address and that address's IPv6 twin, if it has one.
#[must_use]
pub fn vip_records(name: &str, addresses: &[IpAddr], options: &Options) -> Vec<Record> {
    let mut draft = Draft::new(options, None);
    draft.addresses(&format!("{name}.{VIP_ZONE}"), addresses);
    draft.records
}

/// Records while they are made: one place for the TTL and for names that are none.
pub(crate) struct Draft<'a> {
    pub(crate) options: &'a Options,
    withheld: Option<Withheld>,
    pub(crate) records: Vec<Record>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(options: &'a Options, withheld: Option<Withheld>) -> Self {
        Self { options, withheld, records: Vec::new() }
    }

    /// Adds a record unless `name` is no name.
    pub(crate) fn add(&mut self, name: &str, data: Data) {
        if let Ok(name) = DnsName::parse(name) {
            let (ttl, withheld) = (self.options.ttl, self.withheld);
            self.records.push(Record { withheld, ..Record::new(name, ttl, data) });
        }
    }

    /// Adds an A or AAAA record for each address.
    pub(crate) fn addresses(&mut self, name: &str, addresses: &[IpAddr]) {
        for address in addresses {
            self.add(name, Data::address(*address));
        }
    }

    /// Adds an SRV record unless one of the names is none.
    pub(crate) fn service(&mut self, name: &str, port: u16, target: &str) {
        let weight = self.options.srv_weight;
        if let Ok(target) = DnsName::parse(target) {
            self.add(name, Data::Srv { priority: 0, weight, port, target });
        }
    }
}

fn node_records(draft: &mut Draft<'_>, node: &NodeFact) {
    if node.agent_id.is_none() {
        return;
    }
    let domain = draft.options.domain.as_str();
    let agents = format!("slave.{domain}");
    draft.addresses(&agents, &[node.address]);
    draft.service(&format!("_slave._tcp.{domain}"), draft.options.agent_port, &agents);
}

fn leader_records(draft: &mut Draft<'_>, leader: &LeaderFact) {
    let domain = draft.options.domain.as_str();
    let name = format!("leader.{domain}");
    draft.addresses(&name, &[leader.address]);
    draft.addresses(&format!("master.{domain}"), &[leader.address]);
    for protocol in ["tcp", "udp"] {
        draft.service(&format!("_leader._{protocol}.{domain}"), leader.port, &name);
    }
    draft.addresses(&format!("leader.{DCOS_ZONE}"), &[leader.address]);
    draft.addresses(&format!("master.{DCOS_ZONE}"), &[leader.address]);
}

/// A scheduler that gave a host name instead of an address gets no record: resolving
/// that name would need a question of our own.
fn framework_records(draft: &mut Draft<'_>, framework: &FrameworkFact) {
    let address = framework.hostname.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
    let fragment = domain_fragment(&framework.name, draft.options.labels);
    if let (Some(address), false) = (address, fragment.is_empty()) {
        draft.addresses(&format!("{fragment}.{}", draft.options.domain.as_str()), &[address]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_types::fact::Key;

    fn lines(records: &[Record]) -> Vec<String> {
        let mut lines: Vec<String> = records.iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    }

    #[test]
    fn the_leader_is_found_by_its_old_names() {
        let leader =
            LeaderFact { hostname: "m1".into(), address: "10.0.0.1".parse().unwrap(), port: 5050 };
        let records = records_of(&Key::Leader, &Fact::Leader(leader), &Options::default());
        #[rustfmt::skip]
        assert_eq!(lines(&records), [
            "_leader._tcp.mesos. 5 IN SRV 0 1 5050 leader.mesos.",
            "_leader._udp.mesos. 5 IN SRV 0 1 5050 leader.mesos.",
            "leader.dcos.thisdcos.directory. 5 IN A 10.0.0.1",
            "leader.mesos. 5 IN A 10.0.0.1",
            "master.dcos.thisdcos.directory. 5 IN A 10.0.0.1",
            "master.mesos. 5 IN A 10.0.0.1",
        ]);
    }

    #[test]
    fn only_nodes_with_an_agent_are_slaves() {
        let mut node = NodeFact {
            hostname: "n1".into(),
            address: "10.0.0.2".parse().unwrap(),
            agent_id: None,
            zone: None,
        };
        let options = Options { ttl: 60, ..Options::default() };
        assert!(records_of(&Key::Node, &Fact::Node(node.clone()), &options).is_empty());
        node.agent_id = Some("x-S1".into());
        #[rustfmt::skip]
        assert_eq!(lines(&records_of(&Key::Node, &Fact::Node(node), &options)), [
            "_slave._tcp.mesos. 60 IN SRV 0 1 5051 slave.mesos.",
            "slave.mesos. 60 IN A 10.0.0.2",
        ]);
    }

    #[test]
    fn a_framework_with_an_address_has_a_name() {
        let table: &[(&str, Option<&str>, &[&str])] = &[
            ("Marathon.User", Some("10.0.0.3"), &["marathon.user.mesos. 5 IN A 10.0.0.3"]),
            ("marathon", Some("fd00::3"), &["marathon.mesos. 5 IN AAAA fd00::3"]),
            ("marathon", Some("host.example"), &[]),
            ("marathon", None, &[]),
            ("///", Some("10.0.0.3"), &[]),
        ];
        for (name, hostname, want) in table {
            let fact =
                FrameworkFact { name: (*name).into(), hostname: hostname.map(str::to_owned) };
            let key = Key::Framework("f".into());
            let records = records_of(&key, &Fact::Framework(fact), &Options::default());
            assert_eq!(lines(&records), *want, "{name} at {hostname:?}");
        }
    }

    #[test]
    fn a_vip_has_both_families() {
        let addresses = ["11.0.0.7".parse().unwrap(), "fd01:c::7".parse().unwrap()];
        let records = vip_records("web.marathon", &addresses, &Options::default());
        #[rustfmt::skip]
        assert_eq!(lines(&records), [
            "web.marathon.l4lb.thisdcos.directory. 5 IN A 11.0.0.7",
            "web.marathon.l4lb.thisdcos.directory. 5 IN AAAA fd01:c::7",
        ]);
    }

    #[test]
    fn a_claimed_address_is_no_name_yet() {
        let key = Key::VipClaim("web.marathon".into());
        let claim = Fact::VipClaim("11.0.0.7".parse().unwrap());
        assert!(records_of(&key, &claim, &Options::default()).is_empty());
    }
}
