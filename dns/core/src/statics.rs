//! Records that no fact makes: the zones themselves and the node's own names.

use crate::name::DnsName;
use crate::options::{Mode, Options};
use crate::record::{Data, Record, Start};
use crate::reverse::{LOCAL, is_held, reverse_name, zones_of};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The root of the dispatcher's zones.
pub(crate) const DIRECTORY: &str = "thisdcos.directory";
/// Where tasks, masters and the leader are named by the dispatcher.
pub(crate) const DCOS_ZONE: &str = "dcos.thisdcos.directory";
/// Where VIPs are named.
pub(crate) const VIP_ZONE: &str = "l4lb.thisdcos.directory";
/// Where other names for tasks and VIPs are configured.
pub(crate) const COMPONENTS: &str = "component.thisdcos.directory";
/// Where nodes are named.
pub(crate) const NODE_NAMES: &str = "node.thisdcos.directory";
/// This node, for those who run on it.
const THIS_NODE: &str = "thisnode.thisdcos.directory";
/// What is not for users to name: the built-in zones' roots, their other forms, and the
/// trees of addresses.
pub(crate) const BUILT_IN: [&str; 8] = [
    DIRECTORY,
    "thisdcos.global",
    "dcos.directory",
    "spartan",
    "localhost",
    "zk",
    "in-addr.arpa",
    "ip6.arpa",
];
/// How many names the ZooKeeper ensemble has, however large it is.
const ZK_NAMES: usize = 5;
/// How long clients may keep NS records, in seconds.
const NS_TTL: u32 = 3600;

/// Zones beside the one of tasks, each with its own SOA and NS record.
const ZONES: [&str; 8] =
    [DIRECTORY, DCOS_ZONE, VIP_ZONE, COMPONENTS, THIS_NODE, "spartan", "localhost", "zk"];

/// The records that are there from the start.
pub(crate) fn static_records(options: &Options) -> Vec<Record> {
    let apex = |zone: DnsName| {
        let servers = Data::Ns(server(&zone, options));
        let ttl = match options.mode {
            Mode::Legacy if zone == options.domain => options.domain_ttl(),
            Mode::Legacy | Mode::Strict => NS_TTL,
        };
        [start(&zone, options), Record::new(zone, ttl, servers)]
    };
    let mut records: Vec<Record> = zones(options).into_iter().flat_map(apex).collect();
    records.extend(own_records(options));
    records.extend(master_records(options));
    let ensemble =
        if options.ensemble.is_empty() { masters(options) } else { options.ensemble.clone() };
    records.extend(zk_records(&ensemble, options));
    let zone = DnsName::fixed(COMPONENTS);
    for (name, target) in &options.components {
        if let Ok(name) = DnsName::parse(name) {
            let data = Data::Cname(target.clone());
            records.push(Record::new(zone.under(name.as_str()), options.ttl, data));
        }
    }
    records
}

/// The SOA record of a zone, or of a name that is ours alone: such a name has no NS
/// record, and what is around and below it is asked elsewhere.
pub(crate) fn start(zone: &DnsName, options: &Options) -> Record {
    let is_domain = *zone == options.domain;
    let server = server(zone, options);
    let mailbox = match (is_domain, options.mode) {
        (true, _) => server.under("root"),
        (false, Mode::Strict) => DnsName::fixed("hostmaster.spartan"),
        (false, Mode::Legacy) => DnsName::fixed("support.mesosphere.com"),
    };
    let (ttl, retry) = if is_domain { (options.domain_ttl(), 600) } else { (options.ttl, 180) };
    let negative_ttl = options.negative_ttl;
    let start = Start { server, mailbox, retry, negative_ttl };
    Record::new(zone.clone(), ttl, Data::Soa(Box::new(start)))
}

/// `zk-1.zk` to `zk-5.zk`: a list that is shorter begins anew.
pub(crate) fn zk_records(ensemble: &[IpAddr], options: &Options) -> Vec<Record> {
    let zone = DnsName::fixed("zk");
    let members = ensemble.iter().cycle().take(ZK_NAMES).enumerate();
    members
        .map(|(at, address)| {
            let name = zone.under(&format!("zk-{}", at + 1));
            Record::new(name, options.ttl, Data::address(*address))
        })
        .collect()
}

/// The number of a master, which is its place in the list; one that is not in it comes
/// behind all of them.
pub(crate) fn master_number(master: IpAddr, options: &Options) -> usize {
    let masters = masters(options);
    masters.iter().position(|known| *known == master).unwrap_or(masters.len())
}

/// Every zone that is there from the start, that of tasks included.
fn zones(options: &Options) -> BTreeSet<DnsName> {
    let networks = options.reverse_networks.iter().chain(&LOCAL);
    let mut zones: BTreeSet<DnsName> = networks.flat_map(|network| zones_of(*network)).collect();
    zones.extend(ZONES.map(DnsName::fixed));
    zones.insert(options.domain.clone());
    zones
}

/// The first server of a zone.
fn server(zone: &DnsName, options: &Options) -> DnsName {
    if *zone == options.domain { zone.under("ns1") } else { DnsName::fixed("ns.spartan") }
}

/// The resolver's names, this node's, and the loopback's.
fn own_records(options: &Options) -> Vec<Record> {
    let (server, localhost) = (DnsName::fixed("ns.spartan"), DnsName::fixed("localhost"));
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let this_node = DnsName::fixed(THIS_NODE);
    let named: [(DnsName, &[IpAddr], u32); 6] = [
        (server.clone(), &options.resolver_addresses, options.ttl),
        (options.domain.under("ns1"), &options.resolver_addresses, options.domain_ttl()),
        (DnsName::fixed("ready.spartan"), &loopback[..1], options.ttl),
        (localhost.clone(), &loopback, options.ttl),
        (this_node.under("public"), &options.public_addresses, options.ttl),
        (this_node, &options.node_addresses, options.ttl),
    ];
    let forward = named.into_iter().flat_map(|(name, addresses, ttl)| {
        let record =
            move |address: &IpAddr| Record::new(name.clone(), ttl, Data::address(*address));
        addresses.iter().map(record)
    });
    let held =
        |address: &&IpAddr| !address.is_loopback() && is_held(&options.reverse_networks, **address);
    let back = options.resolver_addresses.iter().filter(held).map(|address| (address, &server));
    let back = back.chain(loopback.iter().map(|address| (address, &localhost)));
    let back = back.map(|(address, name)| {
        Record::new(reverse_name(*address), options.ttl, Data::Ptr(name.clone()))
    });
    forward.chain(back).collect()
}

fn master_records(options: &Options) -> Vec<Record> {
    let (domain, ttl) = (&options.domain, options.domain_ttl());
    let of_dispatcher = DnsName::fixed(DCOS_ZONE).under("master");
    let names = |(number, address): (usize, &IpAddr)| {
        let data = Data::address(*address);
        [
            Record::new(domain.under("master"), ttl, data.clone()),
            Record::new(domain.under(&format!("master{number}")), ttl, data.clone()),
            Record::new(of_dispatcher.clone(), options.ttl, data),
        ]
    };
    masters(options).iter().enumerate().flat_map(names).collect()
}

/// The masters that are known beside the leader, each once. A master that listens on
/// every address says nothing about where it is.
pub(crate) fn masters(options: &Options) -> Vec<IpAddr> {
    let mut masters = Vec::new();
    for master in &options.masters {
        let master = master.to_canonical();
        if !masters.contains(&master) && !master.is_unspecified() {
            masters.push(master);
        }
    }
    masters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(options: &Options, filter: &str) -> Vec<String> {
        let mut lines: Vec<String> =
            static_records(options).iter().map(ToString::to_string).collect();
        lines.retain(|line| line.contains(filter));
        lines.sort();
        lines
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn five_names_whatever_the_ensemble() {
        let mut options = Options {
            masters: addresses(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
            ..Options::default()
        };
        #[rustfmt::skip]
        assert_eq!(lines(&options, ".zk. 5 IN A"), [
            "zk-1.zk. 5 IN A 10.0.0.1", "zk-2.zk. 5 IN A 10.0.0.2", "zk-3.zk. 5 IN A 10.0.0.3",
            "zk-4.zk. 5 IN A 10.0.0.1", "zk-5.zk. 5 IN A 10.0.0.2",
        ]);
        options.ensemble = addresses(&["10.0.0.9"]);
        assert!(lines(&options, ".zk. 5 IN A").iter().all(|line| line.ends_with(" 10.0.0.9")));
        assert_eq!(lines(&Options::default(), ".zk. 5 IN A"), Vec::<String>::new());
    }

    #[test]
    fn masters_have_their_places_numbers() {
        let options = Options {
            masters: addresses(&["10.0.0.3", "0.0.0.0", "10.0.0.1", "10.0.0.3"]),
            ..Options::default()
        };
        #[rustfmt::skip]
        assert_eq!(lines(&options, "master").into_iter().filter(|line| line.contains(" A ")).collect::<Vec<_>>(), [
            "master.dcos.thisdcos.directory. 5 IN A 10.0.0.1",
            "master.dcos.thisdcos.directory. 5 IN A 10.0.0.3",
            "master.mesos. 5 IN A 10.0.0.1",
            "master.mesos. 5 IN A 10.0.0.3",
            "master0.mesos. 5 IN A 10.0.0.3",
            "master1.mesos. 5 IN A 10.0.0.1",
        ]);
        let number = |text: &str| master_number(text.parse().unwrap(), &options);
        assert_eq!((number("10.0.0.1"), number("10.0.0.9")), (1, 2));
    }
}
