//! Every part of a node, made in the order in which they need each other.

mod lost;
mod settings;

pub(crate) use settings::{
    containerizer, leases, listener_settings, mark, narrow_links, network_spec, networks,
    node_bridge, overlay_specs, run_root, work_dir,
};

use super::agent::Containers;
use super::asking::Asking;
use super::checkpoints::Checkpoints;
use super::core::{CLAIMS, Core, Input};
use super::credentials::is_joined;
use super::dns_records::DnsRecords;
use super::health::Health;
use super::kept::{self, Kept};
use super::links::Links;
use super::members::{Arrivals, Members};
use super::overlay::Overlay;
use super::policy::PolicyPart;
use super::problems::Problems;
use super::resolv_conf;
use super::resolver::{self, ResolverPart};
use super::saves::{Saves, saved};
use super::serials::Serials;
use super::streams::Streams;
use super::successor;
use super::vip_engine::open_vips;
use super::vip_part::VipPart;
use super::{clock, cluster};
use crate::config::{Config, Role};
use crate::node::{Frame, Joining};
use anyhow::Context;
use mizzen_agent::{Agent, Found, Orders};
use mizzen_http::core::{CoreHandle, CoreRequest, channel};
use mizzen_http::server::Listeners;
use mizzen_isolators::Launched;
use mizzen_kernel::network::{NetworkSpec, ensure_network};
use mizzen_kernel::vips::EngineKind;
use mizzen_master::Master;
use mizzen_master::overlay::Overlays;
use mizzen_master::registry::Registry;
use mizzen_membership::log::OwnerLog;
use mizzen_membership::view::View;
use mizzen_plan::vip::{Claims, Planner};
use mizzen_services::Services;
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Now;
use settings::agent_settings;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Key of the agent's id in the store.
pub(crate) const AGENT_ID: &str = "agent/id";
/// Key of what the operator wants of the agent.
pub(crate) const AGENT_ORDERS: &str = "agent/orders";
/// Prefix of the service scheduler's records; the master's carry their own.
const SERVICES: &str = "services/";
/// Tasks whose records cannot be read, in problems.
const LOST_TASKS: &str = "tasks that are lost";
/// Key of the node's id in the owner logs.
const NODE_ID: &str = "node/id";
/// Key of the generation, which grows with each start.
pub(crate) const GENERATION: &str = "node/generation";
/// Requests that may wait for the loop.
const REQUEST_QUEUE: usize = 1024;

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
    pub(crate) arrivals: Arrivals,
}

/// Makes everything. When this returns, the tasks of a former process have been taken
/// up, names are answered and sockets are bound.
pub(crate) async fn build(
    mut config: Config,
    frame: Frame,
    joining: &Joining,
) -> anyhow::Result<Built> {
    super::executables::check(&config)?;
    let now = clock::now();
    let store = Store::open(&config.state_dir.join("store.redb"))?;
    if !joining.is_asked() {
        lost::refuse(&store, &config)?;
    }
    if is_joined(&store, joining)? {
        config.join().context("this node has joined a cluster")?;
    }
    let (owner, generation, serials) = identity(&store)?;
    let seed = u64::from_le_bytes(uuid::Uuid::new_v4().into_bytes()[..8].try_into()?);
    let (inputs, receiver) = mpsc::unbounded_channel();

    // Sockets first: a taken port must stop the node before it changes anything.
    let listeners = Listeners::bind(listener_settings(&config)).await?;
    let bound = listeners.addresses();
    let own = (&owner, generation);
    let (members, arrivals) = Members::open(&config, &store, own, seed, joining).await?;
    let overlay = Overlay::open(owner.clone(), &store, &config)?;
    let policy = PolicyPart::open(owner.clone(), &store, &config)?;
    let spec = network_spec(&config, overlay.grant.as_ref(), Vec::new());
    let network = ensure_network(&NetworkSpec { isolation: policy.isolation(&config), ..spec });
    // What was known before is answered from now on; with nothing known, somebody would be
    // told that a name does not exist which does.
    let mut names = resolver::open(&config, owner.clone(), serials.first());
    let told = inputs.clone();
    // Without a loop nobody waits for it.
    let loaded = move || told.send(Input::NamesLoaded).unwrap_or_default();
    let early = match names.remember(now.mono, loaded) {
        true => resolver::start(&config, &names, successor::inherited(&config))?,
        false => None,
    };
    let vips = open_vips(&config)?;
    let planner = Planner::new(Claims::new(config.vip.named_range), owner.clone());

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
        overlay,
        policy,
        node_log: OwnerLog::new(owner.clone(), generation),
        master_log: OwnerLog::new(master_log(&owner), generation),
        view: View::default(),
        members,
        links: Links::new(seed.rotate_left(7)),
        asking: Asking::default(),
        names,
        dns_records: DnsRecords::default(),
        waiting_for_names: Vec::new(),
        resolver: ResolverPart::new(serials),
        vips: VipPart::new(planner, vips.engine),
        problems: Problems::default(),
        health: Health::new(now.mono),
        listeners: bound,
        collect_at: now.mono + kept::LOOK,
        resync_at: now.mono + super::core::RESYNC,
        frame,
        store,
        config,
    };
    if core.vips.balancer.engine() == EngineKind::Nfqueue {
        core.vips.planner.avoid_own_ports();
    }
    if let Some(problem) = vips.problem {
        core.problems.report("vip-engine", problem);
    }
    core.note_network(&network);
    core.adopt_claims()?;
    core.guard_listeners();
    core.note_resolver(early);
    core.start_overlay();
    core.listen_for_removals();
    core.count_calls();
    core.start_policy();
    core.build_agent(seed, inputs, now)?;
    // Its agent is part of what it says of itself.
    core.introduce();
    core.adopt_services()?;
    core.adopt_dns_records()?;
    core.build_master(seed.rotate_left(31), now)?;
    core.adopt_policies()?;
    core.build_services(seed.rotate_left(17), now)?;
    core.settle();
    core.names.confirm_own(&owner);
    if core.resolver.server.is_none() {
        core.names.begin();
        core.resolver.sockets = successor::inherited(&core.config);
        core.start_resolver()?;
    }
    core.write_resolv_conf();
    core.begin_membership();
    core.follow_leader(now);
    core.recovering = false;
    core.reconcile_vips();
    core.watch_links();
    core.collect_garbage();

    let (handle, requests) = channel(REQUEST_QUEUE);
    let handle = handle.following(core.links.leading());
    Ok(Built { core, parts: Parts { inputs: receiver, requests, handle, listeners, arrivals } })
}

/// The log of the master on a node.
pub(crate) fn master_log(node: &OwnerId) -> OwnerId {
    OwnerId::new(format!("{node}/master"))
}

/// The node's name in the owner logs, a generation larger than all before, and serial
/// numbers that nobody has seen.
fn identity(store: &Store) -> anyhow::Result<(OwnerId, u64, Serials)> {
    let owner = match store.get(NODE_ID)? {
        Some(bytes) => String::from_utf8(bytes).context("the node's id is no text")?,
        None => uuid::Uuid::new_v4().to_string(),
    };
    let last = match store.get(GENERATION)? {
        Some(bytes) => String::from_utf8_lossy(&bytes).parse().unwrap_or(0),
        None => 0_u64,
    };
    let generation = last + 1;
    let serials = Serials::after(store.get(Serials::KEY)?.as_deref(), generation);
    store.write(&[
        (Serials::KEY.to_owned(), Some(serials.record())),
        (NODE_ID.to_owned(), Some(owner.clone().into_bytes())),
        (GENERATION.to_owned(), Some(generation.to_string().into_bytes())),
    ])?;
    Ok((OwnerId::new(owner), generation, serials))
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
        let containerizer = containerizer(&self.config, self.overlay.grant.as_ref())?;
        let checkpoints = Checkpoints::open(self.config.state_dir.join("tasks"))
            .context("cannot open the directory of task records")?;
        let resolv_conf = self.config.has(Role::Dns).then(|| resolv_conf::text(&self.config.dns));
        let id = self.store.get(AGENT_ID)?.and_then(|bytes| String::from_utf8(bytes).ok());
        let mut agent = Agent::new(agent_settings(&self.config)?, id.map(Into::into), seed, now);
        if let Some(bytes) = self.store.get(AGENT_ORDERS)? {
            match Orders::from_bytes(&bytes) {
                Ok(orders) => agent.adopt_orders(orders),
                // The master says them again.
                Err(error) => {
                    warn!(error = chain(&error), "what the operator wants of the agent is lost");
                }
            }
        }

        agent.adopt_overlay(self.overlay_claim());

        let (records, lost) = checkpoints.read_all().context("cannot read the task records")?;
        self.problems.report_all(LOST_TASKS, &lost);
        let found = containerizer.recover().context("cannot look for containers")?;
        info!(records = records.len(), containers = found.len(), "recovering");
        let found = found.into_iter().map(|found| Found {
            container: found.id.into(),
            running: found.running,
            pid: found.launched.as_ref().map(|launched| launched.pid),
            publishing: found.launched.as_ref().map(Launched::publishing).unwrap_or_default(),
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
        let services = self.config.has(Role::Services);
        let settings = mizzen_master::Settings {
            allocation_interval: self.config.master.allocation_interval,
            flags: self.flag_texts(),
            seed,
            services_port: services.then(|| self.config.services.listen.port()),
            ..mizzen_master::Settings::new(id, hostname, address, listen.port())
        };
        let records = self.store.scan(mizzen_master::registry::PREFIX)?;
        let overlays = Overlays::from_records(self.config.overlay.settings(), records.clone())?;
        let mut master = Master::new(settings, Registry::from_records(records)?, now);
        master.adopt_overlays(overlays);
        if let Some(agent) = self.agent.as_mut() {
            master.agent_connected(
                cluster::LOCAL_LINK,
                self.node_log.owner().clone(),
                address,
                now,
            );
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
            networks: Some(
                networks(&self.config, self.overlay.grant.as_ref()).into_keys().collect(),
            ),
            bridge_network: self.config.bridge.name.clone(),
            ..mizzen_services::Settings::default()
        };
        let services = Services::new(settings, saved(&self.store, SERVICES)?, seed, now)?;
        self.services = Some(services);
        self.subscribe_services(now);
        Ok(())
    }
}
