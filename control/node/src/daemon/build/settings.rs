//! From the configuration to what each part of a node wants to know.

use crate::config::{Config, Role};
use crate::daemon::network_files;
use anyhow::Context;
use mizzen_agent::CpuLimit;
use mizzen_api::{resources, v1};
use mizzen_http::server::{Address, Part, Settings as ListenerSettings};
use mizzen_isolators::{Containerizer, Settings as ContainerSettings};
use mizzen_kernel::network::{Isolation, NamesSpec, NetworkSpec};
use mizzen_netlink::{PlainTunnels, UntrackedTunnels};
use mizzen_plan::overlay::local::named_configuration;
use mizzen_plan::overlay::{Naming, NodeBridge, OverlaySpec, Peers, specs};
use mizzen_types::encryption::PlainPackets;
use mizzen_types::overlay::OverlayGrant;
use mizzen_types::resources::{Resources, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use tracing::warn;

/// Processes and threads in one container.
const PIDS: u32 = 4096;

/// Where sandboxes lie.
pub(crate) fn work_dir(config: &Config) -> PathBuf {
    config.state_dir.join("work")
}

/// Where the run directories of containers lie.
pub(crate) fn run_root(config: &Config) -> PathBuf {
    config.run_dir.join("containers")
}

/// Written on every link that is ours.
pub(crate) fn mark(config: &Config) -> String {
    format!("mizzen {}", config.instance)
}

/// What the node's network should look like with what the master gave it. Behind the
/// `narrow` links some paths take smaller packets than others.
pub(crate) fn network_spec(
    config: &Config,
    grant: Option<&OverlayGrant>,
    narrow: Vec<String>,
) -> NetworkSpec {
    let names = config.has(Role::Dns).then(|| NamesSpec {
        link: config.instance.names_link(),
        addresses: config.dns.addresses.clone(),
    });
    NetworkSpec {
        mark: mark(config),
        names,
        overlays: grant.map(|grant| overlay_specs(config, grant)).unwrap_or_default(),
        bridge: node_bridge(config),
        isolation: if config.overlay.isolation { Isolation::Apart } else { Isolation::Together },
        narrow,
        plain: (config.overlay.encryption == Some(PlainPackets::Refused)).then(|| PlainTunnels {
            port: grant.map_or(config.overlay.port, |grant| grant.port),
            link: config.instance.encryption_link(),
        }),
        tunnels: grant.map(|grant| UntrackedTunnels { port: grant.port }),
        leases: leases(config),
        filter_table: config.instance.filter_table(),
        port_table: config.instance.port_table(),
        cni_directory: config.run_dir.join("cni"),
        socket: config.socket(),
    }
}

/// The container side of a configuration.
pub(crate) fn containerizer(
    config: &Config,
    grant: Option<&OverlayGrant>,
) -> anyhow::Result<Containerizer> {
    let settings = ContainerSettings {
        launcher: crate::daemon::executables::launcher(config),
        run_root: run_root(config),
        cgroup_root: config.cgroup_root.clone(),
        plugin_dirs: crate::daemon::executables::plugin_dirs(config),
        networks: networks(config, grant),
        plugin_timeout: config.agent.plugin_timeout,
    };
    Containerizer::new(settings).context("containers cannot be made on this machine")
}

/// The networks of this node, with their CNI configurations: those that are configured, those
/// that the master gave the node, the node's own, and those of the operator's directory. The
/// plugins find out by themselves what is new in an overlay.
pub(crate) fn networks(
    config: &Config,
    grant: Option<&OverlayGrant>,
) -> BTreeMap<String, serde_json::Value> {
    if !config.has(Role::Overlay) {
        return BTreeMap::new();
    }
    let (leases, ports) = (leases(config), config.instance.port_table());
    let given = grant.into_iter().flat_map(|grant| &grant.shares).map(|share| &share.overlay.name);
    // Most of what a node was given is in its own configuration, too.
    let names: BTreeSet<&String> = config.overlay.names().chain(given).collect();
    let own =
        names.into_iter().map(|name| (name.clone(), named_configuration(name, &leases, &ports)));
    let bridge = node_bridge(config);
    let bridge = bridge.map(|bridge| (bridge.name.clone(), bridge.cni_configuration()));
    let mut networks = network_files::read(&config.agent.network_dir);
    for (name, configuration) in own.chain(bridge) {
        if networks.insert(name.clone(), configuration).is_some() {
            warn!(network = name, "a network of the directory has the name of a built-in one");
        }
    }
    networks
}

/// The network of this node alone.
pub(crate) fn node_bridge(config: &Config) -> Option<NodeBridge> {
    Some(NodeBridge {
        name: config.bridge.name.clone(),
        network: config.bridge_network()?.into(),
        link: config.bridge.link.clone(),
        mtu: config.bridge.mtu,
        leases: leases(config),
        resolver: resolver(config),
        port_table: config.instance.port_table(),
    })
}

/// The resolver that containers are told of.
fn resolver(config: &Config) -> Option<Ipv4Addr> {
    let mut addresses = config.dns.addresses.iter().filter(|_| config.has(Role::Dns));
    addresses.find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

/// What the node makes of what the master gave it.
pub(crate) fn overlay_specs(config: &Config, grant: &OverlayGrant) -> Vec<OverlaySpec> {
    let naming = Naming {
        bridge: &|overlay| config.overlay.bridge_of(overlay, &config.instance),
        second: &|overlay| config.instance.second_bridge(overlay),
        tunnel: &|vni| config.instance.tunnel(vni),
        leases: leases(config),
        resolver: resolver(config),
    };
    specs(grant, &naming)
}

/// Ends of tunnels behind which some paths take smaller packets than the tunnel.
pub(crate) fn narrow_links(config: &Config, peers: &Peers) -> Vec<String> {
    let routes = peers.entries().flat_map(|(_, entries)| &entries.routes);
    let narrow = routes.filter(|route| route.mtu.is_some());
    let numbers: BTreeSet<u32> = narrow.map(|route| route.vni).collect();
    numbers.into_iter().map(|vni| config.instance.tunnel(vni)).collect()
}

/// Where the plugins keep leases, and tell of their calls.
pub(crate) fn leases(config: &Config) -> PathBuf {
    config.state_dir.join("leases")
}

/// Where the node's APIs listen.
pub(crate) fn listener_settings(config: &Config) -> ListenerSettings {
    let tcp = |address: SocketAddr| Address::Tcp(address);
    let mut listeners =
        vec![(Part::Node, Address::Unix(config.socket())), (Part::Node, tcp(config.admin.node))];
    for (role, part, address) in [
        (Role::Master, Part::Master, config.master.listen),
        (Role::Agent, Part::Agent, config.agent.listen),
        (Role::Services, Part::Services, config.services.listen),
        (Role::Dns, Part::MesosDns, config.admin.mesos_dns),
        (Role::Vip, Part::Minuteman, config.admin.minuteman),
    ] {
        if config.has(role) || config.leads_elsewhere(role) {
            listeners.push((part, tcp(address)));
        }
    }
    ListenerSettings { listeners, ..ListenerSettings::default() }
}

pub(super) fn agent_settings(config: &Config) -> anyhow::Result<mizzen_agent::Settings> {
    let resources = Resources::parse(&config.agent.resources)
        .with_context(|| format!("agent.resources: `{}`", config.agent.resources))?;
    let port = config.agent.listen.port();
    let info = v1::AgentInfo {
        hostname: config.hostname.clone(),
        port: Some(i32::from(port)),
        resources: resources::to_v1(&resources),
        attributes: attributes(&config.agent.attributes),
        ..v1::AgentInfo::default()
    };
    Ok(mizzen_agent::Settings {
        info,
        address: config.address,
        port,
        local_networks: [config.bridge.name.clone()].into(),
        work_dir: work_dir(config),
        run_root: run_root(config),
        cpu_limit: if config.agent.cpu_quota { CpuLimit::Quota } else { CpuLimit::Shares },
        pids: PIDS,
    })
}

/// Attributes from their text, `name:value;…`, which the configuration has checked. A
/// value that is neither a number nor ranges is a text.
fn attributes(text: &str) -> Vec<v1::Attribute> {
    text.split([';', '\n']).filter_map(|part| part.split_once(':')).map(attribute).collect()
}

fn attribute((name, value): (&str, &str)) -> v1::Attribute {
    let (name, value) = (name.trim().to_owned(), value.trim());
    let attribute = v1::Attribute { name, ..v1::Attribute::default() };
    match Value::parse(value) {
        Ok(Some(Value::Scalar(scalar))) => v1::Attribute {
            r#type: v1::value::Type::Scalar.into(),
            scalar: Some(v1::value::Scalar { value: scalar.as_f64() }),
            ..attribute
        },
        Ok(Some(Value::Ranges(ranges))) => v1::Attribute {
            r#type: v1::value::Type::Ranges.into(),
            ranges: Some(v1::value::Ranges {
                range: ranges.iter().map(|(begin, end)| v1::value::Range { begin, end }).collect(),
            }),
            ..attribute
        },
        _ => v1::Attribute {
            r#type: v1::value::Type::Text.into(),
            text: Some(v1::value::Text { value: value.to_owned() }),
            ..attribute
        },
    }
}
