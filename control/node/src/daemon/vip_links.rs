//! Links that VIP traffic may arrive by, followed as they come and go.

use super::core::{Core, Input};
use super::vip_part::VipPart;
use crate::config::Role;
use mizzen_kernel::ingress::{LinkMonitor, follow_links};
use mizzen_kernel::vips::EngineKind;
use mizzen_types::error::chain;
use mizzen_types::time::Mono;
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// A new container's link says several things in a row; after so long they are looked at together.
const TOGETHER: Duration = Duration::from_millis(20);

/// The links' name in problems.
const PROBLEM: &str = "vip links";

impl VipPart {
    /// Something happened to links.
    pub(crate) fn note_links(&mut self, now: Mono) {
        self.links_at.get_or_insert(now + TOGETHER);
    }
}

impl Core {
    /// Attaches to the links that there are, and listens for others.
    pub(crate) fn watch_links(&mut self) {
        if self.vips.balancer.engine() != EngineKind::Ebpf && !self.has_fast_path() {
            return;
        }
        let monitor = LinkMonitor::open();
        self.follow_links();
        let inputs = self.inputs.clone();
        let watch = move |mut monitor: LinkMonitor| {
            while let Ok(()) = monitor.wait() {
                // The loop has ended if nobody listens.
                if inputs.send(Input::LinksChanged).is_err() {
                    return;
                }
            }
        };
        let watching = monitor.map(|monitor| {
            thread::Builder::new().name("links".to_owned()).spawn(move || watch(monitor))
        });
        match watching {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                warn!(error = chain(&error), "links are looked at once a minute only");
            }
            Err(error) => warn!(error = chain(&error), "links are looked at once a minute only"),
        }
    }

    /// Makes the programs for arriving traffic stand on the links that the configuration means.
    pub(crate) fn follow_links(&mut self) {
        self.vips.links_at = None;
        self.note_fast_path();
        self.note_policy_links();
        let names = self.overlay.grant.iter().flat_map(|grant| &grant.shares);
        let names = names.map(|share| &share.overlay.name).chain([&self.config.overlay.name]);
        let names = names.filter(|_| self.config.has(Role::Overlay));
        let bridge = |name: &String| self.config.overlay.bridge_of(name, &self.config.instance);
        let tunnels = self.overlay.grant.iter().flat_map(|grant| &grant.shares);
        let tunnels = tunnels.map(|share| self.config.instance.tunnel(share.overlay.vni));
        let own: BTreeSet<String> = names.map(bridge).chain(tunnels).collect();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let followed = follow_links(&mut self.vips.balancer, &self.config.vip.ingress, &own);
        let followed = match followed {
            Ok(followed) => followed,
            Err(error) => return self.problems.report(PROBLEM, chain(&error)),
        };
        if !followed.attached.is_empty() || followed.released > 0 {
            let (links, released) = (followed.attached.join(" "), followed.released);
            info!(links, released, "VIP programs follow the links");
        }
        match followed.errors.first() {
            None => self.problems.solve(PROBLEM),
            Some((link, error)) => {
                let count = followed.errors.len();
                let text = format!("{count} links are not served, such as {link}: {error}");
                self.problems.report(PROBLEM, text);
            }
        }
    }
}
