//! The node's part in balancing VIPs: what there should be, what does it, and what was seen.

use super::leaving::Leaving;
use super::vip_services::Registered;
use super::vip_views::VipViews;
use mizzen_kernel::vips::{Vips, VipsError};
use mizzen_plan::vip::Planner;
use mizzen_types::time::Mono;
use mizzen_types::vip::VipKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Everything about VIPs.
pub(crate) struct VipPart {
    pub(crate) planner: Planner,
    /// VIPs that the planner changed and that names and kernel do not know of yet.
    pub(crate) changed: BTreeMap<VipKey, Touched>,
    pub(crate) registered: Registered,
    pub(crate) balancer: Vips,
    pub(crate) views: VipViews,
    /// Sockets of backends that left are ended beside the loop.
    pub(crate) leaving: Leaving,
    /// When links are looked at that VIP traffic may arrive by, if something happened to them.
    pub(crate) links_at: Option<Mono>,
}

/// What of a VIP has to be looked at again.
#[derive(Debug)]
pub(crate) enum Touched {
    All,
    /// These backends, and its policy.
    Backends(BTreeSet<SocketAddr>),
}

/// With more backends it is as well to look at all.
const MOST_TOUCHED: usize = 32;

impl VipPart {
    /// Nothing is planned yet.
    pub(crate) fn new(planner: Planner, balancer: Vips) -> Self {
        Self {
            planner,
            changed: BTreeMap::new(),
            registered: Registered::default(),
            balancer,
            views: VipViews::default(),
            leaving: Leaving::default(),
            links_at: None,
        }
    }

    /// These VIPs have to be looked at again.
    pub(crate) fn look_at(&mut self, vips: BTreeSet<VipKey>) {
        self.changed.extend(vips.into_iter().map(|vip| (vip, Touched::All)));
    }

    /// These VIPs have to be looked at again, some of them only for the backends that are given.
    pub(crate) fn look_at_backends(
        &mut self,
        vips: BTreeSet<VipKey>,
        mut backends: BTreeMap<VipKey, BTreeSet<SocketAddr>>,
    ) {
        for vip in vips {
            let touched = match (backends.remove(&vip), self.changed.remove(&vip)) {
                (None, _) | (_, Some(Touched::All)) => Touched::All,
                (Some(new), None) => Touched::Backends(new),
                (Some(new), Some(Touched::Backends(known))) => Touched::Backends(&known | &new),
            };
            let touched = match touched {
                Touched::Backends(backends) if backends.len() > MOST_TOUCHED => Touched::All,
                touched => touched,
            };
            self.changed.insert(vip, touched);
        }
    }

    /// Brings a VIP into the kernel as it should be now.
    pub(crate) fn bring(&mut self, vip: &VipKey, touched: &Touched) -> Result<(), VipsError> {
        if let Touched::Backends(backends) = touched
            && let Some(now) = self.planner.backends(vip, backends)
            && self.balancer.change(vip, &now)?
        {
            return Ok(());
        }
        match self.planner.spec(vip) {
            Some(spec) => self.balancer.set(&spec),
            None => self.balancer.remove(vip),
        }
    }

    /// When there is something to do about VIPs.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let parts = [self.registered.deadline(), self.links_at, Some(self.views.deadline())];
        parts.into_iter().flatten().min()
    }
}
