//! Waiting for links and their addresses to come, go or change, and for things of ours to be
//! removed or changed.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use crate::Netlink;
use crate::error::NetlinkError;
use crate::ports::marks;
use crate::tunnel::{SeenEntry, read_seen};

/// Tells that something happened to a link of one network namespace, or to its addresses.
pub struct LinkMonitor {
    socket: Socket,
}

impl LinkMonitor {
    /// Listens from now on, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];
        let opened = listen(NETLINK_ROUTE, &groups).map(|socket| Self { socket });
        opened.map_err(|source| NetlinkError::Open { source })
    }

    /// Blocks until something has happened since the last call.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the socket broke.
    pub fn wait(&mut self) -> Result<(), NetlinkError> {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        match self.socket.recv(&mut buffer, 0) {
            Ok(_) => Ok(()),
            // More happened than the socket had room for; the caller looks at all links anyway.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(source) => Err(NetlinkError::Open { source }),
        }
    }
}

/// Tells that something of ours was removed or changed, or a link of tunnels or a bridge was
/// taken down. Whoever does that itself is told as well, except of what is as it should be.
pub struct RemovalMonitor {
    socket: Socket,
    ours: Ours,
    buffer: Vec<u8>,
}

/// What is ours.
enum Ours {
    /// What has this protocol number, and links; and which entries of tunnels are wrong.
    Protocol(u8, Box<dyn Fn(&SeenEntry) -> bool + Send>),
    /// A table of nf_tables with this name.
    Table(String),
    /// Such a table with elements of others, as far as they are to stay.
    Ports(String, Box<dyn Fn(&str) -> bool + Send>),
}

impl RemovalMonitor {
    /// Listens from now on, in the network namespace of the calling thread, for removals of
    /// routes, rules and neighbours of `protocol`, forwarding entries of tunnels, addresses,
    /// and of links that are tunnels, bridges or dummies; for changes of links that are tunnels;
    /// and for routes, neighbours and forwarding entries that are made or changed and `are_wrong`.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open(
        protocol: u8,
        are_wrong: impl Fn(&SeenEntry) -> bool + Send + 'static,
    ) -> Result<Self, NetlinkError> {
        let groups = [
            RTNLGRP_LINK,
            RTNLGRP_NEIGH,
            RTNLGRP_IPV4_IFADDR,
            RTNLGRP_IPV4_ROUTE,
            RTNLGRP_IPV4_RULE,
            RTNLGRP_IPV6_IFADDR,
            RTNLGRP_IPV6_ROUTE,
            RTNLGRP_IPV6_RULE,
        ];
        Self::listen(NETLINK_ROUTE, &groups, Ours::Protocol(protocol, Box::new(are_wrong)))
    }

    /// Listens from now on, in the network namespace of the calling thread, for removals of the
    /// nf_tables table `name`, and of its chains and rules.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open_table(name: &str) -> Result<Self, NetlinkError> {
        let groups = [libc::NFNLGRP_NFTABLES as u32];
        Self::listen(NETLINK_NETFILTER, &groups, Ours::Table(name.to_owned()))
    }

    /// Listens from now on, in the network namespace of the calling thread, for removals of the
    /// table `name` of published ports, of its chains, rules and maps, and of those of its
    /// entries whose mark `stays`.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open_ports(
        name: &str,
        stays: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Self, NetlinkError> {
        let groups = [libc::NFNLGRP_NFTABLES as u32];
        Self::listen(NETLINK_NETFILTER, &groups, Ours::Ports(name.to_owned(), Box::new(stays)))
    }

    fn listen(protocol: isize, groups: &[u32], ours: Ours) -> Result<Self, NetlinkError> {
        let socket = listen(protocol, groups).map_err(|source| NetlinkError::Open { source })?;
        Ok(Self { socket, ours, buffer: Vec::with_capacity(WHOLE_BYTES) })
    }

    /// Blocks until such a thing has happened since the last call.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the socket broke.
    pub fn wait(&mut self) -> Result<(), NetlinkError> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) if self.concerns_us() => return Ok(()),
                Ok(_) => {}
                // More happened than the socket had room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(NetlinkError::Open { source }),
            }
        }
    }

    fn concerns_us(&self) -> bool {
        messages(&self.buffer).any(|(kind, payload)| self.is_ours(kind, payload))
    }

    fn is_ours(&self, kind: u16, payload: &[u8]) -> bool {
        match &self.ours {
            Ours::Protocol(protocol, are_wrong) => {
                is_removal(*protocol, kind, payload)
                    || read_seen(kind, payload, *protocol).is_some_and(|seen| are_wrong(&seen))
            }
            Ours::Table(name) => is_removal_from(name, kind, payload),
            Ours::Ports(name, stays) => {
                is_removal_from(name, kind, payload)
                    || (is_about(name, kind, payload, &[NFT_ENTRY_REMOVAL])
                        && marks(payload).iter().any(|mark| stays(mark)))
            }
        }
    }
}

/// Tells that a link takes packets of another size than before.
pub struct MtuMonitor {
    socket: Socket,
    /// By the links' indices.
    known: BTreeMap<u32, u32>,
    buffer: Vec<u8>,
}

impl MtuMonitor {
    /// Listens from now on, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`] if the kernel gives no socket, or does not tell of the links.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = listen(NETLINK_ROUTE, &[RTNLGRP_LINK]);
        let socket = socket.map_err(|source| NetlinkError::Open { source })?;
        let links = Netlink::open()?.observe_links()?;
        let known = links.iter().map(|link| (link.index.0, link.mtu)).collect();
        Ok(Self { socket, known, buffer: Vec::with_capacity(WHOLE_BYTES) })
    }

    /// Blocks until such a thing has happened since the last call.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the socket broke.
    pub fn wait(&mut self) -> Result<(), NetlinkError> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) if self.is_news() => return Ok(()),
                Ok(_) => {}
                // More happened than the socket had room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(NetlinkError::Open { source }),
            }
        }
    }

    /// Takes over what was heard; whether a link that was known has changed.
    fn is_news(&mut self) -> bool {
        let mut news = false;
        for (kind, payload) in messages(&self.buffer) {
            let Some(index) = number(payload.get(LINK_INDEX_AT)) else { continue };
            let mtu = attribute(payload, LINK_HEADER, libc::IFLA_MTU);
            match (kind, mtu.and_then(|mtu| number(Some(mtu.value())))) {
                (libc::RTM_DELLINK, _) => {
                    self.known.remove(&index);
                }
                (libc::RTM_NEWLINK, Some(mtu)) => {
                    let before = self.known.insert(index, mtu);
                    news |= before.is_some_and(|before| before != mtu);
                }
                _ => {}
            }
        }
        news
    }
}

/// Kinds and contents of the messages in one datagram.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = (message.length() as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        Some((message.message_type(), message.payload()))
    })
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes?.try_into().ok()?))
}

fn attribute(payload: &[u8], header: usize, wanted: u16) -> Option<NlaBuffer<&[u8]>> {
    let bytes = payload.get(header..).unwrap_or_default();
    let mut attributes = NlasIterator::new(bytes).map_while(Result::ok);
    attributes.find(|attribute| attribute.kind() == wanted)
}

fn is_removal(protocol: u8, kind: u16, payload: &[u8]) -> bool {
    let attribute = |header, wanted| attribute(payload, header, wanted);
    let says = |found: Option<NlaBuffer<&[u8]>>| {
        found.is_some_and(|found| found.value().first() == Some(&protocol))
    };
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            let information = attribute(LINK_HEADER, libc::IFLA_LINKINFO);
            information.is_some_and(|found| {
                // A bridge says something each time that a container comes.
                let is_gone = kind == libc::RTM_DELLINK || !is_up(payload);
                is_of_kind(found.value(), TUNNELS) || (is_gone && is_of_kind(found.value(), OTHERS))
            })
        }
        libc::RTM_DELADDR => !is_link_local(payload),
        // The protocol is the sixth byte of the header.
        libc::RTM_DELROUTE => payload.get(5) == Some(&protocol),
        libc::RTM_DELRULE => says(attribute(RULE_HEADER, FRA_PROTOCOL)),
        libc::RTM_DELNEIGH => match payload.first().map(|family| i32::from(*family)) {
            // Ports of bridges have entries as well, but these lead nowhere.
            Some(libc::AF_BRIDGE) => attribute(NEIGHBOUR_HEADER, libc::NDA_DST).is_some(),
            _ => says(attribute(NEIGHBOUR_HEADER, NDA_PROTOCOL)),
        },
        _ => false,
    }
}

/// Whether the table of this name, a chain, a rule or a map of it was removed.
fn is_removal_from(table: &str, kind: u16, payload: &[u8]) -> bool {
    is_about(table, kind, payload, &NFT_REMOVALS)
}

fn is_about(table: &str, kind: u16, payload: &[u8], kinds: &[u16]) -> bool {
    if !kinds.contains(&kind) {
        return false;
    }
    let name = attribute(payload, NFT_HEADER, NFT_TABLE);
    name.is_some_and(|found| found.value().strip_suffix(&[0]) == Some(table.as_bytes()))
}

fn is_up(payload: &[u8]) -> bool {
    /// Of the flags in the header of a message about a link.
    const FLAGS_AT: std::ops::Range<usize> = 8..12;
    number(payload.get(FLAGS_AT)).is_some_and(|flags| flags & libc::IFF_UP as u32 != 0)
}

/// Kinds of links that a node has.
const TUNNELS: &[&[u8]] = &[b"vxlan", b"wireguard"];
const OTHERS: &[&[u8]] = &[b"bridge", b"dummy"];

fn is_of_kind(information: &[u8], kinds: &[&[u8]]) -> bool {
    let mut parts = NlasIterator::new(information).map_while(Result::ok);
    let kind = parts.find(|part| part.kind() == libc::IFLA_INFO_KIND);
    kind.is_some_and(|kind| {
        kinds.contains(&kind.value().strip_suffix(&[0]).unwrap_or(kind.value()))
    })
}

/// Addresses that links of containers have by themselves, and take along.
fn is_link_local(payload: &[u8]) -> bool {
    /// Of the header of a message about an address.
    const SCOPE_AT: usize = 3;
    payload.get(SCOPE_AT) == Some(&libc::RT_SCOPE_LINK)
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    Ok(socket)
}

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV4_RULE: u32 = 8;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_IPV6_RULE: u32 = 19;
/// Lengths of headers.
const LINK_HEADER: usize = 16;
/// Where it has the link's index.
const LINK_INDEX_AT: std::ops::Range<usize> = 4..8;
const NEIGHBOUR_HEADER: usize = 12;
const RULE_HEADER: usize = 12;
const NFT_HEADER: usize = 4;
/// Removals of tables, of chains, of rules and of maps.
const NFT_REMOVALS: [u16; 4] = [
    nft(libc::NFT_MSG_DELTABLE),
    nft(libc::NFT_MSG_DELCHAIN),
    nft(libc::NFT_MSG_DELRULE),
    nft(libc::NFT_MSG_DELSET),
];
const NFT_ENTRY_REMOVAL: u16 = nft(libc::NFT_MSG_DELSETELEM);
/// In all of them the attribute with the name of the table has the same number.
const NFT_TABLE: u16 = 1;

const fn nft(message: i32) -> u16 {
    ((libc::NFNL_SUBSYS_NFTABLES << 8) | message) as u16
}

/// Attributes that `libc` does not name.
const NDA_PROTOCOL: u16 = 12;
const FRA_PROTOCOL: u16 = 21;
/// What was said does not matter, so it may be cut.
const RECEIVE_BYTES: usize = 64;
/// One notification is never longer.
const WHOLE_BYTES: usize = 32 * 1024;
