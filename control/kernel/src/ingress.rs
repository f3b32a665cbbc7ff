//! Links that VIP traffic may arrive by: observed, chosen, and given to the programs.

use mizzen_ebpf_loader::{Followed, LinkWanted, LoadError};
pub use mizzen_netlink::LinkMonitor;
use mizzen_netlink::{LinkState, Netlink, NetlinkError};
use mizzen_plan::ingress::{IngressLink, IngressRule, ingress_links};

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
/// mean, and on no others. `bridges` are the node's own. Other engines see what arrives without it.
///
/// # Errors
///
/// [`IngressError`] if nothing could be done; links that the kernel refuses are told in the answer.
pub fn follow_links(
    vips: &mut Vips,
    rules: &[IngressRule],
    bridges: &[&str],
) -> Result<Followed, IngressError> {
    let Vips::Ebpf(dataplane) = vips else { return Ok(Followed::default()) };
    let links = Netlink::open().and_then(|mut netlink| netlink.observe_links());
    let links: Vec<IngressLink> =
        links.map_err(IngressError::Links)?.iter().map(ingress_link).collect();
    let wanted: Vec<LinkWanted> =
        ingress_links(rules, bridges, &links).into_iter().map(link_wanted).collect();
    Ok(dataplane.follow_links(&wanted)?)
}

fn ingress_link(link: &LinkState) -> IngressLink {
    IngressLink {
        index: link.index.0,
        name: link.name.clone(),
        is_bridge: link.kind.as_deref() == Some("bridge"),
        is_ethernet: link.mac.is_some(),
        master: link.master.map(|master| master.0),
        mtu: link.mtu,
    }
}

fn link_wanted(link: IngressLink) -> LinkWanted {
    LinkWanted { index: link.index, name: link.name, bridge: link.master, mtu: link.mtu }
}
