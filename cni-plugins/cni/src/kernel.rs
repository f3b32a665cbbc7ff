//! Carries the steps of a plan out, and looks at what is there.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mizzen_cni_core::check::{Observed, ObservedLink};
use mizzen_cni_core::plan::{End, Family, Hairpin, Step};
use mizzen_cni_core::result::Interface;
use mizzen_netlink::{
    BridgeSpec, DuplicateDetection, HomeNamespace, IfIndex, LinkChange, LinkState, Mac, Netlink,
    NetlinkError, Plug, RateLimit, RouteSpec, TABLE_MAIN, VethPeer, VethSpec, ensure_sysctl,
};
use rustix::fs::OFlags;

use crate::error::PluginError;

/// The mark of routes in a container: those of an administrator (`static`).
const ROUTE_PROTOCOL: u8 = 4;

/// Conversations with the host's namespace and with a container's, and the links that steps
/// made or found.
pub(crate) struct Kernel {
    pub(crate) host: Netlink,
    container: Netlink,
    namespace: File,
    bridge: Option<LinkState>,
    pair: Option<Pair>,
}

/// The pair of a container.
struct Pair {
    host: LinkState,
    inside: Inside,
}

/// The container's end.
struct Inside {
    index: IfIndex,
    name: String,
    mac: Mac,
    mtu: u32,
}

impl Kernel {
    pub(crate) fn open(netns: &Path) -> Result<Self, PluginError> {
        let unreachable = |source| PluginError::NoNamespace { netns: netns.to_owned(), source };
        // Nobody may ever open the other end of a pipe that stands in its place.
        let without_wait = OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(without_wait).open(netns);
        let namespace = opened.map_err(|source| {
            unreachable(NetlinkError::Namespace { path: netns.to_owned(), source })
        })?;
        // A plugin has one thread.
        let home = HomeNamespace::open()?;
        if home.is(&namespace, netns).map_err(unreachable)? {
            return Err(PluginError::HostNamespace { netns: netns.to_owned() });
        }
        let container = home.visit(&namespace, netns, Netlink::open);
        let container = container.and_then(|opened| opened).map_err(unreachable)?;
        Ok(Self { host: Netlink::open()?, container, namespace, bridge: None, pair: None })
    }

    /// Carries one step out. Steps come in the order of the plan.
    pub(crate) fn carry_out(&mut self, step: &Step) -> Result<(), NetlinkError> {
        match step {
            Step::EnableForwarding(family) => {
                ensure_sysctl(forwarding(*family), "1")?;
            }
            Step::EnsureBridge { name, mtu, mac, addresses } => {
                let bridge = self.host.ensure_bridge(&BridgeSpec {
                    name: name.clone(),
                    mtu: Some(*mtu),
                    mac: mac.map(Mac),
                    alias: None,
                    addresses: addresses.clone(),
                })?;
                self.bridge = Some(bridge.into_inner());
            }
            Step::CreateVeth { host, alias, mtu, inside, mac, hairpin } => {
                let namespace = self.namespace.as_fd();
                let mac = Mac(*mac);
                let peer = VethPeer { name: inside, namespace, mac: Some(mac) };
                let spec = VethSpec { name: host, mtu: *mtu, alias: Some(alias), peer };
                let bridge = expect(self.bridge.as_ref(), "the bridge")?.index;
                let plug = Plug { bridge, hairpin: *hairpin == Hairpin::On };
                let host = self.host.create_plugged_veth(&spec, plug)?;
                let index = match host.peer {
                    Some(index) => index,
                    None => index_of(&mut self.container, inside)?,
                };
                let inside = Inside { index, name: inside.clone(), mac, mtu: *mtu };
                self.pair = Some(Pair { host, inside });
            }
            Step::LimitRate { end, limit } => {
                let limit = RateLimit { rate: limit.rate, burst: limit.burst };
                let pair = expect(self.pair.as_ref(), "the pair")?;
                match end {
                    End::Host => self.host.ensure_rate_limit(pair.host.index, limit)?,
                    End::Inside => self.container.ensure_rate_limit(pair.inside.index, limit)?,
                }
            }
            Step::BringUp { link } => self.container.set_link(link, &LinkChange::new().up())?,
            Step::AddAddress { address, .. } => {
                let index = expect(self.pair.as_ref(), "the pair")?.inside.index;
                self.container.ensure_address(index, *address, DuplicateDetection::Off)?;
            }
            Step::AddRoute { destination, gateway, .. } => {
                let link = Some(expect(self.pair.as_ref(), "the pair")?.inside.index);
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
    pub(crate) fn interfaces(&self, netns: &Path) -> Result<Vec<Interface>, NetlinkError> {
        let bridge = expect(self.bridge.as_ref(), "the bridge")?;
        let Pair { host, inside } = expect(self.pair.as_ref(), "the pair")?;
        let container = Interface {
            name: inside.name.clone(),
            mac: Some(inside.mac.to_string()),
            sandbox: Some(netns.to_string_lossy().into_owned()),
            mtu: Some(inside.mtu),
        };
        Ok(vec![interface(bridge), interface(host), container])
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
    let vanished = || NetlinkError::Vanished { object: format!("link `{name}`") };
    Ok(netlink.observe_link(name)?.ok_or_else(vanished)?.index)
}

fn interface(link: &LinkState) -> Interface {
    let mac = link.mac.map(|mac| mac.to_string());
    Interface { name: link.name.clone(), mac, sandbox: None, mtu: Some(link.mtu) }
}

/// What an earlier step must have left.
fn expect<T>(made: Option<T>, what: &str) -> Result<T, NetlinkError> {
    made.ok_or_else(|| NetlinkError::Vanished { object: what.to_owned() })
}
