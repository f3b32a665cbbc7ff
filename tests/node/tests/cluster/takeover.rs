//! A DC/OS cluster is taken over node by node: what its agents have stays theirs.

use super::first;
use super::overlay::{await_agents, joining};
use mizzen_tests_node::apps::{self, PORT};
use mizzen_tests_node::node::Place;
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, lab};
use serde_json::{Value, json};

/// What a DC/OS agent has in its kernel that was told of the first node here and hears
/// nothing any more.
const OLD_AGENT: &str = "
    ip link add vtep1024 address 70:b3:d5:80:00:07 type vxlan id 1024 dstport 64000 local $MIZZEN_ADDRESS nolearning
    ip address add 44.128.0.7/20 dev vtep1024
    ip link add m-dcos type bridge
    ip address add 9.0.9.1/25 dev m-dcos
    ip link set vtep1024 up
    ip link set m-dcos up
    bridge fdb append 70:b3:d5:80:00:01 dev vtep1024 dst FIRST
    ip neighbour replace 44.128.0.1 lladdr 70:b3:d5:80:00:01 dev vtep1024 nud permanent
    ip route replace 9.0.0.0/24 via 44.128.0.1 dev vtep1024 onlink";

/// What its master said of it.
pub(super) fn state(address: &str, (network, prefix): (&str, u8), block: &str) -> Value {
    json!({ "agents": [{ "ip": address, "configuration_attempts": 1, "overlays": [{
        "info": { "name": "dcos", "subnet": network, "prefix": prefix },
        "subnet": block,
        "backend": { "vxlan": { "vni": 1024, "vtep_name": "vtep1024",
            "vtep_ip": "44.128.0.7/20", "vtep_mac": "70:b3:d5:80:00:07" } },
        "state": { "status": "STATUS_OK" },
    }] }] })
}

/// Blocks by the addresses of agents, as the master of this cluster tells them.
fn registered() -> Vec<(Value, Value)> {
    let state = http::get(lab::at(5050), "/overlay-master/state").unwrap().json();
    let agents = state["agents"].as_array().unwrap().iter();
    agents.map(|agent| (agent["ip"].clone(), agent["overlays"][0]["subnet"].clone())).collect()
}

#[test]
fn agents_of_dcos_are_reached_and_keep_their_blocks_when_they_become_nodes() {
    in_lab_of(2, || {
        let one = first(&["--overlay-mode", "dcos"]);
        let task = apps::deploy(&one, &apps::web(1)).remove(0);
        let old = Place::at(2, &[]);
        let run = |command: &str| old.shell(&format!("set -e; {command}"));
        let here = lab::address().to_string();
        let made = run(&OLD_AGENT.replace("FIRST", &here));
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let address = run("echo $MIZZEN_ADDRESS").stdout.trim().to_owned();
        let url = format!("http://{}:{PORT}/", task.addresses[0]);
        // From the old agent's end of its containers' network, and back.
        let reaches =
            || run(&format!("curl -s -o /dev/null -m 1 --interface 9.0.9.1 {url}")).code == Some(0);
        assert!(!reaches(), "nobody has said where 9.0.9.0/24 is");

        let adopt = |block: &str| {
            let file = lab::scratch("state.json");
            std::fs::write(&file, state(&address, ("9.0.0.0/8", 24), block).to_string()).unwrap();
            one.mizzen(&["overlay", "adopt", file.to_str().unwrap()])
        };
        let refused = adopt("9.0.0.0/24");
        assert_ne!(refused.code, Some(0), "the first node has that");
        assert!(refused.stderr.contains("9.0.0.0/24 belongs to agent"), "{}", refused.stderr);
        assert_eq!(adopt("9.0.9.0/24").stdout.trim(), address);
        eventually("the old agent is reached", SOON, || reaches().then_some(()));
        let peers = one.json(&["overlay"])["peers"].clone();
        assert_eq!((&peers[0]["foreign"], &peers[0]["reached"]), (&json!(true), &json!(true)));

        // It becomes a node of this cluster.
        let removed = run("ip link del vtep1024; ip link del m-dcos");
        assert_eq!(removed.code, Some(0), "{}", removed.stderr);
        let token = one.text(&["join-token"]);
        let _two = joining(token.trim()).start();
        await_agents(2);
        let want = [(json!(here), json!("9.0.0.0/24")), (json!(address), json!("9.0.9.0/24"))];
        eventually("each has its block", SOON, || {
            let mut found = registered();
            found.sort_by_key(|(address, _)| address.to_string());
            (found == want).then_some(())
        });
        eventually("it speaks for itself", SOON, || {
            let peers = one.json(&["overlay"])["peers"].clone();
            let all = peers.as_array()?;
            (all.len() == 1 && all[0]["foreign"] == false && all[0]["reached"] == true)
                .then_some(())
        });
    });
}
