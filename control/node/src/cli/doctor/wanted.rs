//! From a configuration to what the checks want to know of it.

use crate::config::{Config, ResolvConf, Role, VipEngine};
use crate::daemon::{listener_settings, mark};
use mizzen_http::server::Address;
use mizzen_plan::doctor::{Engine, Listener, Wanted};
use mizzen_types::resources::{Ranges, Resources, Value};
use mizzen_types::vip::Protocol;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// What the node is to be.
///
/// * `running` — parts of it that listen, if its daemon says so.
pub(super) fn of_config(config: &Config, running: Option<&BTreeSet<String>>) -> Wanted {
    let overlay = &config.overlay;
    Wanted {
        mark: mark(config),
        agent: config.has(Role::Agent),
        dns: config.has(Role::Dns),
        vips: engine(config),
        overlay: config.has(Role::Overlay),
        fast_path: overlay.fast_path,
        bridges: bridges(config),
        names_link: config.instance.names_link(),
        networks: overlay.all_networks(),
        overlay_mtu: overlay.mtu,
        tunnel_port: overlay.port,
        encryption: overlay.encryption,
        encryption_port: overlay.encryption_port,
        address: Some(config.address),
        listeners: listeners(config, running),
        resolvers: config.dns.addresses.clone(),
        writes_resolv_conf: config.dns.resolv_conf == ResolvConf::Write,
        task_ports: task_ports(&config.agent.resources),
        state_dir: config.state_dir.display().to_string(),
        run_dir: config.run_dir.display().to_string(),
        cgroup_root: config.cgroup_root.clone(),
        vip_cgroup: config.vip.cgroup.display().to_string(),
        pin_dir: config.instance.pin_dir(&config.vip.bpffs).display().to_string(),
        tables: vec![config.instance.filter_table(), config.instance.vip_table()],
        port_table: config.instance.port_table(),
    }
}

fn bridges(config: &Config) -> Vec<String> {
    let overlay = &config.overlay;
    let bridges = overlay.names().map(|name| overlay.bridge_of(name, &config.instance));
    bridges.chain(config.bridge_network().map(|_| config.bridge.link.clone())).collect()
}

fn engine(config: &Config) -> Option<Engine> {
    match config.vip.engine {
        _ if !config.has(Role::Vip) => None,
        VipEngine::Off => None,
        VipEngine::Auto => Some(Engine::Auto),
        VipEngine::Ebpf => Some(Engine::Programs),
        VipEngine::Nfqueue => Some(Engine::Queues),
    }
}

fn listeners(config: &Config, running: Option<&BTreeSet<String>>) -> Vec<Listener> {
    let listener =
        |part: &str, transport, address| Listener { part: part.to_owned(), transport, address };
    let settings = listener_settings(config);
    let parts = settings.listeners.iter().filter_map(|(part, address)| match address {
        Address::Tcp(address) => Some((part.to_string(), *address)),
        Address::Unix(_) => None,
    });
    let is_meant = |part: &String| running.is_none_or(|running| running.contains(part));
    let parts = parts.filter(|(part, _)| is_meant(part));
    let http = parts.map(|(part, address)| listener(&part, Protocol::Tcp, address));
    let both = |part: &'static str, address: SocketAddr| {
        [Protocol::Udp, Protocol::Tcp].map(|transport| listener(part, transport, address))
    };
    let names = config.dns.listeners().into_iter().filter(|_| config.has(Role::Dns));
    let names = names.flat_map(|address| both("dns", address));
    let cluster = config.cluster.listen.into_iter().flat_map(|address| both("cluster", address));
    http.chain(names).chain(cluster).collect()
}

/// The ranges of `ports:[31000-32000]`.
fn task_ports(resources: &str) -> Vec<(u16, u16)> {
    let resources = Resources::parse(resources).unwrap_or_default();
    let ranges = resources.iter().filter_map(|resource| match &resource.value {
        Value::Ranges(ranges) if &*resource.name == "ports" => Some(ranges),
        _ => None,
    });
    let port = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    ranges.flat_map(Ranges::iter).map(|(a, b)| (port(a), port(b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_tasks() {
        assert_eq!(task_ports("cpus:4;ports:[31000-32000,80-81]"), [(80, 81), (31_000, 32_000)]);
        assert_eq!(task_ports("cpus:4"), []);
    }
}
