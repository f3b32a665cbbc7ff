//! Bridges, their ports, and devices that only hold addresses.

use ipnet::IpNet;
use mizzen_net_words::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};

use crate::Ensured;
use crate::address::DuplicateDetection;
use crate::connection::Netlink;
use crate::error::{NetlinkError, Refusal};
use crate::link::{LinkChange, LinkState, named, object};

/// A bridge that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Interface name, at most 15 bytes.
    pub name: String,
    /// Largest packet in bytes; `None` leaves the kernel's choice.
    pub mtu: Option<u32>,
    /// Link-layer address at creation. Without one the kernel takes the lowest
    /// address of the ports, which changes as containers come and go.
    pub mac: Option<Mac>,
    /// Owner's mark; `None` leaves what is there.
    pub alias: Option<String>,
    /// Addresses it must have; others are left alone.
    pub addresses: Vec<IpNet>,
}

/// A device without a wire, there to hold addresses of the node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressDeviceSpec {
    /// Interface name, at most 15 bytes.
    pub name: String,
    /// Owner's mark; `None` leaves what is there.
    pub alias: Option<String>,
    /// Addresses it must have; others are left alone.
    pub addresses: Vec<IpNet>,
}

/// The kinds that serve as address device, best first. Kernels built without
/// `dummy` exist; a bridge without ports behaves alike for local addresses.
const ADDRESS_DEVICE_KINDS: [&str; 2] = ["dummy", "bridge"];

impl Netlink {
    /// Makes sure that a bridge exists, is up, and has MTU, mark and addresses.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Foreign`] if the name is taken by another kind of link,
    /// otherwise the kernel's refusal.
    pub fn ensure_bridge(&mut self, spec: &BridgeSpec) -> Result<Ensured<LinkState>, NetlinkError> {
        let create = || {
            let mtu = spec.mtu.map(LinkAttribute::Mtu);
            let mac = spec.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec()));
            new_link(&spec.name, InfoKind::Bridge, [mtu, mac].into_iter().flatten())
        };
        let found = self.find_or_create(&spec.name, &["bridge"], create)?;
        let change = difference(found.link(), spec.mtu, spec.alias.as_deref());
        self.settle(found, &change, &spec.addresses)
    }

    /// Makes sure that a device for addresses exists, is up and has them.
    ///
    /// # Errors
    ///
    /// As [`Netlink::ensure_bridge`].
    pub fn ensure_address_device(
        &mut self,
        spec: &AddressDeviceSpec,
    ) -> Result<Ensured<LinkState>, NetlinkError> {
        let mut outcome = None;
        for kind in ADDRESS_DEVICE_KINDS {
            let create = || new_link(&spec.name, kind.into(), []);
            let found = self.find_or_create(&spec.name, &ADDRESS_DEVICE_KINDS, create);
            let missing = found.as_ref().err().is_some_and(NetlinkError::is_unsupported);
            outcome = Some(found);
            if !missing {
                break;
            }
        }
        let vanished = || Err(NetlinkError::Vanished { object: object(&spec.name) });
        let found = outcome.unwrap_or_else(vanished)?;
        let change = difference(found.link(), None, spec.alias.as_deref());
        self.settle(found, &change, &spec.addresses)
    }

    /// Lets the bridge send frames back out of the port by which they came, so that a
    /// container reaches its own published address. The link must be a port of a bridge.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] with the kernel's answer.
    pub fn ensure_port_hairpin(&mut self, name: &str) -> Result<(), NetlinkError> {
        let request = named(name, [hairpin(true)]);
        let refused = |refusal: Refusal| refusal.to("set hairpin on", object(name));
        self.connection.change(RouteNetlinkMessage::NewLink(request), 0).map_err(refused)
    }

    fn find_or_create(
        &mut self,
        name: &str,
        kinds: &[&str],
        create: impl Fn() -> LinkMessage,
    ) -> Result<Found, NetlinkError> {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let existing = match self.observe_link(name)? {
            Some(link) => link,
            None => match self.connection.change(RouteNetlinkMessage::NewLink(create()), flags) {
                Ok(()) => return Ok(Found::Created(self.expect_link(name)?)),
                // Somebody was faster, another plugin process for instance.
                Err(refusal) if refusal.is(libc::EEXIST) => self.expect_link(name)?,
                Err(refusal) => return Err(refusal.to("create", object(name))),
            },
        };
        if !existing.kind.as_deref().is_some_and(|kind| kinds.contains(&kind)) {
            return Err(NetlinkError::Foreign { object: object(name), attribute: "kind" });
        }
        Ok(Found::Existing(existing))
    }

    fn settle(
        &mut self,
        found: Found,
        change: &LinkChange,
        addresses: &[IpNet],
    ) -> Result<Ensured<LinkState>, NetlinkError> {
        let link = found.link();
        let mut repaired = *change != LinkChange::new();
        if repaired {
            self.set_link(&link.name, change)?;
        }
        let present = self.observe_addresses(link.index)?;
        for net in addresses {
            if !present.iter().any(|address| address.net == *net) {
                self.ensure_address(link.index, *net, DuplicateDetection::Off)?;
                repaired = true;
            }
        }
        Ok(match found {
            Found::Created(link) => Ensured::Created(link),
            Found::Existing(link) if repaired => Ensured::Repaired(self.expect_link(&link.name)?),
            Found::Existing(link) => Ensured::Unchanged(link),
        })
    }
}

/// Whether a port of a bridge sends frames back.
pub(crate) fn hairpin(on: bool) -> LinkAttribute {
    let options = vec![InfoBridgePort::HairpinMode(on)];
    LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(options)),
    ])
}

enum Found {
    Created(LinkState),
    Existing(LinkState),
}

impl Found {
    fn link(&self) -> &LinkState {
        let (Self::Created(link) | Self::Existing(link)) = self;
        link
    }
}

/// A link that is wanted, up from the start.
fn new_link(
    name: &str,
    kind: InfoKind,
    attributes: impl IntoIterator<Item = LinkAttribute>,
) -> LinkMessage {
    let mut message = named(name, attributes);
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn difference(link: &LinkState, mtu: Option<u32>, alias: Option<&str>) -> LinkChange {
    let mut change = LinkChange::new();
    if !link.up {
        change = change.up();
    }
    if let Some(mtu) = mtu.filter(|mtu| *mtu != link.mtu) {
        change = change.mtu(mtu);
    }
    if let Some(alias) = alias.filter(|alias| link.alias.as_deref() != Some(alias)) {
        change = change.alias(alias);
    }
    change
}
