//! What it takes a node to reach a thousand others: everything from nothing, one node's
//! change, and a look that finds all well. Beside it the `ip` and `bridge` tools, which read
//! their commands from a file.

use super::Bench;
use crate::network::Namespace;
use crate::report::{Report, Row};
use anyhow::{Result, ensure};
use mizzen_kernel::tunnels::{Removals, TunnelReport, Tunnels};
use mizzen_plan::overlay::{Own, PeerChange, Peers};
use mizzen_types::ids::OwnerId;
use mizzen_types::overlay::{
    Habits, Mac, NodeOverlay, NodeShare, Overlay, OverlayGrant, OverlayShare, Vtep,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::time::Instant;

/// How many other nodes.
const PEERS: u16 = 1000;
const MARK: &str = "mizzen bench";

const OURS: &str = "mizzen";
const TOOLS: &str = "ip -batch, bridge -batch";

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let (rounds, changes) = (bench.options.rounds(15, 2), bench.options.rounds(200, 5));
    let (mut ours, mut tools, mut looks) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        if round % 2 == 0 {
            ours.push(from_nothing(&mut looks)?);
            tools.push(with_tools()?);
        } else {
            tools.push(with_tools()?);
            ours.push(from_nothing(&mut looks)?);
        }
    }
    let (come, go) = one_by_one(changes)?;
    report.add(Row::new("1,000 nodes from nothing", TOOLS, "ms", &tools));
    report.add(Row::new("1,000 nodes from nothing", OURS, "ms", &ours).at_most(300.0));
    report.add(Row::new("one node of 1,000 comes", OURS, "ms", &come).at_most(2.0));
    report.add(Row::new("one node of 1,000 goes", OURS, "ms", &go).at_most(2.0));
    report.add(Row::new("a look at 1,000 nodes", OURS, "ms", &looks));
    report.note("facts of the nodes to routes, neighbours and forwarding entries of both families in the kernel; the tools are given theirs");
    Ok(())
}

/// Plans for all nodes and makes everything, and looks once more.
fn from_nothing(looks: &mut Vec<f64>) -> Result<f64> {
    Namespace::create()?.within(|| {
        let mut tunnels = Tunnels::open(MARK.to_owned())?;
        let mut peers = Peers::new("here".into());
        let begun = Instant::now();
        peers.set_own(Some(own()));
        for number in 0..PEERS {
            peers.apply(&name(number), Some(&fact(number)));
        }
        let desired = peers.desired();
        let made = tunnels.reconcile(&desired, Removals::Now);
        let took = begun.elapsed().as_secs_f64() * 1e3;
        well(&made)?;
        ensure!(made.changed > 5 * usize::from(PEERS), "{} changes", made.changed);
        let begun = Instant::now();
        let looked = tunnels.reconcile(&desired, Removals::Now);
        looks.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(looked.changed == 0, "a second pass changed {}", looked.changed);
        Ok(took)
    })
}

/// One node goes and comes back, among all others.
fn one_by_one(rounds: u32) -> Result<(Vec<f64>, Vec<f64>)> {
    Namespace::create()?.within(|| {
        let mut tunnels = Tunnels::open(MARK.to_owned())?;
        let mut peers = Peers::new("here".into());
        peers.set_own(Some(own()));
        for number in 0..PEERS {
            peers.apply(&name(number), Some(&fact(number)));
        }
        well(&tunnels.reconcile(&peers.desired(), Removals::Now))?;
        let mut step = |peers: &mut Peers, number: u16, there: bool| -> Result<f64> {
            let fact = there.then(|| fact(number));
            let begun = Instant::now();
            let changes: Vec<PeerChange> = peers.apply(&name(number), fact.as_ref());
            let report = tunnels.change(&changes);
            let took = begun.elapsed().as_secs_f64() * 1e3;
            well(&report)?;
            ensure!(report.changed == 5, "{} changes", report.changed);
            Ok(took)
        };
        let (mut come, mut go) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let number = u16::try_from(round * 37 % u32::from(PEERS))?;
            go.push(step(&mut peers, number, false)?);
            come.push(step(&mut peers, number, true)?);
        }
        Ok((come, go))
    })
}

/// The same entries by the tools, from files that are there already.
fn with_tools() -> Result<f64> {
    let namespace = Namespace::create()?;
    let (mut ip, mut bridge) = (String::new(), String::new());
    writeln!(ip, "link add vtep1024 type vxlan id 1024 dstport 64000 nolearning")?;
    writeln!(ip, "address add 44.128.0.1/20 dev vtep1024\nlink set vtep1024 up")?;
    writeln!(ip, "address add fd01:a::1/64 dev vtep1024 nodad")?;
    for number in 0..PEERS {
        let fact = fact(number);
        let (mac, underlay) = (fact.mac, fact.underlay[0]);
        for via in &fact.vtep {
            writeln!(ip, "neighbour replace {via} lladdr {mac} dev vtep1024 nud permanent")?;
        }
        for (block, via) in fact.shares[0].blocks.iter().zip(&fact.vtep) {
            writeln!(ip, "route replace {block} via {via} dev vtep1024 onlink")?;
        }
        writeln!(bridge, "fdb replace {mac} dev vtep1024 dst {underlay} self permanent")?;
    }
    let begun = Instant::now();
    namespace.run(Command::new("ip").args(["-batch", "-"]), &ip)?;
    namespace.run(Command::new("bridge").args(["-batch", "-"]), &bridge)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn well(report: &TunnelReport) -> Result<()> {
    ensure!(report.problems.is_empty(), "{:?}", report.problems);
    Ok(())
}

fn name(number: u16) -> OwnerId {
    format!("{number:08x}-aaaa-bbbb-cccc-000000000000").as_str().into()
}

fn own() -> Own {
    let overlay = Overlay {
        name: "dcos".to_owned(),
        vni: 1024,
        networks: ["9.0.0.0/8", "fd01:b::/64"].iter().filter_map(|net| net.parse().ok()).collect(),
        mtu: 1420,
    };
    let blocks = ["9.0.0.0/24", "fd01:b::/80"].iter().filter_map(|net| net.parse().ok()).collect();
    let addresses = ["44.128.0.1/20", "fd01:a::1/64"];
    let vtep = Vtep {
        addresses: addresses.iter().filter_map(|net| net.parse().ok()).collect(),
        mac: Mac([0x70, 0xb3, 0xd5, 0x80, 0, 1]),
    };
    Own {
        grant: OverlayGrant {
            vtep,
            port: 64_000,
            habits: Habits::Ours,
            shares: vec![OverlayShare { overlay, blocks }],
        },
        underlay: IpAddr::from([10, 0, 0, 1]),
        underlay_mtu: Some(1500),
        links: BTreeMap::from([(1024, "vtep1024".to_owned())]),
        gateways: BTreeMap::new(),
        encryption: None,
    }
}

/// What the node of this number says of itself.
fn fact(number: u16) -> NodeOverlay {
    let [high, low] = (number + 2).to_be_bytes();
    let at = number + 2;
    let blocks = [format!("9.{high}.{low}.0/24"), format!("fd01:b:0:0:{at:x}::/80")];
    NodeOverlay {
        underlay: vec![IpAddr::from([10, 1, high, low])],
        underlay_mtu: Some(1500),
        vtep: vec![
            IpAddr::from([44, 128, high, low]),
            IpAddr::from([0xfd01, 0xa, 0, 0, 0, 0, 0, at]),
        ],
        mac: Mac([0x70, 0xb3, 0xd5, 0x80, high, low]),
        shares: vec![NodeShare {
            name: "dcos".to_owned(),
            vni: 1024,
            blocks: blocks.iter().filter_map(|block| block.parse().ok()).collect(),
        }],
        wireguard: None,
    }
}
