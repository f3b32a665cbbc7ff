//! What a packet pays on its way from container to container, beside the same way made by hand.
//!
//! ```text
//! container ── bridge ── routes ── vtep ══ wire ══ vtep ── routes ── bridge ── container     by hand
//! container ───────────────────────▶ vtep ══ wire ══ vtep ──────────────────────▶ container     ours
//! ```
//!
//! Every contestant has two hosts of its own in the kernel. Client and server share a core, so what
//! is measured is work, and not how fast another core wakes up.

use super::Bench;
use super::host::{Attached, Host, answering, end, serve};
use super::pair::{Guarded, Pair};
use crate::generator::{Generator, Seat, Targets, Work};
use crate::network::{End, Namespace, cable};
use crate::paired::turn;
use crate::report::{Report, Row};
use crate::sandbox::{self, Sandbox};
use crate::statistics::Ratio;
use anyhow::Result;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Child;

const BASE: &str = "kernel VXLAN + bridge";
const OURS: &str = "mizzen";

/// What people have who made all of it by hand: a way out for containers, too.
const MASQUERADED: &str = "kernel VXLAN + bridge, masquerade";
const NODES: &str = "mizzen's nodes";
const POLICIES: &str = "mizzen's nodes with policies";

const BRIDGE: &str = "kernel bridge";

/// Rounds before those that count.
const WARM_UP: u32 = 2;
/// Round trips of a block.
const EXCHANGES: u32 = 2000;
/// Mebibytes of a block.
const MEBIBYTES: u32 = 256;

const ROUND_TRIP: &str = "round trip";
const CPU: &str = "CPU of a round trip";
const STREAM: &str = "one stream, one core";

const METRICS: [(&str, &str); 3] = [(ROUND_TRIP, "µs"), (CPU, "µs"), (STREAM, "MiB/s")];

/// A client and a server, and what is between them; the fields keep it there.
struct Way {
    name: &'static str,
    target: IpAddr,
    hosts: Vec<Host>,
    /// Client and server of the contestants that need no host made by hand.
    ends: Option<(Namespace, Namespace, Child)>,
    /// Of those that are containers of our nodes.
    _pair: Option<Pair>,
}

/// Of a contestant, by metric.
type Figures = BTreeMap<(&'static str, &'static str), Vec<f64>>;

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let sandbox = &bench.sandbox;
    let mut ways = vec![Way::bare(sandbox, "plain veth")?];
    for (name, attached) in [
        (BASE, Attached::Nothing),
        ("control", Attached::Nothing),
        (OURS, Attached::Sockets),
        (MASQUERADED, Attached::Masquerade),
        ("mizzen, VIPs by packets", Attached::Packets),
        ("mizzen, ordinary path", Attached::Ordinary),
    ] {
        if name == BASE || bench.options.has(name) {
            ways.push(Way::over_nodes(sandbox, name, attached)?);
        }
    }
    for (name, guarded) in [(NODES, Guarded::Nobody), (POLICIES, Guarded::Everybody)] {
        if bench.options.has(name) {
            ways.push(Way::of_daemons(sandbox, name, guarded)?);
        }
    }
    let figures = measure(bench, &ways)?;
    let goal = |metric, row: Row| match metric {
        ROUND_TRIP => row.ratio_at_most(0.78),
        CPU => row.ratio_at_most(0.80),
        _ => row.ratio_at_least(1.15),
    };
    rows("two nodes", &ways, BASE, &figures, goal, report);
    // A node lets its containers out, and the kernel's hooks for that cost every packet of the tunnel.
    beside("whole nodes", &figures, NODES, MASQUERADED, goal, report);
    beside("policies", &figures, POLICIES, NODES, |_, row| row, report);
    report.note("mizzen's nodes: two daemons and what they made of it; containers of an app, MTU 1420; with policies both are guarded in both directions, and rules let them pass");
    report.note("client and server on one core; 1,000 other nodes in the fast path's table");
    report.note("mizzen: VIPs are translated at the container's sockets, as they are for mizzen's own containers");
    Ok(())
}

/// The same between containers at one bridge.
pub(super) fn run_beside(bench: &Bench, report: &mut Report) -> Result<()> {
    let sandbox = &bench.sandbox;
    let ways = vec![
        Way::bare(sandbox, "plain veth")?,
        Way::on_one_node(sandbox, BRIDGE, Attached::Nothing)?,
        Way::on_one_node(sandbox, "control", Attached::Nothing)?,
        Way::on_one_node(sandbox, OURS, Attached::Sockets)?,
    ];
    let figures = measure(bench, &ways)?;
    let goal = |metric, row: Row| match metric {
        STREAM => row.ratio_at_least(0.99),
        _ => row.ratio_at_most(1.0 / 0.99),
    };
    rows("one node", &ways, BRIDGE, &figures, goal, report);
    Ok(())
}

impl Way {
    /// Two namespaces and a pair of links.
    fn bare(sandbox: &Sandbox, name: &'static str) -> Result<Self> {
        let (client, server) = (Namespace::create()?, Namespace::create()?);
        cable(
            End { namespace: &client, link: "eth0", address: "10.9.9.1/30" },
            End { namespace: &server, link: "eth0", address: "10.9.9.2/30" },
        )?;
        let child = serve(sandbox, &server)?;
        let target = IpAddr::from([10, 9, 9, 2]);
        let ends = Some((client, server, child));
        Ok(Self { name, target, hosts: Vec::new(), ends, _pair: None })
    }

    /// A container each on two nodes of ours.
    fn of_daemons(sandbox: &Sandbox, name: &'static str, guarded: Guarded) -> Result<Self> {
        let pair = Pair::start(sandbox, guarded)?;
        let [(client, _), (server, target)] = pair.containers()?;
        let child = serve(sandbox, &server)?;
        let ends = Some((client, server, child));
        Ok(Self { name, target, hosts: Vec::new(), ends, _pair: Some(pair) })
    }

    /// A container each on two hosts.
    fn over_nodes(sandbox: &Sandbox, name: &'static str, attached: Attached) -> Result<Self> {
        let mut hosts = vec![Host::create(1)?, Host::create(2)?];
        cable(
            End { namespace: &hosts[0].namespace, link: "eth0", address: "192.0.2.1/24" },
            End { namespace: &hosts[1].namespace, link: "eth0", address: "192.0.2.2/24" },
        )?;
        let mut target = IpAddr::from([0, 0, 0, 0]);
        for host in &mut hosts {
            target = host.add(2)?;
            host.tunnel(3 - host.number)?;
            host.attach(sandbox, &name.replace([' ', ','], ""), attached)?;
        }
        hosts[1].serve(sandbox, 0)?;
        Ok(Self { name, target, hosts, ends: None, _pair: None })
    }

    /// Two containers on one host.
    fn on_one_node(sandbox: &Sandbox, name: &'static str, attached: Attached) -> Result<Self> {
        let mut host = Host::create(1)?;
        host.add(2)?;
        let target = host.add(3)?;
        host.attach(sandbox, &name.replace([' ', ','], ""), attached)?;
        host.serve(sandbox, 1)?;
        Ok(Self { name, target, hosts: vec![host], ends: None, _pair: None })
    }

    fn client(&self) -> Result<&Namespace> {
        match (&self.ends, self.hosts.first()) {
            (Some((client, ..)), _) => Ok(client),
            (None, Some(host)) => host.container(0),
            (None, None) => anyhow::bail!("nobody there"),
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Some((.., server)) = &mut self.ends {
            end(server);
        }
    }
}

/// Lets all ways take turns.
fn measure(bench: &Bench, ways: &[Way]) -> Result<Figures> {
    let mut figures = Figures::new();
    let cgroup = bench.sandbox.cgroup("clients-path")?;
    for _ in 0..bench.options.rounds(4, 1) {
        // Started anew: a process is faster than another by where its memory is.
        let start = |way: &Way| {
            let seat = Seat { cgroup: &cgroup, network: Some(way.client()?) };
            Generator::start(seat, sandbox::core())
        };
        let mut generators = ways.iter().map(start).collect::<Result<Vec<_>>>()?;
        for round in 0..WARM_UP + bench.options.rounds(10, 2) {
            for index in turn(ways.len(), round) {
                let (way, generator) = (&ways[index], &mut generators[index]);
                let target = Targets::from(answering(way.target));
                let before = bench.sandbox.cpu_time()?;
                let exchange = generator.block(Work::Exchange, &target, EXCHANGES)?;
                let computed = bench.sandbox.cpu_time()?.saturating_sub(before);
                let stream = generator.block(Work::Stream, &target, MEBIBYTES)?;
                if round < WARM_UP {
                    continue;
                }
                let each =
                    |time: std::time::Duration| time.as_secs_f64() * 1e6 / f64::from(EXCHANGES);
                let rate = f64::from(MEBIBYTES) / stream.time.as_secs_f64();
                for (metric, figure) in
                    [(ROUND_TRIP, each(exchange.time)), (CPU, each(computed)), (STREAM, rate)]
                {
                    figures.entry((way.name, metric)).or_default().push(figure);
                }
            }
        }
    }
    Ok(figures)
}

/// One contestant beside another than all are held against, if both took part.
fn beside(
    subject: &str,
    figures: &Figures,
    name: &'static str,
    other: &'static str,
    goal: impl Fn(&'static str, Row) -> Row,
    report: &mut Report,
) {
    for (metric, unit) in METRICS {
        let of = |name| figures.get(&(name, metric));
        if let (Some(its), Some(others)) = (of(name), of(other)) {
            let row = Row::new(&format!("{subject}: {metric}"), name, unit, its);
            report.add(goal(metric, row.ratio(Ratio::paired(its, others), other)));
        }
    }
}

fn rows(
    place: &str,
    ways: &[Way],
    base: &'static str,
    figures: &Figures,
    goal: impl Fn(&'static str, Row) -> Row,
    report: &mut Report,
) {
    let empty = Vec::new();
    for (metric, unit) in METRICS {
        let of = |name: &'static str| figures.get(&(name, metric)).unwrap_or(&empty);
        for way in ways {
            let row = Row::new(&format!("{place}: {metric}"), way.name, unit, of(way.name));
            let row = match way.name == base {
                true => row,
                false => row.ratio(Ratio::paired(of(way.name), of(base)), base),
            };
            report.add(if way.name == OURS { goal(metric, row) } else { row });
        }
    }
}
