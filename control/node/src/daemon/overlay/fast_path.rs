//! The thread that lets containers' packets take the fast path. Reading links and leases takes
//! longer than the loop has time for; a pass looks at the newest order only.

use crate::config::{Config, Role};
use crate::daemon::core::{Core, Input};
use crate::daemon::{build, clock};
use anyhow::Context;
use mizzen_kernel::fast_path::{FastPathError, FastPathMeter, FastPathSpec, OverlayPath, teardown};
use mizzen_kernel::vips::EngineKind;
use mizzen_plan::overlay::{Between, Hooked};
use mizzen_types::error::chain;
use mizzen_types::time::Mono;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

/// A new container is looked at after so long: its ports are published after its link was made.
const TOGETHER: Duration = Duration::from_millis(500);

/// The part's name in problems.
const PROBLEM: &str = "overlay fast path";

/// The fast path, as the loop sees it.
#[derive(Debug, Default)]
pub(crate) struct FastPathPart {
    orders: Option<Sender<Order>>,
    /// When it is to follow what has changed.
    at: Option<Mono>,
    /// What reads the programs' counts.
    pub(crate) meter: Option<FastPathMeter>,
}

/// What came of a pass.
#[derive(Debug)]
pub(crate) struct FastPathReport {
    problem: Option<String>,
}

/// What is to take the fast path; nothing without a specification.
struct Order {
    spec: Option<Box<FastPathSpec>>,
    look: Look,
}

/// What a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// What differs from what was made before.
    Changes,
    /// Whether that is still there as well.
    Everything,
}

impl FastPathPart {
    /// When it wants to be looked at.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.at
    }
}

/// Removes programs and maps of this node; names what would not go.
pub(in crate::daemon) fn teardown_fast_path(config: &Config) -> Vec<String> {
    let removed = teardown(&config.instance.pin_dir(&config.vip.bpffs));
    removed.err().map(|error| chain(&error)).into_iter().collect()
}

impl Core {
    /// Starts the thread, if this node has containers with addresses of their own.
    pub(crate) fn start_fast_path(&mut self) {
        if !self.config.has(Role::Overlay) {
            return;
        }
        match start(&self.config, self.inputs.clone()) {
            Ok((orders, meter)) => {
                self.overlay.fast_path.orders = Some(orders);
                self.overlay.fast_path.meter = Some(meter);
            }
            // The ordinary path does everything.
            Err(error) => self.problems.report(PROBLEM, format!("{error:#}")),
        }
    }

    /// Whether links have to be listened to for it.
    pub(crate) fn has_fast_path(&self) -> bool {
        self.overlay.fast_path.orders.is_some()
    }

    /// Something changed that it follows from.
    pub(crate) fn note_fast_path(&mut self) {
        if self.has_fast_path() {
            self.overlay.fast_path.at.get_or_insert(clock::now().mono + TOGETHER);
        }
    }

    /// Lets take the fast path what may.
    pub(crate) fn follow_fast_path(&mut self, look: Look) {
        self.overlay.fast_path.at = None;
        if let Some(orders) = &self.overlay.fast_path.orders {
            let spec = self.fast_path_spec().map(Box::new);
            // The thread ends with the process only.
            let _ = orders.send(Order { spec, look });
        }
    }

    /// What came of it.
    pub(crate) fn note_fast_path_pass(&mut self, report: FastPathReport) {
        match report.problem {
            None => self.problems.solve(PROBLEM),
            Some(problem) => self.problems.report(PROBLEM, problem),
        }
    }

    fn fast_path_spec(&self) -> Option<FastPathSpec> {
        // Queued packets are translated where the fast path does not come by.
        if !self.config.overlay.fast_path || self.vips.balancer.engine() == EngineKind::Nfqueue {
            return None;
        }
        let grant = self.overlay.grant.as_ref()?;
        Some(FastPathSpec {
            overlays: build::overlay_specs(&self.config, grant),
            desired: self.overlay.peers.desired(),
            between: if self.config.overlay.isolation { Between::Closed } else { Between::Open },
            hooked: self.hooked(),
            port_table: self.config.instance.port_table(),
        })
    }

    /// Whose VIPs are translated at their sockets: of whoever is below the cgroup of VIPs.
    fn hooked(&self) -> Hooked {
        // Only the root of the hierarchy lacks this file.
        let is_everybody = !self.config.vip.cgroup.join("cgroup.events").exists();
        if is_everybody || self.vips.balancer.engine() != EngineKind::Ebpf {
            return Hooked::All;
        }
        let records = self.containers.as_ref().map(|containers| containers.checkpoints.list());
        let records = records.and_then(Result::ok).unwrap_or_default();
        Hooked::Containers(records.into_iter().map(|(id, _)| id.to_string()).collect())
    }
}

/// Starts the thread, in the network namespace of the calling one.
fn start(
    config: &Config,
    inputs: UnboundedSender<Input>,
) -> anyhow::Result<(Sender<Order>, FastPathMeter)> {
    let path = OverlayPath::open(&config.instance.pin_dir(&config.vip.bpffs))
        .context("packets between containers take the ordinary path")?;
    let meter = path.meter()?;
    let (orders, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("fast path".to_owned())
        .spawn(move || run(path, &receiver, &inputs))
        .context("cannot start the thread of the fast path")?;
    Ok((orders, meter))
}

fn run(mut path: OverlayPath, orders: &Receiver<Order>, inputs: &UnboundedSender<Input>) {
    while let Ok(mut order) = orders.recv() {
        for newer in orders.try_iter() {
            let everything = order.look == Look::Everything;
            order = Order { look: if everything { order.look } else { newer.look }, ..newer };
        }
        if order.look == Look::Everything {
            path.recheck();
        }
        let followed = follow(&mut path, order.spec.as_deref());
        let problem = followed.unwrap_or_else(|error| Some(chain(&error)));
        if inputs.send(Input::FastPath(FastPathReport { problem })).is_err() {
            return;
        }
    }
}

fn follow(
    path: &mut OverlayPath,
    spec: Option<&FastPathSpec>,
) -> Result<Option<String>, FastPathError> {
    let changed = path.follow(spec)?;
    if changed.peers + changed.containers > 0 {
        let (peers, containers) = (changed.peers, changed.containers);
        info!(peers, containers, "the fast path follows what there is");
    }
    for (link, error) in &changed.errors {
        warn!(link, %error, "a link is left to the ordinary path");
    }
    let first = changed.errors.first();
    Ok(first.map(|(link, error)| format!("link number {link} is left out: {error}")))
}
