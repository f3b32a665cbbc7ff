//! Policies that people write.

use mizzen_plan::policy::document::{documents, read, show};
use mizzen_plan::policy::explain::{Question, explain};
use mizzen_plan::policy::{Ground, PolicyPlanner, RuleNumbers};
use mizzen_types::policy::{Policy, PolicyId, PolicyProtocol, Ports};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A file of policies, read, shown, compiled and asked about.
///
/// # Panics
///
/// If a policy does not read as it is shown, or an answer contradicts the judge.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    text.split_whitespace().for_each(ports);
    let Ok(file) = serde_json::from_str::<Value>(text) else { return };
    let policies: BTreeMap<PolicyId, Policy> =
        documents(&file).into_iter().filter_map(|document| read(document).ok()).collect();
    for (id, policy) in &policies {
        let again = read(&json!(show(id, policy)));
        assert_eq!(again.as_ref(), Ok(&(id.clone(), policy.clone())), "it reads as it is shown");
    }
    judge(policies);
}

fn ports(word: &str) {
    let Ok(ports) = word.parse::<Ports>() else { return };
    assert_eq!(ports.to_string().parse::<Ports>().as_ref(), Ok(&ports), "{word}");
}

fn judge(policies: BTreeMap<PolicyId, Policy>) {
    // Without a policy programs know of nobody, and the firewall keeps overlays apart.
    if policies.is_empty() {
        return;
    }
    let mut planner = PolicyPlanner::new("n".into(), RuleNumbers::default());
    planner.set_ground(ground());
    planner.set_policies(policies);
    let wanted = planner.wanted();
    let addresses: [IpAddr; 4] =
        [[9, 0, 0, 2].into(), [10, 1, 0, 2].into(), [192, 0, 2, 1].into(), [198, 18, 0, 1].into()];
    for (from, to) in addresses.iter().flat_map(|from| addresses.map(|to| (*from, to))) {
        let ports = Some((PolicyProtocol::Tcp, 80));
        let answer = json!(explain(&planner, &Question { from, to, ports }));
        let judged = mizzen_plan::policy::explain::word(wanted.judge(from, to, 6, 80).verdict);
        assert_eq!(answer["answers"][0]["verdict"], judged);
        let _ = explain(&planner, &Question { from, to, ports: None });
    }
    planner.set_policies(BTreeMap::new());
    assert!(planner.wanted().is_idle());
}

fn ground() -> Ground {
    let networks = [("dcos", "9.0.0.0/8"), ("web", "10.1.0.0/16")];
    let overlays = networks
        .into_iter()
        .filter_map(|(name, network)| Some((name.to_owned(), vec![network.parse().ok()?])));
    Ground {
        overlays: overlays.collect(),
        host: [[192, 0, 2, 1].into()].into(),
        leases: [[9, 0, 0, 2].into(), [10, 1, 0, 2].into()].into(),
        ..Ground::default()
    }
}
