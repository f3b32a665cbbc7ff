//! What tests of the VIP dataplane say.

use std::net::SocketAddr;

use mizzen_ebpf_loader::{BackendWanted, LinkWanted, Options, Tuning, VipAddress, VipWanted};

use crate::namespace::Namespace;
use crate::room::{Room, at};

impl Room {
    /// The usual options: attach to the room's cgroup, pin on its bpffs.
    pub fn options(&self) -> Options {
        Options {
            pin_dir: self.pins.join("mizzen"),
            cgroup: self.cgroup.clone(),
            tuning: Tuning::default(),
        }
    }
}

impl Namespace {
    /// What the programs have to know of a link.
    #[must_use]
    pub fn wanted(&self, name: &str) -> LinkWanted {
        let link = self.link(name);
        let addresses = self.netlink().observe_addresses(link.master.unwrap_or(link.index));
        let networks = addresses.expect("readable").into_iter().map(|address| address.net);
        LinkWanted {
            index: link.index.0,
            name: link.name,
            bridge: link.master.map(|bridge| bridge.0),
            is_tunnel: link.kind.as_deref() == Some("vxlan"),
            mtu: link.mtu,
            networks: networks.map(|net| (net.addr(), net.prefix_len())).collect(),
        }
    }
}

/// A virtual TCP service at `text`.
#[must_use]
pub fn tcp(text: &str) -> VipAddress {
    VipAddress::tcp(at(text))
}

/// Admitted backends of weight 1.
#[must_use]
pub fn backends(addresses: &[SocketAddr]) -> VipWanted {
    VipWanted::from(addresses.iter().copied().map(BackendWanted::new).collect::<Vec<_>>())
}
