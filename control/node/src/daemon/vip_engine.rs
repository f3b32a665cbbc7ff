//! What balances VIPs on this machine: programs, queued packets, or nothing.

use super::vip_part::VipPart;
use crate::config::{Config, Role, VipEngine};
use anyhow::Context;
use ipnet::IpNet;
use mizzen_kernel::vips::{
    self, Masquerade, Options as ProgramOptions, QueueOptions, Tuning, Vips,
};
use mizzen_types::error::chain;
use std::net::Ipv6Addr;
use tracing::debug;

/// Queues that first packets are spread over; those of Minuteman.
const QUEUES: std::ops::RangeInclusive<u16> = 50..=58;

/// Group of packets that the queue engine is shown.
const GROUP: u16 = 50;

/// Network of the IPv6 twins of named VIPs.
const TWINS: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0, 0, 0, 0), 64);

/// Why connections to IPv6 VIPs time out.
const NO_SOURCE: &str = "vip-engine: programs of this machine cannot connect to IPv6 VIPs by queued packets, because \
    it has no IPv6 address but loopback and link-local ones";

/// An engine, and what kept a better one from starting.
pub(super) struct OpenedVips {
    pub engine: Vips,
    pub problem: Option<String>,
}

/// Starts the engine that is asked for, or the node does not start. With `engine = "auto"` that
/// is the first that the kernel and our rights allow; a node without any goes on, and says what
/// it lacks.
pub(super) fn open_vips(config: &Config) -> anyhow::Result<OpenedVips> {
    if !config.has(Role::Vip) {
        return Ok(without_problem(Vips::Off));
    }
    match config.vip.engine {
        VipEngine::Off => Ok(without_problem(Vips::Off)),
        VipEngine::Ebpf => open_programs(config).map(without_problem).context(
            "vip.engine is \"ebpf\"; with \"auto\" the node starts with queued packets or without VIPs",
        ),
        VipEngine::Nfqueue => open_queues(config).map(without_problem).context(
            "vip.engine is \"nfqueue\"; with \"auto\" the node starts with programs or without VIPs",
        ),
        VipEngine::Auto => Ok(open_any(config)),
    }
}

fn open_any(config: &Config) -> OpenedVips {
    let first = match open_programs(config) {
        Ok(engine) => return without_problem(engine),
        Err(error) => chain(error.as_ref()),
    };
    match open_queues(config) {
        Ok(engine) => {
            let problem = format!("VIPs are balanced by queued packets, not by programs: {first}");
            OpenedVips { engine, problem: Some(problem) }
        }
        Err(error) => {
            let second = chain(error.as_ref());
            let problem = format!("VIPs cannot be connected to: {first}; nor queued: {second}");
            OpenedVips { engine: Vips::Off, problem: Some(problem) }
        }
    }
}

fn without_problem(engine: Vips) -> OpenedVips {
    OpenedVips { engine, problem: None }
}

/// Programs, in the place of what the other engine left: it would refuse their connections.
fn open_programs(config: &Config) -> anyhow::Result<Vips> {
    let engine = Vips::open(&program_options(config))?;
    if let Err(error) = vips::teardown_queues(&queue_options(config)) {
        debug!(error = chain(&error), "no rules of the other VIP engine could be looked for");
    }
    Ok(engine)
}

/// Queues, in the place of programs, which would keep packets from them and which go on working
/// if there are no queues to be had.
fn open_queues(config: &Config) -> anyhow::Result<Vips> {
    let engine = Vips::open_queues(&queue_options(config))?;
    if let Err(error) = vips::teardown(&program_options(config)) {
        debug!(error = chain(&error), "no programs of the other VIP engine could be looked for");
    }
    // Queues refuse what is not there themselves, and see only packets that have a route.
    if let Err(error) = vips::admit_absent(&vip_networks(config)) {
        debug!(error = chain(&error), "no routes of the other VIP engine could be looked for");
    }
    Ok(engine)
}

impl VipPart {
    /// That IPv6 VIPs cannot be connected to, if there are any.
    pub(crate) fn unreachable(&self) -> Option<String> {
        let some = self.planner.keys().any(|vip| vip.address.is_ipv6());
        (some && !self.balancer.has_ipv6_source()).then(|| NO_SOURCE.to_owned())
    }
}

/// Removes what either engine left; names what would not go.
pub(super) fn teardown_vips(config: &Config) -> Vec<String> {
    let programs = vips::teardown(&program_options(config)).map_err(|error| chain(&error));
    let queues = vips::teardown_queues(&queue_options(config)).map_err(|error| chain(&error));
    let routes = vips::admit_absent(&vip_networks(config)).map_err(|error| chain(&error));
    [programs, queues, routes.map(drop)].into_iter().filter_map(Result::err).collect()
}

/// By what backends are judged.
pub(super) fn vip_tuning(config: &Config) -> Tuning {
    let ejection = &config.vip.ejection;
    Tuning {
        failures: ejection.after,
        pause: ejection.pause,
        longest_pause: ejection.longest,
        handshake: ejection.handshake_limit,
        ..Tuning::default()
    }
}

/// Where the VIP programs are pinned, and whose connects they see.
fn program_options(config: &Config) -> ProgramOptions {
    ProgramOptions {
        pin_dir: config.instance.pin_dir(&config.vip.bpffs),
        cgroup: config.vip.cgroup.clone(),
        tuning: vip_tuning(config),
    }
}

/// Where named VIPs are.
pub(super) fn vip_networks(config: &Config) -> Vec<IpNet> {
    let (twins, prefix) = TWINS;
    let networks = [Some(IpNet::V4(config.vip.named_range)), IpNet::new(twins.into(), prefix).ok()];
    networks.into_iter().flatten().collect()
}

/// Tables, queues and networks of the queue engine.
fn queue_options(config: &Config) -> QueueOptions {
    let overlays = config.overlay.all_networks();
    let masquerade = overlays.iter().filter(|_| config.has(Role::Overlay)).map(|network| {
        let v4 = network.addr().is_ipv4();
        let except = overlays.iter().filter(|other| other.addr().is_ipv4() == v4).copied();
        Masquerade { source: *network, except: except.collect() }
    });
    let bridge = config.bridge_network().map(|network| {
        let network = IpNet::V4(network);
        Masquerade { source: network, except: vec![network] }
    });
    QueueOptions {
        table: config.instance.vip_table(),
        queues: QUEUES,
        group: GROUP,
        networks: vip_networks(config),
        addresses: vec![config.address],
        masquerade: masquerade.chain(bridge).collect(),
        tuning: vip_tuning(config),
    }
}
