//! Carries the steps of a plan out, and looks at what is there.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use mizzen_cni_core::check::{Observed, ObservedLink};
use mizzen_cni_core::plan::{Family, Hairpin, Step};
use mizzen_cni_core::result::Interface;
use mizzen_netlink::{
    BridgeSpec, DuplicateDetection, IfIndex, LinkChange, Mac, Netlink, NetlinkError, RouteSpec,
    TABLE_MAIN, VethPeer, VethSpec, ensure_sysctl,
};

use crate::error::PluginError;

/// The mark of routes in a container: those of an administrator (`static`).
const ROUTE_PROTOCOL: u8 = 4;

/// Conversations with the host's namespace and with a container's.
pub(crate) struct Kernel {
    pub(crate) host: Netlink,
    container: Netlink,
    namespace: File,
}

impl Kernel {
    pub(crate) fn open(netns: &Path) -> Result<Self, PluginError> {
        let unreachable = |source| PluginError::NoNamespace { netns: netns.to_owned(), source };
        let container = Netlink::open_in(netns).map_err(unreachable)?;
        let namespace = File::open(netns).map_err(|source| {
            unreachable(NetlinkError::Namespace { path: netns.to_owned(), source })
        })?;
        Ok(Self { host: Netlink::open()?, container, namespace })
    }

    /// Carries one step out.
    pub(crate) fn carry_out(&mut self, step: &Step) -> Result<(), NetlinkError> {
        match step {
            Step::EnableForwarding(family) => {
                ensure_sysctl(forwarding(*family), "1")?;
            }
            Step::EnsureBridge { name, mtu, mac, addresses } => {
                self.host.ensure_bridge(&BridgeSpec {
                    name: name.clone(),
                    mtu: Some(*mtu),
                    mac: mac.map(Mac),
                    alias: None,
                    addresses: addresses.clone(),
                })?;
            }
            Step::CreateVeth { host, alias, mtu, inside, mac } => {
                let namespace = self.namespace.as_fd();
                let peer = VethPeer { name: inside, namespace, mac: Some(Mac(*mac)) };
                let spec = VethSpec { name: host, mtu: *mtu, alias: Some(alias), peer };
                self.host.create_veth(&spec)?;
            }
            Step::JoinBridge { host, bridge, hairpin } => {
                let master = index_of(&mut self.host, bridge)?;
                self.host.set_link(host, &LinkChange::new().up().master(master))?;
                if *hairpin == Hairpin::On {
                    self.host.ensure_port_hairpin(host)?;
                }
            }
            Step::BringUp { link } => self.container.set_link(link, &LinkChange::new().up())?,
            Step::AddAddress { link, address } => {
                let index = index_of(&mut self.container, link)?;
                self.container.ensure_address(index, *address, DuplicateDetection::Off)?;
            }
            Step::AddRoute { link, destination, gateway } => {
                let link = Some(index_of(&mut self.container, link)?);
                self.container.ensure_route(&RouteSpec {
                    destination: *destination,
                    gateway: *gateway,
                    link,
                    source: None,
                    metric: None,
                    table: TABLE_MAIN,
                    protocol: ROUTE_PROTOCOL,
                })?;
            }
        }
        Ok(())
    }

    /// The links of an attachment as ADD's answer describes them: the bridge, the
    /// host's end, the container's end.
    pub(crate) fn interfaces(
        &mut self,
        bridge: &str,
        host: &str,
        inside: &str,
        netns: &Path,
    ) -> Result<Vec<Interface>, NetlinkError> {
        let sandbox = Some(netns.to_string_lossy().into_owned());
        Ok(vec![
            interface(&mut self.host, bridge, None)?,
            interface(&mut self.host, host, None)?,
            interface(&mut self.container, inside, sandbox)?,
        ])
    }

    /// What CHECK compares.
    pub(crate) fn observe(
        &mut self,
        bridge: &str,
        host: &str,
        inside: &str,
    ) -> Result<Observed, NetlinkError> {
        let bridge_index = self.host.observe_link(bridge)?.map(|link| link.index);
        let host = self.host.observe_link(host)?.map(|link| {
            let ours = link.master.is_some() && link.master == bridge_index;
            ours.then(|| bridge.to_owned())
        });
        let inside = match self.container.observe_link(inside)? {
            None => None,
            Some(link) => {
                let addresses = self.container.observe_addresses(link.index)?;
                let addresses = addresses.into_iter().map(|address| address.net).collect();
                Some(ObservedLink { up: link.up, addresses })
            }
        };
        let routes = self.container.observe_routes(ROUTE_PROTOCOL)?;
        let routes = routes.iter().map(|route| (route.destination, route.gateway)).collect();
        Ok(Observed { host, inside, routes })
    }
}

fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

fn index_of(netlink: &mut Netlink, name: &str) -> Result<IfIndex, NetlinkError> {
    Ok(expect_link(netlink, name)?.index)
}

fn interface(
    netlink: &mut Netlink,
    name: &str,
    sandbox: Option<String>,
) -> Result<Interface, NetlinkError> {
    let link = expect_link(netlink, name)?;
    let mac = link.mac.map(|mac| mac.to_string());
    Ok(Interface { name: link.name, mac, sandbox, mtu: Some(link.mtu) })
}

fn expect_link(
    netlink: &mut Netlink,
    name: &str,
) -> Result<mizzen_netlink::LinkState, NetlinkError> {
    let vanished = || NetlinkError::Vanished { object: format!("link `{name}`") };
    netlink.observe_link(name)?.ok_or_else(vanished)
}
