//! Ejected backends, in the log and in `mizzen status`.

use super::VipViews;
use super::sight::{Sight, State};
use crate::daemon::vip_part::VipPart;
use mizzen_types::time::Mono;
use mizzen_types::vip::VipKey;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tracing::{info, warn};

/// How often it is looked for backends that were ejected or came back.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// Changes that are told of at a time.
const TOLD: usize = 10;

/// Backends that are ejected, with their VIPs.
pub(super) type Ejected = BTreeSet<(VipKey, SocketAddr)>;

impl VipPart {
    /// Says in the log which backends were ejected since the last time, and which no
    /// longer are.
    pub(super) fn note_ejections(&mut self) {
        let now = self.ejected();
        let before = std::mem::replace(&mut self.views.ejected, now);
        let now = &self.views.ejected;
        for (vip, backend) in now.difference(&before).take(TOLD) {
            let name = self.planner.name_of(vip).unwrap_or_default();
            warn!(%vip, name, %backend, "a backend is ejected: its last handshakes failed");
        }
        for (vip, backend) in before.difference(now).take(TOLD) {
            let name = self.planner.name_of(vip).unwrap_or_default();
            info!(%vip, name, %backend, "a backend is no longer ejected");
        }
        let changes = now.symmetric_difference(&before).count();
        let told = [now.difference(&before).count(), before.difference(now).count()];
        let told: usize = told.into_iter().map(|count| count.min(TOLD)).sum();
        if changes > told {
            warn!(others = changes - told, "further backends were ejected, or no longer are");
        }
    }

    fn ejected(&self) -> Ejected {
        let of_vip = |vip: VipKey| {
            // What cannot be read is told of by whoever asks for it.
            let standing = self.balancer.standing(&vip).ok().flatten();
            let backends = standing.map(|standing| standing.backends).unwrap_or_default();
            let ejected = backends.into_iter().filter(|(_, counts)| counts.ejected_for.is_some());
            ejected.map(move |(backend, _)| (vip, backend))
        };
        self.planner.keys().flat_map(of_vip).collect()
    }

    /// How many backends take no new connections: those that are ejected and those that
    /// are out.
    pub(crate) fn idle_backends(&self) -> (usize, usize) {
        let read = |vip: &VipKey| self.balancer.standing(vip).ok().flatten();
        let sight = Sight::new(self.planner.specs(), read, self.balancer.tuning());
        let backends = sight.vips.iter().flat_map(|seen| {
            seen.backends().map(|(spec, counts)| seen.state(spec, counts, &sight.tuning))
        });
        backends.fold((0, 0), |(ejected, out), state| match state {
            State::Ejected { .. } | State::HalfOpen => (ejected + 1, out),
            State::Out(_) | State::Draining(_) => (ejected, out + 1),
            State::In | State::Waiting | State::Warming { .. } => (ejected, out),
        })
    }
}

impl VipViews {
    /// There may be backends that were not looked at yet.
    pub(crate) fn look_soon(&mut self, now: Mono) {
        self.look_at = self.look_at.min(now + LOOK);
    }
}
