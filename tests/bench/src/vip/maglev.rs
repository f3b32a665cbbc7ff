//! How many connections a consistent hash moves when a backend goes.

use super::Bench;
use super::stage::{Port, Service};
use crate::report::{Report, Row};
use anyhow::{Context, Result};
use mizzen_ebpf_core::ring::{self, Seat};
use mizzen_ebpf_core::select::mix;
use std::net::{IpAddr, SocketAddr};

const BACKENDS: usize = 100;

/// Percent of the places of the others.
const GOAL: f64 = 1.0;

pub(super) fn run(_: &Bench, report: &mut Report) -> Result<()> {
    let backends = Service::new(0, Port::OneCore, BACKENDS).backends;
    let seats: Vec<Seat> =
        backends.iter().map(|backend| Seat { hash: hash(*backend), weight: 1 }).collect();
    let before = ring(&seats)?;
    let mut figures = Vec::new();
    for gone in 0..BACKENDS {
        let mut left = seats.clone();
        left[gone].weight = 0;
        let after = ring(&left)?;
        let others = || before.iter().zip(&after).filter(|(seat, _)| **seat as usize != gone);
        let moved = others().filter(|(before, after)| before != after).count();
        figures.push(100.0 * moved as f64 / others().count() as f64);
    }
    let row = Row::new("Maglev: others moved", "1 of 100 gone", "%", &figures);
    report.add(row.at_most(GOAL));
    let worst = figures.iter().copied().fold(0.0, f64::max);
    report.add(Row::new("Maglev: others moved", "the worst one", "%", &[worst]).at_most(GOAL));
    Ok(())
}

fn ring(seats: &[Seat]) -> Result<Vec<u32>> {
    let size = usize::try_from(ring::size(seats.len())).context("the size of a ring")?;
    let (mut next, mut table) = (vec![0; seats.len()], vec![0; size]);
    ring::fill(seats, &mut next, &mut table);
    Ok(table)
}

fn hash(backend: SocketAddr) -> u64 {
    let ip = match backend.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() ^ (ip.to_bits() >> 64)) as u64,
    };
    mix(ip << 16 | u64::from(backend.port()))
}
