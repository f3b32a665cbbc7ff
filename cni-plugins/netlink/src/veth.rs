//! Pairs of virtual links, one end in another network namespace.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo};

use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::{LinkChange, LinkState, Mac, named};

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
        let peer = &spec.peer;
        let mtu = LinkAttribute::Mtu(spec.mtu);
        let namespace = LinkAttribute::NetNsFd(peer.namespace.as_raw_fd());
        let mac = peer.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec()));
        let other_end = named(peer.name, [namespace, mtu.clone()].into_iter().chain(mac));
        let pair = InfoData::Veth(InfoVeth::Peer(other_end));
        let information = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(pair)];
        let this_end = named(spec.name, [mtu, LinkAttribute::LinkInfo(information)]);

        let request = RouteNetlinkMessage::NewLink(this_end);
        let called = || format!("link `{}` with peer `{}`", spec.name, peer.name);
        let outcome = self.connection.change(request, NLM_F_CREATE | NLM_F_EXCL);
        outcome.map_err(|refusal| refusal.to("create", called()))?;

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
