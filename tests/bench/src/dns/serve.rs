//! Servers that are this executable: the project's resolver with the names of the
//! section, and the null responder, which is the limit of all servers.

use super::datagrams::{Batch, socket};
use super::names::{Data, Names};
use super::question::fixed_reply;
use crate::sandbox;
use anyhow::{Context, Result, bail};
use mizzen_dns_core::{Data as Served, DnsName, Options, OwnerKey, Record, Upstream, Zones};
use mizzen_dns_server::{ForwardSettings, Server, Settings, SharedZones};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

const TTL: u32 = 60;

/// Answers everything with one record and does nothing else.
pub(crate) fn null(listen: SocketAddr, core: usize) -> Result<()> {
    sandbox::hold_on(core)?;
    let socket = socket(&listen.to_string())?;
    let mut batch = Batch::new();
    loop {
        batch.receive::<true>(&socket)?;
        batch.answer(fixed_reply);
        batch.send(&socket);
    }
}

/// Serves the names of `tasks`, and asks `upstream` for all others. A line on stdin
/// `TASK ADDRESS` moves a task; it is answered with the nanoseconds that it took.
pub(crate) fn ours(
    listen: SocketAddr,
    tasks: u32,
    upstream: Option<SocketAddr>,
    core: usize,
) -> Result<()> {
    sandbox::hold_on(core)?;
    let begun = Instant::now();
    let zones = Arc::new(SharedZones::new(Zones::new(&Options::default())));
    for task in 0..tasks {
        set(&zones, task, Names::address(task).into())?;
    }
    let took = begun.elapsed();
    let upstreams = upstream.into_iter().map(Upstream::plain).collect();
    let forward = ForwardSettings { upstreams, ..ForwardSettings::default() };
    let settings = Settings { listen: vec![listen], forward, ..Settings::default() };
    let _server = Server::start(&settings, Arc::clone(&zones)).context("the resolver")?;
    println!("{}", took.as_nanos());
    for line in std::io::stdin().lines() {
        let line = line?;
        let Some((task, address)) = line.split_once(' ') else { bail!("`{line}` is no order") };
        let (task, address) = (task.parse()?, address.parse()?);
        let begun = Instant::now();
        set(&zones, task, address)?;
        println!("{}", begun.elapsed().as_nanos());
    }
    Ok(())
}

fn set(zones: &SharedZones, task: u32, address: IpAddr) -> Result<()> {
    let mut records = Vec::with_capacity(3);
    for record in Names::of_task(task) {
        let data = match record.data {
            Data::Address(_) => Served::address(address),
            Data::Service { port, target } => {
                Served::Srv { priority: 0, weight: 1, port, target: DnsName::parse(&target)? }
            }
        };
        records.push(Record::new(DnsName::parse(&record.name)?, TTL, data));
    }
    zones.update(|zones| zones.set(OwnerKey::Static(format!("app.{task}")), records));
    Ok(())
}
