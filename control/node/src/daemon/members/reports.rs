//! What membership reports to people.

use super::IDENTITY;
use crate::config::Role;
use crate::daemon::core::Core;
use mizzen_membership::membership::Report;
use mizzen_membership::swim;
use mizzen_types::error::chain;
use mizzen_types::time::Now;
use tracing::warn;

/// Its store, in problems.
const STATE: &str = "state";

impl Core {
    /// This node said things that it has forgotten. That lasts until the next start: nobody can
    /// tell the node when somebody has looked at what is missing.
    pub(super) fn note_old_state(&mut self) {
        let lost = match self.config.has(Role::Master) {
            true => "apps, scales, policies and whatever else was changed",
            false => "whatever was changed on this node",
        };
        let text = format!(
            "it is older than what other nodes have heard from this one (was a backup put back, or \
             does a copy run elsewhere?): {lost} since may be lost; this text goes with the next start"
        );
        self.problems.report(STATE, text);
    }

    /// Membership met something that a person should know.
    pub(super) fn note_report(&mut self, report: &Report, now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        match report {
            Report::Swim(swim::Report::Refused { by }) => {
                let address = by.address;
                let text = format!(
                    "another process with this node's id and a later state is at {address}; \
                     this one stays out until that one is gone"
                );
                self.problems.report(IDENTITY, text);
            }
            Report::Swim(swim::Report::Double { other }) => {
                warn!(address = %other.address, "an older process has this node's id");
            }
            Report::Swim(swim::Report::SharedAddress { .. }) | Report::SharedAddress { .. } => {
                self.look_at_addresses(now.mono);
            }
            Report::Swim(swim::Report::Garbage { from, reason }) => {
                members.faults += 1;
                warn!(%from, %reason, "a member sent garbage");
            }
            Report::Peer(peer, fault) => {
                members.faults += 1;
                warn!(%peer, error = chain(fault), "a member does what it should not");
            }
            Report::Members(garbage) => {
                members.faults += 1;
                warn!(%garbage, "a list of members is unreadable");
            }
        }
    }
}
