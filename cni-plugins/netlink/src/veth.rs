//! Pairs of virtual links, one end in another network namespace.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::{LinkChange, LinkState, Mac, header};
use crate::wire::Message;

/// A pair that is wanted; this end stays in the namespace of the conversation.
#[derive(Clone, Debug)]
pub struct VethSpec<'a> {
    /// Name of this end, at most 15 bytes.
    pub name: &'a str,
    /// Largest packet in bytes, of both ends.
    pub mtu: u32,
    /// Owner's mark on this end, at most 255 bytes.
    pub alias: Option<&'a str>,
    /// The other end.
    pub peer: VethPeer<'a>,
}

/// The other end of a pair.
#[derive(Clone, Debug)]
pub struct VethPeer<'a> {
    /// Its name in its namespace, at most 15 bytes.
    pub name: &'a str,
    /// Its network namespace.
    pub namespace: BorrowedFd<'a>,
    /// Its link-layer address; `None` lets the kernel draw one.
    pub mac: Option<Mac>,
}

impl Netlink {
    /// Creates a pair, both ends down, and returns this end.
    ///
    /// The other end is born in its namespace under its name: it never shows up in
    /// ours, and never collides with a name there.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`]; [`NetlinkError::is_taken`] if either name is in use.
    /// Nothing is left behind then.
    pub fn create_veth(&mut self, spec: &VethSpec<'_>) -> Result<LinkState, NetlinkError> {
        const VETH_INFO_PEER: u16 = 1;
        let peer = &spec.peer;
        let namespace = peer.namespace.as_raw_fd().cast_unsigned();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let other_end = |data: Message| {
            data.fixed(&header(0, 0, 0))
                .attr_str(libc::IFLA_IFNAME, peer.name)
                .attr_u32(libc::IFLA_NET_NS_FD, namespace)
                .attr_u32(libc::IFLA_MTU, spec.mtu)
                .maybe(peer.mac, |data, mac| data.attr(libc::IFLA_ADDRESS, &mac.0))
        };
        let request = Message::new(libc::RTM_NEWLINK, flags, &header(0, 0, 0))
            .attr_str(libc::IFLA_IFNAME, spec.name)
            .attr_u32(libc::IFLA_MTU, spec.mtu)
            .nest(libc::IFLA_LINKINFO, |info| {
                info.attr_str(libc::IFLA_INFO_KIND, "veth")
                    .nest(libc::IFLA_INFO_DATA, |data| data.nest(VETH_INFO_PEER, other_end))
            });
        let named = || format!("link `{}` with peer `{}`", spec.name, peer.name);
        self.connection.change(&request).map_err(|refusal| refusal.to("create", named()))?;

        let marked = match spec.alias {
            // The kernel ignores an alias in the request that creates a link.
            Some(alias) => self.set_link(spec.name, &LinkChange::new().alias(alias)),
            None => Ok(()),
        };
        marked.and_then(|()| self.expect_link(spec.name)).inspect_err(|_| {
            // The first error is the one to report.
            let _ = self.remove_link(spec.name);
        })
    }
}
