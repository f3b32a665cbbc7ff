//! Whether a container is still connected as ADD left it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::AttachmentKey;
use crate::config::OverlayConfig;
use crate::result::{CniResult, Route};

/// What was found in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Name of the bridge of which the host's end is a port; `None` if there is no such
    /// end, the inner `None` if it is a port of nothing.
    pub host: Option<Option<String>>,
    /// The container's end, if it is there.
    pub inside: Option<ObservedLink>,
    /// Routes of the container: destination and next router.
    pub routes: Vec<(IpNet, Option<IpAddr>)>,
}

/// The container's end of the pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedLink {
    /// Whether it is up.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// The first thing that is not as ADD left it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// CHECK needs the answer of ADD.
    #[error("CHECK needs the key `prevResult`")]
    NoPreviousResult,
    /// The host's end is gone.
    #[error("{key}: its link on the host is gone")]
    NoHostLink {
        /// Whose.
        key: AttachmentKey,
    },
    /// The host's end is not a port of the bridge.
    #[error("{key}: its link on the host is not a port of bridge `{bridge}`")]
    NotInBridge {
        /// Whose.
        key: AttachmentKey,
        /// The bridge of the configuration.
        bridge: String,
    },
    /// The container's end is gone.
    #[error("{key}: not there")]
    NoLink {
        /// Whose.
        key: AttachmentKey,
    },
    /// The container's end is down.
    #[error("{key}: down")]
    Down {
        /// Whose.
        key: AttachmentKey,
    },
    /// An address is gone.
    #[error("{key}: address {address} is gone")]
    NoAddress {
        /// Whose.
        key: AttachmentKey,
        /// The address.
        address: IpNet,
    },
    /// A route is gone.
    #[error("{key}: the route to {destination} is gone")]
    NoRoute {
        /// Whose.
        key: AttachmentKey,
        /// Where to.
        destination: IpNet,
    },
}

/// Compares what ADD answered with what was observed.
///
/// # Errors
///
/// The first difference.
pub fn check(
    key: &AttachmentKey,
    config: &OverlayConfig,
    observed: &Observed,
) -> Result<(), CheckError> {
    let expected = config.prev_result.as_ref().ok_or(CheckError::NoPreviousResult)?;
    let key = || key.clone();
    let Some(master) = &observed.host else {
        return Err(CheckError::NoHostLink { key: key() });
    };
    if master.as_ref() != Some(&config.bridge) {
        return Err(CheckError::NotInBridge { key: key(), bridge: config.bridge.clone() });
    }
    let link = observed.inside.as_ref().ok_or_else(|| CheckError::NoLink { key: key() })?;
    if !link.up {
        return Err(CheckError::Down { key: key() });
    }
    let ours: Vec<IpNet> = own_addresses(expected, &key().ifname).collect();
    if let Some(address) = ours.iter().find(|address| !link.addresses.contains(address)) {
        return Err(CheckError::NoAddress { key: key(), address: *address });
    }
    // One by a router of another plugin's network is that one's.
    let is_ours = |route: &&Route| match route.gw {
        None => true,
        Some(router) => ours.iter().any(|network| network.contains(&router)),
    };
    let mut routes = expected.routes.iter().filter(is_ours);
    if let Some(route) = routes.find(|route| !has_route(observed, route)) {
        return Err(CheckError::NoRoute { key: key(), destination: route.dst });
    }
    Ok(())
}

/// The addresses on our link: other plugins of the chain tell theirs in the same list.
fn own_addresses(expected: &CniResult, ifname: &str) -> impl Iterator<Item = IpNet> {
    let is_ours = move |at: usize| match expected.interfaces.get(at) {
        Some(interface) => interface.name == ifname && interface.sandbox.is_some(),
        None => true,
    };
    expected.ips.iter().filter(move |ip| ip.interface.is_none_or(is_ours)).map(|ip| ip.address)
}

fn has_route(observed: &Observed, route: &Route) -> bool {
    let matches = |(destination, gateway): &(IpNet, Option<IpAddr>)| {
        *destination == route.dst.trunc() && (route.gw.is_none() || *gateway == route.gw)
    };
    observed.routes.iter().any(matches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ipam;
    use crate::result::{Dns, Interface, IpConfig};

    fn config(prev_result: Option<CniResult>) -> OverlayConfig {
        OverlayConfig {
            bridge: "m-dcos".into(),
            mtu: 1420,
            hairpin: true,
            is_gateway: true,
            ipam: Ipam::Delegated { plugin: "x".into() },
            dns: Dns::default(),
            bandwidth: crate::runtime::Bandwidth::default(),
            data_dir: "/tmp".into(),
            prev_result,
        }
    }

    fn added() -> CniResult {
        let address = "9.0.5.2/25".parse().unwrap();
        CniResult {
            ips: vec![IpConfig { interface: Some(0), address, gateway: None }],
            routes: vec![Route { dst: "0.0.0.0/0".parse().unwrap(), gw: None }],
            ..CniResult::default()
        }
    }

    fn good() -> Observed {
        Observed {
            host: Some(Some("m-dcos".into())),
            inside: Some(ObservedLink { up: true, addresses: vec!["9.0.5.2/25".parse().unwrap()] }),
            routes: vec![("0.0.0.0/0".parse().unwrap(), Some("9.0.5.1".parse().unwrap()))],
        }
    }

    #[test]
    fn what_other_plugins_of_the_chain_made_is_theirs() {
        let link = |name: &str, sandbox: Option<&str>| Interface {
            name: name.into(),
            sandbox: sandbox.map(str::to_owned),
            ..Interface::default()
        };
        let theirs = |at| IpConfig {
            interface: Some(at),
            address: "192.0.2.9/24".parse().unwrap(),
            gateway: None,
        };
        let mut result = added();
        result.interfaces =
            vec![link("eth0", Some("/n")), link("net1", Some("/n")), link("eth0", None)];
        result.ips.extend([theirs(1), theirs(2)]);
        let route = Route { dst: "198.18.0.0/15".parse().unwrap(), gw: "192.0.2.1".parse().ok() };
        result.routes.push(route);
        let key = AttachmentKey { container_id: "c1".into(), ifname: "eth0".into() };
        check(&key, &config(Some(result.clone())), &good()).unwrap();
        result.ips[1].interface = None;
        check(&key, &config(Some(result)), &good()).unwrap_err();
    }

    #[test]
    fn every_difference_is_found_and_named() {
        type Change = fn(&mut Observed);
        #[rustfmt::skip]
        let table: &[(&str, Change)] = &[
            ("",                  |_| {}),
            ("host is gone",      |o| o.host = None),
            ("port of bridge",    |o| o.host = Some(None)),
            ("port of bridge",    |o| o.host = Some(Some("other".into()))),
            ("not there",         |o| o.inside = None),
            ("eth0` of container `c1`: down",     |o| o.inside.as_mut().unwrap().up = false),
            ("9.0.5.2/25 is gone",|o| o.inside.as_mut().unwrap().addresses.clear()),
            ("0.0.0.0/0 is gone", |o| o.routes.clear()),
        ];
        let key = AttachmentKey { container_id: "c1".into(), ifname: "eth0".into() };
        for (want, change) in table {
            let mut observed = good();
            change(&mut observed);
            let got = check(&key, &config(Some(added())), &observed);
            match got {
                Ok(()) => assert_eq!(*want, ""),
                Err(error) => {
                    assert!(
                        !want.is_empty() && error.to_string().contains(want),
                        "{want}: {error}"
                    );
                }
            }
        }
        let nothing = check(&key, &config(None), &good());
        assert_eq!(nothing, Err(CheckError::NoPreviousResult));
    }
}
