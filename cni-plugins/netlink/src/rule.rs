//! Rules that send packets of a network to a routing table, marked by their protocol number.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};

use crate::address::family;
use crate::attributes::attributes_after;
use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::{Ensured, Removed};

/// A rule: packets from a network look into a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleSpec {
    /// Whose packets.
    pub source: IpNet,
    /// Which table.
    pub table: u32,
    /// Its place among rules; lower ones are asked first.
    pub priority: u32,
}

impl Netlink {
    /// Lists the rules with a source that `protocol` made.
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
    format!("rule from {} to table {}", rule.source, rule.table)
}

fn message(rule: &RuleSpec, protocol: u8) -> RuleMessage {
    let source = rule.source.trunc();
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family: family(source.addr()),
        src_len: source.prefix_len(),
        table: u8::try_from(rule.table).unwrap_or(0),
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    };
    message.attributes = vec![
        RuleAttribute::Source(source.addr()),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Protocol(protocol.into()),
    ];
    message
}

fn read(payload: &[u8], protocol: u8) -> Result<Option<RuleSpec>, DecodeError> {
    let header = RuleHeader::parse(payload)?;
    let (mut source, mut priority, mut owner) = (None, 0, 0);
    let mut table = u32::from(header.table);
    for attribute in attributes_after(&header, payload, |nla| RuleAttribute::parse(nla)) {
        match attribute {
            RuleAttribute::Source(found) => source = Some(found),
            RuleAttribute::Priority(found) => priority = found,
            RuleAttribute::Table(found) => table = found,
            RuleAttribute::Protocol(found) => owner = u8::from(found),
            _ => {}
        }
    }
    let Some(source) = source.filter(|_| owner == protocol) else { return Ok(None) };
    let source = IpNet::new(source, header.src_len).map_err(|error| error.to_string())?;
    Ok(Some(RuleSpec { source, table, priority }))
}
