//! What is wrong with an app's networks and ports.

use super::Found;
use crate::app::document::Document;
use crate::app::{Network, NetworkMode};
use crate::settings::Settings;
use std::collections::BTreeSet;

pub(super) fn networking(document: &Document, settings: &Settings, found: &mut Found) {
    let networks = document.networks.as_deref().unwrap_or_default();
    found.check(networks.len() <= 1, "/networks", "more than one network is not supported yet");
    for (index, network) in networks.iter().enumerate() {
        self::network(network, &format!("/networks({index})"), settings, found);
    }
    let mode = networks.first().map(|network| network.mode);
    let mappings = document.container.as_ref().map_or(&[][..], |c| &c.port_mappings);
    if mode.is_none() && !mappings.is_empty() {
        // So it is in Marathon: mappings without a network ask for a bridge.
        known(&settings.bridge_network, "/networks", settings, found);
    }
    if mode == Some(NetworkMode::Host) && !mappings.is_empty() {
        let error = "must be empty on the host's network; use portDefinitions";
        found.add("/container/portMappings", error);
    }
    let definitions = document.port_definitions.as_deref().unwrap_or_default();
    let own_network = mode.is_some_and(|mode| mode != NetworkMode::Host)
        || (mode.is_none() && !mappings.is_empty());
    if own_network && !definitions.is_empty() {
        let error = "must be empty on a container network; use container.portMappings";
        found.add("/portDefinitions", error);
    }
    // Old clients send both forms; they may if both say the same.
    let ports = document.ports.as_deref().unwrap_or_default();
    let said_twice = document.port_definitions.is_some() && document.ports.is_some();
    let same = definitions.iter().map(|port| port.port).eq(ports.iter().copied());
    if said_twice && !same {
        found.add("/ports", "must not differ from portDefinitions");
    }
    let numbers = definitions.iter().map(|port| port.port);
    let only_ports = ports.iter().copied().filter(|_| !said_twice);
    let numbers = numbers.chain(only_ports);
    distinct(numbers.filter(|port| *port != 0), "/portDefinitions", "port numbers", found);
    let names = definitions.iter().map(|port| port.name.as_deref());
    port_names(names, "/portDefinitions", found);
    let names = mappings.iter().map(|mapping| mapping.name.as_deref());
    port_names(names, "/container/portMappings", found);
    let fixed = mappings.iter().flat_map(|mapping| {
        let number = mapping.host_port.filter(|number| *number != 0);
        mapping.protocol.each().iter().filter_map(move |protocol| Some((number?, protocol)))
    });
    distinct(fixed, "/container/portMappings", "host ports of one protocol", found);
}

fn network(network: &Network, path: &str, settings: &Settings, found: &mut Found) {
    let named = network.mode == NetworkMode::Container;
    found.check(named || network.name.is_none(), path, "only a container network has a name");
    found.check(network.name.as_deref() != Some(""), path, "a network's name must not be empty");
    match network.mode {
        NetworkMode::Host => {}
        NetworkMode::Bridge => known(&settings.bridge_network, path, settings, found),
        NetworkMode::Container => {
            let name = network.name.as_deref().unwrap_or(&settings.default_network);
            known(name, path, settings, found);
        }
    }
}

/// Whether containers can be attached to a network.
fn known(name: &str, path: &str, settings: &Settings, found: &mut Found) {
    let Some(networks) = settings.networks.as_ref().filter(|all| !all.contains(name)) else {
        return;
    };
    let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
    let networks = match networks.as_slice() {
        [] => "there is none: the role `overlay` is off".to_owned(),
        networks => format!("there is '{}'", networks.join("', '")),
    };
    found.add(path, format!("there is no network '{name}'; {networks}"));
}

fn port_names<'a>(names: impl Iterator<Item = Option<&'a str>>, list: &str, found: &mut Found) {
    let mut seen = Vec::new();
    for (index, name) in names.enumerate() {
        let Some(name) = name else { continue };
        let good = !name.is_empty()
            && name.len() <= 63
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !good {
            let error = "must consist of 1 to 63 lower-case letters, digits and hyphens";
            found.add(format!("{list}({index})/name"), error);
        }
        seen.push(name);
    }
    distinct(seen.into_iter(), list, "names", found);
}

fn distinct<T: Ord>(items: impl Iterator<Item = T>, path: &str, what: &str, found: &mut Found) {
    let mut seen = BTreeSet::new();
    let mut items = items;
    if !items.all(|item| seen.insert(item)) {
        found.add(path, format!("{what} must be different from each other"));
    }
}
