//! What becomes of a node's blocks when its agent is gone for good.

use super::overlay::{await_agents, await_block, block, joining};
use super::{await_listed, first, takeover, token};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, apps, eventually, http, in_lab_of, lab};
use serde_json::{Value, json};

/// How many blocks the master has given away, and to how many agents.
fn given(master: &Node) -> (Value, usize) {
    let registry = master.json(&["overlay"])["registry"].clone();
    let usage = registry["usage"].as_array().cloned().unwrap_or_default();
    let used = usage.iter().find(|row| row["overlay"] == "dcos").map(|row| row["used"].clone());
    (used.unwrap_or_default(), registry["agents"].as_array().map_or(0, Vec::len))
}

/// What the master answers to DC/OS' way to free what an agent had.
fn delete(address: &str) -> u16 {
    let body = json!({ "agents": [address] });
    let path = "/overlay-master/agents/delete";
    http::send_json(lab::at(5050), "POST", path, &body).unwrap().status
}

#[test]
fn blocks_of_a_node_that_is_gone_for_good_are_given_again_after_all_others() {
    in_lab_of(3, || {
        // Four blocks of eight addresses, five of them for containers.
        let one = first(&["--overlay-network", "9.7.0.0/27", "--overlay-prefix", "29"]);
        let mut two = joining(&token(&one, 1)).start();
        await_agents(2);
        let blocks = (await_block(&one), await_block(&two));
        assert_eq!(blocks, (json!(["9.7.0.0/29"]), json!(["9.7.0.8/29"])));
        assert_eq!(given(&one), (json!(2.0), 2));
        let lost = two.json(&["overlay"])["underlay"].as_str().unwrap().to_owned();
        two.kill();
        // An agent that is away keeps its block until somebody says that it is gone.
        await_agents(1);
        assert_eq!(given(&one), (json!(2.0), 2));
        assert_eq!(delete(&lost), 409, "it may come back");
        let _ = one.text(&["agents", "mark-gone", "two"]);
        assert_eq!(given(&one), (json!(1.0), 1));
        await_listed(&one, &[("one", "alive"), ("two", "dead")]);
        // Whoever does it as with DC/OS goes on: there is nothing left to be freed.
        assert_eq!(delete(&lost), 200);
        assert_eq!(delete(&lab::address().to_string()), 409, "the master's own");

        let host = lab::address().to_string();
        let join = ["--hostname", "three", "--join", &host, "--token", &token(&one, 1)];
        let three = Place::at(3, &join).start();
        assert_eq!(await_block(&three), json!(["9.7.0.16/29"]), "that which nobody ever had");

        let mut app = apps::web(10);
        app["constraints"] = json!([["hostname", "CLUSTER", "one"]]);
        apps::deploy(&one, &app);
        let want = json!(["9.7.0.0/29", "9.7.0.24/29", "9.7.0.8/29"]);
        eventually("nothing else was left", SOON, || (block(&one) == want).then_some(()));
        assert_eq!(given(&one), (json!(4.0), 2));
    });
}

#[test]
fn what_an_agent_of_dcos_had_that_never_comes_is_deleted_and_given_again() {
    in_lab_of(2, || {
        // Two blocks.
        let flags = ["--overlay-network", "9.7.0.0/25", "--overlay-prefix", "26"];
        let one = first(&[&["--overlay-mode", "dcos"], &flags[..]].concat());
        // Half of a block is for containers of ours.
        assert_eq!(block(&one), json!(["9.7.0.0/27"]));
        let agent = takeover::state("192.0.2.77", ("9.7.0.0/25", 26), "9.7.0.64/26");
        let file = lab::scratch("state.json");
        std::fs::write(&file, agent.to_string()).unwrap();
        let said = one.text(&["overlay", "adopt", file.to_str().unwrap()]);
        assert_eq!(said.trim(), "192.0.2.77");
        assert_eq!(given(&one), (json!(2.0), 2));
        let two = joining(&token(&one, 1)).start();
        eventually("it waits for a block", SOON, || {
            let usage = one.json(&["overlay"])["registry"]["usage"].clone();
            let waits = |row: &Value| row["overlay"] == "dcos" && row["waiting"] == 1;
            usage.as_array()?.iter().any(waits).then_some(())
        });
        assert!(block(&two).is_null());

        assert_eq!(delete("192.0.2.77"), 200);
        eventually("it has what was freed", SOON, || {
            (block(&two) == json!(["9.7.0.64/27"])).then_some(())
        });
        assert_eq!(delete("192.0.2.77"), 404, "nobody has been there");
        assert_eq!(given(&one), (json!(2.0), 2));
    });
}
