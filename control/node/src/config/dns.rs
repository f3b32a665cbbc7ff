//! The section `dns`: what the resolver answers, where, for whom, and whom it asks.

use super::build::Reader;
use super::host::HostFacts;
use super::value;
use ipnet::{IpNet, Ipv4Net};
use mizzen_dns_core::{DnsName, IpSource, Mode, Upstream};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

/// Where DC/OS nodes resolve names: three addresses, because stub resolvers try three.
const ADDRESSES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 3)),
];
const ADDRESS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd01, 0xd, 0, 0, 0, 0, 0xc633, 0x6401));
/// Networks that do not cross the internet, and those of the cluster.
const CLIENTS: [&str; 13] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "9.0.0.0/8",
    "11.0.0.0/8",
    "44.128.0.0/16",
    "198.51.100.0/24",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];
/// More threads than this only fight about the same sockets.
const MAX_THREADS: usize = 64;
/// Longest time that is said in seconds: a week.
const WEEK: u32 = 604_800;

/// What becomes of `/etc/resolv.conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvConf {
    /// It is somebody else's.
    Leave,
    /// It names our resolver while the node runs.
    Write,
}

/// The resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsConfig {
    /// Addresses that the node gives itself and answers on.
    pub addresses: Vec<IpAddr>,
    /// On which port.
    pub port: u16,
    /// Further listeners, on addresses that the machine has.
    pub listen: Vec<SocketAddr>,
    /// Resolvers for all other names; may be empty.
    #[serde(serialize_with = "value::write_texts")]
    pub upstreams: Vec<Upstream>,
    /// Resolvers for the names below a suffix; none refuses them.
    #[serde(serialize_with = "write_zones")]
    pub forward_zones: BTreeMap<String, Vec<Upstream>>,
    /// Certificates that upstreams over TLS may be signed by, beside those that the machine
    /// trusts; may be empty.
    pub ca_file: PathBuf,
    /// Suffixes that clients append to names, and that are known not to help.
    pub search: Vec<String>,
    /// Who may ask about names of others.
    pub clients: Vec<IpNet>,
    /// Time to live of answers in seconds.
    pub ttl: u32,
    /// That of "there is nothing".
    pub negative_ttl: u32,
    /// That of answers while something behind the name goes away.
    pub draining_ttl: u32,
    /// Whose habits count: `strict` or `legacy`.
    #[serde(serialize_with = "write_mode")]
    pub mode: Mode,
    /// The zone of tasks and frameworks.
    pub domain: String,
    /// Sources of a task's address, the first one that has any is taken.
    pub ip_sources: Vec<String>,
    /// Whether labels are host names of RFC 952.
    pub enforce_rfc952: bool,
    /// Weight of SRV records in `domain`.
    pub srv_weight: u16,
    /// Whether tasks are answered whose health check fails.
    pub serve_unhealthy: bool,
    /// Whether tasks are answered that were told to stop.
    pub serve_killing: bool,
    /// All masters, in the order of their numbers; if empty, this node alone.
    pub masters: Vec<IpAddr>,
    /// The ZooKeeper ensemble; if empty, the masters.
    pub ensemble: Vec<IpAddr>,
    /// Addresses by which the world reaches this node.
    pub public_addresses: Vec<IpAddr>,
    /// Names in `component.thisdcos.directory`, without that zone, and what each stands for.
    pub components: BTreeMap<String, String>,
    /// The cluster's public key in z-base-32; may be empty.
    pub cluster_key: String,
    /// How many forwarded answers are kept.
    pub cache_entries: u32,
    /// How long answers may be given after their end while no upstream answers, in seconds.
    pub serve_stale: u32,
    /// Who may have whole zones.
    pub transfer_to: Vec<IpNet>,
    /// Suffixes of names whose questions are logged.
    pub query_log: Vec<String>,
    /// Whether `/v1/enumerate` of Mesos-DNS' HTTP answers.
    pub enumerate: bool,
    /// How many threads answer.
    pub threads: NonZeroUsize,
    /// What becomes of `/etc/resolv.conf`.
    pub resolv_conf: ResolvConf,
}

impl DnsConfig {
    /// Everything that is listened on.
    #[must_use]
    pub fn listeners(&self) -> Vec<SocketAddr> {
        let own = self.addresses.iter().map(|address| SocketAddr::new(*address, self.port));
        own.chain(self.listen.iter().copied()).collect()
    }

    /// Takes over what a running node can change.
    pub(super) fn apply(&mut self, new: &Self) {
        let (addresses, port) = (self.addresses.clone(), self.port);
        let (listen, threads, resolv_conf) = (self.listen.clone(), self.threads, self.resolv_conf);
        *self = Self { addresses, port, listen, threads, resolv_conf, ..new.clone() };
    }
}

/// Where the resolver answers if nothing is said.
pub(super) fn default_addresses(host: &HostFacts) -> Vec<IpAddr> {
    let v6 = host.ipv6.then_some(ADDRESS_V6);
    ADDRESSES.into_iter().chain(v6).collect()
}

pub(super) fn read(
    read: &mut Reader<'_>,
    addresses: Vec<IpAddr>,
    overlay: Ipv4Net,
    host: &HostFacts,
) -> DnsConfig {
    let found = host.upstreams(&addresses).into_iter().map(Upstream::from).collect();
    let seconds = |text: &str| value::number(text, "a number of seconds", 0..=WEEK);
    let day = |text: &str| value::number(text, "a number of seconds", 0..=86_400);
    let one = NonZeroUsize::MIN;
    let cpus = NonZeroUsize::new(host.cpus.min(MAX_THREADS)).unwrap_or(one);
    DnsConfig {
        port: read.one("dns.port", 53, value::port),
        listen: read.many("dns.listen", Vec::new(), listener),
        upstreams: read.many("dns.upstreams", found, upstream),
        forward_zones: zones(read.many("dns.forward_zones", Vec::new(), forward_zone)),
        ca_file: read.one("dns.ca_file", PathBuf::new(), value::path_or_none),
        search: read.many("dns.search", Vec::new(), name),
        clients: read.many("dns.clients", clients(overlay), network),
        ttl: read.one("dns.ttl", 5, day),
        negative_ttl: read.one("dns.negative_ttl", 1, day),
        draining_ttl: read.one("dns.draining_ttl", 1, day),
        mode: read.one("dns.mode", Mode::Strict, mode),
        domain: read.one("dns.domain", "mesos".to_owned(), name),
        ip_sources: read.many("dns.ip_sources", sources(), ip_source),
        enforce_rfc952: read.one("dns.enforce_rfc952", false, value::truth),
        srv_weight: read.one("dns.srv_weight", 1, |t| value::number(t, "a weight", 0..=u16::MAX)),
        serve_unhealthy: read.one("dns.serve_unhealthy", false, value::truth),
        serve_killing: read.one("dns.serve_killing", false, value::truth),
        masters: read.many("dns.masters", Vec::new(), value::peer_ip),
        ensemble: read.many("dns.ensemble", Vec::new(), value::peer_ip),
        public_addresses: read.many("dns.public_addresses", Vec::new(), value::peer_ip),
        components: read.many("dns.components", Vec::new(), component).into_iter().collect(),
        cluster_key: read.one("dns.cluster_key", String::new(), cluster_key),
        cache_entries: read.one("dns.cache_entries", 20_000, |t| {
            value::number(t, "a number of answers", 0..=10_000_000)
        }),
        serve_stale: read.one("dns.serve_stale", 86_400, seconds),
        transfer_to: read.many("dns.transfer_to", Vec::new(), network),
        query_log: read.many("dns.query_log", Vec::new(), suffix),
        enumerate: read.one("dns.enumerate", true, value::truth),
        threads: read.one("dns.threads", cpus, |t| {
            let number = value::number(t, "a number of threads", 1..=MAX_THREADS as u64)?;
            Ok(NonZeroUsize::new(number as usize).unwrap_or(one))
        }),
        resolv_conf: read.one("dns.resolv_conf", ResolvConf::Leave, resolv_conf),
        addresses,
    }
}

/// Pairs of values in the section that do not go together: key, value, why.
pub(super) fn conflicts(config: &DnsConfig) -> Vec<(&'static str, String, String)> {
    let mut found = Vec::new();
    if config.addresses.is_empty() && config.listen.is_empty() {
        let why = "leaves the role dns without one, and dns.listen is empty, too";
        found.push(("dns.addresses", "[]".to_owned(), why.to_owned()));
    }
    let own = config.addresses.iter().map(|address| SocketAddr::new(*address, config.port));
    let own: Vec<SocketAddr> = own.collect();
    for (at, listen) in config.listen.iter().enumerate() {
        if own.contains(listen) || config.listen[..at].contains(listen) {
            found.push(("dns.listen", listen.to_string(), "is listened on already".to_owned()));
        }
    }
    if config.resolv_conf == ResolvConf::Write
        && (config.port != 53 || config.addresses.is_empty())
        && !config.listen.iter().any(|listen| listen.port() == 53)
    {
        let why = "needs an address of the resolver with port 53, the only one that programs ask";
        found.push(("dns.resolv_conf", "write".to_owned(), why.to_owned()));
    }
    found
}

fn clients(overlay: Ipv4Net) -> Vec<IpNet> {
    let mut clients: Vec<IpNet> = CLIENTS.iter().filter_map(|net| net.parse().ok()).collect();
    if !clients.iter().any(|net| net.contains(&IpNet::V4(overlay))) {
        clients.push(IpNet::V4(overlay));
    }
    clients
}

fn sources() -> Vec<String> {
    ["netinfo", "host"].map(str::to_owned).to_vec()
}

fn zones(pairs: Vec<(String, Option<Upstream>)>) -> BTreeMap<String, Vec<Upstream>> {
    let mut zones: BTreeMap<String, Vec<Upstream>> = BTreeMap::new();
    for (suffix, upstream) in pairs {
        zones.entry(suffix).or_default().extend(upstream);
    }
    zones
}

fn listener(text: &str) -> Result<SocketAddr, String> {
    let parsed = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    parsed.ok_or_else(|| "an IP address with a port, such as 127.0.0.1:61053".to_owned())
}

fn upstream(text: &str) -> Result<Upstream, String> {
    let upstream = Upstream::from_str(text).ok();
    upstream.ok_or_else(|| {
        "a resolver (IP, IP:PORT, tls://IP#name or https://IP/dns-query#name)".to_owned()
    })
}

/// `suffix=upstream`, or `suffix=` for names that nobody is asked about.
fn forward_zone(text: &str) -> Result<(String, Option<Upstream>), String> {
    let (suffix, to) = text
        .split_once('=')
        .ok_or_else(|| "a suffix and a resolver, such as corp.example=10.0.0.2".to_owned())?;
    let to = to.trim();
    let to = if to.is_empty() { None } else { Some(upstream(to)?) };
    Ok((name(suffix.trim())?, to))
}

/// `name=target`.
fn component(text: &str) -> Result<(String, String), String> {
    let expected = || "a name and what it stands for, such as web=web.marathon.mesos".to_owned();
    let (component, target) = text.split_once('=').ok_or_else(expected)?;
    let target = name(target.trim()).map_err(|_| expected())?;
    Ok((component.trim().to_ascii_lowercase(), target))
}

/// A name below the root.
fn name(text: &str) -> Result<String, String> {
    let parsed = DnsName::parse(text).ok().filter(|name| !name.as_str().is_empty());
    parsed.map(|name| name.as_str().to_owned()).ok_or_else(|| "a domain name".to_owned())
}

/// A name, or `.` for all of them.
fn suffix(text: &str) -> Result<String, String> {
    if text == "." { Ok(text.to_owned()) } else { name(text) }
}

fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    parsed.map_err(|_| "a network, such as 10.0.0.0/8".to_owned())
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_text(text).ok_or_else(|| "a mode (strict, legacy)".to_owned())
}

fn ip_source(text: &str) -> Result<String, String> {
    match IpSource::from_text(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("a source of addresses (host, netinfo, mesos, docker)".to_owned()),
    }
}

fn cluster_key(text: &str) -> Result<String, String> {
    let letter = |letter: char| "ybndrfg8ejkmcpqxot1uwisza345h769".contains(letter);
    if text.len() <= 63 && text.chars().all(letter) {
        Ok(text.to_owned())
    } else {
        Err("a public key in z-base-32".to_owned())
    }
}

fn resolv_conf(text: &str) -> Result<ResolvConf, String> {
    match text {
        "leave" => Ok(ResolvConf::Leave),
        "write" => Ok(ResolvConf::Write),
        _ => Err("what is done with /etc/resolv.conf (leave, write)".to_owned()),
    }
}

fn write_mode<S: Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match mode {
        Mode::Strict => "strict",
        Mode::Legacy => "legacy",
    })
}

fn write_zones<S: Serializer>(
    zones: &BTreeMap<String, Vec<Upstream>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let texts = |upstreams: &Vec<Upstream>| -> Vec<String> {
        upstreams.iter().map(ToString::to_string).collect()
    };
    serializer.collect_map(zones.iter().map(|(suffix, upstreams)| (suffix, texts(upstreams))))
}
