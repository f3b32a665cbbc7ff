//! What agents have of the overlays, from their registration until they are gone for good.

use super::agents::reported;
use super::bench::Bench;
use super::drains::{drain, mark_gone};
use super::lives::{ALL, running};
use crate::overlay::Overlays;
use crate::overlay::tests::settings;
use crate::{LinkId, OperatorReply, ReleaseError};
use mizzen_api::link::ToMaster;
use mizzen_api::resources::to_v1;
use mizzen_api::v1::{self, TaskState};
use mizzen_types::overlay::OverlayClaim;
use mizzen_types::resources::Resources;
use serde_json::json;
use std::net::IpAddr;

const DAY: u64 = 86_400;

/// A master that gives blocks of /24 away, as it was saved.
fn giving(mut bench: Bench, network: &str) -> Bench {
    let overlays = Overlays::from_records(settings(network, 24), bench.saved.clone()).unwrap();
    bench.master.adopt_overlays(overlays);
    bench.settle();
    bench.log.clear();
    bench
}

fn address(link: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, link])
}

/// The agent of node `link` registers, each from an address of its own; what it has then.
fn come(bench: &mut Bench, link: u8, id: Option<&str>) -> String {
    let agent = v1::AgentInfo {
        id: id.map(|id| v1::AgentId { value: id.to_owned() }),
        resources: to_v1(&Resources::parse(ALL).unwrap()),
        ..v1::AgentInfo::default()
    };
    let (at, node) = (LinkId(link.into()), format!("n{link}"));
    bench.master.agent_connected(at, node.as_str().into(), address(link), bench.now);
    let overlay = OverlayClaim::default();
    let message = ToMaster::Register { agent, frameworks: vec![], tasks: vec![], overlay };
    bench.master.agent_message(at, message, bench.now).unwrap();
    bench.settle();
    let id = bench.master.agent_on(at).cloned();
    id.map_or_else(|| "shut out".to_owned(), |id| blocks(bench, id.as_str()))
}

fn blocks(bench: &Bench, agent: &str) -> String {
    let grant = bench.master.overlays().and_then(|all| all.grant(&agent.into()));
    let shares = grant.map(|grant| grant.shares).unwrap_or_default();
    let blocks = shares.iter().flat_map(|share| &share.blocks).map(ToString::to_string);
    blocks.collect::<Vec<_>>().join(" ")
}

/// What was saved of the overlays since the last time.
fn saved(bench: &mut Bench) -> Vec<String> {
    let log = std::mem::take(&mut bench.log);
    log.into_iter().filter(|line| line.starts_with("save master/overlay")).collect()
}

#[test]
fn blocks_of_an_agent_that_is_gone_for_good_are_given_last() {
    let network = "9.0.0.0/22";
    let mut bench = giving(Bench::new(), network);
    assert_eq!(come(&mut bench, 1, None), "9.0.0.0/24");
    assert_eq!(come(&mut bench, 2, None), "9.0.1.0/24");
    assert_eq!(saved(&mut bench).len(), 4, "an agent's record and the common one, each");
    assert_eq!(bench.operate(mark_gone("m-S0")), OperatorReply::Done);
    let want = ["save master/overlay-agent/m-S0 gone", "save master/overlay"];
    assert_eq!(saved(&mut bench), want);
    assert_eq!(blocks(&bench, "m-S0"), "");
    assert_eq!(come(&mut bench, 1, Some("m-S0")), "shut out");

    // Also by a master that knows only what was saved.
    let mut bench = giving(bench.restarted("n"), network);
    assert_eq!(come(&mut bench, 2, Some("m-S1")), "9.0.1.0/24");
    assert_eq!(come(&mut bench, 3, None), "9.0.2.0/24");
    assert_eq!(come(&mut bench, 4, None), "9.0.3.0/24");
    assert_eq!(come(&mut bench, 5, None), "9.0.0.0/24", "nobody else is left to give it to");
    assert_eq!(come(&mut bench, 6, None), "", "nothing is left");
    // Who waits gets what becomes free, and is told.
    bench.log.clear();
    assert_eq!(bench.operate(mark_gone("n-S0")), OperatorReply::Done);
    assert_eq!(blocks(&bench, "n-S3"), "9.0.2.0/24");
    assert!(bench.log.contains(&"agent 6 overlay 1 shares".to_owned()), "{:?}", bench.log);
}

#[test]
fn an_agent_that_is_drained_to_be_gone_has_its_blocks_until_its_tasks_have_ended() {
    let mut bench = giving(running(), "9.0.0.0/16");
    let task = reported("t1", "m-0000", "cpus:1;mem:100", TaskState::TaskRunning);
    bench.register(1, Some("m-S0"), ALL, vec![], vec![task]);
    assert_eq!(blocks(&bench, "m-S0"), "9.0.0.0/24");
    assert_eq!(bench.operate(drain("m-S0", &json!({ "mark_gone": true }))), OperatorReply::Done);
    bench.update(1, "m-0000", "t1", TaskState::TaskGoneByOperator, 2);
    assert_eq!(blocks(&bench, "m-S0"), "9.0.0.0/24", "the end is not acknowledged");
    bench.log.clear();
    bench.acknowledge("m-0000", "m-S0", "t1", 2);
    assert_eq!(saved(&mut bench).first().unwrap(), "save master/overlay-agent/m-S0 gone");
    assert_eq!(blocks(&bench, "m-S0"), "");
}

#[test]
fn an_agent_that_nobody_has_seen_for_two_weeks_loses_its_blocks() {
    let mut bench = giving(Bench::new(), "9.0.0.0/16");
    assert_eq!(come(&mut bench, 1, None), "9.0.0.0/24");
    bench.disconnect(1);
    bench.advance(13 * DAY);
    assert_eq!(blocks(&bench, "m-S0"), "9.0.0.0/24");
    bench.log.clear();
    bench.advance(2 * DAY);
    let want = ["save master/overlay-agent/m-S0 gone", "save master/overlay"];
    assert_eq!(saved(&mut bench), want);
    assert_eq!(blocks(&bench, "m-S0"), "");
}

#[test]
fn an_operator_frees_the_blocks_of_agents_that_are_away() {
    let mut bench = Bench::new();
    assert_eq!(bench.master.release_agents(&[address(1)]), Err(ReleaseError::NoOverlays));
    let mut bench = giving(bench, "9.0.0.0/16");
    for link in 1..=3 {
        come(&mut bench, link, None);
    }
    for link in [1, 2] {
        bench.disconnect(link);
    }
    let present = |id: &str, at| Err(ReleaseError::Present { id: id.into(), address: address(at) });
    assert_eq!(bench.master.release_agents(&[address(1)]), present("m-S0", 1), "it may come back");
    bench.advance(600);
    let nobody = Err(ReleaseError::Unknown(address(9)));
    assert_eq!(bench.master.release_agents(&[address(1), address(9)]), nobody);
    assert_eq!(bench.master.release_agents(&[address(1), address(3)]), present("m-S2", 3));
    assert_eq!(blocks(&bench, "m-S0"), "9.0.0.0/24", "all of them or none");
    bench.log.clear();
    assert_eq!(bench.master.release_agents(&[address(1), address(2)]), Ok(()));
    bench.settle();
    let gone: Vec<String> = saved(&mut bench);
    assert_eq!(gone.iter().filter(|line| line.ends_with("gone")).count(), 2, "{gone:?}");
    assert_eq!((blocks(&bench, "m-S0"), blocks(&bench, "m-S1")), (String::new(), String::new()));
    assert_eq!(come(&mut bench, 4, None), "9.0.3.0/24");
}
