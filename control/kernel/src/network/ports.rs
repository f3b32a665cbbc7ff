//! Containers' links that lost their bridge.

use super::{NetworkError, NetworkSpec, kernel};
use crate::leases::observe_ports;
use mizzen_cni_core::plan::{Hairpin, read_alias};
use mizzen_netlink::{Ensured, IfIndex, LinkChange, LinkState, Netlink};

/// Makes links of containers ports of their bridge again. Whoever removes a bridge leaves its
/// ports there, and nobody else knows where they were.
pub(super) fn ensure_ports(
    netlink: &mut Netlink,
    spec: &NetworkSpec,
) -> Vec<Result<Ensured<()>, NetworkError>> {
    let links = match netlink.observe_links().map_err(kernel("containers' links")) {
        Ok(links) => links,
        Err(error) => return vec![Err(error)],
    };
    let mut lost: Vec<&LinkState> = links.iter().filter(|link| is_lost(link)).collect();
    let mut done = Vec::new();
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
                done.push(Err(error.into()));
                continue;
            }
        };
        let of_bridge = lost.extract_if(.., |link| ours.contains_key(&link.name));
        done.extend(of_bridge.map(|link| {
            let hairpin = ours.get(&link.name).copied().unwrap_or(Hairpin::On);
            plug(netlink, &link.name, bridge.index, hairpin)
        }));
    }
    done
}

/// An ADD makes a link a port in the step that creates it, and marks it after that.
fn is_lost(link: &LinkState) -> bool {
    link.master.is_none() && link.alias.as_deref().is_some_and(|alias| read_alias(alias).is_some())
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
