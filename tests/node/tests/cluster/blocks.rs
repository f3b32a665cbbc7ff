//! What becomes of a node's blocks when its agent is gone for good.

use super::overlay::{await_agents, block, joining};
use super::{first, token};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, apps, eventually, in_lab_of, lab};
use serde_json::{Value, json};

/// How many blocks the master has given away, and to how many agents.
fn given(master: &Node) -> (Value, usize) {
    let registry = master.json(&["overlay"])["registry"].clone();
    let usage = registry["usage"].as_array().cloned().unwrap_or_default();
    let used = usage.iter().find(|row| row["overlay"] == "dcos").map(|row| row["used"].clone());
    (used.unwrap_or_default(), registry["agents"].as_array().map_or(0, Vec::len))
}

#[test]
fn blocks_of_a_node_that_is_gone_for_good_are_given_again_after_all_others() {
    in_lab_of(3, || {
        // Four blocks of eight addresses, five of them for containers.
        let one = first(&["--overlay-network", "9.7.0.0/27", "--overlay-prefix", "29"]);
        let mut two = joining(&token(&one, 1)).start();
        await_agents(2);
        assert_eq!((block(&one), block(&two)), (json!(["9.7.0.0/29"]), json!(["9.7.0.8/29"])));
        assert_eq!(given(&one), (json!(2.0), 2));
        two.kill();
        // An agent that is away keeps its block until somebody says that it is gone.
        await_agents(1);
        assert_eq!(given(&one), (json!(2.0), 2));
        let _ = one.text(&["agents", "mark-gone", "two"]);
        assert_eq!(given(&one), (json!(1.0), 1));

        let host = lab::address().to_string();
        let join = ["--hostname", "three", "--join", &host, "--token", &token(&one, 1)];
        let three = Place::at(3, &join).start();
        let other = eventually("it has a block", SOON, || {
            Some(block(&three)).filter(|block| !block.is_null())
        });
        assert_eq!(other, json!(["9.7.0.16/29"]), "that which nobody ever had");

        let mut app = apps::web(10);
        app["constraints"] = json!([["hostname", "CLUSTER", "one"]]);
        apps::deploy(&one, &app);
        let want = json!(["9.7.0.0/29", "9.7.0.24/29", "9.7.0.8/29"]);
        eventually("nothing else was left", SOON, || (block(&one) == want).then_some(()));
        assert_eq!(given(&one), (json!(4.0), 2));
    });
}
