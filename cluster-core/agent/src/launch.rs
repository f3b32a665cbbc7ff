//! From a task's description to a container's: what to run, how big, on which
//! network, and how to ask it whether it is well.

use crate::health::Target;
use crate::record::Record;
use crate::{CpuLimit, Settings, environment};
use mizzen_api::v1;
use mizzen_types::container::{self, CommandSpec, LaunchSpec, MountSpec, NetworkMode};
use mizzen_types::ids::ContainerId;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Everything that a containerizer must know to make one container.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its id.
    pub container: ContainerId,
    /// What the launcher is told.
    pub spec: LaunchSpec,
    /// What it may use.
    pub limits: Limits,
    /// Named networks to attach it to, in the order of `eth0`, `eth1` …
    pub networks: Vec<v1::NetworkInfo>,
}

/// What a container may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// CPUs, as a share.
    pub cpus: f64,
    /// CPUs, as a ceiling.
    pub cpu_quota: Option<f64>,
    /// Memory in MiB.
    pub memory_mb: f64,
    /// Processes.
    pub pids: u32,
}

/// The container that a task asks for.
pub(crate) fn order(record: &Record, settings: &Settings) -> Result<Order, String> {
    let command = record.task.command.as_ref().ok_or_else(|| {
        "tasks with an executor of their own are not supported, only command tasks".to_owned()
    })?;
    refuse_what_we_cannot(record, command)?;
    let networks = networks(record)?;
    let mode = if networks.is_empty() { NetworkMode::Host } else { NetworkMode::Container };
    let cpus = scalar(&record.task.resources, "cpus");
    let hostname = record.task.container.as_ref().and_then(|container| container.hostname.clone());
    let spec = LaunchSpec {
        format: container::FORMAT,
        id: record.container.to_string(),
        hostname: hostname.unwrap_or_else(|| record.container.to_string()),
        command: command_spec(command)?,
        environment: environment::of_task(record, command, settings),
        user: user_of(record),
        sandbox: settings.work_dir.join(record.sandbox()),
        run_dir: settings.run_root.join(record.container.as_str()),
        cgroups: Vec::new(),
        network: mode,
        mounts: mounts(record)?,
    };
    let limits = Limits {
        cpus,
        cpu_quota: (settings.cpu_limit == CpuLimit::Quota).then_some(cpus),
        memory_mb: scalar(&record.task.resources, "mem"),
        pids: settings.pids,
    };
    Ok(Order { container: record.container.clone(), spec, limits, networks })
}

/// How to ask a running task whether it is well.
pub(crate) fn target(
    check: &v1::HealthCheck,
    record: &Record,
    settings: &Settings,
) -> Result<Target, String> {
    // A container of its own network is asked at its address, which the node can
    // reach; on the host's network it is asked where it most likely listens.
    let address = match record.addresses.first() {
        Some(address) => *address,
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let at = |port: u32| {
        let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
        Ok::<_, String>(SocketAddr::new(address, port))
    };
    if let Some(http) = &check.http {
        let path = http.path.clone().unwrap_or_else(|| "/".to_owned());
        return Ok(Target::Http { address: at(http.port)?, path, statuses: http.statuses.clone() });
    }
    if let Some(tcp) = &check.tcp {
        return Ok(Target::Tcp { address: at(tcp.port)? });
    }
    if let Some(command) = &check.command {
        let environment = environment::of_task(record, command, settings);
        return Ok(Target::Command { command: command_spec(command)?, environment });
    }
    Err("the health check says neither http nor tcp nor command".to_owned())
}

/// Who runs the task: its command's user, else its framework's.
pub(crate) fn user_of(record: &Record) -> Option<String> {
    let command = record.task.command.as_ref().and_then(|command| command.user.clone());
    command.or_else(|| Some(record.framework.user.clone())).filter(|user| !user.is_empty())
}

/// Sum of a scalar over all of a task's resources.
pub(crate) fn scalar(resources: &[v1::Resource], name: &str) -> f64 {
    let named = resources.iter().filter(|resource| resource.name == name);
    named.filter_map(|resource| resource.scalar.as_ref()).map(|scalar| scalar.value).sum()
}

/// The named networks that a task joins; none is the host's.
fn networks(record: &Record) -> Result<Vec<v1::NetworkInfo>, String> {
    let infos = record.task.container.as_ref().map(|container| &container.network_infos);
    let mut networks: Vec<v1::NetworkInfo> = Vec::new();
    for info in infos.into_iter().flatten().filter(|info| info.name.is_some()) {
        if networks.iter().any(|earlier| earlier.name == info.name) {
            return Err(format!("the network `{}` is asked for twice", info.name()));
        }
        networks.push(info.clone());
    }
    Ok(networks)
}

fn command_spec(command: &v1::CommandInfo) -> Result<CommandSpec, String> {
    let value = command.value.clone().filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| "the command has no value".to_owned())?;
    if command.shell() {
        return Ok(CommandSpec::Shell(value));
    }
    let mut arguments = command.arguments.clone();
    if arguments.is_empty() {
        arguments.push(value.clone());
    }
    Ok(CommandSpec::Exec { program: value, arguments })
}

fn refuse_what_we_cannot(record: &Record, command: &v1::CommandInfo) -> Result<(), String> {
    if !command.uris.is_empty() {
        return Err("fetching URIs into the sandbox is not supported".to_owned());
    }
    let Some(container) = &record.task.container else { return Ok(()) };
    if container.r#type() == v1::container_info::Type::Docker {
        return Err("containers of type DOCKER are not supported, use MESOS".to_owned());
    }
    if container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) {
        return Err("container images are not supported".to_owned());
    }
    Ok(())
}

/// Directories and files of the host that the task asked for.
fn mounts(record: &Record) -> Result<Vec<MountSpec>, String> {
    let volumes = record.task.container.as_ref().map(|container| &container.volumes);
    volumes.into_iter().flatten().map(mount).collect()
}

fn mount(volume: &v1::Volume) -> Result<MountSpec, String> {
    let newer = volume.source.as_ref().and_then(|source| source.host_path.as_ref());
    let source = volume.host_path.as_ref().or(newer.map(|host_path| &host_path.path));
    let target = PathBuf::from(&volume.container_path);
    match source {
        Some(source) if source.starts_with('/') => Ok(MountSpec {
            source: PathBuf::from(source),
            target,
            read_only: volume.mode() == v1::volume::Mode::Ro,
        }),
        Some(source) => Err(format!("the volume's host path `{source}` is not absolute")),
        None => Err(format!(
            "the volume at `{}` is not of type HOST_PATH, others are not supported",
            volume.container_path
        )),
    }
}
