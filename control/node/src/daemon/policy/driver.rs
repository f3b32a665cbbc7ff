//! The threads between the loop and the kernel: one gives it what programs go by, one listens for
//! what they refuse. A pass looks at the newest order only.

use crate::config::Config;
use crate::daemon::clock;
use crate::daemon::core::{Core, Input};
use anyhow::Context;
use mizzen_kernel::policy::{NetworkPolicy, PolicyMeter, PolicySpec, Refusal, Refusals};
use mizzen_types::error::chain;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, info, warn};

/// So many refusals are told at once.
const AT_ONCE: usize = 256;
/// What did not go is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The way to the threads.
#[derive(Debug)]
pub(super) struct Driver {
    orders: Sender<Order>,
    /// How many were given.
    given: u64,
    /// What reads the programs' counts.
    pub(super) meter: PolicyMeter,
}

/// What programs are to go by.
#[derive(Debug)]
struct Order {
    number: u64,
    spec: PolicySpec,
    look: Look,
}

/// What a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// What differs from what was given before.
    Changes,
    /// Whether that is still there as well.
    Everything,
}

/// What came of a pass.
#[derive(Debug)]
pub(crate) struct PolicyReport {
    /// Of the order that it was about; those before are done, too.
    pub(super) number: u64,
    /// Why policies are not in force.
    pub(super) problem: Option<String>,
    /// Containers by their addresses, if they could be found.
    pub(super) leases: Option<BTreeMap<IpAddr, String>>,
}

impl Driver {
    /// Has programs go by this from now on. The report with the number that is returned, or a
    /// later one, tells that they do.
    pub(super) fn give(&mut self, spec: PolicySpec, look: Look) -> u64 {
        self.given += 1;
        // The thread ends with the process only.
        let _ = self.orders.send(Order { number: self.given, spec, look });
        self.given
    }

    /// Counts of these rules begin anew.
    pub(super) fn reset(&self, rules: Vec<u32>) {
        for rule in rules {
            if let Err(error) = self.meter.reset(rule) {
                debug!(rule, error = chain(&error), "a count goes on where another rule left it");
            }
        }
    }
}

impl Core {
    /// Something was refused.
    pub(crate) fn note_refusals(&mut self, refusals: Vec<Refusal>) {
        self.policy.drops.note(refusals, clock::now().wall);
    }
}

/// Starts the threads, in the network namespace of the calling one.
pub(super) fn start(config: &Config, inputs: UnboundedSender<Input>) -> anyhow::Result<Driver> {
    let pins = config.instance.pin_dir(&config.vip.bpffs);
    let programs = NetworkPolicy::open(&pins, Some(&config.vip.cgroup))
        .map_err(|error| anyhow::anyhow!(chain(&error)))?;
    let (meter, refusals) = (programs.meter()?, programs.refusals()?);
    let (orders, receiver) = mpsc::channel();
    let reports = inputs.clone();
    thread::Builder::new()
        .name("policy".to_owned())
        .spawn(move || run(programs, &receiver, &reports))
        .context("cannot start the thread that gives policies to the kernel")?;
    thread::Builder::new()
        .name("refusals".to_owned())
        .spawn(move || listen(refusals, &inputs))
        .context("cannot start the thread that listens for refusals")?;
    Ok(Driver { orders, given: 0, meter })
}

fn run(mut programs: NetworkPolicy, orders: &Receiver<Order>, inputs: &UnboundedSender<Input>) {
    let Ok(mut order) = orders.recv() else { return };
    loop {
        for newer in orders.try_iter() {
            order = Order { look: order.look.max(newer.look), ..newer };
        }
        if order.look == Look::Everything {
            programs.recheck();
        }
        let report = ensure(&mut programs, &order);
        let wait = if report.problem.is_some() { AGAIN } else { Duration::MAX };
        // The loop has ended if nobody listens.
        if inputs.send(Input::Policy(report)).is_err() {
            return;
        }
        match orders.recv_timeout(wait) {
            Ok(newer) => order = newer,
            Err(RecvTimeoutError::Timeout) => order.look = Look::Everything,
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn ensure(programs: &mut NetworkPolicy, order: &Order) -> PolicyReport {
    let number = order.number;
    let (changed, leases) = match programs.ensure(&order.spec) {
        Ok(pass) => (pass.changed, Some(pass.leases)),
        Err(error) => return PolicyReport { number, problem: Some(chain(&error)), leases: None },
    };
    if changed.classes + changed.rulings > 0 {
        let (classes, rulings) = (changed.classes, changed.rulings);
        info!(classes, rulings, "programs go by the policies that there are");
    }
    for (link, error) in &changed.errors {
        warn!(link, %error, "packets of a link are not judged");
    }
    let problem = changed.errors.first();
    let problem = problem.map(|(link, error)| format!("link {link} is not judged: {error}"));
    PolicyReport { number, problem, leases }
}

/// Tells the loop what programs refuse, and sleeps as long as they refuse nothing.
fn listen(mut refusals: Refusals, inputs: &UnboundedSender<Input>) {
    loop {
        let found: Vec<Refusal> = std::iter::from_fn(|| refusals.take()).take(AT_ONCE).collect();
        // The kernel wakes nobody who left something behind, so all of it is taken first.
        if found.is_empty() {
            let waited = poll(&mut [PollFd::new(&refusals, PollFlags::IN)], None);
            if let Err(error) = waited
                && error != Errno::INTR
            {
                return warn!(%error, "refusals are counted, and no more told one by one");
            }
        } else if inputs.send(Input::Refused(found)).is_err() {
            // The loop has ended.
            return;
        }
    }
}
