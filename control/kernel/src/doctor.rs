//! A look at the whole machine, for `mizzen doctor`: nothing is changed, and what cannot be
//! looked at is told with the reason. What it means is decided in
//! [`mizzen_plan::doctor`].

mod features;
mod files;
mod filters;
mod marks;
mod sockets;

use crate::published::observe_missing;
use mizzen_netlink::{IfIndex, LinkState, Netlink, NetlinkError, observe_clock, observe_sysctl};
use mizzen_plan::doctor::{Cgroups, ClockState, Link, Look, Machine, User, Wanted, setting_names};
use mizzen_types::error::chain;
use rustix::process::geteuid;
use std::collections::BTreeMap;
use std::path::Path;

/// Looks at everything that a node of this configuration depends on, from the network of the
/// calling thread.
///
/// * `daemon` — process id of the node's daemon, if it runs.
/// * `cgroups` — the machine's cgroups.
#[must_use]
pub fn observe(wanted: &Wanted, daemon: Option<u32>, cgroups: Look<Cgroups>) -> Machine {
    let links = observe_links().map_err(|error| chain(&error));
    let (chains, rules) = filters::observe();
    let leftovers = match &links {
        Ok(links) => marks::observe(wanted, daemon, links),
        Err(error) => Err(error.clone()),
    };
    let unpublished = match &links {
        Ok(links) => observe_unpublished(wanted, links),
        Err(error) => Err(error.clone()),
    };
    let settings = observe_settings(wanted, links.as_deref().unwrap_or_default());
    Machine {
        user: if geteuid().is_root() { User::Root } else { User::Other },
        features: features::observe(wanted),
        cgroups,
        settings,
        usage: files::observe_usage(daemon),
        links,
        chains,
        rules,
        legacy_tables: files::observe_legacy_tables(),
        sockets: sockets::observe(wanted, daemon),
        clock: observe_clock_state(),
        disks: files::observe_disks(wanted),
        directories: files::observe_directories(wanted),
        resolv_conf: files::read("/etc/resolv.conf"),
        leftovers,
        unpublished,
    }
}

fn observe_unpublished(wanted: &Wanted, links: &[Link]) -> Look<Vec<String>> {
    if !geteuid().is_root() {
        return Err("only root sees them".to_owned());
    }
    let links = links.iter().map(|link| link.name.clone()).collect();
    let leases = Path::new(&wanted.state_dir).join("leases");
    observe_missing(&leases, &wanted.port_table, &links).map_err(|error| chain(&error))
}

fn observe_links() -> Result<Vec<Link>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let states = netlink.observe_links()?;
    let mut ports: BTreeMap<IfIndex, usize> = BTreeMap::new();
    for bridge in states.iter().filter_map(|state| state.master) {
        *ports.entry(bridge).or_default() += 1;
    }
    let link = |state: LinkState| {
        let ports = ports.get(&state.index).copied().unwrap_or_default();
        with_addresses(&mut netlink, state, ports)
    };
    states.into_iter().map(link).collect()
}

fn with_addresses(
    netlink: &mut Netlink,
    state: LinkState,
    ports: usize,
) -> Result<Link, NetlinkError> {
    let addresses = netlink.observe_addresses(state.index)?;
    Ok(Link {
        name: state.name,
        kind: state.kind,
        alias: state.alias,
        mtu: state.mtu,
        addresses: addresses.into_iter().map(|found| found.net.addr()).collect(),
        tunnel_port: state.vxlan.map(|vxlan| vxlan.port),
        ports,
    })
}

fn observe_settings(wanted: &Wanted, links: &[Link]) -> BTreeMap<String, String> {
    let names = setting_names(wanted, links).into_iter();
    names.filter_map(|name| observe_sysctl(&name).ok().map(|value| (name, value))).collect()
}

fn observe_clock_state() -> Look<ClockState> {
    let clock = observe_clock().map_err(|error| error.to_string())?;
    Ok(ClockState { synchronised: clock.synchronised, error: clock.max_error })
}
