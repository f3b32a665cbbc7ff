//! What the configuration says of overlays, and what is wrong with it.

use super::blocks::{Pool, overlap};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mizzen_types::overlay::Habits;
use std::collections::BTreeSet;

/// Links of overlays are called `m-` and the name, and a link's name has 15 bytes.
const MAX_NAME: usize = 13;
/// Words that mean another network to those who run tasks.
const RESERVED: [&str; 4] = ["host", "bridge", "default", "none"];
/// The last three bytes of a VTEP's address become those of its link-layer address.
const SHORTEST_VTEP_PREFIX: u8 = 8;
/// A block needs an address for its bridge and one for a container.
const LONGEST_V4: u8 = 30;
const LONGEST_V6: u8 = 126;
/// Numbers of tunnels have 24 bits.
const MAX_VNI: u32 = (1 << 24) - 1;

/// The overlays of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlaySettings {
    /// Where the nodes' ends of the tunnels get their addresses.
    pub vtep_network: Ipv4Net,
    /// The same for IPv6, which overlays with IPv6 addresses need.
    pub vtep_network6: Option<Ipv6Net>,
    /// First three bytes of the link-layer addresses of those ends.
    pub mac_prefix: [u8; 3],
    /// UDP port of the tunnels.
    pub port: u16,
    /// Whose habits count.
    pub habits: Habits,
    /// The overlays; the first one gets the lowest number.
    pub overlays: Vec<OverlayDefinition>,
}

/// One overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayDefinition {
    /// As tasks ask for it.
    pub name: String,
    /// Its number in the tunnels; the first free one if nothing is said.
    pub vni: Option<u32>,
    /// Its addresses, at most one pool of each family.
    pub pools: Vec<Pool>,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No link can be called so, or it means something else.
    #[error("`{name}` cannot be the name of an overlay: {why}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// Two overlays have the same name.
    #[error("there are two overlays `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// Two networks have addresses in common.
    #[error("{what}, {network}, overlaps {other_what}, {other}")]
    Overlap {
        /// Whose network it is.
        what: String,
        /// The network.
        network: IpNet,
        /// Whose the other one is.
        other_what: String,
        /// The other network.
        other: IpNet,
    },
    /// Blocks of this size cannot be cut out of the network.
    #[error(
        "overlay `{name}`: blocks of /{prefix} do not fit {network} (/{shortest} to /{longest} do)"
    )]
    Prefix {
        /// The overlay.
        name: String,
        /// Its network.
        network: IpNet,
        /// What was asked for.
        prefix: u8,
        /// The largest block.
        shortest: u8,
        /// The smallest block.
        longest: u8,
    },
    /// More than one network of a family, or none at all.
    #[error("overlay `{name}` needs one network of a family, or one of each")]
    Networks {
        /// The overlay.
        name: String,
    },
    /// Its addresses do not fit a link-layer address.
    #[error(
        "the network of the tunnels' ends, {network}, is larger than a /{SHORTEST_VTEP_PREFIX}"
    )]
    VtepNetwork {
        /// The network.
        network: Ipv4Net,
    },
    /// IPv6 inside, and no IPv6 addresses for the tunnels' ends.
    #[error("overlay `{name}` has IPv6 addresses, and the tunnels' ends have none (vtep_network6)")]
    NoVtep6 {
        /// The overlay.
        name: String,
    },
    /// No such number, or it is somebody else's.
    #[error("overlay `{name}`: {vni} is {why}")]
    Vni {
        /// The overlay.
        name: String,
        /// The number.
        vni: u32,
        /// What is wrong with it.
        why: String,
    },
}

impl OverlaySettings {
    /// Everything that is wrong.
    #[must_use]
    pub fn mistakes(&self) -> Vec<SettingsError> {
        let mut found = Vec::new();
        if self.vtep_network.prefix_len() < SHORTEST_VTEP_PREFIX {
            found.push(SettingsError::VtepNetwork { network: self.vtep_network });
        }
        for overlay in &self.overlays {
            found.extend(overlay.mistakes(self.vtep_network6.is_some()));
        }
        found.extend(self.doubles());
        found.extend(self.overlaps());
        found
    }

    /// The overlay of that name.
    pub(super) fn overlay(&self, name: &str) -> Option<&OverlayDefinition> {
        self.overlays.iter().find(|overlay| overlay.name == name)
    }

    fn doubles(&self) -> Vec<SettingsError> {
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        let mut found = Vec::new();
        for overlay in &self.overlays {
            let name = overlay.name.clone();
            if !names.insert(&overlay.name) {
                found.push(SettingsError::Twice { name });
            } else if let Some(vni) = overlay.vni
                && self.habits == Habits::Ours
                && !numbers.insert(vni)
            {
                found.push(SettingsError::Vni {
                    name,
                    vni,
                    why: "another overlay's number".into(),
                });
            }
        }
        found
    }

    fn overlaps(&self) -> Vec<SettingsError> {
        let pools = self.overlays.iter().flat_map(|overlay| {
            overlay.pools.iter().map(|pool| (format!("overlay `{}`", overlay.name), pool.network))
        });
        let ends = "the network of the tunnels' ends".to_owned();
        let vtep = Some((ends.clone(), IpNet::V4(self.vtep_network)));
        let vtep6 = self.vtep_network6.map(|network| (ends, IpNet::V6(network)));
        let all: Vec<(String, IpNet)> = vtep.into_iter().chain(vtep6).chain(pools).collect();
        let mut found = Vec::new();
        for (at, (what, network)) in all.iter().enumerate() {
            let other = all[..at].iter().find(|(_, other)| overlap(network, other));
            found.extend(other.map(|(other_what, other)| SettingsError::Overlap {
                what: what.clone(),
                network: *network,
                other_what: other_what.clone(),
                other: *other,
            }));
        }
        found
    }
}

impl OverlayDefinition {
    fn mistakes(&self, has_vtep6: bool) -> Vec<SettingsError> {
        let name = || self.name.clone();
        let mut found = Vec::new();
        found.extend(name_problem(&self.name).map(|why| SettingsError::Name { name: name(), why }));
        let of = |v6: bool| self.pools.iter().filter(|p| p.network.addr().is_ipv6() == v6).count();
        if self.pools.is_empty() || of(false) > 1 || of(true) > 1 {
            found.push(SettingsError::Networks { name: name() });
        }
        if of(true) > 0 && !has_vtep6 {
            found.push(SettingsError::NoVtep6 { name: name() });
        }
        for pool in &self.pools {
            let longest = if pool.network.addr().is_ipv6() { LONGEST_V6 } else { LONGEST_V4 };
            let shortest = pool.network.prefix_len();
            if !(shortest..=longest).contains(&pool.prefix) {
                let (network, prefix) = (pool.network, pool.prefix);
                found.push(SettingsError::Prefix {
                    name: name(),
                    network,
                    prefix,
                    shortest,
                    longest,
                });
            }
        }
        if let Some(vni) = self.vni.filter(|vni| !(1..=MAX_VNI).contains(vni)) {
            let why = format!("no number of a tunnel (1 to {MAX_VNI})");
            found.push(SettingsError::Vni { name: name(), vni, why });
        }
        found
    }
}

fn name_problem(name: &str) -> Option<&'static str> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if RESERVED.contains(&name) {
        return Some("it means another network");
    }
    if name.is_empty() || name.len() > MAX_NAME {
        return Some("it has more than 13 letters, or none");
    }
    let well = name.chars().all(letter) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (!well).then_some("it has other letters than a-z, 0-9, `-`, `_` and `.`, or begins with one of the last three")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::tests::{definition, settings};

    #[test]
    fn every_mistake_is_named() {
        let with = |more: Vec<OverlayDefinition>| {
            let mut settings = settings("9.0.0.0/8", 24);
            settings.overlays.extend(more);
            settings
        };
        let numbered = |name, network, vni| OverlayDefinition {
            vni: Some(vni),
            ..definition(name, &[(network, 24)])
        };
        let mut wide = settings("9.0.0.0/8", 24);
        wide.vtep_network = "44.0.0.0/7".parse().unwrap_or(wide.vtep_network);
        let mut without6 = with(vec![definition("six", &[("fd01:b::/64", 80)])]);
        without6.vtep_network6 = None;
        let dual = definition("six", &[("fd01:b::/64", 80), ("10.0.0.0/16", 24)]);
        #[rustfmt::skip]
        let table: Vec<(OverlaySettings, &[&str])> = vec![
            (settings("9.0.0.0/8", 24), &[]),
            (with(vec![dual]), &[]),
            (with(vec![definition("web", &[("9.1.0.0/16", 24)])]), &["overlay `web`, 9.1.0.0/16, overlaps overlay `dcos`, 9.0.0.0/8"]),
            (settings("44.128.0.0/16", 24), &["overlay `dcos`, 44.128.0.0/16, overlaps the network of the tunnels' ends, 44.128.0.0/20"]),
            (with(vec![definition("dcos", &[("10.0.0.0/16", 24)])]), &["there are two overlays `dcos`"]),
            (with(vec![definition("host", &[("10.0.0.0/16", 24)])]), &["`host` cannot be the name of an overlay: it means another network"]),
            (with(vec![definition("fourteen-chars", &[("10.0.0.0/16", 24)])]), &["`fourteen-chars` cannot be the name of an overlay: it has more than 13 letters, or none"]),
            (settings("9.0.0.0/16", 8), &["overlay `dcos`: blocks of /8 do not fit 9.0.0.0/16 (/16 to /30 do)"]),
            (settings("9.0.0.0/16", 31), &["overlay `dcos`: blocks of /31 do not fit 9.0.0.0/16 (/16 to /30 do)"]),
            (with(vec![definition("web", &[])]), &["overlay `web` needs one network of a family, or one of each"]),
            (with(vec![numbered("a", "10.0.0.0/16", 7), numbered("b", "10.1.0.0/16", 7)]), &["overlay `b`: 7 is another overlay's number"]),
            (with(vec![numbered("a", "10.0.0.0/16", 0)]), &["overlay `a`: 0 is no number of a tunnel (1 to 16777215)"]),
            (without6, &["overlay `six` has IPv6 addresses, and the tunnels' ends have none (vtep_network6)"]),
            (wide, &["the network of the tunnels' ends, 44.0.0.0/7, is larger than a /8"]),
        ];
        for (settings, want) in table {
            let found: Vec<String> = settings.mistakes().iter().map(ToString::to_string).collect();
            assert_eq!(found, want);
        }
    }
}
