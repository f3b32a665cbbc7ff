//! Prints how a simulated cluster behaves.

use clap::Parser;
use mizzen_tests_gossip_sim::cluster::Cluster;
use mizzen_tests_gossip_sim::joining::{self, Signatures};
use mizzen_tests_gossip_sim::measure::{self, Spread, Spreads};
use mizzen_tests_gossip_sim::network::{Nanos, SECOND};
use std::time::Instant;

/// A cluster's membership in virtual time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// Part of datagrams that are lost
    #[arg(long, default_value_t = 0.01)]
    loss: f64,
    /// Nodes that die, one after another
    #[arg(long, default_value_t = 30)]
    deaths: usize,
    /// Seconds in which nothing happens
    #[arg(long, default_value_t = 60)]
    quiet: u64,
    /// Changes of backends
    #[arg(long, default_value_t = 30)]
    changes: usize,
    /// Nodes that say something
    #[arg(long, default_value_t = 50)]
    owners: usize,
    /// Backends that a new node learns of (0: no new node)
    #[arg(long, default_value_t = 50_000)]
    backends: u64,
    /// Nodes that these backends are on
    #[arg(long, default_value_t = 1000)]
    hosts: u64,
    /// Decides all chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() {
    let arguments = Arguments::parse();
    if arguments.nodes > 0 {
        cluster(&arguments);
    }
    if arguments.backends > 0 {
        join(&arguments);
    }
}

fn cluster(arguments: &Arguments) {
    let start = Instant::now();
    let mut cluster = Cluster::new(arguments.nodes, arguments.loss, arguments.seed);
    println!(
        "{} nodes, loss {} ({:.0?} to make)",
        arguments.nodes,
        arguments.loss,
        start.elapsed()
    );
    cluster.run(5 * SECOND);
    if arguments.changes > 0 {
        let start = Instant::now();
        measure::speak(&mut cluster, arguments.owners);
        let changes = measure::changes(&mut cluster, arguments.owners, arguments.changes);
        print("a backend's change is known", &changes);
        println!("  ({:.0?})", start.elapsed());
    }
    if arguments.quiet > 0 {
        let start = Instant::now();
        let quiet = measure::quiet(&mut cluster, arguments.quiet * SECOND);
        println!(
            "{} s of quiet: {} wrong deaths, {} wrong suspicions, {:.0} B/s sent a node, {:.0} of them in streams",
            arguments.quiet, quiet.deaths, quiet.suspicions, quiet.bytes, quiet.stream_bytes
        );
        println!("  ({:.0?})", start.elapsed());
    }
    if arguments.deaths > 0 {
        let start = Instant::now();
        let deaths = measure::deaths(&mut cluster, arguments.deaths);
        print("a dead node is suspect", &deaths.suspect);
        print("a dead node is dead", &deaths.dead);
        println!("  wrong deaths meanwhile: {} ({:.0?})", deaths.wrong, start.elapsed());
    }
}

fn join(arguments: &Arguments) {
    let each = arguments.backends / arguments.hosts.max(1);
    let join = joining::join(arguments.hosts, each, Signatures::Real);
    println!(
        "{} backends of {} nodes joined: {} ms on the wire for {} kB ({} B a backend), {:.0?} of the joiner's processor, {:.0?} of the other's",
        join.backends,
        arguments.hosts,
        millis(join.network),
        join.bytes / 1000,
        join.bytes / join.backends.max(1) as u64,
        join.joiner,
        join.server
    );
}

fn print(what: &str, spreads: &Spreads) {
    let line = |spread: Spread| {
        format!("{} / {} / {} ms", millis(spread.half), millis(spread.most), millis(spread.all))
    };
    println!(
        "{what} to half / nine tenths / all: median {}, worst {}, incomplete {}",
        line(spreads.median()),
        line(spreads.worst()),
        spreads.incomplete
    );
}

fn millis(time: Nanos) -> String {
    match time {
        Nanos::MAX => "never".to_owned(),
        time => (time / 1_000_000).to_string(),
    }
}
