//! The dataplane in a real kernel, seen the way programs and the daemon see it.

#![allow(clippy::expect_used, reason = "a test ends where its helpers cannot go on")]

mod choice;
mod datagrams;
mod ejection;
mod in_place;
mod lifecycle;
mod routes;
mod survival;
mod traffic;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mizzen_ebpf_loader::{Counts, Dataplane, VipAddress};
use mizzen_tests_support::room::{connect, reset};

/// The VIP of tests that need one.
const VIP: &str = "11.0.0.1:80";

/// Connects `times` and returns how often each backend answered.
fn spread(vip: SocketAddr, times: u32) -> BTreeMap<u16, u32> {
    let mut hits = BTreeMap::new();
    for _ in 0..times {
        let (stream, port) = connect(vip).expect("the VIP answers");
        *hits.entry(port).or_default() += 1;
        reset(stream);
    }
    hits
}

fn counts(dataplane: &Dataplane, vip: VipAddress, backend: SocketAddr) -> Counts {
    dataplane.counters().expect("readable maps")[&(vip, backend)]
}
