//! The thread that makes tunnels. Orders are carried out one after the other, so that the
//! change of a node and a look at everything never meet.

use crate::daemon::clock;
use crate::daemon::core::Input;
use anyhow::Context;
use mizzen_kernel::tunnels::{Expected, TunnelReport, Tunnels};
use mizzen_netlink::PrivateKey;
use mizzen_plan::overlay::{Desired, Healing, PeerChange};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::debug;

pub(super) use mizzen_kernel::tunnels::Removals;

/// After a start, other nodes come to be known one by one; what a former process made for
/// those that are not known yet stays for so long.
const WARM_UP: Duration = Duration::from_secs(60);
/// What was left undone is tried again after this, then after twice as long.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(60);
/// With nothing to wait for.
const IDLE: Duration = Duration::from_secs(3600);

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// This is all that should be there.
    Desired(Box<Desired>),
    /// What leads to these nodes is another.
    Changes(Vec<PeerChange>),
    /// Something may have been removed or changed.
    Look,
}

struct Driver {
    tunnels: Tunnels,
    desired: Desired,
    healing: Healing,
    /// After what time it is tried again, if something was left undone.
    retry: Option<Duration>,
    /// After what time it is asked whether hands were shaken, if that is waited for.
    ask: Option<Duration>,
    inputs: UnboundedSender<Input>,
}

/// Starts the thread, in the network namespace of the calling one. Packets are encrypted with
/// `key` if there is one. Returns where it takes orders, and what should be there at any time.
pub(super) fn start(
    mark: String,
    key: Option<PrivateKey>,
    inputs: UnboundedSender<Input>,
) -> anyhow::Result<(Sender<Order>, Expected)> {
    let tunnels = Tunnels::open(mark)?;
    let tunnels = match key {
        Some(key) => tunnels.with_key(key),
        None => tunnels,
    };
    let expected = tunnels.expected();
    let (orders, receiver) = mpsc::channel();
    let (desired, healing) = (Desired::default(), Healing::default());
    let mut driver = Driver { tunnels, desired, healing, retry: None, ask: None, inputs };
    thread::Builder::new()
        .name("tunnels".to_owned())
        .spawn(move || driver.run(&receiver))
        .context("cannot start the thread that makes tunnels")?;
    Ok((orders, expected))
}

impl Driver {
    fn run(&mut self, orders: &Receiver<Order>) {
        let started = clock::now().mono;
        let mut warm = false;
        loop {
            let now = clock::now().mono;
            if !warm && now.since(started) >= WARM_UP {
                warm = true;
                let report = self.tunnels.reconcile(&self.desired, Removals::Now);
                self.tell(report);
            }
            let removals = if warm { Removals::Now } else { Removals::Later };
            let pause = self.healing.deadline(now).map_or(IDLE, clock::until);
            let pause = pause.min(self.retry.unwrap_or(IDLE)).min(self.ask.unwrap_or(IDLE));
            let warming = if warm { IDLE } else { WARM_UP.saturating_sub(now.since(started)) };
            match orders.recv_timeout(pause.min(warming)) {
                Ok(order) => self.carry_out(order, removals),
                Err(RecvTimeoutError::Timeout) => self.look(removals),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn carry_out(&mut self, order: Order, removals: Removals) {
        match order {
            Order::Desired(desired) => {
                // Nodes that went before everything was known have gone for good.
                self.desired = *desired;
                let report = self.tunnels.reconcile(&self.desired, removals);
                self.tell(report);
            }
            Order::Changes(changes) => {
                for change in &changes {
                    match &change.after {
                        Some(entries) => {
                            self.desired.peers.insert(change.peer.clone(), entries.clone());
                        }
                        None => drop(self.desired.peers.remove(&change.peer)),
                    }
                }
                let mut report = self.tunnels.change(&changes);
                if !report.problems.is_empty() {
                    debug!(problems = ?report.problems, "a change did not go; looking at all");
                    report = self.tunnels.reconcile(&self.desired, removals);
                }
                self.tell(report);
            }
            Order::Look => self.look(removals),
        }
    }

    fn look(&mut self, removals: Removals) {
        let now = clock::now().mono;
        if !self.healing.may_repair(now) {
            return;
        }
        let report = self.tunnels.reconcile(&self.desired, removals);
        match report.changed {
            // What was left undone is not what somebody removed, nor is what waited for a
            // handshake.
            0 => self.healing.found_well(now),
            _ if self.retry.is_some() || report.proven > 0 => {}
            _ => self.healing.repaired(now),
        }
        self.tell(report);
    }

    fn tell(&mut self, mut report: TunnelReport) {
        let later = |before: Option<Duration>| before.map_or(SOON, |b| (b * 2).min(LATE));
        self.retry = (!report.problems.is_empty()).then(|| later(self.retry));
        self.ask = (report.unproven > 0).then(|| later(self.ask));
        report.problems.extend(self.healing.problem(clock::now().mono));
        // The loop has ended if nobody listens; then nobody needs the report.
        let _ = self.inputs.send(Input::Tunnels(report));
    }
}
