//! Ports of a host that lead to containers.

use std::net::{IpAddr, SocketAddr};

/// Something that has to be in the kernel for a container whose ports are published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortEntry {
    /// What arrives at a port of this host goes to a container.
    Publish {
        /// The host's address; `None` for all of the family of `to`.
        host: Option<IpAddr>,
        /// Number of the IP protocol: 6, 17, 132.
        protocol: u8,
        /// The host's port.
        port: u16,
        /// The container's address and port.
        to: SocketAddr,
    },
    /// What a container sends and, redirected, gets itself, gets our address as its source.
    /// Where bridges hand frames to nf_tables (`br_netfilter`), this is seen by no link.
    Itself {
        /// The container's address.
        address: IpAddr,
    },
    /// What comes by a link and, redirected, leaves to this address by the same link gets
    /// our address as its source, or the answer would not come by here.
    Hairpin {
        /// Name of the link.
        link: String,
        /// The container's address.
        address: IpAddr,
    },
}
