//! From layers of text to a [`Config`]: reads each key, fills in defaults, and
//! checks what no key can tell alone.

use super::error::{ConfigError, Origin, Problem};
use super::host::HostFacts;
use super::sources::{Layer, Layers, Text};
use super::{
    AdminConfig, AgentConfig, BridgeConfig, ClusterConfig, Config, EjectionConfig, LogConfig,
    LogFormat, MasterConfig, OverlayConfig, Role, ServicesConfig, VipConfig, VipEngine, value,
};
use super::{bridge, dns, names, overlay};
use crate::instance::{Instance, SOCKET_NAME};
use ipnet::{IpNet, Ipv4Net};
use mizzen_kernel::vips::Tuning;
use mizzen_plan::ingress::IngressRule;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Longest path of a unix socket in bytes (`sun_path` with its terminating zero).
const MAX_SOCKET_BYTES: usize = 107;

/// Where nodes listen for each other, UDP and TCP.
pub const CLUSTER_PORT: u16 = 62501;

/// Where networks are that the operator of a machine brought.
const NETWORK_DIR: &str = "/etc/mizzen/networks";

/// Builds the configuration. What is wrong goes into `errors`, and the default is
/// used in its place so that the rest can be checked as well.
pub(super) fn build(layers: &Layers, host: &HostFacts, errors: &mut Vec<ConfigError>) -> Config {
    let mut read = Reader { layers, errors, origins: BTreeMap::new() };
    let instance: Instance = read.one("instance", Instance::default(), value::instance);
    let overlay = overlay::read(&mut read, &instance);
    let bridge = bridge::read(&mut read, &instance, host);
    let names_at = read.many("dns.addresses", dns::default_addresses(host), value::own_ip);
    let address =
        read.one("address", default_address(host, &overlay, &bridge, &names_at), value::own_ip);
    let config = Config {
        roles: read.many("roles", ALL_ROLES.to_vec(), value::role).into_iter().collect(),
        state_dir: read.one("state_dir", instance.state_dir(), value::absolute_path),
        run_dir: read.one("run_dir", instance.run_dir(), value::absolute_path),
        cgroup_root: read.one("cgroup_root", instance.cgroup_root(), value::cgroup),
        hostname: read.one("hostname", default_hostname(host, address), value::hostname),
        zone: read.one("zone", String::new(), value::zone),
        libexec_dir: read.one("libexec_dir", host.executable_dir.clone(), value::absolute_path),
        log: LogConfig {
            format: read.one("log.format", LogFormat::Text, value::log_format),
            level: read.one("log.level", "info".to_owned(), value::log_level),
        },
        cluster: cluster(&mut read, address),
        master: master(&mut read, address),
        agent: agent(&mut read, address, host),
        services: ServicesConfig {
            listen: read.one("services.listen", at(address, 8080), |t| value::listen(t, address)),
            framework_name: read.one(
                "services.framework_name",
                "marathon".to_owned(),
                value::plain_name,
            ),
        },
        dns: dns::read(&mut read, names_at, overlay.network, host),
        vip: vip(&mut read, host),
        admin: admin(&mut read),
        instance,
        address,
        overlay,
        bridge,
        joined: false,
        origins: BTreeMap::new(),
    };
    let origins = read.origins;
    check(&config, &origins, errors);
    Config { origins, ..config }
}

const ALL_ROLES: [Role; 6] =
    [Role::Master, Role::Agent, Role::Services, Role::Dns, Role::Vip, Role::Overlay];

pub(super) struct Reader<'a> {
    layers: &'a Layers,
    errors: &'a mut Vec<ConfigError>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Reader<'_> {
    /// The value of the highest layer that has `key`. Lower layers are read as
    /// well: a mistake does not become right by being hidden.
    pub(super) fn one<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.top(key, default, |layer| match &layer.text {
            Text::One(text) => parse(text).map_err(|expected| invalid(text, expected)),
            Text::Many(_) => Err(Problem::Form { expected: "one value", found: "an array" }),
        })
    }

    /// Like [`Self::one`] for lists.
    pub(super) fn many<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.top(key, default, |layer| {
            let parts = match &layer.text {
                Text::One(text) => std::slice::from_ref(text),
                Text::Many(parts) => parts,
            };
            let part = |text: &String| parse(text).map_err(|expected| invalid(text, expected));
            parts.iter().map(part).collect()
        })
    }

    fn top<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl Fn(&Layer) -> Result<T, Problem>,
    ) -> T {
        let mut value = default;
        let mut origin = Origin::Default;
        for layer in self.layers.get(key).into_iter().flatten() {
            match parse(layer) {
                Ok(parsed) => {
                    value = parsed;
                    origin = layer.origin.clone();
                }
                Err(problem) => self.errors.push(ConfigError {
                    origin: layer.origin.clone(),
                    key: Some(key.to_owned()),
                    problem,
                }),
            }
        }
        self.origins.insert(key, origin);
        value
    }
}

fn invalid(text: &str, expected: String) -> Problem {
    Problem::Value { value: text.to_owned(), expected }
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// The machine's first address that is not one which we gave it ourselves.
fn default_address(
    host: &HostFacts,
    overlay: &OverlayConfig,
    bridge: &BridgeConfig,
    names: &[IpAddr],
) -> IpAddr {
    let ends = [overlay.vtep_network.into(), overlay.vtep_network6.into()];
    let networks: Vec<IpNet> = overlay.all_networks().into_iter().chain(ends).collect();
    let ours = |ip: &IpAddr| {
        let given = names.contains(ip) || bridge.gateway() == Some(*ip);
        given || networks.iter().any(|net| net.contains(ip))
    };
    let found = host.addresses.iter().copied().find(|ip| !ours(ip));
    found.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

fn default_hostname(host: &HostFacts, address: IpAddr) -> String {
    if host.hostname.is_empty() { address.to_string() } else { host.hostname.clone() }
}

/// A node that others cannot reach anyhow does not listen for them.
fn cluster(read: &mut Reader<'_>, address: IpAddr) -> ClusterConfig {
    let listen = (!address.is_loopback()).then(|| at(address, CLUSTER_PORT));
    let days = |days: u64| Duration::from_secs(days * 86_400);
    ClusterConfig {
        listen: read.one("cluster.listen", listen, |t| value::listen_or_none(t, address)),
        certificate_life: read.one("cluster.certificate_life", days(90), value::span),
        key_rotation: read.one("cluster.key_rotation", days(1), value::span),
    }
}

fn master(read: &mut Reader<'_>, address: IpAddr) -> MasterConfig {
    MasterConfig {
        listen: read.one("master.listen", at(address, 5050), |t| value::listen(t, address)),
        allocation_interval: read.one(
            "master.allocation_interval",
            Duration::from_secs(1),
            value::duration,
        ),
    }
}

fn agent(read: &mut Reader<'_>, address: IpAddr, host: &HostFacts) -> AgentConfig {
    AgentConfig {
        listen: read.one("agent.listen", at(address, 5051), |t| value::listen(t, address)),
        resources: read.one("agent.resources", host.resources(), value::resources),
        attributes: read.one("agent.attributes", String::new(), value::attributes),
        cpu_quota: read.one("agent.cpu_quota", false, value::truth),
        plugin_timeout: read.one("agent.plugin_timeout", Duration::from_secs(15), value::duration),
        network_dir: read.one("agent.network_dir", NETWORK_DIR.into(), value::absolute_path),
        gc_delay: read.one("agent.gc_delay", Duration::from_secs(7 * 86_400), value::span),
        gc_disk_headroom: read.one("agent.gc_disk_headroom", 10, |t| {
            value::number(t, "a percentage of the disk", 0..=100)
        }),
    }
}

fn vip(read: &mut Reader<'_>, host: &HostFacts) -> VipConfig {
    let cgroup = host.cgroup2.clone().unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup"));
    let range = Ipv4Net::new_assert(Ipv4Addr::new(11, 0, 0, 0), 8);
    VipConfig {
        engine: read.one("vip.engine", VipEngine::Auto, value::engine),
        cgroup: read.one("vip.cgroup", cgroup, value::absolute_path),
        ingress: read.many("vip.ingress", vec![IngressRule::Auto], value::ingress),
        named_range: read.one("vip.named_range", range, |t| value::network(t, 30)),
        bpffs: read.one("vip.bpffs", PathBuf::from("/sys/fs/bpf"), value::absolute_path),
        ejection: ejection(read),
    }
}

fn ejection(read: &mut Reader<'_>) -> EjectionConfig {
    let tuning = Tuning::default();
    EjectionConfig {
        after: read.one("vip.eject_after", tuning.failures, |t| {
            value::number(t, "a number of failures", 0..=1000)
        }),
        pause: read.one("vip.eject_pause", tuning.pause, value::duration),
        longest: read.one("vip.eject_longest", tuning.longest_pause, value::duration),
        handshake_limit: read.one("vip.handshake_limit", tuning.handshake, value::duration),
    }
}

fn admin(read: &mut Reader<'_>) -> AdminConfig {
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let mut listen = |key, port| read.one(key, at(local, port), |t| value::listen(t, local));
    AdminConfig {
        mesos_dns: listen("admin.mesos_dns", 8123),
        minuteman: listen("admin.minuteman", 61421),
        node: listen("admin.node", 62080),
    }
}

/// What no key can tell alone.
fn check(config: &Config, origins: &BTreeMap<&'static str, Origin>, errors: &mut Vec<ConfigError>) {
    let mut conflict = |key: &'static str, value: String, conflict: String| {
        let origin = origins.get(key).cloned().unwrap_or(Origin::Default);
        let problem = Problem::Conflict { value, conflict };
        errors.push(ConfigError { origin, key: Some(key.to_owned()), problem });
    };

    for (value, words) in impossible_roles(config) {
        conflict("roles", value, words);
    }
    let overlay = &config.overlay;
    if overlay.prefix < overlay.network.prefix_len() {
        let network = overlay.network;
        conflict(
            "overlay.prefix",
            overlay.prefix.to_string(),
            format!("is shorter than the prefix of overlay.network, {network}"),
        );
    } else if !overlay.network.contains(&overlay.subnet)
        || overlay.subnet.prefix_len() != overlay.prefix
    {
        let (network, prefix) = (overlay.network, overlay.prefix);
        conflict(
            "overlay.subnet",
            overlay.subnet.to_string(),
            format!("is no /{prefix} (overlay.prefix) of overlay.network, {network}"),
        );
    }
    let range = IpNet::V4(config.vip.named_range);
    let overlaps = |net: &IpNet| net.contains(&range) || range.contains(net);
    for network in overlay.all_networks().into_iter().filter(overlaps) {
        conflict("vip.named_range", range.to_string(), format!("overlaps {network}, an overlay"));
    }
    for (key, value, words) in
        overlay::conflicts(config).into_iter().chain(bridge::conflicts(config))
    {
        conflict(key, value, words);
    }
    let socket = config.run_dir.join(SOCKET_NAME);
    if socket.as_os_str().len() > MAX_SOCKET_BYTES {
        conflict(
            "run_dir",
            config.run_dir.display().to_string(),
            format!("is too long for a socket in it (all of it at most {MAX_SOCKET_BYTES} bytes)"),
        );
    }
    if config.has(Role::Dns) {
        for (key, value, words) in dns::conflicts(&config.dns) {
            conflict(key, value, words);
        }
        if let Some((key, value, words)) = names::conflict(config) {
            conflict(key, value, words);
        }
    }
    for (key, address, other) in double_listeners(config) {
        conflict(key, address.to_string(), format!("is also the value of {other}"));
    }
}

/// Roles that do not make a node, and why.
fn impossible_roles(config: &Config) -> Vec<(String, String)> {
    if config.roles.is_empty() {
        return vec![("[]".to_owned(), "leaves nothing to run".to_owned())];
    }
    if config.has(Role::Services) && !config.has(Role::Master) {
        let text = "needs `master` on the same node in this version";
        return vec![("services".to_owned(), text.to_owned())];
    }
    Vec::new()
}

/// Pairs of listeners that would want the same port.
fn double_listeners(config: &Config) -> Vec<(&'static str, SocketAddr, &'static str)> {
    let listeners = [
        (Role::Master, "master.listen", config.master.listen),
        (Role::Agent, "agent.listen", config.agent.listen),
        (Role::Services, "services.listen", config.services.listen),
        (Role::Vip, "admin.minuteman", config.admin.minuteman),
        (Role::Dns, "admin.mesos_dns", config.admin.mesos_dns),
    ];
    let mut seen: Vec<(&'static str, SocketAddr)> = vec![("admin.node", config.admin.node)];
    seen.extend(config.cluster.listen.map(|address| ("cluster.listen", address)));
    let mut double = Vec::new();
    for (role, key, address) in listeners {
        if !config.has(role) {
            continue;
        }
        let same = |(_, other): &&(&'static str, SocketAddr)| {
            let all = address.ip().is_unspecified() || other.ip().is_unspecified();
            other.port() == address.port() && (all || other.ip() == address.ip())
        };
        if let Some((other, _)) = seen.iter().find(same) {
            double.push((key, address, *other));
        }
        seen.push((key, address));
    }
    double
}
