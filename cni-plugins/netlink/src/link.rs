//! Links: what they are, and changes that every kind of link takes.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::Removed;
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::wire::{Attributes, Message, text, u32_at};

/// The index of a link within its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

/// A link-layer address of 6 bytes, written `02:6d:09:00:00:05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let octets = text.split(':').map(|part| u8::from_str_radix(part, 16));
        let octets = octets.collect::<Result<Vec<u8>, ParseIntError>>().map_err(|_| MacError)?;
        octets.try_into().map(Mac).map_err(|_| MacError)
    }
}

/// A text that is no link-layer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a link-layer address is six hexadecimal bytes with colons between them")]
pub struct MacError;

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
    /// The free text with which an owner marks a link.
    pub alias: Option<String>,
    /// Whether a bridge may send a frame back out of this port; `None` if it is no port.
    pub hairpin: Option<bool>,
}

/// Some attributes of a link, to be set together. What is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    up: Option<bool>,
    mtu: Option<u32>,
    mac: Option<Mac>,
    master: Option<u32>,
    alias: Option<String>,
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
}

impl Netlink {
    /// Lists the links of the namespace, in the order of their indices.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the socket broke.
    pub fn observe_links(&mut self) -> Result<Vec<LinkState>, NetlinkError> {
        let request = Message::new(libc::RTM_GETLINK, 0, &header(0, 0, 0));
        let found = self.connection.dump(&request, parse);
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
        let request = Message::new(libc::RTM_GETLINK, 0, &header(0, 0, 0))
            .attr_str(libc::IFLA_IFNAME, name)
            .attr_u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        match self.connection.get(&request, parse) {
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
        let (flags, mask) = match change.up {
            Some(true) => (libc::IFF_UP as u32, libc::IFF_UP as u32),
            Some(false) => (0, libc::IFF_UP as u32),
            None => (0, 0),
        };
        let request = Message::new(libc::RTM_SETLINK, 0, &header(0, flags, mask))
            .attr_str(libc::IFLA_IFNAME, name)
            .maybe(change.mtu, |message, mtu| message.attr_u32(libc::IFLA_MTU, mtu))
            .maybe(change.mac, |message, mac| message.attr(libc::IFLA_ADDRESS, &mac.0))
            .maybe(change.master, |message, index| message.attr_u32(libc::IFLA_MASTER, index))
            .maybe(change.alias.as_deref(), |message, alias| {
                message.attr(libc::IFLA_IFALIAS, alias.as_bytes())
            });
        self.connection.change(&request).map_err(|refusal| refusal.to("set", object(name)))
    }

    /// Removes a link; with one end of a veth pair goes the other.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the link is there and the kernel will not remove it.
    pub fn remove_link(&mut self, name: &str) -> Result<Removed, NetlinkError> {
        let request =
            Message::new(libc::RTM_DELLINK, 0, &header(0, 0, 0)).attr_str(libc::IFLA_IFNAME, name);
        match self.connection.change(&request) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(Removed::Absent),
            Err(refusal) => Err(refusal.to("remove", object(name))),
        }
    }

    /// The link that was just made or changed.
    pub(crate) fn expect_link(&mut self, name: &str) -> Result<LinkState, NetlinkError> {
        self.observe_link(name)?.ok_or_else(|| NetlinkError::Vanished { object: object(name) })
    }
}

/// Leaves the counters out of an answer.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// How a link is called in an error.
pub(crate) fn object(name: &str) -> String {
    format!("link `{name}`")
}

/// `struct ifinfomsg`.
pub(crate) fn header(index: u32, flags: u32, mask: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

const IFLA_BRPORT_MODE: u16 = 4;

fn parse(payload: &[u8]) -> Option<LinkState> {
    let attributes = Attributes::after(payload, 16);
    let info = Attributes(attributes.find(libc::IFLA_LINKINFO).unwrap_or_default());
    let slave_kind = info.find(libc::IFLA_INFO_SLAVE_KIND).map(text);
    let slave_data = Attributes(info.find(libc::IFLA_INFO_SLAVE_DATA).unwrap_or_default());
    let hairpin = slave_data.find(IFLA_BRPORT_MODE).and_then(|value| value.first());
    Some(LinkState {
        index: IfIndex(u32_at(payload, 4)?),
        name: text(attributes.find(libc::IFLA_IFNAME)?),
        kind: info.find(libc::IFLA_INFO_KIND).map(text),
        mac: attributes.find(libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).map(Mac),
        up: u32_at(payload, 8)? & libc::IFF_UP as u32 != 0,
        mtu: u32_at(attributes.find(libc::IFLA_MTU)?, 0)?,
        master: attributes.find(libc::IFLA_MASTER).and_then(|at| u32_at(at, 0)).map(IfIndex),
        alias: attributes.find(libc::IFLA_IFALIAS).map(text),
        hairpin: hairpin.filter(|_| slave_kind.as_deref() == Some("bridge")).map(|on| *on != 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_as_text() {
        let mac = Mac([2, 0x6d, 9, 0, 0, 5]);
        assert_eq!(mac.to_string(), "02:6d:09:00:00:05");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for wrong in ["", "02", "02:6d:09:00:00", "02:6d:09:00:00:05:06", "zz:6d:09:00:00:05"] {
            assert_eq!(wrong.parse::<Mac>(), Err(MacError), "{wrong}");
        }
    }

    /// A newer kernel's attributes, and shapes we do not expect, must not hide a link.
    #[test]
    fn unknown_and_odd_attributes_are_skipped() {
        let message = Message::new(libc::RTM_NEWLINK, 0, &header(7, libc::IFF_UP as u32, 0))
            .attr(999, &[1, 2, 3])
            .attr_str(libc::IFLA_IFNAME, "tun7")
            .attr(libc::IFLA_ADDRESS, &[1, 2, 3, 4])
            .attr_u32(libc::IFLA_MTU, 1420)
            .attr(libc::IFLA_LINKINFO, &[255, 255, 255])
            .finish(1);
        let link = parse(&message[16..]).unwrap();
        assert_eq!((link.index, link.name.as_str()), (IfIndex(7), "tun7"));
        assert_eq!((link.up, link.mtu, link.mac, link.kind), (true, 1420, None, None));
    }
}
