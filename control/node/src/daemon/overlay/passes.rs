//! Passes over the node's network: bridges, addresses, rules and the file that plugins read. They
//! run beside the loop, one at a time, so that none undoes what a later one made.

use super::super::build::{self, narrow_links};
use super::super::core::{Core, Input};
use super::driver::Order;
use super::{NETWORK, Overlay};
use mizzen_kernel::network::{NetworkSpec, Report};
use mizzen_types::time::Mono;
use tokio::task::JoinHandle;

/// What is under way, and what is waited for.
#[derive(Default)]
pub(super) struct Passes {
    /// How many were begun. The last one has this number.
    begun: u64,
    /// The one that runs. One that died is over, too.
    running: Option<JoinHandle<()>>,
    /// Whether another one follows it, because something is wanted that it does not know.
    again: bool,
    /// Whether a share waits for the pass that makes its bridges, and lets plugins read it.
    granted: bool,
    /// Whether the next one has something new to make.
    expected: bool,
}

impl Passes {
    /// Whether plugins cannot read the node's share yet.
    pub(super) fn awaits_grant(&self) -> bool {
        self.granted
    }
}

impl Overlay {
    /// The next pass over the network has something new to make.
    pub(crate) fn expect_pass(&mut self) {
        self.passes.expected = true;
    }

    /// The next pass makes the bridges of a new share.
    pub(super) fn expect_grant(&mut self) {
        self.passes.expected = true;
        self.passes.granted = true;
    }
}

impl Core {
    /// What the node's network should look like.
    pub(crate) fn network_spec(&self) -> NetworkSpec {
        let narrow = narrow_links(&self.config, &self.overlay.peers);
        let spec = build::network_spec(&self.config, self.overlay.grant.as_ref(), narrow);
        NetworkSpec { isolation: self.policy.isolation(&self.config), ..spec }
    }

    /// A pass over the node's network, now or after the one that runs.
    pub(crate) fn ensure_network(&mut self) {
        if self.overlay.passes.running.as_ref().is_some_and(|running| !running.is_finished()) {
            self.overlay.passes.again = true;
            return;
        }
        self.overlay.narrow = narrow_links(&self.config, &self.overlay.peers);
        self.overlay.passes.begun += 1;
        self.overlay.passes.again = false;
        let number = self.overlay.passes.begun;
        let (spec, inputs) = (self.network_spec(), self.inputs.clone());
        self.overlay.passes.running = Some(tokio::task::spawn_blocking(move || {
            let report = mizzen_kernel::network::ensure_network(&spec);
            // The loop has ended if nobody listens; then nobody needs the report.
            let _ = inputs.send(Input::NetworkPass(number, report));
        }));
    }

    /// A pass over the network is over. One that nobody asked for has put something back.
    pub(crate) fn note_pass(&mut self, number: u64, report: &Report, now: Mono) {
        self.note_network(report);
        let passes = &mut self.overlay.passes;
        let expected = passes.expected;
        let is_last = number == passes.begun;
        if is_last {
            passes.running = None;
        }
        if is_last && passes.again {
            self.ensure_network();
        } else if is_last {
            self.overlay.passes.expected = false;
            self.note_granted();
        }
        if report.changed == 0 {
            self.overlay.healing.found_well(now);
        } else {
            if !expected {
                self.overlay.healing.repaired(now);
            }
            // Routes bear the bridges' addresses, and containers with ports take another path.
            self.overlay.order(Order::Look);
            self.note_fast_path();
        }
        match self.overlay.healing.problem(now) {
            Some(problem) => self.problems.report(NETWORK, problem),
            None => self.problems.solve(NETWORK),
        }
    }

    /// The network is as the node's share wants it.
    fn note_granted(&mut self) {
        if std::mem::take(&mut self.overlay.passes.granted) {
            self.answer_short();
            self.follow_grant();
            self.introduce();
        }
    }
}
