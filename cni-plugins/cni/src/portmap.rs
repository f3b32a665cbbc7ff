//! `mizzen-portmap`: ports of the host that lead to a container.
//!
//! A published port is an element of a map in the kernel, with a mark that says whose it is:
//! DEL and GC read the marks. All entries of a container appear at once or not at all, so an
//! ADD that is killed leaves nothing half done. A record of what was published
//! ([`mod@records`]) is for those who find the entries gone.

mod records;

use std::net::IpAddr;

use mizzen_cni_core::config::valid_attachments;
use mizzen_cni_core::portmap::{
    PortRecord, PortmapConfig, Protocol, loopback_setting, plan_ports, port_mark, read_port_mark,
    table,
};
use mizzen_cni_core::request::{Attachment, Command, Request};
use mizzen_cni_core::result::pass_on;
use mizzen_netlink::{
    Conntrack, FlowFamily, FlowFilter, Nft, PortEntry, PortTableSpec, PublishedPort, ensure_sysctl,
};
use serde_json::Value;

use crate::error::PluginError;
use records::Records;

/// Does what `request` asks of the port plugin.
pub(crate) fn handle(request: &Request) -> Result<Option<Value>, PluginError> {
    match &request.command {
        Command::Add(attachment) => add(request, attachment).map(Some),
        Command::Del(attachment) => {
            let mark = port_mark(&request.network, &attachment.key);
            let records = Records::of(request)?;
            let lock = records.lock()?;
            records.remove(&attachment.key)?;
            let gone = remove(&table(&request.config)?, |found| found == mark)?;
            drop(lock);
            forget_flows(gone).map(|()| None)
        }
        Command::Check(attachment) => check(request, attachment).map(|()| None),
        Command::Status => status().map(|()| None),
        Command::Gc => collect(request).map(|()| None),
        Command::Version => Ok(None),
    }
}

fn add(request: &Request, attachment: &Attachment) -> Result<Value, PluginError> {
    let config = PortmapConfig::read(&request.config)?;
    let entries = plan_ports(&config)?;
    if !entries.is_empty() {
        let records = Records::of(request)?;
        let record = PortRecord::new(&request.network, &attachment.key, &request.config);
        let mark = record.mark();
        let lock = records.make()?;
        publish(&config, &entries, &mark)?;
        // From here on an error takes the entries back: the answer must not lie.
        let settled = open_loopback(&config, &entries)
            .and_then(|()| forget_strays(&entries))
            .and_then(|()| Ok(records.write(&record)?));
        settled.inspect_err(|_| {
            let _ = remove(&config.table, |found| found == mark);
        })?;
        drop(lock);
    }
    let previous = request.config.get("prevResult").unwrap_or(&Value::Null);
    Ok(pass_on(previous, request.version))
}

fn publish(config: &PortmapConfig, entries: &[PortEntry], mark: &str) -> Result<(), PluginError> {
    let mut nft = Nft::open()?;
    match nft.add_ports(&config.table, entries, mark) {
        Err(error) if error.is_absent() => {
            let spec = PortTableSpec { table: config.table.clone(), except: config.except.clone() };
            nft.ensure_port_table(&spec)?;
            Ok(nft.add_ports(&config.table, entries, mark)?)
        }
        other => Ok(other?),
    }
}

/// Lets packets from 127.0.0.1 leave by the links to the container.
fn open_loopback(config: &PortmapConfig, entries: &[PortEntry]) -> Result<(), PluginError> {
    for link in config.loopback_links(entries) {
        match ensure_sysctl(&loopback_setting(&link), "1") {
            // A link of which another plugin only told.
            Err(error) if error.is_absent() => {}
            other => other.map(drop)?,
        }
    }
    Ok(())
}

/// Lets datagrams that went elsewhere until now be looked at again.
fn forget_strays(entries: &[PortEntry]) -> Result<(), PluginError> {
    let udp = Protocol::Udp.number();
    let ports = entries.iter().filter_map(|entry| match entry {
        PortEntry::Publish { protocol, port, to, .. } if *protocol == udp => Some((*port, to.ip())),
        _ => None,
    });
    let ports: Vec<(u16, IpAddr)> = ports.collect();
    if ports.is_empty() {
        return Ok(());
    }
    let mut conntrack = Conntrack::open()?;
    for (port, to) in ports {
        let family = FlowFamily::of(to);
        conntrack.forget(&FlowFilter::SentTo { family, protocol: udp, port })?;
    }
    Ok(())
}

/// Removes the entries with these marks, and returns them.
fn remove(
    table: &str,
    condemned: impl Fn(&str) -> bool,
) -> Result<Vec<PublishedPort>, PluginError> {
    let mut nft = Nft::open()?;
    let found = nft.observe_ports(table)?.into_iter();
    let gone: Vec<PublishedPort> = found.filter(|port| condemned(&port.mark)).collect();
    for port in &gone {
        nft.remove_port(table, &port.entry)?;
    }
    Ok(gone)
}

/// Ends the flows that went by entries that are gone: a client would otherwise be sent to an
/// address that is nobody's, or somebody else's.
fn forget_flows(gone: Vec<PublishedPort>) -> Result<(), PluginError> {
    if gone.is_empty() {
        return Ok(());
    }
    let mut conntrack = Conntrack::open()?;
    for port in gone {
        if let PortEntry::Publish { protocol, to, .. } = port.entry {
            conntrack.forget(&FlowFilter::AnsweredBy { protocol, address: to })?;
        }
    }
    Ok(())
}

fn check(request: &Request, attachment: &Attachment) -> Result<(), PluginError> {
    let config = PortmapConfig::read(&request.config)?;
    let mark = port_mark(&request.network, &attachment.key);
    let present = Nft::open()?.observe_ports(&config.table)?;
    for entry in plan_ports(&config)? {
        let wanted = PublishedPort { entry, mark: mark.clone() };
        if !present.contains(&wanted) {
            return Err(PluginError::NotPublished { entry: wanted.entry });
        }
    }
    Ok(())
}

fn status() -> Result<(), PluginError> {
    let usable = Nft::open().and_then(|mut nft| nft.observe_tables());
    usable.map(drop).map_err(|error| PluginError::NotAvailable(Box::new(error.into())))
}

fn collect(request: &Request) -> Result<(), PluginError> {
    let valid = valid_attachments(&request.config)?;
    let records = Records::of(request)?;
    let lock = records.lock()?;
    records.remove_except(&valid)?;
    let gone = remove(&table(&request.config)?, |mark| {
        let owner = read_port_mark(mark).filter(|(network, _)| *network == request.network);
        owner.is_some_and(|(_, key)| !valid.contains(&key))
    })?;
    drop(lock);
    forget_flows(gone)
}
