//! The networks that rows play in, and the servers behind every balancer.

use crate::generator::Targets;
use crate::network::{End, Namespace, cable};
use crate::process::first_line;
use crate::sandbox::{self, Sandbox};
use anyhow::Result;
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The first backend; all of 10.20.0.0/15 answers.
const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);

/// The first virtual address.
const VIP: Ipv4Addr = Ipv4Addr::new(10, 100, 0, 1);

/// Where virtual addresses are.
const VIPS: &str = "10.100.0.0/15";

/// What answers behind a port of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// A thread on each core.
    EveryCore = 8080,
    /// One thread on the generators' core.
    OneCore = 8081,
    /// The same thread; it closes what it takes.
    Closing = 8082,
    /// One that can be slow.
    Slow = 8083,
}

/// A VIP and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub vip: SocketAddr,
    pub backends: Vec<SocketAddr>,
}

impl Service {
    /// `backends` backends behind the VIP number `index` (from 0), whose port is the
    /// one that they have.
    pub(super) fn new(index: usize, port: Port, backends: usize) -> Self {
        let all = (0..backends).map(|index| nth(BACKEND, index, port)).collect();
        Self { vip: nth(VIP, index, port), backends: all }
    }

    /// The same, no two VIPs of it with a backend in common.
    pub(super) fn apart(index: usize, port: Port, backends: usize) -> Self {
        let first = index * backends;
        let all = (first..first + backends).map(|index| nth(BACKEND, index, port)).collect();
        Self { vip: nth(VIP, index, port), backends: all }
    }

    /// Its backends, for somebody who does without the VIP.
    pub(super) fn direct(&self) -> Targets {
        Targets::row(self.backends[0], self.backends.len())
    }
}

/// How virtual addresses leave a client's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// There is none: they must be translated before.
    None,
    /// Towards the backends, where they would be lost.
    Out,
    /// They are the network's own; a proxy listens there.
    Local,
}

/// The backends' network with its servers, and cables to it.
#[derive(Debug)]
pub(super) struct Stage {
    /// Where the backends are.
    pub backends: Namespace,
    cables: Cell<u8>,
    servers: Vec<Child>,
}

impl Stage {
    /// Makes the backends' network and lets them serve.
    pub(super) fn set(sandbox: &Sandbox) -> Result<Self> {
        let backends = Namespace::create()?;
        backends.ip("route add local 10.20.0.0/15 dev lo")?;
        let mut stage = Self { backends, cables: Cell::new(0), servers: Vec::new() };
        let core = sandbox::core().to_string();
        // The first one has no use for its second port.
        for (port, closing, cpu) in
            [(Port::EveryCore, 0, "all"), (Port::OneCore, Port::Closing as u16, &core)]
        {
            stage.serve(sandbox, port, closing, cpu)?;
        }
        Ok(stage)
    }

    fn serve(&mut self, sandbox: &Sandbox, port: Port, closing: u16, cpu: &str) -> Result<()> {
        let cgroup = sandbox.cgroup("servers")?;
        let mut command = Command::new(sandbox::ourselves()?);
        command.arg("join").arg(cgroup).arg("--").arg(sandbox::ourselves()?).arg("serve");
        command.args(["--port", &(port as u16).to_string()]);
        command.args(["--closing", &closing.to_string(), "--cpu", cpu]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let (child, _) = first_line(self.backends.spawn(&mut command)?)?;
        self.servers.push(child);
        Ok(())
    }

    /// A client's network, with a cable to the backends.
    pub(super) fn client(&self, route: Route) -> Result<Namespace> {
        let client = Namespace::create()?;
        let number = self.cables.get() + 1;
        self.cables.set(number);
        let name = format!("to{number}");
        let address = |end: u8| format!("10.10.{number}.{end}/30");
        cable(
            End { namespace: &client, link: "out", address: &address(1) },
            End { namespace: &self.backends, link: &name, address: &address(2) },
        )?;
        client.ip(&format!("route add 10.20.0.0/15 via 10.10.{number}.2"))?;
        match route {
            Route::None => {}
            Route::Out => client.ip(&format!("route add {VIPS} via 10.10.{number}.2"))?,
            Route::Local => client.ip(&format!("route add local {VIPS} dev lo"))?,
        }
        Ok(client)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// A cgroup for the clients of a balancer, apart from those of any other.
pub(super) fn clients_of(sandbox: &Sandbox, name: &str) -> Result<PathBuf> {
    sandbox.cgroup(&format!("clients-{name}"))
}

fn nth(first: Ipv4Addr, index: usize, port: Port) -> SocketAddr {
    let index = u32::try_from(index).unwrap_or_default();
    SocketAddr::from((Ipv4Addr::from_bits(first.to_bits() + index), port as u16))
}
