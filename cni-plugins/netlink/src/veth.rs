//! Pairs of virtual links, one end in another network namespace.

use std::os::fd::{AsRawFd, BorrowedFd};

use mizzen_net_words::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::bridge::hairpin;
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::{self, IfIndex, LinkChange, LinkState, named, object};

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

/// Where a new pair is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plug {
    /// The bridge of which this end becomes a port.
    pub bridge: IfIndex,
    /// Whether frames may go back out of the port by which they came.
    pub hairpin: bool,
}

impl Netlink {
    /// Creates a pair of which this end is up and a port of a bridge, and returns this end;
    /// [`LinkState::peer`] is the other. Two requests do what takes five one by one.
    ///
    /// # Errors
    ///
    /// As [`Netlink::create_veth`].
    pub fn create_plugged_veth(
        &mut self,
        spec: &VethSpec<'_>,
        plug: Plug,
    ) -> Result<LinkState, NetlinkError> {
        let (mut this_end, other_end) = ends(spec);
        this_end.attributes.push(LinkAttribute::Controller(plug.bridge.0));
        // The other end cannot be up before it has this one.
        this_end.header.flags = LinkFlags::Up;
        this_end.header.change_mask = LinkFlags::Up;
        let made = self.create_pair(spec, this_end, other_end)?;
        // The kernel ignores these two in the request that creates a link.
        let mark = spec.alias.map(|alias| LinkChange::new().alias(alias));
        let mut marking = named(spec.name, mark.iter().flat_map(LinkChange::attributes));
        if plug.hairpin {
            marking.attributes.push(hairpin(true));
        }
        let marked = self.connection.change(RouteNetlinkMessage::NewLink(marking), 0);
        let marked = marked.map_err(|refusal| refusal.to("set", object(spec.name)));
        let changed = |made: LinkState| LinkState {
            master: Some(plug.bridge),
            hairpin: Some(plug.hairpin),
            ..made
        };
        self.finish_pair(spec, marked, made.map(changed))
    }

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
        let (this_end, other_end) = ends(spec);
        let made = self.create_pair(spec, this_end, other_end)?;
        let marked = match spec.alias {
            // The kernel ignores an alias in the request that creates a link.
            Some(alias) => self.set_link(spec.name, &LinkChange::new().alias(alias)),
            None => Ok(()),
        };
        self.finish_pair(spec, marked, made)
    }

    /// Makes the pair, and returns this end as it is then, if the kernel says it unasked.
    fn create_pair(
        &mut self,
        spec: &VethSpec<'_>,
        mut this_end: LinkMessage,
        other_end: LinkMessage,
    ) -> Result<Option<LinkState>, NetlinkError> {
        let pair = InfoData::Veth(InfoVeth::Peer(other_end));
        let information = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(pair)];
        this_end.attributes.push(LinkAttribute::LinkInfo(information));
        let request = RouteNetlinkMessage::NewLink(this_end);
        let called = || format!("link `{}` with peer `{}`", spec.name, spec.peer.name);
        let exclusively = NLM_F_CREATE | NLM_F_EXCL;
        let outcome = self.connection.change_echoed(request, exclusively, link::read);
        outcome.map_err(|refusal| refusal.to("create", called()))
    }

    /// Returns the new pair, or removes it if it could not be marked.
    fn finish_pair(
        &mut self,
        spec: &VethSpec<'_>,
        marked: Result<(), NetlinkError>,
        made: Option<LinkState>,
    ) -> Result<LinkState, NetlinkError> {
        let look = |()| match made {
            Some(made) => Ok(LinkState { alias: spec.alias.map(str::to_owned), ..made }),
            None => self.expect_link(spec.name),
        };
        marked.and_then(look).inspect_err(|_| {
            // The first error is the one to report.
            let _ = self.remove_link(spec.name);
        })
    }
}

/// Both ends as they are wanted, this one first.
fn ends(spec: &VethSpec<'_>) -> (LinkMessage, LinkMessage) {
    let peer = &spec.peer;
    let namespace = LinkAttribute::NetNsFd(peer.namespace.as_raw_fd());
    let mac = peer.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec()));
    let other_end = common(spec).into_iter().chain([namespace]).chain(mac);
    (named(spec.name, common(spec)), named(peer.name, other_end))
}

/// What both ends have. Unasked, the kernel makes a queue for each processor, shows them all in
/// sysfs, and then removes all but the first there.
fn common(spec: &VethSpec<'_>) -> [LinkAttribute; 3] {
    [LinkAttribute::Mtu(spec.mtu), LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]
}
