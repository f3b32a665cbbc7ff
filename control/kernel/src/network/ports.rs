//! Containers' links that lost their bridge, and bridges that lost their purpose: somebody gave
//! them another name, or the configuration did.

use super::{NetworkError, NetworkSpec, Report, kernel};
use crate::leases::{observe_networks, observe_ports};
use mizzen_cni_core::plan::{Hairpin, read_alias};
use mizzen_netlink::{Ensured, IfIndex, LinkChange, LinkState, Netlink, Removed};
use std::collections::{BTreeMap, BTreeSet};

/// Makes links of containers ports of their bridge again. Whoever removes a bridge leaves its
/// ports there, and nobody else knows where they were. A bridge of ours that is not wanted any
/// more goes when nothing is plugged into it: until then it may be all that somebody has.
pub(super) fn ensure_ports(netlink: &mut Netlink, spec: &NetworkSpec, report: &mut Report) {
    let links = match netlink.observe_links().map_err(kernel("containers' links")) {
        Ok(links) => links,
        Err(error) => return report.errors.push(error),
    };
    let former: Vec<&LinkState> = links.iter().filter(|link| is_former(link, spec)).collect();
    let mut left: BTreeSet<IfIndex> = BTreeSet::new();
    let is_without = |link: &&LinkState| match link.master {
        None => true,
        Some(master) => former.iter().any(|bridge| bridge.index == master),
    };
    let mut lost: Vec<&LinkState> =
        links.iter().filter(|link| is_containers(link)).filter(is_without).collect();
    let overlays = spec.overlays.iter().map(|of| (&of.bridge, &of.leases, &of.name));
    let own = spec.bridge.iter().map(|of| (&of.link, &of.leases, &of.name));
    for (bridge, leases, network) in overlays.chain(own) {
        let Some(bridge) = links.iter().find(|link| link.name == *bridge) else { continue };
        if lost.is_empty() {
            break;
        }
        // Another node of this host may have a network of the same name: ours have our leases.
        let ours = match observe_ports(leases, network) {
            Ok(ours) => ours,
            Err(error) => {
                report.errors.push(error.into());
                continue;
            }
        };
        for link in lost.extract_if(.., |link| ours.contains_key(&link.name)) {
            let hairpin = ours.get(&link.name).copied().unwrap_or(Hairpin::On);
            let plugged = plug(netlink, &link.name, bridge.index, hairpin);
            left.extend(plugged.is_ok().then_some(link.index));
            report.note(plugged);
        }
    }
    let is_empty = |bridge: &&LinkState| {
        let mut ports = links.iter().filter(|link| link.master == Some(bridge.index));
        ports.all(|port| left.contains(&port.index))
    };
    for bridge in former.into_iter().filter(is_empty) {
        report.note(remove(netlink, &bridge.name));
    }
    match stranded(spec, &lost) {
        Ok(stranded) => report.stranded = stranded,
        Err(error) => report.errors.push(error),
    }
}

/// How many of these links are of containers in networks that the node does not have any more, by
/// the network. Before the overlays are known, that cannot be said of any.
fn stranded(
    spec: &NetworkSpec,
    lost: &[&LinkState],
) -> Result<BTreeMap<String, usize>, NetworkError> {
    let mut stranded = BTreeMap::new();
    if lost.is_empty() || spec.overlays.is_empty() {
        return Ok(stranded);
    }
    let has = |network: &str| {
        let own = spec.bridge.iter().map(|bridge| &bridge.name);
        spec.overlays.iter().map(|overlay| &overlay.name).chain(own).any(|name| name == network)
    };
    for network in observe_networks(&spec.leases)?.into_iter().filter(|network| !has(network)) {
        let ports = observe_ports(&spec.leases, &network)?;
        let count = lost.iter().filter(|link| ports.contains_key(&link.name)).count();
        if count > 0 {
            stranded.insert(network, count);
        }
    }
    Ok(stranded)
}

/// An ADD makes a link a port in the step that creates it, and marks it after that.
fn is_containers(link: &LinkState) -> bool {
    link.alias.as_deref().is_some_and(|alias| read_alias(alias).is_some())
}

/// A bridge that this node made, and would not make now. Before the overlays are known, that
/// cannot be said of any.
fn is_former(link: &LinkState, spec: &NetworkSpec) -> bool {
    let of_overlays = spec.overlays.iter().flat_map(|overlay| {
        let second = overlay.second.as_ref().map(|second| second.bridge.as_str());
        [Some(overlay.bridge.as_str()), second]
    });
    let own = spec.bridge.as_ref().map(|bridge| bridge.link.as_str());
    // Where there is no `dummy`, that is a bridge as well.
    let names = spec.names.as_ref().map(|names| names.link.as_str());
    let ours = link.kind.as_deref() == Some("bridge") && link.alias.as_deref() == Some(&spec.mark);
    let wanted = of_overlays.chain([own, names]).flatten().any(|name| name == link.name);
    !spec.overlays.is_empty() && ours && !wanted
}

fn remove(netlink: &mut Netlink, name: &str) -> Result<Ensured<()>, NetworkError> {
    let removed = netlink.remove_link(name).map_err(kernel("former bridge"))?;
    Ok(match removed {
        Removed::Removed => Ensured::Repaired(()),
        Removed::Absent => Ensured::Unchanged(()),
    })
}

/// As ADD leaves it.
fn plug(
    netlink: &mut Netlink,
    name: &str,
    bridge: IfIndex,
    hairpin: Hairpin,
) -> Result<Ensured<()>, NetworkError> {
    let port = LinkChange::new().up().master(bridge);
    let plugged = netlink.set_link(name, &port).and_then(|()| match hairpin {
        Hairpin::On => netlink.ensure_port_hairpin(name).map(drop),
        Hairpin::Off => Ok(()),
    });
    match plugged {
        // Its container has ended.
        Err(error) if error.is_absent() => Ok(Ensured::Unchanged(())),
        plugged => plugged.map(Ensured::Repaired).map_err(kernel("containers' links")),
    }
}
