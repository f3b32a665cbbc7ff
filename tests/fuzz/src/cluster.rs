//! The cluster that questions are asked about.

use mizzen_conformance::cluster::Cluster;
use mizzen_dns_core::{Mode, Zones};
use serde_json::json;

const FACTS: &str = include_str!("../../conformance/names/facts.json");

/// The zones of the recorded answers' cluster.
#[expect(clippy::expect_used, reason = "the file is part of the program")]
pub fn zones(mode: Mode) -> Zones {
    Cluster::read(FACTS).and_then(|cluster| cluster.zones(mode, &json!({}))).expect("facts")
}
