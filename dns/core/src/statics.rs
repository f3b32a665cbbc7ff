//! Records that no fact makes: the zones themselves and the node's own names.

use crate::name::DnsName;
use crate::options::Options;
use crate::record::{Data, Record, Start};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The root of the dispatcher's zones.
pub(crate) const DIRECTORY: &str = "thisdcos.directory";
/// Where tasks, masters and the leader are named by the dispatcher.
pub(crate) const DCOS_ZONE: &str = "dcos.thisdcos.directory";
/// Where VIPs are named.
pub(crate) const VIP_ZONE: &str = "l4lb.thisdcos.directory";
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
/// How long clients may keep NS records, in seconds.
const NS_TTL: u32 = 3600;

/// Zones beside the one of tasks, each with its own SOA and NS record.
const ZONES: [&str; 8] = [
    DIRECTORY,
    DCOS_ZONE,
    VIP_ZONE,
    "component.thisdcos.directory",
    "thisnode.thisdcos.directory",
    "spartan",
    "localhost",
    "zk",
];

/// The records that are there from the start.
pub(crate) fn static_records(options: &Options) -> Vec<Record> {
    let server = DnsName::fixed("ns.spartan");
    let mesos_server = options.domain.under("ns1");
    let mut records = Vec::new();
    for zone in ZONES.map(DnsName::fixed) {
        records.extend(apex(&zone, &server, &DnsName::fixed("hostmaster.spartan"), options));
    }
    let mailbox = mesos_server.under("root");
    records.extend(apex(&options.domain, &mesos_server, &mailbox, options));

    let mut add = |name: DnsName, addresses: &[IpAddr]| {
        let ttl = options.ttl;
        records.extend(addresses.iter().map(|address| {
            let data = Data::address(*address);
            Record::new(name.clone(), ttl, data)
        }));
    };
    let loopback4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    add(server, &options.resolver_addresses);
    add(mesos_server, &options.resolver_addresses);
    add(DnsName::fixed("ready.spartan"), &[loopback4]);
    add(DnsName::fixed("localhost"), &[loopback4, IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    add(DnsName::fixed("thisnode.thisdcos.directory"), &options.node_addresses);
    records
}

fn apex(zone: &DnsName, server: &DnsName, mailbox: &DnsName, options: &Options) -> [Record; 2] {
    let start = Start {
        server: server.clone(),
        mailbox: mailbox.clone(),
        retry: 180,
        negative_ttl: options.negative_ttl,
    };
    let record = |data, ttl| Record::new(zone.clone(), ttl, data);
    [record(Data::Soa(Box::new(start)), options.ttl), record(Data::Ns(server.clone()), NS_TTL)]
}
