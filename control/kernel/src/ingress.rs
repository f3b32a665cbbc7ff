//! Links that VIP traffic may arrive by: observed, chosen, and given to the programs.

use mizzen_ebpf_loader::{Followed, LinkWanted, LoadError};
pub use mizzen_netlink::LinkMonitor;
use mizzen_netlink::{IfIndex, LinkState, Netlink, NetlinkError};
use mizzen_plan::ingress::{IngressLink, IngressRule, ingress_links};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use crate::vips::Vips;

/// What could not be done for traffic that arrives.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// The node's links cannot be listed.
    #[error("cannot look for links that VIP traffic may arrive by")]
    Links(#[source] NetlinkError),
    /// The kernel does not take the programs.
    #[error(transparent)]
    Programs(#[from] LoadError),
}

/// Makes the programs for arriving traffic stand on the links of the calling thread's network namespace that `rules`
/// mean, and on no others. `own` are the node's own bridges and tunnels. Other engines see what arrives without it.
///
/// # Errors
///
/// [`IngressError`] if nothing could be done; links that the kernel refuses are told in the answer.
pub fn follow_links(
    vips: &mut Vips,
    rules: &[IngressRule],
    own: &[&str],
) -> Result<Followed, IngressError> {
    let Vips::Ebpf(dataplane) = vips else { return Ok(Followed::default()) };
    let wanted = observe_wanted(rules, own).map_err(IngressError::Links)?;
    Ok(dataplane.follow_links(&wanted)?)
}

fn observe_wanted(rules: &[IngressRule], own: &[&str]) -> Result<Vec<LinkWanted>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let links: Vec<IngressLink> = netlink.observe_links()?.iter().map(ingress_link).collect();
    let mut networks = BTreeMap::new();
    let mut wanted = Vec::new();
    for link in ingress_links(rules, own, &links) {
        let whose = link.master.unwrap_or(link.index);
        let networks = match networks.entry(whose) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(observe_networks(&mut netlink, whose)?),
        };
        wanted.push(LinkWanted {
            index: link.index,
            name: link.name,
            bridge: link.master,
            is_tunnel: link.is_tunnel,
            mtu: link.mtu,
            networks: networks.clone(),
        });
    }
    Ok(wanted)
}

/// Networks that the link has an address in, but for those of the link alone.
fn observe_networks(netlink: &mut Netlink, link: u32) -> Result<Vec<(IpAddr, u8)>, NetlinkError> {
    let is_global = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    let addresses = netlink.observe_addresses(IfIndex(link))?.into_iter();
    let networks = addresses.map(|address| (address.net.addr(), address.net.prefix_len()));
    Ok(networks.filter(|(address, _)| is_global(address)).collect())
}

fn ingress_link(link: &LinkState) -> IngressLink {
    IngressLink {
        index: link.index.0,
        name: link.name.clone(),
        is_bridge: link.kind.as_deref() == Some("bridge"),
        is_tunnel: link.kind.as_deref() == Some("vxlan"),
        is_ethernet: link.mac.is_some(),
        master: link.master.map(|master| master.0),
        mtu: link.mtu,
    }
}
