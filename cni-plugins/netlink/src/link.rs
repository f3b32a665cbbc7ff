//! Links: what they are, and changes that every kind of link takes.

use mizzen_net_words::Mac;
use netlink_packet_core::{
    DecodeError, DefaultNla, NlaBuffer, NlasIterator, Parseable, ParseableParametrized,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkHeader, LinkInfo, LinkMessage,
};

use crate::Removed;
use crate::attributes::attributes_after;
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::vxlan::{self, VxlanState};

/// The index of a link within its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

/// A link as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Index in its namespace.
    pub index: IfIndex,
    /// Name in its namespace.
    pub name: String,
    /// Kind, such as `bridge`, `veth` or `vxlan`; hardware has none.
    pub kind: Option<String>,
    /// Link-layer address, if it is one of 6 bytes.
    pub mac: Option<Mac>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Largest packet in bytes, without the link-layer header.
    pub mtu: u32,
    /// The bridge (or bond …) of which it is a port.
    pub master: Option<IfIndex>,
    /// The other end of a pair, in the namespace of that end; of other kinds, the link
    /// on which this one stands.
    pub peer: Option<IfIndex>,
    /// The free text with which an owner marks a link.
    pub alias: Option<String>,
    /// Kind of the queue of what it sends, such as `noqueue`, or `tbf` where its rate is limited.
    pub queue: Option<String>,
    /// Whether a bridge may send a frame back out of this port; `None` if it is no port.
    pub hairpin: Option<bool>,
    /// Of an end of VXLAN tunnels, what it is; `None` of other links.
    pub vxlan: Option<VxlanState>,
}

/// Some attributes of a link, to be set together. What is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    up: Option<bool>,
    mtu: Option<u32>,
    mac: Option<Mac>,
    master: Option<u32>,
    alias: Option<String>,
    group: Option<u32>,
}

impl LinkChange {
    /// No change.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Brings it up.
    #[must_use]
    pub fn up(mut self) -> Self {
        self.up = Some(true);
        self
    }

    /// Takes it down.
    #[must_use]
    pub fn down(mut self) -> Self {
        self.up = Some(false);
        self
    }

    /// Sets the largest packet, in bytes.
    #[must_use]
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// Sets the link-layer address.
    #[must_use]
    pub fn mac(mut self, mac: Mac) -> Self {
        self.mac = Some(mac);
        self
    }

    /// Makes it a port of `master`.
    #[must_use]
    pub fn master(mut self, master: IfIndex) -> Self {
        self.master = Some(master.0);
        self
    }

    /// Takes it out of the bridge of which it is a port.
    #[must_use]
    pub fn no_master(mut self) -> Self {
        self.master = Some(0);
        self
    }

    /// Sets the owner's mark (at most 255 bytes).
    #[must_use]
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.alias = Some(alias.into());
        self
    }

    /// Puts it into a group; all links of one can be removed at once.
    #[must_use]
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    pub(crate) fn attributes(&self) -> impl Iterator<Item = LinkAttribute> {
        let mtu = self.mtu.map(LinkAttribute::Mtu);
        let mac = self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec()));
        let master = self.master.map(LinkAttribute::Controller);
        // The library ends an alias with a zero byte, and the kernel counts that.
        let alias = self.alias.as_ref().map(|alias| alias.as_bytes().to_vec());
        let alias = alias.map(|bytes| DefaultNla::new(libc::IFLA_IFALIAS, bytes));
        let group = self.group.map(LinkAttribute::Group);
        [mtu, mac, master, alias.map(LinkAttribute::Other), group].into_iter().flatten()
    }
}

impl Netlink {
    /// Lists the links of the namespace, in the order of their indices.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the socket broke.
    pub fn observe_links(&mut self) -> Result<Vec<LinkState>, NetlinkError> {
        let mut request = LinkMessage::default();
        request.attributes.push(without_counters());
        let found = self.connection.dump(RouteNetlinkMessage::GetLink(request), read);
        let mut links = found.map_err(|refusal| refusal.to("list", "links"))?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Looks a link up by its name.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the name is impossible or the socket broke.
    pub fn observe_link(&mut self, name: &str) -> Result<Option<LinkState>, NetlinkError> {
        let request = named(name, [without_counters()]);
        match self.connection.get(RouteNetlinkMessage::GetLink(request), read) {
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(None),
            other => other.map_err(|refusal| refusal.to("look up", object(name))),
        }
    }

    /// Sets some attributes of the link `name`. May be repeated.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] with the kernel's answer; [`NetlinkError::is_absent`]
    /// if there is no such link.
    pub fn set_link(&mut self, name: &str, change: &LinkChange) -> Result<(), NetlinkError> {
        let mut request = named(name, change.attributes());
        if let Some(up) = change.up {
            request.header.change_mask = LinkFlags::Up;
            request.header.flags.set(LinkFlags::Up, up);
        }
        let outcome = self.connection.change(RouteNetlinkMessage::SetLink(request), 0);
        outcome.map_err(|refusal| refusal.to("set", object(name)))
    }

    /// Removes a link; with one end of a veth pair goes the other.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the link is there and the kernel will not remove it.
    pub fn remove_link(&mut self, name: &str) -> Result<Removed, NetlinkError> {
        match self.connection.change(RouteNetlinkMessage::DelLink(named(name, [])), 0) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(Removed::Absent),
            Err(refusal) => Err(refusal.to("remove", object(name))),
        }
    }

    /// Removes all links of a group. The kernel waits once for everybody who still looks at
    /// one of them, and not once for each.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if one of them cannot be removed, such as hardware.
    pub fn remove_link_group(&mut self, group: u32) -> Result<Removed, NetlinkError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::Group(group));
        match self.connection.change(RouteNetlinkMessage::DelLink(request), 0) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(Removed::Absent),
            Err(refusal) => Err(refusal.to("remove", format!("links of group {group}"))),
        }
    }

    /// The link that was just made or changed.
    pub(crate) fn expect_link(&mut self, name: &str) -> Result<LinkState, NetlinkError> {
        self.observe_link(name)?.ok_or_else(|| NetlinkError::Vanished { object: object(name) })
    }
}

/// How a link is called in an error.
pub(crate) fn object(name: &str) -> String {
    format!("link `{name}`")
}

/// A message about the link `name`.
pub(crate) fn named(
    name: &str,
    attributes: impl IntoIterator<Item = LinkAttribute>,
) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(attributes);
    message
}

/// Leaves the counters out of an answer.
fn without_counters() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

pub(crate) fn read(payload: &[u8]) -> Result<LinkState, DecodeError> {
    let header = LinkHeader::parse(payload)?;
    let mut link = LinkState {
        index: IfIndex(header.index),
        name: String::new(),
        kind: None,
        mac: None,
        up: header.flags.contains(LinkFlags::Up),
        mtu: 0,
        master: None,
        peer: None,
        alias: None,
        queue: None,
        hairpin: None,
        vxlan: None,
    };
    let attributes = attributes_after(&header, payload, |attribute| {
        let decoded = LinkAttribute::parse_with_param(attribute, header.interface_family);
        decoded.or_else(|error| kind_alone(attribute).ok_or(error))
    });
    for attribute in attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(master) => link.master = Some(IfIndex(master)),
            LinkAttribute::Link(peer) => link.peer = Some(IfIndex(peer)),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Qdisc(kind) => link.queue = Some(kind),
            LinkAttribute::LinkInfo(parts) => read_info(&parts, &mut link),
            _ => {}
        }
    }
    if link.name.is_empty() { Err("a link without a name".into()) } else { Ok(link) }
}

fn read_info(parts: &[LinkInfo], link: &mut LinkState) {
    for part in parts {
        match part {
            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
            LinkInfo::PortData(InfoPortData::BridgePort(options)) => {
                link.hairpin = options.iter().find_map(|option| match option {
                    InfoBridgePort::HairpinMode(on) => Some(*on),
                    _ => None,
                });
            }
            LinkInfo::Data(InfoData::Vxlan(options)) => link.vxlan = Some(vxlan::read(options)),
            _ => {}
        }
    }
}

/// The kind of a link from link information of which some option does not decode.
/// Without it we would not know our own bridge on a kernel that made an option longer.
fn kind_alone(attribute: &NlaBuffer<&[u8]>) -> Option<LinkAttribute> {
    if attribute.kind() != libc::IFLA_LINKINFO {
        return None;
    }
    let mut parts = NlasIterator::new(attribute.value()).map_while(Result::ok);
    let kind = parts.find_map(|part| InfoKind::parse(&part).ok())?;
    Some(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    /// A newer kernel's attributes, and shapes we do not expect, must not hide a link.
    /// The first assertion is the reason for reading attribute by attribute.
    #[test]
    fn unknown_and_odd_attributes_are_skipped() {
        let odd =
            |kind: u16, bytes: &[u8]| LinkAttribute::Other(DefaultNla::new(kind, bytes.into()));
        let state = [9, 0, 1, 0];
        let information = [
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Other(DefaultNla::new(libc::IFLA_INFO_DATA, [&[6, 0][..], &state].concat())),
        ];
        for (information, kind) in [
            (LinkAttribute::LinkInfo(information.to_vec()), Some("bridge")),
            (odd(libc::IFLA_LINKINFO, &[255; 3]), None),
        ] {
            let mut message = named(
                "tun7",
                [
                    odd(999, &[1, 2, 3]),
                    odd(libc::IFLA_TXQLEN, &[1]),
                    LinkAttribute::Address(vec![1, 2, 3, 4]),
                    information,
                    LinkAttribute::Mtu(1420),
                ],
            );
            message.header.index = 7;
            message.header.flags = LinkFlags::Up | LinkFlags::Running;
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);

            assert!(LinkMessage::parse(&bytes[..]).is_err());
            let link = read(&bytes).unwrap();
            assert_eq!((link.index, link.name.as_str()), (IfIndex(7), "tun7"));
            assert_eq!((link.up, link.mtu, link.mac), (true, 1420, None));
            assert_eq!(link.kind.as_deref(), kind);
        }
    }
}
