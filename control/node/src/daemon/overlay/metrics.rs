//! Series of the overlays: addresses, blocks, paths.

use super::share::{leases, room};
use crate::daemon::build::overlay_specs;
use crate::daemon::clock;
use crate::daemon::core::Core;
use crate::daemon::vip_views::exposition::{Family, Gone, Writer, counter, gauge};
use mizzen_kernel::published::count_published;
use mizzen_master::overlay::Usage;

/// All that is exposed of the overlays, gathered at one moment.
pub(crate) struct OverlayExposed {
    /// Name, addresses that have a lease, addresses of the node's IPv4 blocks.
    overlays: Vec<(String, usize, f64)>,
    /// Largest packets under the tunnels to other nodes, in bytes.
    paths: Vec<u32>,
    /// Of the link with the node's address.
    underlay_mtu: Option<u32>,
    /// What the leading master has given away; nothing elsewhere.
    usage: Vec<Usage>,
    /// Table of ports of this host that lead to containers.
    port_table: String,
    /// How many of them somebody else had removed.
    published_again: u64,
}

const LEASES: Family =
    gauge("mizzen_overlay_leases", "Addresses of an overlay that have a lease on this node.");
const ADDRESSES: Family =
    gauge("mizzen_overlay_addresses", "IPv4 addresses that this node can lease, by overlay.");
const NARROW: Family = gauge(
    "mizzen_overlay_narrow_paths",
    "Other nodes to which packets must be smaller than the link with this node's address takes.",
);
const LEAST_MTU: Family = gauge(
    "mizzen_overlay_path_mtu_bytes",
    "Largest packet on the narrowest path to another node, under the tunnels.",
);
const GIVEN: Family = gauge(
    "mizzen_overlay_registry_blocks",
    "Blocks that the leading master has given away (used), and all (total), by overlay and network.",
);
const LASTS: Family = gauge(
    "mizzen_overlay_registry_exhausted_seconds",
    "Time until nothing is left of a network at the speed of the last week, where it grows.",
);
const WAITING: Family = gauge(
    "mizzen_overlay_registry_waiting_agents",
    "Agents for which the leading master has no block left.",
);

const PUBLISHED: Family =
    gauge("mizzen_published_ports", "Ports of this host that lead to containers.");
const PUBLISHED_AGAIN: Family = counter(
    "mizzen_published_ports_restored_total",
    "Ports of this host that somebody had removed, and that were published again.",
);

impl Core {
    /// The overlays' numbers.
    pub(crate) fn look_at_overlays(&self) -> OverlayExposed {
        let grant = self.overlay.grant.as_ref();
        let specs = grant.map(|grant| overlay_specs(&self.config, grant)).unwrap_or_default();
        let overlays = specs.iter().map(|spec| (spec.name.clone(), leases(spec).len(), room(spec)));
        let peers = &self.overlay.peers;
        let paths = peers.entries().filter_map(|(node, _)| peers.path_mtu(node));
        let registry = self.master.as_ref().and_then(mizzen_master::Master::overlays);
        OverlayExposed {
            overlays: overlays.collect(),
            paths: paths.collect(),
            underlay_mtu: self.overlay.underlay_mtu,
            usage: registry.map(|registry| registry.usage(clock::now().wall)).unwrap_or_default(),
            port_table: self.config.instance.port_table(),
            published_again: self.overlay.published_again,
        }
    }
}

impl OverlayExposed {
    /// Writes all of it.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Gone> {
        writer.family(PUBLISHED, |series| match count_published(&self.port_table) {
            Ok(count) => series.number(&[], count as f64),
            // A kernel without nf_tables has none.
            Err(_) => Ok(()),
        })?;
        writer.family(PUBLISHED_AGAIN, |series| series.number(&[], self.published_again as f64))?;
        writer.family(LEASES, |series| {
            self.overlays.iter().try_for_each(|(name, leases, _)| {
                series.number(&[("overlay", name)], *leases as f64)
            })
        })?;
        writer.family(ADDRESSES, |series| {
            self.overlays
                .iter()
                .try_for_each(|(name, _, room)| series.number(&[("overlay", name)], *room))
        })?;
        let wide = self.underlay_mtu.unwrap_or(u32::MAX);
        let narrow = self.paths.iter().filter(|mtu| **mtu < wide).count();
        writer.family(NARROW, |series| series.number(&[], narrow as f64))?;
        writer.family(LEAST_MTU, |series| match self.paths.iter().min() {
            Some(mtu) => series.number(&[], f64::from(*mtu)),
            None => Ok(()),
        })?;
        writer.family(GIVEN, |series| {
            self.usage.iter().try_for_each(|usage| {
                let overlay = usage.overlay.as_deref().unwrap_or("tunnels' ends");
                let labels =
                    |state| [("overlay", overlay), ("network", &*usage.network), ("state", state)];
                series.number(&labels("used"), usage.used as f64)?;
                series.number(&labels("total"), usage.total as f64)
            })
        })?;
        writer.family(LASTS, |series| {
            self.usage.iter().try_for_each(|usage| {
                let Some(left) = usage.exhausted_in else { return Ok(()) };
                let overlay = usage.overlay.as_deref().unwrap_or("tunnels' ends");
                let labels = [("overlay", overlay), ("network", &*usage.network)];
                series.number(&labels, left.as_secs_f64())
            })
        })?;
        let waiting: usize = self.usage.iter().map(|usage| usage.waiting).sum();
        match self.usage.is_empty() {
            true => Ok(()),
            false => writer.family(WAITING, |series| series.number(&[], waiting as f64)),
        }
    }
}
