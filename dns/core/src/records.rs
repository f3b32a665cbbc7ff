//! From one fact its records, and from nothing else.
//!
//! Each fact's records can therefore be replaced alone. What they depend on beside the
//! fact is where the nodes are: how far away a record leads, and where a scheduler runs
//! that gave a host name. The name of a VIP is not made from its claim, because an
//! address stays claimed while nothing stands behind it: whoever computes the VIPs calls
//! [`vip_records`] for those that exist.

use crate::by_hand;
use crate::mangle::{LabelRules, domain_fragment};
use crate::name::DnsName;
use crate::options::Options;
use crate::record::{Data, Record, Withheld};
use crate::reserved::{AGENTS, is_of_agents, is_of_cluster};
use crate::reverse::{is_held, is_of_one_machine, reverse_name};
use crate::statics::{DCOS_ZONE, NODE_NAMES, VIP_ZONE, master_number, masters, start, zk_records};
use crate::task::task_records;
use mizzen_types::fact::{Fact, FrameworkFact, Key, LeaderFact, NodeFact};
use mizzen_types::ids::OwnerId;
use mizzen_types::place::Places;
use mizzen_types::vip::Distance;
use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// The records of a fact of `owner`'s log, the withheld ones included and marked.
///
/// A text of which no legal name can be made gives no record.
#[must_use]
pub fn records_of(
    owner: &OwnerId,
    key: &Key,
    fact: &Fact,
    options: &Options,
    places: &Places,
) -> Vec<Record> {
    let mut draft = Draft::new(options, places.distance(owner), None);
    match (key, fact) {
        (Key::Task(..), Fact::Task(task)) => {
            return task_records(task, options, places.distance(owner));
        }
        (Key::Node, Fact::Node(node)) => node_records(&mut draft, node),
        (Key::Leader, Fact::Leader(leader)) => leader_records(&mut draft, leader),
        (Key::Framework(_), Fact::Framework(framework)) => {
            framework_records(&mut draft, framework, places);
        }
        (Key::DnsRecord(name, kind), Fact::DnsRecord(fact)) => {
            return by_hand::records(name, kind, fact, options);
        }
        _ => {}
    }
    draft.records
}

/// Whether [`records_of`] looks at other nodes' places for this fact, so that it has to
/// be asked again when any of them moves.
#[must_use]
pub fn depends_on_places(key: &Key) -> bool {
    matches!(key, Key::Framework(_))
}

/// The records of a named VIP.
///
/// * `name` — `label.framework` as [`crate::mangle::vip_name`] makes it.
/// * `addresses` — its IPv4 address and that address's IPv6 twin, if it has one.
#[must_use]
pub fn vip_records(name: &str, addresses: &[IpAddr], options: &Options) -> Vec<Record> {
    let mut draft = Draft::new(options, Distance::Far, None);
    if let Some(name) = draft.name(format_args!("{name}.{VIP_ZONE}")) {
        draft.addresses(Area::Directory, Some(&name), addresses);
        for address in addresses {
            draft.pointer(*address, &name);
        }
    }
    draft.records
}

/// Whose habits of naming a record follows, and its TTL.
#[derive(Clone, Copy)]
pub(crate) enum Area {
    /// The zone of tasks: Mesos-DNS.
    Domain,
    /// Everything else: the dispatcher.
    Directory,
}

/// Records while they are made: one place for TTLs, distances and names that are none.
pub(crate) struct Draft<'a> {
    pub(crate) options: &'a Options,
    distance: Distance,
    withheld: Option<Withheld>,
    text: String,
    services: usize,
    pub(crate) records: Vec<Record>,
}

/// Most SRV records of one task. A TCP message holds about 1,000, so nobody sees more of
/// one name; without a limit one task could hold up all answers while its ports are
/// written.
pub(crate) const MAX_SERVICES: usize = 1024;
/// So many of those beyond are kept to be explained.
pub(crate) const MAX_CROWDED_OUT: usize = 8;

impl<'a> Draft<'a> {
    pub(crate) fn new(
        options: &'a Options,
        distance: Distance,
        withheld: Option<Withheld>,
    ) -> Self {
        let (text, records) = (String::with_capacity(128), Vec::new());
        Self { options, distance, withheld, text, services: 0, records }
    }

    /// The same draft, with another reason to hold records back.
    pub(crate) fn withhold(&mut self, withheld: Option<Withheld>) -> Option<Withheld> {
        std::mem::replace(&mut self.withheld, withheld)
    }

    /// A name, if the text is one.
    pub(crate) fn name(&mut self, text: fmt::Arguments<'_>) -> Option<DnsName> {
        self.text.clear();
        // Writing to a `String` cannot fail.
        let _ = self.text.write_fmt(text);
        DnsName::parse(&self.text).ok()
    }

    pub(crate) fn add(&mut self, area: Area, name: &DnsName, data: Data) {
        let ttl = match area {
            Area::Domain => self.options.domain_ttl(),
            Area::Directory => self.options.ttl,
        };
        let (withheld, distance) = (self.withheld, self.distance);
        self.records.push(Record { withheld, distance, ..Record::new(name.clone(), ttl, data) });
    }

    /// Adds an A or AAAA record for each address, if there is a name for them.
    pub(crate) fn addresses(&mut self, area: Area, name: Option<&DnsName>, addresses: &[IpAddr]) {
        for (name, address) in addresses.iter().filter_map(|address| Some((name?, address))) {
            self.add(area, name, Data::address(*address));
        }
    }

    /// Adds an SRV record in the zone of tasks, if there are both names, up to a limit; the
    /// first ones beyond are withheld.
    pub(crate) fn service(&mut self, name: Option<&DnsName>, port: u16, target: Option<&DnsName>) {
        if let (Some(name), Some(target), true) = (name, target, self.has_room()) {
            self.services += 1;
            let crowded = self.services > MAX_SERVICES;
            let withheld = self.withheld.or(crowded.then_some(Withheld::CrowdedOut));
            let before = self.withhold(withheld);
            let (weight, target) = (self.options.srv_weight, target.clone());
            self.add(Area::Domain, name, Data::Srv { priority: 0, weight, port, target });
            self.withhold(before);
        }
    }

    /// Whether more SRV records are taken, be it to say that they are not answered.
    pub(crate) fn has_room(&self) -> bool {
        self.services < MAX_SERVICES + MAX_CROWDED_OUT
    }

    /// Adds the PTR record of an address that is the same machine's or task's for
    /// everybody. Outside of the zones that are there anyway the name is ours alone.
    pub(crate) fn pointer(&mut self, address: IpAddr, name: &DnsName) {
        let address = address.to_canonical();
        if is_of_one_machine(address) {
            return;
        }
        let reverse = reverse_name(address);
        if !is_held(&self.options.reverse_networks, address) {
            self.records.push(start(&reverse, self.options));
        }
        self.add(Area::Directory, &reverse, Data::Ptr(name.clone()));
    }
}

fn node_records(draft: &mut Draft<'_>, node: &NodeFact) {
    let own = domain_fragment(&node.hostname, LabelRules::Rfc1123);
    if let (false, Some(name)) = (own.is_empty(), draft.name(format_args!("{own}.{NODE_NAMES}"))) {
        draft.addresses(Area::Directory, Some(&name), &[node.address]);
        draft.pointer(node.address, &name);
    }
    if node.agent_id.is_none() {
        return;
    }
    let domain = &draft.options.domain;
    let (agents, service) = (domain.under(AGENTS), domain.under("_slave._tcp"));
    draft.addresses(Area::Domain, Some(&agents), &[node.address]);
    draft.service(Some(&service), draft.options.agent_port, Some(&agents));
}

fn leader_records(draft: &mut Draft<'_>, leader: &LeaderFact) {
    let (options, addresses) = (draft.options, [leader.address]);
    let number = master_number(leader.address.to_canonical(), options);
    let [name, all, numbered] =
        ["leader", "master", &format!("master{number}")].map(|label| options.domain.under(label));
    for name in [&name, &all, &numbered] {
        draft.addresses(Area::Domain, Some(name), &addresses);
    }
    for service in ["_leader._tcp", "_leader._udp"] {
        draft.service(Some(&options.domain.under(service)), leader.port, Some(&name));
    }
    for name in ["leader", "master"].map(|label| DnsName::fixed(DCOS_ZONE).under(label)) {
        draft.addresses(Area::Directory, Some(&name), &addresses);
    }
    if options.ensemble.is_empty() && masters(options).is_empty() {
        draft.records.extend(zk_records(&addresses, options));
    }
}

/// A scheduler's host is an address or the name of a node; to resolve any other name
/// would need a question of our own.
fn framework_records(draft: &mut Draft<'_>, framework: &FrameworkFact, places: &Places) {
    let host = framework.hostname.as_deref().unwrap_or_default();
    let address = host.parse::<IpAddr>().ok().or_else(|| places.address_of(host));
    let fragment = domain_fragment(&framework.name, draft.options.labels);
    let (Some(address), false) = (address, fragment.is_empty()) else { return };
    if is_of_cluster(&fragment) || is_of_agents(&fragment) {
        draft.withhold(Some(Withheld::Reserved));
    }
    let domain = draft.options.domain.as_str();
    let name = draft.name(format_args!("{fragment}.{domain}"));
    draft.addresses(Area::Domain, name.as_ref(), &[address]);
    if let Some(port) = framework.port {
        let service = draft.name(format_args!("_framework._tcp.{fragment}.{domain}"));
        draft.service(service.as_ref(), port, name.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(key: &Key, fact: &Fact, options: &Options) -> Vec<Record> {
        let mut places = Places::new("n1".into());
        let node = node("Sched-1.Example", "10.0.0.7");
        places.apply(&"n7".into(), Some(&node));
        records_of(&"n2".into(), key, fact, options, &places)
    }

    fn lines(records: &[Record]) -> Vec<String> {
        let mut lines: Vec<String> = records.iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    }

    fn node(hostname: &str, address: &str) -> NodeFact {
        let address = address.parse().unwrap();
        NodeFact {
            hostname: hostname.into(),
            address,
            agent_id: None,
            zone: None,
            authority: false,
            overlay: None,
        }
    }

    #[test]
    fn the_leader_is_found_by_its_old_names() {
        let address = "10.0.0.1".parse().unwrap();
        let leader =
            Fact::Leader(LeaderFact { hostname: "m1".into(), address, port: 5050, services: None });
        let alone = records(&Key::Leader, &leader, &Options::default());
        #[rustfmt::skip]
        assert_eq!(lines(&alone), [
            "_leader._tcp.mesos. 5 IN SRV 0 1 5050 leader.mesos.",
            "_leader._udp.mesos. 5 IN SRV 0 1 5050 leader.mesos.",
            "leader.dcos.thisdcos.directory. 5 IN A 10.0.0.1",
            "leader.mesos. 5 IN A 10.0.0.1",
            "master.dcos.thisdcos.directory. 5 IN A 10.0.0.1",
            "master.mesos. 5 IN A 10.0.0.1",
            "master0.mesos. 5 IN A 10.0.0.1",
            "zk-1.zk. 5 IN A 10.0.0.1",
            "zk-2.zk. 5 IN A 10.0.0.1",
            "zk-3.zk. 5 IN A 10.0.0.1",
            "zk-4.zk. 5 IN A 10.0.0.1",
            "zk-5.zk. 5 IN A 10.0.0.1",
        ]);
        let masters = ["10.0.0.9", "10.0.0.1"].map(|text| text.parse().unwrap()).to_vec();
        let options = Options { masters, ..Options::default() };
        let known = lines(&records(&Key::Leader, &leader, &options));
        assert!(known.contains(&"master1.mesos. 5 IN A 10.0.0.1".to_owned()), "{known:?}");
        assert!(!known.iter().any(|line| line.starts_with("zk-")), "{known:?}");
    }

    #[test]
    fn only_nodes_with_an_agent_are_slaves() {
        let mut node = node("N2.rack.Example", "11.0.0.2");
        let options = Options { ttl: 60, ..Options::default() };
        let own = [
            "2.0.0.11.in-addr.arpa. 60 IN PTR n2.rack.example.node.thisdcos.directory.",
            "n2.rack.example.node.thisdcos.directory. 60 IN A 11.0.0.2",
        ];
        assert_eq!(lines(&records(&Key::Node, &Fact::Node(node.clone()), &options)), own);
        node.agent_id = Some("x-S1".into());
        #[rustfmt::skip]
        assert_eq!(lines(&records(&Key::Node, &Fact::Node(node), &options)), [
            own[0], "_slave._tcp.mesos. 60 IN SRV 0 1 5051 slave.mesos.", own[1], "slave.mesos. 60 IN A 11.0.0.2",
        ]);
    }

    #[test]
    fn a_node_s_address_is_ours_alone_in_the_site_s_network() {
        let found = records(&Key::Node, &Fact::Node(node("n2", "10.0.0.2")), &Options::default());
        #[rustfmt::skip]
        assert_eq!(lines(&found), [
            "2.0.0.10.in-addr.arpa. 5 IN PTR n2.node.thisdcos.directory.",
            "2.0.0.10.in-addr.arpa. 5 IN SOA ns.spartan. hostmaster.spartan.",
            "n2.node.thisdcos.directory. 5 IN A 10.0.0.2",
        ]);
        let found = records(&Key::Node, &Fact::Node(node("n2", "127.0.0.1")), &Options::default());
        assert_eq!(lines(&found), ["n2.node.thisdcos.directory. 5 IN A 127.0.0.1"]);
    }

    #[test]
    fn a_framework_with_an_address_has_a_name() {
        let table: &[(&str, Option<&str>, &[&str])] = &[
            (
                "Marathon.User",
                Some("10.0.0.3"),
                &[
                    "_framework._tcp.marathon.user.mesos. 5 IN SRV 0 1 8080 marathon.user.mesos.",
                    "marathon.user.mesos. 5 IN A 10.0.0.3",
                ],
            ),
            (
                "marathon",
                Some("fd00::3"),
                &[
                    "_framework._tcp.marathon.mesos. 5 IN SRV 0 1 8080 marathon.mesos.",
                    "marathon.mesos. 5 IN AAAA fd00::3",
                ],
            ),
            (
                "marathon",
                Some("sched-1.example"),
                &[
                    "_framework._tcp.marathon.mesos. 5 IN SRV 0 1 8080 marathon.mesos.",
                    "marathon.mesos. 5 IN A 10.0.0.7",
                ],
            ),
            ("marathon", Some("host.example"), &[]),
            ("marathon", None, &[]),
            ("///", Some("10.0.0.3"), &[]),
        ];
        for (name, hostname, want) in table {
            let hostname = hostname.map(str::to_owned);
            let fact = FrameworkFact { name: (*name).into(), hostname, port: Some(8080) };
            let key = Key::Framework("f".into());
            let records = records(&key, &Fact::Framework(fact), &Options::default());
            assert_eq!(lines(&records), *want, "{name}");
            assert!(records.iter().all(|record| record.withheld.is_none()), "{name}");
        }
    }

    #[test]
    fn a_framework_does_not_take_the_cluster_s_names() {
        for name in ["leader", "Master", "master3", "slave", "my.slave", "ns1", "l.e.a.d.e.r"] {
            let hostname = Some("10.0.0.3".to_owned());
            let fact = FrameworkFact { name: name.into(), hostname, port: Some(1) };
            let key = Key::Framework("f".into());
            let records = records(&key, &Fact::Framework(fact), &Options::default());
            let want = (name != "l.e.a.d.e.r").then_some(Withheld::Reserved);
            assert_eq!(records.len(), 2, "{name}");
            assert!(records.iter().all(|record| record.withheld == want), "{name}");
        }
    }

    #[test]
    fn a_vip_has_both_families_and_ways_back() {
        let addresses: [IpAddr; 2] = ["11.0.0.7".parse().unwrap(), "fd01:c::7".parse().unwrap()];
        let records = vip_records("web.marathon", &addresses, &Options::default());
        let name = "web.marathon.l4lb.thisdcos.directory.";
        assert_eq!(
            lines(&records),
            [
                format!("{} 5 IN PTR {name}", reverse_name(addresses[1])),
                "7.0.0.11.in-addr.arpa. 5 IN PTR ".to_owned() + name,
                format!("{name} 5 IN A 11.0.0.7"),
                format!("{name} 5 IN AAAA fd01:c::7"),
            ]
        );
    }

    #[test]
    fn a_claimed_address_is_no_name_yet() {
        let key = Key::VipClaim("web.marathon".into());
        let claim = Fact::VipClaim("11.0.0.7".parse().unwrap());
        assert!(records(&key, &claim, &Options::default()).is_empty());
    }
}
