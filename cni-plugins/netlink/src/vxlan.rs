//! Ends of VXLAN tunnels. Who is where is not learned but written: see [`crate::tunnel`].

use std::net::Ipv6Addr;

use ipnet::IpNet;
use mizzen_net_words::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::Ensured;
use crate::address::DuplicateDetection;
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::{LinkChange, LinkState, named, object};

/// An end of tunnels that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanSpec {
    /// Interface name, at most 15 bytes.
    pub name: String,
    /// Number of the tunnels, 24 bits.
    pub vni: u32,
    /// UDP port, here and there.
    pub port: u16,
    /// Its link-layer address.
    pub mac: Mac,
    /// Largest packet inside, in bytes.
    pub mtu: u32,
    /// This machine's address under the tunnels, where they run over IPv6; over IPv4 the
    /// routes decide.
    pub local6: Option<Ipv6Addr>,
    /// Owner's mark. A link without it is not ours.
    pub alias: String,
    /// Addresses it must have; others are left alone.
    pub addresses: Vec<IpNet>,
}

/// What cannot be changed of an end of tunnels once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VxlanState {
    /// Number of the tunnels.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Whether it learns who is where from what arrives.
    pub learning: bool,
    /// The address that it sends from, over IPv6.
    pub local6: Option<Ipv6Addr>,
}

impl Netlink {
    /// Makes sure that an end of tunnels exists, is up, and is as wanted. One of ours that
    /// differs in what cannot be changed is made anew.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Foreign`] if the name is taken by a link without our mark; otherwise
    /// the kernel's refusal: [`NetlinkError::is_taken`] if another link has this number and
    /// port.
    pub fn ensure_vxlan(&mut self, spec: &VxlanSpec) -> Result<Ensured<LinkState>, NetlinkError> {
        let Some(mut link) = self.observe_link(&spec.name)? else {
            return self.create_vxlan(spec).map(Ensured::Created);
        };
        if link.alias.as_deref() != Some(&spec.alias) {
            return Err(NetlinkError::Foreign { object: object(&spec.name), attribute: "mark" });
        }
        if link.vxlan.is_some_and(|found| found != state(spec)) {
            self.remove_link(&spec.name)?;
            return self.create_vxlan(spec).map(Ensured::Repaired);
        }
        let change = difference(&link, spec);
        let mut repaired = change != LinkChange::new();
        if repaired {
            self.set_link(&spec.name, &change)?;
            link = self.expect_link(&spec.name)?;
        }
        repaired |= self.ensure_vxlan_addresses(&link, spec)?;
        Ok(if repaired { Ensured::Repaired(link) } else { Ensured::Unchanged(link) })
    }

    fn create_vxlan(&mut self, spec: &VxlanSpec) -> Result<LinkState, NetlinkError> {
        let request = RouteNetlinkMessage::NewLink(new_vxlan(spec));
        let created = self.connection.change(request, NLM_F_CREATE | NLM_F_EXCL);
        created.map_err(|refusal| refusal.to("create", object(&spec.name)))?;
        // The kernel ignores a mark in the request that creates a link; without one it would
        // be nobody's.
        let marked = LinkChange::new().alias(&spec.alias);
        self.set_link(&spec.name, &marked).inspect_err(|_| {
            let _ = self.remove_link(&spec.name);
        })?;
        let link = self.expect_link(&spec.name)?;
        self.ensure_vxlan_addresses(&link, spec)?;
        Ok(link)
    }

    fn ensure_vxlan_addresses(
        &mut self,
        link: &LinkState,
        spec: &VxlanSpec,
    ) -> Result<bool, NetlinkError> {
        let present = self.observe_addresses(link.index)?;
        let mut changed = false;
        for net in &spec.addresses {
            if !present.iter().any(|address| address.net == *net) {
                self.ensure_address(link.index, *net, DuplicateDetection::Off)?;
                changed = true;
            }
        }
        Ok(changed)
    }
}

/// What an answer says about an end of tunnels.
pub(crate) fn read(options: &[InfoVxlan]) -> VxlanState {
    let mut found = VxlanState::default();
    for option in options {
        match option {
            InfoVxlan::Id(vni) => found.vni = *vni,
            InfoVxlan::Port(port) => found.port = *port,
            InfoVxlan::Learning(learning) => found.learning = *learning,
            InfoVxlan::Local6(address) => found.local6 = Some(*address),
            _ => {}
        }
    }
    found
}

fn state(spec: &VxlanSpec) -> VxlanState {
    VxlanState { vni: spec.vni, port: spec.port, learning: false, local6: spec.local6 }
}

fn new_vxlan(spec: &VxlanSpec) -> LinkMessage {
    let mut options = vec![
        InfoVxlan::Id(spec.vni),
        InfoVxlan::Port(spec.port),
        InfoVxlan::Learning(false),
        // As DC/OS has it: inner packets have checksums of their own.
        InfoVxlan::UDPCsum(false),
    ];
    if let Some(local6) = spec.local6 {
        options.push(InfoVxlan::Local6(local6));
        // The other side may be one that sends none.
        options.push(InfoVxlan::UDPZeroCsumTX(true));
        options.push(InfoVxlan::UDPZeroCsumRX(true));
    }
    let information =
        vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(options))];
    let mac = LinkAttribute::Address(spec.mac.0.to_vec());
    let mut message = named(&spec.name, [LinkAttribute::Mtu(spec.mtu), mac]);
    message.attributes.push(LinkAttribute::LinkInfo(information));
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn difference(link: &LinkState, spec: &VxlanSpec) -> LinkChange {
    let mut change = LinkChange::new();
    if !link.up {
        change = change.up();
    }
    if link.mtu != spec.mtu {
        change = change.mtu(spec.mtu);
    }
    if link.mac != Some(spec.mac) {
        change = change.mac(spec.mac);
    }
    change
}
