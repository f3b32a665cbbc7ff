//! Rules that send some packets to a routing table, marked by their protocol number.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleHeader, RuleMessage, RulePortRange,
};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};

use crate::address::family;
use crate::attributes::attributes_after;
use crate::connection::Netlink;
use crate::conntrack::FlowFamily;
use crate::error::NetlinkError;
use crate::{Ensured, Removed};

/// A rule: some packets look into a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleSpec {
    /// Which packets.
    pub selector: Selector,
    /// Which table.
    pub table: u32,
    /// Its place among rules; lower ones are asked first.
    pub priority: u32,
}

/// Which packets a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// Those from a network.
    Source(IpNet),
    /// Those to a UDP port.
    UdpPort {
        /// The family of their addresses.
        family: FlowFamily,
        /// The port.
        port: u16,
    },
}

impl Netlink {
    /// Lists the rules of these forms that `protocol` made.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the socket broke.
    pub fn observe_rules(&mut self, protocol: u8) -> Result<Vec<RuleSpec>, NetlinkError> {
        let mut found = Vec::new();
        for example in [IpAddr::from([0; 4]), IpAddr::from([0; 16])] {
            let mut request = RuleMessage::default();
            request.header.family = family(example);
            let read = |payload: &[u8]| read(payload, protocol);
            match self.connection.dump(RouteNetlinkMessage::GetRule(request), read) {
                // The machine has no such address family, or no rules for it.
                Err(refusal) if refusal.is(libc::EOPNOTSUPP) || refusal.is(libc::EAFNOSUPPORT) => {}
                other => {
                    let rules = other.map_err(|refusal| refusal.to("list", "rules"))?;
                    found.extend(rules.into_iter().flatten());
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Makes sure that a rule exists.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] with the kernel's answer.
    pub fn ensure_rule(
        &mut self,
        rule: &RuleSpec,
        protocol: u8,
    ) -> Result<Ensured<()>, NetlinkError> {
        let request = RouteNetlinkMessage::NewRule(message(rule, protocol));
        match self.connection.change(request, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(Ensured::Created(())),
            Err(refusal) if refusal.is(libc::EEXIST) => Ok(Ensured::Unchanged(())),
            Err(refusal) => Err(refusal.to("add", object(rule))),
        }
    }

    /// Removes a rule.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if it is there and the kernel will not remove it.
    pub fn remove_rule(&mut self, rule: &RuleSpec, protocol: u8) -> Result<Removed, NetlinkError> {
        let request = RouteNetlinkMessage::DelRule(message(rule, protocol));
        match self.connection.change(request, 0) {
            Ok(()) => Ok(Removed::Removed),
            Err(refusal) if refusal.is(libc::ENOENT) => Ok(Removed::Absent),
            Err(refusal) => Err(refusal.to("remove", object(rule))),
        }
    }
}

fn object(rule: &RuleSpec) -> String {
    match rule.selector {
        Selector::Source(source) => format!("rule from {source} to table {}", rule.table),
        Selector::UdpPort { port, .. } => {
            format!("rule for UDP port {port} to table {}", rule.table)
        }
    }
}

fn message(rule: &RuleSpec, protocol: u8) -> RuleMessage {
    let mut message = RuleMessage::default();
    let (family, length) = match rule.selector {
        Selector::Source(source) => (family(source.addr()), source.prefix_len()),
        Selector::UdpPort { family: FlowFamily::V4, .. } => (AddressFamily::Inet, 0),
        Selector::UdpPort { family: FlowFamily::V6, .. } => (AddressFamily::Inet6, 0),
    };
    message.header = RuleHeader {
        family,
        src_len: length,
        table: u8::try_from(rule.table).unwrap_or(0),
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    };
    message.attributes = match rule.selector {
        Selector::Source(source) => vec![RuleAttribute::Source(source.network())],
        Selector::UdpPort { port, .. } => vec![
            RuleAttribute::IpProtocol(IpProtocol::Udp),
            RuleAttribute::DestinationPortRange(RulePortRange { start: port, end: port }),
        ],
    };
    message.attributes.extend([
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Protocol(protocol.into()),
    ]);
    message
}

fn read(payload: &[u8], protocol: u8) -> Result<Option<RuleSpec>, DecodeError> {
    let header = RuleHeader::parse(payload)?;
    let (mut source, mut port, mut priority, mut owner) = (None, None, 0, 0);
    let mut table = u32::from(header.table);
    for attribute in attributes_after(&header, payload, |nla| RuleAttribute::parse(nla)) {
        match attribute {
            RuleAttribute::Source(found) => source = Some(found),
            RuleAttribute::DestinationPortRange(found) => port = Some(found.start),
            RuleAttribute::Priority(found) => priority = found,
            RuleAttribute::Table(found) => table = found,
            RuleAttribute::Protocol(found) => owner = u8::from(found),
            _ => {}
        }
    }
    let family = match header.family {
        AddressFamily::Inet6 => FlowFamily::V6,
        _ => FlowFamily::V4,
    };
    let selector = match (source, port) {
        _ if owner != protocol => return Ok(None),
        (Some(source), _) => {
            let source = IpNet::new(source, header.src_len).map_err(|error| error.to_string())?;
            Selector::Source(source)
        }
        (None, Some(port)) => Selector::UdpPort { family, port },
        (None, None) => return Ok(None),
    };
    Ok(Some(RuleSpec { selector, table, priority }))
}
