//! The loop in which everything of a node meets: one thread, one queue, no locks.
//!
//! Something happens (a request, a container, a timer); the value that decides takes
//! it in; what is to be done comes out as effects, which are carried out here or
//! handed to a task of their own whose outcome is the next thing that happens.
//! [`Core::settle`] goes on until nobody has anything left to do.

use super::Serving;
use super::agent::Containers;
use super::asking::Asking;
use super::clock;
use super::cluster::Gate;
use super::dns_records::DnsRecords;
use super::health::Health;
pub(crate) use super::input::Input;
use super::kept;
use super::links::Links;
use super::members::{Arrivals, Members, arrival};
use super::names::Names;
use super::overlay::Overlay;
use super::overlay::fast_path::Look;
use super::policy::PolicyPart;
use super::problems::Problems;
use super::resolver::ResolverPart;
use super::saves::Saves;
use super::signals::{Signal, Signals};
use super::streams::Streams;
use super::vip_engine::{vip_networks, vip_tuning};
use super::vip_part::VipPart;
use crate::config::Config;
use crate::node::{Frame, Reloaded, reload};
use crate::notify::{Notice, notify};
use mizzen_agent::Agent;
use mizzen_http::core::CoreRequest;
use mizzen_http::server::{Address, Part};
use mizzen_kernel::network::{Report, own_addresses};
use mizzen_kernel::vips::{EngineKind, VipsError, refuse_absent};
use mizzen_master::Master;
use mizzen_membership::log::OwnerLog;
use mizzen_membership::view::View;
use mizzen_services::Services;
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::ids::ContainerId;
use mizzen_types::time::{Mono, Now};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::debug;

/// Prefix of the addresses that VIP names claimed, in the store.
pub(crate) const CLAIMS: &str = "claim/";
/// The kernel is compared with what it should hold this often, whatever happens.
pub(crate) const RESYNC: Duration = Duration::from_secs(60);
/// After a failure it is compared again this soon.
const SOON: Duration = Duration::from_secs(1);
/// With nothing to wait for, the loop looks at the clock this often.
const IDLE: Duration = Duration::from_secs(3600);

/// The configuration's name in problems.
const CONFIGURATION: &str = "configuration";

/// Everything that a node decides with.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) started: Now,
    pub(crate) store: Store,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) master: Option<Master>,
    pub(crate) master_id: String,
    pub(crate) agent: Option<Agent>,
    pub(crate) services: Option<Services>,
    pub(crate) containers: Option<Containers>,
    pub(crate) streams: Streams,
    pub(crate) master_gate: Gate<mizzen_master::Effect>,
    pub(crate) services_gate: Gate<mizzen_services::Effect>,
    /// Records of the node itself; nothing waits for them.
    pub(crate) node_saves: Saves,
    /// Containers of which something could not be removed yet, and why.
    pub(crate) left: BTreeMap<ContainerId, String>,
    /// While facts of a former process come in, the balancer keeps what it has.
    pub(crate) recovering: bool,
    /// The node's share of the overlays, and the other nodes'.
    pub(crate) overlay: Overlay,
    /// Who may reach whom.
    pub(crate) policy: PolicyPart,
    pub(crate) node_log: OwnerLog,
    pub(crate) master_log: OwnerLog,
    pub(crate) view: View,
    /// Other nodes, if this one is in a cluster.
    pub(crate) members: Option<Members>,
    pub(crate) links: Links,
    /// What other nodes were asked.
    pub(crate) asking: Asking,
    pub(crate) names: Names,
    pub(crate) dns_records: DnsRecords,
    /// Requests for lists of names, until what a former process knew of them is read.
    pub(crate) waiting_for_names: Vec<CoreRequest>,
    pub(crate) resolver: ResolverPart,
    pub(crate) vips: VipPart,
    pub(crate) problems: Problems,
    /// What others are told is wrong with this node.
    pub(crate) health: Health,
    pub(crate) listeners: Vec<(Part, Address)>,
    /// Holds the state directory's lock, and reads the configuration again.
    pub(crate) frame: Frame,
    pub(crate) resync_at: Mono,
    /// When sandboxes of ended tasks are looked at.
    pub(crate) collect_at: Mono,
}

impl Core {
    /// Runs until a signal ends it, or two of them at once. Tasks and connections go on afterwards.
    pub(crate) async fn run(
        &mut self,
        mut inputs: mpsc::UnboundedReceiver<Input>,
        mut requests: mpsc::Receiver<CoreRequest>,
        mut arrivals: Arrivals,
        mut signals: Signals,
        mut serving: Serving,
    ) {
        loop {
            self.settle();
            let wait = self.deadline().map_or(IDLE, clock::until);
            tokio::select! {
                Some(input) = inputs.recv() => self.handle(input),
                Some(request) = requests.recv() => self.serve(request),
                found = arrival(&mut arrivals) => self.handle_arrival(found),
                signal = signals.next() => match signal {
                    Signal::Stop if serving.close.is_none() => return,
                    Signal::Stop => {
                        notify(Notice::Stopping);
                        serving.close = None;
                    }
                    Signal::Reload => self.reload(),
                    Signal::Watchdog => notify(Notice::Watchdog),
                },
                // Requests under way are answered before the loop ends.
                _ = &mut serving.task, if serving.close.is_none() => return,
                () = tokio::time::sleep(wait) => self.handle_timeout(),
            }
        }
    }

    /// Lets every part do what it has to do, until none has anything left.
    pub(crate) fn settle(&mut self) {
        loop {
            let now = clock::now();
            let worked = self.settle_master(now)
                | self.settle_agent(now)
                | self.settle_services(now)
                | self.settle_members(now);
            if !worked {
                break;
            }
        }
        self.flush_vips();
        self.flush_policy();
        self.reserve_serials();
    }

    fn handle(&mut self, input: Input) {
        let now = clock::now();
        if matches!(input, Input::Launched(..)) {
            self.want_addresses(now.mono);
        }
        match (input, self.agent.as_mut()) {
            (Input::Launched(container, Ok(started)), Some(agent)) => {
                agent.launched(&container, started, now);
            }
            (Input::Launched(container, Err((failure, message))), Some(agent)) => {
                agent.launch_failed(&container, failure, &message, now);
            }
            (Input::Ended(container, ended), Some(agent)) => agent.ended(&container, &ended, now),
            (Input::Probed(container, result), Some(agent)) => {
                agent.probed(&container, result, now);
            }
            (Input::Left(container, why), _) => self.note_left(container, why),
            (Input::SocketsEnded(endings, ended), _) => {
                self.vips.note_ended_sockets(endings, &ended, &self.inputs);
            }
            (Input::LinksChanged, _) => self.vips.note_links(now.mono),
            (Input::OverlayTouched, _) => self.note_removal(now.mono),
            (Input::LinkResized, _) => self.follow_underlay(),
            (Input::PathProbed(peer, mtu), _) => self.note_path(&peer, mtu),
            (Input::Tunnels(report), _) => self.note_tunnels(&report),
            (Input::FastPath(report), _) => self.note_fast_path_pass(report),
            (Input::Policy(report), _) => self.note_policy_pass(report),
            (Input::Refused(refusals), _) => self.note_refusals(refusals),
            (Input::NetworkPass(number, report), _) => self.note_pass(number, &report, now.mono),
            (Input::Recovered(records), Some(agent)) => {
                agent.adopt_ended(records);
                self.collect_sandboxes(now.wall);
            }
            (Input::NamesLoaded, _) => self.names_are_loaded(now.mono),
            (Input::TaskPage(after, reply), _) => drop(reply.send(self.task_page(after))),
            (Input::Collected(collected), _) => self.note_collected(&collected),
            (Input::LookedUp(peer, number, reply), _) => {
                self.answer_peer(&peer, number, reply, now);
            }
            (Input::ChangeAsked(asked), _) => self.change_for_peer(*asked, now),
            (_, None) => {}
        }
    }

    fn handle_timeout(&mut self) {
        let now = clock::now();
        if let Some(master) = self.master.as_mut() {
            master.handle_timeout(now);
        }
        if let Some(agent) = self.agent.as_mut() {
            agent.handle_timeout(now);
        }
        if let Some(services) = self.services.as_mut() {
            services.handle_timeout(now);
        }
        self.names.handle_timeout(now.mono, now.wall);
        self.handle_members_timeout(now);
        self.handle_links_timeout(now);
        if self.resync_at <= now.mono {
            self.resync(now);
        }
        if self.vips.views.deadline() <= now.mono {
            self.vips.attend(now);
        }
        if self.vips.links_at.is_some_and(|at| at <= now.mono) {
            self.follow_links();
        }
        if self.overlay.deadline().is_some_and(|at| at <= now.mono) {
            self.look_at_overlay(now.mono);
        }
        if self.overlay.fast_path.deadline().is_some_and(|at| at <= now.mono) {
            self.follow_fast_path(Look::Changes);
        }
        if self.policy.deadline().is_some_and(|at| at <= now.mono) {
            self.handle_policy_timeout(now.mono);
        }
        if self.health.deadline() <= now.mono {
            self.look_at_health(now);
        }
        if self.collect_at <= now.mono {
            self.collect_at = now.mono + kept::LOOK;
            self.collect_sandboxes(now.wall);
        }
    }

    fn deadline(&self) -> Option<Mono> {
        let parts = [
            self.master.as_ref().and_then(Master::poll_deadline),
            self.agent.as_ref().and_then(Agent::poll_deadline),
            self.services.as_ref().and_then(Services::poll_deadline),
            self.master_gate.deadline(),
            self.services_gate.deadline(),
            self.node_saves.deadline(),
            self.dns_records.deadline(),
            Some(self.resync_at),
            self.overlay.fast_path.deadline(),
            self.members.as_ref().and_then(Members::deadline),
            self.overlay.deadline(),
            self.policy.deadline(),
            self.links.deadline(),
            Some(self.collect_at),
            Some(self.health.deadline()),
            self.vips.deadline(),
            self.names.deadline(),
        ];
        parts.into_iter().flatten().min()
    }

    /// A pass over all that the kernel should hold for this node.
    fn resync(&mut self, now: Now) {
        self.resync_at = now.mono + RESYNC;
        self.reconcile_vips();
        self.follow_links();
        self.look_at_resolv_conf();
        self.resync_overlay(now);
        self.resync_policy();
        self.ensure_network();
    }

    /// Compares the balancer's tables with the plan, and mends them.
    pub(crate) fn reconcile_vips(&mut self) {
        if self.vips.balancer.engine() == EngineKind::Off {
            return;
        }
        match own_addresses() {
            Ok(addresses) => self.vips.planner.set_own_addresses(addresses),
            Err(error) => debug!(error = chain(&error), "own addresses cannot be listed"),
        }
        let refused = self.vips.balancer.reconcile(&self.vips.planner.specs());
        match refused.is_empty() {
            true => self.problems.solve("vip"),
            false => self.vips_failed(&first_few(&refused)),
        }
        self.vips.end_sockets(&self.inputs);
        self.refuse_absent_vips();
    }

    /// Programs let pass what is no VIP; queues refuse it themselves.
    fn refuse_absent_vips(&mut self) {
        if self.vips.balancer.engine() != EngineKind::Ebpf {
            return;
        }
        match refuse_absent(&vip_networks(&self.config)) {
            Ok(_) => self.problems.solve(ABSENT),
            Err(error) => {
                let error = chain(&error);
                let text = format!("connections to VIPs without tasks may time out: {error}");
                self.problems.report(ABSENT, text);
            }
        }
    }

    /// The balancer's tables are not as they should be: try again soon.
    pub(crate) fn vips_failed(&mut self, error: &str) {
        self.problems.report("vip", error.to_owned());
        self.resync_at = self.resync_at.min(clock::now().mono + SOON);
    }

    /// Takes in what changed in the configuration and can be changed while running.
    fn reload(&mut self) {
        notify(Notice::Reloading);
        match reload(&self.frame, &self.config) {
            Ok(Reloaded { config, refused }) => {
                match refused.is_empty() {
                    true => self.problems.solve(CONFIGURATION),
                    false => self.problems.report(CONFIGURATION, needs_restart(&refused)),
                }
                let dns_differs = config.dns != self.config.dns;
                self.vips.balancer.tune(&vip_tuning(&config));
                self.config = config;
                if dns_differs {
                    self.follow_dns_config();
                }
                self.resync(clock::now());
            }
            Err(errors) => {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let text = format!("not reloaded, as it was before: {}", texts.join("; "));
                self.problems.report(CONFIGURATION, text);
            }
        }
        notify(Notice::Ready);
    }

    /// Writes the node's own records. What they say holds meanwhile; only a crash
    /// before the disk takes them would forget it.
    pub(crate) fn flush_node(&mut self, now: Now) {
        if self.node_saves.is_stalled(now.mono) {
            return;
        }
        match self.node_saves.flush(&self.store, now.mono) {
            Ok(()) => self.problems.solve("node's records"),
            Err(error) => self.problems.report("node's records", chain(&error)),
        }
    }

    fn note_left(&mut self, container: ContainerId, why: Option<String>) {
        match why {
            Some(why) => drop(self.left.insert(container, why)),
            None => drop(self.left.remove(&container)),
        }
        match self.left.first_key_value() {
            None => self.problems.solve("containers"),
            Some((container, why)) => {
                let count = self.left.len();
                let text = format!("{count} not fully removed yet, such as {container}: {why}");
                self.problems.report("containers", text);
            }
        }
    }

    pub(crate) fn note_network(&mut self, report: &Report) {
        self.overlay.published_again += report.published as u64;
        if report.changed > 0 {
            let (changed, ports) = (report.changed, report.published);
            tracing::info!(changed, ports, "the node's network was brought into shape");
        }
        if report.errors.is_empty() {
            self.problems.solve("network");
        } else {
            let texts: Vec<String> = report.errors.iter().map(|error| chain(error)).collect();
            self.problems.report("network", texts.join("; "));
        }
        let stranded = report.stranded.iter().map(|(network, count)| {
            format!(
                "`{network}` is configured no more, but containers here have addresses of it \
                 ({count}): they reach nobody on other nodes; put it back, or end them"
            )
        });
        let stranded: Vec<String> = stranded.collect();
        self.tell_of(FORMER, &stranded);
    }
}

/// Networks that the node had, in problems.
const FORMER: &str = "former network";

/// What is told of connections to VIPs that are not there.
const ABSENT: &str = "vip-absent";

/// The first few of what was refused, and how many more there are.
fn first_few(refused: &[VipsError]) -> String {
    const NAMED: usize = 5;
    let mut texts: Vec<String> = refused.iter().take(NAMED).map(|error| chain(error)).collect();
    match refused.len().saturating_sub(NAMED) {
        0 => {}
        more => texts.push(format!("and {more} more")),
    }
    texts.join("; ")
}

fn needs_restart(keys: &[&str]) -> String {
    format!("changes need a restart of the node to take effect: {}", keys.join(", "))
}
