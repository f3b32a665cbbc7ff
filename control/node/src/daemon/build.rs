//! Every part of a node, made in the order in which they need each other.

use super::agent::Containers;
use super::checkpoints::Checkpoints;
use super::core::{CLAIMS, Core, Input};
use super::kept::{self, Kept};
use super::leaving::Leaving;
use super::names::Names;

use super::problems::Problems;
use super::resolv_conf;
use super::saves::{Saves, chain, saved};
use super::streams::Streams;
use super::vip_engine::open_vips;
use super::vip_services::Registered;
use super::vip_views::VipViews;
use super::{clock, cluster};
use crate::config::{Config, Role};
use crate::node::Frame;
use anyhow::Context;
use mizzen_agent::{Agent, CpuLimit, Found, Orders};
use mizzen_api::{resources, v1};
use mizzen_http::core::{CoreHandle, CoreRequest, channel};
use mizzen_http::server::{Address, Listeners, Part, Settings as ListenerSettings};
use mizzen_isolators::{Containerizer, Settings as ContainerSettings};
use mizzen_kernel::network::{NamesSpec, NetworkSpec, ensure_network};
use mizzen_master::Master;
use mizzen_master::registry::Registry;
use mizzen_membership::log::OwnerLog;
use mizzen_membership::view::View;
use mizzen_plan::overlay::OverlaySpec;
use mizzen_plan::vip::{Claims, Planner};
use mizzen_services::Services;
use mizzen_store::Store;
use mizzen_types::ids::OwnerId;
use mizzen_types::resources::{Resources, Value};
use mizzen_types::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Key of the agent's id in the store.
pub(crate) const AGENT_ID: &str = "agent/id";
/// Key of what the operator wants of the agent.
pub(crate) const AGENT_ORDERS: &str = "agent/orders";
/// Prefix of the service scheduler's records; the master's carry their own.
const SERVICES: &str = "services/";
/// Key of the node's id in the owner logs.
const NODE_ID: &str = "node/id";
/// Key of the generation, which grows with each start.
const GENERATION: &str = "node/generation";
/// Requests that may wait for the loop.
const REQUEST_QUEUE: usize = 1024;
/// Processes and threads in one container.
const PIDS: u32 = 4096;

/// A node that is about to run.
pub(crate) struct Built {
    pub(crate) core: Core,
    pub(crate) parts: Parts,
}

/// What runs beside the loop.
pub(crate) struct Parts {
    pub(crate) inputs: mpsc::UnboundedReceiver<Input>,
    pub(crate) requests: mpsc::Receiver<CoreRequest>,
    pub(crate) handle: CoreHandle,
    pub(crate) listeners: Listeners,
}

/// Makes everything. When this returns, the tasks of a former process have been taken
/// up, names are answered and sockets are bound.
pub(crate) async fn build(config: Config, frame: Frame) -> anyhow::Result<Built> {
    super::executables::check(&config)?;
    let now = clock::now();
    let store = Store::open(&config.state_dir.join("store.redb"))?;
    let (owner, generation) = identity(&store)?;
    let seed = u64::from_le_bytes(uuid::Uuid::new_v4().into_bytes()[..8].try_into()?);
    let (inputs, receiver) = mpsc::unbounded_channel();

    // Sockets first: a taken port must stop the node before it changes anything.
    let listeners = Listeners::bind(listener_settings(&config)).await?;
    let bound = listeners.addresses();
    let network = ensure_network(&network_spec(&config));
    let vips = open_vips(&config)?;

    let mut core = Core {
        started: now,
        inputs: inputs.clone(),
        master: None,
        master_id: uuid::Uuid::new_v4().to_string(),
        agent: None,
        services: None,
        containers: None,
        streams: Streams::default(),
        master_gate: cluster::Gate::new(Saves::new("")),
        services_gate: cluster::Gate::new(Saves::new(SERVICES)),
        node_saves: Saves::new(""),
        left: BTreeMap::new(),
        recovering: true,
        node_log: OwnerLog::new(owner.clone(), generation),
        master_log: OwnerLog::new(OwnerId::new(format!("{owner}/master")), generation),
        view: View::default(),
        names: Names::off(),
        planner: Planner::new(Claims::new(config.vip.named_range), owner.clone()),
        changed_vips: BTreeSet::new(),
        registered: Registered::default(),
        vips: vips.engine,
        vip_views: VipViews::default(),
        leaving: Leaving::default(),
        problems: Problems::default(),
        listeners: bound,
        resolver: Vec::new(),
        server: None,
        collect_at: now.mono + kept::LOOK,
        resync_at: now.mono + super::core::RESYNC,
        links_at: None,
        frame,
        store,
        config,
    };
    if let Some(problem) = vips.problem {
        core.problems.report("vip-engine", problem);
    }
    core.note_network(&network);
    core.adopt_claims()?;
    core.build_names();
    core.introduce();
    core.adopt_services()?;
    core.build_agent(seed, inputs, now)?;
    core.build_master(seed.rotate_left(31), now)?;
    core.build_services(seed.rotate_left(17), now)?;
    core.settle();
    // Only now, so that nobody is told that a name does not exist which does.
    core.start_resolver()?;
    core.write_resolv_conf();
    core.recovering = false;
    core.reconcile_vips();
    core.watch_links();
    core.collect_garbage();

    let (handle, requests) = channel(REQUEST_QUEUE);
    Ok(Built { core, parts: Parts { inputs: receiver, requests, handle, listeners } })
}

/// Where sandboxes lie.
pub(crate) fn work_dir(config: &Config) -> PathBuf {
    config.state_dir.join("work")
}

/// Where the run directories of containers lie.
pub(crate) fn run_root(config: &Config) -> PathBuf {
    config.run_dir.join("containers")
}

/// What the node's network should look like.
pub(crate) fn network_spec(config: &Config) -> NetworkSpec {
    let names = config.has(Role::Dns).then(|| NamesSpec {
        link: config.instance.names_link(),
        addresses: config.dns.addresses.clone(),
    });
    NetworkSpec {
        mark: format!("mizzen {}", config.instance),
        names,
        overlay: config.has(Role::Overlay).then(|| overlay_spec(config)),
        filter_table: config.instance.filter_table(),
        cni_directory: config.run_dir.join("cni"),
    }
}

/// The container side of a configuration.
pub(crate) fn containerizer(config: &Config) -> anyhow::Result<Containerizer> {
    let settings = ContainerSettings {
        launcher: super::executables::launcher(config),
        run_root: run_root(config),
        cgroup_root: config.cgroup_root.clone(),
        plugin_dirs: super::executables::plugin_dirs(config),
        networks: networks(config),
        plugin_timeout: config.agent.plugin_timeout,
    };
    Containerizer::new(settings).context("containers cannot be made on this machine")
}

/// The networks of this node, with their CNI configurations.
fn networks(config: &Config) -> BTreeMap<String, serde_json::Value> {
    let overlay = config.has(Role::Overlay).then(|| overlay_spec(config));
    let named = overlay.map(|spec| (spec.name.clone(), spec.cni_configuration()));
    named.into_iter().collect()
}

pub(super) fn overlay_spec(config: &Config) -> OverlaySpec {
    let resolver = config.dns.addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    OverlaySpec {
        name: config.overlay.name.clone(),
        network: config.overlay.network,
        subnet: config.overlay.subnet,
        bridge: config.overlay.bridge.clone(),
        mtu: config.overlay.mtu,
        leases: config.state_dir.join("leases"),
        resolver: resolver.filter(|_| config.has(Role::Dns)),
    }
}

/// The node's name in the owner logs, and a generation larger than all before.
fn identity(store: &Store) -> anyhow::Result<(OwnerId, u64)> {
    let owner = match store.get(NODE_ID)? {
        Some(bytes) => String::from_utf8(bytes).context("the node's id is no text")?,
        None => uuid::Uuid::new_v4().to_string(),
    };
    let last = match store.get(GENERATION)? {
        Some(bytes) => String::from_utf8_lossy(&bytes).parse().unwrap_or(0),
        None => 0_u64,
    };
    let generation = last + 1;
    store.write(&[
        (NODE_ID.to_owned(), Some(owner.clone().into_bytes())),
        (GENERATION.to_owned(), Some(generation.to_string().into_bytes())),
    ])?;
    Ok((OwnerId::new(owner), generation))
}

fn listener_settings(config: &Config) -> ListenerSettings {
    let tcp = |address: SocketAddr| Address::Tcp(address);
    let mut listeners =
        vec![(Part::Node, Address::Unix(config.socket())), (Part::Node, tcp(config.admin.node))];
    for (role, part, address) in [
        (Role::Master, Part::Master, config.master.listen),
        (Role::Agent, Part::Agent, config.agent.listen),
        (Role::Services, Part::Services, config.services.listen),
        (Role::Vip, Part::Minuteman, config.admin.minuteman),
    ] {
        if config.has(role) {
            listeners.push((part, tcp(address)));
        }
    }
    ListenerSettings { listeners, ..ListenerSettings::default() }
}

impl Core {
    fn adopt_claims(&mut self) -> anyhow::Result<()> {
        for (name, value) in saved(&self.store, CLAIMS)? {
            match String::from_utf8_lossy(&value).parse::<IpAddr>() {
                Ok(address) => self.adopt_claim(&name, address),
                Err(error) => warn!(name, %error, "the claim of a VIP's address is unreadable"),
            }
        }
        Ok(())
    }

    /// Frees the addresses of containers that a reboot took away.
    fn collect_garbage(&self) {
        let Some(containers) = self.containers.clone() else { return };
        tokio::spawn(async move {
            if let Err(errors) = containers.containerizer.collect_garbage().await {
                for error in errors {
                    warn!(error = chain(&error), "cannot collect leases that nobody holds");
                }
            }
        });
    }

    fn build_agent(
        &mut self,
        seed: u64,
        inputs: mpsc::UnboundedSender<Input>,
        now: Now,
    ) -> anyhow::Result<()> {
        if !self.config.has(Role::Agent) {
            return Ok(());
        }
        let containerizer = containerizer(&self.config)?;
        let checkpoints = Checkpoints::open(self.config.state_dir.join("tasks"))
            .context("cannot open the directory of task records")?;
        let resolv_conf = self.config.has(Role::Dns).then(|| resolv_conf::text(&self.config.dns));
        let id = self.store.get(AGENT_ID)?.and_then(|bytes| String::from_utf8(bytes).ok());
        let mut agent = Agent::new(agent_settings(&self.config)?, id.map(Into::into), seed, now);
        if let Some(bytes) = self.store.get(AGENT_ORDERS)? {
            match Orders::from_bytes(&bytes) {
                Ok(orders) => agent.adopt_orders(orders),
                // The master says them again.
                Err(error) => warn!(error, "what the operator wants of the agent is unreadable"),
            }
        }

        let records = checkpoints.read_all().context("cannot read the task records")?;
        let found = containerizer.recover().context("cannot look for containers")?;
        info!(records = records.len(), containers = found.len(), "recovering");
        let found = found.into_iter().map(|found| Found {
            container: found.id.into(),
            running: found.running,
            pid: found.launched.as_ref().map(|launched| launched.pid),
            addresses: found.launched.map(|launched| launched.addresses()).unwrap_or_default(),
        });
        agent.recover(records, found.collect(), now);
        self.agent = Some(agent);
        let kept = Kept::open(&self.config)
            .context("cannot open the directory of ended tasks' records")?;
        self.containers =
            Some(Containers { containerizer, checkpoints, kept, resolv_conf, inputs });
        self.recover_kept();
        Ok(())
    }

    fn build_master(&mut self, seed: u64, now: Now) -> anyhow::Result<()> {
        if !self.config.has(Role::Master) {
            return Ok(());
        }
        let listen = self.config.master.listen;
        let (id, hostname) = (self.master_id.clone(), self.config.hostname.clone());
        let address = self.config.address;
        let settings = mizzen_master::Settings {
            allocation_interval: self.config.master.allocation_interval,
            flags: self.flag_texts(),
            seed,
            ..mizzen_master::Settings::new(id, hostname, address, listen.port())
        };
        let records = self.store.scan(mizzen_master::registry::PREFIX)?;
        let mut master = Master::new(settings, Registry::from_records(records)?, now);
        if let Some(agent) = self.agent.as_mut() {
            master.agent_connected(cluster::LOCAL_LINK, address, now);
            agent.master_connected();
        }
        self.master = Some(master);
        Ok(())
    }

    fn build_services(&mut self, seed: u64, now: Now) -> anyhow::Result<()> {
        if !self.config.has(Role::Services) {
            return Ok(());
        }
        let settings = mizzen_services::Settings {
            framework_name: self.config.services.framework_name.clone(),
            hostname: self.config.hostname.clone(),
            http_port: self.config.services.listen.port(),
            default_network: self.config.overlay.name.clone(),
            networks: Some(networks(&self.config).into_keys().collect()),
            ..mizzen_services::Settings::default()
        };
        let services = Services::new(settings, saved(&self.store, SERVICES)?, seed, now)?;
        self.services = Some(services);
        self.subscribe_services(now);
        Ok(())
    }
}

fn agent_settings(config: &Config) -> anyhow::Result<mizzen_agent::Settings> {
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
