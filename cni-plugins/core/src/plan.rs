//! What ADD makes in the kernel, step by step, and what takes a step back.
//!
//! The list leaves no choice to whoever carries it out. Steps come in an order in which
//! each finds what it refers to; on an error the undo actions of the steps that were
//! done run in reverse.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::AttachmentKey;
use crate::config::OverlayConfig;
use crate::result::{CniResult, Route};
use crate::runtime::{Bandwidth, Limit};

/// One change of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The host forwards packets of this family.
    EnableForwarding(Family),
    /// The bridge of the containers exists. It is shared, so nothing undoes it.
    EnsureBridge {
        /// Its name.
        name: String,
        /// Largest packet in bytes.
        mtu: u32,
        /// Its link-layer address; `None` leaves the choice to the kernel.
        mac: Option<[u8; 6]>,
        /// Its addresses: the gateways of the containers.
        addresses: Vec<IpNet>,
    },
    /// A pair of links exists: one end in the container, the other up and a port of the bridge.
    CreateVeth {
        /// Name of the host's end.
        host: String,
        /// The mark of the host's end.
        alias: String,
        /// Largest packet in bytes, of both ends.
        mtu: u32,
        /// Name of the container's end.
        inside: String,
        /// Link-layer address of the container's end.
        mac: [u8; 6],
        /// Whether frames may go back out of the port of the bridge.
        hairpin: Hairpin,
    },
    /// A link sends no faster than this.
    LimitRate {
        /// Which end of the pair.
        end: End,
        /// The limit.
        limit: Limit,
    },
    /// A link in the container is up.
    BringUp {
        /// Its name.
        link: String,
    },
    /// A link in the container has an address.
    AddAddress {
        /// Its name.
        link: String,
        /// The address with the length of its prefix.
        address: IpNet,
    },
    /// The container has a route.
    AddRoute {
        /// The link by which it leaves.
        link: String,
        /// Where to.
        destination: IpNet,
        /// The next router.
        gateway: Option<IpAddr>,
    },
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whether a bridge may send a frame back out of the port by which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hairpin {
    /// It may: a container reaches itself.
    On,
    /// It may not.
    Off,
}

/// One end of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host's: what it sends, the container receives.
    Host,
    /// The container's.
    Inside,
}

/// What takes something back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Give the addresses back.
    ReleaseLease,
    /// Remove the host's end of the pair, and with it the other.
    RemoveLink {
        /// Name of the host's end.
        host: String,
    },
}

impl Step {
    /// What takes this step back, if anything has to.
    #[must_use]
    pub fn undo(&self) -> Option<Undo> {
        match self {
            Self::CreateVeth { host, .. } => Some(Undo::RemoveLink { host: host.clone() }),
            // Shared by all containers: the bridge and the setting stay. What is inside
            // the container goes with its link.
            Self::EnableForwarding(_)
            | Self::EnsureBridge { .. }
            | Self::LimitRate { .. }
            | Self::BringUp { .. }
            | Self::AddAddress { .. }
            | Self::AddRoute { .. } => None,
        }
    }
}

/// Lists what ADD has to do for the attachment `key`, once `lease` is known.
#[must_use]
pub fn plan_add(
    network: &str,
    key: &AttachmentKey,
    config: &OverlayConfig,
    wanted_mac: Option<[u8; 6]>,
    lease: &CniResult,
) -> Vec<Step> {
    let host = host_link(network, key);
    let inside = key.ifname.clone();
    let hairpin = if config.hairpin { Hairpin::On } else { Hairpin::Off };
    // Without an address (an address plugin may give none) any fixed one will do.
    let from_lease = || lease.ips.first().map(|ip| mac_of(ip.address.addr()));
    let mac = wanted_mac.or_else(from_lease).unwrap_or([0x02, 0x6d, 0, 0, 0, 0]);

    let mut steps = bridge_steps(config, lease);
    steps.extend([
        Step::CreateVeth {
            host,
            alias: alias(network, key),
            mtu: config.mtu,
            inside: inside.clone(),
            mac,
            hairpin,
        },
        Step::BringUp { link: "lo".into() },
        Step::BringUp { link: inside.clone() },
    ]);
    let Bandwidth { ingress, egress } = config.bandwidth;
    for (end, limit) in [(End::Host, ingress), (End::Inside, egress)] {
        steps.extend(limit.map(|limit| Step::LimitRate { end, limit }));
    }
    steps.extend(
        lease.ips.iter().map(|ip| Step::AddAddress { link: inside.clone(), address: ip.address }),
    );
    steps.extend(lease.routes.iter().map(|route| Step::AddRoute {
        link: inside.clone(),
        destination: route.dst,
        gateway: gateway_of(route, lease),
    }));
    steps
}

/// Name of the host's end of the pair: `mz` and 13 hexadecimal digits of a hash, so
/// that DEL finds it without any record.
#[must_use]
pub fn host_link(network: &str, key: &AttachmentKey) -> String {
    let hash = fnv1a(&[network, &key.container_id, &key.ifname]);
    format!("mz{:013x}", hash >> 12)
}

/// The mark of the host's end: whose it is, in words. At most 255 bytes, given the
/// limits of [`crate::request`].
#[must_use]
pub fn alias(network: &str, key: &AttachmentKey) -> String {
    format!("{MARK} {network} {} {}", key.container_id, key.ifname)
}

/// Network and attachment of a host-side link, from its mark; `None` if it is not ours.
#[must_use]
pub fn read_alias(alias: &str) -> Option<(&str, AttachmentKey)> {
    let rest = alias.strip_prefix(MARK)?.strip_prefix(' ')?;
    let mut words = rest.splitn(3, ' ');
    let (network, container_id, ifname) = (words.next()?, words.next()?, words.next()?);
    let key = AttachmentKey { container_id: container_id.into(), ifname: ifname.into() };
    Some((network, key))
}

/// A link-layer address that follows from the address: whoever gets an address later
/// has the same one, so no neighbour's memory of it is ever wrong.
#[must_use]
pub fn mac_of(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    // The second bit of the first byte says "chosen locally".
    [0x02, 0x6d, a, b, c, d]
}

/// First word of the mark.
const MARK: &str = "mizzen-cni";

fn bridge_steps(config: &OverlayConfig, lease: &CniResult) -> Vec<Step> {
    let gateways: Vec<IpNet> = lease
        .ips
        .iter()
        .filter(|_| config.is_gateway)
        .filter_map(|ip| IpNet::new(ip.gateway?, ip.address.prefix_len()).ok())
        .collect();
    let families: BTreeSet<Family> = gateways.iter().map(|net| family(net.addr())).collect();
    let mut steps: Vec<_> = families.into_iter().map(Step::EnableForwarding).collect();
    steps.push(Step::EnsureBridge {
        name: config.bridge.clone(),
        mtu: config.mtu,
        mac: gateways.first().map(|net| mac_of(net.addr())),
        addresses: gateways,
    });
    steps
}

fn gateway_of(route: &Route, lease: &CniResult) -> Option<IpAddr> {
    let same_family = |gateway: &IpAddr| family(*gateway) == family(route.dst.addr());
    route.gw.or_else(|| lease.ips.iter().filter_map(|ip| ip.gateway).find(same_family))
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv6() { Family::V6 } else { Family::V4 }
}

/// 64 bit FNV-1a over the parts, each closed by a zero byte. The names that follow from
/// it must never change, which rules out the standard library's hashers.
fn fnv1a(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ipam;
    use crate::result::{Dns, IpConfig};

    fn key(container_id: &str) -> AttachmentKey {
        AttachmentKey { container_id: container_id.into(), ifname: "eth0".into() }
    }

    fn config(is_gateway: bool) -> OverlayConfig {
        OverlayConfig {
            bridge: "m-dcos".into(),
            mtu: 1420,
            hairpin: true,
            is_gateway,
            ipam: Ipam::Delegated { plugin: "x".into() },
            dns: Dns::default(),
            bandwidth: Bandwidth::default(),
            data_dir: "/tmp".into(),
            prev_result: None,
        }
    }

    fn lease() -> CniResult {
        CniResult {
            ips: vec![IpConfig {
                interface: None,
                address: "9.0.5.2/25".parse().unwrap(),
                gateway: Some("9.0.5.1".parse().unwrap()),
            }],
            routes: vec![Route { dst: "0.0.0.0/0".parse().unwrap(), gw: None }],
            ..CniResult::default()
        }
    }

    #[test]
    fn steps_come_in_an_order_in_which_each_finds_what_it_needs() {
        let steps = plan_add("dcos", &key("c1"), &config(true), None, &lease());
        let words: Vec<&str> = steps
            .iter()
            .map(|step| match step {
                Step::EnableForwarding(_) => "forward",
                Step::EnsureBridge { .. } => "bridge",
                Step::CreateVeth { .. } => "veth",
                Step::LimitRate { .. } => "limit",
                Step::BringUp { link } => link,
                Step::AddAddress { .. } => "address",
                Step::AddRoute { .. } => "route",
            })
            .collect();
        assert_eq!(words, ["forward", "bridge", "veth", "lo", "eth0", "address", "route"]);
        let undo: Vec<_> = steps.iter().filter_map(Step::undo).collect();
        assert_eq!(undo, [Undo::RemoveLink { host: host_link("dcos", &key("c1")) }]);
        assert_eq!(
            steps[1],
            Step::EnsureBridge {
                name: "m-dcos".into(),
                mtu: 1420,
                mac: Some([0x02, 0x6d, 9, 0, 5, 1]),
                addresses: vec!["9.0.5.1/25".parse().unwrap()],
            }
        );
        let Some(Step::AddRoute { gateway, .. }) = steps.last() else { panic!("{steps:?}") };
        assert_eq!(*gateway, Some("9.0.5.1".parse().unwrap()));
    }

    #[test]
    fn without_gateway_the_bridge_stays_a_switch() {
        let steps = plan_add("dcos", &key("c1"), &config(false), None, &lease());
        let Step::EnsureBridge { mac, addresses, .. } = &steps[0] else { panic!("{steps:?}") };
        assert_eq!((mac, addresses.len()), (&None, 0));
    }

    #[test]
    fn names_fit_differ_and_stay() {
        let names: BTreeSet<String> =
            (0..1000).map(|at| host_link("dcos", &key(&format!("c{at}")))).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| name.len() == 15 && name.starts_with("mz")));
        // A changed name would orphan the links of containers that run during an upgrade.
        assert_eq!(host_link("dcos", &key("c1")), "mze856dc66b16e3");
        assert_ne!(host_link("dcos", &key("c1")), host_link("other", &key("c1")));
    }

    #[test]
    fn marks_read_back() {
        let key = key("a.b-c_d");
        assert_eq!(read_alias(&alias("dcos", &key)), Some(("dcos", key)));
        for foreign in ["", "mizzen-cni", "mizzen-cni dcos c1", "mizzen-cnidcos c1 eth0", "x y z w"]
        {
            assert_eq!(read_alias(foreign), None, "{foreign}");
        }
        let longest = AttachmentKey { container_id: "c".repeat(223), ifname: "e".repeat(15) };
        assert!(alias("dcos", &longest).len() <= 255);
    }
}
