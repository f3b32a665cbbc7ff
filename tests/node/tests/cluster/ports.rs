//! Ports of a host that lead to containers, from other nodes.

use super::{await_listed, first, token};
use mizzen_tests_node::apps::{self, WEB_VIP};
use mizzen_tests_node::dns;
use mizzen_tests_node::node::Place;
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, lab};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};

/// A port of the host that the app here asks for.
const FIXED: u16 = 31_999;

#[test]
fn a_bridge_of_another_node_is_reached_by_that_node_s_address() {
    in_lab_of(2, || {
        let one = first(&[]);
        let (host, token) = (lab::address().to_string(), token(&one, 1));
        let two = Place::at(2, &["--hostname", "two", "--join", &host, "--token", &token]).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);

        // Both have a container at the first address of the bridge.
        let mut here = apps::bridged_web(FIXED);
        here["id"] = json!("/here");
        here["constraints"] = json!([["hostname", "CLUSTER", "one"]]);
        here["container"]["portMappings"][0]["labels"] = json!({});
        let mut there = apps::bridged_web(FIXED);
        there["constraints"] = json!([["hostname", "CLUSTER", "two"]]);
        let mut plain = apps::web(1);
        plain["id"] = json!("/plain");
        plain["container"]["portMappings"][0]["labels"] = json!({});
        plain["constraints"] = there["constraints"].clone();
        for app in [&here, &there, &plain] {
            assert!(apps::post(app).status < 300);
        }
        let here = apps::await_tasks(&one, "/here", 1).remove(0);
        let there = apps::await_tasks(&two, "/web", 1).remove(0);
        let plain = apps::await_tasks(&two, "/plain", 1).remove(0);
        assert_eq!(here.addresses, there.addresses);

        let address: IpAddr = two.json(&["overlay"])["underlay"].as_str().unwrap().parse().unwrap();
        let at = SocketAddr::new(address, FIXED);
        eventually("the other node's port leads there", SOON, || {
            http::get(at, "/").ok().filter(|answer| answer.text() == there.id)
        });
        apps::await_backends(&one, WEB_VIP, 1);
        let vip = apps::vip_address(&one, WEB_VIP);
        assert_eq!(http::get(vip, "/").unwrap().text(), there.id);
        dns::await_addresses("web.marathon.mesos", &[address]);
        let fetched = |from: &apps::Task, host: &str, port: u16| {
            from.ask(&format!("/fetch/{host}/{port}")).text()
        };
        let want = |peer: SocketAddr| format!("{peer} {}", there.id);
        assert_eq!(fetched(&here, &address.to_string(), FIXED), want(at), "from a container");
        assert_eq!(fetched(&here, WEB_VIP, 80), want(vip), "by the VIP");
        let server = plain.server();
        let answer = eventually("the bridge reaches the overlay of another node", SOON, || {
            Some(fetched(&here, &server.ip().to_string(), server.port()))
                .filter(|text| text.ends_with(&plain.id))
        });
        assert_eq!(answer, format!("{server} {}", plain.id));
    });
}
