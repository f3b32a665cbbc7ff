//! What a connection costs when there are many VIPs.

use super::Bench;
use super::desired::Desired;
use super::peers::{self, Kind};
use super::stage::{Port, Route, Service, Stage, clients_of};
use super::table::Table;
use crate::generator::{Seat, Targets, Work};
use crate::network::Namespace;
use crate::paired::{self, Plan, Series, Variant};
use crate::report::{Report, Row};
use crate::statistics::Ratio;
use anyhow::Result;

const VIPS: usize = 10_000;
/// Of each VIP. The backends are the same for all, so that only the VIPs differ.
const BACKENDS: usize = 2;

/// Of the cost with one VIP.
const GOAL: f64 = 1.02;

const METRIC: &str = "connect+close, many VIPs";
const DIRECT: &str = "direct";
const ONE: &str = "mizzen ebpf, 1 VIP";
const ONE_OF_MANY: &str = "mizzen ebpf, one of 10,000";
const MANY: &str = "mizzen ebpf, all of 10,000";
const QUEUES_ONE: &str = "mizzen nfqueue, 1 VIP";
const QUEUES_ONE_OF_MANY: &str = "mizzen nfqueue, one of 10,000";
const QUEUES_MANY: &str = "mizzen nfqueue, all of 10,000";
const RULES_ONE: &str = "iptables, 1";
const RULES_MANY: &str = "iptables, 10,000";

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let sandbox = &bench.sandbox;
    let stage = Stage::set(sandbox)?;
    let service = |index| Service::new(index, Port::Closing, BACKENDS);
    let (one, many) = ([service(0)], (0..VIPS).map(service).collect::<Vec<_>>());

    let mut small = Table::open(sandbox, "clients-1")?;
    small.load(&one)?;
    let mut large = Table::open(sandbox, "clients-10000")?;
    large.load(&many)?;
    let plain = stage.client(Route::None)?;
    let (queued_one, queued_many) = (stage.client(Route::Out)?, stage.client(Route::Out)?);
    let _small_queues = queues(&queued_one, &one)?;
    let _large_queues = queues(&queued_many, &many)?;
    let (rules_one, rules_many) = (stage.client(Route::Out)?, stage.client(Route::Out)?);
    let _small_peer = peers::start(Kind::Iptables, sandbox, &rules_one, &one);
    let large_peer = peers::start(Kind::Iptables, sandbox, &rules_many, &many);
    if let Err(error) = &large_peer {
        report.missing("iptables at scale", error);
    }

    let outside = clients_of(sandbox, "direct")?;
    let seat = |cgroup, network| Seat { cgroup, network: Some(network) };
    let every = || Targets::row(one[0].vip, VIPS);
    let start = || {
        let mut variants = vec![
            Variant::new(DIRECT, seat(&outside, &plain), one[0].direct())?,
            Variant::new("control", seat(&outside, &plain), one[0].direct())?,
            Variant::new(ONE, seat(small.cgroup(), &plain), one[0].vip)?,
            Variant::new(ONE_OF_MANY, seat(large.cgroup(), &plain), many[VIPS / 2].vip)?,
            Variant::new(MANY, seat(large.cgroup(), &plain), every())?,
            Variant::new(QUEUES_ONE, seat(&outside, &queued_one), one[0].vip)?,
            Variant::new(QUEUES_ONE_OF_MANY, seat(&outside, &queued_many), many[VIPS / 2].vip)?,
            Variant::new(QUEUES_MANY, seat(&outside, &queued_many), every())?,
        ];
        if large_peer.is_ok() {
            variants.push(Variant::new(RULES_ONE, seat(&outside, &rules_one), one[0].vip)?);
            variants.push(Variant::new(RULES_MANY, seat(&outside, &rules_many), every())?);
        }
        Ok(variants)
    };
    let (rounds, sets) = (bench.rounds(20, 4), bench.rounds(8, 1));
    let plan = Plan { work: Work::Connect, count: 400, rounds, sets };
    rows(&paired::run(start, plan)?, plan, report);
    Ok(())
}

/// The engine of queued packets in a network, with these services.
fn queues<'a>(network: &'a Namespace, services: &[Service]) -> Result<Desired<'a>> {
    let mut queues = Desired::by_queues(network)?;
    queues.load(services)?;
    network.tune()?;
    Ok(queues)
}

fn rows(all: &[Series], plan: Plan, report: &mut Report) {
    for series in all {
        let base = match series.name {
            ONE_OF_MANY | MANY => ONE,
            QUEUES_ONE_OF_MANY | QUEUES_MANY => QUEUES_ONE,
            RULES_MANY => RULES_ONE,
            _ => DIRECT,
        };
        let row = Row::new(METRIC, series.name, "µs", &series.figures);
        let bases = all.iter().find(|other| other.name == base && series.name != base);
        let row = match bases {
            Some(bases) => row.ratio(Ratio::paired(&series.figures, &bases.figures), base),
            None => row,
        };
        let many = [ONE_OF_MANY, MANY, QUEUES_ONE_OF_MANY, QUEUES_MANY].contains(&series.name);
        report.add(if many { row.ratio_at_most(GOAL) } else { row });
    }
    let failures: u64 = all.iter().map(|series| series.failures).sum();
    report.add(Row::new(METRIC, "failures", "", &[failures as f64]).at_most(0.0));
    report.note(format!(
        "scale: {BACKENDS} backends behind each VIP; all: every connection to another VIP, so that nothing of it is in a cache; {} pairs of blocks of {}, all on one core",
        plan.rounds * plan.sets,
        plan.count
    ));
}
